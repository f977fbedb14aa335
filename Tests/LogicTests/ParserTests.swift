import BootData
import BootOptions
import Executables
import Ext2
import Foundation
import Primitives
import Testing

private func elf() -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: 4096)
  var out = bytes.mutableSpan
  for (index, byte) in [UInt8(0x7F), 0x45, 0x4C, 0x46, 1, 1, 1].enumerated() { out[index] = byte }
  out.put16(2, at: 16)
  out.put16(3, at: 18)
  out.put32(0x0804_8100, at: 24)
  out.put32(52, at: 28)
  out.put16(32, at: 42)
  out.put16(1, at: 44)
  out.put32(1, at: 52)
  out.put32(0x0804_8000, at: 60)
  out.put32(4096, at: 68)
  out.put32(8192, at: 72)
  out.put32(5, at: 76)
  return bytes
}

@Test func aProgramHeaderIsRead() throws {
  let image = try ELFImage(elf().span, fileSize: 4096)
  #expect(image.entry == 0x0804_8100)
  let segment = image.segments[0]
  #expect(segment.address == 0x0804_8000 && segment.fileOffset == 0 && segment.memorySize == 8192)
  #expect(segment.readable && !segment.writable && segment.executable)
  #expect(image.span == 0x0804_8000..<0x0804_A000)
  #expect(image.headersAddress == 0x0804_8034)
}

@Test func damagedProgramsAreErrors() {
  let good = elf()
  for length in 0..<100 { _ = try? ELFImage(Array(good[..<length]).span, fileSize: UInt64(length)) }
  var random = Seeded(state: 11)
  for _ in 0..<20000 {
    var bad = good
    for _ in 0..<3 { bad[Int.random(in: 0..<84, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random) }
    guard let image = try? ELFImage(bad.span, fileSize: 4096) else { continue }
    for segment in image.segments {
      #expect(UInt64(segment.address) + UInt64(segment.memorySize) <= 0xC000_0000)
      #expect(UInt64(segment.fileOffset) + UInt64(segment.fileSize) <= 4096)
    }
  }
}

@Test func scriptLines() {
  #expect(ScriptLine(Array("#!/bin/sh -e\nx".utf8).span) == ScriptLine(Array("#! /bin/sh\t-e \n".utf8).span))
  #expect(ScriptLine(Array("#!/bin/sh\n".utf8).span)?.argument == nil)
  #expect(ScriptLine(Array("#!\n".utf8).span) == nil)
  #expect(ScriptLine(Array("echo".utf8).span) == nil)
}

@Test func kernelCommandLine() {
  let line = CommandLine(Array("adros root=/dev/vda ro quiet noapic single HOME=/x \"a b\" -- -c 'x'".utf8), hasProgramName: true)
  #expect(line.root.map { String(decoding: $0, as: UTF8.self) } == "/dev/vda")
  #expect(line.readOnly && line.quiet && line.noAPIC)
  #expect(line.initArguments.map { String(decoding: $0, as: UTF8.self) } == ["single", "a b", "-c", "'x'"])
  #expect(line.initEnvironment.map { String(decoding: $0, as: UTF8.self) } == ["HOME=/x"])
  #expect(line.ramDiskKilobytes == 16384)
  #expect(CommandLine(Array("ramdisk_size=4096".utf8), hasProgramName: false).ramDiskKilobytes == 4096)
  #expect(CommandLine(Array("ramdisk_size=99999999999".utf8), hasProgramName: false).ramDiskKilobytes == 16384)
}

@Test func calendarAgreesWithFoundation() {
  var calendar = Calendar(identifier: .gregorian)
  calendar.timeZone = TimeZone(identifier: "UTC")!
  for day in stride(from: 0, to: 40000, by: 13) {
    let date = Date(timeIntervalSince1970: Double(day) * 86400 + 12345)
    let parts = calendar.dateComponents([.year, .month, .day, .hour, .minute, .second], from: date)
    let time = CalendarTime(
      year: parts.year!, month: parts.month!, day: parts.day!, hour: parts.hour!, minute: parts.minute!, second: parts.second!)
    #expect(time.secondsSinceEpoch == Int64(date.timeIntervalSince1970))
    #expect(CalendarTime(secondsSinceEpoch: time.secondsSinceEpoch) == time && time.isValid)
    #expect(time.weekday == calendar.component(.weekday, from: date) - 1)
    #expect(time.dayOfYear == calendar.ordinality(of: .day, in: .year, for: date)! - 1)
    if time.year < 2070 {
      for format in [UInt8(0), 2, 4, 6] { #expect(CalendarTime(registers: time.registers(statusB: format), statusB: format) == time) }
    }
  }
  for hour in 0..<24 {
    let time = CalendarTime(year: 2024, month: 2, day: 29, hour: hour, minute: 59, second: 0)
    for format in [UInt8(0), 2, 4, 6] { #expect(CalendarTime(registers: time.registers(statusB: format), statusB: format) == time) }
  }
  #expect(CalendarTime(secondsSinceEpoch: -1).year == 1969 && !CalendarTime(secondsSinceEpoch: -1).isValid)
  #expect(!CalendarTime(year: 2023, month: 2, day: 29, hour: 0, minute: 0, second: 0).isValid)
  #expect(!CalendarTime(year: 2024, month: 4, day: 31, hour: 0, minute: 0, second: 0).isValid)
}

@Test func directoryBlocksAgreeWithADictionary() {
  var random = Seeded(state: 21)
  var block = [UInt8](repeating: 0, count: 1024)
  var model: [String: UInt32] = [:]
  do {
    var out = block.mutableSpan
    Ext2DirectoryBlock.write([46], inode: 2, type: 2, length: 1024, &out, at: 0)
  }
  for _ in 0..<5000 {
    let name = String(repeating: "n", count: Int.random(in: 1...30, using: &random)) + String(UInt8.random(in: 0...20, using: &random))
    let bytes = Array(name.utf8)
    if model[name] == nil, Bool.random(using: &random) {
      let inode = UInt32.random(in: 3...9999, using: &random)
      var out = block.mutableSpan
      if Ext2DirectoryBlock.insert(bytes, inode: inode, type: 1, &out, in: 0..<1024) { model[name] = inode }
    } else {
      var out = block.mutableSpan
      let removed = Ext2DirectoryBlock.remove(bytes, &out, in: 0..<1024)
      #expect(removed == (model[name] != nil))
      model[name] = nil
    }
    for (known, inode) in model { #expect(Ext2DirectoryBlock.find(Array(known.utf8), block.span, in: 0..<1024)?.inode == inode) }
  }
}

@Test func damagedSuperblocksAreErrors() {
  var good = [UInt8](repeating: 0, count: 1024)
  do {
    var out = good.mutableSpan
    out.put32(64, at: 0)
    out.put32(1024, at: 4)
    out.put32(1, at: 20)
    out.put32(8192, at: 32)
    out.put32(64, at: 40)
    out.put16(0xEF53, at: 56)
    out.put32(1, at: 76)
    out.put32(11, at: 84)
    out.put16(128, at: 88)
  }
  #expect((try? Ext2Superblock(good.span)) != nil)
  var random = Seeded(state: 3)
  for _ in 0..<20000 {
    var bad = good
    for _ in 0..<2 { bad[Int.random(in: 0..<104, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random) }
    guard let superblock = try? Ext2Superblock(bad.span) else { continue }
    #expect(superblock.groupCount > 0 && superblock.inodesPerBlock > 0)
  }
}

@Test func blockPathsCoverEveryLevel() {
  #expect(Ext2BlockPath(block: 11, pointersPerBlock: 256) == Ext2BlockPath(block: 11, pointersPerBlock: 1024))
  #expect(Ext2BlockPath(block: 12, pointersPerBlock: 256)?.slots == [0])
  #expect(Ext2BlockPath(block: 12 + 256, pointersPerBlock: 256)?.slots == [0, 0])
  #expect(Ext2BlockPath(block: 12 + 256 + 65536, pointersPerBlock: 256)?.slots == [0, 0, 0])
  #expect(Ext2BlockPath(block: .max, pointersPerBlock: 256) == nil)
}
