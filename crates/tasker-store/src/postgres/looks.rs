//! From where a look for due steps must begin.
//!
//! A step that was claimed leaves its entry in the index of due steps until vacuum removes it, and
//! while a long transaction somewhere holds vacuum up, every look would walk over all entries since
//! then. But steps become due at the present time, never in the past: what an earlier look has
//! found empty stays empty, but for transactions that were under way. So ordinary looks begin a
//! little before where the last one ended, and a thorough one, from the beginning, is made as
//! often as it is cheap.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tasker_model::id::WorkerId;

use crate::store::{ClaimBudget, Runnable};

/// How long a transaction may take between setting a time and its commit without its steps being
/// left to the next thorough look.
const UNDER_WAY: SignedDuration = SignedDuration::from_millis(500);
/// Thorough looks take at most this share of the time, as one part in so many.
const SHARE: u32 = 20;
/// The longest time between two thorough looks: what an overlooked step waits at worst.
const THOROUGH_EVERY: Duration = Duration::from_secs(5);

/// Where a look begins; `None` is the beginning.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    pub(super) due_after: Option<Timestamp>,
    pub(super) leased_after: Option<Timestamp>,
    pub(super) thorough: bool,
}

struct Known {
    runnable: Vec<Runnable>,
    /// Nothing was left before.
    empty_before: Option<Timestamp>,
    next_thorough: Instant,
}

/// What each worker of this process knows.
#[derive(Default)]
pub(super) struct Looks(Mutex<HashMap<WorkerId, Known>>);

impl Looks {
    /// Where a claim begins. Under a test's clock every look is thorough.
    pub(super) fn next(&self, budget: &ClaimBudget, by_test_clock: bool) -> Look {
        let thorough = Look {
            thorough: true,
            ..Look::default()
        };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&budget.worker) {
            Some(known)
                if !by_test_clock
                    && Instant::now() < known.next_thorough
                    && known.runnable[..] == budget.runnable[..] =>
            {
                Look {
                    due_after: known.empty_before,
                    leased_after: known.empty_before,
                    thorough: false,
                }
            }
            _ => thorough,
        }
    }

    /// Where a look beside a completion begins: never a thorough one.
    pub(super) fn peek(&self, budget: &ClaimBudget, by_test_clock: bool) -> Look {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let empty_before = match known.get(&budget.worker) {
            Some(known) if !by_test_clock && known.runnable[..] == budget.runnable[..] => {
                known.empty_before
            }
            _ => None,
        };
        Look {
            due_after: empty_before,
            leased_after: empty_before,
            thorough: false,
        }
    }

    /// A claim has looked up to `reached`, and it took so long.
    pub(super) fn looked(
        &self,
        budget: &ClaimBudget,
        look: &Look,
        reached: Option<Timestamp>,
        took: Duration,
    ) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(budget.worker).or_insert_with(|| Known {
            runnable: Vec::new(),
            empty_before: None,
            next_thorough: Instant::now(),
        });
        if look.thorough {
            entry.runnable = budget.runnable.to_vec();
            entry.next_thorough = Instant::now() + (took * SHARE).min(THOROUGH_EVERY);
            entry.empty_before = None;
        }
        let reached = reached.and_then(|reached| reached.checked_sub(UNDER_WAY).ok());
        entry.empty_before = entry.empty_before.max(reached);
    }
}
