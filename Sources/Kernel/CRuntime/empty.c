// SwiftPM wants one C file in a target of assembly.
