//! What concerns several tasks: sub-tasks and the steps that started them, and what a task has left behind.

use std::time::Duration;

use jiff::Timestamp;
use tasker_model::id::{StepKey, TaskId};
use tasker_model::step::StepState;
use tasker_model::subtask::{SubtaskStanding, SubtaskTally};
use tasker_model::task::TaskState;
use tasker_model::template::TaskTemplate;
use tasker_model::transition::{Change, Transition};
use tasker_model::wait::NEVER;
use tasker_store::record::{StepRecord, TaskDetail};
use tasker_store::{Store, StoreError};

use super::PAGE;
use crate::worker::aftermath::to_undo;

/// Tasks run meanwhile, and several of them cannot be read at one moment: what does not hold now is looked
/// at again, this often and so long after.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Everything that does not hold between a task and those that it has started.
pub(super) async fn check(
    store: &dyn Store,
    task_id: TaskId,
    template: &TaskTemplate,
) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    if !template.has_aftermath() {
        return Ok(found);
    }
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        let Some(detail) = store.task_detail(task_id).await? else {
            return Ok(Vec::new());
        };
        found = check_once(store, &detail, template).await?;
        if found.is_empty() {
            break;
        }
    }
    Ok(found)
}

async fn check_once(
    store: &dyn Store,
    detail: &TaskDetail,
    template: &TaskTemplate,
) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    let task = &detail.task;
    let left = store.aftermaths(vec![task.template], usize::MAX).await?;
    let is_seen_to = left.iter().all(|left| left.task_id != task.summary.task_id);
    for step in &detail.steps {
        if let Some(tally) = step.subtasks {
            found.extend(of_step(store, task.summary.task_id, step, tally, is_seen_to).await?);
        }
    }
    let failed = SubtaskStanding::from(task.summary.state) == SubtaskStanding::Failed;
    if is_seen_to && failed && detail.undone_by.is_none() {
        let undo = template.undo_template();
        let steps = undo.and_then(|undo| to_undo(detail, template, &undo));
        if steps.is_some() {
            found.push("I9: it can be undone, and nobody does it".to_owned());
        }
    }
    Ok(found)
}

/// What there is, beside what a step has counted.
async fn of_step(
    store: &dyn Store,
    task_id: TaskId,
    step: &StepRecord,
    tally: SubtaskTally,
    is_seen_to: bool,
) -> Result<Vec<String>, StoreError> {
    let mut counted = SubtaskTally {
        created: 0,
        open: 0,
        held: 0,
        failed: 0,
        ..tally
    };
    let key = StepKey::new(task_id, step.position);
    let mut abandoned = 0;
    let mut from = 0;
    loop {
        let page = store.subtasks(key, from, PAGE).await?;
        for subtask in &page {
            counted.created += 1;
            match SubtaskStanding::from(subtask.state) {
                SubtaskStanding::Open => {
                    counted.open += 1;
                    if let Some(detail) = store.task_detail(subtask.task_id).await? {
                        counted.held += u32::from(is_held(&detail));
                        abandoned += u32::from(!was_sent_round(&detail, step.finished_at));
                    }
                }
                SubtaskStanding::Failed => counted.failed += 1,
                SubtaskStanding::Done => {}
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => from = last.ordinal + 1,
            _ => break,
        }
    }
    let name = &step.name;
    let mut found = Vec::new();
    if counted != tally {
        found.push(format!(
            "I9: step `{name}` keeps {}, it has {}",
            words(tally),
            words(counted)
        ));
    }
    let waits = step.state == StepState::Pending && step.due_at == Some(NEVER);
    if waits && step.awaits.is_none() && tally.is_decided() {
        found.push(format!(
            "I9: step `{name}` waits for sub-tasks, and need not ({})",
            words(tally)
        ));
    }
    if tally.held > 0 && tally.has_room() {
        found.push(format!(
            "I9: step `{name}` holds sub-tasks back, and need not ({})",
            words(tally)
        ));
    }
    if step.due_at.is_none() && abandoned > 0 && is_seen_to {
        found.push(format!(
            "I9: step `{name}` is {}, and {abandoned} of its sub-tasks are open",
            step.state
        ));
    }
    Ok(found)
}

fn words(tally: SubtaskTally) -> String {
    let SubtaskTally {
        created,
        open,
        held,
        failed,
        ..
    } = tally;
    format!("{created} sub-tasks, of which {open} are open, {held} held and {failed} failed")
}

/// Whether nothing of a task may start until another has ended.
fn is_held(detail: &TaskDetail) -> bool {
    let never = |step: &StepRecord| step.due_at == Some(NEVER);
    detail.task.summary.state == TaskState::Pending && detail.steps.iter().any(never)
}

/// Whether a person has sent a sub-task round again after the end of its step: then nobody has forgotten it.
fn was_sent_round(detail: &TaskDetail, step_ended: Option<Timestamp>) -> bool {
    let again = |transition: &Transition| match transition.change {
        Change::Task { from, .. } => {
            from.is_some_and(TaskState::is_final) && Some(transition.at) >= step_ended
        }
        Change::Step { .. } => false,
    };
    detail.transitions.iter().any(again)
}
