//! Leases and workers that say they are alive.

use jiff::SignedDuration;
use tasker_model::id::WorkerId;
use tasker_model::progress::StepProgress;

use super::row::Id;
use super::transaction::Tx;
use super::work::after;
use crate::error::StoreError;
use crate::record::WorkerRecord;
use crate::store::Lease;

/// A worker that has not been seen for so long is forgotten.
const FORGET_WORKER_AFTER: SignedDuration = SignedDuration::from_hours(24);

pub(super) fn heartbeat(
    tx: &Tx<'_>,
    worker: WorkerId,
    leases: &[Lease],
    lease_ms: u64,
) -> Result<Vec<Lease>, StoreError> {
    let lease_until = after(tx.now, lease_ms).as_microsecond();
    let mut lost = Vec::new();
    for lease in leases {
        let row = (lease.step_row, Id::from(worker), lease.attempt, lease_until);
        if tx.execute(include_str!("../../sql/sqlite/heartbeat.sql"), row)? == 0 {
            lost.push(*lease);
        }
    }
    Ok(lost)
}

pub(super) fn note_progress(
    tx: &Tx<'_>,
    worker: WorkerId,
    notes: &[(Lease, StepProgress)],
) -> Result<(), StoreError> {
    for (lease, progress) in notes {
        let progress = serde_json::to_string(progress).expect("invariant: plain data");
        let row = (lease.step_row, Id::from(worker), lease.attempt, progress);
        tx.execute(include_str!("../../sql/sqlite/note_progress.sql"), row)?;
    }
    Ok(())
}

pub(super) fn register_worker(tx: &Tx<'_>, worker: &WorkerRecord) -> Result<(), StoreError> {
    tx.execute(
        include_str!("../../sql/sqlite/register_worker.sql"),
        (
            Id::from(worker.worker_id),
            &worker.host,
            worker.pid,
            serde_json::to_string(&worker.handlers).expect("invariant: texts"),
            worker.started_at.as_microsecond(),
            worker.seen_at.as_microsecond(),
        ),
    )?;
    let long_ago = tx
        .now
        .checked_sub(FORGET_WORKER_AFTER)
        .unwrap_or(jiff::Timestamp::MIN);
    let sql = include_str!("../../sql/sqlite/register_worker.forget.sql");
    tx.execute(sql, [long_ago.as_microsecond()]).map(drop)
}
