//! The state machine of steps (spec 02 §3, intended behaviour).
//!
//! [`StepState::after`] is the whole machine. Who may ask for a move is decided elsewhere: that
//! parents are done before `claim` is kept by the store's counter, see [`crate::readiness`].

use crate::state::{IllegalMove, Machine};
use crate::text_enum::text_enum;

text_enum! {
    /// The state of a step.
    "step state" enum StepState {
        /// Not started, or put back: waits for parents, for a time, or for a worker.
        Pending = "pending",
        /// A worker holds a lease on an attempt.
        InProgress = "in_progress",
        /// The handler succeeded and its result is stored.
        Complete = "complete",
        /// The last attempt failed; it may be retried while attempts remain.
        Error = "error",
        /// Abandoned; does not satisfy dependents.
        Cancelled = "cancelled",
        /// Declared done by a person; satisfies dependents.
        ResolvedManually = "resolved_manually",
        /// Not needed: bypassed by the request, by a person, or by its condition; satisfies dependents.
        Skipped = "skipped",
    }
}

text_enum! {
    /// What can happen to a step.
    "step event" enum StepEvent {
        /// A worker takes it under a lease.
        Claim = "claim",
        /// Its attempt succeeded.
        Complete = "complete",
        /// Its attempt failed.
        Fail = "fail",
        /// It fails without an attempt, for instance because the task's deadline has passed.
        Reject = "reject",
        /// It is abandoned.
        Cancel = "cancel",
        /// It goes round again after a failure.
        Retry = "retry",
        /// Its lease was lost or handed back.
        Release = "release",
        /// A person declares it done.
        Resolve = "resolve",
        /// It is not needed.
        Skip = "skip",
        /// The worker that has claimed it finds that it is not needed.
        Decline = "decline",
    }
}

impl StepState {
    /// The state after an event, or why there is none.
    pub fn after(self, event: StepEvent) -> Result<StepState, IllegalMove> {
        self.next(event).ok_or_else(|| {
            let possible = StepEvent::ALL
                .iter()
                .filter(|event| self.next(**event).is_some());
            let asked = (self.as_str(), event.as_str());
            IllegalMove::new(Machine::Step, asked, possible.map(|event| event.as_str()))
        })
    }

    /// The table: one line per legal move, nothing else.
    fn next(self, event: StepEvent) -> Option<StepState> {
        use StepEvent as On;
        use StepState::{
            Cancelled, Complete, Error, InProgress, Pending, ResolvedManually, Skipped,
        };
        Some(match (self, event) {
            (Pending, On::Claim) => InProgress,
            (Pending, On::Reject) => Error,
            (Pending, On::Cancel) => Cancelled,
            (Pending, On::Resolve) => ResolvedManually,
            (Pending, On::Skip) => Skipped,
            (InProgress, On::Complete) => Complete,
            (InProgress, On::Fail) => Error,
            (InProgress, On::Cancel) => Cancelled,
            (InProgress, On::Release) => Pending,
            (InProgress, On::Decline) => Skipped,
            (Error, On::Retry) => Pending,
            (Error, On::Resolve) => ResolvedManually,
            _ => return None,
        })
    }

    /// Whether dependents may start: complete, resolved manually or skipped.
    pub const fn is_done(self) -> bool {
        matches!(
            self,
            StepState::Complete | StepState::ResolvedManually | StepState::Skipped
        )
    }

    /// The word shown by the library and accepted by filters (spec 16, status mapping).
    pub const fn status(self) -> &'static str {
        match self {
            StepState::Pending => "pending",
            StepState::InProgress => "running",
            StepState::Complete | StepState::ResolvedManually => "completed",
            StepState::Error => "failed",
            StepState::Cancelled => "cancelled",
            StepState::Skipped => "skipped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StepState::{Cancelled, Complete, Error, InProgress, Pending, ResolvedManually, Skipped};

    /// The specification's own table (02 §3), with its intended additions: skipped, also by a
    /// condition that is looked at by whoever has claimed the step, and `in_progress → pending` for a
    /// lost lease.
    const SPEC: &[(StepState, &[StepState])] = &[
        (
            Pending,
            &[InProgress, Error, Cancelled, ResolvedManually, Skipped],
        ),
        (InProgress, &[Pending, Complete, Error, Cancelled, Skipped]),
        (Error, &[Pending, ResolvedManually]),
        (Complete, &[]),
        (Cancelled, &[]),
        (ResolvedManually, &[]),
        (Skipped, &[]),
    ];

    #[test]
    fn all_pairs_agree_with_the_specification() {
        for &from in StepState::ALL {
            let allowed = SPEC.iter().find(|(state, _)| *state == from).unwrap().1;
            let mut reached: Vec<_> = StepEvent::ALL
                .iter()
                .filter_map(|&event| from.after(event).ok())
                .collect();
            reached.sort_unstable();
            let mut allowed = allowed.to_vec();
            allowed.sort_unstable();
            assert_eq!(reached, allowed, "from {from}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_possible() {
        assert_eq!(
            Error.after(StepEvent::Cancel).unwrap_err().to_string(),
            "a step in state `error` cannot cancel; it can retry, resolve"
        );
        assert_eq!(
            Complete.after(StepEvent::Claim).unwrap_err().to_string(),
            "a step in state `complete` cannot claim; it can do nothing more"
        );
    }

    #[test]
    fn spelling_is_read_back_and_unknown_words_name_the_allowed_ones() {
        for state in StepState::ALL {
            assert_eq!(state.as_str().parse::<StepState>().unwrap(), *state);
        }
        let unknown = "failed".parse::<StepState>().unwrap_err().to_string();
        assert!(unknown.starts_with("unknown step state `failed`; allowed: pending, in_progress"));
    }
}
