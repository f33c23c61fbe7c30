//! Is what several tasks are to each other what they should be: steps and the tasks that they started, tasks
//! that failed and those that undo them?

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tasker::model::id::{Position, StepKey, TaskId};
use tasker::model::step::StepState;
use tasker::model::subtask::{Gather, Origin, SubtaskStanding, SubtaskTally};
use tasker::model::task::TaskState;
use tasker::store::record::{StepRecord, TaskDetail};

use super::Found;

/// Everything that is not as it should be.
pub(super) fn problems(found: &[Found]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut started: BTreeMap<StepKey, Vec<&Found>> = BTreeMap::new();
    let mut undos: BTreeMap<TaskId, Vec<&Found>> = BTreeMap::new();
    for task in found {
        match task.detail.task.origin {
            None => {}
            Some(Origin::Undo { task_id }) => undos.entry(task_id).or_default().push(task),
            Some(Origin::Step {
                task_id, position, ..
            }) => {
                let key = StepKey::new(task_id, position);
                started.entry(key).or_default().push(task);
            }
        }
    }
    for subtasks in started.values_mut() {
        subtasks.sort_by_key(|task| ordinal(task));
    }
    for task in found {
        let id = task.detail.task.summary.task_id;
        for step in &task.detail.steps {
            let key = StepKey::new(id, step.position);
            let subtasks = started.remove(&key).unwrap_or_default();
            for problem in of_step(task, step, &subtasks) {
                problems.push(format!("task {id}: step `{}`: {problem}", step.name));
            }
        }
        for problem in of_undo(task, undos.get(&id).map_or(&[][..], |undos| &undos[..])) {
            problems.push(format!("task {id}: {problem}"));
        }
    }
    for key in started.keys() {
        problems.push(format!("{key:?} has sub-tasks, and does not exist"));
    }
    problems
}

fn ordinal(task: &Found) -> u32 {
    match task.detail.task.origin {
        Some(Origin::Step { ordinal, .. }) => ordinal,
        _ => u32::MAX,
    }
}

fn standing(task: &Found) -> SubtaskStanding {
    task.detail.task.summary.state.into()
}

/// What a step has counted is what there is, and it has the results of that.
fn of_step(task: &Found, step: &StepRecord, subtasks: &[&Found]) -> Vec<String> {
    let mut problems = Vec::new();
    let Some(tally) = step.subtasks else {
        if !subtasks.is_empty() {
            problems.push(format!("{} sub-tasks that nobody counted", subtasks.len()));
        }
        return problems;
    };
    let count = |wanted| {
        subtasks
            .iter()
            .filter(|task| standing(task) == wanted)
            .count()
    };
    let counted = [
        subtasks.len(),
        count(SubtaskStanding::Open),
        0,
        count(SubtaskStanding::Failed),
    ];
    let SubtaskTally {
        created,
        open,
        held,
        failed,
        plan,
    } = tally;
    let kept = [created, open, held, failed].map(|number| number as usize);
    if kept != counted {
        problems.push(format!("keeps {kept:?}, there are {counted:?}"));
    }
    let ordinals = subtasks.iter().map(|task| ordinal(task));
    if !ordinals.eq(0..created) {
        problems.push("has sub-tasks with wrong places".to_owned());
    }
    let Some(end) = completed_at(&task.detail, step.position) else {
        return problems;
    };
    // A person may have sent one round again afterwards.
    let ended = |task: &&&Found| {
        task.detail
            .task
            .summary
            .finished_at
            .is_some_and(|at| at <= end)
    };
    let failed = |task: &&&Found| standing(task) == SubtaskStanding::Failed;
    let failures = subtasks.iter().filter(ended).filter(failed).count();
    if created != plan.count || failures > plan.max_failures as usize {
        problems.push(format!(
            "is complete with {created} of {} sub-tasks and {failures} failures, of which {} may be",
            plan.count, plan.max_failures
        ));
    }
    if subtasks.iter().filter(ended).count() < subtasks.len() {
        return problems;
    }
    let expected = match plan.gather {
        Gather::Count => json!({"items": plan.count, "failed": failures}),
        Gather::One => subtasks.first().map_or(Value::Null, |task| result(task)),
        Gather::List => subtasks.iter().map(|task| result(task)).collect(),
    };
    let found = step
        .result
        .as_ref()
        .and_then(|result| result.read::<Value>().ok());
    if found.as_ref() != Some(&expected) {
        problems.push(format!("has the result {found:?} instead of {expected}"));
    }
    problems
}

/// When an attempt completed a step that is complete.
fn completed_at(detail: &TaskDetail, position: Position) -> Option<jiff::Timestamp> {
    let step = &detail.steps[position as usize];
    (step.state == StepState::Complete).then_some(step.finished_at)?
}

/// What a sub-task gives to the step that started it.
fn result(task: &Found) -> Value {
    if standing(task) == SubtaskStanding::Failed {
        return Value::Null;
    }
    let dag = task.template.dag();
    let last = task
        .detail
        .steps
        .iter()
        .filter(|step| dag.children(step.position).is_empty());
    let read = |step: &StepRecord| {
        let result = step.result.as_ref();
        result.map_or(Value::Null, |result| result.read().unwrap_or_default())
    };
    let last: Vec<&StepRecord> = last.collect();
    if let [step] = last[..] {
        return read(step);
    }
    let named = last.iter().map(|step| (step.name.to_string(), read(step)));
    Value::Object(named.collect())
}

/// What has failed is undone once, and nothing else is.
fn of_undo(task: &Found, undos: &[&Found]) -> Vec<String> {
    let mut problems = Vec::new();
    let (detail, template) = (&task.detail, &task.template);
    let steps = || detail.steps.iter().zip(&template.source().steps);
    let is_complete = |step: &StepRecord| step.state == StepState::Complete;
    let can_be_undone = steps().any(|(step, of)| is_complete(step) && of.undo.is_some());
    let is_beyond = steps().any(|(step, of)| is_complete(step) && of.point_of_no_return);
    let state = detail.task.summary.state;
    let has_failed = SubtaskStanding::from(state) == SubtaskStanding::Failed;
    let expected = usize::from(has_failed && can_be_undone && !is_beyond);
    let resolved = state == TaskState::ResolvedManually;
    if undos.len() != expected && !(resolved && undos.len() == 1) {
        problems.push(format!(
            "is {state}, and {} tasks undo it instead of {expected}",
            undos.len()
        ));
    }
    for undo in undos {
        for step in &undo.detail.steps {
            let name = step.name.as_str();
            let original = detail.steps.iter().find(|step| step.name.as_str() == name);
            let was_complete = original.is_some_and(is_complete);
            let bypassed = undo
                .detail
                .task
                .bypass_steps
                .iter()
                .any(|known| known == name);
            if was_complete == bypassed || (bypassed && is_complete(step)) {
                problems.push(format!(
                    "step `{name}`: complete {was_complete}, left out of the undo {bypassed}, and \
                     there {}",
                    step.state
                ));
            }
        }
    }
    problems
}
