//! Taking steps that are due.

use tasker_model::id::{Position, WorkerId};
use tasker_model::lease::{DueStep, OnClaim, on_claim};
use tasker_model::name::Queue;
use tasker_model::outcome::Failure;
use tasker_model::step::{StepEvent, StepState};
use tasker_model::transition::Reason;
use tasker_model::trigger::ParentEnd;

use super::children::{ParentEnds, count_down, note_end};
use super::row::{Id, word, worker_id};
use super::sheet::fail_past_deadline;
use super::transaction::Tx;
use super::work::{Batch, Note, Standing, lease};
use crate::error::StoreError;
use crate::store::{ClaimBudget, Progress};

pub(super) fn claim(tx: &mut Tx<'_>, budget: &ClaimBudget) -> Result<Progress, StoreError> {
    let mut finished = fail_past_deadline(tx)?;
    let mut batch = Batch::new(tx, Some(budget))?;
    claim_due(tx, &mut batch)?;
    let exhausted = batch.slots_left == 0;
    let mut progress = batch.finish(tx)?;
    finished.append(&mut progress.finished);
    progress.finished = finished;
    if !exhausted {
        progress.next_due = next_due(tx, budget)?;
    }
    Ok(progress)
}

/// Steps without a priority and those with one have each their index.
const DUE: [&str; 2] = [
    include_str!("../../sql/sqlite/claim.due.sql"),
    include_str!("../../sql/sqlite/claim.prioritised.sql"),
];

/// A row of the index of due steps.
struct Due {
    queue: Queue,
    row: i64,
    task_row: i64,
    position: Position,
    step: DueStep,
    since: i64,
    worker: Option<WorkerId>,
}

/// Takes what is due, oldest first over all that the worker can run, until the slots are full.
pub(super) fn claim_due(tx: &mut Tx<'_>, batch: &mut Batch) -> Result<(), StoreError> {
    // Without a slot nobody looks, so nobody knows: whoever asked must ask again.
    batch.left_due |= batch.slots_left == 0;
    while batch.slots_left > 0 {
        let wanted = batch.slots_left;
        let found = due(tx, batch, wanted)?;
        if found.is_empty() {
            return Ok(());
        }
        batch.left_due |= found.len() >= wanted;
        for due in found {
            take(tx, batch, &due)?;
        }
        // Another round only if some of these failed instead of taking up a slot.
    }
    Ok(())
}

fn due(tx: &Tx<'_>, batch: &Batch, wanted: usize) -> Result<Vec<Due>, StoreError> {
    let Some(budget) = &batch.budget else {
        return Ok(Vec::new());
    };
    let limit = i64::try_from(wanted).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    for (runnable, sql) in budget.runnable.iter().flat_map(|r| DUE.map(|sql| (r, sql))) {
        let key = (
            runnable.queue.as_str(),
            runnable.template.0,
            tx.now_us(),
            limit,
        );
        found.extend(tx.rows(sql, key, |row| {
            let step = DueStep {
                state: word(row, 3)?,
                attempts: row.get(4)?,
                attempt_limit: row.get(5)?,
                lost_attempts: row.get(6)?,
            };
            let (position, since, worker) = (row.get(2)?, row.get(7)?, worker_id(row, 8)?);
            Ok(Due {
                queue: runnable.queue.clone(),
                row: row.get(0)?,
                task_row: row.get(1)?,
                position,
                step,
                since,
                worker,
            })
        })?);
    }
    found.sort_by_key(|due| (due.since, due.row));
    // A definition may be named twice.
    found.dedup_by_key(|due| due.row);
    for (queue, limit) in &batch.limits {
        let mut room = limit.saturating_sub(running(tx, queue)?);
        found.retain(|due| {
            let kept = due.queue != *queue || room > 0;
            room -= u32::from(kept && due.queue == *queue);
            kept
        });
    }
    found.truncate(wanted);
    Ok(found)
}

/// How many attempts run on a queue.
fn running(tx: &Tx<'_>, queue: &Queue) -> Result<u32, StoreError> {
    let sql = include_str!("../../sql/sqlite/claim.running.sql");
    let count = tx.row(sql, (queue.as_str(), tx.now_us()), |row| row.get(0))?;
    Ok(count.unwrap_or(0))
}

fn take(tx: &mut Tx<'_>, batch: &mut Batch, due: &Due) -> Result<(), StoreError> {
    match on_claim(due.step) {
        OnClaim::GiveUp(failure) => give_up(tx, batch, due, &failure),
        OnClaim::Run { lost } => run(tx, batch, due, lost),
    }
}

fn run(tx: &mut Tx<'_>, batch: &mut Batch, due: &Due, lost: bool) -> Result<(), StoreError> {
    let (lease_until, worker) = (batch.lease_until(tx), batch.worker());
    let attempt = due.step.attempts + 1;
    let lost_attempts = due.step.lost_attempts + u32::from(lost);
    tx.execute(
        include_str!("../../sql/sqlite/claim.take.sql"),
        (
            due.row,
            lost_attempts,
            worker.map(Id::from),
            lease_until,
            tx.now_us(),
        ),
    )?;
    let work = batch.work(tx, due.task_row)?;
    work.start(tx)?;
    let pending = match due.step.state {
        StepState::Error => {
            let reason = Some(Reason::Retry);
            let note = Note {
                attempt: Some(attempt),
                reason,
                ..Note::default()
            };
            work.move_step(tx, due.position, StepState::Error, StepEvent::Retry, note)?
        }
        StepState::InProgress => {
            let attempt = Some(due.step.attempts);
            let reason = Some(Reason::LeaseLost);
            let note = Note {
                attempt,
                worker: due.worker,
                reason,
                ..Note::default()
            };
            work.move_step(
                tx,
                due.position,
                StepState::InProgress,
                StepEvent::Release,
                note,
            )?
        }
        state => state,
    };
    let note = Note {
        attempt: Some(attempt),
        worker,
        ..Note::default()
    };
    let running = work.move_step(tx, due.position, pending, StepEvent::Claim, note)?;
    let before = Standing {
        state: due.step.state,
        open: true,
    };
    work.count(
        Some(before),
        Standing {
            state: running,
            open: true,
        },
    );
    let lease = lease(work, due.position, due.row, attempt);
    batch.claimed(lease, due.step.attempt_limit);
    Ok(())
}

fn give_up(
    tx: &mut Tx<'_>,
    batch: &mut Batch,
    due: &Due,
    failure: &Failure,
) -> Result<(), StoreError> {
    tx.execute(
        include_str!("../../sql/sqlite/claim.give_up.sql"),
        (due.row, failure.kind.as_str(), tx.now_us()),
    )?;
    let work = batch.work(tx, due.task_row)?;
    let note = Note {
        attempt: Some(due.step.attempts),
        worker: due.worker,
        reason: Some(Reason::LeaseLost),
        failure: Some(failure),
        ..Note::default()
    };
    let failed = work.move_step(tx, due.position, due.step.state, StepEvent::Fail, note)?;
    work.abandon_subtasks(tx, due.position)?;
    let before = Standing {
        state: due.step.state,
        open: true,
    };
    work.count(
        Some(before),
        Standing {
            state: failed,
            open: false,
        },
    );
    let mut ends = ParentEnds::new();
    let failure = ParentEnd::Failure;
    note_end(
        &mut ends,
        due.task_row,
        &work.template,
        due.position,
        failure,
    );
    count_down(tx, batch, ends)
}

/// When something is due next: the end of one's own leases included, which a heartbeat moves.
fn next_due(tx: &Tx<'_>, budget: &ClaimBudget) -> Result<Option<jiff::Timestamp>, StoreError> {
    let sql = include_str!("../../sql/sqlite/claim.next_deadline.sql");
    let mut next: Option<i64> = tx.row(sql, [], |row| row.get(0))?.flatten();
    for runnable in budget.runnable.iter() {
        let sql = include_str!("../../sql/sqlite/claim.next_due.sql");
        let key = (runnable.queue.as_str(), runnable.template.0, tx.now_us());
        let due: Option<i64> = tx.row(sql, key, |row| row.get(0))?.flatten();
        next = [next, due].into_iter().flatten().min();
    }
    let time = |us| jiff::Timestamp::from_microsecond(us);
    next.map(time)
        .transpose()
        .map_err(|error| StoreError::BadRow(error.to_string()))
}
