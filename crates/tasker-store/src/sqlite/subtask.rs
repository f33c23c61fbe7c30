//! Tasks that tasks start: what they are to the step that started them, and what is left to do after a
//! task that has failed.

use jiff::Timestamp;
use rusqlite::Row;
use tasker_model::id::{Position, StepKey, TaskId};
use tasker_model::json::Json;
use tasker_model::name::StepName;
use tasker_model::subtask::{Origin, SubtaskPlan, SubtaskStanding, SubtaskTally};
use tasker_model::task::TaskState;
use tasker_model::template::TaskTemplate;
use tasker_model::wait::NEVER;

use super::row::{Id, task_id, time, word};
use super::transaction::Tx;
use crate::error::StoreError;
use crate::record::{SubtaskRecord, TemplateId};
use crate::store::{Aftermath, NewOrigin, NewTask};

/// A task's place among the sub-tasks of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Membership {
    parent: StepKey,
    /// Whether it was held when this transaction read it; another one's end may have started it since.
    pub(super) held: bool,
}

/// What a change means for a tally.
#[derive(Default)]
struct Change {
    created: i64,
    open: i64,
    held: i64,
    failed: i64,
}

impl Membership {
    /// Counts a sub-task that has just been created.
    pub(super) fn count_new(&self, tx: &Tx<'_>) -> Result<(), StoreError> {
        let change = Change {
            created: 1,
            open: 1,
            held: i64::from(self.held),
            failed: 0,
        };
        if let Some(row) = find(tx, self.parent.task_id)? {
            count(tx, row, self.parent.position, &change)?;
        }
        Ok(())
    }

    /// Counts what became of a sub-task; starts the next that is held, and wakes the step that waits.
    /// Gives whether that left something due.
    pub(super) fn count_move(
        &self,
        tx: &Tx<'_>,
        row: i64,
        from: TaskState,
        to: TaskState,
    ) -> Result<bool, StoreError> {
        let (from, to) = (SubtaskStanding::from(from), SubtaskStanding::from(to));
        // Nothing of a task that was deleted is left to be counted.
        let parent = if from == to {
            None
        } else {
            find(tx, self.parent.task_id)?
        };
        let Some(parent) = parent else {
            return Ok(false);
        };
        let change = |standing| i64::from(to == standing) - i64::from(from == standing);
        let ends_held = self.held
            && to != SubtaskStanding::Open
            && tx.execute(include_str!("../../sql/sqlite/subtask.unhold.sql"), [row])? > 0;
        let change = Change {
            created: 0,
            open: change(SubtaskStanding::Open),
            held: -i64::from(ends_held),
            failed: change(SubtaskStanding::Failed),
        };
        let has_released = count_and_release(tx, parent, self.parent, &change)?;
        Ok(wake_if_decided(tx, parent, self.parent.position)? || has_released)
    }
}

/// Counts a change that may make room for sub-tasks that are held, and starts as many. Gives
/// whether there were any.
fn count_and_release(
    tx: &Tx<'_>,
    parent: i64,
    step: StepKey,
    change: &Change,
) -> Result<bool, StoreError> {
    let mut has_released = false;
    let mut tally = count(tx, parent, step.position, change)?;
    while tally.held > 0 && tally.has_room() && release(tx, step)? {
        has_released = true;
        let released = Change {
            held: -1,
            ..Change::default()
        };
        tally = count(tx, parent, step.position, &released)?;
    }
    Ok(has_released)
}

fn find(tx: &Tx<'_>, id: TaskId) -> Result<Option<i64>, StoreError> {
    let sql = include_str!("../../sql/sqlite/work.find.sql");
    tx.row(sql, [Id::from(id)], |row| row.get(0))
}

fn count(
    tx: &Tx<'_>,
    parent: i64,
    position: Position,
    change: &Change,
) -> Result<SubtaskTally, StoreError> {
    let sql = include_str!("../../sql/sqlite/subtask.count.sql");
    let Change {
        created,
        open,
        held,
        failed,
    } = *change;
    let row = (parent, position, created, open, held, failed);
    let tally = tx.row(sql, row, |row| tally_of(row, 0))?;
    tally.ok_or_else(|| {
        StoreError::BadRow(format!("step {position} of task row {parent} has no tally"))
    })
}

/// Starts the next sub-task that is held; gives whether there was one.
fn release(tx: &Tx<'_>, step: StepKey) -> Result<bool, StoreError> {
    let key = (Id::from(step.task_id), step.position);
    let sql = include_str!("../../sql/sqlite/subtask.release.sql");
    let Some(row) = tx.row(sql, key, |row| row.get::<_, i64>(0))? else {
        return Ok(false);
    };
    let start = (row, tx.now_us(), NEVER.as_microsecond());
    tx.execute(include_str!("../../sql/sqlite/subtask.start.sql"), start)?;
    Ok(true)
}

/// Makes a step due that waits for sub-tasks, if it need not wait any longer; gives whether that is so.
pub(super) fn wake_if_decided(
    tx: &Tx<'_>,
    task_row: i64,
    position: Position,
) -> Result<bool, StoreError> {
    if tally(tx, task_row, position)?.is_some_and(|tally| !tally.is_decided()) {
        return Ok(false);
    }
    let sql = include_str!("../../sql/sqlite/subtask.wake.sql");
    let step = (task_row, position, tx.now_us(), NEVER.as_microsecond());
    Ok(tx.execute(sql, step)? > 0)
}

/// Whether somebody wants a task that is to be created.
pub(super) enum Wanted {
    /// Not any more.
    No,
    /// Yes, and this is its place if it is a sub-task of a step.
    Yes(Option<Membership>),
}

/// Looks at where a new task comes from.
pub(super) fn begin(tx: &Tx<'_>, new: &NewTask) -> Result<Wanted, StoreError> {
    let (lease, worker, ordinal, plan, replaces) = match new.origin {
        None => return Ok(Wanted::Yes(None)),
        Some(NewOrigin::Undo { task_id }) => {
            let sql = include_str!("../../sql/sqlite/signal.task.sql");
            let state = tx.row(sql, [Id::from(task_id)], |row| word::<TaskState>(row, 1))?;
            let is_wanted = state.map(SubtaskStanding::from) == Some(SubtaskStanding::Failed);
            return Ok(if is_wanted {
                Wanted::Yes(None)
            } else {
                Wanted::No
            });
        }
        Some(NewOrigin::Step {
            lease,
            worker,
            ordinal,
            plan,
            replaces,
        }) => (lease, worker, ordinal, plan, replaces),
    };
    let holds = include_str!("../../sql/sqlite/subtask.holds_lease.sql");
    let row = (lease.step_row, Id::from(worker), lease.attempt);
    if tx.row(holds, row, |_| Ok(()))?.is_none() {
        return Ok(Wanted::No);
    }
    let StepKey { task_id, position } = lease.step;
    let SubtaskPlan {
        count: planned,
        concurrency,
        max_failures,
        gather,
    } = plan;
    let row = (
        lease.task_row,
        position,
        planned,
        concurrency,
        max_failures,
        gather.as_str(),
    );
    tx.execute(include_str!("../../sql/sqlite/subtask.plan.sql"), row)?;
    if let Some(cancelled) = replaces {
        let place = (Id::from(cancelled), Id::from(task_id), position, ordinal);
        if tx.execute(include_str!("../../sql/sqlite/subtask.replace.sql"), place)? > 0 {
            let gone = Change {
                created: -1,
                failed: -1,
                ..Change::default()
            };
            count_and_release(tx, lease.task_row, lease.step, &gone)?;
        }
    }
    let held = tally(tx, lease.task_row, position)?.is_some_and(|tally| !tally.has_room());
    let parent = lease.step;
    Ok(Wanted::Yes(Some(Membership { parent, held })))
}

/// Notes with a task that was created where it comes from.
pub(super) fn join(
    tx: &Tx<'_>,
    row: i64,
    new: &NewTask,
    membership: Option<&Membership>,
) -> Result<(), StoreError> {
    let Some(origin) = &new.origin else {
        return Ok(());
    };
    let (position, ordinal) = match origin.origin() {
        Origin::Undo { .. } => (None, None),
        Origin::Step {
            position, ordinal, ..
        } => (Some(position), Some(ordinal)),
    };
    let parent = Id::from(origin.origin().task_id());
    let held = membership.is_some_and(|of| of.held);
    let columns = (row, parent, position, ordinal, held);
    tx.execute(
        include_str!("../../sql/sqlite/subtask.belongs_to.sql"),
        columns,
    )?;
    membership.map_or(Ok(()), |of| of.count_new(tx))
}

/// Something is left to do of a task.
pub(super) fn begin_aftermath(tx: &Tx<'_>, row: i64) -> Result<(), StoreError> {
    let sql = include_str!("../../sql/sqlite/aftermath.begin.sql");
    tx.execute(sql, (row, tx.now_us())).map(drop)
}

pub(super) fn end_aftermath(
    tx: &Tx<'_>,
    task_id: TaskId,
    since: Timestamp,
) -> Result<(), StoreError> {
    let sql = include_str!("../../sql/sqlite/aftermath.end.sql");
    let task = (Id::from(task_id), since.as_microsecond());
    tx.execute(sql, task).map(drop)
}

pub(super) fn aftermaths(
    tx: &Tx<'_>,
    templates: &[TemplateId],
    limit: usize,
) -> Result<Vec<Aftermath>, StoreError> {
    let numbers: Vec<i64> = templates.iter().map(|template| template.0).collect();
    let numbers = serde_json::to_string(&numbers).expect("invariant: numbers");
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = include_str!("../../sql/sqlite/aftermath.find.sql");
    let found = tx.rows(sql, (numbers, limit), |row| {
        let task: i64 = row.get(0)?;
        Ok((task, task_id(row, 1)?, word(row, 2)?, time(row, 3)?))
    })?;
    let with_orphans = found.into_iter().map(|(row, task_id_, state, since)| {
        let sql = include_str!("../../sql/sqlite/aftermath.orphans.sql");
        let orphans = tx.rows(sql, (row, Id::from(task_id_), limit), |row| task_id(row, 0))?;
        Ok(Aftermath {
            task_id: task_id_,
            state,
            since,
            orphans,
        })
    });
    with_orphans.collect()
}

pub(super) fn subtasks(
    tx: &mut Tx<'_>,
    step: StepKey,
    from: u32,
    limit: usize,
) -> Result<Vec<SubtaskRecord>, StoreError> {
    let sql = include_str!("../../sql/sqlite/subtask.list.sql");
    let wanted = (
        Id::from(step.task_id),
        step.position,
        from,
        i64::try_from(limit).unwrap_or(i64::MAX),
    );
    let found = tx.rows(sql, wanted, |row| {
        let template = TemplateId(row.get(4)?);
        let (ordinal, task): (u32, i64) = (row.get(0)?, row.get(1)?);
        Ok((task, template, ordinal, task_id(row, 2)?, word(row, 3)?))
    })?;
    let mut records = Vec::with_capacity(found.len());
    for (row, template, ordinal, task_id, state) in found {
        let template = tx.template(template)?;
        records.push(SubtaskRecord {
            ordinal,
            task_id,
            state,
            results: last_results(tx, row, &template)?,
        });
    }
    Ok(records)
}

/// The results of the steps on which no other depends.
fn last_results(
    tx: &Tx<'_>,
    row: i64,
    template: &TaskTemplate,
) -> Result<Vec<(StepName, Option<Json>)>, StoreError> {
    let sql = include_str!("../../sql/sqlite/claim.result.sql");
    let steps = (0..).zip(&template.source().steps);
    let last = steps.filter(|(position, _)| template.dag().children(*position).is_empty());
    let results = last.map(|(position, step)| {
        let result = tx.row(sql, (row, position), |row| row.get::<_, Option<String>>(0))?;
        let result = result.flatten().map(|text| Json::from_stored(&text));
        Ok((step.name.clone(), result))
    });
    results.collect()
}

/// The task that undoes what one did, and its state.
pub(super) fn undone_by(
    tx: &Tx<'_>,
    id: TaskId,
) -> Result<Option<(TaskId, TaskState)>, StoreError> {
    let sql = include_str!("../../sql/sqlite/subtask.undone_by.sql");
    tx.row(sql, [Id::from(id)], |row| {
        Ok((task_id(row, 0)?, word(row, 1)?))
    })
}

/// The sub-tasks of a step, as counted.
pub(super) fn tally(
    tx: &Tx<'_>,
    task_row: i64,
    position: Position,
) -> Result<Option<SubtaskTally>, StoreError> {
    let sql = include_str!("../../sql/sqlite/subtask.tally.sql");
    tx.row(sql, (task_row, position), |row| tally_of(row, 0))
}

/// The tally of a row of a join.
pub(super) fn tally_or_none(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<SubtaskTally>> {
    let is_there = row.get::<_, Option<u32>>(first)?.is_some();
    is_there.then(|| tally_of(row, first)).transpose()
}

fn tally_of(row: &Row<'_>, first: usize) -> rusqlite::Result<SubtaskTally> {
    let plan = SubtaskPlan {
        count: row.get(first)?,
        concurrency: row.get(first + 1)?,
        max_failures: row.get(first + 2)?,
        gather: word(row, first + 3)?,
    };
    Ok(SubtaskTally {
        plan,
        created: row.get(first + 4)?,
        open: row.get(first + 5)?,
        held: row.get(first + 6)?,
        failed: row.get(first + 7)?,
    })
}

/// Where a task comes from: the columns `parent_id`, `parent_position` and `ordinal`.
pub(super) fn origin(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Origin>> {
    let Some(parent) = row.get::<_, Option<Id>>(first)? else {
        return Ok(None);
    };
    let task_id = TaskId::from_uuid(parent.0);
    let (position, ordinal) = (row.get(first + 1)?, row.get(first + 2)?);
    Ok(match (position, ordinal) {
        (Some(position), Some(ordinal)) => Some(Origin::Step {
            task_id,
            position,
            ordinal,
        }),
        // Another sub-task has taken its place.
        (Some(_), None) => None,
        (None, _) => Some(Origin::Undo { task_id }),
    })
}

/// A task's place among the sub-tasks of a step: those columns, and `held`.
pub(super) fn membership(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Membership>> {
    let parent = origin(row, first)?.and_then(|origin| origin.step());
    let held = row.get(first + 3)?;
    Ok(parent.map(|parent| Membership { parent, held }))
}
