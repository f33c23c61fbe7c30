//! The database's clock, as far as a node knows it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::Inner;
use crate::clock::{Clock, SystemClock};

/// A difference between the two clocks that somebody should look at, in microseconds. Nothing
/// depends on it: the database decides what is due.
const LARGE_US: u64 = 1_000_000;

/// The system's clock, put right by what the server says: it tells when to wake up, while the
/// server alone decides what is due then.
#[derive(Debug, Default)]
pub(super) struct DatabaseClock {
    /// What the server's clock is ahead of the system's, in microseconds.
    ahead_us: AtomicI64,
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_micros(self.ahead_us.load(Ordering::Relaxed));
        let now = SystemClock.now();
        now.checked_add(ahead).unwrap_or(now)
    }

    fn sleep_until(&self, until: Timestamp) -> BoxFuture<'static, ()> {
        let wait = Duration::try_from(until.duration_since(self.now())).unwrap_or_default();
        tokio::time::sleep(wait).boxed()
    }

    fn is_real(&self) -> bool {
        true
    }
}

impl Inner {
    /// An answer showed the server's time: never wake up before it because of a clock that is slow.
    pub(super) fn saw_time(&self, server: Timestamp) {
        let late = server.duration_since(self.clock.now());
        if late.is_positive() && self.given.is_none() {
            self.clock
                .ahead_us
                .fetch_add(micros(late), Ordering::Relaxed);
        }
    }

    /// Measures the difference: the server's time was taken between the question and now.
    pub(super) fn measure_clock(&self, asked: Timestamp, server: Timestamp) {
        let half = Timestamp::now().duration_since(asked) / 2;
        let between = asked.checked_add(half).unwrap_or(asked);
        let ahead = micros(server.duration_since(between));
        let before = self.clock.ahead_us.swap(ahead, Ordering::Relaxed);
        if ahead.unsigned_abs() > LARGE_US && before.unsigned_abs() <= LARGE_US {
            let seconds = ahead as f64 / 1e6;
            tracing::warn!(
                "the database's clock is {seconds:+.1} s ahead of this machine's; the database \
                 decides what is due, but times in logs will not agree"
            );
        }
    }
}

fn micros(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(0)
}
