//! What the ends of steps mean for their children.

use std::collections::BTreeMap;

use tasker_model::id::Position;
use tasker_model::step::{StepEvent, StepState};
use tasker_model::template::TaskTemplate;
use tasker_model::trigger::{ParentEnd, TriggerRule};

use super::row::{Id, word};
use super::transaction::Tx;
use super::work::{Batch, Note, Standing, lease};
use crate::error::StoreError;

/// What became of a step's parents in this transaction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    /// How many are done.
    done: u32,
    /// How many ended as the step's rule asks.
    counted: i32,
}

/// By task and step. Ordered, so that every transaction takes its rows in the same order.
pub(super) type ParentEnds = BTreeMap<(i64, Position), Ends>;

/// Notes for its children that a step has ended.
pub(super) fn note_end(
    ends: &mut ParentEnds,
    task_row: i64,
    template: &TaskTemplate,
    position: Position,
    end: ParentEnd,
) {
    let done = end != ParentEnd::Failure;
    if !done && !template.counts_ends() {
        return;
    }
    for &child in template.dag().children(position) {
        let counted = template.counted(child, end).unwrap_or(0);
        if done || counted > 0 {
            let of_child = ends.entry((task_row, child)).or_default();
            of_child.done += u32::from(done);
            of_child.counted += counted;
        }
    }
}

/// Counts parents that have ended; steps whose rule is decided by it become due, or are claimed at once where
/// the budget allows.
pub(super) fn count_down(
    tx: &mut Tx<'_>,
    batch: &mut Batch,
    ends: ParentEnds,
) -> Result<(), StoreError> {
    for ((task_row, position), of_parents) in ends {
        let work = batch.work(tx, task_row)?;
        if work.template.awaited(position).is_some() {
            count_ends(tx, batch, task_row, position, of_parents)?;
            continue;
        }
        let parents = of_parents.done;
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

/// The same for a step whose rule counts ends: it may be decided while parents are still at work.
fn count_ends(
    tx: &mut Tx<'_>,
    batch: &mut Batch,
    task_row: i64,
    position: Position,
    of_parents: Ends,
) -> Result<(), StoreError> {
    let sql = include_str!("../../sql/sqlite/complete.rule.sql");
    let found = tx.row(sql, (task_row, position), |row| {
        let state: StepState = word(row, 0)?;
        let due_at: Option<i64> = row.get(1)?;
        Ok((
            state,
            due_at,
            row.get::<_, u32>(2)?,
            row.get::<_, Option<i32>>(3)?,
        ))
    })?;
    let missing = || StoreError::BadRow(format!("task row {task_row} lacks step {position}"));
    let (state, due_at, unfinished, awaited) = found.ok_or_else(missing)?;
    let awaited = awaited.map(|awaited| awaited - of_parents.counted);
    let decided = TriggerRule::is_decided(unfinished - of_parents.done, awaited);
    let ripe = decided && state == StepState::Pending && due_at.is_none();
    let due_at = ripe.then(|| tx.now_us());
    let row = (
        task_row,
        position,
        of_parents.done,
        of_parents.counted,
        due_at,
    );
    tx.execute(
        include_str!("../../sql/sqlite/complete.count_ends.sql"),
        row,
    )?;
    if ripe {
        let standing = |open| Standing { state, open };
        let work = batch.work(tx, task_row)?;
        work.count(Some(standing(false)), standing(true));
        batch.left_due = true;
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
