//! Saying that this worker is alive, noticing lost leases and new definitions.

use std::time::Duration;

use jiff::Timestamp;
use tasker_model::name::Queue;
use tasker_model::template::TaskTemplate;
use tasker_store::StoreError;
use tasker_store::record::TemplateId;
use tasker_store::store::Runnable;

use super::{Beat, Reply, Worker};
use crate::execute::until;

impl Worker {
    pub(super) fn send_heartbeat(&mut self, now: Timestamp) {
        if self.under_way.beating || now < self.next_beat {
            return;
        }
        self.under_way.beating = true;
        let third = Duration::from_millis(self.options.lease_ms() / 3);
        self.next_beat = until(now, third.max(Duration::from_millis(1)));
        let (store, leases) = (self.store.clone(), self.attempts.leases());
        let mut record = self.record.clone();
        record.seen_at = now;
        let (lease_ms, last_template) = (self.options.lease_ms(), self.last_template);
        self.under_way.push(async move {
            let beat = async {
                let worker = record.worker_id;
                store.register_worker(record).await?;
                let lost = if leases.is_empty() {
                    Vec::new()
                } else {
                    store.heartbeat(worker, leases, lease_ms).await?
                };
                Ok(Beat {
                    lost,
                    new_templates: store.templates(last_template).await?,
                })
            };
            Reply::Beaten(beat.await)
        });
    }

    pub(super) fn on_beaten(&mut self, answer: Result<Beat, StoreError>) {
        match answer {
            Ok(Beat {
                lost,
                new_templates,
            }) => {
                for lease in lost {
                    self.is_lost(lease);
                    if let Some(attempt) = self.attempts.take(lease.step, lease.attempt) {
                        // Its outcome could not be recorded any more.
                        attempt.stop();
                        self.free += 1;
                    }
                }
                self.adopt(new_templates);
            }
            Err(error) => {
                self.next_beat = Timestamp::MIN;
                self.pause.begin(self.clock.now(), &error);
            }
        }
    }

    /// Another program may have registered an older or newer form of a handler known here: its
    /// tasks run here, too, as long as all their steps have code in this program.
    pub(super) fn adopt(&mut self, found: Vec<(TemplateId, TaskTemplate)>) {
        let mut runnable = self.runnable.to_vec();
        for (id, template) in found {
            self.last_template = self.last_template.max(Some(id));
            let is_new = runnable.iter().all(|known| known.template != id);
            if self.registry.adopt_stored(&template) && is_new {
                if template.has_aftermath() {
                    self.aftermaths.add(id);
                }
                let served = |queue: &Queue| self.options.serves(queue);
                let queues = template.queues().into_iter().filter(served);
                runnable.extend(queues.map(|queue| Runnable {
                    queue,
                    template: id,
                }));
            }
        }
        if runnable.len() > self.runnable.len() {
            self.runnable = runnable.into();
            self.backlog = true;
        }
    }
}
