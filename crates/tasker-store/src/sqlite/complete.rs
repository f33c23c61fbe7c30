//! Recording the ends of attempts, and what follows from them.

use std::collections::BTreeMap;

use tasker_model::id::{Position, WorkerId};
use tasker_model::json::Json;
use tasker_model::outcome::{Failure, Settlement};
use tasker_model::step::{StepEvent, StepState};
use tasker_model::transition::Reason;

use super::claim::claim_due;
use super::row::{Id, time_or_none, word};
use super::transaction::Tx;
use super::work::{Batch, Note, Standing, after, lease};
use crate::error::StoreError;
use crate::store::{ClaimBudget, Completion, Progress, Recorded};

pub(super) fn complete(
    tx: &mut Tx<'_>,
    worker: WorkerId,
    completions: &[Completion],
    budget: Option<&ClaimBudget>,
) -> Result<(Vec<Recorded>, Progress), StoreError> {
    let mut batch = Batch::new(tx, budget)?;
    let mut done = BTreeMap::new();
    let recorded = completions
        .iter()
        .map(|completion| record_end(tx, &mut batch, worker, completion, &mut done))
        .collect::<Result<_, _>>()?;
    count_down(tx, &mut batch, done)?;
    if budget.is_some_and(|budget| budget.also_due) {
        claim_due(tx, &mut batch)?;
    }
    Ok((recorded, batch.finish(tx)?))
}

/// How many parents of a step were done in this transaction, by task and step. Ordered, so that
/// every transaction takes its rows in the same order.
pub(super) type DoneParents = BTreeMap<(i64, Position), u32>;

/// What a settlement writes to the step's row.
struct End<'a> {
    state: StepState,
    due_at: Option<jiff::Timestamp>,
    failure: Option<&'a Failure>,
    result: Option<&'a Json>,
}

fn record_end(
    tx: &mut Tx<'_>,
    batch: &mut Batch,
    worker: WorkerId,
    completion: &Completion,
    done: &mut DoneParents,
) -> Result<Recorded, StoreError> {
    let lease = completion.lease;
    let Some(end) = End::of(&completion.settlement, tx.now)? else {
        return hand_back(tx, batch, worker, completion);
    };
    let sql = include_str!("../../sql/sqlite/complete.step.sql");
    let row = (
        lease.step_row,
        Id::from(worker),
        lease.attempt,
        end.state.as_str(),
        end.due_at.map(jiff::Timestamp::as_microsecond),
        end.failure.map(|failure| failure.kind.as_str()),
        end.result.map(Json::as_str),
        tx.now_us(),
        end.due_at.is_none() && end.failure.is_some_and(|failure| failure.kind.may_retry()),
    );
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, time_or_none(row, 1)?));
    let Some((started_at, due_at)) = tx.row(sql, row, read)? else {
        return Ok(Recorded::LeaseLost);
    };
    let note = Note {
        attempt: Some(lease.attempt),
        worker: Some(worker),
        duration_us: Some((tx.now_us() - started_at).max(0)),
        failure: end.failure,
        retry_at: due_at,
        log: completion.log.as_deref(),
        ..Note::default()
    };
    let position = lease.step.position;
    let running = StepState::InProgress;
    let work = batch.work(tx, lease.task_row)?;
    work.record(
        tx,
        Some(position),
        Some(running.as_str()),
        end.state.as_str(),
        note,
    )?;
    let before = Standing {
        state: running,
        open: true,
    };
    work.count(
        Some(before),
        Standing {
            state: end.state,
            open: due_at.is_some(),
        },
    );
    if end.state.is_done() {
        for child in work.template.dag().children(position) {
            *done.entry((lease.task_row, *child)).or_default() += 1;
        }
    }
    let queue = batch.work(tx, lease.task_row)?.template.queue(position);
    // There is room on the queue now.
    batch.left_due |= batch.is_limited(&queue);
    if let Some(result) = end.result {
        batch
            .results
            .insert((lease.task_row, position), result.clone());
    }
    Ok(Recorded::Yes)
}

impl End<'_> {
    /// What an attempt's end means for its row; `None` if it is handed back.
    fn of(settlement: &Settlement, now: jiff::Timestamp) -> Result<Option<End<'_>>, StoreError> {
        let running = StepState::InProgress;
        Ok(Some(match settlement {
            Settlement::Complete { result } => {
                let state = running.after(StepEvent::Complete)?;
                End {
                    state,
                    due_at: None,
                    failure: None,
                    result: Some(result),
                }
            }
            Settlement::Retry { failure, delay_ms } => {
                let state = running.after(StepEvent::Fail)?;
                let due_at = Some(after(now, *delay_ms));
                End {
                    state,
                    due_at,
                    failure: Some(failure),
                    result: None,
                }
            }
            Settlement::Fail { failure } => {
                let state = running.after(StepEvent::Fail)?;
                End {
                    state,
                    due_at: None,
                    failure: Some(failure),
                    result: None,
                }
            }
            Settlement::HandBack => return Ok(None),
        }))
    }
}

fn hand_back(
    tx: &mut Tx<'_>,
    batch: &mut Batch,
    worker: WorkerId,
    completion: &Completion,
) -> Result<Recorded, StoreError> {
    let lease = completion.lease;
    let sql = include_str!("../../sql/sqlite/complete.hand_back.sql");
    let row = (lease.step_row, Id::from(worker), lease.attempt, tx.now_us());
    if tx
        .row(sql, row, |row| row.get::<_, Option<i64>>(0))?
        .is_none()
    {
        return Ok(Recorded::LeaseLost);
    }
    let note = Note {
        attempt: Some(lease.attempt),
        worker: Some(worker),
        reason: Some(Reason::HandedBack),
        log: completion.log.as_deref(),
        ..Note::default()
    };
    let work = batch.work(tx, lease.task_row)?;
    let position = lease.step.position;
    work.move_step(
        tx,
        position,
        StepState::InProgress,
        StepEvent::Release,
        note,
    )?;
    batch.left_due = true;
    Ok(Recorded::Yes)
}

/// Counts done parents down; steps that have none left become due, or are claimed at once where
/// the budget allows.
pub(super) fn count_down(
    tx: &mut Tx<'_>,
    batch: &mut Batch,
    done: DoneParents,
) -> Result<(), StoreError> {
    for ((task_row, position), parents) in done {
        let work = batch.work(tx, task_row)?;
        let (template_id, queue) = (work.template_id, work.template.queue(position));
        let hand_over = batch.may_claim(template_id, &queue);
        let child = if hand_over {
            let lease_until = batch.lease_until(tx);
            let worker = batch.worker().map(Id::from);
            let row = (
                task_row,
                position,
                parents,
                lease_until,
                worker,
                tx.now_us(),
            );
            tx.row(
                include_str!("../../sql/sqlite/complete.hand_over.sql"),
                row,
                counted,
            )?
        } else {
            let row = (task_row, position, parents, tx.now_us());
            tx.row(
                include_str!("../../sql/sqlite/complete.count_down.sql"),
                row,
                counted,
            )?
        };
        let missing = || StoreError::BadRow(format!("task row {task_row} lacks step {position}"));
        let child = child.ok_or_else(missing)?;
        let claimed = hand_over && child.unfinished == 0 && child.state == StepState::InProgress;
        if claimed {
            let worker = batch.worker();
            let work = batch.work(tx, task_row)?;
            work.start(tx)?;
            let note = Note {
                attempt: Some(child.attempts),
                worker,
                ..Note::default()
            };
            let pending = StepState::Pending;
            let state = work.move_step(tx, position, pending, StepEvent::Claim, note)?;
            let before = Standing {
                state: pending,
                open: false,
            };
            work.count(Some(before), Standing { state, open: true });
            let lease = lease(work, position, child.row, child.attempts);
            batch.claimed(lease, child.attempt_limit);
        } else if child.unfinished == 0 && child.state == StepState::Pending {
            let work = batch.work(tx, task_row)?;
            let standing = |open| Standing {
                state: StepState::Pending,
                open,
            };
            work.count(Some(standing(false)), standing(true));
            batch.left_due = true;
        }
    }
    Ok(())
}

struct Child {
    row: i64,
    state: StepState,
    unfinished: u32,
    attempts: u32,
    attempt_limit: u32,
}

fn counted(row: &rusqlite::Row<'_>) -> rusqlite::Result<Child> {
    let (attempts, attempt_limit) = (row.get(3)?, row.get(4)?);
    let unfinished = row.get(2)?;
    Ok(Child {
        row: row.get(0)?,
        state: word(row, 1)?,
        unfinished,
        attempts,
        attempt_limit,
    })
}
