//! `tasker run`: one task, from its context to its end.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tasker::model::id::TaskId;
use tasker::model::task::TaskState;
use tasker::{Options, Task, TaskRequest, Tasker, WorkflowStep};

use crate::args::Run;
use crate::input;
use crate::output::{Failure, INTERRUPTED, Output, say, table};
use crate::progress::watch;
use crate::target::{self, StopSignal};

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
    let builder = Tasker::builder(&url).options(options).register(handler);
    let tasker = builder.start().await?;
    let mut stop = StopSignal::listen()?;
    let mut events = tasker.events();
    let mut task = tasker.executor().execute_async(request).await?;
    say(&format!("task {} of {full_name}", task.id()));
    let interrupted = tokio::select! {
        ended = watch(&mut task, &mut events) => { ended?; false }
        () = stop.wished() => true,
    };
    tasker.stop().await?;
    if interrupted {
        say("\ninterrupted; what ran is handed back, and nothing is lost");
        say(&format!(
            "hint: `tasker worker --store {url}` goes on with it"
        ));
        return Ok(ExitCode::from(INTERRUPTED));
    }
    conclude(&task, full_name, url, output).await
}

async fn conclude(
    task: &Task,
    handler: String,
    store: String,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let steps = task.workflow_steps().await?;
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
    };
    output.data(&ended, || as_text(&ended, &steps))?;
    let is_good = matches!(
        ended.state,
        TaskState::Complete | TaskState::ResolvedManually
    );
    if !is_good {
        let id = ended.task_id;
        say(&format!(
            "hint: `tasker explain {id}` says why, `tasker task retry {id}` tries again"
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
    format!("{table}\ntask {} {}\n", ended.task_id, ended.status)
}

/// A result as far as it fits into a line.
fn short(text: &str) -> String {
    const SHOWN_CHARS: usize = 100;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
