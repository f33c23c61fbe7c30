//! `tasker run`: one task, from its context to its end.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tasker::model::id::TaskId;
use tasker::model::task::TaskState;
use tasker::model::template::TaskTemplate;
use tasker::{Builder, Error, Events, Options, Task, TaskRequest, Tasker, WorkflowStep};

use crate::args::Run;
use crate::input;
use crate::output::{Failure, INTERRUPTED, Output, say, short, table};
use crate::progress::watch;
use crate::target::{self, StopSignal};

/// How often it is asked whether a failed task is undone.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long an interrupted step may take to finish before it is handed back.
const GRACE_SECONDS: u64 = 2;

/// What became of the task, for programs.
#[derive(Serialize)]
struct Ended {
    task_id: TaskId,
    handler: String,
    state: TaskState,
    status: &'static str,
    store: String,
    /// By step, of those that have one.
    results: Map<String, Value>,
    /// By step, of those that failed for good.
    failures: Map<String, Value>,
    /// What has undone it, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    undone_by: Option<Value>,
}

pub(crate) async fn run(
    run: Run,
    store: Option<String>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let context = match &run.context {
        Some(context) => input::json("--context", context)?,
        None => json!({}),
    };
    let handler = run.templates.handler(&run.handler, store.clone()).await?;
    let same_store = target::store_option(store.as_deref());
    let url = target::url_to_work_on(store);
    let source = handler.template().source();
    let mut request = TaskRequest::new(source.name.as_str())
        .namespace(source.namespace.as_str())
        .version(source.version)
        .context(context);
    request.initiator = run.by.name;
    "tasker run".clone_into(&mut request.source_system);
    request.bypass_steps = run.bypass;
    if let Some(key) = run.idempotency_key {
        request = request.idempotency_key(key);
    }
    let full_name = handler.template().full_name();
    let options = Options {
        lease_seconds: run.lease,
        shutdown_grace_seconds: GRACE_SECONDS,
        ..Options::default()
    };
    let beside = run.templates.beside(&run.handler, handler.template())?;
    let template = handler.template().clone();
    let builder = Tasker::builder(&url).options(options).register(handler);
    let builder = beside.into_iter().fold(builder, Builder::register);
    let tasker = builder.start().await?;
    let mut stop = StopSignal::listen()?;
    let mut events = tasker.events();
    let mut task = tasker.executor().execute_async(request).await?;
    say(&format!("task {} of {full_name}", task.id()));
    let interrupted = tokio::select! {
        ended = follow(&tasker, &mut task, &mut events, &template, &same_store) => { ended?; false }
        () = stop.wished() => true,
    };
    tasker.stop().await?;
    if interrupted {
        say("\ninterrupted; what ran is handed back, and nothing is lost");
        let options = run.templates.worker_options(&run.handler);
        say(&format!(
            "hint: `tasker worker{same_store}{options}` goes on with it"
        ));
        return Ok(ExitCode::from(INTERRUPTED));
    }
    conclude(&task, full_name, url, &same_store, output).await
}

/// Says what happens until the task is final, and what it did is undone if it failed.
async fn follow(
    tasker: &Tasker,
    task: &mut Task,
    events: &mut Events,
    template: &TaskTemplate,
    same_store: &str,
) -> Result<(), Failure> {
    watch(task, events, same_store).await?;
    if template.undo_template().is_none() {
        return Ok(());
    }
    let Some(mut undo) = undone_by(tasker, task.id()).await? else {
        return Ok(());
    };
    say(&format!("task {} undoes it", undo.id()));
    watch(&mut undo, events, same_store).await
}

/// The task that undoes another, once it is known whether there is one.
async fn undone_by(tasker: &Tasker, id: TaskId) -> Result<Option<Task>, Failure> {
    let store = tasker.store();
    loop {
        let detail = store.task_detail(id).await?.ok_or(Error::NoSuchTask(id))?;
        if let Some((undo, _)) = detail.undone_by {
            return Ok(Some(tasker.executor().task(undo).await?));
        }
        let left = store
            .aftermaths(vec![detail.task.template], usize::MAX)
            .await?;
        if left.iter().all(|left| left.task_id != id) {
            let detail = store.task_detail(id).await?.ok_or(Error::NoSuchTask(id))?;
            return Ok(match detail.undone_by {
                Some((undo, _)) => Some(tasker.executor().task(undo).await?),
                None => None,
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn conclude(
    task: &Task,
    handler: String,
    store: String,
    same_store: &str,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let steps = task.workflow_steps().await?;
    let undone = task.detail().await?.undone_by;
    let results = steps
        .iter()
        .filter_map(|step| Some((step.name.clone(), step.result.clone()?)));
    let failures = steps
        .iter()
        .filter_map(|step| Some((step.name.clone(), json!(step.error.clone()?))));
    let ended = Ended {
        task_id: task.id(),
        handler,
        state: task.state(),
        status: task.status(),
        store,
        results: results.collect(),
        failures: failures.collect(),
        undone_by: undone.map(|(id, state)| json!({"task_id": id, "state": state})),
    };
    output.data(&ended, || as_text(&ended, &steps))?;
    let is_good = matches!(
        ended.state,
        TaskState::Complete | TaskState::ResolvedManually
    );
    if !is_good {
        let id = ended.task_id;
        let more = if ended.undone_by.is_some() {
            "a new run starts anew".to_owned()
        } else {
            format!("`tasker task retry{same_store} {id}` tries again")
        };
        say(&format!(
            "hint: `tasker explain{same_store} {id}` says why, {more}"
        ));
    }
    Ok(ExitCode::from(u8::from(!is_good)))
}

fn as_text(ended: &Ended, steps: &[WorkflowStep]) -> String {
    let row = |step: &WorkflowStep| {
        let result = step
            .result
            .as_ref()
            .map(|result| short(&result.to_string()));
        let shown = result.or_else(|| step.error.clone()).unwrap_or_default();
        [step.name.clone(), step.status.to_owned(), shown]
    };
    let rows: Vec<[String; 3]> = steps.iter().map(row).collect();
    let table = table(["step", "status", "result"], &rows);
    let undone = ended.undone_by.as_ref().map_or_else(String::new, |undo| {
        let [id, state] = ["task_id", "state"].map(|key| undo[key].as_str().unwrap_or_default());
        format!("undone by task {id}: {state}\n")
    });
    format!("{table}\ntask {} {}\n{undone}", ended.task_id, ended.status)
}
