//! Creating tasks.

use jiff::Timestamp;
use tasker_model::id::Position;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Inner;
use super::answer::{KnownInputs, Part, no_summary};
use super::budget::Budget;
use super::row::{Parameter, Row};
use crate::error::StoreError;
use crate::record::TemplateId;
use crate::store::{ClaimBudget, Created, NewTask, Progress, scoped_key};

/// Requests, column by column.
struct Columns<'a> {
    ids: Vec<Uuid>,
    templates: Vec<i64>,
    contexts: Vec<&'a str>,
    initiators: Vec<&'a str>,
    source_systems: Vec<&'a str>,
    reasons: Vec<&'a str>,
    tags: Vec<String>,
    bypass: Vec<String>,
    requested_at: Vec<Option<Timestamp>>,
    keys: Vec<Option<String>>,
    identities: Vec<Option<&'a str>>,
    since: Vec<Option<Timestamp>>,
    priorities: Vec<i32>,
    start_at: Vec<Option<Timestamp>>,
    takes: Vec<i32>,
}

impl<'a> Columns<'a> {
    fn of(tasks: &'a [NewTask], templates: Vec<i64>, budget: Option<&ClaimBudget>) -> Columns<'a> {
        let requests = || tasks.iter().map(|task| &task.request.request);
        let identities = || tasks.iter().map(|task| task.identity.as_ref());
        let list = |names: &[String]| serde_json::to_string(names).expect("invariant: texts");
        Columns {
            ids: tasks.iter().map(|task| *task.task_id.as_uuid()).collect(),
            contexts: tasks
                .iter()
                .map(|task| task.request.context.as_str())
                .collect(),
            initiators: requests().map(|r| r.initiator.as_str()).collect(),
            source_systems: requests().map(|r| r.source_system.as_str()).collect(),
            reasons: requests().map(|r| r.reason.as_str()).collect(),
            tags: requests().map(|r| list(&r.tags)).collect(),
            bypass: requests().map(|r| list(&r.bypass_steps)).collect(),
            requested_at: requests().map(|r| r.requested_at).collect(),
            keys: tasks.iter().map(scoped_key).collect(),
            identities: identities().map(|i| i.map(|i| i.key.as_str())).collect(),
            since: identities().map(|i| i.and_then(|i| i.since)).collect(),
            priorities: requests().map(|r| r.priority).collect(),
            start_at: requests().map(|r| r.start_at).collect(),
            takes: takes(tasks, &templates, budget),
            templates,
        }
    }

    /// Whether some roots are left for others.
    fn leaves_roots(&self, tasks: &[NewTask]) -> bool {
        let roots = tasks
            .iter()
            .map(|task| task.request.template.dag().roots().count());
        roots
            .zip(&self.takes)
            .any(|(roots, taken)| roots > usize::try_from(*taken).unwrap_or(0))
    }
}

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
        let columns = Columns::of(&tasks, templates, budget.as_ref());
        let left_due = columns.leaves_roots(&tasks);
        let rows = self.call_create(&columns, budget.as_ref()).await?;
        let known = KnownInputs {
            contexts: tasks
                .iter()
                .map(|t| (t.task_id, &t.request.context))
                .collect(),
            ..KnownInputs::default()
        };
        let mut created: Vec<_> = tasks.iter().map(|t| Created::New(t.task_id)).collect();
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

    async fn call_create(
        &self,
        columns: &Columns<'_>,
        budget: Option<&ClaimBudget>,
    ) -> Result<Vec<Row>, StoreError> {
        let budget = Budget::of(budget);
        let now = self.given_time();
        let parameters: &[Parameter<'_>] = &[
            (&now, Type::TIMESTAMPTZ),
            (&columns.ids, Type::UUID_ARRAY),
            (&columns.templates, Type::INT8_ARRAY),
            (&columns.contexts, Type::TEXT_ARRAY),
            (&columns.initiators, Type::TEXT_ARRAY),
            (&columns.source_systems, Type::TEXT_ARRAY),
            (&columns.reasons, Type::TEXT_ARRAY),
            (&columns.tags, Type::TEXT_ARRAY),
            (&columns.bypass, Type::TEXT_ARRAY),
            (&columns.requested_at, Type::TIMESTAMPTZ_ARRAY),
            (&columns.keys, Type::TEXT_ARRAY),
            (&columns.identities, Type::TEXT_ARRAY),
            (&columns.since, Type::TIMESTAMPTZ_ARRAY),
            (&columns.priorities, Type::INT4_ARRAY),
            (&columns.start_at, Type::TIMESTAMPTZ_ARRAY),
            (&columns.takes, Type::INT4_ARRAY),
            (&budget.worker, Type::UUID),
            (&budget.lease_ms, Type::INT8),
        ];
        let sql = include_str!("../../sql/postgres/create.sql");
        self.connections.rows(sql, parameters).await
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
