//! What is wrong with a file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a text; both numbers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

impl Place {
    /// The beginning of a text.
    pub const START: Place = Place { line: 1, column: 1 };
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Never more problems of one file than this are shown; their number is always given.
const PROBLEMS_SHOWN_MAX: usize = 50;

/// One thing that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub at: Place,
    /// What, and what was expected.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(at: Place, message: impl Into<String>) -> Problem {
        let message = message.into();
        Problem { at, message }
    }
}

/// A file that cannot be used, with everything that is wrong with it in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidFile {
    /// The file, as it was named.
    pub path: PathBuf,
    /// What is wrong, all of it.
    pub problems: Vec<Problem>,
}

impl InvalidFile {
    pub(crate) fn new(path: &Path, mut problems: Vec<Problem>) -> InvalidFile {
        problems.sort();
        problems.dedup();
        InvalidFile {
            path: path.to_owned(),
            problems,
        }
    }
}

impl fmt::Display for InvalidFile {
    /// One line per problem, as compilers write them: `file:line:column: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.problems.iter().take(PROBLEMS_SHOWN_MAX);
        for (number, Problem { at, message }) in shown.enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{at}: {message}", self.path.display())?;
        }
        match self.problems.len().saturating_sub(PROBLEMS_SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more problems", self.path.display()),
        }
    }
}

impl std::error::Error for InvalidFile {}

/// What is wrong with several files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidFiles(pub Vec<InvalidFile>);

impl fmt::Display for InvalidFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, file) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{file}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidFiles {}
