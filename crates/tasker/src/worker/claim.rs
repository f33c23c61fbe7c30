//! Claiming: how much, when, and what follows from any transaction that claimed something.

use std::time::Duration;

use jiff::Timestamp;
use tasker_model::event::Fact;
use tasker_model::subtask::SubtaskStanding;
use tasker_store::StoreError;
use tasker_store::store::{ClaimBudget, Progress};

use super::{LOOK_EVERY, Reply, Worker};
use crate::execute::until;

impl Worker {
    /// Takes all free slots for a claim under way; what it does not use comes back.
    pub(super) fn budget(&mut self, also_due: bool) -> Option<ClaimBudget> {
        if !self.wants_claims() || self.runnable.is_empty() {
            return None;
        }
        Some(ClaimBudget {
            worker: self.record.worker_id,
            slots: std::mem::take(&mut self.free),
            lease_ms: self.options.lease_ms(),
            runnable: self.runnable.clone(),
            also_due,
        })
    }

    pub(super) fn send_claim(&mut self, now: Timestamp) {
        if self.under_way.claiming || !(self.backlog || self.next_claim <= now) {
            return;
        }
        let mark = self.store.change_mark();
        let Some(budget) = self.budget(true) else {
            // Whoever frees a slot claims; a worker without any never does.
            self.next_claim = until(now, Duration::from_secs(self.options.poll_seconds));
            return;
        };
        self.backlog = false;
        self.under_way.claiming = true;
        self.seen_mark = mark;
        let (store, slots) = (self.store.clone(), budget.slots);
        self.under_way
            .push(async move { Reply::Claimed(slots, store.claim(budget).await) });
    }

    /// A commit of anybody, this worker included, is a reason to look for what is due.
    pub(super) fn look_at_mark(&mut self, now: Timestamp) {
        if now < self.next_look || self.under_way.claiming || !self.wants_claims() {
            return;
        }
        self.next_look = now.checked_add(LOOK_EVERY).unwrap_or(Timestamp::MAX);
        if self.seen_mark.is_some() && self.store.change_mark() != self.seen_mark {
            self.backlog = true;
        }
    }

    pub(super) fn on_claimed(&mut self, slots: usize, answer: Result<Progress, StoreError>) {
        let now = self.clock.now();
        let poll = until(now, Duration::from_secs(self.options.poll_seconds));
        match answer {
            Ok(progress) => {
                self.pause.end();
                self.next_claim = progress.next_due.map_or(poll, |due| due.min(poll));
                self.proceed(slots, progress);
            }
            Err(error) => {
                self.free += slots;
                self.backlog = true;
                self.be_unsure();
                self.pause.begin(self.clock.now(), &error);
            }
        }
    }

    /// Starts what was claimed, and tells those who wait for what was finished.
    pub(super) fn proceed(&mut self, slots: usize, progress: Progress) {
        assert!(
            progress.claimed.len() <= slots,
            "the store keeps to the budget"
        );
        self.free += slots - progress.claimed.len();
        self.backlog |= progress.left_due;
        progress
            .claimed
            .into_iter()
            .for_each(|claimed| self.start(claimed));
        let now = self.clock.now();
        // One of them may be what another waits for.
        self.backlog |= self.aftermaths.concern() && !progress.finished.is_empty();
        for (task_id, state) in progress.finished {
            if SubtaskStanding::from(state) == SubtaskStanding::Failed {
                self.aftermaths.expect();
            }
            for watcher in self.watching.remove(&task_id).into_iter().flatten() {
                // Whoever watched may have gone away.
                let _ = watcher.send(state);
            }
            self.publisher
                .publish(now, task_id, || Fact::TaskFinished { state });
        }
    }
}
