//! Reading a task whole, and writing back what an order or a deadline changed.

use jiff::Timestamp;
use tasker_model::id::TaskId;
use tasker_model::json::Json;
use tasker_model::name::SignalName;
use tasker_model::outcome::FailureKind;
use tasker_model::task::TaskState;
use tasker_model::transition::Reason;

use super::row::{Id, task_id, time_or_none, word, word_or_none, worker_id};
use super::subtask::{Membership, begin_aftermath, membership, undone_by};
use super::transaction::Tx;
use crate::error::StoreError;
use crate::record::TemplateId;
use crate::sheet::{Entry, Sheet, Step};
use crate::store::Order;

/// Tasks past their deadline that one claim deals with; the rest is the next claim's.
const DEADLINES_MAX: u32 = 100;

pub(super) fn operate(
    tx: &mut Tx<'_>,
    id: TaskId,
    order: &Order,
    actor: &str,
) -> Result<TaskState, StoreError> {
    let sql = include_str!("../../sql/sqlite/work.find.sql");
    let row = tx.row(sql, [Id::from(id)], |row| row.get(0))?;
    let row = row.ok_or(StoreError::NoSuchTask(id))?;
    let (mut sheet, membership) = load(tx, row)?;
    sheet.undone_by = undone_by(tx, id)?.map(|(id, _)| id);
    sheet.operate(order, actor)?;
    save(tx, row, &sheet, membership.as_ref())?;
    Ok(sheet.state)
}

/// Fails every open step of tasks whose deadline has passed; gives those tasks and their states.
pub(super) fn fail_past_deadline(tx: &mut Tx<'_>) -> Result<Vec<(TaskId, TaskState)>, StoreError> {
    let sql = include_str!("../../sql/sqlite/claim.past_deadline.sql");
    let late = tx.rows(sql, (tx.now_us(), DEADLINES_MAX), |row| row.get(0))?;
    let mut finished = Vec::with_capacity(late.len());
    for row in late {
        let (mut sheet, membership) = load(tx, row)?;
        sheet.exceed_deadline()?;
        save(tx, row, &sheet, membership.as_ref())?;
        finished.push((sheet.id, sheet.state));
    }
    Ok(finished)
}

fn load(tx: &mut Tx<'_>, row: i64) -> Result<(Sheet, Option<Membership>), StoreError> {
    let sql = include_str!("../../sql/sqlite/sheet.task.sql");
    let found = tx.row(sql, [row], |columns| {
        let template = TemplateId(columns.get(1)?);
        Ok((
            task_id(columns, 0)?,
            template,
            word(columns, 2)?,
            columns.get(3)?,
            membership(columns, 4)?,
        ))
    })?;
    let missing = || StoreError::BadRow(format!("no task has row {row}"));
    let (id, template, state, transitions, membership) = found.ok_or_else(missing)?;
    let sql = include_str!("../../sql/sqlite/sheet.steps.sql");
    let steps = tx.rows(sql, [row], |row| {
        Ok(Step {
            position: row.get(0)?,
            state: word(row, 1)?,
            attempts: row.get(2)?,
            attempt_limit: row.get(3)?,
            lost_attempts: row.get(4)?,
            unfinished_parents: row.get(5)?,
            due_at: time_or_none(row, 6)?,
            failure: word_or_none(row, 7)?,
            worker: worker_id(row, 8)?,
            finished_at: time_or_none(row, 9)?,
            awaited: row.get(10)?,
            waited_until: time_or_none(row, 11)?,
            awaits: word_or_none(row, 12)?,
            result: None,
        })
    })?;
    let template = tx.template(template)?;
    let sheet = Sheet::new(id, template, state, transitions, steps, tx.now);
    Ok((sheet, membership))
}

fn save(
    tx: &Tx<'_>,
    row: i64,
    sheet: &Sheet,
    membership: Option<&Membership>,
) -> Result<(), StoreError> {
    for step in sheet.changed() {
        let changed = tx.execute(
            include_str!("../../sql/sqlite/sheet.save_step.sql"),
            (
                row,
                step.position,
                step.state.as_str(),
                step.attempt_limit,
                step.lost_attempts,
                step.unfinished_parents,
                step.due_at.map(Timestamp::as_microsecond),
                step.failure.map(FailureKind::as_str),
                step.worker.map(Id::from),
                step.finished_at.map(Timestamp::as_microsecond),
                step.result.as_ref().map(Json::as_str),
                step.awaited,
                step.waited_until.map(Timestamp::as_microsecond),
                step.awaits.as_ref().map(SignalName::as_str),
            ),
        )?;
        assert_eq!(changed, 1, "the step's row was read in this transaction");
    }
    let mut sequence = sheet.transitions;
    for entry in &sheet.entries {
        sequence += 1;
        append(tx, row, sequence, entry)?;
    }
    let tally = sheet.tally();
    let sql = if sheet.moved() {
        include_str!("../../sql/sqlite/work.save_state.sql")
    } else {
        include_str!("../../sql/sqlite/work.save_counts.sql")
    };
    let counts = (
        row,
        tally.done,
        tally.open,
        tally.failed,
        tally.cancelled,
        sequence,
    );
    let changed = if sheet.moved() {
        let finished_at = sheet.state.is_final().then(|| tx.now_us());
        let state = (sheet.state.as_str(), finished_at, sheet.drops_deadline());
        let (row, done, open, failed, cancelled, sequence) = counts;
        let values = (
            row, done, open, failed, cancelled, sequence, state.0, state.1, state.2,
        );
        tx.execute(sql, values)?
    } else {
        tx.execute(sql, counts)?
    };
    assert_eq!(changed, 1, "the task's row was read in this transaction");
    if let Some(membership) = membership {
        membership.count_move(tx, row, sheet.was(), sheet.state)?;
    }
    if sheet.leaves_aftermath() {
        begin_aftermath(tx, row)?;
    }
    Ok(())
}

fn append(tx: &Tx<'_>, row: i64, sequence: u32, entry: &Entry) -> Result<(), StoreError> {
    let note = &entry.note;
    let failure = note
        .failure
        .as_ref()
        .map(|failure| serde_json::to_string(failure).expect("invariant: plain data"));
    tx.execute(
        include_str!("../../sql/sqlite/work.transition.sql"),
        (
            row,
            sequence,
            entry.position,
            Some(entry.from),
            entry.to,
            tx.now_us(),
            note.attempt,
            note.worker.map(Id::from),
            &note.actor,
            note.reason.map(Reason::as_str),
            None::<i64>,
            failure,
            None::<i64>,
            None::<&str>,
        ),
    )
    .map(drop)
}
