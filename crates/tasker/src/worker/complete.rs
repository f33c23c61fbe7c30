//! Recording outcomes: what has ended meanwhile becomes one transaction, until the store takes it.

use std::time::Duration;

use tasker_model::event::Fact;
use tasker_model::outcome::Settlement;
use tasker_model::wait::Until;
use tasker_store::StoreError;
use tasker_store::store::{Completion, Progress, Recorded};

use super::{COMMITS_AT_ONCE, Outgoing, Reply, SECOND_COMMIT_MIN, Worker};
use crate::execute::until;

impl Worker {
    /// The first commit goes out at once. While it is under way, a second one must be large enough
    /// to keep the disk busy: what trickles in is better off in one batch with the rest.
    fn is_worth_a_commit(&self) -> bool {
        match self.under_way.commits {
            0 => !self.ended.is_empty(),
            commits => commits < COMMITS_AT_ONCE && self.ended.len() >= SECOND_COMMIT_MIN,
        }
    }

    pub(super) fn send_outcomes(&mut self) {
        while self.is_worth_a_commit() {
            let most = if self.one_by_one > 0 {
                1
            } else {
                self.options.commit_batch_max
            };
            self.one_by_one = self.one_by_one.saturating_sub(1);
            let batch: Vec<Outgoing> = self.ended.drain(..self.ended.len().min(most)).collect();
            let completions = batch
                .iter()
                .map(|outgoing| outgoing.completion.clone())
                .collect();
            let also_due = std::mem::take(&mut self.backlog);
            let budget = self.budget(also_due);
            self.backlog |= also_due && budget.is_none();
            let slots = budget.as_ref().map_or(0, |budget| budget.slots);
            let (store, worker) = (self.store.clone(), self.record.worker_id);
            self.under_way.commits += 1;
            self.under_way.push(async move {
                Reply::Completed(
                    batch,
                    slots,
                    store.complete(worker, completions, budget).await,
                )
            });
        }
    }

    pub(super) fn on_completed(
        &mut self,
        batch: Vec<Outgoing>,
        slots: usize,
        answer: Result<(Vec<Recorded>, Progress), StoreError>,
    ) {
        match answer {
            Ok((recorded, progress)) => {
                assert_eq!(
                    recorded.len(),
                    batch.len(),
                    "the store answers every completion"
                );
                self.pause.end();
                for (outgoing, recorded) in batch.into_iter().zip(recorded) {
                    self.on_recorded(outgoing, recorded);
                }
                self.proceed(slots, progress);
            }
            Err(error) => {
                self.free += slots;
                self.backlog = true;
                if is_ours(&error) && batch.len() == 1 {
                    let lease = batch[0].completion.lease;
                    tracing::error!(%error, ?lease, "an outcome was refused; its lease runs out");
                    return;
                }
                if is_ours(&error) {
                    self.one_by_one = batch.len();
                } else {
                    if slots > 0 {
                        self.be_unsure();
                    }
                    self.pause.begin(self.clock.now(), &error);
                }
                for outgoing in batch.into_iter().rev() {
                    self.ended.push_front(outgoing);
                }
            }
        }
    }

    pub(super) fn on_recorded(&mut self, outgoing: Outgoing, recorded: Recorded) {
        let Outgoing {
            completion: Completion {
                lease, settlement, ..
            },
            step,
        } = outgoing;
        if recorded == Recorded::LeaseLost {
            tracing::warn!(task.id = %lease.step.task_id, step.name = %step, attempt = lease.attempt,
                "the lease was lost before the outcome came; it was not recorded");
            return;
        }
        let now = self.clock.now();
        let attempt = lease.attempt;
        let due = match &settlement {
            Settlement::Retry { delay_ms, .. } => {
                Some(until(now, Duration::from_millis(*delay_ms)))
            }
            Settlement::Wait(wait) => match wait.until {
                Until::After(ms) => Some(until(now, Duration::from_millis(ms))),
                Until::At(time) => Some(time),
                Until::Signalled | Until::Subtasks => None,
            },
            _ => None,
        };
        self.next_claim = due.map_or(self.next_claim, |due| self.next_claim.min(due));
        self.publisher
            .publish(now, lease.step.task_id, || match settlement {
                Settlement::Complete { .. } => Fact::StepCompleted { step, attempt },
                Settlement::Retry { failure, delay_ms } => Fact::StepFailed {
                    step,
                    attempt,
                    failure,
                    retry_in_ms: Some(delay_ms),
                },
                Settlement::Fail { failure } => Fact::StepFailed {
                    step,
                    attempt,
                    failure,
                    retry_in_ms: None,
                },
                Settlement::Skip { cause } => Fact::StepSkipped { step, cause },
                Settlement::Wait(wait) => Fact::StepWaiting { step, wait },
                Settlement::HandBack => Fact::StepHandedBack { step, attempt },
            });
    }
}

/// Whether an error is about what was sent, rather than about the state of the store.
fn is_ours(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Bug(_)
            | StoreError::BadRow(_)
            | StoreError::IllegalMove(_)
            | StoreError::Refused(_)
            | StoreError::Unexpected { .. }
    )
}
