//! What is left to do after a task has failed or was cancelled: its open sub-tasks are cancelled, and
//! what it did is undone.
//!
//! The store says which tasks that is, until somebody has seen to them: any worker that knows their
//! definition, now or after a crash. All that is done here can be done twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tasker_model::derived::UndoContext;
use tasker_model::id::{Position, TaskId};
use tasker_model::json::Json;
use tasker_model::request::TaskRequest;
use tasker_model::step::StepState;
use tasker_model::subtask::{Origin, SubtaskStanding};
use tasker_model::template::TaskTemplate;
use tasker_store::record::{TaskDetail, TemplateId};
use tasker_store::store::{Aftermath, NewOrigin, NewTask};
use tasker_store::{Store, StoreError};

use super::{Reply, Stopping, Worker};
use crate::execute::until;
use crate::subtasks::{ACTOR, cancel};

/// How often a worker looks whether somebody has left something undone.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Tasks, and sub-tasks of each of them, that one look sees to.
const AT_ONCE: usize = 100;

/// When to look for what is left to do.
pub(super) struct Aftermaths {
    /// The definitions whose tasks may leave something.
    templates: BTreeSet<TemplateId>,
    next: Timestamp,
    under_way: bool,
}

impl Default for Aftermaths {
    fn default() -> Aftermaths {
        Aftermaths {
            templates: BTreeSet::new(),
            next: Timestamp::MIN,
            under_way: false,
        }
    }
}

impl Aftermaths {
    pub(super) fn add(&mut self, template: TemplateId) {
        self.templates.insert(template);
        self.expect();
    }

    /// Whether this worker runs tasks that start others.
    pub(super) fn concern(&self) -> bool {
        !self.templates.is_empty()
    }

    /// Something may be left to do now.
    pub(super) fn expect(&mut self) {
        self.next = Timestamp::MIN;
    }

    /// When to look, if there is anything to look for and no look on its way.
    pub(super) fn next(&self) -> Option<Timestamp> {
        (self.concern() && !self.under_way).then_some(self.next)
    }
}

/// What a look has done.
pub(super) struct SeenTo {
    tasks: usize,
    /// Whether there may be more of it.
    more: bool,
}

impl Worker {
    pub(super) fn see_to_aftermaths(&mut self, now: Timestamp) {
        let is_time = self.aftermaths.next().is_some_and(|next| next <= now);
        if !is_time || !matches!(self.stopping, Stopping::No) {
            return;
        }
        self.aftermaths.under_way = true;
        self.aftermaths.next = until(now, LOOK_EVERY);
        let store = self.store.clone();
        let templates = self.aftermaths.templates.iter().copied().collect();
        self.under_way
            .push(async move { Reply::SeenTo(see_to_all(store, templates).await) });
    }

    pub(super) fn on_seen_to(&mut self, answer: Result<SeenTo, StoreError>) {
        self.aftermaths.under_way = false;
        match answer {
            Ok(seen) => {
                if seen.more {
                    self.aftermaths.expect();
                }
                if seen.tasks > 0 {
                    // Attempts of what was cancelled may run here, and what undoes is due.
                    self.next_beat = Timestamp::MIN;
                    self.backlog = true;
                }
            }
            Err(error) => {
                self.aftermaths.expect();
                self.pause.begin(self.clock.now(), &error);
            }
        }
    }
}

async fn see_to_all(
    store: Arc<dyn Store>,
    templates: Vec<TemplateId>,
) -> Result<SeenTo, StoreError> {
    let left = store.aftermaths(templates, AT_ONCE).await?;
    let mut more = left.len() == AT_ONCE;
    for aftermath in &left {
        more |= !see_to(&*store, aftermath).await?;
    }
    Ok(SeenTo {
        tasks: left.len(),
        more,
    })
}

/// Gives whether nothing is left to do of the task.
async fn see_to(store: &dyn Store, aftermath: &Aftermath) -> Result<bool, StoreError> {
    // At the same time, so that they share commits.
    let orphans = aftermath.orphans.iter();
    try_join_all(orphans.map(|orphan| cancel(store, *orphan))).await?;
    if aftermath.orphans.len() == AT_ONCE {
        return Ok(false);
    }
    if SubtaskStanding::from(aftermath.state) == SubtaskStanding::Failed {
        undo(store, aftermath.task_id).await?;
    }
    store
        .end_aftermath(aftermath.task_id, aftermath.since)
        .await?;
    Ok(true)
}

/// Creates the task that undoes another, if there is anything to undo.
async fn undo(store: &dyn Store, task_id: TaskId) -> Result<(), StoreError> {
    let Some(detail) = store.task_detail(task_id).await? else {
        return Ok(());
    };
    let template = store.template(detail.task.template).await?;
    let Some(undo) = template.undo_template() else {
        return Ok(());
    };
    let Some((bypass_steps, results)) = to_undo(&detail, &template, &undo) else {
        return Ok(());
    };
    let unreadable = |error: serde_json::Error| StoreError::BadRow(error.to_string());
    let context = UndoContext {
        context: detail.task.context.read().map_err(unreadable)?,
        results,
    };
    let context = serde_json::to_value(context).expect("invariant: plain data");
    let source = undo.source();
    let mut request = TaskRequest::new(source.name.as_str())
        .namespace(source.namespace.as_str())
        .version(source.version)
        .context(context);
    request.bypass_steps = bypass_steps;
    ACTOR.clone_into(&mut request.initiator);
    request.source_system.clone_from(&detail.task.source_system);
    request.reason = format!("undoes task {task_id}");
    request.priority = detail.task.priority;
    // It is made of what the store has taken once already: no limit of this process refuses it.
    let request = request
        .check(&undo, usize::MAX)
        .map_err(|error| StoreError::Bug(format!("what undoes task {task_id}: {error}")))?;
    let new = NewTask {
        task_id: Origin::Undo { task_id }.subtask_id(),
        request,
        identity: None,
        origin: Some(NewOrigin::Undo { task_id }),
    };
    store.create(vec![new], None).await.map(drop)
}

/// The steps that need not be undone, and the results that undoing the others may need; `None` if there is
/// nothing to undo, or if the task has come too far for it.
pub(crate) fn to_undo(
    detail: &TaskDetail,
    template: &TaskTemplate,
    undo: &TaskTemplate,
) -> Option<(Vec<String>, Map<String, Value>)> {
    let (mut bypass_steps, mut undone) = (Vec::new(), BTreeSet::new());
    for step in &detail.steps {
        if template.step(step.position).point_of_no_return && step.state == StepState::Complete {
            return None;
        }
        let name = step.name.as_str();
        if undo.position(name).is_none() {
            continue;
        }
        if step.state == StepState::Complete {
            undone.insert(step.position);
        } else {
            bypass_steps.push(name.to_owned());
        }
    }
    if undone.is_empty() {
        return None;
    }
    let parents = |position: &Position| template.dag().parents(*position).to_vec();
    let needed: BTreeSet<Position> = undone
        .iter()
        .flat_map(parents)
        .chain(undone.clone())
        .collect();
    let steps = detail.steps.iter();
    let results = steps.filter(|step| needed.contains(&step.position));
    // One that was skipped has none, which is not the same as a result of `null`.
    let results = results.filter_map(|step| {
        let result = Json::read(step.result.as_ref()?).ok()?;
        Some((step.name.as_str().to_owned(), result))
    });
    Some((bypass_steps, results.collect()))
}
