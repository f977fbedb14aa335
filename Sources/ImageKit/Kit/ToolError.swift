/// Exit codes of every command.
public enum ExitStatus {
  public static let testsFailed: Int32 = 1
  public static let buildFailed: Int32 = 2
  public static let kernelPanic: Int32 = 3
  public static let timeout: Int32 = 4
  public static let usage: Int32 = 64
  public static let missingTool: Int32 = 69
}

/// An error as the user sees it: what failed, why, what to type next.
public struct ToolError: Error, CustomStringConvertible {
  public var what: String
  public var why: String
  public var hint: String
  /// The command's exit status.
  public var code: Int32
  public init(_ what: String, why: String, hint: String, code: Int32 = 1) {
    self.what = what
    self.why = why
    self.hint = hint
    self.code = code
  }
  public var description: String { "\(what)\n  because: \(why)\n  try: \(hint)" }
}
