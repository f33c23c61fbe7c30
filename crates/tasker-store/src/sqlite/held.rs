//! Which leases a worker has, as the database knows it.

use std::sync::Arc;

use tasker_model::id::{Position, WorkerId};

use super::row::Id;
use super::transaction::Tx;
use super::work::{Batch, lease};
use crate::error::StoreError;
use crate::store::{ClaimBudget, ClaimedStep, Runnable};

/// A step that the worker holds.
struct Held {
    row: i64,
    task_row: i64,
    position: Position,
    attempts: u32,
    attempt_limit: u32,
}

pub(super) fn held(
    tx: &mut Tx<'_>,
    worker: WorkerId,
    runnable: &Arc<[Runnable]>,
) -> Result<Vec<ClaimedStep>, StoreError> {
    let budget = ClaimBudget {
        worker,
        slots: usize::MAX,
        lease_ms: 0,
        runnable: runnable.clone(),
        also_due: false,
    };
    let mut batch = Batch::new(tx, Some(&budget))?;
    let mut found = Vec::new();
    for runnable in runnable.iter() {
        let key = (
            runnable.queue.as_str(),
            runnable.template.0,
            Id::from(worker),
        );
        found.extend(
            tx.rows(include_str!("../../sql/sqlite/held.sql"), key, |row| {
                Ok(Held {
                    row: row.get(0)?,
                    task_row: row.get(1)?,
                    position: row.get(2)?,
                    attempts: row.get(3)?,
                    attempt_limit: row.get(4)?,
                })
            })?,
        );
    }
    found.sort_by_key(|held| held.row);
    // A definition may be named twice.
    found.dedup_by_key(|held| held.row);
    for held in found {
        let work = batch.work(tx, held.task_row)?;
        let lease = lease(work, held.position, held.row, held.attempts);
        batch.claimed(lease, held.attempt_limit);
    }
    // Nothing was changed, so nothing is written: this only reads the inputs.
    Ok(batch.finish(tx)?.claimed)
}
