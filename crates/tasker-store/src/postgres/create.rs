//! Creating tasks.

use tasker_model::json::Json;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Inner;
use super::answer::{Part, no_summary};
use super::budget::Budget;
use crate::error::StoreError;
use crate::store::{ClaimBudget, Created, NewTask, Progress, scoped_key};

impl Inner {
    pub(super) async fn create(
        &self,
        tasks: Vec<NewTask>,
        budget: Option<ClaimBudget>,
    ) -> Result<(Vec<Created>, Progress), StoreError> {
        let mut templates = Vec::with_capacity(tasks.len());
        for task in &tasks {
            templates.push(self.register_template(&task.request.template).await?.0);
        }
        let ids: Vec<Uuid> = tasks.iter().map(|task| *task.task_id.as_uuid()).collect();
        let contexts: Vec<&str> = tasks.iter().map(|t| t.request.context.as_str()).collect();
        let requests = || tasks.iter().map(|task| &task.request.request);
        let initiators: Vec<&str> = requests().map(|r| r.initiator.as_str()).collect();
        let systems: Vec<&str> = requests().map(|r| r.source_system.as_str()).collect();
        let reasons: Vec<&str> = requests().map(|r| r.reason.as_str()).collect();
        let list = |names: &[String]| serde_json::to_string(names).expect("invariant: texts");
        let tags: Vec<String> = requests().map(|r| list(&r.tags)).collect();
        let bypass: Vec<String> = requests().map(|r| list(&r.bypass_steps)).collect();
        let requested_at: Vec<_> = requests().map(|r| r.requested_at).collect();
        let keys: Vec<Option<String>> = tasks.iter().map(scoped_key).collect();
        let identity = |task: &NewTask| task.identity.as_ref().map(|i| i.key.clone());
        let identities: Vec<Option<String>> = tasks.iter().map(identity).collect();
        let since: Vec<_> = tasks
            .iter()
            .map(|t| t.identity.as_ref().and_then(|i| i.since))
            .collect();
        let priorities: Vec<i32> = tasks.iter().map(|_| 0).collect();
        let start_at: Vec<Option<jiff::Timestamp>> = tasks.iter().map(|_| None).collect();
        let budget = Budget::of(budget.as_ref());
        let now = self.given_time();
        let rows = self
            .connections
            .rows(
                include_str!("../../sql/postgres/create.sql"),
                &[
                    (&now, Type::TIMESTAMPTZ),
                    (&ids, Type::UUID_ARRAY),
                    (&templates, Type::INT8_ARRAY),
                    (&contexts, Type::TEXT_ARRAY),
                    (&initiators, Type::TEXT_ARRAY),
                    (&systems, Type::TEXT_ARRAY),
                    (&reasons, Type::TEXT_ARRAY),
                    (&tags, Type::TEXT_ARRAY),
                    (&bypass, Type::TEXT_ARRAY),
                    (&requested_at, Type::TIMESTAMPTZ_ARRAY),
                    (&keys, Type::TEXT_ARRAY),
                    (&identities, Type::TEXT_ARRAY),
                    (&since, Type::TIMESTAMPTZ_ARRAY),
                    (&priorities, Type::INT4_ARRAY),
                    (&start_at, Type::TIMESTAMPTZ_ARRAY),
                    (&budget.worker, Type::UUID),
                    (&budget.lease_ms, Type::INT8),
                    (&budget.slots, Type::INT4),
                    (&budget.queues, Type::TEXT_ARRAY),
                    (&budget.templates, Type::INT8_ARRAY),
                ],
            )
            .await?;
        let mut created: Vec<_> = tasks.iter().map(|t| Created::New(t.task_id)).collect();
        let mut progress = Progress::default();
        let mut summary = None;
        for row in &rows {
            match Part::of(row)? {
                Part::Claimed(claimed) => {
                    let request = claimed.place.and_then(|place| tasks.get(place));
                    let context: Option<&Json> = request.map(|task| &task.request.context);
                    progress
                        .claimed
                        .push(self.hand_out(*claimed, context).await?);
                }
                Part::Finished(task, state) => progress.finished.push((task, state)),
                Part::Known {
                    place,
                    duplicate,
                    task,
                } => {
                    let answer = created.get_mut(place).ok_or_else(no_summary)?;
                    *answer = if duplicate {
                        Created::Duplicate(task)
                    } else {
                        Created::Existing(task)
                    };
                }
                Part::Left => progress.left_due = true,
                Part::Summary(found) => summary = Some(found),
            }
        }
        self.saw_time(summary.ok_or_else(no_summary)?.at);
        if progress.left_due {
            self.bell.pull();
        }
        Ok((created, progress))
    }
}
