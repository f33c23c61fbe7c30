//! `tasker worker`: runs the steps of template files on a store, until it is stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use tasker::model::name::Queue;
use tasker::{Options, Tasker};

use crate::args::{Templates, Worker};
use crate::output::{Failure, say};
use crate::progress::Lines;
use crate::target::{self, StopSignal};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn run(worker: Worker, store: Option<String>) -> Result<ExitCode, Failure> {
    let url = target::url_to_work_on(store);
    let queues = worker
        .queues
        .iter()
        .map(Queue::new)
        .collect::<Result<_, _>>();
    let queues: Vec<Queue> = queues.map_err(|error| Failure::usage(error.to_string()))?;
    let mut options = Options {
        queues,
        lease_seconds: worker.lease,
        ..Options::default()
    };
    if let Some(slots) = worker.slots {
        options.slots = slots;
    }
    let mut stop = StopSignal::listen()?;
    // Before they are read: what changes from now on is noticed.
    let mut seen = Seen::of(&worker.templates.templates);
    let mut tasker = start(&worker.templates, &url, &options).await?;
    say(&format!("working on {url}; Ctrl-C stops"));
    loop {
        let stopped = tokio::select! {
            () = stop.wished() => true,
            () = changed(&worker, &mut seen) => false,
            () = tell(&tasker) => true,
        };
        if stopped {
            say("stopping; what runs may finish");
            tasker.stop().await?;
            return Ok(ExitCode::SUCCESS);
        }
        // What is wrong with a file that somebody is writing must not stop the work.
        if let Err(failure) = worker.templates.handlers() {
            failure.say("the files have changed, and are wrong; going on with what was");
            continue;
        }
        say("the files have changed; starting anew");
        tasker.stop().await?;
        tasker = start(&worker.templates, &url, &options).await?;
    }
}

async fn start(templates: &Templates, url: &str, options: &Options) -> Result<Tasker, Failure> {
    let handlers = templates.handlers()?;
    if handlers.is_empty() {
        let folder = templates.templates.display();
        return Err(
            Failure::usage(format!("there are no template files in `{folder}`"))
                .hint("name another folder with --templates"),
        );
    }
    let mut builder = Tasker::builder(url).options(options.clone());
    for handler in handlers {
        say(&format!("  {}", handler.template().full_name()));
        builder = builder.register(handler);
    }
    Ok(builder.start().await?)
}

/// Says what happens, until the engine ends.
async fn tell(tasker: &Tasker) {
    let mut events = tasker.events();
    let lines = Lines::new();
    while let Some(event) = events.next().await {
        if let Some(line) = lines.line(&event.fact) {
            say(&format!("{} {line}", event.task_id));
        }
    }
}

/// Ends when the files are not as they were; never if nobody wants to know.
async fn changed(worker: &Worker, seen: &mut Seen) {
    if !worker.watch {
        return std::future::pending().await;
    }
    let mut clock = tokio::time::interval(LOOK_EVERY);
    loop {
        clock.tick().await;
        let now = Seen::of(&worker.templates.templates);
        if now != *seen {
            *seen = now;
            return;
        }
    }
}

/// The files of a folder, with their times and sizes.
#[derive(PartialEq)]
struct Seen(BTreeMap<PathBuf, Option<(SystemTime, u64)>>);

impl Seen {
    fn of(folder: &Path) -> Seen {
        let look = |path: PathBuf| {
            let found = std::fs::metadata(&path);
            let state = found.and_then(|found| Ok((found.modified()?, found.len())));
            (path, state.ok())
        };
        Seen(tasker::yaml::files(folder).into_iter().map(look).collect())
    }
}
