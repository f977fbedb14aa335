import Signals
import Testing

@Test func anAlternateStackHasItsTopButNotItsBottom() throws {
  let stack = try AlternateStack(base: 0x1000, size: 0x2000, flags: 0)
  #expect(stack.top == 0x3000)
  #expect(!stack.contains(0x1000) && stack.contains(0x1001) && stack.contains(0x3000) && !stack.contains(0x3001))
  #expect(stack.start(from: 0x8000) == 0x3000)
  #expect(stack.start(from: 0x2000) == 0x2000)
  #expect(stack.state(at: 0x2000) == 1 && stack.state(at: 0x4000) == 0)
}

@Test func anAlternateStackMayWrap() throws {
  let stack = try AlternateStack(base: 0xFFFF_F000, size: 0x2000, flags: 1)
  #expect(stack.top == 0x1000)
  #expect(stack.start(from: 0x8000) == 0x1000)
  #expect(!stack.contains(0x800))
}

@Test func anAlternateStackIsRefused() {
  #expect(throws: AlternateStack.Failure.tooSmall) { try AlternateStack(base: 0, size: 2047, flags: 0) }
  #expect(throws: AlternateStack.Failure.badFlags) { try AlternateStack(base: 0, size: 4096, flags: 3) }
  #expect(throws: AlternateStack.Failure.badFlags) { try AlternateStack(base: 0, size: 4096, flags: 4) }
}

@Test func noAlternateStackIsNeverInUse() throws {
  for stack in [AlternateStack(), try AlternateStack(base: 0x1000, size: 0, flags: 2)] {
    #expect(stack.state(at: 0x1000) == 2)
    #expect(stack.start(from: 0x1000) == 0x1000)
    #expect(!stack.contains(0) && !stack.contains(0x1000))
  }
}

@Test func aStackThatIsDisarmedMayBeLeft() throws {
  let stack = try AlternateStack(base: 0x1000, size: 0x2000, flags: AlternateStack.Flags.disarmed)
  #expect(!stack.isInUse(at: 0x2000))
  #expect(stack.state(at: 0x2000) == AlternateStack.Flags.disarmed)
  #expect(stack.start(from: 0x2000) == 0x3000)
}
