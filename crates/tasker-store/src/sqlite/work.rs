//! What a transaction does to the tasks that it touches.
//!
//! [`Work`] is one task within one transaction: its state and counts are read once, changed in
//! memory by every step that moves, and written once at the end. It is the only writer of
//! transitions and of the task's state, so that each change has exactly one record, in order and
//! with its true source state.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use tasker_model::id::{Position, StepKey, TaskId, WorkerId};
use tasker_model::json::Json;
use tasker_model::name::Queue;
use tasker_model::outcome::Failure;
use tasker_model::rollup::{StepTally, rollup};
use tasker_model::step::{StepEvent, StepState};
use tasker_model::subtask::SubtaskStanding;
use tasker_model::task::{TaskEvent, TaskState};
use tasker_model::template::TaskTemplate;
use tasker_model::transition::Reason;

use super::row::{Id, task_id, time_or_none, word};
use super::subtask::{Membership, begin_aftermath, membership, tally};
use super::transaction::Tx;
use crate::error::StoreError;
use crate::record::TemplateId;
use crate::store::{ClaimBudget, ClaimedStep, Lease, Progress};

/// What a transition says beside the two states.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Note<'a> {
    pub(super) attempt: Option<u32>,
    pub(super) worker: Option<WorkerId>,
    pub(super) actor: Option<&'a str>,
    pub(super) reason: Option<Reason>,
    pub(super) duration_us: Option<i64>,
    pub(super) failure: Option<&'a Failure>,
    pub(super) retry_at: Option<Timestamp>,
    pub(super) log: Option<&'a str>,
}

/// What counts of a step for its task: its state, and whether it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: StepState,
    pub(super) open: bool,
}

/// One task within one transaction.
pub(super) struct Work {
    pub(super) row: i64,
    pub(super) id: TaskId,
    pub(super) template_id: TemplateId,
    pub(super) template: TaskTemplate,
    pub(super) state: TaskState,
    pub(super) tally: StepTally,
    pub(super) transitions: u32,
    /// What it is to the step that started it.
    pub(super) membership: Option<Membership>,
    /// As stored, to write only what has changed.
    stored: (TaskState, StepTally, u32),
}

impl Work {
    /// A task that is being created in this transaction, with the values its row is written with.
    pub(super) fn created(
        row: i64,
        id: TaskId,
        template: (TemplateId, TaskTemplate),
        planned: (TaskState, StepTally, u32),
        membership: Option<Membership>,
    ) -> Work {
        let (template_id, template) = template;
        let tally = StepTally {
            total: planned.1.total,
            ..StepTally::default()
        };
        let state = TaskState::Pending;
        Work {
            row,
            id,
            template_id,
            template,
            state,
            tally,
            transitions: 0,
            membership,
            stored: planned,
        }
    }

    fn load(tx: &mut Tx<'_>, row: i64) -> Result<Work, StoreError> {
        let sql = include_str!("../../sql/sqlite/work.load.sql");
        let found = tx.row(sql, [row], |columns| {
            let tally = StepTally {
                total: columns.get(3)?,
                done: columns.get(4)?,
                open: columns.get(5)?,
                failed: columns.get(6)?,
                cancelled: columns.get(7)?,
            };
            let id = task_id(columns, 0)?;
            Ok((
                id,
                TemplateId(columns.get(1)?),
                word(columns, 2)?,
                tally,
                columns.get(8)?,
                membership(columns, 9)?,
            ))
        })?;
        let missing = || StoreError::BadRow(format!("no task has row {row}"));
        let (id, template_id, state, tally, transitions, membership) = found.ok_or_else(missing)?;
        let template = tx.template(template_id)?;
        let stored = (state, tally, transitions);
        Ok(Work {
            row,
            id,
            template_id,
            template,
            state,
            tally,
            transitions,
            membership,
            stored,
        })
    }

    /// Moves a step and records it. The caller writes the step's row.
    pub(super) fn move_step(
        &mut self,
        tx: &Tx<'_>,
        position: Position,
        from: StepState,
        event: StepEvent,
        note: Note<'_>,
    ) -> Result<StepState, StoreError> {
        let to = from.after(event)?;
        self.record(tx, Some(position), Some(from.as_str()), to.as_str(), note)?;
        Ok(to)
    }

    /// Moves the task itself and records it.
    pub(super) fn move_task(
        &mut self,
        tx: &Tx<'_>,
        event: TaskEvent,
        note: Note<'_>,
    ) -> Result<(), StoreError> {
        let to = self.state.after(event)?;
        self.record(tx, None, Some(self.state.as_str()), to.as_str(), note)?;
        self.state = to;
        Ok(())
    }

    /// A step starts to be claimed: the first one starts the task.
    pub(super) fn start(&mut self, tx: &Tx<'_>) -> Result<(), StoreError> {
        if self.state == TaskState::Pending {
            self.move_task(tx, TaskEvent::Start, Note::default())?;
        }
        Ok(())
    }

    /// Counts what became of a step.
    pub(super) fn count(&mut self, before: Option<Standing>, after: Standing) {
        if let Some(before) = before {
            self.add(before, u32::wrapping_sub);
        }
        self.add(after, u32::wrapping_add);
        debug_assert!(
            self.tally.open <= self.tally.total,
            "open steps: {:?}",
            self.tally
        );
        debug_assert!(
            self.tally.done <= self.tally.total,
            "done steps: {:?}",
            self.tally
        );
    }

    fn add(&mut self, step: Standing, change: fn(u32, u32) -> u32) {
        let tally = &mut self.tally;
        let final_error = step.state == StepState::Error && !step.open;
        tally.open = change(tally.open, u32::from(step.open));
        tally.done = change(tally.done, u32::from(step.state.is_done()));
        tally.failed = change(tally.failed, u32::from(final_error));
        tally.cancelled = change(
            tally.cancelled,
            u32::from(step.state == StepState::Cancelled),
        );
    }

    /// Appends to the task's record.
    pub(super) fn record(
        &mut self,
        tx: &Tx<'_>,
        position: Option<Position>,
        from: Option<&str>,
        to: &str,
        note: Note<'_>,
    ) -> Result<(), StoreError> {
        self.transitions += 1;
        let failure = note.failure.map(|failure| {
            serde_json::to_string(failure).expect("invariant: a failure is plain data")
        });
        tx.execute(
            include_str!("../../sql/sqlite/work.transition.sql"),
            (
                self.row,
                self.transitions,
                position,
                from,
                to,
                tx.now_us(),
                note.attempt,
                note.worker.map(Id::from),
                note.actor,
                note.reason.map(Reason::as_str),
                note.duration_us,
                failure,
                note.retry_at.map(Timestamp::as_microsecond),
                note.log,
            ),
        )?;
        Ok(())
    }

    /// Finishes the task if nothing of it is open any more, and writes what has changed. Gives whether that
    /// left something of another task due.
    pub(super) fn finish(&mut self, tx: &Tx<'_>) -> Result<bool, StoreError> {
        if !self.state.is_final()
            && let Some(event) = rollup(self.tally)
        {
            if self.state == TaskState::Pending && event == TaskEvent::Complete {
                self.move_task(tx, TaskEvent::Start, Note::default())?;
            }
            self.move_task(tx, event, Note::default())?;
        }
        self.save(tx)
    }

    fn save(&mut self, tx: &Tx<'_>) -> Result<bool, StoreError> {
        let now = (self.state, self.tally, self.transitions);
        let (state, tally, transitions) = now;
        let counts = (
            self.row,
            tally.done,
            tally.open,
            tally.failed,
            tally.cancelled,
            transitions,
        );
        let changed = if now == self.stored {
            return Ok(false);
        } else if state == self.stored.0 {
            tx.execute(
                include_str!("../../sql/sqlite/work.save_counts.sql"),
                counts,
            )?
        } else {
            let finished_at = state.is_final().then(|| tx.now_us());
            let drop_deadline = state.is_final() || self.stored.0.is_final();
            tx.execute(
                include_str!("../../sql/sqlite/work.save_state.sql"),
                (
                    counts.0,
                    counts.1,
                    counts.2,
                    counts.3,
                    counts.4,
                    counts.5,
                    state.as_str(),
                    finished_at,
                    drop_deadline,
                ),
            )?
        };
        assert_eq!(
            changed, 1,
            "the task's row is there: it was read in this transaction"
        );
        let mut left_due = false;
        if state != self.stored.0 {
            if let Some(membership) = &self.membership {
                left_due = membership.count_move(tx, self.row, self.stored.0, state)?;
            }
            if self.template.has_aftermath()
                && SubtaskStanding::from(state) == SubtaskStanding::Failed
            {
                begin_aftermath(tx, self.row)?;
            }
        }
        self.stored = now;
        Ok(left_due)
    }

    /// Notes that a step has failed for good and left sub-tasks open.
    pub(super) fn abandon_subtasks(
        &self,
        tx: &Tx<'_>,
        position: Position,
    ) -> Result<(), StoreError> {
        let starts_some = self.template.step(position).has_subtasks();
        if starts_some && tally(tx, self.row, position)?.is_some_and(|tally| tally.open > 0) {
            begin_aftermath(tx, self.row)?;
        }
        Ok(())
    }

    /// Whether this transaction brought the task to a final state.
    pub(super) fn became_final(&self, before: TaskState) -> bool {
        self.state.is_final() && self.state != before
    }
}

/// Everything that one verb does within a transaction.
pub(super) struct Batch {
    /// By row, so that every transaction takes its tasks in the same order.
    works: BTreeMap<i64, Work>,
    before: HashMap<i64, TaskState>,
    /// Results that this transaction wrote: their children need not read them back.
    pub(super) results: HashMap<(i64, Position), (Json, StepState)>,
    pub(super) budget: Option<ClaimBudget>,
    pub(super) slots_left: usize,
    claims: Vec<Claim>,
    /// Whether something due was left to somebody else.
    pub(super) left_due: bool,
    /// Queues with a limit, and the limit.
    pub(super) limits: Vec<(Queue, u32)>,
}

/// A claim whose inputs are still to be read.
#[derive(Clone, Copy)]
struct Claim {
    lease: Lease,
    attempt_limit: u32,
}

impl Batch {
    pub(super) fn new(tx: &Tx<'_>, budget: Option<&ClaimBudget>) -> Result<Batch, StoreError> {
        Ok(Batch {
            works: BTreeMap::new(),
            before: HashMap::new(),
            results: HashMap::new(),
            slots_left: budget.map_or(0, |budget| budget.slots),
            budget: budget.cloned(),
            claims: Vec::new(),
            left_due: false,
            limits: queue_limits(tx)?,
        })
    }

    /// The task of a row, read once.
    pub(super) fn work(&mut self, tx: &mut Tx<'_>, row: i64) -> Result<&mut Work, StoreError> {
        if !self.works.contains_key(&row) {
            let work = Work::load(tx, row)?;
            self.before.insert(row, work.state);
            self.works.insert(row, work);
        }
        Ok(self.works.get_mut(&row).expect("invariant: inserted above"))
    }

    /// Takes in a task that is being created.
    pub(super) fn adopt(&mut self, work: Work) -> &mut Work {
        let row = work.row;
        self.before.insert(row, TaskState::Pending);
        self.works.entry(row).or_insert(work)
    }

    /// When a lease that begins now ends.
    pub(super) fn lease_until(&self, tx: &Tx<'_>) -> i64 {
        let lease_ms = self.budget.as_ref().map_or(0, |budget| budget.lease_ms);
        after(tx.now, lease_ms).as_microsecond()
    }

    pub(super) fn worker(&self) -> Option<WorkerId> {
        self.budget.as_ref().map(|budget| budget.worker)
    }

    /// Whether there is a slot for a step of this definition on this queue. What a limited queue
    /// has room for is known to a look for due steps alone.
    pub(super) fn may_claim(&self, template: TemplateId, queue: &Queue) -> bool {
        let budget = self.budget.as_ref();
        self.slots_left > 0
            && !self.is_limited(queue)
            && budget.is_some_and(|budget| budget.runs(template, queue))
    }

    pub(super) fn is_limited(&self, queue: &Queue) -> bool {
        self.limits.iter().any(|(limited, _)| limited == queue)
    }

    /// Notes a claim; the row is written.
    pub(super) fn claimed(&mut self, lease: Lease, attempt_limit: u32) {
        assert!(self.slots_left > 0, "a claim needs a slot");
        assert!(
            lease.attempt <= attempt_limit,
            "attempts never exceed the limit: {lease:?}"
        );
        self.slots_left -= 1;
        self.claims.push(Claim {
            lease,
            attempt_limit,
        });
    }

    /// Writes every task that was touched, reads the inputs of what was claimed, and says what
    /// came of it all.
    pub(super) fn finish(mut self, tx: &mut Tx<'_>) -> Result<Progress, StoreError> {
        let mut progress = Progress {
            left_due: self.left_due,
            ..Progress::default()
        };
        for work in self.works.values_mut() {
            progress.left_due |= work.finish(tx)?;
            if work.became_final(self.before[&work.row]) {
                progress.finished.push((work.id, work.state));
            }
        }
        let mut contexts = HashMap::new();
        for claim in std::mem::take(&mut self.claims) {
            progress
                .claimed
                .push(self.with_inputs(tx, &claim, &mut contexts)?);
        }
        Ok(progress)
    }

    fn with_inputs(
        &mut self,
        tx: &Tx<'_>,
        claim: &Claim,
        contexts: &mut HashMap<i64, Json>,
    ) -> Result<ClaimedStep, StoreError> {
        let row = claim.lease.task_row;
        let template = self.works[&row].template.clone();
        let context = if let Some(context) = contexts.get(&row) {
            context.clone()
        } else {
            let sql = include_str!("../../sql/sqlite/claim.context.sql");
            let text = tx.row(sql, [row], |columns| columns.get::<_, String>(0))?;
            let missing = || StoreError::BadRow(format!("task row {row} has no request"));
            let context = Json::from_stored(&text.ok_or_else(missing)?);
            contexts.insert(row, context.clone());
            context
        };
        let parents = template
            .dag()
            .parents(claim.lease.step.position)
            .iter()
            .map(|parent| {
                let (result, state) = self.end_of(tx, row, *parent)?;
                Ok((*parent, result, state))
            });
        let parents = parents.collect::<Result<Vec<_>, StoreError>>()?;
        let parent_states = parents.iter().map(|(_, _, state)| *state).collect();
        let parents = parents
            .into_iter()
            .map(|(parent, result, _)| (parent, result));
        let (waited_until, signal) = waited(tx, &template, claim)?;
        let position = claim.lease.step.position;
        let subtasks = if template.step(position).has_subtasks() {
            tally(tx, row, position)?
        } else {
            None
        };
        let Claim {
            lease,
            attempt_limit,
        } = *claim;
        Ok(ClaimedStep {
            lease,
            attempt_limit,
            template,
            context,
            context_checked: true,
            parents: parents.collect(),
            parent_states,
            waited_until,
            signal,
            subtasks,
        })
    }

    /// A parent's result and state, from memory if this transaction knows them.
    fn end_of(
        &mut self,
        tx: &Tx<'_>,
        row: i64,
        parent: Position,
    ) -> Result<(Option<Json>, StepState), StoreError> {
        if let Some((result, state)) = self.results.get(&(row, parent)) {
            return Ok((Some(result.clone()), *state));
        }
        let sql = include_str!("../../sql/sqlite/claim.result.sql");
        let found = tx.row(sql, (row, parent), |columns| {
            Ok((columns.get::<_, Option<String>>(0)?, word(columns, 1)?))
        })?;
        let missing = || StoreError::BadRow(format!("task row {row} lacks step {parent}"));
        let (text, state) = found.ok_or_else(missing)?;
        let result = text.map(|text| Json::from_stored(&text));
        if let Some(result) = &result {
            // Siblings that are claimed together share their parents.
            self.results.insert((row, parent), (result.clone(), state));
        }
        Ok((result, state))
    }
}

/// Until when a claimed step has waited, and for a signal what came with it.
fn waited(
    tx: &Tx<'_>,
    template: &TaskTemplate,
    claim: &Claim,
) -> Result<(Option<Timestamp>, Option<Json>), StoreError> {
    let step = template.step(claim.lease.step.position);
    if step.wait.is_none() && !step.has_subtasks() {
        return Ok((None, None));
    }
    let sql = include_str!("../../sql/sqlite/claim.waited.sql");
    let found = tx.row(sql, [claim.lease.step_row], |columns| {
        let signal: Option<String> = columns.get(1)?;
        Ok((time_or_none(columns, 0)?, signal))
    })?;
    let (until, signal) = found.unwrap_or_default();
    Ok((until, signal.map(|signal| Json::from_stored(&signal))))
}

/// Queues with a limit; usually there are none.
fn queue_limits(tx: &Tx<'_>) -> Result<Vec<(Queue, u32)>, StoreError> {
    let sql = include_str!("../../sql/sqlite/queue.limits.sql");
    tx.rows(sql, [], |row| Ok((word(row, 0)?, row.get(1)?)))
}

/// A key and its rows, for the worker that holds the attempt.
pub(super) fn lease(work: &Work, position: Position, step_row: i64, attempt: u32) -> Lease {
    Lease {
        step: StepKey::new(work.id, position),
        attempt,
        task_row: work.row,
        step_row,
    }
}

/// A time so many milliseconds later; the end of time if that is too late for a clock.
pub(super) fn after(now: Timestamp, delay_ms: u64) -> Timestamp {
    let delay = SignedDuration::from_millis(i64::try_from(delay_ms).unwrap_or(i64::MAX));
    now.checked_add(delay).unwrap_or(Timestamp::MAX)
}
