/// The size of a page and of a physical frame, in bytes.
public let pageSize = 4096

/// A physical page frame, by number (physical address / 4096).
public struct Frame: Equatable, Sendable {
  public let number: UInt32
  @inlinable public init(_ number: UInt32) { self.number = number }
  /// The frame's physical address; PAE reaches 64 GiB.
  @inlinable public var address: UInt64 { UInt64(number) << 12 }
}

extension UInt32 {
  /// The start of the page that holds this address.
  @inlinable public var pageDown: UInt32 { self & ~0xFFF }
  /// This address rounded up to a page, or nil where that overflows.
  @inlinable public var pageUp: UInt32? {
    let (sum, overflow) = addingReportingOverflow(0xFFF)
    return overflow ? nil : sum & ~0xFFF
  }
}
