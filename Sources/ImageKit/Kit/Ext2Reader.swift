import CExt2FS
import Foundation

/// Reads an ext2 file system through libext2fs.
final class Ext2Reader: VolumeReader {
  private let fs: ext2_filsys
  let file: String

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

  func find(_ path: String) throws -> UInt64 {
    var number: ext2_ino_t = 0
    try check(ext2fs_namei(fs, 2, 2, path, &number), "there is no \(path) in \(file)")
    return UInt64(number)
  }

  private func record(_ number: UInt64) throws -> ext2_inode {
    var inode = ext2_inode()
    try check(ext2fs_read_inode(fs, ext2_ino_t(number), &inode), "cannot read inode \(number) of \(file)")
    return inode
  }

  func node(_ number: UInt64) throws -> VolumeNode {
    let inode = try record(number)
    return VolumeNode(
      mode: UInt32(inode.i_mode), links: Int(inode.i_links_count),
      owner: UInt32(inode.i_uid) | UInt32(inode.osd2.linux2.l_i_uid_high) << 16,
      group: UInt32(inode.i_gid) | UInt32(inode.osd2.linux2.l_i_gid_high) << 16,
      size: UInt64(inode.i_size) | (inode.i_mode & 0o170000 == 0o100000 ? UInt64(inode.i_size_high) << 32 : 0))
  }

  private final class Names { var list: [(name: String, number: UInt64)] = [] }

  func names(_ directory: UInt64) throws -> [(name: String, number: UInt64)] {
    let names = Names()
    let code = ext2fs_dir_iterate2(
      fs, ext2_ino_t(directory), 0, nil,
      { _, _, entry, _, _, _, context in
        guard let entry, let context, entry.pointee.inode != 0 else { return 0 }
        let bytes = UnsafeRawBufferPointer(start: shim_entry_name(entry), count: Int(shim_entry_length(entry)))
        let name = String(decoding: bytes, as: UTF8.self)
        if name != ".", name != ".." {
          Unmanaged<Names>.fromOpaque(context).takeUnretainedValue().list.append((name, UInt64(entry.pointee.inode)))
        }
        return 0
      }, Unmanaged.passUnretained(names).toOpaque())
    try check(code, "cannot list a directory of \(file)")
    return names.list
  }

  func content(_ number: UInt64) throws -> [UInt8] {
    var handle: ext2_file_t?
    try check(shim_file_open_to_read(fs, ext2_ino_t(number), &handle), "cannot open inode \(number)")
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

  func target(_ number: UInt64) throws -> String {
    var inode = try record(number)
    if ext2fs_is_fast_symlink(&inode) == 0 { return String(decoding: try content(number), as: UTF8.self) }
    let count = Int(inode.i_size)
    return withUnsafeBytes(of: &inode.i_block) { String(decoding: $0.prefix(count), as: UTF8.self) }
  }
}
