//! Values between columns and the model. What nobody wrote is an error with the value, never a
//! default.

use std::str::FromStr;

use jiff::Timestamp;
use tasker_model::id::{Position, TaskId, WorkerId};
use tasker_model::json::Json;
use tokio_postgres::types::{FromSql, ToSql, Type};
use uuid::Uuid;

use crate::error::StoreError;

/// A parameter with its type: statements are never prepared, so the type goes with each call.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A row, read by the place of its columns.
pub(super) struct Row(pub(super) tokio_postgres::Row);

impl Row {
    pub(super) fn get<'r, T: FromSql<'r>>(&'r self, column: usize) -> Result<T, StoreError> {
        self.0.try_get(column).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            StoreError::BadRow(cause.unwrap_or_else(|| error.to_string()))
        })
    }

    pub(super) fn is_null(&self, column: usize) -> Result<bool, StoreError> {
        Ok(self.get::<Option<AnyValue>>(column)?.is_none())
    }

    /// Reads a word of a closed set, a name or a version.
    pub(super) fn word<T: FromStr>(&self, column: usize) -> Result<T, StoreError>
    where
        T::Err: std::fmt::Display,
    {
        parse(self.get(column)?)
    }

    pub(super) fn word_or_none<T: FromStr>(&self, column: usize) -> Result<Option<T>, StoreError>
    where
        T::Err: std::fmt::Display,
    {
        self.get::<Option<&str>>(column)?.map(parse).transpose()
    }

    pub(super) fn task_id(&self, column: usize) -> Result<TaskId, StoreError> {
        Ok(TaskId::from_uuid(self.get(column)?))
    }

    pub(super) fn worker_id(&self, column: usize) -> Result<Option<WorkerId>, StoreError> {
        Ok(self.get::<Option<Uuid>>(column)?.map(WorkerId::from_uuid))
    }

    pub(super) fn time(&self, column: usize) -> Result<Timestamp, StoreError> {
        self.get(column)
    }

    pub(super) fn time_or_none(&self, column: usize) -> Result<Option<Timestamp>, StoreError> {
        self.get(column)
    }

    /// Reads a count, a position or a number of attempts.
    pub(super) fn number(&self, column: usize) -> Result<u32, StoreError> {
        let found: i32 = self.get(column)?;
        u32::try_from(found)
            .map_err(|_| StoreError::BadRow(format!("{found} where nothing is negative")))
    }

    /// Reads a limit of attempts, which people may set as high as they like.
    pub(super) fn limit(&self, column: usize) -> Result<u32, StoreError> {
        let found: i64 = self.get(column)?;
        u32::try_from(found).map_err(|_| StoreError::BadRow(format!("{found} attempts")))
    }

    pub(super) fn number_or_none(&self, column: usize) -> Result<Option<u32>, StoreError> {
        if self.is_null(column)? {
            return Ok(None);
        }
        self.number(column).map(Some)
    }

    pub(super) fn stored_json(&self, column: usize) -> Result<Option<Json>, StoreError> {
        Ok(self.get::<Option<&str>>(column)?.map(Json::from_stored))
    }

    /// Reads JSON that was selected as text.
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        column: usize,
    ) -> Result<T, StoreError> {
        let text: &str = self.get(column)?;
        serde_json::from_str(text).map_err(|error| StoreError::BadRow(error.to_string()))
    }

    pub(super) fn json_or_none<T: serde::de::DeserializeOwned>(
        &self,
        column: usize,
    ) -> Result<Option<T>, StoreError> {
        if self.is_null(column)? {
            return Ok(None);
        }
        self.json(column).map(Some)
    }
}

fn parse<T: FromStr>(text: &str) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| StoreError::BadRow(error.to_string()))
}

/// Any value, to see whether there is one.
struct AnyValue;

impl<'a> FromSql<'a> for AnyValue {
    fn from_sql(_: &Type, _: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(AnyValue)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A position as a column holds it.
pub(super) fn int(number: Position) -> i32 {
    i32::try_from(number).expect("invariant: at most STEPS_MAX steps, and attempts within it")
}

/// Milliseconds as a parameter.
pub(super) fn milliseconds(ms: u64) -> i64 {
    // A hundred years is far enough, and still a time that PostgreSQL can add.
    const FAR: u64 = 100 * 365 * 24 * 3_600 * 1_000;
    i64::try_from(ms.min(FAR)).expect("invariant: within a hundred years")
}
