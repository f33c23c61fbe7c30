//! What a command is about: the store, and the task that a person names.

use std::path::Path;
use std::sync::Arc;

use tasker::model::id::TaskId;
use tasker::store::store::{Page, TaskFilter};
use tasker::store::{Store, SystemClock};

use crate::output::Failure;

/// The store of commands that name none: the demo's, so that one can look at what it did.
const DEFAULT_STORE: &str = "sqlite:tasker-demo/tasker.db";

/// Opens a store that must exist: looking at one never makes one.
pub(crate) async fn open(url: Option<String>) -> Result<Arc<dyn Store>, Failure> {
    let named = url.is_some();
    let url = url.unwrap_or_else(|| DEFAULT_STORE.to_owned());
    if let Some(path) = missing_file(&url) {
        let failure = Failure::usage(format!("there is no store at `{path}`"));
        return Err(if named {
            failure.hint("check --store, or TASKER_STORE in the environment")
        } else {
            failure.hint("run `tasker demo` first, or name a store with --store sqlite:PATH")
        });
    }
    Ok(tasker::store::open(&url, Arc::new(SystemClock)).await?)
}

/// Opens a store that is named, or the default one if it is there.
pub(crate) async fn open_if_there(url: Option<String>) -> Result<Option<Arc<dyn Store>>, Failure> {
    match url {
        None if missing_file(DEFAULT_STORE).is_some() => Ok(None),
        url => open(url).await.map(Some),
    }
}

/// The path of an embedded store whose file does not exist.
fn missing_file(url: &str) -> Option<&str> {
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
