import CExt2FS
import Foundation

/// Reads an ext2 file system through libext2fs.
final class Ext2Reader {
  private let fs: ext2_filsys
  private let file: String

  init(_ volume: ImageVolume) throws {
    file = volume.file
    var handle: ext2_filsys?
    let options = volume.offset > 0 ? "offset=\(volume.offset)" : nil
    let code = ext2fs_open2(volume.file, options, EXT2_FLAG_64BITS, 0, 0, shim_unix_manager(), &handle)
    guard code == 0, let handle else {
      throw ToolError(
        "cannot open \(volume.file)", why: String(cString: error_message(code)), hint: "./adrosctl image check \(volume.file)")
    }
    fs = handle
  }

  deinit { ext2fs_free(fs) }

  private func check(_ code: errcode_t, _ what: String) throws {
    if code != 0 { throw ToolError(what, why: String(cString: error_message(code)), hint: "./adrosctl image ls \(file)") }
  }

  private func find(_ path: String) throws -> ext2_ino_t {
    var number: ext2_ino_t = 0
    try check(ext2fs_namei(fs, 2, 2, path, &number), "there is no \(path) in \(file)")
    return number
  }

  private func inode(_ number: ext2_ino_t) throws -> ext2_inode {
    var inode = ext2_inode()
    try check(ext2fs_read_inode(fs, number, &inode), "cannot read inode \(number) of \(file)")
    return inode
  }

  private final class Names { var list: [(name: String, number: ext2_ino_t)] = [] }

  /// The names in a directory but `.` and `..`, in byte order.
  private func names(_ directory: ext2_ino_t) throws -> [(name: String, number: ext2_ino_t)] {
    let names = Names()
    let code = ext2fs_dir_iterate2(
      fs, directory, 0, nil,
      { _, _, entry, _, _, _, context in
        guard let entry, let context, entry.pointee.inode != 0 else { return 0 }
        let bytes = UnsafeRawBufferPointer(start: shim_entry_name(entry), count: Int(shim_entry_length(entry)))
        let name = String(decoding: bytes, as: UTF8.self)
        if name != ".", name != ".." {
          Unmanaged<Names>.fromOpaque(context).takeUnretainedValue().list.append((name, entry.pointee.inode))
        }
        return 0
      }, Unmanaged.passUnretained(names).toOpaque())
    try check(code, "cannot list a directory of \(file)")
    if let bad = names.list.first(where: { $0.name.isEmpty || $0.name.contains("/") }) {
      throw ToolError("\(file) has a bad name", why: "'\(bad.name)' in directory \(directory)", hint: "./adrosctl image check \(file)")
    }
    return names.list.sorted { Array($0.name.utf8).lexicographicallyPrecedes(Array($1.name.utf8)) }
  }

  private func content(_ number: ext2_ino_t) throws -> [UInt8] {
    var handle: ext2_file_t?
    try check(shim_file_open_to_read(fs, number, &handle), "cannot open inode \(number)")
    defer { ext2fs_file_close(handle) }
    var size: UInt64 = 0
    try check(ext2fs_file_get_lsize(handle, &size), "cannot read inode \(number)")
    guard size <= 1 << 32 else { throw ToolError("a file of \(size) bytes is too large", why: "4 GiB at most", hint: "mount the image") }
    var bytes = [UInt8](repeating: 0, count: Int(size))
    var done = 0
    while done < bytes.count {
      var got: UInt32 = 0
      let code = bytes.withUnsafeMutableBytes {
        ext2fs_file_read(handle, $0.baseAddress! + done, UInt32(min($0.count - done, 1 << 20)), &got)
      }
      try check(code, "cannot read inode \(number) of \(file)")
      if got == 0 { break }
      done += Int(got)
    }
    return bytes
  }

  private func target(_ number: ext2_ino_t, _ inode: ext2_inode) throws -> String {
    var inode = inode
    if ext2fs_is_fast_symlink(&inode) == 0 { return String(decoding: try content(number), as: UTF8.self) }
    let count = Int(inode.i_size)
    return withUnsafeBytes(of: &inode.i_block) { String(decoding: $0.prefix(count), as: UTF8.self) }
  }

  func read(_ path: String) throws -> [UInt8] {
    let number = try find(path)
    guard try inode(number).i_mode & 0o170000 == 0o100000 else {
      throw ToolError("\(path) is no regular file", why: "a directory, link or device", hint: "./adrosctl image ls \(file) \(path)")
    }
    return try content(number)
  }

  func list(_ path: String) throws -> String {
    let number = try find(path)
    if try inode(number).i_mode & 0o170000 != 0o040000 { return try line((path as NSString).lastPathComponent, number) }
    return try names(number).map { try line($0.name, $0.number) }.joined(separator: "\n")
  }

  private func line(_ name: String, _ number: ext2_ino_t) throws -> String {
    let inode = try inode(number)
    let types: [UInt16: String] = [0o010000: "p", 0o020000: "c", 0o040000: "d", 0o060000: "b", 0o100000: "-", 0o120000: "l", 0o140000: "s"]
    var mode = types[inode.i_mode & 0o170000] ?? "?"
    for bit in stride(from: 8, through: 0, by: -1) {
      mode += inode.i_mode >> UInt16(bit) & 1 != 0 ? ["x", "w", "r"][bit % 3] : "-"
    }
    let owner = UInt32(inode.i_uid) | UInt32(inode.osd2.linux2.l_i_uid_high) << 16
    let group = UInt32(inode.i_gid) | UInt32(inode.osd2.linux2.l_i_gid_high) << 16
    let size = UInt64(inode.i_size) | (inode.i_mode & 0o170000 == 0o100000 ? UInt64(inode.i_size_high) << 32 : 0)
    let arrow = inode.i_mode & 0o170000 == 0o120000 ? " -> " + (try target(number, inode)) : ""
    return mode + String(format: " %3d %5u %5u %10llu ", Int(inode.i_links_count), owner, group, size) + name + arrow
  }

  func extract(_ path: String, to folder: URL) throws -> Int {
    let number = try find(path)
    if path == "/" { return try names(number).reduce(0) { $0 + (try copy($1.number, to: folder.appendingPathComponent($1.name))) } }
    return try copy(number, to: folder.appendingPathComponent((path as NSString).lastPathComponent))
  }

  /// A hostile image must not write outside the target: its names have no slash, and links on the way are not followed.
  private func copy(_ number: ext2_ino_t, to url: URL) throws -> Int {
    let inode = try inode(number)
    let manager = FileManager.default
    if (try? manager.destinationOfSymbolicLink(atPath: url.path)) != nil { try manager.removeItem(at: url) }
    switch inode.i_mode & 0o170000 {
    case 0o040000:
      try manager.createDirectory(at: url, withIntermediateDirectories: true)
      return try names(number).reduce(0) { $0 + (try copy($1.number, to: url.appendingPathComponent($1.name))) }
    case 0o100000:
      try Data(try content(number)).write(to: url)
      try manager.setAttributes([.posixPermissions: NSNumber(value: inode.i_mode & 0o777)], ofItemAtPath: url.path)
      return 1
    case 0o120000:
      try manager.createSymbolicLink(atPath: url.path, withDestinationPath: try target(number, inode))
      return 1
    default: return 0
    }
  }
}
