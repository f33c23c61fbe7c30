//! Recording the ends of attempts, and what follows from them.

use tasker_model::id::WorkerId;
use tasker_model::json::Json;
use tasker_model::name::SignalName;
use tasker_model::outcome::{Failure, Settlement};
use tasker_model::step::{StepEvent, StepState};
use tasker_model::transition::Reason;
use tasker_model::trigger::ParentEnd;
use tasker_model::wait::{NEVER, Until, Wait};

use super::children::{ParentEnds, count_down, note_end};
use super::claim::claim_due;
use super::row::{Id, time_or_none};
use super::subtask::wake_if_decided;
use super::transaction::Tx;
use super::work::{Batch, Note, Standing, after};
use crate::error::StoreError;
use crate::store::{ClaimBudget, Completion, Progress, Recorded};

pub(super) fn complete(
    tx: &mut Tx<'_>,
    worker: WorkerId,
    completions: &[Completion],
    budget: Option<&ClaimBudget>,
) -> Result<(Vec<Recorded>, Progress), StoreError> {
    let mut batch = Batch::new(tx, budget)?;
    let mut ends = ParentEnds::new();
    let recorded = completions
        .iter()
        .map(|completion| record_end(tx, &mut batch, worker, completion, &mut ends))
        .collect::<Result<_, _>>()?;
    count_down(tx, &mut batch, ends)?;
    if budget.is_some_and(|budget| budget.also_due) {
        claim_due(tx, &mut batch)?;
    }
    Ok((recorded, batch.finish(tx)?))
}

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
    ends: &mut ParentEnds,
) -> Result<Recorded, StoreError> {
    let lease = completion.lease;
    let end = match &completion.settlement {
        Settlement::HandBack => return hand_back(tx, batch, worker, completion),
        Settlement::Wait(wait) => return put_by(tx, batch, worker, completion, wait),
        settlement => End::of(settlement, tx.now)?,
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
        reason: skip_reason(&completion.settlement),
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
    if end.state == StepState::Error && due_at.is_none() {
        work.abandon_subtasks(tx, position)?;
    }
    if let Some(end) = ParentEnd::of(end.state, due_at.is_some()) {
        note_end(ends, lease.task_row, &work.template, position, end);
    }
    let queue = batch.work(tx, lease.task_row)?.template.queue(position);
    // There is room on the queue now.
    batch.left_due |= batch.is_limited(&queue);
    if let Some(result) = end.result {
        annotate(tx, completion)?;
        batch
            .results
            .insert((lease.task_row, position), (result.clone(), end.state));
    }
    Ok(Recorded::Yes)
}

fn annotate(tx: &Tx<'_>, completion: &Completion) -> Result<(), StoreError> {
    let lease = completion.lease;
    for note in &completion.annotations {
        let (kind, note) = (note.annotation_type.as_str(), note.annotation.as_str());
        let row = (lease.task_row, lease.step.position, kind, note, tx.now_us());
        tx.execute(include_str!("../../sql/sqlite/complete.annotate.sql"), row)?;
    }
    Ok(())
}

fn skip_reason(settlement: &Settlement) -> Option<Reason> {
    match settlement {
        Settlement::Skip { cause } => Some(Reason::from(*cause)),
        _ => None,
    }
}

impl End<'_> {
    /// What an attempt's end means for its row, unless the step goes back.
    fn of(settlement: &Settlement, now: jiff::Timestamp) -> Result<End<'_>, StoreError> {
        let running = StepState::InProgress;
        Ok(match settlement {
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
            Settlement::Skip { .. } => End {
                state: running.after(StepEvent::Decline)?,
                due_at: None,
                failure: None,
                result: None,
            },
            Settlement::HandBack | Settlement::Wait(_) => {
                let text = "a step that goes back has not ended";
                return Err(StoreError::Bug(text.to_owned()));
            }
        })
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

/// Gives back a step that waits for a time or a signal.
fn put_by(
    tx: &mut Tx<'_>,
    batch: &mut Batch,
    worker: WorkerId,
    completion: &Completion,
    wait: &Wait,
) -> Result<Recorded, StoreError> {
    let lease = completion.lease;
    let until = match wait.until {
        Until::After(delay_ms) => after(tx.now, delay_ms).min(NEVER),
        Until::At(time) => time.min(NEVER),
        Until::Signalled | Until::Subtasks => NEVER,
    };
    let row = (
        lease.step_row,
        Id::from(worker),
        lease.attempt,
        until.as_microsecond(),
        wait.signal.as_ref().map(SignalName::as_str),
        tx.now_us(),
        lease.task_row,
    );
    let sql = include_str!("../../sql/sqlite/complete.wait.sql");
    let Some(mut due_at) = tx.row(sql, row, |row| time_or_none(row, 0))? else {
        return Ok(Recorded::LeaseLost);
    };
    if wait.until == Until::Subtasks && wake_if_decided(tx, lease.task_row, lease.step.position)? {
        due_at = Some(tx.now);
    }
    let note = Note {
        attempt: Some(lease.attempt),
        worker: Some(worker),
        reason: Some(Reason::Waiting),
        retry_at: due_at,
        log: completion.log.as_deref(),
        ..Note::default()
    };
    let work = batch.work(tx, lease.task_row)?;
    let (position, running) = (lease.step.position, StepState::InProgress);
    work.move_step(tx, position, running, StepEvent::Release, note)?;
    batch.left_due |= due_at.is_some_and(|due_at| due_at <= tx.now);
    Ok(Recorded::Yes)
}
