//! Signals from outside.

use tasker_model::id::TaskId;
use tasker_model::task::TaskState;
use tokio_postgres::types::Type;

use super::Inner;
use crate::error::StoreError;
use crate::store::{Signal, Signalled};

impl Inner {
    pub(super) async fn signal(
        &self,
        task_id: TaskId,
        signal: Signal,
    ) -> Result<Signalled, StoreError> {
        let sql = include_str!("../../sql/postgres/signal.sql");
        let (now, name, payload) = (
            self.given_time(),
            signal.name.as_str(),
            signal.payload.as_str(),
        );
        let row = self
            .connections
            .row(
                sql,
                &[
                    (&now, Type::TIMESTAMPTZ),
                    (task_id.as_uuid(), Type::UUID),
                    (&name, Type::TEXT),
                    (&payload, Type::TEXT),
                    (&signal.by, Type::TEXT),
                ],
            )
            .await?;
        let word: Option<String> = row.map(|row| row.get(0)).transpose()?.flatten();
        match word.ok_or(StoreError::NoSuchTask(task_id))?.as_str() {
            "known" => Ok(Signalled::Known),
            "kept" => Ok(Signalled::Kept),
            "delivered" => {
                self.bell.pull();
                Ok(Signalled::Delivered)
            }
            state => {
                let bad = |_| StoreError::BadRow(format!("the answer `{state}` to a signal"));
                let state: TaskState = state.parse().map_err(bad)?;
                Signal::check(state)?;
                Err(StoreError::BadRow(format!(
                    "a signal to a task that is {state} was refused"
                )))
            }
        }
    }
}
