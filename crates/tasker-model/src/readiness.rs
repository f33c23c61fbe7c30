//! May this step run now, and if not, why not?
//!
//! The one definition of readiness (spec 04 §3, intended behaviour). Stores keep `due_at` and
//! `unfinished_parents` so that a claim is one index look-up; a conformance test proves that what
//! a store would claim is what [`readiness`] calls ready, and [`should_be_due`] is what `doctor`
//! checks.

use jiff::Timestamp;
use serde::Serialize;

use crate::id::Position;
use crate::outcome::FailureKind;
use crate::step::StepState;
use crate::text_enum::text_enum;
use crate::trigger::TriggerRule;

/// What readiness depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepFacts {
    /// The step's state.
    pub state: StepState,
    /// Attempts made so far.
    pub attempts: u32,
    /// Attempts allowed; 1 for a step that is not retryable.
    pub attempt_limit: u32,
    /// Parents that are not done.
    pub unfinished_parents: u32,
    /// How many more parents must end as the trigger rule asks, if it counts them.
    pub awaited: Option<i32>,
    /// When the step is to be looked at; `None` if there is nothing to do.
    pub due_at: Option<Timestamp>,
    /// Why it last failed.
    pub failure: Option<FailureKind>,
}

/// Whether a step may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// A worker may claim it now.
    Ready,
    /// Its lease has expired: a worker may claim it now.
    LeaseExpired,
    /// It waits for parents.
    WaitingForParents {
        /// How many.
        unfinished: u32,
    },
    /// It waits for a time: its start, or the end of its backoff.
    WaitingUntil(Timestamp),
    /// A worker runs it.
    Running {
        /// When the worker's lease ends unless it is extended.
        lease_until: Timestamp,
    },
    /// It failed for good, or its task was stopped; only a person can send it round again.
    Blocked,
    /// It is complete, resolved manually or skipped.
    Done,
    /// It was cancelled.
    Cancelled,
}

text_enum! {
    /// The word for a [`Readiness`].
    "readiness" enum ReadinessWord {
        /// A worker may claim it now.
        Ready = "ready",
        /// Its lease has expired: a worker may claim it now.
        LeaseExpired = "lease_expired",
        /// It waits for parents.
        WaitingForParents = "waiting_for_parents",
        /// It waits for a time.
        WaitingUntil = "waiting_until",
        /// A worker runs it.
        Running = "running",
        /// It failed for good.
        Blocked = "blocked",
        /// It is complete, resolved manually or skipped.
        Done = "done",
        /// It was cancelled.
        Cancelled = "cancelled",
    }
}

impl Readiness {
    /// The word for it, without its particulars.
    pub const fn word(self) -> ReadinessWord {
        match self {
            Readiness::Ready => ReadinessWord::Ready,
            Readiness::LeaseExpired => ReadinessWord::LeaseExpired,
            Readiness::WaitingForParents { .. } => ReadinessWord::WaitingForParents,
            Readiness::WaitingUntil(_) => ReadinessWord::WaitingUntil,
            Readiness::Running { .. } => ReadinessWord::Running,
            Readiness::Blocked => ReadinessWord::Blocked,
            Readiness::Done => ReadinessWord::Done,
            Readiness::Cancelled => ReadinessWord::Cancelled,
        }
    }

    /// Whether a claim at this moment would take the step.
    pub const fn is_claimable(self) -> bool {
        matches!(self, Readiness::Ready | Readiness::LeaseExpired)
    }
}

/// Whether a step may run at `now`.
pub fn readiness(step: StepFacts, now: Timestamp) -> Readiness {
    match (step.state, step.due_at) {
        (StepState::Complete | StepState::ResolvedManually | StepState::Skipped, _) => {
            Readiness::Done
        }
        (StepState::Cancelled, _) => Readiness::Cancelled,
        (StepState::Pending, None) if step.unfinished_parents > 0 => Readiness::WaitingForParents {
            unfinished: step.unfinished_parents,
        },
        (_, None) => Readiness::Blocked,
        (StepState::InProgress, Some(due)) if due <= now => Readiness::LeaseExpired,
        (StepState::InProgress, Some(lease_until)) => Readiness::Running { lease_until },
        (StepState::Pending | StepState::Error, Some(due)) if due <= now => Readiness::Ready,
        (StepState::Pending | StepState::Error, Some(due)) => Readiness::WaitingUntil(due),
    }
}

/// A step's readiness with its particulars, as operators are shown it (spec 05 §1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepReadiness {
    /// The step's place in the definition.
    pub position: Position,
    /// Its state.
    pub state: StepState,
    /// Whether it may run, or what it waits for.
    pub readiness: ReadinessWord,
    /// Whether every parent is done.
    pub dependencies_satisfied: bool,
    /// Whether an attempt is left, and the last failure was not for good.
    pub retry_eligible: bool,
    /// Whether a worker may claim it now.
    pub ready_for_execution: bool,
    /// When it failed, if it is in `error`.
    pub last_failure_at: Option<Timestamp>,
    /// When it may start, or may have started; `None` while it runs and when it waits for no time.
    pub next_retry_at: Option<Timestamp>,
    /// How many parents it has.
    pub total_parents: u32,
    /// How many of them are done.
    pub completed_parents: u32,
    /// Attempts made.
    pub attempts: u32,
    /// Attempts allowed.
    pub attempt_limit: u32,
    /// When its last attempt started.
    pub last_attempted_at: Option<Timestamp>,
}

impl StepReadiness {
    /// The readiness at `now` of a step with so many parents; `last_attempt` says when its last attempt
    /// started and ended.
    pub fn of(
        position: Position,
        facts: StepFacts,
        total_parents: u32,
        last_attempt: (Option<Timestamp>, Option<Timestamp>),
        now: Timestamp,
    ) -> StepReadiness {
        let (started_at, finished_at) = last_attempt;
        let failed = facts.state == StepState::Error;
        let may_retry = facts.failure.is_some_and(FailureKind::may_retry);
        let readiness = readiness(facts, now);
        StepReadiness {
            position,
            state: facts.state,
            readiness: readiness.word(),
            dependencies_satisfied: facts.unfinished_parents == 0,
            retry_eligible: facts.attempts < facts.attempt_limit && (!failed || may_retry),
            ready_for_execution: readiness.is_claimable(),
            last_failure_at: finished_at.filter(|_| failed),
            next_retry_at: facts
                .due_at
                .filter(|_| matches!(facts.state, StepState::Pending | StepState::Error)),
            total_parents,
            completed_parents: total_parents - facts.unfinished_parents,
            attempts: facts.attempts,
            attempt_limit: facts.attempt_limit,
            last_attempted_at: started_at,
        }
    }
}

/// Whether a step of an unfinished task must have a time at which it is looked at.
///
/// `pending` once its trigger rule can be decided, `in_progress` always (the lease), `error` while an
/// attempt is left and the failure was not permanent, everything else never.
pub fn should_be_due(step: StepFacts) -> bool {
    match step.state {
        StepState::Pending => TriggerRule::is_decided(step.unfinished_parents, step.awaited),
        StepState::InProgress => true,
        StepState::Error => {
            step.attempts < step.attempt_limit && step.failure.is_some_and(FailureKind::may_retry)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn facts(state: StepState, due_in_s: Option<i64>) -> StepFacts {
        StepFacts {
            state,
            attempts: 1,
            attempt_limit: 3,
            unfinished_parents: 0,
            awaited: None,
            due_at: due_in_s.map(|s| Timestamp::from_second(s).unwrap()),
            failure: None,
        }
    }

    #[test]
    fn a_due_time_in_the_past_means_ready() {
        assert_eq!(
            readiness(facts(StepState::Pending, Some(0)), NOW),
            Readiness::Ready
        );
        assert_eq!(
            readiness(facts(StepState::Error, Some(-1)), NOW),
            Readiness::Ready
        );
        assert_eq!(
            readiness(facts(StepState::InProgress, Some(0)), NOW),
            Readiness::LeaseExpired
        );
        let later = Timestamp::from_second(9).unwrap();
        assert_eq!(
            readiness(facts(StepState::Error, Some(9)), NOW),
            Readiness::WaitingUntil(later)
        );
        assert_eq!(
            readiness(facts(StepState::InProgress, Some(9)), NOW),
            Readiness::Running { lease_until: later }
        );
    }

    #[test]
    fn without_a_due_time_the_reason_is_named() {
        let waiting = StepFacts {
            unfinished_parents: 2,
            ..facts(StepState::Pending, None)
        };
        assert_eq!(
            readiness(waiting, NOW),
            Readiness::WaitingForParents { unfinished: 2 }
        );
        assert_eq!(
            readiness(facts(StepState::Error, None), NOW),
            Readiness::Blocked
        );
        for done in [
            StepState::Complete,
            StepState::ResolvedManually,
            StepState::Skipped,
        ] {
            assert_eq!(readiness(facts(done, None), NOW), Readiness::Done);
        }
        assert_eq!(
            readiness(facts(StepState::Cancelled, None), NOW),
            Readiness::Cancelled
        );
    }

    #[test]
    fn a_failure_for_good_is_not_eligible_whatever_attempts_are_left() {
        let failed = |failure| {
            let facts = StepFacts {
                failure: Some(failure),
                ..facts(StepState::Error, None)
            };
            StepReadiness::of(4, facts, 2, (None, Some(NOW)), NOW)
        };
        let permanent = failed(FailureKind::Permanent);
        assert!(!permanent.retry_eligible && failed(FailureKind::Retryable).retry_eligible);
        assert_eq!(permanent.readiness, ReadinessWord::Blocked);
        assert_eq!(permanent.last_failure_at, Some(NOW));
        assert_eq!(
            (permanent.total_parents, permanent.completed_parents),
            (2, 2)
        );
    }

    #[test]
    fn a_running_step_has_no_time_of_a_retry() {
        let running = |due| {
            let facts = facts(StepState::InProgress, Some(due));
            StepReadiness::of(0, facts, 0, (Some(NOW), None), NOW)
        };
        assert_eq!(running(9).next_retry_at, None);
        assert!(!running(9).ready_for_execution, "its lease holds");
        assert!(running(0).ready_for_execution, "its lease is over");
    }

    #[test]
    fn an_error_is_due_only_while_a_retry_is_possible() {
        let failed = |failure, attempts| StepFacts {
            failure: Some(failure),
            attempts,
            ..facts(StepState::Error, None)
        };
        assert!(should_be_due(failed(FailureKind::Retryable, 1)));
        assert!(
            !should_be_due(failed(FailureKind::Retryable, 3)),
            "attempts are exhausted"
        );
        assert!(!should_be_due(failed(FailureKind::Permanent, 1)));
    }
}
