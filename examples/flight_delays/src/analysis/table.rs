//! Strict reading of a CSV text with a known header.

use csv::{ReaderBuilder, StringRecord};
use std::{error, fmt};

/// Why a data file was refused. The text names the file, the line, the column and the value.
///
/// Lines are counted from 1 and include the header, as an editor shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataError {
    /// There is no record: the text is empty, or ends after the header.
    Empty {
        /// Which file: `flights` or `airports`.
        table: &'static str,
    },
    /// The first line does not name the expected columns in the expected order.
    Header {
        /// Which file: `flights` or `airports`.
        table: &'static str,
        /// The expected column names, separated by commas.
        expected: String,
        /// The first line as read.
        found: String,
    },
    /// A line is not a record of the expected number of fields.
    Record {
        /// Which file: `flights` or `airports`.
        table: &'static str,
        /// The line of the record.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A field holds a value that its column does not allow.
    Value {
        /// Which file: `flights` or `airports`.
        table: &'static str,
        /// The line of the record.
        line: usize,
        /// The name of the column.
        column: &'static str,
        /// The offending value, as read.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Columns read back from a stored result do not form a table.
    Columns {
        /// What is wrong with them.
        problem: String,
    },
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { table } => write!(f, "{table}: there are no records"),
            Self::Header {
                table,
                expected,
                found,
            } => {
                write!(
                    f,
                    "{table} line 1: expected the columns \"{expected}\", found \"{found}\""
                )
            }
            Self::Record {
                table,
                line,
                problem,
            } => write!(f, "{table} line {line}: {problem}"),
            Self::Value {
                table,
                line,
                column,
                value,
                problem,
            } => {
                write!(
                    f,
                    "{table} line {line}, column {column}: \"{value}\" {problem}"
                )
            }
            Self::Columns { problem } => write!(f, "stored flight columns: {problem}"),
        }
    }
}

impl error::Error for DataError {}

/// A CSV text that is to have exactly the given columns.
pub(super) struct Table<'t> {
    pub(super) name: &'static str,
    pub(super) columns: &'static [&'static str],
    pub(super) text: &'t str,
}

/// One record of a table, with what an error message about it needs.
pub(super) struct Row<'t> {
    table: &'t Table<'t>,
    record: &'t StringRecord,
}

impl Table<'_> {
    /// Calls `accept` for every record in order; stops at the first error.
    pub(super) fn for_each(
        &self,
        mut accept: impl FnMut(&Row<'_>) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        // Flexible: a wrong number of fields gets the message below, not the reader's.
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(self.text.as_bytes());
        let mut record = StringRecord::new();
        let mut records = 0_usize;
        while reader
            .read_record(&mut record)
            .map_err(|error| self.unreadable(&error))?
        {
            if records == 0 {
                self.check_header(&record)?;
            } else {
                let row = Row {
                    table: self,
                    record: &record,
                };
                row.check_length()?;
                accept(&row)?;
            }
            records += 1;
        }
        if records < 2 {
            Err(DataError::Empty { table: self.name })
        } else {
            Ok(())
        }
    }

    fn check_header(&self, record: &StringRecord) -> Result<(), DataError> {
        if record.iter().eq(self.columns.iter().copied()) {
            return Ok(());
        }
        Err(DataError::Header {
            table: self.name,
            expected: self.columns.join(","),
            found: record.iter().collect::<Vec<_>>().join(","),
        })
    }

    fn unreadable(&self, error: &csv::Error) -> DataError {
        let line = self.line_at(error.position().map_or(0, csv::Position::byte));
        DataError::Record {
            table: self.name,
            line,
            problem: error.to_string(),
        }
    }

    /// The line of the record that the reader found from byte `start` on.
    ///
    /// The reader's own line count is off after `\r\n` and blank lines, which it only skips when
    /// it reads the next record; so line ends at `start` still belong to the lines before.
    fn line_at(&self, start: u64) -> usize {
        let bytes = self.text.as_bytes();
        let start = usize::try_from(start)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let skipped = bytes[start..]
            .iter()
            .take_while(|b| matches!(b, b'\r' | b'\n'))
            .count();
        bytes[..start + skipped]
            .split(|byte| *byte == b'\n')
            .count()
    }
}

impl<'t> Row<'t> {
    fn line(&self) -> usize {
        self.table
            .line_at(self.record.position().map_or(0, csv::Position::byte))
    }

    fn check_length(&self) -> Result<(), DataError> {
        let (expected, found) = (self.table.columns.len(), self.record.len());
        if expected == found {
            return Ok(());
        }
        Err(DataError::Record {
            table: self.table.name,
            line: self.line(),
            problem: format!("expected {expected} fields, found {found}"),
        })
    }

    /// The text of a column, by its position.
    pub(super) fn text(&self, column: usize) -> &'t str {
        &self.record[column]
    }

    /// The error that the value of a column `problem`.
    pub(super) fn error(&self, column: usize, problem: impl Into<String>) -> DataError {
        DataError::Value {
            table: self.table.name,
            line: self.line(),
            column: self.table.columns[column],
            value: self.text(column).to_owned(),
            problem: problem.into(),
        }
    }

    /// An airport code: three or four ASCII capitals or digits (`LAX`, `00M`, `UA27`).
    pub(super) fn code(&self, column: usize) -> Result<&'t str, DataError> {
        let code = self.text(column);
        let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        if (3..=4).contains(&code.len()) && code.bytes().all(allowed) {
            Ok(code)
        } else {
            Err(self.error(column, "is not an airport code (3 or 4 capitals or digits)"))
        }
    }
}
