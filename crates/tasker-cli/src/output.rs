//! Data goes to standard output, talk to standard error.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use tasker::Error;
use tasker::model::id::InvalidId;
use tasker::model::subtask::SubtaskTally;
use tasker::store::StoreError;

/// The exit status of a command that was interrupted, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command did not do what was asked.
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// Something was found, or the workflow failed: exit status 1.
    pub(crate) fn check(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            hint: None,
            code: 1,
        }
    }

    /// Wrong use: exit status 2.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            hint: None,
            code: 2,
        }
    }

    /// Says it, where it is no reason to end.
    pub(crate) fn say(&self, before: &str) {
        say(&format!("{before}:\n{}", self.message));
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }
}

/// An error with its causes, in one line.
fn in_one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let text = in_one_line(&error);
        match error {
            StoreError::NoSuchTask(_) => {
                Failure::usage(text).hint("`tasker task list` shows the tasks of this store")
            }
            StoreError::BadUrl { .. }
            | StoreError::BadUrlPart(_)
            | StoreError::IllegalMove(_)
            | StoreError::Refused(_)
            | StoreError::NoSuchStep(_) => Failure::usage(text),
            _ => Failure::check(text),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Store(store) => Failure::check(in_one_line(&*store)),
            Error::NoSuchTask(_) => Failure::usage(error.to_string())
                .hint("`tasker task list` shows the tasks of this store"),
            Error::Stopped => Failure::check(error.to_string()),
            _ => Failure::usage(in_one_line(&error)),
        }
    }
}

impl From<InvalidId> for Failure {
    fn from(error: InvalidId) -> Failure {
        Failure::usage(error.to_string()).hint("`last` names the newest task of the store")
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::check(error.to_string())
    }
}

/// Where a command writes.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Output {
        Output { json }
    }

    /// Whether programs read along.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Prints data: as JSON, or as the text that `text` makes of it.
    pub(crate) fn data<T: Serialize + ?Sized>(
        &self,
        data: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let shown = if self.json {
            serde_json::to_string_pretty(data).map_err(|error| Failure::check(error.to_string()))?
        } else {
            text()
        };
        print(&shown)
    }
}

/// Says something to the person, not to programs.
pub(crate) fn say(text: &str) {
    // Talk that cannot be heard is no failure of the command.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Says what went wrong, and gives the exit status for it.
pub(crate) fn fail(failure: &Failure) -> ExitCode {
    say(&format!("error: {}", failure.message));
    if let Some(hint) = &failure.hint {
        say(&format!("hint: {hint}"));
    }
    ExitCode::from(failure.code)
}

fn print(text: &str) -> Result<(), Failure> {
    write(format!("{}\n", text.trim_end_matches('\n')).as_bytes())
}

/// Writes to standard output. A reader that has seen enough and closed the pipe is no failure.
pub(crate) fn write(text: &[u8]) -> Result<(), Failure> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Rows with columns of equal width, two spaces apart.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = header.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(header)];
    lines.extend(
        rows.iter()
            .map(|row| line(row.each_ref().map(String::as_str))),
    );
    lines.join("\n")
}

/// A result as far as it fits into a line.
pub(crate) fn short(text: &str) -> String {
    const SHOWN_CHARS: usize = 100;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How far the sub-tasks of a step have come.
pub(crate) fn done(tally: &SubtaskTally) -> String {
    let done = tally.created - tally.open - tally.failed;
    let mut text = format!("{done}/{} done", tally.plan.count);
    if tally.failed > 0 {
        text += &format!(", {} failed", tally.failed);
    }
    if tally.held > 0 {
        text += &format!(", {} held", tally.held);
    }
    text
}
