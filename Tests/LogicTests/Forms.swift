import Foundation

/// How often something is tried: in the short form that every check runs, and in the long one of `./adrosctl test torture`.
func rounds(_ short: Int, long: Int) -> Int { ProcessInfo.processInfo.environment["TORTURE"] == nil ? short : long }

/// Random numbers by seed. SPEC: D. Knuth's MMIX generator, whose upper bits are used.
struct RandomNumbers {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state >> 24
  }
}
