//! The rules once more, as plainly as they can be written: every task in memory, every verb a walk
//! over all of them. What follows from other facts is computed anew each time, never counted.
//!
//! The differential runs hold both stores against it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use tasker_model::dag::Dag;
use tasker_model::id::{Position, StepKey, TaskId, WorkerId};
use tasker_model::lease::{DueStep, OnClaim, on_claim};
use tasker_model::name::SignalName;
use tasker_model::outcome::{FailureKind, Settlement};
use tasker_model::step::StepState::{
    self, Cancelled, Complete, Error, InProgress, Pending, ResolvedManually, Skipped,
};
use tasker_model::task::TaskState;
use tasker_model::trigger::TriggerRule;
use tasker_model::wait::{NEVER, Until};
use tasker_store::store::{Order, Signalled};

#[derive(Clone)]
struct Step {
    state: StepState,
    attempts: u32,
    limit: u32,
    lost: u32,
    due_at: Option<Timestamp>,
    worker: Option<WorkerId>,
    failure: Option<FailureKind>,
    awaits: Option<SignalName>,
}

#[derive(Clone)]
struct Task {
    handler: usize,
    dag: Dag,
    rules: Vec<TriggerRule>,
    signals: BTreeSet<SignalName>,
    state: TaskState,
    steps: Vec<Step>,
    history: Vec<Line>,
}

/// One attempt: its step and its number.
pub(crate) type Attempt = (StepKey, u32);

/// What a verb brings about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) claimed: Vec<Attempt>,
    pub(crate) finished: Vec<(TaskId, TaskState)>,
}

/// Who claims, and how many at most.
#[derive(Clone)]
pub(crate) struct Claimer {
    pub(crate) worker: WorkerId,
    pub(crate) runs: Vec<usize>,
    pub(crate) slots: usize,
    pub(crate) lease: SignedDuration,
}

impl Claimer {
    fn may(&self, outcome: &Outcome, handler: usize) -> bool {
        outcome.claimed.len() < self.slots && self.runs.contains(&handler)
    }
}

/// A task to create.
pub(crate) struct New<'a> {
    pub(crate) id: TaskId,
    pub(crate) handler: usize,
    pub(crate) dag: &'a Dag,
    /// Which ends of its parents each step starts on.
    pub(crate) rules: Vec<TriggerRule>,
    /// Attempts allowed, of each step.
    pub(crate) limits: Vec<u32>,
    pub(crate) bypassed: Vec<Position>,
}

/// All tasks; handlers are known by a number.
#[derive(Clone, Default)]
pub(crate) struct Reference {
    tasks: BTreeMap<TaskId, Task>,
}

fn done(state: StepState) -> bool {
    matches!(state, Complete | ResolvedManually | Skipped)
}

/// State; attempts, their limit, and those that were lost; when due; why it failed.
pub(crate) type Shown = (
    StepState,
    (u32, u32, u32),
    Option<Timestamp>,
    Option<FailureKind>,
);

/// One line of a history: what a transition says that does not depend on chance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at: Timestamp,
    pub(crate) step: Option<Position>,
    pub(crate) to: &'static str,
    pub(crate) attempt: Option<u32>,
    pub(crate) why: &'static str,
}

impl Task {
    fn note(
        &mut self,
        at: Timestamp,
        step: Option<Position>,
        attempt: Option<u32>,
        why: &'static str,
    ) {
        let to = match step {
            None => self.state.as_str(),
            Some(step) => self.steps[step as usize].state.as_str(),
        };
        self.history.push(Line {
            at,
            step,
            to,
            attempt,
            why,
        });
    }

    fn become_(&mut self, at: Timestamp, state: TaskState, why: &'static str) {
        self.state = state;
        self.note(at, None, None, why);
    }

    fn move_step(
        &mut self,
        at: Timestamp,
        position: Position,
        state: StepState,
        attempt: Option<u32>,
        why: &'static str,
    ) {
        self.steps[position as usize].state = state;
        self.note(at, Some(position), attempt, why);
    }

    fn positions(&self) -> Range<Position> {
        0..Position::try_from(self.steps.len()).unwrap()
    }

    /// Whether the parents have ended as the step's rule asks, or can no longer do so.
    fn is_decided(&self, position: Position) -> bool {
        let parents = self.dag.parents(position);
        let steps = || parents.iter().map(|parent| &self.steps[*parent as usize]);
        let failed = |step: &&Step| step.state == Error && step.due_at.is_none();
        let successes = steps()
            .filter(|step| matches!(step.state, Complete | ResolvedManually))
            .count();
        let failures = steps().filter(failed).count();
        let all_done = steps().all(|step| done(step.state));
        all_done
            || match self.rules[position as usize] {
                TriggerRule::NoneFailed | TriggerRule::AllSuccess => false,
                TriggerRule::AnySuccess => successes > 0,
                TriggerRule::AtLeast(wanted) => successes >= wanted as usize,
                TriggerRule::AnyFailed => failures > 0,
                TriggerRule::AllDone => steps().all(|step| done(step.state) || failed(&step)),
            }
    }

    /// Positions of steps that wait for nothing but a worker, and are not due yet.
    fn ripe(&self) -> Vec<Position> {
        let positions = self.positions();
        positions
            .filter(|p| {
                let step = &self.steps[*p as usize];
                step.state == Pending && step.due_at.is_none() && self.is_decided(*p)
            })
            .collect()
    }

    fn claim(&mut self, at: Timestamp, position: Position, by: &Claimer) -> u32 {
        if self.state == TaskState::Pending {
            self.become_(at, TaskState::InProgress, "");
        }
        let step = &mut self.steps[position as usize];
        let before = step.attempts;
        match step.state {
            Error => self.move_step(at, position, Pending, Some(before + 1), "retry"),
            InProgress => {
                step.lost += 1;
                self.move_step(at, position, Pending, Some(before), "lease_lost");
            }
            _ => {}
        }
        let step = &mut self.steps[position as usize];
        step.attempts += 1;
        step.awaits = None;
        step.worker = Some(by.worker);
        step.due_at = Some(at + by.lease);
        let attempt = step.attempts;
        self.move_step(at, position, InProgress, Some(attempt), "");
        attempt
    }

    /// Nothing open: complete if all is done, else failed, else cancelled.
    fn roll_up(&mut self, at: Timestamp) -> bool {
        if self.state.is_final() || self.steps.iter().any(|step| step.due_at.is_some()) {
            return false;
        }
        let end = if self.steps.iter().all(|step| done(step.state)) {
            TaskState::Complete
        } else if self.steps.iter().any(|step| step.state == Error) {
            TaskState::Error
        } else {
            TaskState::Cancelled
        };
        if self.state == TaskState::Pending && end == TaskState::Complete {
            self.become_(at, TaskState::InProgress, "");
        }
        self.become_(at, end, "");
        true
    }
}

impl Reference {
    pub(crate) fn create(
        &mut self,
        now: Timestamp,
        new: &New<'_>,
        by: Option<&Claimer>,
        outcome: &mut Outcome,
    ) {
        let step = |limit: &u32| Step {
            state: Pending,
            attempts: 0,
            limit: *limit,
            lost: 0,
            due_at: None,
            worker: None,
            failure: None,
            awaits: None,
        };
        let mut task = Task {
            handler: new.handler,
            dag: new.dag.clone(),
            rules: new.rules.clone(),
            signals: BTreeSet::new(),
            state: TaskState::Pending,
            steps: new.limits.iter().map(step).collect(),
            history: Vec::new(),
        };
        task.note(now, None, None, "");
        for position in task.positions() {
            task.note(now, Some(position), None, "");
        }
        for position in &new.bypassed {
            task.move_step(now, *position, Skipped, None, "bypassed");
        }
        for position in task.ripe() {
            task.steps[position as usize].due_at = Some(now);
            if let Some(by) = by
                && by.may(outcome, new.handler)
                && new.bypassed.is_empty()
            {
                let attempt = task.claim(now, position, by);
                outcome
                    .claimed
                    .push((StepKey::new(new.id, position), attempt));
            }
        }
        if task.roll_up(now) {
            outcome.finished.push((new.id, task.state));
        }
        self.tasks.insert(new.id, task);
    }

    /// What is due for somebody who runs these handlers, oldest first.
    pub(crate) fn due(&self, now: Timestamp, runs: &[usize]) -> Vec<(Timestamp, StepKey)> {
        let mut due = Vec::new();
        for (id, task) in self
            .tasks
            .iter()
            .filter(|(_, task)| runs.contains(&task.handler))
        {
            for (position, step) in (0..).zip(&task.steps) {
                if let Some(at) = step.due_at.filter(|at| *at <= now) {
                    due.push((at, StepKey::new(*id, position)));
                }
            }
        }
        due.sort_unstable();
        due
    }

    pub(crate) fn claim(&mut self, now: Timestamp, by: &Claimer, outcome: &mut Outcome) {
        // What is given up may make others due: then there is another round.
        while self.claim_due(now, by, outcome) && outcome.claimed.len() < by.slots {}
    }

    /// Gives whether anything was given up.
    fn claim_due(&mut self, now: Timestamp, by: &Claimer, outcome: &mut Outcome) -> bool {
        let mut gave_up = false;
        for (_, key) in self.due(now, &by.runs) {
            if outcome.claimed.len() == by.slots {
                break;
            }
            let task = self.task(key.task_id);
            let step = &mut task.steps[key.position as usize];
            let due = DueStep {
                state: step.state,
                attempts: step.attempts,
                attempt_limit: step.limit,
                lost_attempts: step.lost,
            };
            match on_claim(due) {
                OnClaim::Run { .. } => {
                    let attempt = task.claim(now, key.position, by);
                    outcome.claimed.push((key, attempt));
                }
                OnClaim::GiveUp(failure) => {
                    step.lost += 1;
                    step.due_at = None;
                    step.worker = None;
                    step.failure = Some(failure.kind);
                    let attempt = Some(step.attempts);
                    task.move_step(now, key.position, Error, attempt, "lease_lost");
                    for position in task.ripe() {
                        task.steps[position as usize].due_at = Some(now);
                    }
                    gave_up = true;
                }
            }
        }
        gave_up
    }

    pub(crate) fn holds(&self, worker: WorkerId, (key, attempt): Attempt) -> bool {
        let step = &self.tasks[&key.task_id].steps[key.position as usize];
        step.state == InProgress && step.worker == Some(worker) && step.attempts == attempt
    }

    /// Gives whether the outcome counts.
    pub(crate) fn end(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        attempt: Attempt,
        settlement: &Settlement,
    ) -> bool {
        if !self.holds(worker, attempt) {
            return false;
        }
        let (key, number) = attempt;
        let task = self.task(key.task_id);
        let signals = task.signals.clone();
        let step = &mut task.steps[key.position as usize];
        step.worker = None;
        step.due_at = None;
        let (state, why) = match settlement {
            Settlement::Complete { .. } => {
                step.failure = None;
                (Complete, "")
            }
            Settlement::Retry { failure, delay_ms } => {
                step.failure = Some(failure.kind);
                step.due_at = Some(now + SignedDuration::from_millis(delay_ms.cast_signed()));
                (Error, "")
            }
            Settlement::Fail { failure } => {
                step.failure = Some(failure.kind);
                // A person raised the limit meanwhile.
                let more = failure.kind.may_retry() && step.attempts < step.limit;
                step.due_at = more.then_some(now);
                (Error, "")
            }
            Settlement::Skip { cause } => {
                step.failure = None;
                (Skipped, cause.as_str())
            }
            Settlement::Wait(wait) => {
                step.attempts -= 1;
                step.awaits.clone_from(&wait.signal);
                let has_come = wait.signal.as_ref().is_some_and(|s| signals.contains(s));
                step.due_at = match wait.until {
                    _ if has_come => Some(now),
                    Until::After(ms) => Some(now + SignedDuration::from_millis(ms.cast_signed())),
                    Until::At(time) => Some(time),
                    Until::Signalled | Until::Subtasks => Some(NEVER),
                };
                (Pending, "waiting")
            }
            Settlement::HandBack => {
                step.attempts -= 1;
                step.due_at = Some(now);
                (Pending, "handed_back")
            }
        };
        task.move_step(now, key.position, state, Some(number), why);
        true
    }

    /// What follows from ends: ripe steps are claimed where the budget allows, else due.
    pub(crate) fn ripen(&mut self, now: Timestamp, by: Option<&Claimer>, outcome: &mut Outcome) {
        for (id, task) in &mut self.tasks {
            if task.state.is_final() {
                continue;
            }
            for position in task.ripe() {
                task.steps[position as usize].due_at = Some(now);
                // A step whose rule counts ends is left to a look.
                let counts = task.rules[position as usize]
                    .awaited(u32::try_from(task.dag.parents(position).len()).unwrap())
                    .is_some();
                if let Some(by) = by
                    && by.may(outcome, task.handler)
                    && !counts
                {
                    let attempt = task.claim(now, position, by);
                    outcome.claimed.push((StepKey::new(*id, position), attempt));
                }
            }
        }
    }

    pub(crate) fn roll_up(&mut self, now: Timestamp, outcome: &mut Outcome) {
        for (id, task) in &mut self.tasks {
            if task.roll_up(now) {
                outcome.finished.push((*id, task.state));
            }
        }
    }

    pub(crate) fn signal(
        &mut self,
        now: Timestamp,
        id: TaskId,
        name: &SignalName,
    ) -> Option<Signalled> {
        let task = self.task(id);
        if task.state.is_final() {
            return None;
        }
        if !task.signals.insert(name.clone()) {
            return Some(Signalled::Known);
        }
        let mut answer = Signalled::Kept;
        for step in &mut task.steps {
            let waits = step.state == Pending && step.due_at.is_some();
            if waits && step.awaits.as_ref() == Some(name) {
                step.awaits = None;
                step.due_at = Some(now);
                answer = Signalled::Delivered;
            }
        }
        Some(answer)
    }

    pub(crate) fn renew(&mut self, worker: WorkerId, attempt: Attempt, until: Timestamp) -> bool {
        let holds = self.holds(worker, attempt);
        if holds {
            let (key, _) = attempt;
            self.task(key.task_id).steps[key.position as usize].due_at = Some(until);
        }
        holds
    }

    /// `None` if the state machines do not allow it; then nothing has changed.
    pub(crate) fn order(&mut self, now: Timestamp, id: TaskId, order: &Order) -> Option<TaskState> {
        let mut task = self.tasks[&id].clone();
        task.order(now, order)?;
        let state = task.state;
        self.tasks.insert(id, task);
        Some(state)
    }

    pub(crate) fn history(&self, id: TaskId) -> &[Line] {
        &self.tasks[&id].history
    }

    pub(crate) fn state(&self, id: TaskId) -> TaskState {
        self.tasks[&id].state
    }

    pub(crate) fn steps(&self, id: TaskId) -> Vec<Shown> {
        let steps = self.tasks[&id].steps.iter();
        steps
            .map(|s| (s.state, (s.attempts, s.limit, s.lost), s.due_at, s.failure))
            .collect()
    }

    fn task(&mut self, id: TaskId) -> &mut Task {
        self.tasks.get_mut(&id).expect("it was created")
    }
}

/// What people order.
impl Task {
    fn order(&mut self, now: Timestamp, order: &Order) -> Option<()> {
        match order {
            Order::CancelTask => {
                let may = !matches!(self.state, TaskState::Error | TaskState::Cancelled);
                may.then_some(())?;
                for position in self.positions() {
                    let step = &self.steps[position as usize];
                    if step.state == Pending || step.due_at.is_some() {
                        self.cancel(now, position, "task_cancelled")?;
                    }
                }
                self.become_(now, TaskState::Cancelled, "operator");
                return Some(());
            }
            Order::ResolveTask => {
                (self.state == TaskState::Error).then_some(())?;
                self.become_(now, TaskState::ResolvedManually, "operator");
                return Some(());
            }
            Order::RetryTask => {
                (self.state == TaskState::Error).then_some(())?;
                for position in self.positions() {
                    let step = &self.steps[position as usize];
                    if step.state == Error && step.due_at.is_none() {
                        self.retry(now, position, 1)?;
                    }
                }
            }
            _ if !self.is_open() => return None,
            Order::CancelStep(position) => {
                self.cancel(now, *position, "operator")?;
                for below in self.dag.descendants(&[*position]) {
                    if self.steps[below as usize].state == Pending {
                        self.cancel(now, below, "parent_cancelled")?;
                    }
                }
            }
            Order::RetryStep { position, attempts } => self.retry(now, *position, *attempts)?,
            Order::ResolveStep { position, .. } => {
                self.declare(now, *position, ResolvedManually)?;
            }
            Order::SkipStep(position) => self.declare(now, *position, Skipped)?,
            Order::RaiseLimit {
                position,
                attempt_limit,
            } => self.raise(now, *position, *attempt_limit)?,
        }
        for position in self.positions() {
            if self.steps[position as usize].state == Pending && !self.is_decided(position) {
                let step = &mut self.steps[position as usize];
                step.due_at = None;
                step.awaits = None;
            }
        }
        for position in self.ripe() {
            self.steps[position as usize].due_at = Some(now);
        }
        let open = self.steps.iter().any(|step| step.due_at.is_some());
        let failed = self.steps.iter().any(|step| step.state == Error);
        if self.state == TaskState::Error && (open || !failed) {
            self.become_(now, TaskState::Pending, "operator");
        }
        self.roll_up(now);
        Some(())
    }

    fn is_open(&self) -> bool {
        !self.state.is_final() || self.state == TaskState::Error
    }

    fn stop(&mut self, position: Position) -> &mut Step {
        let step = &mut self.steps[position as usize];
        step.due_at = None;
        step.worker = None;
        step
    }

    fn cancel(&mut self, now: Timestamp, position: Position, why: &'static str) -> Option<()> {
        let step = &self.steps[position as usize];
        match step.state {
            Pending | InProgress => {}
            Error if step.due_at.is_some() => self.move_step(now, position, Pending, None, why),
            _ => return None,
        }
        self.stop(position);
        self.move_step(now, position, Cancelled, None, why);
        Some(())
    }

    fn retry(&mut self, now: Timestamp, position: Position, attempts: u32) -> Option<()> {
        let step = &mut self.steps[position as usize];
        (step.state == Error).then_some(())?;
        step.limit = step.limit.max(step.attempts + attempts.max(1));
        step.lost = 0;
        step.failure = None;
        step.worker = None;
        step.due_at = Some(now);
        step.awaits = None;
        let next = Some(step.attempts + 1);
        self.move_step(now, position, Pending, next, "operator");
        Some(())
    }

    fn declare(&mut self, now: Timestamp, position: Position, state: StepState) -> Option<()> {
        match self.steps[position as usize].state {
            Pending => {}
            Error if state == Skipped => self.move_step(now, position, Pending, None, "operator"),
            Error => {}
            _ => return None,
        }
        self.stop(position).failure = None;
        self.move_step(now, position, state, None, "operator");
        Some(())
    }

    fn raise(&mut self, now: Timestamp, position: Position, limit: u32) -> Option<()> {
        let step = &mut self.steps[position as usize];
        (limit > step.limit).then_some(())?;
        step.limit = limit;
        let wanted = step
            .failure
            .is_some_and(|kind| kind.may_retry() || kind == FailureKind::Lost);
        if step.state == Error && step.due_at.is_none() && wanted {
            self.retry(now, position, 1)?;
        }
        Some(())
    }
}
