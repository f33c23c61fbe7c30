//! When a step starts, in terms of how its parents ended.
//!
//! Stores keep two numbers per step, so that no end of a parent costs a look at the others:
//! `unfinished_parents`, the parents that are not done, and for the rules that count ends
//! `awaited`, how many more parents must end as the rule asks. A step is due when one of them
//! reaches 0 ([`TriggerRule::is_decided`]). Whoever claims it decides from the parents' states
//! whether it runs or is skipped ([`TriggerRule::verdict`]).

use serde::{Deserialize, Serialize};

use crate::step::StepState;

/// Which ends of its parents a step starts on. A parent has failed when no attempt is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerRule {
    /// Every parent is complete, resolved by hand or skipped.
    #[default]
    NoneFailed,
    /// Every parent is complete or resolved by hand; if one was skipped, this step is skipped.
    AllSuccess,
    /// As soon as one parent is complete or resolved by hand; skipped if all were skipped.
    AnySuccess,
    /// As soon as so many parents are complete or resolved by hand; skipped if all are done and
    /// there are fewer.
    AtLeast(u32),
    /// As soon as one parent has failed; skipped if all are done.
    AnyFailed,
    /// Every parent has ended, whatever in.
    AllDone,
}

/// How a parent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParentEnd {
    /// It is complete, or was resolved by hand.
    Success,
    /// It was skipped.
    Skip,
    /// It failed for good.
    Failure,
}

impl ParentEnd {
    /// How a step in this state has ended; `None` if it has not, or was cancelled. `is_due` says
    /// whether it is to be looked at again.
    pub const fn of(state: StepState, is_due: bool) -> Option<ParentEnd> {
        match state {
            StepState::Complete | StepState::ResolvedManually => Some(ParentEnd::Success),
            StepState::Skipped => Some(ParentEnd::Skip),
            StepState::Error if !is_due => Some(ParentEnd::Failure),
            _ => None,
        }
    }
}

/// What becomes of a step that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its handler runs.
    Run,
    /// It is skipped.
    Skip,
}

impl TriggerRule {
    /// Whether this is the rule of a step that names none.
    pub fn is_default(&self) -> bool {
        *self == TriggerRule::default()
    }

    /// How many ends the rule waits for, of so many parents; `None` for the rules that only wait
    /// until all parents are done.
    pub fn awaited(self, parents: u32) -> Option<u32> {
        match self {
            // Without parents there is nothing to wait for.
            _ if parents == 0 => None,
            TriggerRule::NoneFailed | TriggerRule::AllSuccess => None,
            TriggerRule::AnySuccess | TriggerRule::AnyFailed => Some(1),
            TriggerRule::AtLeast(count) => Some(count),
            TriggerRule::AllDone => Some(parents),
        }
    }

    /// Whether an end is one of those that the rule waits for.
    pub const fn counts(self, end: ParentEnd) -> bool {
        match self {
            TriggerRule::NoneFailed | TriggerRule::AllSuccess => false,
            TriggerRule::AnySuccess | TriggerRule::AtLeast(_) => matches!(end, ParentEnd::Success),
            TriggerRule::AnyFailed => matches!(end, ParentEnd::Failure),
            TriggerRule::AllDone => true,
        }
    }

    /// Whether a step that has not started is due, by the numbers that stores keep.
    pub fn is_decided(unfinished_parents: u32, awaited: Option<i32>) -> bool {
        unfinished_parents == 0 || awaited.is_some_and(|awaited| awaited <= 0)
    }

    /// Whether a step that is due runs, by the states of its parents.
    ///
    /// A person may have sent a parent round again since: then the rule, which was fulfilled, is
    /// not asked a second time.
    pub fn verdict(self, parents: impl IntoIterator<Item = StepState>) -> Verdict {
        let (mut all_done, mut successes, mut skips, mut count) = (true, 0_u32, 0_u32, 0_u32);
        for parent in parents {
            all_done &= parent.is_done();
            let succeeded = matches!(parent, StepState::Complete | StepState::ResolvedManually);
            successes += u32::from(succeeded);
            skips += u32::from(parent == StepState::Skipped);
            count += 1;
        }
        let skip = count > 0
            && all_done
            && match self {
                TriggerRule::NoneFailed | TriggerRule::AllDone => false,
                TriggerRule::AllSuccess => skips > 0,
                TriggerRule::AnySuccess => successes == 0,
                TriggerRule::AtLeast(wanted) => successes < wanted,
                TriggerRule::AnyFailed => true,
            };
        if skip { Verdict::Skip } else { Verdict::Run }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StepState::{Complete, Error, InProgress, ResolvedManually, Skipped};
    use TriggerRule::{AllDone, AllSuccess, AnyFailed, AnySuccess, AtLeast, NoneFailed};

    #[test]
    fn every_rule_decides_what_its_name_says() {
        let (run, skip) = (Verdict::Run, Verdict::Skip);
        for (rule, parents, expected) in [
            (NoneFailed, vec![Complete, Skipped], run),
            (AllSuccess, vec![Complete, ResolvedManually], run),
            (AllSuccess, vec![Complete, Skipped], skip),
            (AnySuccess, vec![Skipped, Complete], run),
            (AnySuccess, vec![Error, Complete], run),
            (AnySuccess, vec![Skipped, Skipped], skip),
            (AtLeast(2), vec![Complete, Skipped, Complete], run),
            (AtLeast(2), vec![Complete, Skipped, Skipped], skip),
            (AnyFailed, vec![Error, InProgress], run),
            (AnyFailed, vec![Complete, Skipped], skip),
            (AllDone, vec![Error, Skipped, Complete], run),
            (AnyFailed, vec![], run),
        ] {
            assert_eq!(
                rule.verdict(parents.clone()),
                expected,
                "{rule:?} of {parents:?}"
            );
        }
    }

    #[test]
    fn what_is_counted_and_what_is_decided_agree() {
        // Every way in which three parents can end, in order: the step is due exactly when its
        // rule can be decided, and then the verdict does not change any more.
        let ends = [Complete, Skipped, Error];
        for rule in [
            NoneFailed,
            AllSuccess,
            AnySuccess,
            AtLeast(2),
            AnyFailed,
            AllDone,
        ] {
            for code in 0..27 {
                let parents = [ends[code % 3], ends[code / 3 % 3], ends[code / 9]];
                let mut unfinished = 3;
                let mut awaited = rule.awaited(3).map(u32::cast_signed);
                let mut verdicts = Vec::new();
                for number in 1..=3 {
                    let end = ParentEnd::of(parents[number - 1], false).unwrap();
                    unfinished -= u32::from(end != ParentEnd::Failure);
                    awaited = awaited.map(|count| count - i32::from(rule.counts(end)));
                    if TriggerRule::is_decided(unfinished, awaited) {
                        let mut now = [InProgress; 3];
                        now[..number].copy_from_slice(&parents[..number]);
                        verdicts.push(rule.verdict(now));
                    }
                }
                verdicts.dedup();
                assert!(verdicts.len() <= 1, "{rule:?} of {parents:?}: {verdicts:?}");
                let failed = parents.contains(&Error);
                if !failed {
                    assert_eq!(verdicts.len(), 1, "{rule:?} of {parents:?} waits for ever");
                }
            }
        }
    }
}
