import Foundation

/// GRUB on disks and CDs, without root: its own tools build the image, we put it where the firmware looks.
///
/// SPEC: GNU GRUB 2.06 manual §4 (BIOS installation); boot.S keeps the core image's first sector at 0x5C, diskboot.S the next
/// one's at 0x1F4.
public enum Grub {
  static let modules = "/usr/lib/grub/i386-pc"

  /// Throws the error that names the packages when GRUB is not installed.
  public static func require(iso: Bool) throws {
    var missing: [String] = []
    if !FileManager.default.fileExists(atPath: modules + "/boot.img") { missing.append("grub-pc-bin") }
    if Shell.find("grub-mkimage") == nil { missing.append("grub-common") }
    if iso, Shell.find("xorriso") == nil { missing.append("xorriso") }
    if missing.isEmpty { return }
    throw ToolError(
      iso ? "a bootable CD needs GRUB" : "a bootable disk needs GRUB", why: "not installed: \(missing.joined(separator: ", "))",
      hint: "apt-get install \(missing.joined(separator: " "))", code: ExitStatus.missingTool)
  }

  /// A menu of one entry: the kernel by Multiboot 2, in text mode or in the frame buffer that `video=` asks for.
  public static func configuration(commandLine: [String], hasInitramfs: Bool) -> String {
    let words = commandLine.flatMap { $0.split(separator: " ") }
    let video = words.last { $0.hasPrefix("video=") }.map { $0.dropFirst(6) + "x32" } ?? "text"
    return """
      set timeout=0
      menuentry 'AdrOS' {
        multiboot2 /boot/adros \(commandLine.joined(separator: " "))
      \(hasInitramfs ? "  module2 /boot/initramfs.cpio\n" : "")  set gfxpayload=\(video)
        boot
      }

      """
  }

  /// Makes a partitioned disk bootable.
  public static func install(on path: String, table: PartitionTable) async throws {
    try require(iso: false)
    let core = FileManager.default.temporaryDirectory.appendingPathComponent("adros-core-\(UUID().uuidString).img")
    defer { try? FileManager.default.removeItem(at: core) }
    try await Shell.capture(
      [
        "grub-mkimage", "-O", "i386-pc", "-d", modules, "-o", core.path, "-p",
        "(hd0,\(table == .mbr ? "msdos" : "gpt")\(table.partition))/boot/grub", "biosdisk", "part_msdos", "part_gpt", "ext2", "fat",
        "normal", "multiboot2", "boot", "vbe",
      ], what: "GRUB's core image cannot be built")
    var loader = [UInt8](try Data(contentsOf: URL(fileURLWithPath: modules + "/boot.img")))
    var image = [UInt8](try Data(contentsOf: core))
    let first = table == .mbr ? 1 : PartitionTable.loader.lowerBound
    guard image.count <= Int(PartitionTable.start - first) * 512, loader.count == 512 else {
      throw ToolError("GRUB does not fit before the partition", why: "its core has \(image.count) bytes", hint: "report this")
    }
    loader.put(first, at: 0x5C)
    image.put(first + 1, at: 0x1F4)
    let disk = try FileHandle(forUpdating: URL(fileURLWithPath: path))
    defer { try? disk.close() }
    try disk.write(contentsOf: Data(loader[0..<440]))
    try disk.seek(toOffset: first * 512)
    try disk.write(contentsOf: Data(image))
  }

  /// Writes a bootable CD image whose root is an initramfs in memory.
  public static func writeISO(kernel: URL, initramfs: [UInt8], commandLine: [String], time: Int64, to path: String) async throws {
    try require(iso: true)
    let staging = FileManager.default.temporaryDirectory.appendingPathComponent("adros-iso-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: staging) }
    let boot = staging.appendingPathComponent("boot/grub")
    try FileManager.default.createDirectory(at: boot, withIntermediateDirectories: true)
    try FileManager.default.copyItem(at: kernel, to: staging.appendingPathComponent("boot/adros"))
    try Data(initramfs).write(to: staging.appendingPathComponent("boot/initramfs.cpio"))
    try Data(configuration(commandLine: commandLine, hasInitramfs: true).utf8).write(to: boot.appendingPathComponent("grub.cfg"))
    let eltorito = boot.appendingPathComponent("eltorito.img")
    try await Shell.capture(
      [
        "grub-mkimage", "-O", "i386-pc-eltorito", "-d", modules, "-o", eltorito.path, "-p", "/boot/grub", "biosdisk", "iso9660", "normal",
        "multiboot2", "boot", "vbe",
      ], what: "GRUB's CD image cannot be built")
    let moment = ISO8601DateFormatter().string(from: Date(timeIntervalSince1970: Double(time)))
    let stamp = moment.filter { $0.isNumber } + "00"
    try await OutputFile.write(path, size: 0) { temporary in
      try await Shell.capture(
        [
          "xorriso", "-as", "mkisofs", "-R", "-V", "ADROS", "--modification-date=" + stamp, "--set_all_file_dates", stamp, "-b",
          "boot/grub/eltorito.img", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-o", temporary, staging.path,
        ], environment: ["SOURCE_DATE_EPOCH": "\(time)"], what: "xorriso cannot write \(path)")
    }
  }
}
