//! What a step means to start: one task that its code asks for, or one for each item of a list.

use serde_json::Value;
use tasker_model::derived::ItemContext;
use tasker_model::outcome::{Failure, FailureKind, Outcome};
use tasker_model::request::{CheckedRequest, TaskRequest};
use tasker_model::subtask::{Gather, MAP_ITEMS_MAX, SubtaskPlan};
use tasker_model::template::TaskTemplate;
use tasker_store::record::TaskRecord;

use super::{Stop, Subtasks, permanent};
use crate::code::{Code, Mapping, Role};
use crate::error::Error;
use crate::expression::{Scope, kind};
use crate::handler::StepContext;

/// A plan, and where its requests come from.
pub(super) struct Planned {
    pub(super) plan: SubtaskPlan,
    requests: Requests,
}

enum Requests {
    One(Box<CheckedRequest>),
    Items(Box<Items>),
}

struct Items {
    list: Vec<Value>,
    template: TaskTemplate,
    request: TaskRequest,
    context_bytes_max: usize,
}

impl Planned {
    /// The requests from one place on.
    pub(super) fn page(&self, from: u32, many: usize) -> Result<Vec<CheckedRequest>, Stop> {
        match &self.requests {
            Requests::One(request) => Ok(vec![(**request).clone()]),
            Requests::Items(items) => {
                let page = items.list.iter().skip(from as usize).take(many);
                (from..)
                    .zip(page)
                    .map(|(index, item)| items.request(index, item))
                    .collect()
            }
        }
    }
}

impl Items {
    fn request(&self, index: u32, item: &Value) -> Result<CheckedRequest, Stop> {
        let context = ItemContext { item, index };
        let context = serde_json::to_value(context).expect("invariant: plain data");
        let request = self.request.clone().context(context);
        let checked = request.check(&self.template, self.context_bytes_max);
        checked
            .map_err(|error| permanent("ITEM", format!("item {index} of the list: {error}")).into())
    }
}

/// Decides what to start.
pub(super) async fn of(
    subtasks: &Subtasks,
    asked_by: &TaskRecord,
    code: Code,
    context: StepContext,
) -> Result<Planned, Stop> {
    match code.role.clone() {
        Role::Maps(mapping) => items(subtasks, asked_by, &mapping, &context),
        Role::Asks | Role::Performs => {
            let step = context.name().to_owned();
            match (code.handler)(context).await {
                Outcome::Completed { result } => {
                    let request: TaskRequest = result.read().map_err(|error| {
                        let text =
                            format!("what step `{step}` gave is no request for a task: {error}");
                        Stop::from(permanent("NOT_A_REQUEST", text))
                    })?;
                    one(subtasks, asked_by, &step, request)
                }
                // The code has failed.
                other => Err(other.into()),
            }
        }
    }
}

fn one(
    subtasks: &Subtasks,
    asked_by: &TaskRecord,
    step: &str,
    mut request: TaskRequest,
) -> Result<Planned, Stop> {
    // The step and the place tell what it is: a second creation is recognised by them.
    request.idempotency_key = None;
    let of_asker = inherited(asked_by, step);
    let unknown = |text: &str| text == "unknown";
    if unknown(&request.initiator) {
        request.initiator = of_asker.initiator;
    }
    if unknown(&request.source_system) {
        request.source_system = of_asker.source_system;
    }
    if unknown(&request.reason) {
        request.reason = of_asker.reason;
    }
    if request.priority == 0 {
        request.priority = of_asker.priority;
    }
    let checked = subtasks
        .registry
        .prepare(request, subtasks.context_bytes_max)
        .map_err(|error| refused(&error))?;
    let plan = SubtaskPlan {
        count: 1,
        concurrency: 1,
        max_failures: 0,
        gather: Gather::One,
    };
    let requests = Requests::One(Box::new(checked));
    Ok(Planned { plan, requests })
}

/// A handler that nobody here knows may be deployed a moment later; a request that does not fit will
/// not fit the next time.
fn refused(error: &Error) -> Failure {
    let message = format!("the sub-task cannot be started: {error}");
    match error {
        Error::NoHandler(_) => Failure {
            error_code: Some("NO_TASK_HANDLER".to_owned()),
            ..Failure::new(FailureKind::Retryable, message)
        },
        _ => permanent("SUBTASK_REFUSED", message),
    }
}

fn items(
    subtasks: &Subtasks,
    asked_by: &TaskRecord,
    mapping: &Mapping,
    context: &StepContext,
) -> Result<Planned, Stop> {
    let failed = |code: &str, message: String| Stop::from(permanent(code, message));
    let scope = Scope::new(context, mapping.over.uses()).map_err(|error| error.to_string());
    let list = scope.and_then(|scope| {
        let list = mapping.over.evaluate(&scope);
        list.map_err(|error| error.to_string())
    });
    let items = match list {
        Ok(Value::Array(items)) => items,
        Ok(other) => {
            let text = format!("`map` must be over a list; it is {}", kind(&other));
            return Err(failed("NOT_A_LIST", text));
        }
        Err(message) => return Err(failed("NOT_A_LIST", format!("`map`: {message}"))),
    };
    let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
    if count > MAP_ITEMS_MAX {
        let text = format!("the list has {count} items; at most {MAP_ITEMS_MAX} are allowed");
        return Err(failed("TOO_MANY_ITEMS", text));
    }
    let plan = SubtaskPlan {
        count,
        concurrency: mapping.limits.concurrency,
        max_failures: mapping.limits.max_failures,
        gather: mapping.limits.gather,
    };
    let requests = Items {
        list: items,
        template: mapping.item.clone(),
        request: inherited(asked_by, context.name()),
        context_bytes_max: subtasks.context_bytes_max,
    };
    let requests = Requests::Items(Box::new(requests));
    Ok(Planned { plan, requests })
}

/// A request with the labels that say where it comes from.
fn inherited(asked_by: &TaskRecord, step: &str) -> TaskRequest {
    let summary = &asked_by.summary;
    let mut request = TaskRequest::new("");
    request.initiator.clone_from(&asked_by.initiator);
    request.source_system.clone_from(&asked_by.source_system);
    request.reason = shortened(&format!("step `{step}` of task {}", summary.task_id));
    request.priority = asked_by.priority;
    request
}

fn shortened(label: &str) -> String {
    const MAX: usize = tasker_model::request::LABEL_CHARS_MAX;
    label.chars().take(MAX).collect()
}

/// The request that a task was made from, to be made again.
pub(super) fn repeat(
    task: &TaskRecord,
    template: &TaskTemplate,
    context_bytes_max: usize,
) -> Result<CheckedRequest, Stop> {
    let summary = &task.summary;
    let context: Value = task.context.read().map_err(|error| {
        permanent(
            "CONTEXT",
            format!("the context of task {}: {error}", summary.task_id),
        )
    })?;
    let mut request = TaskRequest::new(summary.name.as_str())
        .namespace(summary.namespace.as_str())
        .version(summary.version)
        .context(context);
    request.initiator.clone_from(&task.initiator);
    request.source_system.clone_from(&task.source_system);
    request.reason.clone_from(&task.reason);
    request.tags.clone_from(&task.tags);
    request.bypass_steps.clone_from(&task.bypass_steps);
    request.priority = task.priority;
    let checked = request.check(template, context_bytes_max);
    checked.map_err(|error| permanent("SUBTASK_REFUSED", error.to_string()).into())
}
