//! `tasker demo`: a real workflow, to watch, to interrupt and to continue.

use std::process::ExitCode;

use flight_delays::workflow::{Context, NAME, NAMESPACE, Written, task_handler};
use serde::Serialize;
use tasker::model::id::TaskId;
use tasker::model::step::StepState;
use tasker::model::task::TaskState;
use tasker::store::store::{Page, TaskFilter};
use tasker::{Options, Task, TaskRequest, Tasker, WorkflowStep};

use crate::args::Demo;
use crate::output::{Failure, INTERRUPTED, Output, say};
use crate::progress::watch;
use crate::target::StopSignal;

/// How long an interrupted step may take to finish before it is handed back.
const GRACE_SECONDS: u64 = 1;
/// Short, so that a demo that was killed continues soon: nobody else works on its store.
const LEASE_SECONDS: u64 = 2;

/// What the demo made, for programs.
#[derive(Serialize)]
struct Made {
    task_id: TaskId,
    status: &'static str,
    store: String,
    #[serde(flatten)]
    written: Option<Written>,
}

pub(crate) async fn run(
    demo: &Demo,
    store: Option<String>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    std::fs::create_dir_all(&demo.folder).map_err(|error| {
        Failure::check(format!(
            "cannot make the folder `{}`: {error}",
            demo.folder.display()
        ))
    })?;
    let url =
        store.unwrap_or_else(|| format!("sqlite:{}", demo.folder.join("tasker.db").display()));
    let options = Options {
        lease_seconds: LEASE_SECONDS,
        shutdown_grace_seconds: GRACE_SECONDS,
        ..Options::default()
    };
    let builder = Tasker::builder(&url)
        .options(options)
        .register(task_handler()?);
    let tasker = builder.start().await?;
    let mut stop = StopSignal::listen()?;
    let mut events = tasker.events();
    let (mut task, continued) = task(&tasker, demo).await?;
    introduce(&task, continued).await?;
    let interrupted = tokio::select! {
        ended = watch(&mut task, &mut events, "") => { ended?; false }
        () = stop.wished() => true,
    };
    if interrupted {
        say("\ninterrupted; what runs is handed back, run the demo again to continue");
        tasker.stop().await?;
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let code = conclude(&task, &url, output).await?;
    tasker.stop().await?;
    Ok(code)
}

/// The task that an earlier run has left unfinished, or a new one.
async fn task(tasker: &Tasker, demo: &Demo) -> Result<(Task, bool), Failure> {
    let filter = TaskFilter {
        states: vec![TaskState::Pending, TaskState::InProgress],
        namespace: Some(NAMESPACE.to_owned()),
        name: Some(NAME.to_owned()),
        also_subtasks: false,
    };
    let unfinished = tasker
        .store()
        .tasks(
            filter,
            Page {
                limit: 1,
                before: None,
            },
        )
        .await?;
    if let Some(found) = unfinished.first() {
        return Ok((tasker.executor().task(found.task_id).await?, true));
    }
    let folder = std::path::absolute(&demo.folder)?;
    let (flights_csv, airports_csv) = (None, None);
    let context = Context {
        output_folder: folder,
        flights_csv,
        airports_csv,
        pace_ms: demo.pace,
    };
    let context = serde_json::to_value(context)
        .map_err(|_| Failure::usage("the folder's name is not valid Unicode"))?;
    let request = TaskRequest::new(NAME).namespace(NAMESPACE).context(context);
    Ok((tasker.executor().execute_async(request).await?, false))
}

async fn introduce(task: &Task, continued: bool) -> Result<(), Failure> {
    if !continued {
        say(&format!("task {}: 5,000 flights, six steps", task.id()));
        return Ok(());
    }
    say(&format!("task {}: continuing where it was", task.id()));
    for step in task.workflow_steps().await? {
        if step.state == StepState::Complete {
            say(&format!("  ✓ {:<18} done before", step.name));
        }
    }
    Ok(())
}

async fn conclude(task: &Task, url: &str, output: &Output) -> Result<ExitCode, Failure> {
    let steps = task.workflow_steps().await?;
    let last = steps
        .last()
        .map(WorkflowStep::result_as::<Written>)
        .transpose()?;
    let made = Made {
        task_id: task.id(),
        status: task.status(),
        store: url.to_owned(),
        written: last.flatten(),
    };
    output.data(&made, || {
        let mut text = format!("task     {} {}\n", made.task_id, made.status);
        if let Some(written) = &made.written {
            text += &format!("report   {}\n", written.report.display());
            text += &format!("summary  {}\n", written.summary.display());
        }
        text += &format!("store    {url}\n");
        text += &format!("record   tasker task show last --record --store {url}\n");
        text
    })?;
    let complete = task.state() == TaskState::Complete;
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}
