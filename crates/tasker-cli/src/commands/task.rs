//! `tasker task`: look at tasks, and orders to them.

use std::process::ExitCode;

use serde::Serialize;
use tasker::Error;
use tasker::model::dag::diagram::mark;
use tasker::model::id::{StepKey, TaskId};
use tasker::model::step::StepState;
use tasker::model::subtask::Origin;
use tasker::model::task::TaskState;
use tasker::model::transition::{Change, Transition};
use tasker::store::Store;
use tasker::store::record::{StepRecord, SubtaskRecord, TaskDetail, TaskSummary};
use tasker::store::store::{Order, Page, Signalled, TaskFilter};

use crate::args::{ByTask, Task};
use crate::input;
use crate::output::{Failure, Output, done, say, short, table};
use crate::target;

/// A page that is longer than this is not meant for people or their memory.
const LIMIT_MAX: usize = 10_000;

pub(crate) async fn run(
    command: Task,
    store: Option<String>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let store = target::open(store).await?;
    match command {
        Task::List {
            state,
            namespace,
            name,
            also_subtasks,
            limit,
            before,
        } => {
            let states = state.map(|states| states.0);
            let filter = TaskFilter {
                states: states.unwrap_or_default(),
                namespace,
                name,
                also_subtasks,
            };
            let before = match before {
                Some(task) => Some(target::task_id(&*store, &task).await?),
                None => None,
            };
            let page = Page {
                limit: limit.min(LIMIT_MAX),
                before,
            };
            list(&store.tasks(filter, page).await?, output)
        }
        Task::Show {
            task,
            record,
            results,
        } => {
            let task_id = target::task_id(&*store, &task).await?;
            let detail = store
                .task_detail(task_id)
                .await?
                .ok_or(Error::NoSuchTask(task_id))?;
            let origin = origin(&*store, &detail).await?;
            show(&detail, origin.as_deref(), record, results, output)
        }
        Task::Subtasks {
            task,
            step,
            from,
            limit,
        } => {
            let task_id = target::task_id(&*store, &task).await?;
            let position = tasker::step_position(&*store, task_id, &step).await?;
            let key = StepKey::new(task_id, position);
            let found = store.subtasks(key, from, limit.min(LIMIT_MAX)).await?;
            subtasks(&found, output)
        }
        Task::Cancel(by) => order(&*store, by, Order::CancelTask, output).await,
        Task::Retry(by) => order(&*store, by, Order::RetryTask, output).await,
        Task::Resolve(by) => order(&*store, by, Order::ResolveTask, output).await,
        Task::Signal {
            task,
            signal,
            payload,
        } => {
            let payload = input::json("the payload", &payload)?;
            send(&*store, &task, &signal, &payload, output).await
        }
    }
}

async fn send(
    store: &dyn Store,
    by: &ByTask,
    signal: &str,
    payload: &serde_json::Value,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let task_id = target::task_id(store, &by.task).await?;
    let sent = tasker::send_signal(store, task_id, signal, payload, &by.by.name).await?;
    let (word, text) = match sent {
        Signalled::Delivered => ("delivered", "a step waited for it, and goes on"),
        Signalled::Kept => (
            "kept",
            "no step waits for it yet; it is kept until one does",
        ),
        Signalled::Known => (
            "known",
            "the task has had this signal; the first one counts",
        ),
    };
    let data = serde_json::json!({"task_id": task_id, "signal": signal, "outcome": word});
    output.data(&data, || {
        format!("signal `{signal}` to task {task_id}: {text}")
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn order(
    store: &dyn Store,
    by: ByTask,
    order: Order,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let task_id = target::task_id(store, &by.task).await?;
    carry_out(store, task_id, order, &by.by.name, output).await
}

/// The state of a task after an order.
#[derive(Serialize)]
struct Ordered {
    task_id: TaskId,
    state: TaskState,
    status: &'static str,
}

/// Carries out an order and says what the task is now.
pub(crate) async fn carry_out(
    store: &dyn Store,
    task_id: TaskId,
    order: Order,
    by: &str,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let state = store.operate(task_id, order, by.to_owned()).await?;
    let ordered = Ordered {
        task_id,
        state,
        status: state.status(),
    };
    output.data(&ordered, || format!("task {task_id} is {}", state.status()))?;
    if !state.is_final() && !output.is_json() {
        say("hint: a worker takes it from here; `tasker explain` says what it waits for");
    }
    Ok(ExitCode::SUCCESS)
}

fn list(tasks: &[TaskSummary], output: &Output) -> Result<ExitCode, Failure> {
    output.data(tasks, || {
        if tasks.is_empty() {
            return "no tasks".to_owned();
        }
        let rows: Vec<[String; 5]> = tasks
            .iter()
            .map(|task| {
                [
                    task.task_id.to_string(),
                    format!("{}.{}@{}", task.namespace, task.name, task.version),
                    task.status.to_owned(),
                    format!("{}/{}", task.steps.done_steps, task.steps.total_steps),
                    format!("{:.0}", task.created_at),
                ]
            })
            .collect();
        table(["TASK", "HANDLER", "STATUS", "DONE", "CREATED"], &rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn subtasks(found: &[SubtaskRecord], output: &Output) -> Result<ExitCode, Failure> {
    output.data(found, || {
        if found.is_empty() {
            return "no sub-tasks".to_owned();
        }
        let row = |subtask: &SubtaskRecord| {
            let results = subtask.results.iter();
            let results = results.filter_map(|(_, result)| result.as_ref());
            let results: Vec<String> = results.map(|result| short(result.as_str())).collect();
            [
                subtask.ordinal.to_string(),
                subtask.task_id.to_string(),
                subtask.state.status().to_owned(),
                results.join(" "),
            ]
        };
        let rows: Vec<[String; 4]> = found.iter().map(row).collect();
        table(["ITEM", "TASK", "STATUS", "RESULT"], &rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Why a task exists that nobody asked for.
async fn origin(store: &dyn Store, detail: &TaskDetail) -> Result<Option<String>, Failure> {
    let Some(origin) = detail.task.origin else {
        return Ok(None);
    };
    let id = origin.task_id();
    Ok(Some(match origin {
        Origin::Undo { .. } => format!("undoes   task {id}"),
        Origin::Step {
            position, ordinal, ..
        } => {
            let name = match store.task(id).await? {
                Some(task) => {
                    let template = store.template(task.template).await?;
                    template.step(position).name.to_string()
                }
                None => format!("number {position}"),
            };
            format!("part of  task {id}, step `{name}`, item {ordinal}")
        }
    }))
}

/// What attempts have logged, in the order of their ends.
fn logs(detail: &TaskDetail) -> String {
    let mut text = String::new();
    for transition in &detail.transitions {
        if let (Some(log), Change::Step { position, .. }) = (&transition.log, transition.change) {
            let step = &detail.steps[position as usize].name;
            let attempt = transition.attempt.unwrap_or_default();
            text += &format!("\n{step}, attempt {attempt}, logged:\n");
            for line in log.lines() {
                text += &format!("  {line}\n");
            }
        }
    }
    text
}

fn show(
    detail: &TaskDetail,
    origin: Option<&str>,
    record: bool,
    results: bool,
    output: &Output,
) -> Result<ExitCode, Failure> {
    output.data(detail, || {
        let task = &detail.task.summary;
        let mut text = format!(
            "task     {}\nhandler  {}.{}@{}\nstatus   {} ({})\ncreated  {:.3}\n",
            task.task_id,
            task.namespace,
            task.name,
            task.version,
            task.status,
            task.state,
            task.created_at,
        );
        if let Some(finished) = task.finished_at {
            let took = finished.duration_since(task.created_at).as_secs_f64();
            text += &format!("finished {finished:.3}, after {took:.3} s\n");
        }
        if let Some(origin) = origin {
            text += &format!("{origin}\n");
        }
        if let Some((undo, state)) = detail.undone_by {
            text += &format!("undone   by task {undo}: {}\n", state.status());
        }
        text += &format!("\n{}\n", steps(detail));
        if results {
            text += "\n";
            for step in &detail.steps {
                let result = step
                    .result
                    .as_ref()
                    .map_or("no result", |result| result.as_str());
                text += &format!("{}: {result}\n", step.name);
            }
        }
        if !detail.annotations.is_empty() {
            text += "\nnoted:\n";
            for note in &detail.annotations {
                let (of, note) = (&note.step, &note.annotation);
                let (kind, value) = (&note.annotation_type, short(note.annotation.as_str()));
                text += &format!("  {kind} {value} ({of})\n");
            }
        }
        if record {
            text += &format!("\n{}\n", transitions(detail));
            text += &logs(detail);
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

fn steps(detail: &TaskDetail) -> String {
    let rows: Vec<[String; 5]> = detail
        .steps
        .iter()
        .map(|step| {
            [
                format!("{} {}", mark(step.state), step.name),
                step.state.to_string(),
                format!("{}/{}", step.attempts, step.attempt_limit),
                took(step),
                step.subtasks.as_ref().map_or_else(String::new, done),
            ]
        })
        .collect();
    let has_subtasks = detail.steps.iter().any(|step| step.subtasks.is_some());
    let more = if has_subtasks { "SUB-TASKS" } else { "" };
    table(["STEP", "STATE", "ATTEMPTS", "TOOK", more], &rows)
}

fn took(step: &StepRecord) -> String {
    match (step.started_at, step.finished_at) {
        (Some(started), Some(finished)) => {
            format!(
                "{:.3} s",
                finished.duration_since(started).as_secs_f64().max(0.0)
            )
        }
        _ => String::new(),
    }
}

fn transitions(detail: &TaskDetail) -> String {
    let subject = |transition: &Transition| match transition.change {
        Change::Task { .. } => "task".to_owned(),
        Change::Step { position, .. } => detail.steps[position as usize].name.as_str().to_owned(),
    };
    let states = |transition: &Transition| match transition.change {
        Change::Task { from, to } => (from.map(TaskState::as_str), to.as_str()),
        Change::Step { from, to, .. } => (from.map(StepState::as_str), to.as_str()),
    };
    let rows: Vec<[String; 5]> = detail
        .transitions
        .iter()
        .map(|transition| {
            let (from, to) = states(transition);
            let by = transition
                .actor
                .as_ref()
                .map_or(String::new(), |actor| format!(" (by {actor})"));
            [
                transition.sequence.to_string(),
                format!("{:.3}", transition.at),
                subject(transition),
                format!("{} → {to}", from.unwrap_or("·")),
                format!("{}{by}", transition.description()),
            ]
        })
        .collect();
    table(["#", "AT", "WHAT", "CHANGE", "DESCRIPTION"], &rows)
}
