import Foundation

/// Writes the initramfs format the kernel reads: cpio "newc".
public enum CpioArchive {
  public static func make(_ tree: RootTree) throws -> [UInt8] {
    var tree = tree
    tree.completeParents()
    var out: [UInt8] = []
    var number: UInt32 = 1
    for entry in tree.sorted where entry.path != "/" {
      var content: [UInt8] = []
      var type: UInt32 = 0
      var device: (UInt32, UInt32) = (0, 0)
      switch entry.kind {
      case .directory: type = 0o40000
      case .file, .data:
        type = 0o100000
        content = try entry.content()
      case .link(let target):
        type = 0o120000
        content = Array(target.utf8)
      case .character(let major, let minor): (type, device) = (0o20000, (major, minor))
      case .block(let major, let minor): (type, device) = (0o60000, (major, minor))
      case .fifo: type = 0o10000
      }
      append(String(entry.path.dropFirst()), number, type | entry.mode, entry, content, device, to: &out)
      number += 1
    }
    append("TRAILER!!!", 0, 0, RootEntry(path: "", kind: .fifo, mode: 0), [], (0, 0), to: &out)
    return out
  }

  private static func append(
    _ name: String, _ number: UInt32, _ mode: UInt32, _ entry: RootEntry, _ content: [UInt8], _ device: (UInt32, UInt32),
    to out: inout [UInt8]
  ) {
    let fields: [UInt32] = [
      number, mode, entry.owner, entry.group, 1, 0, UInt32(content.count), 0, 0, device.0, device.1,
      UInt32(name.utf8.count + 1), 0,
    ]
    out += Array("070701".utf8)
    for field in fields { out += Array(String(format: "%08x", field).utf8) }
    out += Array(name.utf8) + [0]
    while out.count % 4 != 0 { out.append(0) }
    out += content
    while out.count % 4 != 0 { out.append(0) }
  }
}
