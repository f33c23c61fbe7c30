//! Signals from outside.

use tasker_model::id::TaskId;
use tasker_model::json::Json;
use tasker_model::task::TaskState;

use super::row::{Id, word};
use super::transaction::Tx;
use crate::error::StoreError;
use crate::store::{Signal, Signalled};

pub(super) fn signal(
    tx: &Tx<'_>,
    task_id: TaskId,
    signal: &Signal,
) -> Result<Signalled, StoreError> {
    let sql = include_str!("../../sql/sqlite/signal.task.sql");
    let found = tx.row(sql, [Id::from(task_id)], |row| {
        Ok((row.get::<_, i64>(0)?, word::<TaskState>(row, 1)?))
    })?;
    let (row, state) = found.ok_or(StoreError::NoSuchTask(task_id))?;
    Signal::check(state)?;
    let (name, payload) = (signal.name.as_str(), Json::as_str(&signal.payload));
    let kept = (row, name, payload, &signal.by, tx.now_us());
    if tx.execute(include_str!("../../sql/sqlite/signal.keep.sql"), kept)? == 0 {
        return Ok(Signalled::Known);
    }
    let sql = include_str!("../../sql/sqlite/signal.deliver.sql");
    let waiting = tx.execute(sql, (row, name, payload, tx.now_us()))?;
    Ok(if waiting > 0 {
        Signalled::Delivered
    } else {
        Signalled::Kept
    })
}
