//! Time as an argument.
//!
//! A store decides by its clock what is due and whose lease is over; the engine waits on the same
//! clock. Production reads the system's, tests turn the hands themselves.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// The time now, in whole microseconds.
    fn now(&self) -> Timestamp;

    /// Ends once the clock shows `until`.
    fn sleep_until(&self, until: Timestamp) -> BoxFuture<'static, ()>;

    /// Whether this is the time of the world, so that a database server may decide by its own
    /// clock instead: several nodes never agree on theirs.
    fn is_real(&self) -> bool {
        false
    }
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        whole_microseconds(Timestamp::now())
    }

    fn sleep_until(&self, until: Timestamp) -> BoxFuture<'static, ()> {
        let wait = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
        tokio::time::sleep(wait).boxed()
    }

    fn is_real(&self) -> bool {
        true
    }
}

/// A clock that moves only when it is told to.
///
/// Whoever waits is woken in the order of the times, and for the same time in the order in which
/// they began to wait: with one thread, the same moves lead to the same order of everything.
#[derive(Debug)]
pub struct ManualClock {
    /// Shared with the waits, each of which takes itself out when it is dropped.
    hands: Arc<Mutex<Hands>>,
}

/// What the clock shows, and who waits for it to show more.
#[derive(Debug)]
struct Hands {
    now: Timestamp,
    /// By time and number; woken at most once, and there until the wait is over.
    waits: BTreeMap<(Timestamp, u64), Option<Waker>>,
    last: u64,
}

impl Hands {
    /// Moves on, and gives those to wake: outside of the lock, since they may wait again at once.
    fn move_to(&mut self, now: Timestamp) -> Vec<Waker> {
        self.now = whole_microseconds(now);
        let reached = self.waits.range_mut(..=(self.now, u64::MAX));
        reached.filter_map(|(_, waker)| waker.take()).collect()
    }
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> ManualClock {
        let hands = Hands {
            now: whole_microseconds(start),
            waits: BTreeMap::new(),
            last: 0,
        };
        ManualClock {
            hands: Arc::new(Mutex::new(hands)),
        }
    }

    /// Moves the clock forward and wakes whoever waits for a time up to then.
    pub fn advance(&self, by: Duration) {
        let mut hands = lock(&self.hands);
        let later = hands.now + jiff::SignedDuration::try_from(by).unwrap_or_default();
        let woken = hands.move_to(later);
        drop(hands);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Moves the clock to the earliest time that somebody waits for, if somebody waits for one
    /// that has not come.
    pub fn advance_to_next(&self) -> Option<Timestamp> {
        let mut hands = lock(&self.hands);
        let &(next, _) = hands.waits.keys().next()?;
        if next <= hands.now {
            return None;
        }
        let woken = hands.move_to(next);
        drop(hands);
        woken.into_iter().for_each(Waker::wake);
        Some(next)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        lock(&self.hands).now
    }

    fn sleep_until(&self, until: Timestamp) -> BoxFuture<'static, ()> {
        Wait::begin(&self.hands, until).boxed()
    }
}

/// One wait, for as long as somebody waits.
struct Wait {
    key: (Timestamp, u64),
    hands: Arc<Mutex<Hands>>,
}

impl Wait {
    fn begin(shared: &Arc<Mutex<Hands>>, until: Timestamp) -> Wait {
        // The next whole microsecond: the clock shows no others.
        let until = until.checked_add(Duration::from_nanos(999));
        let until = whole_microseconds(until.unwrap_or(Timestamp::MAX));
        let mut hands = lock(shared);
        hands.last += 1;
        let key = (until, hands.last);
        hands.waits.insert(key, None);
        drop(hands);
        let hands = shared.clone();
        Wait { key, hands }
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Wait>, cx: &mut Context<'_>) -> Poll<()> {
        let mut hands = lock(&self.hands);
        if self.key.0 <= hands.now {
            hands.waits.remove(&self.key);
            return Poll::Ready(());
        }
        hands.waits.insert(self.key, Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        lock(&self.hands).waits.remove(&self.key);
    }
}

fn lock(hands: &Mutex<Hands>) -> MutexGuard<'_, Hands> {
    hands.lock().unwrap_or_else(PoisonError::into_inner)
}

fn whole_microseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond())
        .expect("invariant: truncating a time keeps it in range")
}
