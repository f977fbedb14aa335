import BootData
import BootOptions
import CMachine
import Devices
import Entry
import FileSystems
import Initramfs
import Inspection
import Machine
import Processes
import Sync
import Synchronization
import Syscalls
import SystemABI
import Threads
import VFS

/// The boot, in order. Every stage's end is logged with its time.
@c(KernelMain_main)
public func kernelMain() {
  Machine.startMemory()
  let line = CommandLine(Machine.boot.commandLine, hasProgramName: Machine.bootedByMultiboot1)
  EarlyConsole.setSerial(!line.quiet)
  log("AdrOS in Swift, Multiboot \(Machine.bootedByMultiboot1 ? 1 : 2), \(Frames.totalCount / 256) MiB of memory")
  Clock.readRTC()
  Random.start()
  Machine.startInterrupts(apic: !line.noAPIC)
  Machine.startProcessors(limit: line.maximumProcessors)
  let (name, signature) = (Processors.brand, Processors.identification(1).eax)
  log("processor: \(String(decoding: name.isEmpty ? Processors.vendor : name, as: UTF8.self)), signature \(hex(signature))")
  log("processors: \(Processors.count), interrupts by \(Interrupts.usesAPIC ? "APIC" : "PIC")")
  Scheduler.start()
  Sleep.start()
  Boot.startServices(line)
  do throws(Errno) {
    let thread = Thread(try ThreadMemory.allocate(user: false)) { Boot.run() }
    Scheduler.begin(thread)
  } catch { Panic.stop("no memory for the first thread") }
  Scheduler.started.store(true, ordering: .releasing)
  Scheduler.idleLoop()
}
