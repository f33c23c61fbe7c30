//! Does what is stored hold together?
//!
//! The invariants of one task, checked on what was read of it at one moment: what `tasker doctor`
//! runs over a store, and every test after it has tormented one. The numbers are those of the
//! list of invariants in `ARCHITECTURE.md`.

use std::collections::HashMap;
use std::fmt;

use tasker_model::id::Position;
use tasker_model::lease::LOST_ATTEMPTS_MAX;
use tasker_model::readiness::should_be_due;
use tasker_model::rollup::{StepTally, rollup};
use tasker_model::step::{StepEvent, StepState};
use tasker_model::task::{TaskEvent, TaskState};
use tasker_model::template::TaskTemplate;
use tasker_model::transition::{Change, Reason, Transition};
use tasker_model::trigger::{ParentEnd, TriggerRule};

use crate::record::{StepRecord, TaskDetail};

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant, such as `I4`.
    pub invariant: &'static str,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.found)
    }
}

/// Everything that does not hold for a task.
pub fn check(detail: &TaskDetail, template: &TaskTemplate) -> Vec<Violation> {
    let mut audit = Audit {
        detail,
        template,
        violations: Vec::new(),
    };
    if detail.steps.len() != template.dag().len() {
        let (found, defined) = (detail.steps.len(), template.dag().len());
        audit.violation(
            "I4",
            format!("the task has {found} steps, its definition {defined}"),
        );
        return audit.violations;
    }
    audit.counts();
    audit.steps();
    audit.roll_up();
    audit.record();
    audit.violations
}

/// Whether a step was given back by a worker. Its rule was asked before it started; a person may have sent a
/// parent round again since.
fn goes_on(detail: &TaskDetail, step: &StepRecord) -> bool {
    let of_step = |transition: &&Transition| matches!(transition.change, Change::Step { position, .. } if position == step.position);
    let last = detail.transitions.iter().rfind(of_step);
    let reason = last.and_then(|transition| transition.reason);
    step.state == StepState::Pending && matches!(reason, Some(Reason::HandedBack | Reason::Waiting))
}

struct Audit<'a> {
    detail: &'a TaskDetail,
    template: &'a TaskTemplate,
    violations: Vec<Violation>,
}

impl Audit<'_> {
    fn violation(&mut self, invariant: &'static str, found: String) {
        self.violations.push(Violation { invariant, found });
    }

    fn expect(&mut self, holds: bool, invariant: &'static str, found: impl FnOnce() -> String) {
        if !holds {
            self.violation(invariant, found());
        }
    }

    fn counts(&mut self) {
        let kept = StepTally::from(self.detail.task.summary.steps);
        let counted = StepTally::of(self.detail.steps.iter().map(StepRecord::facts));
        self.expect(kept == counted, "I4", || {
            format!("kept counts {kept:?}, counted {counted:?}")
        });
    }

    fn steps(&mut self) {
        let detail = self.detail;
        let is_final = detail.task.summary.state.is_final();
        for step in &detail.steps {
            let name = &step.name;
            let parents = self.template.dag().parents(step.position);
            let unfinished = parents
                .iter()
                .filter(|p| !detail.steps[**p as usize].state.is_done())
                .count();
            self.expect(step.unfinished_parents as usize == unfinished, "I4", || {
                format!(
                    "step `{name}` keeps {} unfinished parents, it has {unfinished}",
                    step.unfinished_parents
                )
            });
            let ends = parents.iter().filter_map(|parent| {
                let parent = &detail.steps[*parent as usize];
                let end = ParentEnd::of(parent.state, parent.due_at.is_some())?;
                self.template.counted(step.position, end)
            });
            let counted: i32 = ends.sum();
            let awaited = self.template.awaited(step.position);
            let awaited = awaited.map(|awaited| awaited.cast_signed() - counted);
            self.expect(step.awaited == awaited, "I4", || {
                format!(
                    "step `{name}` keeps {:?} awaited parents, it has {awaited:?}",
                    step.awaited
                )
            });
            self.expect(step.attempts <= step.attempt_limit, "I3", || {
                format!(
                    "step `{name}` made {} attempts of {}",
                    step.attempts, step.attempt_limit
                )
            });
            self.expect(step.lost_attempts <= LOST_ATTEMPTS_MAX, "I3", || {
                format!("step `{name}` lost {} attempts", step.lost_attempts)
            });
            let leased = step.state == StepState::InProgress;
            self.expect(leased == step.worker.is_some(), "I2", || {
                format!(
                    "step `{name}` is {} and has worker {:?}",
                    step.state, step.worker
                )
            });
            let due = step.due_at.is_some();
            let expected = !is_final && should_be_due(step.facts());
            let fits = due == expected || due && !is_final && goes_on(detail, step);
            self.expect(fits, "I5", || {
                format!(
                    "step `{name}` is {}; it {} be due",
                    step.state,
                    if due { "must not" } else { "must" }
                )
            });
            self.expect(
                step.state != StepState::Complete || step.result.is_some(),
                "I6",
                || format!("step `{name}` is complete without a result"),
            );
        }
    }

    fn roll_up(&mut self) {
        let tally = StepTally::of(self.detail.steps.iter().map(StepRecord::facts));
        let task = &self.detail.task.summary;
        let finished = task.finished_at.is_some();
        self.expect(task.state.is_final() == finished, "I5", || {
            format!(
                "the task is {} and its end is {:?}",
                task.state, task.finished_at
            )
        });
        if tally.open > 0 {
            self.expect(!task.state.is_final(), "I5", || {
                format!("the task is {} with {} open steps", task.state, tally.open)
            });
            return;
        }
        if tally.done < tally.total && tally.failed == 0 && tally.cancelled == 0 {
            self.violation("I5", format!("steps wait, but for nothing: {tally:?}"));
            return;
        }
        // A person may cancel a complete task, or resolve a failed one.
        let fits = matches!(
            (rollup(tally), task.state),
            (
                Some(TaskEvent::Complete),
                TaskState::Complete | TaskState::Cancelled
            ) | (
                Some(TaskEvent::Fail),
                TaskState::Error | TaskState::ResolvedManually
            ) | (
                Some(TaskEvent::Fail | TaskEvent::Cancel),
                TaskState::Cancelled
            )
        );
        self.expect(fits, "I5", || {
            format!("the task is {} with steps {tally:?}", task.state)
        });
    }

    fn record(&mut self) {
        let detail = self.detail;
        let kept = detail.task.transitions as usize;
        let found = detail.transitions.len();
        self.expect(kept == found, "I6", || {
            format!("{kept} transitions were made, {found} recorded")
        });
        let mut task = None;
        let mut steps: HashMap<Position, StepState> = HashMap::new();
        let mut starts: HashMap<Position, i64> = HashMap::new();
        for (transition, expected) in detail.transitions.iter().zip(1..) {
            let number = transition.sequence;
            self.expect(number == expected, "I6", || {
                format!("transition {expected} is {number}")
            });
            match transition.change {
                Change::Task { from, to } => {
                    self.expect(from == task, "I6", || {
                        format!("transition {number} leaves {from:?}, the task was {task:?}")
                    });
                    let legal = from.is_none_or(|from| {
                        TaskEvent::ALL
                            .iter()
                            .any(|event| from.after(*event) == Ok(to))
                    });
                    self.expect(legal, "I6", || {
                        format!("transition {number} to {to} is illegal")
                    });
                    task = Some(to);
                }
                Change::Step { position, from, to } => {
                    let known = steps.get(&position).copied();
                    self.expect(from == known, "I6", || {
                        format!(
                            "transition {number} leaves {from:?}, step {position} was {known:?}"
                        )
                    });
                    self.step_move(transition, position, from, to, &steps, &mut starts);
                    steps.insert(position, to);
                }
            }
        }
        let state = detail.task.summary.state;
        self.expect(task == Some(state), "I6", || {
            format!("the record ends in {task:?}, the task is {state}")
        });
        for step in &detail.steps {
            let recorded = steps.get(&step.position).copied();
            let name = &step.name;
            self.expect(recorded == Some(step.state), "I6", || {
                format!(
                    "the record of step `{name}` ends in {recorded:?}, it is {}",
                    step.state
                )
            });
            let counted = starts.get(&step.position).copied().unwrap_or(0);
            self.expect(counted == i64::from(step.attempts), "I3", || {
                format!(
                    "step `{name}` counts {} attempts, {counted} are recorded",
                    step.attempts
                )
            });
        }
    }

    fn step_move(
        &mut self,
        transition: &Transition,
        position: Position,
        from: Option<StepState>,
        to: StepState,
        steps: &HashMap<Position, StepState>,
        starts: &mut HashMap<Position, i64>,
    ) {
        let number = transition.sequence;
        let legal = from.is_none_or(|from| {
            StepEvent::ALL
                .iter()
                .any(|event| from.after(*event) == Ok(to))
        });
        self.expect(legal, "I6", || {
            format!("transition {number} to {to} is illegal")
        });
        if to == StepState::InProgress {
            let count = starts.entry(position).or_default();
            *count += 1;
            if *count > 1 {
                // Its rule was asked once; a person may have sent a parent round again since.
                return;
            }
            let parents = self.template.dag().parents(position);
            let state = |parent: &Position| steps.get(parent).copied();
            let unfinished = parents
                .iter()
                .filter(|p| !state(p).is_some_and(StepState::is_done))
                .count();
            let counted: i32 = parents
                .iter()
                .filter_map(|parent| {
                    // Whether a failed parent had failed for good is not on record.
                    let end = ParentEnd::of(state(parent)?, false)?;
                    self.template.counted(position, end)
                })
                .sum();
            let awaited = self.template.awaited(position);
            let awaited = awaited.map(|awaited| awaited.cast_signed() - counted);
            let unfinished = u32::try_from(unfinished).unwrap_or(u32::MAX);
            let decided = TriggerRule::is_decided(unfinished, awaited);
            self.expect(decided, "I1", || {
                format!(
                    "transition {number} starts step {position} with {unfinished} parents that \
                     are not done"
                )
            });
        }
        if matches!(
            transition.reason,
            Some(Reason::HandedBack | Reason::Waiting)
        ) {
            *starts.entry(position).or_default() -= 1;
        }
    }
}
