//! What a step has of its sub-tasks in the end: their results, or why they failed.

use serde_json::{Map, Value, json};
use tasker_model::id::StepKey;
use tasker_model::json::Json;
use tasker_model::name::StepName;
use tasker_model::outcome::{Failure, FailureKind, Outcome};
use tasker_model::step::StepState;
use tasker_model::subtask::{Counted, Gather, SubtaskStanding, SubtaskTally};
use tasker_model::transition::Change;
use tasker_store::record::{SubtaskRecord, TaskDetail};

use super::{PAGE, Stop, Subtasks, permanent};

/// The result of a step whose sub-tasks have ended well enough.
pub(super) async fn result(
    subtasks: &Subtasks,
    step: StepKey,
    tally: SubtaskTally,
) -> Result<Outcome, Stop> {
    match tally.plan.gather {
        Gather::Count => {
            let count = Counted {
                items: tally.plan.count,
                failed: tally.failed,
            };
            let result = Json::of(&count).expect("invariant: plain data");
            Ok(Outcome::Completed { result })
        }
        Gather::One => {
            let page = subtasks.store.subtasks(step, 0, 1).await?;
            let text = page.first().map_or_else(|| "null".to_owned(), text_of);
            let result = Json::from_stored(&text);
            Ok(Outcome::Completed { result })
        }
        Gather::List => list(subtasks, step).await,
    }
}

/// All results in order, a page at a time: what is in memory is bounded by what a result may be.
async fn list(subtasks: &Subtasks, step: StepKey) -> Result<Outcome, Stop> {
    let mut text = "[".to_owned();
    let mut from = 0;
    loop {
        let page = subtasks.store.subtasks(step, from, PAGE).await?;
        for subtask in &page {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&text_of(subtask));
        }
        if text.len() > subtasks.result_bytes_max {
            let allowed = subtasks.result_bytes_max;
            let message = format!(
                "the results of the items up to {} are {} bytes of JSON already; at most {allowed} are \
                 allowed: let the items give less, or gather their `count` alone",
                page.last().map_or(0, |last| last.ordinal),
                text.len(),
            );
            let failure = Failure::new(FailureKind::ResultRefused, message);
            return Ok(Outcome::Failed(failure));
        }
        match page.last() {
            Some(last) if page.len() == PAGE => from = last.ordinal + 1,
            _ => break,
        }
    }
    text.push(']');
    let result = Json::from_stored(&text);
    Ok(Outcome::Completed { result })
}

/// The result of a sub-task: that of its last step, or by name those of several.
///
/// One that failed has none, whatever some of its steps may have given.
fn text_of(subtask: &SubtaskRecord) -> String {
    if SubtaskStanding::from(subtask.state) == SubtaskStanding::Failed {
        return "null".to_owned();
    }
    let one = |result: &Option<Json>| result.as_ref().map_or("null", Json::as_str).to_owned();
    if let [(_, result)] = &subtask.results[..] {
        return one(result);
    }
    let mut results = Map::new();
    for (name, result) in &subtask.results {
        let value = result.as_ref().and_then(|result| result.read().ok());
        results.insert(name.as_str().to_owned(), value.unwrap_or(Value::Null));
    }
    Value::Object(results).to_string()
}

/// Why a step fails, with the first sub-task that did.
pub(super) async fn failure(
    subtasks: &Subtasks,
    tally: SubtaskTally,
    first: &SubtaskRecord,
) -> Result<Failure, Stop> {
    let detail = subtasks.store.task_detail(first.task_id).await?;
    let failed = detail.as_ref().and_then(failed_for_good);
    let (is_one, state) = (tally.plan.gather == Gather::One, first.state);
    let why = match failed {
        Some((step, failure)) if is_one => format!("{state}: `{step}`: {}", failure.message),
        // An item has one step, of the name that the failure stands at.
        Some((_, failure)) => format!("{state}: {}", failure.message),
        None => state.to_string(),
    };
    let (task, place) = (first.task_id, first.ordinal);
    let message = if is_one {
        format!("sub-task {task} ended in {why}")
    } else {
        let (failed, of, allowed) = (tally.failed, tally.plan.count, tally.plan.max_failures);
        format!(
            "{failed} of {of} items failed, and at most {allowed} may; \
             the first is item {place}, task {task}, which ended in {why}"
        )
    };
    Ok(Failure {
        context: json!({"task_id": task, "ordinal": place}),
        ..permanent("SUBTASK_FAILED", message)
    })
}

/// Which step of a task has failed for good, the last of several, and why. A step that has failed and then
/// succeeded is no reason.
fn failed_for_good(detail: &TaskDetail) -> Option<(&StepName, &Failure)> {
    let mut latest_first = detail.transitions.iter().rev();
    latest_first.find_map(|transition| {
        let Change::Step { position, .. } = transition.change else {
            return None;
        };
        let step = &detail.steps[position as usize];
        let failure = transition.failure.as_ref()?;
        (step.state == StepState::Error).then_some((&step.name, failure))
    })
}

/// Too many are counted as failed, and none is found.
pub(super) fn unexplained(tally: SubtaskTally) -> Failure {
    let (failed, of) = (tally.failed, tally.plan.count);
    permanent(
        "SUBTASK_FAILED",
        format!("{failed} of {of} sub-tasks failed"),
    )
}
