//! Deleting finished tasks that are old enough.

use tasker_model::id::TaskId;
use tasker_model::task::TaskState;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Inner;
use crate::error::StoreError;
use crate::store::{Deleted, Expired};

impl Inner {
    pub(super) async fn delete_finished(
        &self,
        expired: Expired,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Deleted, StoreError> {
        let states: Vec<&str> = expired
            .states
            .iter()
            .copied()
            .map(TaskState::as_str)
            .collect();
        let after = after.map_or(Uuid::nil(), |id| *id.as_uuid());
        let most = i32::try_from(limit).unwrap_or(i32::MAX);
        let row = self
            .connections
            .row(
                include_str!("../../sql/postgres/delete_finished.sql"),
                &[
                    (&states, Type::TEXT_ARRAY),
                    (&expired.finished_before, Type::TIMESTAMPTZ),
                    (&expired.namespace, Type::TEXT),
                    (&after, Type::UUID),
                    (&most, Type::INT4),
                ],
            )
            .await?;
        let missing = || StoreError::BadRow("deleting was not answered".to_owned());
        let row = row.ok_or_else(missing)?;
        let tasks = u64::from(row.number(0)?);
        let last: Option<Uuid> = row.get(1)?;
        let more = tasks >= limit as u64;
        Ok(Deleted {
            tasks,
            last: last.filter(|_| more).map(TaskId::from_uuid),
        })
    }
}
