//! Looking for what comes in before going to sleep: to be woken takes as long as a short step.

use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, StreamExt as _};

use super::{Thread, Worker};

/// How long the loop looks for something before it sleeps: a little more than a commit takes.
const SPIN: Duration = Duration::from_micros(250);
/// The same when a single thing is under way, on a store across the network: a commit takes longer
/// there, and nobody else wants the processor meanwhile.
const SPIN_ALONE: Duration = Duration::from_micros(700);
/// After so many looks in vain in a row, one in two to the power of it remains.
const SPINS_MISSED_MAX: u32 = 8;

/// Which looks before sleeping are left out.
#[derive(Default)]
pub(super) struct Spin {
    missed: u32,
    rest: u32,
}

impl Worker {
    /// Looks for what comes in for a moment before it sleeps. Gives whether something came.
    ///
    /// Waking a thread takes about as long as a handler that does little, and a short task would
    /// spend a tenth of its time on it. Looks in vain make the following ones rarer, so that an
    /// engine whose handlers take their time does not burn a core.
    pub(super) async fn spin(&mut self) -> bool {
        if self.thread == Thread::Shared {
            return false;
        }
        if self.spin.rest > 0 || (self.under_way.replies.is_empty() && self.attempts.is_empty()) {
            self.spin.rest = self.spin.rest.saturating_sub(1);
            return false;
        }
        let alone = self.under_way.replies.len() + self.attempts.len() == 1;
        let most = if alone && self.drives_store {
            SPIN_ALONE
        } else {
            SPIN
        };
        let started = Instant::now();
        while started.elapsed() < most {
            if let Some(Some(reply)) = self.under_way.replies.next().now_or_never() {
                self.on_reply(reply);
                self.spin.missed = 0;
                return true;
            }
            if let Ok(message) = self.inbox.try_recv() {
                self.on_messages(message);
                self.spin.missed = 0;
                return true;
            }
            if self.drives_store {
                // The store's answers come in on this thread: let it look for them.
                tokio::task::yield_now().await;
            } else {
                std::hint::spin_loop();
            }
        }
        self.spin.missed = (self.spin.missed + 1).min(SPINS_MISSED_MAX);
        self.spin.rest = 1 << self.spin.missed;
        false
    }
}
