import Machine
import SystemABI

/// /proc/cpuinfo: what the processors say of themselves. SPEC: proc_cpuinfo(5), Intel SDM 2A (CPUID).
enum ProcessorInformation {
  /// Linux's names of CPUID's feature bits, from bit 0 on; an empty one is not shown.
  private static var features: [(leaf: UInt32, register: Int, names: StaticString)] {
    [
      (
        1, 3,
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe"
      ),
      (
        0x8000_0001, 3,
        "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow"
      ),
      (
        1, 2,
        "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave - avx f16c rdrand hypervisor"
      ),
      (
        0x8000_0001, 2,
        "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 tce - nodeid_msr - tbm"
      ),
      (
        7, 1,
        "fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm cqm - mpx rdt_a avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl"
      ),
      (7, 2, "- avx512vbmi umip pku ospke waitpkg avx512_vbmi2 - gfni vaes vpclmulqdq avx512_vnni avx512_bitalg"),
    ]
  }

  private static func value(_ leaf: UInt32, _ register: Int) -> UInt32 {
    let answer = Processors.identification(leaf)
    return [answer.eax, answer.ebx, answer.ecx, answer.edx][register]
  }

  /// What programs cannot use where the kernel does not keep the registers it needs (XSAVE is off).
  private static var needExtendedState: [StaticString] {
    ["fma", "avx", "f16c", "avx2", "vaes", "vpclmulqdq", "xop", "fma4", "mpx", "pku"]
  }

  private static func addFlags(_ text: inout Text) {
    let hasExtendedState = value(1, 2) >> 27 & 1 != 0
    for (leaf, register, names) in features {
      let bits = value(leaf, register)
      for (bit, name) in Array(names.description.utf8).split(separator: 32).enumerated() {
        if bits >> UInt32(bit) & 1 == 0 || name.elementsEqual([45]) { continue }
        if !hasExtendedState, needExtendedState.contains(where: { $0.description.utf8.elementsEqual(name) }) { continue }
        text.add(" ")
        text.add(Array(name))
      }
    }
  }

  static func text() throws(Errno) -> [UInt8] {
    let signature = value(1, 0)
    // Extended family and model count for the last basic family, the model for Intel's sixth too. SPEC: CPUID, leaf 1.
    let basicFamily = signature >> 8 & 15
    let family = basicFamily == 15 ? basicFamily + (signature >> 20 & 255) : basicFamily
    let model = basicFamily == 15 || basicFamily == 6 ? signature >> 4 & 15 | signature >> 12 & 0xF0 : signature >> 4 & 15
    var shared = Text()
    shared.add("vendor_id\t: ")
    shared.add(Processors.vendor)
    for (name, value) in [("cpu family\t: " as StaticString, family), ("model\t\t: ", model)] {
      shared.add("\n")
      shared.add(name)
      shared.add(UInt64(value))
    }
    shared.add("\nmodel name\t: ")
    shared.add(Processors.brand)
    shared.add("\nstepping\t: ")
    shared.add(UInt64(signature & 15))
    shared.add("\ncpu MHz\t\t: ")
    shared.add(UInt64(Clock.ticksPerMillisecond / 1000))
    shared.add(".")
    shared.add(UInt64(Clock.ticksPerMillisecond % 1000), width: 3, pad: 48)
    shared.add("\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: ")
    shared.add(UInt64(Processors.identification(0).eax))
    shared.add("\nwp\t\t: yes\nflags\t\t:")
    addFlags(&shared)
    shared.add("\nclflush size\t: ")
    shared.add(UInt64(value(1, 1) >> 8 & 255) * 8)
    shared.add("\naddress sizes\t: ")
    let sizes = value(0x8000_0008, 0)
    shared.add(UInt64(sizes & 255))
    shared.add(" bits physical, ")
    shared.add(UInt64(32))  // whatever the processor could do in another mode
    shared.add(" bits virtual\n\n")
    var text = Text()
    for cpu in 0..<Processors.count {
      text.add("processor\t: ")
      text.add(UInt64(cpu))
      text.add("\n")
      text.add(shared.bytes)
    }
    return text.bytes
  }
}
