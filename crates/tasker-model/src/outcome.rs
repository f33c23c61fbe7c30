//! How an attempt ends, and what that means for its step.
//!
//! [`settle`] is the whole decision about one step: done, tried again and when, or failed for
//! good. The store carries it out if the attempt still holds its lease.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::Json;
use crate::retry::RetryPolicy;
use crate::text_enum::text_enum;
use crate::wait::Wait;

text_enum! {
    /// Why an attempt, or a step without an attempt, failed.
    "failure kind" enum FailureKind {
        /// The handler returned an error that may go away.
        Retryable = "retryable",
        /// The handler said that trying again is of no use.
        Permanent = "permanent",
        /// The attempt took longer than the step's timeout.
        TimedOut = "timed_out",
        /// The handler panicked.
        Panicked = "panicked",
        /// The result cannot be stored: it is too large or not JSON.
        ResultRefused = "result_refused",
        /// The worker vanished, and no attempt is left.
        Lost = "lost",
        /// Workers vanished again and again while they ran this step.
        Quarantined = "quarantined",
        /// The deadline of the whole task has passed.
        DeadlineExceeded = "deadline_exceeded",
    }
}

impl FailureKind {
    /// Whether another attempt may be made while attempts are left.
    pub const fn may_retry(self) -> bool {
        matches!(
            self,
            FailureKind::Retryable | FailureKind::TimedOut | FailureKind::Panicked
        )
    }
}

text_enum! {
    /// Why a worker skipped a step that it had claimed.
    "cause of a skip" enum SkipCause {
        /// Its condition was false.
        Condition = "condition",
        /// Its parents did not end as its trigger rule asks.
        TriggerRule = "trigger_rule",
    }
}

/// A failure as it is recorded with the transition that it caused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Why.
    pub kind: FailureKind,
    /// What the handler said, for people.
    pub message: String,
    /// The handler's own code for this failure, such as `CARD_DECLINED`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// What the handler added.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub context: Value,
    /// The delay that the failure asked for, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// A failure without code and context.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            message: message.into(),
            error_code: None,
            context: Value::Null,
            retry_after_ms: None,
        }
    }
}

/// What an attempt ended in.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The handler succeeded.
    Completed {
        /// Its result.
        result: Json,
    },
    /// The attempt failed.
    Failed(Failure),
    /// The step is not needed.
    Skipped {
        /// Why.
        cause: SkipCause,
    },
    /// The step waits, and holds no slot meanwhile; the attempt does not count.
    Waiting(Wait),
    /// The worker is shutting down and gives the step back; the attempt does not count.
    HandedBack,
}

/// What becomes of the step.
#[derive(Debug, Clone)]
pub enum Settlement {
    /// It is complete.
    Complete {
        /// The result to store.
        result: Json,
    },
    /// It failed and is due again after a delay.
    Retry {
        /// Why it failed.
        failure: Failure,
        /// The delay from now.
        delay_ms: u64,
    },
    /// It failed for good.
    Fail {
        /// Why.
        failure: Failure,
    },
    /// It is not needed.
    Skip {
        /// Why.
        cause: SkipCause,
    },
    /// It waits; the attempt does not count.
    Wait(Wait),
    /// It is due again at once, as if it had not been claimed.
    HandBack,
}

/// Decides what an attempt's outcome means for its step.
///
/// `attempt` is the number of the attempt, `attempt_limit` the step's limit as stored (a person
/// may have raised it), `chance` a number in `[0, 1)` for the jitter.
pub fn settle(
    outcome: Outcome,
    attempt: u32,
    attempt_limit: u32,
    policy: &RetryPolicy,
    chance: f64,
) -> Settlement {
    assert!(
        attempt <= attempt_limit,
        "attempt {attempt} is beyond the limit {attempt_limit}"
    );
    match outcome {
        Outcome::Completed { result } => Settlement::Complete { result },
        Outcome::Skipped { cause } => Settlement::Skip { cause },
        Outcome::Waiting(wait) => Settlement::Wait(wait),
        Outcome::HandedBack => Settlement::HandBack,
        Outcome::Failed(failure) if failure.kind.may_retry() && attempt < attempt_limit => {
            let delay_ms = policy.delay_ms(attempt, failure.retry_after_ms, chance);
            Settlement::Retry { failure, delay_ms }
        }
        Outcome::Failed(failure) => Settlement::Fail { failure },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(kind: FailureKind, attempt: u32, limit: u32) -> Settlement {
        let failed = Outcome::Failed(Failure::new(kind, "no"));
        settle(failed, attempt, limit, &RetryPolicy::default(), 0.5)
    }

    #[test]
    fn attempts_run_out() {
        assert!(matches!(
            settled(FailureKind::Retryable, 1, 3),
            Settlement::Retry {
                delay_ms: 2_000,
                ..
            }
        ));
        assert!(matches!(
            settled(FailureKind::TimedOut, 2, 3),
            Settlement::Retry {
                delay_ms: 4_000,
                ..
            }
        ));
        assert!(matches!(
            settled(FailureKind::Panicked, 3, 3),
            Settlement::Fail { .. }
        ));
    }

    #[test]
    fn permanent_failures_are_permanent() {
        for kind in [
            FailureKind::Permanent,
            FailureKind::ResultRefused,
            FailureKind::DeadlineExceeded,
        ] {
            assert!(
                matches!(settled(kind, 1, 3), Settlement::Fail { .. }),
                "{kind}"
            );
        }
    }
}
