/// First in, first out, of any length without ever needing much memory in one piece.
public struct ChunkedQueue<Element> {
  private static var chunkSize: Int { 64 }
  private var chunks: [[Element]] = []
  public private(set) var count = 0

  public init() {}

  public var isEmpty: Bool { count == 0 }
  public var first: Element? { chunks.first?.first }

  public mutating func append(_ element: Element) {
    if chunks.last.map({ $0.count < Self.chunkSize }) != true { chunks.append([]) }
    chunks[chunks.count - 1].append(element)
    count += 1
  }

  public mutating func popFirst() -> Element? {
    guard count > 0 else { return nil }
    let element = chunks[0].removeFirst()
    if chunks[0].isEmpty { chunks.removeFirst() }
    count -= 1
    return element
  }
}
