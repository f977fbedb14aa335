import Ext2
import Primitives
import Testing

private func attribute(_ index: UInt8, _ name: String, _ value: String) -> Ext2Attribute {
  Ext2Attribute(index: index, name: Array(name.utf8), value: Array(value.utf8))
}

private func encode(_ attributes: [Ext2Attribute]) -> [UInt8] {
  var bytes = [UInt8](repeating: 0xAA, count: 1024)
  var out = bytes.mutableSpan
  Ext2AttributeBlock.encode(attributes, into: &out)
  return bytes
}

private func decode(_ bytes: [UInt8]) -> [Ext2Attribute]? { Ext2AttributeBlock.decode(bytes.span) }

private func decode(_ bytes: [UInt8], inodeAt offset: Int, size: Int) -> [Ext2Attribute]? {
  Ext2AttributeBlock.decode(bytes.span, inodeAt: offset, size: size)
}

private func word(_ bytes: [UInt8], _ offset: Int) -> UInt32? { bytes.span.u32(offset) }

@Test func attributesComeBackInTheirOrder() {
  let given = [attribute(6, "selinux", "x"), attribute(1, "longer", ""), attribute(1, "b", "value"), attribute(1, "a", "12345678")]
  let bytes = encode(given)
  #expect(decode(bytes) == [given[3], given[2], given[1], given[0]])
  #expect(word(bytes, 4) == 1)
}

/// The hash of user.a = "b", as Linux computes it: 'a', then 'b' as a little-endian word.
@Test func attributeHashes() {
  let bytes = encode([attribute(1, "a", "b")])
  let hash = word(bytes, 32 + 12)
  #expect(hash == 0x61_0062)
}

@Test func attributesFitUntilTheyMeet() {
  let room = 1024 - 32 - 4 - 16 - 4
  #expect(Ext2AttributeBlock.fits([attribute(1, "abc", String(repeating: "v", count: room))], size: 1024))
  #expect(!Ext2AttributeBlock.fits([attribute(1, "abc", String(repeating: "v", count: room + 1))], size: 1024))
}

@Test func damagedAttributeBlocksAreErrors() {
  let good = encode([attribute(1, "name", "value"), attribute(4, "other", String(repeating: "v", count: 300))])
  var generator = Seeded(state: 1)
  for _ in 0..<20_000 {
    var bytes = good
    for _ in 0..<Int.random(in: 1...8, using: &generator) {
      bytes[Int.random(in: 0..<80, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
    }
    _ = decode(bytes)
    // As what lies in a large inode.
    _ = decode(bytes, inodeAt: 0, size: 256)
  }
  #expect(decode([UInt8](repeating: 0, count: 1024)) == nil)
}

@Test func attributesInAnInode() {
  var bytes = [UInt8](repeating: 0, count: 512)
  let inode = 256
  fill(&bytes, inode)
  #expect(decode(bytes, inodeAt: inode, size: 256) == [attribute(1, "a", "xyz")])
  #expect(decode(bytes, inodeAt: 0, size: 256) == [])
  #expect(decode(bytes, inodeAt: inode, size: 128) == [])
  var out = bytes.mutableSpan
  Ext2AttributeBlock.erase(&out, inodeAt: inode, size: 256)
  #expect(decode(bytes, inodeAt: inode, size: 256) == [])
}

/// user.a = "xyz" behind 32 bytes of further fields.
private func fill(_ bytes: inout [UInt8], _ inode: Int) {
  var out = bytes.mutableSpan
  out.put16(32, at: inode + 128)
  let start = inode + 160
  out.put32(Ext2AttributeBlock.magic, at: start)
  out[start + 4] = 1
  out[start + 5] = 1
  out.put16(40, at: start + 6)
  out.put32(3, at: start + 12)
  out[start + 20] = 0x61
  for (index, byte) in "xyz".utf8.enumerated() { out[start + 4 + 40 + index] = byte }
}
