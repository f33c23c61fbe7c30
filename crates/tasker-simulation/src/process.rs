//! A simulated process: it runs, it is frozen, or it is dead; and the time that it sees.
//!
//! What a frozen process does not see: answers, timers, the end of what its handlers wait for.
//! A dead one never sees anything again.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tasker::model::id::WorkerId;
use tasker::store::{Clock, ManualClock};
use tokio::sync::Notify;
use uuid::Uuid;

/// One start of one node.
pub(crate) struct Process {
    node: usize,
    start: u32,
    clock: Arc<ManualClock>,
    condition: Mutex<Condition>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Running,
    Frozen,
    Dead,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}.{}", self.node, self.start)
    }
}

impl Process {
    pub(crate) fn new(node: usize, start: u32, clock: Arc<ManualClock>) -> Process {
        Process {
            node,
            start,
            clock,
            condition: Mutex::new(Condition::Running),
            changed: Notify::new(),
        }
    }

    /// The same in every run of a seed.
    pub(crate) fn worker_id(&self) -> WorkerId {
        let number = (self.node as u128) << 32 | u128::from(self.start);
        WorkerId::from_uuid(Uuid::from_u128((0x0195_0000_0000_7000_8000 << 48) | number))
    }

    pub(crate) fn freeze(&self) {
        self.go(Condition::Frozen);
    }

    pub(crate) fn thaw(&self) {
        self.go(Condition::Running);
    }

    pub(crate) fn die(&self) {
        self.go(Condition::Dead);
    }

    fn go(&self, condition: Condition) {
        let mut current = self
            .condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *current != Condition::Dead {
            *current = condition;
        }
        drop(current);
        self.changed.notify_waiters();
    }

    fn condition(&self) -> Condition {
        *self
            .condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock that everybody shares.
    pub(crate) fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Whether the process is dead.
    pub(crate) fn is_gone(&self) -> bool {
        self.condition() == Condition::Dead
    }

    async fn is(&self, wanted: Condition) {
        loop {
            // Before the look, so that no change is missed.
            let changed = self.changed.notified();
            if self.condition() == wanted {
                return;
            }
            changed.await;
        }
    }

    /// Ends when the process runs: never for a dead one.
    pub(crate) async fn runs(&self) {
        self.is(Condition::Running).await;
    }

    /// Ends when the process is dead.
    pub(crate) async fn is_dead(&self) {
        self.is(Condition::Dead).await;
    }

    /// Lets time pass, and then whatever holds the process up.
    pub(crate) async fn sleep(&self, time: std::time::Duration) {
        sleep(&self.clock, time).await;
        self.runs().await;
    }
}

/// Lets virtual time pass.
pub(crate) async fn sleep(clock: &ManualClock, time: std::time::Duration) {
    let time = jiff::SignedDuration::try_from(time).unwrap_or_default();
    let until = clock.now().checked_add(time).unwrap_or(Timestamp::MAX);
    clock.sleep_until(until).await;
}

/// The clock as a process sees it.
pub(crate) struct ProcessClock(pub(crate) Arc<Process>);

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn sleep_until(&self, until: Timestamp) -> BoxFuture<'static, ()> {
        let process = self.0.clone();
        let slept = process.clock.sleep_until(until);
        async move {
            slept.await;
            process.runs().await;
        }
        .boxed()
    }
}
