//! After a call whose answer was lost: finding out what it claimed.
//!
//! A claim that the store carried out, but whose answer never came, leaves leases with this worker
//! that it does not know of. They would run out in time, and count as lost attempts. Instead the
//! worker asks for what it holds, as soon as nothing else is under way that could change it.

use tasker_store::StoreError;
use tasker_store::store::{ClaimedStep, Lease};

use super::{Reply, Stopping, Worker};

/// Whether this worker knows of every lease that it holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holdings {
    Known,
    /// A call that failed may have claimed something all the same.
    Unsure,
    Asking,
}

impl Worker {
    /// Called when a call that may have claimed something has failed.
    pub(super) fn be_unsure(&mut self) {
        self.holdings = Holdings::Unsure;
    }

    /// Notes a lease that was found lost while the question of what is held is under way.
    pub(super) fn is_lost(&mut self, lease: Lease) {
        if self.holdings == Holdings::Asking {
            self.lost_meanwhile.push(lease);
        }
    }

    /// Whether to ask what this worker holds before anything else is sent. Attempts that a stopping
    /// worker has left behind still run: what it does not know any more must not start again.
    pub(super) fn is_unsure(&self) -> bool {
        self.holdings != Holdings::Known && !matches!(self.stopping, Stopping::HandingBack(_))
    }

    pub(super) fn send_held(&mut self) {
        let busy = &self.under_way;
        let answers_come = busy.claiming || busy.creating || busy.commits > 0;
        if answers_come || self.holdings == Holdings::Asking {
            return;
        }
        self.holdings = Holdings::Asking;
        self.lost_meanwhile.clear();
        let (store, worker) = (self.store.clone(), self.record.worker_id);
        let runnable = self.runnable.clone();
        self.under_way
            .push(async move { Reply::Held(store.held(worker, runnable).await) });
    }

    pub(super) fn on_held(&mut self, answer: Result<Vec<ClaimedStep>, StoreError>) {
        match answer {
            Ok(held) => {
                self.holdings = Holdings::Known;
                self.pause.end();
                for claimed in held {
                    if !self.knows(&claimed) {
                        self.take_up(claimed);
                    }
                }
            }
            Err(error) => {
                self.be_unsure();
                self.pause.begin(self.clock.now(), &error);
            }
        }
    }

    fn knows(&self, claimed: &ClaimedStep) -> bool {
        let lease = claimed.lease;
        // The answer may be older than the heartbeat that found the lease lost.
        self.lost_meanwhile.contains(&lease)
            || self.attempts.running(lease.step) == Some(lease.attempt)
            || self
                .ended
                .iter()
                .any(|outgoing| outgoing.completion.lease == lease)
    }

    fn take_up(&mut self, claimed: ClaimedStep) {
        tracing::info!(task.id = %claimed.lease.step.task_id, attempt = claimed.lease.attempt,
            "found a step that was claimed by a call whose answer was lost");
        if self.free == 0 {
            return self.hand_back(&claimed);
        }
        self.free -= 1;
        self.start(claimed);
    }
}
