//! Column values to model values. Text that nobody wrote is an error with the value, never a
//! default.

use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use tasker_model::id::{TaskId, WorkerId};
use uuid::Uuid;

/// A column that holds the text of a closed set of words, a name or a version.
pub(super) struct Word<T>(pub(super) T);

impl<T: FromStr> FromSql for Word<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value
            .as_str()?
            .parse()
            .map(Word)
            .map_err(FromSqlError::other)
    }
}

/// A column that holds a UUID in its 16 bytes.
pub(super) struct Id(pub(super) Uuid);

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Uuid::from_slice(value.as_blob()?)
            .map(Id)
            .map_err(FromSqlError::other)
    }
}

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.0.as_bytes())))
    }
}

impl From<TaskId> for Id {
    fn from(id: TaskId) -> Id {
        Id(*id.as_uuid())
    }
}

impl From<WorkerId> for Id {
    fn from(id: WorkerId) -> Id {
        Id(*id.as_uuid())
    }
}

/// Reads a word.
pub(super) fn word<T: FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    Ok(row.get::<_, Word<T>>(column)?.0)
}

/// Reads a word that may be absent.
pub(super) fn word_or_none<T: FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    Ok(row.get::<_, Option<Word<T>>>(column)?.map(|word| word.0))
}

pub(super) fn task_id(row: &Row<'_>, column: usize) -> rusqlite::Result<TaskId> {
    Ok(TaskId::from_uuid(row.get::<_, Id>(column)?.0))
}

pub(super) fn worker_id(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<WorkerId>> {
    Ok(row
        .get::<_, Option<Id>>(column)?
        .map(|id| WorkerId::from_uuid(id.0)))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    microseconds(column, row.get(column)?)
}

pub(super) fn time_or_none(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(column)?
        .map(|us| microseconds(column, us))
        .transpose()
}

fn microseconds(column: usize, us: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(us).map_err(|error| damaged(column, error))
}

/// Reads JSON that was written as text.
pub(super) fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| damaged(column, error))
}

fn damaged(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
