//! What a person orders: cancel, retry, resolve, skip, raise a limit.
//!
//! Every order reads the task's steps, moves some of them through the state machines, and lets
//! the roll-up say what that means for the task. A failed task is re-opened in the same
//! transaction where the order gives it something to do, or nothing left to do.

use tasker_model::id::{Position, StepKey, TaskId};
use tasker_model::json::Json;
use tasker_model::outcome::FailureKind;
use tasker_model::readiness::{StepFacts, should_be_due};
use tasker_model::request::LABEL_CHARS_MAX;
use tasker_model::step::{StepEvent, StepState};
use tasker_model::task::{TaskEvent, TaskState};
use tasker_model::transition::Reason;

use super::complete::{DoneParents, count_down};
use super::row::Id;
use super::step::{Step, steps};
use super::transaction::Tx;
use super::work::{Batch, Note, Work};
use crate::error::StoreError;
use crate::store::Order;

pub(super) fn operate(
    tx: &mut Tx<'_>,
    task_id: TaskId,
    order: &Order,
    actor: &str,
) -> Result<TaskState, StoreError> {
    if actor.chars().count() > LABEL_CHARS_MAX {
        let text = format!("the actor's name is longer than {LABEL_CHARS_MAX} characters");
        return Err(StoreError::Refused(text));
    }
    let sql = include_str!("../../sql/sqlite/work.find.sql");
    let row = tx.row(sql, [Id::from(task_id)], |row| row.get(0))?;
    let row = row.ok_or(StoreError::NoSuchTask(task_id))?;
    let mut batch = Batch::new(None);
    let mut done = DoneParents::new();
    let steps = steps(tx, row)?;
    let work = batch.work(tx, row)?;
    let mut ordered = Ordered {
        tx,
        work,
        steps: &steps,
        actor,
        done: &mut done,
    };
    ordered.carry_out(order)?;
    count_down(tx, &mut batch, done)?;
    let work = batch.work(tx, row)?;
    reopen(tx, work, actor)?;
    work.finish(tx)?;
    Ok(work.state)
}

/// A failed task with something to do again, or with nothing left to do, is failed no longer.
fn reopen(tx: &Tx<'_>, work: &mut Work, actor: &str) -> Result<(), StoreError> {
    let nothing_failed = work.tally.failed == 0;
    if work.state == TaskState::Error && (work.tally.open > 0 || nothing_failed) {
        work.move_task(tx, TaskEvent::Retry, by(actor))?;
    }
    Ok(())
}

fn by(actor: &str) -> Note<'_> {
    Note {
        actor: Some(actor),
        reason: Some(Reason::Operator),
        ..Note::default()
    }
}

/// An order being carried out.
struct Ordered<'o, 'tx> {
    tx: &'o Tx<'tx>,
    work: &'o mut Work,
    steps: &'o [Step],
    actor: &'o str,
    done: &'o mut DoneParents,
}

impl Ordered<'_, '_> {
    fn carry_out(&mut self, order: &Order) -> Result<(), StoreError> {
        match order {
            Order::CancelTask => self.cancel_task(),
            Order::RetryTask => self.retry_task(),
            Order::ResolveTask => self
                .work
                .move_task(self.tx, TaskEvent::Resolve, by(self.actor)),
            Order::CancelStep(position) => self.cancel_step(*position),
            Order::RetryStep { position, attempts } => {
                let step = self.open_step(*position)?;
                self.retry(&step, *attempts)
            }
            Order::ResolveStep { position, result } => {
                let step = self.open_step(*position)?;
                self.declare_done(&step, StepEvent::Resolve, result.as_ref())
            }
            Order::SkipStep(position) => {
                let step = self.open_step(*position)?;
                self.declare_done(&step, StepEvent::Skip, None)
            }
            Order::RaiseLimit {
                position,
                attempt_limit,
            } => self.raise_limit(*position, *attempt_limit),
        }
    }

    /// A step of a task that is not closed for good: only a failed task can be re-opened.
    fn open_step(&self, position: Position) -> Result<Step, StoreError> {
        if self.work.state.is_final() {
            self.work.state.after(TaskEvent::Retry)?;
        }
        let step = self.steps.get(position as usize).copied();
        step.ok_or(StoreError::NoSuchStep(StepKey::new(self.work.id, position)))
    }

    fn cancel_task(&mut self) -> Result<(), StoreError> {
        self.work.state.after(TaskEvent::Cancel)?;
        let reason = Some(Reason::TaskCancelled);
        for step in self.steps {
            let unstarted = step.state == StepState::Pending;
            if unstarted || step.due_at.is_some() {
                self.cancel(step, reason)?;
            }
        }
        self.work
            .move_task(self.tx, TaskEvent::Cancel, by(self.actor))
    }

    fn cancel_step(&mut self, position: Position) -> Result<(), StoreError> {
        let step = self.open_step(position)?;
        self.cancel(&step, Some(Reason::Operator))?;
        for below in self.work.template.dag().descendants(&[position]) {
            let below = self.steps[below as usize];
            if below.state == StepState::Pending {
                self.cancel(&below, Some(Reason::ParentCancelled))?;
            }
        }
        Ok(())
    }

    /// A step that waits for its retry goes back to pending first: `error` has no way to
    /// `cancelled`.
    fn cancel(&mut self, step: &Step, reason: Option<Reason>) -> Result<(), StoreError> {
        let note = Note {
            worker: step.worker,
            reason,
            ..by(self.actor)
        };
        let mut state = step.state;
        if state == StepState::Error && step.due_at.is_some() {
            state = self
                .work
                .move_step(self.tx, step.position, state, StepEvent::Retry, note)?;
        }
        let state = self
            .work
            .move_step(self.tx, step.position, state, StepEvent::Cancel, note)?;
        let cancelled = Step {
            state,
            due_at: None,
            ..*step
        };
        cancelled.save(self.tx, self.work, step, None)
    }

    fn retry_task(&mut self) -> Result<(), StoreError> {
        self.work.state.after(TaskEvent::Retry)?;
        let failed = |step: &&Step| step.state == StepState::Error && step.due_at.is_none();
        self.steps
            .iter()
            .filter(failed)
            .try_for_each(|step| self.retry(step, 1))
    }

    /// Due at once, with at least `attempts` left.
    fn retry(&mut self, step: &Step, attempts: u32) -> Result<(), StoreError> {
        let note = Note {
            attempt: Some(step.attempts + 1),
            ..by(self.actor)
        };
        let state =
            self.work
                .move_step(self.tx, step.position, step.state, StepEvent::Retry, note)?;
        assert_eq!(step.unfinished_parents, 0, "a step that failed had started");
        let again = Step {
            state,
            attempt_limit: step
                .attempt_limit
                .max(step.attempts.saturating_add(attempts.max(1))),
            due_at: Some(self.tx.now),
            failure: None,
            ..*step
        };
        again.save(self.tx, self.work, step, None)
    }

    /// Resolved or skipped: dependents may start. A failed step that is skipped goes back to
    /// pending first: `error` has no way to `skipped`.
    fn declare_done(
        &mut self,
        step: &Step,
        event: StepEvent,
        result: Option<&Json>,
    ) -> Result<(), StoreError> {
        let note = by(self.actor);
        let mut state = step.state;
        if state == StepState::Error && event == StepEvent::Skip {
            state = self
                .work
                .move_step(self.tx, step.position, state, StepEvent::Retry, note)?;
        }
        let state = self
            .work
            .move_step(self.tx, step.position, state, event, note)?;
        let done = Step {
            state,
            due_at: None,
            failure: None,
            ..*step
        };
        done.save(self.tx, self.work, step, result)?;
        for child in self.work.template.dag().children(step.position) {
            *self.done.entry((self.work.row, *child)).or_default() += 1;
        }
        Ok(())
    }

    fn raise_limit(&mut self, position: Position, attempt_limit: u32) -> Result<(), StoreError> {
        let step = self.open_step(position)?;
        if attempt_limit <= step.attempt_limit {
            let text = format!(
                "the step may make {} attempts already; a raised limit must be higher than that",
                step.attempt_limit
            );
            return Err(StoreError::Refused(text));
        }
        let raised = Step {
            attempt_limit,
            ..step
        };
        let facts = StepFacts {
            state: raised.state,
            attempts: raised.attempts,
            attempt_limit,
            unfinished_parents: raised.unfinished_parents,
            due_at: raised.due_at,
            failure: raised.failure,
        };
        let wanted_attempts = raised.state == StepState::Error
            && raised.due_at.is_none()
            && (should_be_due(facts) || raised.failure == Some(FailureKind::Lost));
        if wanted_attempts {
            return self.retry(&raised, 1);
        }
        let sql = include_str!("../../sql/sqlite/operate.raise_limit.sql");
        self.tx.execute(sql, (step.row, attempt_limit)).map(drop)
    }
}
