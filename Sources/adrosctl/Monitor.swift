import Foundation
import ImageKit

#if canImport(Glibc)
  import Glibc
#endif

/// QEMU's human monitor on a unix socket.
enum Monitor {
  /// Sends one command and waits until the monitor has answered with its prompt.
  @discardableResult static func send(_ command: String, socket path: String) throws -> String {
    let file = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(file) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard file >= 0, bytes.count < 108 else {
      throw ToolError("no monitor", why: "the socket's path is too long", hint: "a shorter TMPDIR")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { for (index, byte) in bytes.enumerated() { $0[index] = byte } }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(file, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
    guard result == 0 else {
      throw ToolError("no monitor at \(path)", why: String(cString: strerror(errno)), hint: "is the machine running?")
    }
    var answer = ""
    func readToPrompt() {
      var buffer = [UInt8](repeating: 0, count: 4096)
      while !answer.hasSuffix("(qemu) ") {
        let count = read(file, &buffer, buffer.count)
        if count <= 0 { return }
        answer += String(decoding: buffer[0..<count], as: UTF8.self)
      }
    }
    readToPrompt()
    answer = ""
    let line = Array((command + "\n").utf8)
    guard write(file, line, line.count) == line.count else { throw ToolError("the monitor hung up", why: command, hint: "") }
    readToPrompt()
    return answer
  }
}
