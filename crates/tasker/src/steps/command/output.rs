//! Reads what a program writes, as much of it as was agreed on.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::handler::StepContext;
use crate::steps::redact::Secrets;

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// A longer line is cut, in bytes.
const LINE_BYTES_MAX: usize = 1024;

/// As much of a line is read, so that a secret that lies across the cut is recognised.
const LINE_READ_MAX: usize = 8 * 1024;

/// The program wrote more than was agreed on.
pub(super) struct TooMuch;

/// What has been read, also when the reading is given up.
pub(super) type Bytes = Mutex<Vec<u8>>;

/// Reads to the end, into memory.
pub(super) async fn collect(
    mut from: impl AsyncRead + Unpin,
    into: &Bytes,
    max: usize,
) -> Result<(), TooMuch> {
    let mut chunk = vec![0; CHUNK];
    loop {
        // A pipe that cannot be read has ended.
        let read = from.read(&mut chunk).await.unwrap_or(0);
        if read == 0 {
            return Ok(());
        }
        let mut bytes = into.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() + read > max {
            return Err(TooMuch);
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
}

/// Reads and drops what comes.
pub(super) async fn discard(mut from: impl AsyncRead + Unpin) {
    let mut chunk = vec![0; CHUNK];
    while from.read(&mut chunk).await.unwrap_or(0) > 0 {}
}

/// The last lines that a program wrote.
pub(super) struct Lines {
    kept: Mutex<VecDeque<String>>,
    kept_max: usize,
}

impl Lines {
    pub(super) fn new(kept_max: usize) -> Lines {
        let kept = Mutex::default();
        Lines { kept, kept_max }
    }

    pub(super) fn last(&self) -> Vec<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(line);
        while kept.len() > self.kept_max {
            kept.pop_front();
        }
    }

    /// Reads to the end; each line is logged as it comes, without secrets.
    pub(super) async fn follow(
        &self,
        mut from: impl AsyncRead + Unpin,
        attempt: &StepContext,
        secrets: &Secrets,
        max: usize,
    ) -> Result<(), TooMuch> {
        let mut chunk = vec![0; CHUNK];
        let (mut line, mut total) = (Vec::new(), 0);
        loop {
            let read = from.read(&mut chunk).await.unwrap_or(0);
            let ended = read == 0;
            for part in chunk[..read].split_inclusive(|byte| *byte == b'\n') {
                let (part, complete) = match part.split_last() {
                    Some((b'\n', part)) => (part, true),
                    _ => (part, false),
                };
                let room = LINE_READ_MAX - line.len();
                line.extend_from_slice(&part[..part.len().min(room)]);
                if complete {
                    self.keep(&mut line, attempt, secrets);
                }
            }
            total += read;
            if ended || total > max {
                if !line.is_empty() {
                    self.keep(&mut line, attempt, secrets);
                }
                return if ended { Ok(()) } else { Err(TooMuch) };
            }
        }
    }

    fn keep(&self, line: &mut Vec<u8>, attempt: &StepContext, secrets: &Secrets) {
        let text = String::from_utf8_lossy(line);
        let mut text = secrets.redacted(text.trim_end_matches('\r'));
        if text.len() > LINE_BYTES_MAX {
            text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
            text.push('…');
        }
        attempt.log(&text);
        self.push(text);
        line.clear();
    }
}
