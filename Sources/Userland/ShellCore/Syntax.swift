/// A piece of a word, before expansion. `quoted` pieces are neither split nor matched as patterns.
public indirect enum WordPart: Equatable, Sendable {
  case literal([UInt8], quoted: Bool)
  /// `$name`, `${name}`, `${name:-word}` and its relatives; `operation` is empty, `-`, `=`, `+`, `?`, `#`, `##`, `%`, `%%`
  /// or `length`; `colon` says that an empty value counts as unset.
  case parameter([UInt8], operation: [UInt8], colon: Bool, word: Word, quoted: Bool)
  case command([UInt8], quoted: Bool)
  case arithmetic([UInt8], quoted: Bool)
}

public struct Word: Equatable, Sendable {
  public var parts: [WordPart]
  public init(_ parts: [WordPart] = []) { self.parts = parts }
  /// The text, if the word is one unquoted literal: reserved words, names.
  public var plain: [UInt8]? {
    if parts.count == 1, case .literal(let text, false) = parts[0] { return text }
    return nil
  }
}

public struct Redirect: Equatable, Sendable {
  public enum Kind: Equatable, Sendable { case input, output, append, readWrite, duplicate, hereDocument }
  public var descriptor: Int32
  public var kind: Kind
  public var target: Word
  public init(descriptor: Int32, kind: Kind, target: Word) {
    self.descriptor = descriptor
    self.kind = kind
    self.target = target
  }
}

/// A command tree. SPEC: POSIX.1-2024 Shell Command Language §2.9.
public indirect enum Node: Sendable {
  case simple(assignments: [(name: [UInt8], value: Word)], words: [Word], redirects: [Redirect])
  case pipeline([Node], negated: Bool)
  case and(Node, Node)
  case or(Node, Node)
  case list([(node: Node, background: Bool)])
  case conditional([(condition: Node, body: Node)], otherwise: Node?)
  case loop(condition: Node, body: Node, until: Bool)
  case each(name: [UInt8], words: [Word]?, body: Node)
  case match(Word, [(patterns: [Word], body: Node)])
  case group(Node)
  case subshell(Node)
  case function(name: [UInt8], body: Node)
  case redirected(Node, [Redirect])
}

/// Why a text is no program.
public enum SyntaxError: Error, Equatable {
  /// More lines are needed: an interactive shell prompts for them.
  case incomplete
  case unexpected([UInt8])
}
