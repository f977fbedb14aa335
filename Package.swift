// swift-tools-version: 6.2
//
// The dependency graph of AdrOS. `ADROS_PART` selects what one SwiftPM call sees:
//
//   (unset)    the host: adrosctl, ImageKit, the kernel's pure libraries and their tests
//   kernel     the freestanding kernel for one architecture
//   userland   the freestanding programs for one architecture
//   portable   the pure libraries alone, for every triple
//
// adrosctl sets it; bare-metal executables cannot link for the host, so a plain `swift build`
// must not see them.
import PackageDescription

let part = Context.environment["ADROS_PART"] ?? "host"

// Settings. `safe` targets may not spell `unsafe` at all (adrosctl check enforces the token
// rule); `trusted` ones may, with a SAFETY reason.
let safe: [SwiftSetting] = [
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
]
let trusted = safe
let host: [SwiftSetting] = [.treatAllWarnings(as: .error)]

/// Pure logic: no locks, no clock, no I/O. Builds for the host and for bare metal.
func logic(_ name: String, _ dependencies: [Target.Dependency] = [], path: String? = nil) -> Target {
  .target(
    name: name, dependencies: dependencies,
    path: "Sources/Kernel/" + (path ?? "Logic/\(name)"), swiftSettings: safe)
}

/// A kernel target above the machine layer; only built bare metal.
func kernel(_ name: String, _ dependencies: [Target.Dependency], settings: [SwiftSetting] = safe) -> Target {
  .target(name: name, dependencies: dependencies, path: "Sources/Kernel/\(name)", swiftSettings: settings)
}

/// Links without the host's start files or libraries. The hash makes a changed linker script relink.
func bareLink(_ script: String) -> [LinkerSetting] {
  let hash = Context.environment["ADROS_SCRIPT_HASH"] ?? "0"
  return [
    .unsafeFlags(
      ["-use-ld=lld"] + ["-nostdlib", "-static", "--target=i686-unknown-linux-gnu"].flatMap { ["-Xclang-linker", $0] }
        + [
          "-T", Context.packageDirectory + "/configs/linker/\(script)-i686.ld", "--gc-sections", "--build-id=none",
          "--defsym=__adros_script=\(hash)",
        ].flatMap { ["-Xlinker", $0] })
  ]
}

let pure: [Target] = [
  logic("SystemABI", path: "SystemABI"),
  logic("Primitives", path: "Primitives"),
  logic("BootData", ["Primitives"]),
  logic("Memory", ["Primitives"]),
  logic("Scheduling"),
  logic("Executables", ["Primitives"]),
  logic("Signals"),
  logic("Ext2", ["Primitives"]),
  logic("FAT", ["Primitives"]),
  logic("DiskFS", ["Primitives"]),
  logic("Partitions", ["Primitives"]),
  logic("InputEvents"),
  logic("Terminal", ["Primitives", "InputEvents"]),
  logic("FileLocks"),
  logic("Decompression", ["Primitives"]),
  logic("Initramfs", ["Primitives", "Decompression"]),
  logic("BootOptions"),
]

let bareKernel: [Target] = [
  .target(name: "CRuntime", path: "Sources/Kernel/CRuntime"),
  .target(name: "CMachine", dependencies: ["CRuntime"], path: "Sources/Kernel/CMachine"),
  // A lock's value lies in the lock: `Cell` is what both features are for.
  kernel("Sync", ["CMachine"], settings: trusted + [.enableExperimentalFeature("RawLayout"), .enableExperimentalFeature("BuiltinModule")]),
  kernel("Machine", ["CMachine", "Primitives", "SystemABI", "Memory", "BootData", "Sync"], settings: trusted),
  kernel("Threads", ["CMachine", "SystemABI", "Scheduling", "Sync", "Machine"], settings: trusted),
  kernel("VFS", ["SystemABI", "Primitives", "FileLocks", "Sync", "Machine", "Threads"]),
  kernel("FileSystems", ["SystemABI", "Primitives", "Ext2", "FAT", "DiskFS", "Sync", "Machine", "Threads", "VFS"]),
  kernel(
    "Processes",
    ["CMachine", "SystemABI", "Primitives", "Memory", "Executables", "Scheduling", "Signals", "Sync", "Machine", "Threads", "VFS"]),
  kernel(
    "Entry", ["CMachine", "SystemABI", "Signals", "Machine", "Threads", "Processes", "Syscalls"], settings: trusted),
  kernel(
    "Syscalls",
    [
      "CMachine", "SystemABI", "Primitives", "Memory", "Signals", "Sync", "Machine", "Threads", "VFS", "FileSystems", "Processes",
      "EventFiles", "Sockets", "FileLocks", "SystemVIPC", "PosixQueues",
    ]),
  kernel(
    "Devices",
    ["SystemABI", "Primitives", "BootData", "Signals", "InputEvents", "Terminal", "Sync", "Machine", "Threads", "VFS", "Processes"]),
  kernel("SystemVIPC", ["SystemABI", "Memory", "Sync", "Machine", "Threads", "VFS", "Processes"]),
  kernel("PosixQueues", ["SystemABI", "Primitives", "Signals", "Sync", "Machine", "Threads", "VFS", "Processes"]),
  kernel("Sockets", ["SystemABI", "Sync", "Machine", "Threads", "VFS"]),
  kernel(
    "EventFiles", ["SystemABI", "Primitives", "Signals", "Sync", "Machine", "Threads", "VFS", "Processes"]),
  kernel("ProcFS", ["SystemABI", "Memory", "Signals", "Sync", "Machine", "Threads", "VFS", "Processes", "EventFiles"]),
  kernel("Inspection", ["CMachine", "SystemABI", "Memory", "Sync", "Machine", "Threads", "VFS", "Processes"], settings: trusted),
  kernel("Drivers", ["SystemABI", "Primitives", "Partitions", "Sync", "Machine", "Threads", "VFS", "Devices"]),
  .executableTarget(
    name: "KernelMain",
    dependencies: [
      "Machine", "CMachine", "Primitives", "SystemABI", "BootData", "Sync", "Threads", "VFS", "FileSystems", "Processes", "Syscalls",
      "Entry", "Devices", "Drivers", "EventFiles", "Ext2", "DiskFS", "ProcFS", "Initramfs", "BootOptions", "Inspection", "SystemVIPC",
      "PosixQueues",
    ],
    path: "Sources/Kernel/KernelMain", swiftSettings: trusted,
    linkerSettings: bareLink("kernel")),
]

/// Programs, one small target each under Sources/Userland/Programs.
let programs = [
  "init", "sh", "ls", "cat", "echo", "mkdir", "rm", "cp", "mv", "ln", "ps", "kill", "mount", "umount", "sync", "df", "dmesg", "sleep",
  "uname",
  "wc", "head", "loadkeys", "poweroff", "true", "false",
]

let shellCore = Target.target(name: "ShellCore", path: "Sources/Userland/ShellCore", swiftSettings: safe)
let keyMaps = Target.target(name: "KeyMaps", dependencies: ["Terminal"], path: "Sources/Userland/KeyMaps", swiftSettings: safe)

/// Programs of the guest tests, under Tests/Guest/Programs.
let testPrograms = ["caserunner", "filesteps", "powercut"]

let userland: [Target] =
  [
    logic("SystemABI", path: "SystemABI"), logic("Primitives", path: "Primitives"), logic("InputEvents"),
    logic("Terminal", ["Primitives", "InputEvents"]), shellCore, keyMaps,
    .target(name: "CRuntime", path: "Sources/Kernel/CRuntime"),
    .target(name: "CSystem", dependencies: ["CRuntime"], path: "Sources/Userland/CSystem"),
    .target(name: "UserKit", dependencies: ["CSystem", "SystemABI"], path: "Sources/Userland/UserKit", swiftSettings: trusted),
  ]
  + (programs + testPrograms).map { name in
    .executableTarget(
      name: name,
      dependencies: ["UserKit", "SystemABI"] + (name == "sh" ? ["ShellCore"] : name == "loadkeys" ? ["KeyMaps", "Terminal"] : []),
      path: (testPrograms.contains(name) ? "Tests/Guest/Programs/" : "Sources/Userland/Programs/") + name, swiftSettings: safe,
      linkerSettings: bareLink("userland"))
  }

let tests: [Target] = [
  .testTarget(
    name: "LogicTests",
    dependencies: [
      "Primitives", "Memory", "Scheduling", "Signals", "InputEvents", "Terminal", "Executables", "Initramfs", "BootOptions", "BootData",
      "Ext2",
      "FAT", "DiskFS", "Partitions", "Decompression", "FileLocks", "ImageKit", "KeyMaps",
    ], path: "Tests/LogicTests", swiftSettings: host),
  .testTarget(name: "ShellCoreTests", dependencies: ["ShellCore"], path: "Tests/ShellCoreTests", swiftSettings: host),
]

let hostTargets: [Target] = [
  .systemLibrary(name: "CExt2FS", path: "Sources/ImageKit/CExt2FS", pkgConfig: "ext2fs", providers: [.apt(["libext2fs-dev"])]),
  .target(
    name: "ImageKit", dependencies: ["CExt2FS", "DiskFS", .product(name: "Subprocess", package: "swift-subprocess")],
    path: "Sources/ImageKit/Kit", swiftSettings: host),
  .executableTarget(
    name: "adrosctl",
    dependencies: ["ImageKit", "Primitives", "Terminal", .product(name: "ArgumentParser", package: "swift-argument-parser")],
    path: "Sources/adrosctl", swiftSettings: host),
]

let package: Package
switch part {
case "kernel":
  package = Package(
    name: "AdrOS",
    products: [.executable(name: "adros", targets: ["KernelMain"])],
    targets: pure + bareKernel)
case "userland":
  package = Package(name: "AdrOS", targets: userland)
case "portable":
  package = Package(name: "AdrOS", targets: pure)
default:
  package = Package(
    name: "AdrOS",
    products: [.executable(name: "adrosctl", targets: ["adrosctl"])],
    dependencies: [
      .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
      .package(url: "https://github.com/swiftlang/swift-subprocess", exact: "1.0.2"),
    ],
    targets: pure + [shellCore, keyMaps] + hostTargets + tests)
}
