//! A Rust file with its code, comments, strings and tests told apart.
//!
//! The code keeps its offsets and lines: a comment becomes blanks, and the inside of a string
//! becomes quotation marks, so that a search in the code finds code.

/// A string literal, as it is written between its quotation marks.
pub(super) struct Literal {
    pub(super) offset: usize,
    pub(super) text: String,
}

pub(super) struct Source {
    /// From the repository's root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    pub(super) code: String,
    pub(super) literals: Vec<Literal>,
    line_starts: Vec<usize>,
    /// Per line: does it belong to a test?
    test: Vec<bool>,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Source {
        let (code, literals) = Lexer::new(text).run();
        let line_starts: Vec<usize> = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .filter(|&at| at == 0 || at < text.len())
            .collect();
        let whole = ["/tests/", "/benches/"].iter().any(|d| path.contains(d));
        let mut source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
            test: vec![whole; line_starts.len()],
            code,
            literals,
            line_starts,
        };
        for (start, end) in test_items(&source.code) {
            let lines = source.line_index(start)..=source.line_index(end);
            source.test[lines].fill(true);
        }
        source
    }

    /// Marks the whole file as test code: it is a module that only tests declare.
    pub(super) fn mark_test(&mut self) {
        self.test.fill(true);
    }

    fn line_index(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset) - 1
    }

    /// The line of an offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_index(offset) + 1
    }

    pub(super) fn is_test(&self, offset: usize) -> bool {
        self.test[self.line_index(offset)]
    }

    /// Where a whole word stands in the code outside of tests.
    pub(super) fn product_words(&self, word: &str) -> impl Iterator<Item = usize> {
        words(&self.code, word).filter(|&at| !self.is_test(at))
    }

    /// Lines of code from one offset to another that are not blank, comment or test.
    pub(super) fn product_lines_within(&self, start: usize, end: usize) -> usize {
        let lines = self.code[start..end].split_inclusive('\n');
        let mut at = start;
        let mut count = 0;
        for line in lines {
            if !line.trim().is_empty() && !self.is_test(at) {
                count += 1;
            }
            at += line.len();
        }
        count
    }

    pub(super) fn product_lines(&self) -> usize {
        self.product_lines_within(0, self.code.len())
    }

    /// Is it under the `src` folder of a package?
    pub(super) fn in_src(&self) -> bool {
        self.path.starts_with("xtask/src/")
            || self.path.starts_with("crates/") && self.path.split('/').nth(2) == Some("src")
            || self.path.starts_with("examples/") && self.path.split('/').nth(2) == Some("src")
    }

    /// The package that it belongs to: `tasker-model`.
    pub(super) fn package(&self) -> &str {
        let mut parts = self.path.split('/');
        match parts.next() {
            Some("crates" | "examples") => parts.next().unwrap_or_default(),
            first => first.unwrap_or_default(),
        }
    }
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Where a word stands alone in a text.
pub(super) fn words(code: &str, word: &str) -> impl Iterator<Item = usize> {
    let bytes = code.as_bytes();
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| {
            let before = at.checked_sub(1).map(|at| bytes[at]);
            let after = bytes.get(at + word.len()).copied();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
}

/// The identifier at the start of a text, after blanks; with the offset of its end.
pub(super) fn identifier(code: &str) -> Option<(&str, usize)> {
    let start = code.len() - code.trim_start().len();
    let length = code[start..].bytes().take_while(|&b| is_word(b)).count();
    (length > 0).then(|| (&code[start..start + length], start + length))
}

/// The end of the item that starts at an offset: its closing brace, or its semicolon.
/// The second figure is where its body opens, if it has one.
pub(super) fn item_end(code: &str, start: usize) -> (usize, Option<usize>) {
    let mut depth = 0_i32;
    let mut body = None;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' | b'{' => {
                if byte == b'{' && depth == 0 {
                    body = Some(at);
                }
                depth += 1;
            }
            b')' | b']' | b'}' => {
                depth -= 1;
                if depth < 0 || byte == b'}' && depth == 0 {
                    return (at, body);
                }
            }
            b';' if depth == 0 => return (at, body),
            _ => {}
        }
    }
    (code.len().saturating_sub(1), body)
}

fn test_items(code: &str) -> Vec<(usize, usize)> {
    ["#[cfg(test)]", "#[cfg(all(test,"]
        .iter()
        .flat_map(|attribute| code.match_indices(attribute))
        .map(|(at, _)| {
            let after = code[at..].find(']').map_or(at, |end| at + end + 1);
            (at, item_end(code, after).0)
        })
        .collect()
}

struct Lexer<'a> {
    text: &'a [u8],
    code: Vec<u8>,
    literals: Vec<Literal>,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Lexer<'a> {
        Lexer {
            text: text.as_bytes(),
            code: Vec::with_capacity(text.len()),
            literals: Vec::new(),
        }
    }

    fn run(mut self) -> (String, Vec<Literal>) {
        while let Some(&byte) = self.text.get(self.code.len()) {
            let rest = &self.text[self.code.len()..];
            match byte {
                b'/' if rest.starts_with(b"//") => {
                    let length = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
                    self.mask(length, b' ');
                }
                b'/' if rest.starts_with(b"/*") => self.mask(comment_length(rest), b' '),
                b'"' => self.string(),
                b'\'' => self.quote(),
                _ => self.code.push(byte),
            }
        }
        let code = String::from_utf8(self.code).expect("invariant: whole characters are masked");
        (code, self.literals)
    }

    /// Replaces the next bytes, except for the ends of lines.
    fn mask(&mut self, length: usize, by: u8) {
        let start = self.code.len();
        let end = (start + length).min(self.text.len());
        let masked = self.text[start..end]
            .iter()
            .map(|&b| if b == b'\n' { b } else { by });
        self.code.extend(masked);
    }

    fn string(&mut self) {
        let start = self.code.len();
        let before = &self.text[..start];
        let hashes = before.iter().rev().take_while(|&&b| b == b'#').count();
        let raw = is_raw(&before[..start - hashes]);
        let inside = &self.text[start + 1..];
        let length = if raw {
            let mut close = vec![b'"'];
            close.resize(hashes + 1, b'#');
            inside.windows(close.len()).position(|w| w == close)
        } else {
            closing(inside, b'"')
        };
        let length = length.unwrap_or(inside.len());
        self.literals.push(Literal {
            offset: start,
            text: String::from_utf8_lossy(&inside[..length]).into_owned(),
        });
        self.mask(length + 2, b'"');
    }

    /// A character literal, or the start of a lifetime or label.
    fn quote(&mut self) {
        let inside = &self.text[self.code.len() + 1..];
        let width = match inside.first() {
            Some(b'\\') => closing(inside, b'\''),
            Some(0x80..) => inside.iter().take(5).position(|&b| b == b'\''),
            _ => (inside.get(1) == Some(&b'\'')).then_some(1),
        };
        match width {
            Some(width) => self.mask(width + 2, b'\''),
            None => self.code.push(b'\''),
        }
    }
}

fn is_raw(before: &[u8]) -> bool {
    let prefix_of_word = |bytes: &[u8]| !bytes.last().copied().is_some_and(is_word);
    match before {
        [rest @ .., b'b' | b'c', b'r'] if prefix_of_word(rest) => true,
        [rest @ .., b'r'] => prefix_of_word(rest),
        _ => false,
    }
}

/// Where an unescaped closing mark stands.
fn closing(inside: &[u8], mark: u8) -> Option<usize> {
    let mut escaped = false;
    inside.iter().position(|&byte| {
        let found = byte == mark && !escaped;
        escaped = byte == b'\\' && !escaped;
        found
    })
}

/// Block comments nest.
fn comment_length(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_not_code() {
        let text = "a(\"x.unwrap() \\\" //\"); // b()\n/* c /* d */ e */ f('\"', '\\'', 'ü'); g";
        let source = Source::new("crates/x/src/lib.rs", text);
        assert_eq!(source.code.len(), text.len());
        assert!(!source.code.contains("unwrap") && !source.code.contains("b()"));
        assert!(!source.code.contains('d') && source.code.contains("f("));
        assert!(source.code.ends_with("; g"));
        assert_eq!(source.literals.len(), 1);
        assert_eq!(source.line(source.code.find("f(").unwrap()), 2);
    }

    #[test]
    fn raw_strings_end_at_their_hashes() {
        let text = "let a = r#\"say \"hi\" \\\"#; let b = br\"\\\"; fn var<'a>(r: &'a str) {}";
        let source = Source::new("crates/x/src/lib.rs", text);
        let texts: Vec<&str> = source.literals.iter().map(|l| l.text.as_str()).collect();
        assert_eq!(texts, ["say \"hi\" \\", "\\"]);
        assert!(source.code.ends_with("fn var<'a>(r: &'a str) {}"));
    }

    #[test]
    fn test_modules_are_not_product_lines() {
        let text =
            "//! Doc.\n\nfn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let source = Source::new("crates/x/src/lib.rs", text);
        assert_eq!(source.product_lines(), 2);
        assert!(source.is_test(text.find("fn b").unwrap()));
        assert!(!source.is_test(text.find("fn c").unwrap()));
        assert_eq!(Source::new("crates/x/tests/a.rs", text).product_lines(), 0);
    }
}
