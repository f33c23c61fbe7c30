//! Creating tasks: requests that wait become one transaction.

use tasker_model::event::Fact;
use tasker_store::StoreError;
use tasker_store::store::{Created, Progress};

use super::{CREATE_BATCH_MAX, Creation, Reply, Worker};
use crate::error::Error;

impl Worker {
    pub(super) fn send_creations(&mut self) {
        if self.under_way.creating || self.creations.is_empty() {
            return;
        }
        let mut batch = Vec::new();
        let mut tasks = Vec::new();
        while let Some(next) = self.creations.front()
            && (tasks.is_empty() || tasks.len() + next.tasks.len() <= CREATE_BATCH_MAX)
        {
            let creation = self
                .creations
                .pop_front()
                .expect("invariant: there is a front");
            tasks.extend(creation.tasks.iter().cloned());
            batch.push(creation);
        }
        let budget = self.budget(false);
        let slots = budget.as_ref().map_or(0, |budget| budget.slots);
        let store = self.store.clone();
        self.under_way.creating = true;
        self.under_way
            .push(async move { Reply::Created(batch, slots, store.create(tasks, budget).await) });
    }

    pub(super) fn on_created(
        &mut self,
        mut batch: Vec<Creation>,
        slots: usize,
        answer: Result<(Vec<Created>, Progress), StoreError>,
    ) {
        match answer {
            Ok((created, progress)) => {
                let asked: usize = batch.iter().map(|creation| creation.tasks.len()).sum();
                assert_eq!(created.len(), asked, "the store answers every task");
                let mut created = created.into_iter();
                for creation in batch {
                    let of_creation: Vec<_> = created.by_ref().take(creation.tasks.len()).collect();
                    self.announce(creation, of_creation);
                }
                self.proceed(slots, progress);
            }
            Err(error) if error.is_transient() || batch.len() == 1 => {
                self.free += slots;
                if slots > 0 {
                    self.be_unsure();
                }
                let error = Error::from(error);
                for creation in batch.drain(..) {
                    // Whoever asked may have gone away.
                    let _ = creation.reply.send(Err(error.clone()));
                }
            }
            Err(_) => {
                // One of them cannot be created; each goes alone, so that the others can.
                self.free += slots;
                for creation in batch {
                    self.create_alone(creation);
                }
            }
        }
    }

    pub(super) fn create_alone(&mut self, creation: Creation) {
        let (store, tasks) = (self.store.clone(), creation.tasks.clone());
        self.under_way.push(async move {
            Reply::Created(vec![creation], 0, store.create(tasks, None).await)
        });
    }

    pub(super) fn announce(&mut self, creation: Creation, created: Vec<Created>) {
        let now = self.clock.now();
        for answer in &created {
            if let Created::New(task_id) = answer {
                self.publisher.publish(now, *task_id, || Fact::TaskCreated);
            }
        }
        if let (Some(watch), Some(Created::New(task_id))) = (creation.watch, created.first()) {
            self.watch(*task_id, watch);
        }
        let _ = creation.reply.send(Ok(created));
    }
}
