//! Deleting finished tasks that are old enough.

use tasker_model::id::TaskId;
use tasker_model::task::TaskState;

use super::row::{Id, task_id};
use super::transaction::Tx;
use crate::error::StoreError;
use crate::store::{Deleted, Expired};

pub(super) fn delete_finished(
    tx: &mut Tx<'_>,
    expired: &Expired,
    after: Option<TaskId>,
    limit: usize,
) -> Result<Deleted, StoreError> {
    let find = include_str!("../../sql/sqlite/work.find.sql");
    let after = match after {
        // The task itself has been deleted: its place is told by its id alone, and ids grow.
        Some(id) => {
            let found = tx.row(find, [Id::from(id)], |row| row.get(0))?;
            let before = include_str!("../../sql/sqlite/delete.before.sql");
            let before = || tx.row(before, [Id::from(id)], |row| row.get(0));
            found.map_or_else(before, |row| Ok(Some(row)))?.unwrap_or(0)
        }
        None => 0_i64,
    };
    let states: Vec<&str> = expired
        .states
        .iter()
        .copied()
        .map(TaskState::as_str)
        .collect();
    let states = serde_json::to_string(&states).expect("invariant: texts");
    let wanted = (
        after,
        expired.finished_before.as_microsecond(),
        states,
        &expired.namespace,
        i64::try_from(limit).unwrap_or(i64::MAX),
    );
    let sql = include_str!("../../sql/sqlite/delete.find.sql");
    let found = tx.rows(sql, wanted, |row| {
        Ok((row.get::<_, i64>(0)?, task_id(row, 1)?))
    })?;
    for (row, _) in &found {
        for sql in [
            include_str!("../../sql/sqlite/delete.transitions.sql"),
            include_str!("../../sql/sqlite/delete.signals.sql"),
            include_str!("../../sql/sqlite/delete.annotations.sql"),
            include_str!("../../sql/sqlite/delete.subtasks.sql"),
            include_str!("../../sql/sqlite/delete.steps.sql"),
            include_str!("../../sql/sqlite/delete.request.sql"),
            include_str!("../../sql/sqlite/delete.task.sql"),
        ] {
            tx.execute(sql, [row])?;
        }
    }
    let more = found.len() >= limit;
    Ok(Deleted {
        tasks: found.len() as u64,
        last: found.last().filter(|_| more).map(|(_, id)| *id),
    })
}
