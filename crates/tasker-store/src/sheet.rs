//! One task, read whole, changed in memory, written back: what people order, and deadlines.
//!
//! The hot path never reads a whole task; these verbs do, since an order may touch any of its
//! steps. The rules stand here once for every store: a store reads the sheet under the task's
//! lock, and writes what [`Sheet::changed`] and [`Sheet::entries`] give.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tasker_model::id::{Position, StepKey, TaskId, WorkerId};
use tasker_model::json::Json;
use tasker_model::name::SignalName;
use tasker_model::outcome::{Failure, FailureKind};
use tasker_model::readiness::{StepFacts, should_be_due};
use tasker_model::request::LABEL_CHARS_MAX;
use tasker_model::rollup::{StepTally, rollup};
use tasker_model::step::{StepEvent, StepState};
use tasker_model::subtask::SubtaskStanding;
use tasker_model::task::{TaskEvent, TaskState};
use tasker_model::template::TaskTemplate;
use tasker_model::transition::Reason;
use tasker_model::trigger::{ParentEnd, TriggerRule};
use tasker_model::wait::NEVER;

use crate::error::StoreError;
use crate::store::Order;

/// A step's row, as far as orders and deadlines are concerned.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) position: Position,
    pub(crate) state: StepState,
    pub(crate) attempts: u32,
    pub(crate) attempt_limit: u32,
    pub(crate) lost_attempts: u32,
    pub(crate) unfinished_parents: u32,
    pub(crate) due_at: Option<Timestamp>,
    pub(crate) failure: Option<FailureKind>,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) awaited: Option<i32>,
    pub(crate) waited_until: Option<Timestamp>,
    pub(crate) awaits: Option<SignalName>,
    /// A result that the order gives; `None` leaves the stored one alone.
    pub(crate) result: Option<Json>,
}

impl Step {
    fn facts(&self) -> StepFacts {
        StepFacts {
            state: self.state,
            attempts: self.attempts,
            attempt_limit: self.attempt_limit,
            unfinished_parents: self.unfinished_parents,
            awaited: self.awaited,
            due_at: self.due_at,
            failure: self.failure,
        }
    }
}

/// What a transition says beside the two states.
#[derive(Debug, Clone, Default)]
pub(crate) struct Note {
    pub(crate) attempt: Option<u32>,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) actor: Option<String>,
    pub(crate) reason: Option<Reason>,
    pub(crate) failure: Option<Failure>,
}

/// A transition to append.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The step; `None` for the task itself.
    pub(crate) position: Option<Position>,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) note: Note,
}

/// A task with all its steps, locked by the transaction that reads it.
pub(crate) struct Sheet {
    pub(crate) id: TaskId,
    pub(crate) template: TaskTemplate,
    pub(crate) state: TaskState,
    pub(crate) transitions: u32,
    /// By position.
    pub(crate) steps: Vec<Step>,
    /// The time at which everything here happens.
    pub(crate) now: Timestamp,
    pub(crate) entries: Vec<Entry>,
    /// The task that undoes what this one did.
    pub(crate) undone_by: Option<TaskId>,
    changed: BTreeSet<Position>,
    was: TaskState,
    /// When steps that are ready may start: now, or never if the task is a sub-task that is held.
    starts_at: Timestamp,
}

impl Sheet {
    pub(crate) fn new(
        id: TaskId,
        template: TaskTemplate,
        state: TaskState,
        transitions: u32,
        steps: Vec<Step>,
        now: Timestamp,
    ) -> Sheet {
        // Nothing of it has started, so that nothing of it waits for anything else.
        let is_held = state == TaskState::Pending && steps.iter().any(|s| s.due_at == Some(NEVER));
        Sheet {
            starts_at: if is_held { NEVER } else { now },
            id,
            template,
            state,
            transitions,
            steps,
            now,
            entries: Vec::new(),
            undone_by: None,
            changed: BTreeSet::new(),
            was: state,
        }
    }

    /// The steps whose rows are to be written.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &Step> {
        self.changed
            .iter()
            .map(|position| &self.steps[*position as usize])
    }

    /// The counts after the changes.
    pub(crate) fn tally(&self) -> StepTally {
        StepTally::of(self.steps.iter().map(Step::facts))
    }

    /// The state in which the task was found.
    pub(crate) const fn was(&self) -> TaskState {
        self.was
    }

    /// Whether something may be left to do: sub-tasks to cancel, or steps to undo.
    pub(crate) fn leaves_aftermath(&self) -> bool {
        let fails = SubtaskStanding::from(self.state) == SubtaskStanding::Failed;
        let has_ended =
            |step: &Step| step.due_at.is_none() && self.template.step(step.position).has_subtasks();
        self.template.has_aftermath() && (self.moved() && fails || self.changed().any(has_ended))
    }

    /// Whether the task went to another state.
    pub(crate) fn moved(&self) -> bool {
        self.state != self.was
    }

    /// Whether the task's deadline no longer holds: it is final, or was re-opened by a person.
    pub(crate) const fn drops_deadline(&self) -> bool {
        self.state.is_final() || self.was.is_final()
    }

    /// Carries out a person's order. An error means that nothing of the sheet may be written.
    pub(crate) fn operate(&mut self, order: &Order, actor: &str) -> Result<(), StoreError> {
        if actor.chars().count() > LABEL_CHARS_MAX {
            let text = format!("the actor's name is longer than {LABEL_CHARS_MAX} characters");
            return Err(StoreError::Refused(text));
        }
        let by = Note {
            actor: Some(actor.to_owned()),
            reason: Some(Reason::Operator),
            ..Note::default()
        };
        self.check_not_undone(order)?;
        match order {
            Order::CancelTask => self.cancel_task(&by)?,
            Order::RetryTask => self.retry_task(&by)?,
            Order::ResolveTask => self.move_task(TaskEvent::Resolve, by.clone())?,
            Order::CancelStep(position) => self.cancel_step(*position, &by)?,
            Order::RetryStep { position, attempts } => {
                self.open_step(*position)?;
                self.retry(*position, *attempts, &by)?;
            }
            Order::ResolveStep { position, result } => {
                self.declare_done(*position, StepEvent::Resolve, result.as_ref(), &by)?;
            }
            Order::SkipStep(position) => {
                self.declare_done(*position, StepEvent::Skip, None, &by)?;
            }
            Order::RaiseLimit {
                position,
                attempt_limit,
            } => self.raise_limit(*position, *attempt_limit, &by)?,
        }
        if !matches!(order, Order::CancelTask | Order::ResolveTask) {
            self.ripen();
        }
        self.reopen(by)?;
        self.roll_up()
    }

    /// What is being undone, or has been, cannot go on.
    fn check_not_undone(&self, order: &Order) -> Result<(), StoreError> {
        let Some(undo) = self.undone_by else {
            return Ok(());
        };
        if matches!(order, Order::CancelTask | Order::ResolveTask) {
            return Ok(());
        }
        let text = format!(
            "task {undo} undoes what this one did, so this one cannot be re-opened; \
             create a new task instead"
        );
        Err(StoreError::Refused(text))
    }

    /// Fails every open step, since the task's deadline has passed; running attempts lose their
    /// lease.
    pub(crate) fn exceed_deadline(&mut self) -> Result<(), StoreError> {
        let kind = FailureKind::DeadlineExceeded;
        let failure = Failure::new(kind, "the deadline of the task has passed");
        for position in self.positions(|step| step.due_at.is_some()) {
            let step = self.step(position);
            let note = Note {
                attempt: (step.attempts > 0).then_some(step.attempts),
                worker: step.worker,
                reason: Some(Reason::DeadlineExceeded),
                failure: Some(failure.clone()),
                ..Note::default()
            };
            match step.state {
                StepState::Pending => self.move_step(position, StepEvent::Reject, note)?,
                StepState::InProgress => self.move_step(position, StepEvent::Fail, note)?,
                // Already failed and waiting for its retry: it only stops waiting.
                _ => {}
            }
            let step = self.change(position);
            step.failure = Some(kind);
            self.end(position);
        }
        self.roll_up()
    }

    fn step(&self, position: Position) -> &Step {
        &self.steps[position as usize]
    }

    fn change(&mut self, position: Position) -> &mut Step {
        self.changed.insert(position);
        &mut self.steps[position as usize]
    }

    fn positions(&self, wanted: impl Fn(&Step) -> bool) -> Vec<Position> {
        let found = self.steps.iter().filter(|step| wanted(step));
        found.map(|step| step.position).collect()
    }

    /// Nothing more is to be done about the step, and nobody runs it.
    fn end(&mut self, position: Position) {
        let now = self.now;
        self.alter(position, |step| {
            step.due_at = None;
            step.worker = None;
            step.finished_at = Some(now);
        });
    }

    fn move_step(
        &mut self,
        position: Position,
        event: StepEvent,
        note: Note,
    ) -> Result<(), StoreError> {
        let from = self.step(position).state;
        let to = from.after(event)?;
        self.entries.push(Entry {
            position: Some(position),
            from: from.as_str(),
            to: to.as_str(),
            note,
        });
        self.alter(position, |step| step.state = to);
        Ok(())
    }

    /// Changes what an end of the step depends on, and tells its children.
    fn alter(&mut self, position: Position, change: impl FnOnce(&mut Step)) {
        let end = |step: &Step| ParentEnd::of(step.state, step.due_at.is_some());
        let before = end(self.step(position));
        change(self.change(position));
        let after = end(self.step(position));
        if before == after {
            return;
        }
        let is_done = |end| matches!(end, Some(ParentEnd::Success | ParentEnd::Skip));
        let template = self.template.clone();
        for &child in template.dag().children(position) {
            let counts = |end: Option<ParentEnd>| end.and_then(|end| template.counted(child, end));
            let (undone, counted) = (counts(before).unwrap_or(0), counts(after).unwrap_or(0));
            let child = self.change(child);
            if !is_done(before) && is_done(after) {
                child.unfinished_parents -= 1;
            }
            child.awaited = child.awaited.map(|awaited| awaited + undone - counted);
        }
    }

    /// Steps that have not started become due when their rule is decided, and wait again when the
    /// parent that decided it goes round again.
    fn ripen(&mut self) {
        let starts_at = self.starts_at;
        for position in self.positions(|step| step.state == StepState::Pending) {
            let step = self.step(position);
            let decided = TriggerRule::is_decided(step.unfinished_parents, step.awaited);
            if decided && step.due_at.is_none() {
                self.change(position).due_at = Some(starts_at);
            } else if !decided && step.due_at.is_some() {
                let step = self.change(position);
                step.due_at = None;
                step.waited_until = None;
                step.awaits = None;
            }
        }
    }

    fn move_task(&mut self, event: TaskEvent, note: Note) -> Result<(), StoreError> {
        let to = self.state.after(event)?;
        self.entries.push(Entry {
            position: None,
            from: self.state.as_str(),
            to: to.as_str(),
            note,
        });
        self.state = to;
        Ok(())
    }

    /// A step of a task that is not closed for good: only a failed task can be re-opened.
    fn open_step(&self, position: Position) -> Result<&Step, StoreError> {
        if self.state.is_final() {
            self.state.after(TaskEvent::Retry)?;
        }
        let step = self.steps.get(position as usize);
        step.ok_or(StoreError::NoSuchStep(StepKey::new(self.id, position)))
    }

    fn cancel_task(&mut self, by: &Note) -> Result<(), StoreError> {
        self.state.after(TaskEvent::Cancel)?;
        let started_or_waiting =
            |step: &Step| step.state == StepState::Pending || step.due_at.is_some();
        for position in self.positions(started_or_waiting) {
            self.cancel(position, Reason::TaskCancelled, by)?;
        }
        self.move_task(TaskEvent::Cancel, by.clone())
    }

    fn cancel_step(&mut self, position: Position, by: &Note) -> Result<(), StoreError> {
        self.open_step(position)?;
        self.cancel(position, Reason::Operator, by)?;
        for below in self.template.clone().dag().descendants(&[position]) {
            if self.step(below).state == StepState::Pending {
                self.cancel(below, Reason::ParentCancelled, by)?;
            }
        }
        Ok(())
    }

    /// A step that waits for its retry goes back to pending first: `error` has no way to
    /// `cancelled`.
    fn cancel(&mut self, position: Position, reason: Reason, by: &Note) -> Result<(), StoreError> {
        let step = self.step(position);
        let note = Note {
            worker: step.worker,
            reason: Some(reason),
            ..by.clone()
        };
        if step.state == StepState::Error && step.due_at.is_some() {
            self.move_step(position, StepEvent::Retry, note.clone())?;
        }
        self.move_step(position, StepEvent::Cancel, note)?;
        self.end(position);
        Ok(())
    }

    fn retry_task(&mut self, by: &Note) -> Result<(), StoreError> {
        self.state.after(TaskEvent::Retry)?;
        let failed = |step: &Step| step.state == StepState::Error && step.due_at.is_none();
        self.positions(failed)
            .into_iter()
            .try_for_each(|position| self.retry(position, 1, by))
    }

    /// Due at once, with at least `attempts` left.
    fn retry(&mut self, position: Position, attempts: u32, by: &Note) -> Result<(), StoreError> {
        let step = self.step(position);
        let note = Note {
            attempt: Some(step.attempts + 1),
            ..by.clone()
        };
        self.move_step(position, StepEvent::Retry, note)?;
        let now = self.now;
        let step = self.change(position);
        let wanted = step.attempts.saturating_add(attempts.max(1));
        step.attempt_limit = step.attempt_limit.max(wanted);
        step.lost_attempts = 0;
        step.due_at = Some(now);
        step.failure = None;
        step.worker = None;
        step.finished_at = None;
        // What it waited for, it waits for anew; a signal that has come stays.
        step.waited_until = None;
        step.awaits = None;
        Ok(())
    }

    /// Resolved or skipped: dependents may start. A failed step that is skipped goes back to
    /// pending first: `error` has no way to `skipped`.
    fn declare_done(
        &mut self,
        position: Position,
        event: StepEvent,
        result: Option<&Json>,
        by: &Note,
    ) -> Result<(), StoreError> {
        let state = self.open_step(position)?.state;
        if state == StepState::Error && event == StepEvent::Skip {
            self.move_step(position, StepEvent::Retry, by.clone())?;
        }
        self.move_step(position, event, by.clone())?;
        self.end(position);
        let step = self.change(position);
        step.failure = None;
        step.result = result.cloned();
        Ok(())
    }

    fn raise_limit(
        &mut self,
        position: Position,
        attempt_limit: u32,
        by: &Note,
    ) -> Result<(), StoreError> {
        let step = self.open_step(position)?;
        if attempt_limit <= step.attempt_limit {
            let text = format!(
                "the step may make {} attempts already; a raised limit must be higher than that",
                step.attempt_limit
            );
            return Err(StoreError::Refused(text));
        }
        let step = self.change(position);
        step.attempt_limit = attempt_limit;
        let wanted_attempts = step.state == StepState::Error
            && step.due_at.is_none()
            && (should_be_due(step.facts()) || step.failure == Some(FailureKind::Lost));
        if wanted_attempts {
            self.retry(position, 1, by)?;
        }
        Ok(())
    }

    /// A failed task with something to do again, or with nothing left to do, is failed no longer.
    fn reopen(&mut self, by: Note) -> Result<(), StoreError> {
        let tally = self.tally();
        if self.state == TaskState::Error && (tally.open > 0 || tally.failed == 0) {
            self.move_task(TaskEvent::Retry, by)?;
        }
        Ok(())
    }

    /// Finishes the task if nothing of it is open any more.
    fn roll_up(&mut self) -> Result<(), StoreError> {
        if self.state.is_final() {
            return Ok(());
        }
        let Some(event) = rollup(self.tally()) else {
            return Ok(());
        };
        if self.state == TaskState::Pending && event == TaskEvent::Complete {
            self.move_task(TaskEvent::Start, Note::default())?;
        }
        self.move_task(event, Note::default())
    }
}
