import Machine
import Sync
import SystemABI
import Terminal
import VFS

/// What `setfont` asks for. SPEC: ioctl_console(2), KDFONTOP, PIO_UNIMAP; uapi linux/kd.h.
extension VirtualTerminal {
  /// `struct console_font_op`: op, flags, width, height, charcount, data; 32 rows a glyph, or with the TALL operations as many as
  /// the height.
  func controlFont(_ address: UInt32) throws(Errno) {
    let operation = try UserMemory.read32(address)
    let (width, height) = (try UserMemory.read32(address &+ 8), try UserMemory.read32(address &+ 12))
    let (count, data) = (try UserMemory.read32(address &+ 16), try UserMemory.read32(address &+ 20))
    guard let old = VirtualTerminals.display.value.font else { throw .noFunction }
    switch operation {
    case 0, 4:  // KD_FONT_OP_SET, SET_TALL
      try requireOwn()
      let limit = UInt32(Font.limits.side)
      guard width >= 1, width <= limit, height <= limit, count >= 1, count <= UInt32(Font.limits.count) else { throw .invalidArgument }
      let pitch = operation == 0 ? 32 : height
      var bytes = [UInt8](repeating: 0, count: Int(count * pitch * ((width + 7) / 8)))
      var span = bytes.mutableSpan
      try UserMemory.read(data, into: &span)
      guard
        let font = Font(
          width: Int(width), height: Int(height), count: Int(count), pitch: Int(pitch), data: bytes,
          map: old.isBuiltin ? nil : old)
      else { throw .invalidArgument }
      guard VirtualTerminals.set(font) else { throw .invalidArgument }
    case 1, 5:  // KD_FONT_OP_GET, GET_TALL
      let pitch = operation == 1 ? 32 : old.height
      if data != 0 {
        guard old.count <= count, old.width <= width, old.height <= height else { throw .noSpace }
        let bytes = old.data(pitch: pitch)
        try UserMemory.write(bytes.span, to: data)
      }
      try UserMemory.write32(UInt32(old.width), to: address &+ 8)
      try UserMemory.write32(UInt32(old.height), to: address &+ 12)
      try UserMemory.write32(UInt32(old.count), to: address &+ 16)
    case 2:  // KD_FONT_OP_SET_DEFAULT: the only name is none
      try requireOwn()
      if data != 0 { throw .noSuchFileOrDirectory }
      let font = Font.builtin
      guard VirtualTerminals.set(font) else { throw .invalidArgument }
      try UserMemory.write32(UInt32(font.width), to: address &+ 8)
      try UserMemory.write32(UInt32(font.height), to: address &+ 12)
    default: throw .noFunction
    }
  }

  /// `struct unimapdesc`: how many pairs of a character and a glyph there are, and where.
  func putFontMap(_ address: UInt32) throws(Errno) {
    guard let font = VirtualTerminals.display.value.font else { throw .inappropriateIOCTLForDevice }
    let room = try UserMemory.read32(address) & 0xFFFF
    let map = font.map
    try UserMemory.write32(UInt32(map.count) | (try UserMemory.read32(address)) & 0xFFFF_0000, to: address)
    guard map.count <= Int(room) else { throw .noMemory }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(map.count * 4)
    for (character, glyph) in map {
      for value in [character, glyph] { bytes += [UInt8(truncatingIfNeeded: value), UInt8(truncatingIfNeeded: value >> 8)] }
    }
    try UserMemory.write(bytes.span, to: try UserMemory.read32(address &+ 4))
  }

  /// Adds pairs to the map, or, with nil, makes it empty.
  func setFontMap(_ address: UInt32?) throws(Errno) {
    try requireOwn()
    guard var font = VirtualTerminals.display.value.font else { throw .inappropriateIOCTLForDevice }
    var map: [(character: UInt16, glyph: UInt16)] = []
    if let address {
      let count = try UserMemory.read32(address) & 0xFFFF
      var bytes = [UInt8](repeating: 0, count: Int(count) * 4)
      var span = bytes.mutableSpan
      try UserMemory.read(try UserMemory.read32(address &+ 4), into: &span)
      func word(_ at: Int) -> UInt16 { UInt16(bytes[at]) | UInt16(bytes[at + 1]) << 8 }
      for index in 0..<Int(count) { map.append((word(index * 4), word(index * 4 + 2))) }
      // The last one counts.
      map = font.map + map
    }
    font.setMap(map)
    guard VirtualTerminals.set(font) else { throw .invalidArgument }
  }
}
