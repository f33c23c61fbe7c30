//! Creating tasks.

use tasker_model::id::Position;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Inner;
use super::answer::{KnownInputs, Part, no_summary};
use super::budget::Budget;
use crate::error::StoreError;
use crate::record::TemplateId;
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
        let priorities: Vec<i32> = requests().map(|r| r.priority).collect();
        let start_at: Vec<_> = requests().map(|r| r.start_at).collect();
        let takes = takes(&tasks, &templates, budget.as_ref());
        let mut left_due = false;
        for (task, taken) in tasks.iter().zip(&takes) {
            let roots = task.request.template.dag().roots().count();
            left_due |= roots > usize::try_from(*taken).unwrap_or(0);
        }
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
                    (&takes, Type::INT4_ARRAY),
                    (&budget.worker, Type::UUID),
                    (&budget.lease_ms, Type::INT8),
                ],
            )
            .await?;
        let mut created: Vec<_> = tasks.iter().map(|t| Created::New(t.task_id)).collect();
        let known = KnownInputs {
            contexts: tasks
                .iter()
                .map(|t| (t.task_id, &t.request.context))
                .collect(),
            ..KnownInputs::default()
        };
        let mut progress = Progress::default();
        let mut summary = None;
        for row in &rows {
            match Part::of(row)? {
                Part::Claimed(claimed) => {
                    progress
                        .claimed
                        .push(self.hand_out(*claimed, &known).await?);
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
                Part::Summary(found) => summary = Some(found),
            }
        }
        let summary = summary.ok_or_else(no_summary)?;
        self.saw_time(summary.at);
        progress.left_due = left_due || summary.left_due;
        if progress.left_due {
            self.bell.pull();
        }
        Ok((created, progress))
    }
}

/// How many roots of each task the worker takes at once: the slots go to the first.
///
/// A root that is not to start yet, or that a bypassed step may turn into one, is left to a look.
fn takes(tasks: &[NewTask], templates: &[i64], budget: Option<&ClaimBudget>) -> Vec<i32> {
    let mut slots = budget.map_or(0, |budget| budget.slots);
    let take = |(task, id): (&NewTask, &i64)| {
        let template = &task.request.template;
        let request = &task.request.request;
        if !request.bypass_steps.is_empty() || request.start_at.is_some() {
            return 0;
        }
        let may_run = |step: &Position| {
            budget.is_some_and(|budget| budget.runs(TemplateId(*id), &template.queue(*step)))
        };
        let roots = template
            .dag()
            .roots()
            .take(slots)
            .take_while(may_run)
            .count();
        slots -= roots;
        i32::try_from(roots).expect("invariant: at most STEPS_MAX steps")
    };
    tasks.iter().zip(templates).map(take).collect()
}
