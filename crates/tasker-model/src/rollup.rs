//! From the states of a task's steps to the state and the health of the task.
//!
//! Stores keep these counts per task and change them with every commit; a task is final exactly
//! when no step is open. The conformance suite compares the counts with [`StepTally::of`].

use jiff::Timestamp;
use serde::Serialize;

use crate::readiness::{Readiness, StepFacts, readiness};
use crate::step::StepState;
use crate::task::TaskEvent;
use crate::text_enum::text_enum;

/// How many of a task's steps are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepTally {
    /// All steps.
    pub total: u32,
    /// Complete, resolved manually or skipped.
    pub done: u32,
    /// Due, leased or waiting for a time: what can still make progress by itself.
    pub open: u32,
    /// In state `error` with nothing left to try.
    pub failed: u32,
    /// Cancelled.
    pub cancelled: u32,
}

impl StepTally {
    /// Counts steps.
    pub fn of(steps: impl IntoIterator<Item = StepFacts>) -> StepTally {
        let mut tally = StepTally::default();
        for step in steps {
            tally.total += 1;
            tally.done += u32::from(step.state.is_done());
            tally.open += u32::from(step.due_at.is_some());
            tally.failed += u32::from(step.state == StepState::Error && step.due_at.is_none());
            tally.cancelled += u32::from(step.state == StepState::Cancelled);
        }
        tally
    }
}

/// What the steps of an unfinished task mean for it: `None` while some step is open.
///
/// All done: complete. Otherwise a failed step makes the task fail, and if none failed, a
/// cancelled one makes it cancelled (spec 00 N-O5: cancelled steps never wedge a task).
pub fn rollup(tally: StepTally) -> Option<TaskEvent> {
    if tally.open > 0 {
        None
    } else if tally.done == tally.total {
        Some(TaskEvent::Complete)
    } else if tally.failed > 0 {
        Some(TaskEvent::Fail)
    } else {
        assert!(
            tally.cancelled > 0,
            "steps wait, but for nothing: {tally:?}"
        );
        Some(TaskEvent::Cancel)
    }
}

text_enum! {
    /// What a task as a whole is doing (spec 04 §6.1).
    "execution status" enum ExecutionStatus {
        /// Some step may be claimed now.
        HasReadySteps = "has_ready_steps",
        /// Some step is running.
        Processing = "processing",
        /// Some step has failed for good, and nothing else can make progress.
        BlockedByFailures = "blocked_by_failures",
        /// Every step is done.
        AllComplete = "all_complete",
        /// Some step waits for a time or for parents.
        WaitingForDependencies = "waiting_for_dependencies",
    }
}

text_enum! {
    /// What is to be done about a task (spec 04 §6.1).
    "recommended action" enum RecommendedAction {
        /// Let workers claim.
        ExecuteReadySteps = "execute_ready_steps",
        /// Wait for running attempts.
        WaitForCompletion = "wait_for_completion",
        /// A person must look.
        HandleFailures = "handle_failures",
        /// Nothing more; the task is done.
        FinalizeTask = "finalize_task",
        /// Wait for a time or for parents.
        WaitForDependencies = "wait_for_dependencies",
    }
}

text_enum! {
    /// How a task fares (spec 04 §6.1).
    "health status" enum HealthStatus {
        /// Nothing has failed.
        Healthy = "healthy",
        /// Something has failed, and the task goes on.
        Recovering = "recovering",
        /// Something has failed for good, and nothing is ready.
        Blocked = "blocked",
    }
}

/// A task's progress at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExecutionContext {
    /// All steps.
    pub total_steps: u32,
    /// State `pending`.
    pub pending_steps: u32,
    /// State `in_progress`.
    pub in_progress_steps: u32,
    /// Complete, resolved manually or skipped.
    pub completed_steps: u32,
    /// State `error`.
    pub failed_steps: u32,
    /// State `cancelled`.
    pub cancelled_steps: u32,
    /// May be claimed now.
    pub ready_steps: u32,
    /// What the task is doing.
    pub execution_status: ExecutionStatus,
    /// What is to be done.
    pub recommended_action: RecommendedAction,
    /// How it fares.
    pub health_status: HealthStatus,
    /// Share of completed steps in percent, two decimals; 0 without steps.
    pub completion_percentage: f64,
}

impl ExecutionContext {
    /// The progress of these steps at `now`.
    pub fn of(steps: &[StepFacts], now: Timestamp) -> ExecutionContext {
        let count = |wanted: &dyn Fn(&StepFacts) -> bool| {
            u32::try_from(steps.iter().filter(|step| wanted(step)).count())
                .expect("invariant: a task has at most STEPS_MAX steps")
        };
        let state = |state| count(&move |step: &StepFacts| step.state == state);
        let total = count(&|_| true);
        let completed = count(&|step| step.state.is_done());
        let failed = state(StepState::Error);
        let in_progress = state(StepState::InProgress);
        let ready = count(&|step| readiness(*step, now).is_claimable());
        let blocked = count(&|step| {
            step.state == StepState::Error && readiness(*step, now) == Readiness::Blocked
        });
        let waiting = count(&|step| matches!(readiness(*step, now), Readiness::WaitingUntil(_)));
        let (execution_status, recommended_action) = if ready > 0 {
            (
                ExecutionStatus::HasReadySteps,
                RecommendedAction::ExecuteReadySteps,
            )
        } else if in_progress > 0 {
            (
                ExecutionStatus::Processing,
                RecommendedAction::WaitForCompletion,
            )
        } else if blocked > 0 && waiting == 0 {
            (
                ExecutionStatus::BlockedByFailures,
                RecommendedAction::HandleFailures,
            )
        } else if completed == total && total > 0 {
            (
                ExecutionStatus::AllComplete,
                RecommendedAction::FinalizeTask,
            )
        } else {
            (
                ExecutionStatus::WaitingForDependencies,
                RecommendedAction::WaitForDependencies,
            )
        };
        let health_status = if failed == 0 {
            HealthStatus::Healthy
        } else if blocked > 0 && ready == 0 {
            HealthStatus::Blocked
        } else {
            HealthStatus::Recovering
        };
        ExecutionContext {
            total_steps: total,
            pending_steps: state(StepState::Pending),
            in_progress_steps: in_progress,
            completed_steps: completed,
            failed_steps: failed,
            cancelled_steps: state(StepState::Cancelled),
            ready_steps: ready,
            execution_status,
            recommended_action,
            health_status,
            completion_percentage: percentage(completed, total),
        }
    }
}

fn percentage(part: u32, total: u32) -> f64 {
    if total == 0 {
        return 0.0;
    }
    (f64::from(part) / f64::from(total) * 10_000.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::FailureKind;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn step(state: StepState, due_in_s: Option<i64>, unfinished_parents: u32) -> StepFacts {
        StepFacts {
            state,
            attempts: 1,
            attempt_limit: 3,
            unfinished_parents,
            awaited: None,
            due_at: due_in_s.map(|s| Timestamp::from_second(s).unwrap()),
            failure: (state == StepState::Error).then_some(FailureKind::Retryable),
        }
    }

    const READY: (StepState, Option<i64>, u32) = (StepState::Pending, Some(0), 0);
    const WAITS: (StepState, Option<i64>, u32) = (StepState::Pending, None, 1);
    const RUNS: (StepState, Option<i64>, u32) = (StepState::InProgress, Some(30), 0);
    const DONE: (StepState, Option<i64>, u32) = (StepState::Complete, None, 0);
    const EXHAUSTED: (StepState, Option<i64>, u32) = (StepState::Error, None, 0);
    const BACKOFF: (StepState, Option<i64>, u32) = (StepState::Error, Some(5), 0);
    const RETRY_DUE: (StepState, Option<i64>, u32) = (StepState::Error, Some(0), 0);
    const CANCELLED: (StepState, Option<i64>, u32) = (StepState::Cancelled, None, 0);

    fn context(steps: &[(StepState, Option<i64>, u32)]) -> ExecutionContext {
        let steps: Vec<_> = steps.iter().map(|(s, d, p)| step(*s, *d, *p)).collect();
        ExecutionContext::of(&steps, NOW)
    }

    #[test]
    fn the_combinations_of_the_specification() {
        use ExecutionStatus as S;
        use HealthStatus as H;
        let cases: &[(&[_], S, H)] = &[
            (&[READY, WAITS, WAITS], S::HasReadySteps, H::Healthy),
            (&[DONE, DONE], S::AllComplete, H::Healthy),
            (&[], S::WaitingForDependencies, H::Healthy),
            (&[BACKOFF, WAITS], S::WaitingForDependencies, H::Recovering),
            (&[RETRY_DUE, WAITS], S::HasReadySteps, H::Recovering),
            (&[EXHAUSTED, WAITS], S::BlockedByFailures, H::Blocked),
            (&[EXHAUSTED, READY], S::HasReadySteps, H::Recovering),
            (&[EXHAUSTED, RUNS], S::Processing, H::Blocked),
            // Intended (spec 00 N-O13): the pending retry is not abandoned.
            (&[EXHAUSTED, BACKOFF], S::WaitingForDependencies, H::Blocked),
        ];
        for (steps, status, health) in cases {
            let found = context(steps);
            assert_eq!(
                (found.execution_status, found.health_status),
                (*status, *health),
                "{steps:?}"
            );
        }
    }

    #[test]
    fn percentages_have_two_decimals() {
        let share = |steps: &[_]| format!("{:.2}", context(steps).completion_percentage);
        assert_eq!(share(&[DONE, WAITS]), "50.00");
        assert_eq!(share(&[DONE, WAITS, WAITS]), "33.33");
        assert_eq!(share(&[]), "0.00");
        assert_eq!(share(&[DONE]), "100.00");
    }

    #[test]
    fn a_task_is_final_when_nothing_is_open() {
        let rolled = |steps: &[(StepState, Option<i64>, u32)]| {
            rollup(StepTally::of(
                steps.iter().map(|(s, d, p)| step(*s, *d, *p)),
            ))
        };
        assert_eq!(rolled(&[DONE, READY]), None);
        assert_eq!(rolled(&[EXHAUSTED, BACKOFF]), None);
        assert_eq!(rolled(&[EXHAUSTED, RUNS]), None);
        assert_eq!(rolled(&[DONE, DONE]), Some(TaskEvent::Complete));
        assert_eq!(rolled(&[]), Some(TaskEvent::Complete));
        assert_eq!(rolled(&[DONE, EXHAUSTED, WAITS]), Some(TaskEvent::Fail));
        assert_eq!(rolled(&[EXHAUSTED, CANCELLED]), Some(TaskEvent::Fail));
        assert_eq!(rolled(&[DONE, CANCELLED]), Some(TaskEvent::Cancel));
    }
}
