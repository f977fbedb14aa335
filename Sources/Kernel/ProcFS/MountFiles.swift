import Processes
import SystemABI
import Threads
import VFS

/// The mounts that a process can reach. SPEC: proc_pid_mounts(5), proc_pid_mountinfo(5).
enum MountFiles {
  private static func options(_ mount: Mount, isReadOnly: Bool) -> [UInt8] {
    var text = Text()
    text.add(isReadOnly ? "ro" : "rw")
    if mount.isSynchronous { text.add(",sync") }
    if mount.flags & MountFlags.synchronousNames != 0 { text.add(",dirsync") }
    if mount.flags & MountFlags.noSetUser != 0 { text.add(",nosuid") }
    if mount.flags & MountFlags.noDevices != 0 { text.add(",nodev") }
    if mount.flags & MountFlags.noExecute != 0 { text.add(",noexec") }
    return text.bytes
  }

  private static func forEach(_ body: (Mount, [UInt8]) -> Void) {
    let root = Task.currentTask.process.pathContext.root
    for mount in Mounts.all() {
      if let path = Path(mount: mount, dentry: mount.root).text(root: root) { body(mount, path) }
    }
  }

  static func mounts() throws(Errno) -> [UInt8] {
    var text = Text()
    forEach { mount, path in
      text.addEscaped(mount.source.isEmpty ? Array("none".utf8) : mount.source)
      text.add(" ")
      text.addEscaped(path)
      text.add(" ")
      text.add(Array(mount.fileSystem.typeName.utf8))
      text.add(" ")
      text.add(options(mount, isReadOnly: mount.isReadOnly))
      text.addEscaped(mount.fileSystem.shownOptions)
      text.add(" 0 0\n")
    }
    return text.bytes
  }

  static func mountinfo() throws(Errno) -> [UInt8] {
    var text = Text()
    forEach { mount, path in
      text.add(UInt64(mount.id))
      text.add(" ")
      text.add(UInt64(mount.parent?.id ?? 0))
      text.add(" ")
      let device = DeviceNumber(rawValue: mount.fileSystem.deviceNumber)
      text.add(UInt64(device.major))
      text.add(":")
      text.add(UInt64(device.minor))
      text.add(" ")
      // Of the file system, as far as this mount shows it.
      let top = Path(mount: mount, dentry: mount.root)
      text.addEscaped(top.textInFileSystem)
      text.add(" ")
      text.addEscaped(path)
      text.add(" ")
      // Here the file system's own state is told apart from the mount's.
      text.add(options(mount, isReadOnly: mount.flags & MountFlags.readOnly != 0))
      text.add(" - ")
      text.add(Array(mount.fileSystem.typeName.utf8))
      text.add(" ")
      text.addEscaped(mount.source.isEmpty ? Array("none".utf8) : mount.source)
      text.add(mount.fileSystem.isReadOnly ? " ro" : " rw")
      text.addEscaped(mount.fileSystem.shownOptions)
      text.add("\n")
    }
    return text.bytes
  }
}

extension Text {
  /// With blanks and backslashes as octal numbers, so that they do not look like the ends of a field.
  fileprivate mutating func addEscaped(_ text: [UInt8]) {
    for byte in text {
      if byte == 32 || byte == 9 || byte == 10 || byte == 92 {
        bytes.append(92)
        add(UInt64(byte), width: 3, pad: 48, radix: 8)
      } else {
        bytes.append(byte)
      }
    }
  }
}

extension Path {
  /// From the root of its file system, whatever mounts lie above.
  fileprivate var textInFileSystem: [UInt8] {
    var parts: [[UInt8]] = []
    var dentry = dentry
    while let parent = dentry.parent {
      parts.append(dentry.name)
      dentry = parent
    }
    if parts.isEmpty { return [47] }
    return parts.reversed().reduce([]) { $0 + [47] + $1 }
  }
}
