//! What a command is about: the store, and the task that a person names.

use std::path::Path;
use std::sync::Arc;

use tasker::model::id::TaskId;
use tasker::store::store::{Page, TaskFilter};
use tasker::store::{Store, SystemClock};

use crate::output::Failure;

/// The store of commands that name none.
const DEFAULT_STORE: &str = "sqlite:tasker.db";
/// The demo's, so that one can look at what it did.
const DEMO_STORE: &str = "sqlite:tasker-demo/tasker.db";

/// The store that tasks are run on: the one that is named, or a file in this folder, which is made.
pub(crate) fn url_to_work_on(url: Option<String>) -> String {
    url.unwrap_or_else(|| DEFAULT_STORE.to_owned())
}

/// The option with which another command finds the store that one was given; empty where it needs none.
///
/// What the environment says it says to the other command, too, and it may hold a password.
pub(crate) fn store_option(url: Option<&str>) -> String {
    match url {
        Some(url) if std::env::var("TASKER_STORE").as_deref() != Ok(url) => {
            // A shell takes `?` and `&`, which URLs have, for something else.
            format!(" --store '{url}'")
        }
        _ => String::new(),
    }
}

/// The store of a command that names none, of those that are there.
fn default_store() -> &'static str {
    let stores = [DEFAULT_STORE, DEMO_STORE].into_iter();
    let mut found = stores.filter(|url| missing_file(url).is_none());
    found.next().unwrap_or(DEFAULT_STORE)
}

/// The wish of a person, or of the system, that the process stop. Made once and kept: a wish that
/// comes while nobody waits for one is not lost.
pub(crate) struct StopSignal {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
}

impl StopSignal {
    /// From now on, wishes are heard.
    pub(crate) fn listen() -> Result<StopSignal, Failure> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let signals = [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            ];
            Ok(StopSignal { signals })
        }
        #[cfg(not(unix))]
        Ok(StopSignal {})
    }

    /// Ends when there is a wish.
    pub(crate) async fn wished(&mut self) {
        #[cfg(unix)]
        {
            let [interrupt, terminate] = &mut self.signals;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            // Nobody can wish anything.
            std::future::pending().await
        }
    }
}

/// Opens a store that must exist: looking at one never makes one.
pub(crate) async fn open(url: Option<String>) -> Result<Arc<dyn Store>, Failure> {
    let named = url.is_some();
    let url = url.unwrap_or_else(|| default_store().to_owned());
    if let Some(path) = missing_file(&url) {
        let failure = Failure::usage(format!("there is no store at `{path}`"));
        return Err(if named {
            failure.hint("check --store, or TASKER_STORE in the environment")
        } else {
            failure.hint(
                "run `tasker demo` or `tasker run` first, or name a store with --store sqlite:PATH",
            )
        });
    }
    Ok(tasker::store::open(&url, Arc::new(SystemClock)).await?)
}

/// Opens a store that is named, or the default one if it is there.
pub(crate) async fn open_if_there(url: Option<String>) -> Result<Option<Arc<dyn Store>>, Failure> {
    match url {
        None if missing_file(default_store()).is_some() => Ok(None),
        url => open(url).await.map(Some),
    }
}

/// The path of an embedded store whose file does not exist.
pub(crate) fn missing_file(url: &str) -> Option<&str> {
    let path = url.strip_prefix("sqlite:")?;
    let file = Path::new(path.strip_prefix("//").unwrap_or(path));
    (path != ":memory:" && !file.exists()).then_some(path)
}

/// The task that a person names: an id, or `last`.
pub(crate) async fn task_id(store: &dyn Store, named: &str) -> Result<TaskId, Failure> {
    if named != "last" {
        return Ok(named.parse()?);
    }
    let newest = store
        .tasks(
            TaskFilter::default(),
            Page {
                limit: 1,
                before: None,
            },
        )
        .await?;
    let none = || Failure::usage("the store has no tasks yet");
    newest.first().map(|task| task.task_id).ok_or_else(none)
}
