import Machine
import Primitives
import SystemABI
import VFS

/// The ioctls of loop devices. SPEC: loop(4); <linux/loop.h> for the structures.
extension Call {
  private enum Flags {
    static let readOnly: UInt32 = 1
    static let autoClear: UInt32 = 4
  }
  /// `struct loop_info64`, in bytes.
  private static var informationSize: Int { 232 }

  func loopControl(_ node: BlockNode, _ loop: LoopDevice, _ description: FileDescription) throws(Errno) -> UInt32 {
    switch b {
    case 0x4C00:  // LOOP_SET_FD
      try LoopDevices.bind(node, loop, to: try binding(of: c, description))
    case 0x4C01:  // LOOP_CLR_FD
      try LoopDevices.unbind(node, loop)
    case 0x4C04:  // LOOP_SET_STATUS64
      let information = try bytes(c, count: Self.informationSize)
      try check(information)
      try LoopDevices.change(node, loop) { Self.apply(information, to: &$0) }
    case 0x4C05:  // LOOP_GET_STATUS64
      guard let binding = loop.binding else { throw .noSuchAddressOrDevice }
      let information = Self.information(of: binding, loop)
      try UserMemory.write(information.span, to: c)
    case 0x4C07:  // LOOP_SET_CAPACITY
      try LoopDevices.change(node, loop) { _ in }
    case 0x4C0A:  // LOOP_CONFIGURE
      let configuration = try bytes(c, count: 8 + Self.informationSize + 64)
      let information = Array(configuration[8..<(8 + Self.informationSize)])
      try check(information)
      var binding = try binding(of: configuration.span.u32(0) ?? 0, description)
      Self.apply(information, to: &binding)
      if (information.span.u32(52) ?? 0) & Flags.readOnly != 0 { binding.isReadOnly = true }
      try LoopDevices.bind(node, loop, to: binding)
    default: return UInt32(bitPattern: try node.control(b, c, description))
    }
    return 0
  }

  private func bytes(_ address: UInt32, count: Int) throws(Errno) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var span = bytes.mutableSpan
    try UserMemory.read(address, into: &span)
    return bytes
  }

  /// A file to be shown, by its descriptor: a regular one or a block device.
  private func binding(of number: UInt32, _ device: FileDescription) throws(Errno) -> LoopDevice.Binding {
    let file = try description(number)
    let isReadOnly = !file.isWritable || !device.isWritable
    if let other = file.file as? BlockNode {
      return LoopDevice.Binding(other.inode, path: file.path, isReadOnly: isReadOnly)
    }
    guard let inode = file.inode, inode.isRegular, file.isReadable else { throw .invalidArgument }
    return LoopDevice.Binding(inode.content, path: file.path, isReadOnly: isReadOnly)
  }

  /// Encryption went; flags that nobody knows are refused, and LO_FLAGS_PARTSCAN. LO_FLAGS_DIRECT_IO is a hint.
  private func check(_ information: [UInt8]) throws(Errno) {
    guard information.span.u32(44) == 0, (information.span.u32(52) ?? 0) & ~0x15 == 0 else { throw .invalidArgument }
  }

  private static func apply(_ information: [UInt8], to binding: inout LoopDevice.Binding) {
    binding.offset = information.span.u64(24) ?? 0
    binding.sizeLimit = information.span.u64(32) ?? 0
    binding.endsWithUse = (information.span.u32(52) ?? 0) & Flags.autoClear != 0
    binding.name = Array(information[56..<120].prefix { $0 != 0 }.prefix(63))
  }

  private static func information(of binding: LoopDevice.Binding, _ loop: LoopDevice) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: informationSize)
    var out = bytes.mutableSpan
    out.put64(UInt64(binding.inode.fileSystem.deviceNumber), at: 0)
    out.put64(binding.inode.number, at: 8)
    out.put64(binding.offset, at: 24)
    out.put64(binding.sizeLimit, at: 32)
    out.put32(loop.number, at: 40)
    out.put32((binding.isReadOnly ? Flags.readOnly : 0) | (binding.endsWithUse ? Flags.autoClear : 0), at: 52)
    for (index, byte) in binding.name.enumerated() { out[56 + index] = byte }
    return bytes
  }
}
