//! How far attempts have come: told to subscribers at once, and to the store now and then.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tasker_model::event::Fact;
use tasker_model::id::StepKey;
use tasker_model::progress::StepProgress;
use tasker_store::StoreError;
use tasker_store::store::Lease;

use super::{Reply, Worker};
use crate::execute::until;

/// How often the store is told, at most.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// What the store has not been told yet.
pub(super) struct Notes {
    waiting: BTreeMap<StepKey, (Lease, StepProgress)>,
    next: Timestamp,
    under_way: bool,
}

impl Default for Notes {
    fn default() -> Notes {
        Notes {
            waiting: BTreeMap::new(),
            next: Timestamp::MIN,
            under_way: false,
        }
    }
}

impl Notes {
    /// When the store is to be told, if there is anything to tell and nothing on its way.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let waits = !self.waiting.is_empty() && !self.under_way;
        waits.then_some(self.next)
    }
}

impl Worker {
    pub(super) fn on_progress(&mut self, step: StepKey, attempt: u32) {
        let Some((lease, progress)) = self.attempts.take_progress(step, attempt) else {
            return;
        };
        let name = self.attempts.step_name(step);
        let now = self.clock.now();
        if let Some(step_name) = name {
            let progress = progress.clone();
            self.publisher
                .publish(now, step.task_id, || Fact::StepProgressed {
                    step: step_name,
                    progress,
                });
        }
        self.notes.waiting.insert(step, (lease, progress));
    }

    pub(super) fn send_notes(&mut self, now: Timestamp) {
        if self.notes.next().is_none_or(|next| now < next) {
            return;
        }
        self.notes.under_way = true;
        self.notes.next = until(now, NOTE_EVERY);
        let notes = std::mem::take(&mut self.notes.waiting);
        let notes = notes.into_values().collect();
        let (store, worker) = (self.store.clone(), self.record.worker_id);
        self.under_way
            .push(async move { Reply::Noted(store.note_progress(worker, notes).await) });
    }

    pub(super) fn on_noted(&mut self, answer: Result<(), StoreError>) {
        self.notes.under_way = false;
        if let Err(error) = answer {
            // It was for people who look; there will be more to say.
            tracing::debug!(%error, "the progress of steps was not noted");
        }
    }
}
