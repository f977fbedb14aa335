import Foundation

/// How often something is tried: in the short form that every check runs, and in the long one of `./adrosctl test torture`.
func rounds(_ short: Int, long: Int) -> Int { ProcessInfo.processInfo.environment["TORTURE"] == nil ? short : long }
