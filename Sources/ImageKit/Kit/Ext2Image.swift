import CExt2FS
import Foundation

/// Writes ext2 images through libext2fs, in this process: no root, no mount, the same bytes every time.
public struct Ext2Image {
  /// Seconds since 1970 that every time stamp gets (SOURCE_DATE_EPOCH).
  public var time: Int64
  public var label: String
  /// Total size in bytes, or nil for what the content needs and a quarter more.
  public var size: UInt64?
  static let blockSize: UInt64 = 4096

  public init(time: Int64, label: String, size: UInt64?) {
    self.time = time
    self.label = label
    self.size = size
  }

  private func check(_ code: errcode_t, _ what: String) throws {
    if code == 0 { return }
    if code == EXT2_ET_BLOCK_ALLOC_FAIL || code == EXT2_ET_INODE_ALLOC_FAIL {
      throw ToolError(what, why: "the image is full", hint: "--size auto")
    }
    throw ToolError(what, why: String(cString: error_message(code)), hint: "check the path and the free space on the host")
  }

  /// Bytes and inodes that the entries need.
  static func needs(_ entries: [RootEntry]) throws -> (bytes: UInt64, inodes: UInt32) {
    var blocks: UInt64 = 0
    for entry in entries {
      var length = UInt64(try entry.contentSize())
      switch entry.kind {
      case .directory: length = blockSize
      case .link(let target): length = target.utf8.count >= 60 ? blockSize : 0
      default: break
      }
      let count = (length + blockSize - 1) / blockSize
      blocks += count + (count > 12 ? count / 1000 + 2 : 0)
    }
    return (blocks * blockSize, UInt32(entries.count))
  }

  /// Writes the image to `path`; an error leaves no file behind.
  public func write(_ tree: RootTree, to path: String) throws {
    var tree = tree
    tree.completeParents()
    let entries = tree.sorted
    let needs = try Self.needs(entries)
    let minimum = needs.bytes + UInt64(needs.inodes) * 256 + (1 << 20)
    let total = size ?? max(8 << 20, (minimum + minimum / 4 + (4 << 20)) & ~0xFFFFF)
    if total < minimum {
      throw ToolError(
        "the files do not fit into \(path)", why: "they need \(minimum >> 20) MiB, --size gives \(total >> 20) MiB", hint: "--size auto")
    }
    try OutputFile.write(path, size: total) { temporary in try fill(temporary, entries, total, inodes: needs.inodes) }
  }

  private func fill(_ path: String, _ entries: [RootEntry], _ total: UInt64, inodes: UInt32) throws {
    var parameters = ext2_super_block()
    parameters.s_blocks_count = UInt32(total / Self.blockSize)
    parameters.s_log_block_size = 2
    parameters.s_log_cluster_size = 2
    parameters.s_rev_level = 1
    parameters.s_inodes_count = max(1024, inodes * 2)
    parameters.s_inode_size = 256
    parameters.s_feature_compat = UInt32(EXT2_FEATURE_COMPAT_EXT_ATTR)
    parameters.s_feature_incompat = UInt32(EXT2_FEATURE_INCOMPAT_FILETYPE)
    parameters.s_feature_ro_compat = UInt32(EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE)
    var handle: ext2_filsys?
    try check(ext2fs_initialize(path, 0, &parameters, shim_unix_manager(), &handle), "cannot lay out \(path)")
    guard let fs = handle else { throw ToolError("cannot lay out \(path)", why: "no file system came back", hint: "report this") }
    do {
      shim_set_now(fs, time_t(time))
      setIdentity(fs)
      try check(ext2fs_allocate_tables(fs), "cannot allocate the inode tables")
      for inode in 1..<shim_first_inode(fs) { ext2fs_inode_alloc_stats2(fs, inode, 1, 0) }
      // The root's own number is taken above; mkdir fills it in.
      ext2fs_inode_alloc_stats2(fs, 2, -1, 0)
      try check(ext2fs_mkdir(fs, 2, 2, nil), "cannot make the root directory")
      try check(ext2fs_mkdir(fs, 2, 0, "lost+found"), "cannot make lost+found")
      var writer = Writer(image: self, fs: fs)
      try writer.setAttributes(11, mode: 0o40700, owner: 0, group: 0)
      for entry in entries { try writer.add(entry) }
    } catch {
      ext2fs_free(fs)
      throw error
    }
    try check(ext2fs_close_free(&handle), "cannot write \(path)")
  }

  /// UUID and hash seed follow from the label and the time, so that equal inputs give equal images.
  private func setIdentity(_ fs: ext2_filsys) {
    var identity = IdentityGenerator(label: label, time: time)
    let superblock = fs.pointee.super!
    withUnsafeMutableBytes(of: &superblock.pointee.s_uuid) { bytes in
      for (index, byte) in identity.uuid().enumerated() { bytes[index] = byte }
    }
    withUnsafeMutableBytes(of: &superblock.pointee.s_hash_seed) { for index in $0.indices { $0[index] = identity.next() } }
    withUnsafeMutableBytes(of: &superblock.pointee.s_volume_name) { bytes in
      for (index, byte) in label.utf8.prefix(16).enumerated() { bytes[index] = byte }
    }
    superblock.pointee.s_mkfs_time = UInt32(truncatingIfNeeded: time)
    superblock.pointee.s_wtime = UInt32(truncatingIfNeeded: time)
    superblock.pointee.s_lastcheck = UInt32(truncatingIfNeeded: time)
    superblock.pointee.s_max_mnt_count = -1
    superblock.pointee.s_creator_os = 0
    superblock.pointee.s_errors = 1
  }

  /// Adds entries one by one to an open file system.
  private struct Writer {
    let image: Ext2Image
    let fs: ext2_filsys
    var directories: [String: ext2_ino_t] = ["/": 2]

    mutating func add(_ entry: RootEntry) throws {
      if entry.path == "/" {
        try setAttributes(2, mode: 0o40000 | entry.mode, owner: entry.owner, group: entry.group)
        return
      }
      let name = (entry.path as NSString).lastPathComponent
      let parentPath = (entry.path as NSString).deletingLastPathComponent
      guard let parent = directories[parentPath] else {
        throw ToolError("cannot add \(entry.path)", why: "\(parentPath) is no directory", hint: "check the tree and the table")
      }
      if name == "lost+found", parent == 2 { return }
      switch entry.kind {
      case .directory:
        try expandingIfNeeded(parent) { ext2fs_mkdir(fs, parent, 0, name) }
        var number: ext2_ino_t = 0
        try image.check(ext2fs_lookup(fs, parent, name, Int32(name.utf8.count), nil, &number), "cannot find \(entry.path) again")
        directories[entry.path] = number
        try setAttributes(number, mode: 0o40000 | entry.mode, owner: entry.owner, group: entry.group)
      case .link(let target):
        try expandingIfNeeded(parent) { ext2fs_symlink(fs, parent, 0, name, target) }
        var number: ext2_ino_t = 0
        try image.check(ext2fs_lookup(fs, parent, name, Int32(name.utf8.count), nil, &number), "cannot find \(entry.path) again")
        try setAttributes(number, mode: 0o120777, owner: entry.owner, group: entry.group)
      case .file, .data: try addFile(entry, parent, name, try entry.content())
      case .character(let major, let minor):
        try addNode(entry, parent, name, type: 0o20000, fileType: EXT2_FT_CHRDEV, device: (major, minor))
      case .block(let major, let minor):
        try addNode(entry, parent, name, type: 0o60000, fileType: EXT2_FT_BLKDEV, device: (major, minor))
      case .fifo: try addNode(entry, parent, name, type: 0o10000, fileType: EXT2_FT_FIFO, device: (0, 0))
      }
    }

    private func expandingIfNeeded(_ parent: ext2_ino_t, _ body: () -> errcode_t) throws {
      var code = body()
      if code == EXT2_ET_DIR_NO_SPACE {
        try image.check(ext2fs_expand_dir(fs, parent), "cannot grow a directory")
        code = body()
      }
      try image.check(code, "cannot add a name")
    }

    func setAttributes(_ number: ext2_ino_t, mode: UInt32, owner: UInt32, group: UInt32) throws {
      var inode = ext2_inode()
      try image.check(ext2fs_read_inode(fs, number, &inode), "cannot read inode \(number)")
      fill(&inode, mode: mode, owner: owner, group: group)
      try image.check(ext2fs_write_inode(fs, number, &inode), "cannot write inode \(number)")
    }

    private func fill(_ inode: inout ext2_inode, mode: UInt32, owner: UInt32, group: UInt32) {
      inode.i_mode = UInt16(mode)
      inode.i_uid = UInt16(truncatingIfNeeded: owner)
      inode.i_gid = UInt16(truncatingIfNeeded: group)
      inode.osd2.linux2.l_i_uid_high = UInt16(owner >> 16)
      inode.osd2.linux2.l_i_gid_high = UInt16(group >> 16)
      let time = UInt32(truncatingIfNeeded: image.time)
      inode.i_atime = time
      inode.i_ctime = time
      inode.i_mtime = time
    }

    private func makeInode(_ entry: RootEntry, _ parent: ext2_ino_t, _ name: String, type: UInt32, fileType: Int32) throws
      -> (ext2_ino_t, ext2_inode)
    {
      var number: ext2_ino_t = 0
      try image.check(ext2fs_new_inode(fs, parent, Int32(type | entry.mode), nil, &number), "cannot add \(entry.path)")
      try expandingIfNeeded(parent) { ext2fs_link(fs, parent, name, number, fileType) }
      ext2fs_inode_alloc_stats2(fs, number, 1, 0)
      var inode = ext2_inode()
      fill(&inode, mode: type | entry.mode, owner: entry.owner, group: entry.group)
      inode.i_links_count = 1
      return (number, inode)
    }

    private func addNode(
      _ entry: RootEntry, _ parent: ext2_ino_t, _ name: String, type: UInt32, fileType: Int32, device: (UInt32, UInt32)
    ) throws {
      var (number, inode) = try makeInode(entry, parent, name, type: type, fileType: fileType)
      if device.0 < 256, device.1 < 256 {
        inode.i_block.0 = device.0 << 8 | device.1
      } else {
        inode.i_block.1 = device.1 & 0xFF | device.0 << 8 | (device.1 & ~0xFF) << 12
      }
      try image.check(ext2fs_write_new_inode(fs, number, &inode), "cannot write \(entry.path)")
    }

    private func addFile(_ entry: RootEntry, _ parent: ext2_ino_t, _ name: String, _ bytes: [UInt8]) throws {
      var (number, inode) = try makeInode(entry, parent, name, type: 0o100000, fileType: EXT2_FT_REG_FILE)
      try image.check(ext2fs_write_new_inode(fs, number, &inode), "cannot write \(entry.path)")
      var file: ext2_file_t?
      try image.check(shim_file_open(fs, number, &file), "cannot open \(entry.path)")
      var done = 0
      while done < bytes.count {
        var written: UInt32 = 0
        let code = bytes.withUnsafeBytes {
          ext2fs_file_write(file, $0.baseAddress! + done, UInt32(min(bytes.count - done, 1 << 20)), &written)
        }
        if code != 0 { ext2fs_file_close(file) }
        try image.check(code, "cannot write \(entry.path)")
        done += Int(written)
      }
      try image.check(ext2fs_file_close(file), "cannot close \(entry.path)")
      try setAttributes(number, mode: 0o100000 | entry.mode, owner: entry.owner, group: entry.group)
    }
  }
}
