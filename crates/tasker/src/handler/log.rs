//! The lines that a handler logs, kept with its attempt.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// Never more lines than this are kept of one attempt: the last ones.
const LINES_MAX: usize = 200;
/// Never more than this is kept of one attempt, in bytes.
const BYTES_MAX: usize = 16 * 1024;
/// A line longer than this is cut, in bytes.
const LINE_BYTES_MAX: usize = 1024;

/// The last lines of one attempt. Clones write to the same log.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttemptLog(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    bytes: usize,
    /// How many went, to keep the last ones.
    dropped: u64,
}

impl AttemptLog {
    /// Appends a line; a text of several lines becomes several.
    pub(crate) fn push(&self, text: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in text.lines() {
            lines.push(line);
        }
    }

    /// All that is kept, each line ended by a newline; `None` if nothing was logged.
    pub(crate) fn text(&self) -> Option<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.kept.is_empty() {
            return None;
        }
        let mut text = String::with_capacity(lines.bytes + lines.kept.len());
        if lines.dropped > 0 {
            let dropped = lines.dropped;
            writeln!(text, "… {dropped} earlier lines were not kept")
                .expect("invariant: writing to a String does not fail");
        }
        for line in &lines.kept {
            text.push_str(line);
            text.push('\n');
        }
        Some(text)
    }
}

impl Lines {
    fn push(&mut self, line: &str) {
        let cut = line.floor_char_boundary(LINE_BYTES_MAX);
        // PostgreSQL cannot store the character zero.
        let mut kept = line[..cut].replace('\0', "\u{fffd}");
        if cut < line.len() {
            kept.push('…');
        }
        self.bytes += kept.len();
        self.kept.push_back(kept);
        while self.kept.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let Some(first) = self.kept.pop_front() else {
                return;
            };
            self.bytes -= first.len();
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_the_loss_is_said() {
        let log = AttemptLog::default();
        assert_eq!(log.text(), None);
        log.push("one\r\ntwo\0\n");
        assert_eq!(log.text().unwrap(), "one\ntwo\u{fffd}\n");
        for number in 0..LINES_MAX {
            log.push(&number.to_string());
        }
        let text = log.text().unwrap();
        assert!(
            text.starts_with("… 2 earlier lines were not kept\n0\n1\n"),
            "{text}"
        );
        assert!(text.ends_with("\n199\n"));
    }

    #[test]
    fn memory_is_bounded() {
        let log = AttemptLog::default();
        for _ in 0..1_000 {
            log.push(&"ü".repeat(10_000));
        }
        let text = log.text().unwrap();
        assert!(text.len() < BYTES_MAX + 100, "{}", text.len());
        assert!(text.lines().nth(1).unwrap().ends_with("ü…"));
    }
}
