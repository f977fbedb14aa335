import SystemABI
import VFS

/// The file systems that show the kernel's state.
public enum InformationFileSystems {
  /// Makes them known to mount; `commandLine` is for /proc/cmdline.
  @export(interface) public static func register(commandLine: [UInt8]) {
    SystemFiles.commandLine.set(SystemFiles.Line(commandLine))
    Settings.start()
    let processes = ProcFS()
    FileSystemTypes.register(SimpleType("proc") { _ throws(Errno) in processes })
    let system = SysFS()
    FileSystemTypes.register(SimpleType("sysfs") { _ throws(Errno) in system })
  }
}
