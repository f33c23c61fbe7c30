//! What happens when a step is claimed: also when its last worker never came back.
//!
//! A lease is the right of one worker to finish one attempt. It needs no reaper: a step whose
//! lease has expired is due like any other, and whoever claims it asks [`on_claim`].

use crate::outcome::{Failure, FailureKind};
use crate::step::StepState;

/// A step whose workers vanished this often is quarantined (DESIGN §10.3).
pub const LOST_ATTEMPTS_MAX: u32 = 3;

/// What a claim must know of a step that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueStep {
    /// `pending`, `error` (its backoff is over) or `in_progress` (its lease has expired).
    pub state: StepState,
    /// Attempts made so far.
    pub attempts: u32,
    /// Attempts allowed.
    pub attempt_limit: u32,
    /// Attempts whose worker vanished.
    pub lost_attempts: u32,
}

/// What the claim of a due step leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum OnClaim {
    /// Attempt `attempts + 1` starts. `lost` says that the previous worker vanished.
    Run {
        /// Whether this claim takes over an expired lease.
        lost: bool,
    },
    /// The step fails for good: the previous worker vanished, and that was the last chance.
    GiveUp(Failure),
}

/// Decides the claim of a step that is due.
pub fn on_claim(step: DueStep) -> OnClaim {
    match step.state {
        StepState::Pending | StepState::Error => {
            assert!(
                step.attempts < step.attempt_limit,
                "a due step has an attempt left: {step:?}"
            );
            OnClaim::Run { lost: false }
        }
        StepState::InProgress if step.lost_attempts + 1 >= LOST_ATTEMPTS_MAX => {
            let message = format!(
                "{LOST_ATTEMPTS_MAX} workers vanished while they ran this step; \
                 retry it once the cause is known"
            );
            OnClaim::GiveUp(Failure::new(FailureKind::Quarantined, message))
        }
        StepState::InProgress if step.attempts >= step.attempt_limit => {
            let message = format!(
                "the worker vanished during attempt {} of {}",
                step.attempts, step.attempt_limit
            );
            OnClaim::GiveUp(Failure::new(FailureKind::Lost, message))
        }
        StepState::InProgress => OnClaim::Run { lost: true },
        state => panic!("a step in state {state} is never due"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(attempts: u32, attempt_limit: u32, lost_attempts: u32) -> OnClaim {
        on_claim(DueStep {
            state: StepState::InProgress,
            attempts,
            attempt_limit,
            lost_attempts,
        })
    }

    fn kind(decision: &OnClaim) -> Option<FailureKind> {
        match decision {
            OnClaim::GiveUp(failure) => Some(failure.kind),
            OnClaim::Run { .. } => None,
        }
    }

    #[test]
    fn a_lost_worker_costs_an_attempt_and_three_of_them_the_step() {
        assert_eq!(expired(1, 3, 0), OnClaim::Run { lost: true });
        assert_eq!(kind(&expired(3, 3, 0)), Some(FailureKind::Lost));
        assert_eq!(
            kind(&expired(1, 1, 0)),
            Some(FailureKind::Lost),
            "not retryable"
        );
        assert_eq!(expired(2, 10, 1), OnClaim::Run { lost: true });
        assert_eq!(kind(&expired(3, 10, 2)), Some(FailureKind::Quarantined));
    }
}
