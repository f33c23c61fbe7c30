//! Time as an argument.
//!
//! A store decides by its clock what is due and whose lease is over; the engine waits on the same
//! clock. Production reads the system's, tests turn the hands themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

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
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<Timestamp>,
    /// Shared with the waits, each of which takes itself out when it is dropped.
    awaited: Arc<Mutex<Awaited>>,
}

/// Times that somebody waits for at this moment, so that a test can jump straight to the next.
#[derive(Debug, Default)]
struct Awaited {
    times: HashMap<u64, Timestamp>,
    last: u64,
}

/// One wait, for as long as somebody waits.
struct Wait {
    number: u64,
    awaited: Arc<Mutex<Awaited>>,
}

impl Wait {
    fn begin(awaited: &Arc<Mutex<Awaited>>, until: Timestamp) -> Wait {
        let mut times = awaited.lock().unwrap_or_else(PoisonError::into_inner);
        times.last += 1;
        let number = times.last;
        times.times.insert(number, until);
        Wait {
            number,
            awaited: awaited.clone(),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.times.remove(&self.number);
    }
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> ManualClock {
        let now = watch::Sender::new(whole_microseconds(start));
        ManualClock {
            now,
            awaited: Arc::default(),
        }
    }

    /// Moves the clock forward and wakes whoever waits for a time up to then.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| {
            *now =
                whole_microseconds(*now + jiff::SignedDuration::try_from(by).unwrap_or_default());
        });
    }

    /// Moves the clock to the earliest time that somebody waits for, if somebody waits for one
    /// that has not come.
    pub fn advance_to_next(&self) -> Option<Timestamp> {
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let next = awaited
            .times
            .values()
            .min()
            .copied()
            .filter(|next| *next > self.now())?;
        drop(awaited);
        self.now.send_replace(next);
        Some(next)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn sleep_until(&self, until: Timestamp) -> BoxFuture<'static, ()> {
        let wait = Wait::begin(&self.awaited, until);
        let mut hands = self.now.subscribe();
        async move {
            // An error means that the clock is gone: then no time will ever come.
            if hands.wait_for(|now| *now >= until).await.is_err() {
                std::future::pending::<()>().await;
            }
            drop(wait);
        }
        .boxed()
    }
}

fn whole_microseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond())
        .expect("invariant: truncating a time keeps it in range")
}
