//! Creating tasks.

use jiff::Timestamp;
use tasker_model::id::Position;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Inner;
use super::answer::{KnownInputs, Part, no_summary};
use super::budget::Budget;
use super::row::{Parameter, Row, int};
use crate::error::StoreError;
use crate::record::TemplateId;
use crate::store::{ClaimBudget, Created, NewOrigin, NewTask, Progress, scoped_key};

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

    /// What is asked for, in the order of the functions' parameters.
    fn requests(&self) -> [Parameter<'_>; 14] {
        [
            (&self.ids, Type::UUID_ARRAY),
            (&self.templates, Type::INT8_ARRAY),
            (&self.contexts, Type::TEXT_ARRAY),
            (&self.initiators, Type::TEXT_ARRAY),
            (&self.source_systems, Type::TEXT_ARRAY),
            (&self.reasons, Type::TEXT_ARRAY),
            (&self.tags, Type::TEXT_ARRAY),
            (&self.bypass, Type::TEXT_ARRAY),
            (&self.requested_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.keys, Type::TEXT_ARRAY),
            (&self.identities, Type::TEXT_ARRAY),
            (&self.since, Type::TIMESTAMPTZ_ARRAY),
            (&self.priorities, Type::INT4_ARRAY),
            (&self.start_at, Type::TIMESTAMPTZ_ARRAY),
        ]
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

/// Where tasks belong that nobody asked for; of an undo only the parent.
#[derive(Default)]
struct Place {
    parent: Uuid,
    position: Option<i32>,
    worker: Option<Uuid>,
    attempt: Option<i32>,
    planned: Option<i32>,
    concurrency: Option<i32>,
    max_failures: Option<i32>,
    gather: Option<&'static str>,
    ordinals: Vec<Option<i32>>,
    replaces: Vec<Option<Uuid>>,
}

impl Place {
    /// What the first of them says of the whole call, and each of itself.
    fn of(tasks: &[NewTask], first: &NewOrigin) -> Place {
        let each = || tasks.iter().map(|task| task.origin.as_ref());
        let ordinal = |origin: Option<&NewOrigin>| match origin {
            Some(NewOrigin::Step { ordinal, .. }) => Some(int(*ordinal)),
            _ => None,
        };
        let replaces = |origin: Option<&NewOrigin>| match origin {
            Some(NewOrigin::Step { replaces, .. }) => replaces.map(|task| *task.as_uuid()),
            _ => None,
        };
        let place = Place {
            parent: *first.origin().task_id().as_uuid(),
            ordinals: each().map(ordinal).collect(),
            replaces: each().map(replaces).collect(),
            ..Place::default()
        };
        let NewOrigin::Step {
            lease,
            worker,
            plan,
            ..
        } = first
        else {
            return place;
        };
        Place {
            position: Some(int(lease.step.position)),
            worker: Some(*worker.as_uuid()),
            attempt: Some(int(lease.attempt)),
            planned: Some(saturated(plan.count)),
            concurrency: Some(saturated(plan.concurrency)),
            max_failures: Some(saturated(plan.max_failures)),
            gather: Some(plan.gather.as_str()),
            ..place
        }
    }
}

/// A limit as a column holds it: far above all that it limits is as good as none.
fn saturated(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
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
        let rows = match tasks.first().and_then(|task| task.origin) {
            None => self.call_create(&columns, budget.as_ref()).await?,
            Some(origin) => {
                let place = Place::of(&tasks, &origin);
                self.call_create_subtasks(&place, &columns).await?
            }
        };
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
                Part::NotCreated(place, why) => {
                    *created.get_mut(place).ok_or_else(no_summary)? = why;
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
        let mut parameters: Vec<Parameter<'_>> = vec![(&now, Type::TIMESTAMPTZ)];
        parameters.extend(columns.requests());
        parameters.extend([
            (&columns.takes as _, Type::INT4_ARRAY),
            (&budget.worker as _, Type::UUID),
            (&budget.lease_ms as _, Type::INT8),
        ]);
        let sql = include_str!("../../sql/postgres/create.sql");
        self.connections.rows(sql, &parameters).await
    }

    async fn call_create_subtasks(
        &self,
        place: &Place,
        columns: &Columns<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let now = self.given_time();
        let mut parameters: Vec<Parameter<'_>> = vec![
            (&now, Type::TIMESTAMPTZ),
            (&place.parent, Type::UUID),
            (&place.position, Type::INT4),
            (&place.worker, Type::UUID),
            (&place.attempt, Type::INT4),
            (&place.planned, Type::INT4),
            (&place.concurrency, Type::INT4),
            (&place.max_failures, Type::INT4),
            (&place.gather, Type::TEXT),
            (&place.ordinals, Type::INT4_ARRAY),
            (&place.replaces, Type::UUID_ARRAY),
        ];
        parameters.extend(columns.requests());
        let sql = include_str!("../../sql/postgres/create.subtasks.sql");
        self.connections.rows(sql, &parameters).await
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
