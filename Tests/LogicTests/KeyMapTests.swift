import Foundation
import KeyMaps
import Terminal
import Testing

@Suite struct KeyMapTests {
  private func desk(_ name: String) throws -> Desk {
    let path = "rootfs/usr/share/keymaps/\(name).map"
    let top = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    var desk = Desk()
    for entry in try KeyMapFile(Array(Data(contentsOf: top.appendingPathComponent(path)))).entries {
      desk.map.set(entry.code, entry.table, entry.symbol)
    }
    return desk
  }

  /// What the row of keys from a scan code on types: alone, or with a modifier that is held.
  private func row(_ desk: inout Desk, _ first: UInt8, _ count: UInt8, held: [UInt8] = []) -> String {
    let released = held.isEmpty ? [] : held.dropLast() + [held[held.count - 1] | 0x80]
    return desk.text(held + (0..<count).flatMap { [first + $0, first + $0 | 0x80] } + released)
  }

  @Test func america() throws {
    var ours = Desk()
    var loaded = try desk("us")
    for held in [[], [0x2A], [0x1D], [0x38], [0xE0, 0x38], [0x2A, 0x1D]] as [[UInt8]] {
      for (first, count) in [(0x02, 12), (0x10, 12), (0x1E, 12), (0x2B, 11)] as [(UInt8, UInt8)] {
        #expect(row(&loaded, first, count, held: held) == row(&ours, first, count, held: held), "\(held) \(first)")
      }
    }
  }

  @Test func germany() throws {
    var desk = try desk("de")
    #expect(row(&desk, 0x02, 11) == "1234567890ß")
    #expect(row(&desk, 0x02, 11, held: [0x2A]) == "!\"§$%&/()=?")
    #expect(row(&desk, 0x10, 12) == "qwertzuiopü+" && row(&desk, 0x10, 12, held: [0x2A]) == "QWERTZUIOPÜ*")
    #expect(row(&desk, 0x1E, 11) == "asdfghjklöä" && row(&desk, 0x2B, 11) == "#yxcvbnm,.-")
    #expect(row(&desk, 0x08, 5, held: [0xE0, 0x38]) == "{[]}\\" && row(&desk, 0x10, 3, held: [0xE0, 0x38]) == "@w€")
    #expect(desk.text([0x56, 0xE0, 0x38, 0x56, 0xE0, 0xB8]) == "<|")
    // Accents, capitals lock for what has no place in ASCII, and control with a letter that is elsewhere.
    #expect(desk.text([0x0D, 0x12]) == "é" && desk.text([0x29, 0x1E]) == "â")
    #expect(desk.text([0x3A, 0xBA, 0x1A, 0x27, 0x3A, 0xBA, 0x1A]) == "ÜÖü")
    #expect(desk.text([0x1D, 0x15, 0x9D]) == "\u{1A}" && desk.text([0x38, 0x15, 0xB8]) == "\u{1B}z")
  }

  @Test func france() throws {
    var desk = try desk("fr")
    #expect(row(&desk, 0x02, 12) == "&é\"'(-è_çà)=" && row(&desk, 0x02, 12, held: [0x2A]) == "1234567890°+")
    #expect(row(&desk, 0x10, 10) == "azertyuiop" && row(&desk, 0x1E, 11) == "qsdfghjklmù")
    #expect(row(&desk, 0x2C, 10) == "wxcvbn,;:!" && row(&desk, 0x2C, 10, held: [0x2A]) == "WXCVBN?./§")
    #expect(row(&desk, 0x03, 11, held: [0xE0, 0x38]) == "~#{[|`\\^@]}")
    #expect(desk.text([0x1A, 0x12]) == "ê" && desk.text([0x2A, 0x1A, 0xAA, 0x12]) == "ë")
  }

  @Test func brazil() throws {
    var desk = try desk("br")
    #expect(row(&desk, 0x10, 10) == "qwertyuiop" && row(&desk, 0x1E, 10) == "asdfghjklç")
    #expect(row(&desk, 0x2B, 11) == "]zxcvbnm,.;" && desk.text([0x73, 0x2A, 0x73, 0xAA, 0x7E]) == "/?.")
    #expect(desk.text([0x28, 0x1E]) == "ã" && desk.text([0x1A, 0x12]) == "é" && desk.text([0x3A, 0xBA, 0x27]) == "Ç")
  }

  private func failure(_ text: String) -> KeyMapError? {
    do throws(KeyMapError) { _ = try KeyMapFile(Array(text.utf8)) } catch { return error }
    return nil
  }

  @Test func whatIsNoMap() {
    #expect(failure("")?.line == 1)
    #expect(failure("# nothing\n\n! here\n")?.why == "there is no key")
    #expect(failure("keycode 30 = a # A\n") == nil)
    #expect(failure("keycode 30 = a\nkeycode 31 = thing")?.line == 2)
    #expect(failure("keycode 31 = thing")?.why == "thing is no symbol")
    for text in ["0", "128", "-1", "1000000000000", "x", "1x"] { #expect(failure("keycode \(text) = a")?.why.contains("1 to 127") == true) }
    #expect(failure("keycode 30 a b")?.why.contains("=") == true && failure("keycode 30 =")?.why.contains("=") == true)
    #expect(failure("keycode 30 = a b c d e")?.why.contains("four") == true)
    #expect(failure("include \"us\"")?.why.contains("keycode NUMBER") == true)
    for word in ["U+", "U+F000", "U+12345678", "U+x", "+", "+Return", "\u{E9}", "space,"] {
      #expect(failure("keycode 30 = \(word)") != nil, "\(word)")
    }
    for word in ["U+e9", "+eacute", "dead_acute", "VoidSymbol", "asciitilde", "nine", "at", "grave", "slash", "colon"] {
      #expect(failure("keycode 30 = \(word)") == nil, "\(word)")
    }
  }
}
