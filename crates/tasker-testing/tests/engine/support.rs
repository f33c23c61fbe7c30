//! Engines to test with.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tasker::model::task::TaskState;
use tasker::store::ManualClock;
use tasker::store::postgres::PostgresStore;
use tasker::{Options, Task, TaskHandler, TaskRequest, Tasker, diagnose};
use uuid::Uuid;

/// An engine on a store in memory, on the system's clock.
pub(crate) async fn in_memory(handlers: impl IntoIterator<Item = TaskHandler>) -> Tasker {
    on("sqlite::memory:".to_owned(), handlers, Options::default()).await
}

/// An engine on a file.
pub(crate) async fn on_file(
    path: &Path,
    handlers: impl IntoIterator<Item = TaskHandler>,
    options: Options,
) -> Tasker {
    on(format!("sqlite:{}", path.display()), handlers, options).await
}

/// An empty store of either kind, by its URL.
pub(crate) async fn both_stores() -> [String; 2] {
    let server = std::env::var("TASKER_TEST_POSTGRES")
        .expect("TASKER_TEST_POSTGRES names a database for tests; `cargo xtask test` starts one");
    let and = if server.contains('?') { '&' } else { '?' };
    let schema = format!("engine_{}", Uuid::now_v7().simple());
    let url = format!("{server}{and}schema={schema}&connections=4");
    PostgresStore::migrate(&url).await.unwrap();
    ["sqlite::memory:".to_owned(), url]
}

pub(crate) async fn on(
    url: String,
    handlers: impl IntoIterator<Item = TaskHandler>,
    options: Options,
) -> Tasker {
    let mut builder = Tasker::builder(url).options(options);
    for handler in handlers {
        builder = builder.register(handler);
    }
    builder.start().await.unwrap()
}

/// An engine in memory whose time stands still until the test moves it.
pub(crate) async fn on_manual_clock(handler: TaskHandler) -> (Tasker, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_000_000).unwrap()));
    let options = Options {
        jitter_seed: Some(1),
        ..Options::default()
    };
    let builder = Tasker::builder("sqlite::memory:")
        .clock(clock.clone())
        .options(options);
    (builder.register(handler).start().await.unwrap(), clock)
}

/// A request for a handler, with an empty context.
pub(crate) fn request_for(handler: &TaskHandler) -> TaskRequest {
    let source = handler.template().source();
    TaskRequest::new(source.name.as_str()).namespace(source.namespace.as_str())
}

/// Runs one task to its end on an engine of its own; the store must hold together afterwards.
pub(crate) async fn run(handler: TaskHandler) -> (Tasker, Task) {
    let request = request_for(&handler);
    let tasker = in_memory([handler]).await;
    let task = tasker.executor().execute_sync(request, None).await.unwrap();
    assert_sound(&tasker).await;
    (tasker, task)
}

/// Everything in the store holds together.
pub(crate) async fn assert_sound(tasker: &Tasker) {
    let diagnosis = diagnose(&**tasker.store()).await.unwrap();
    assert_eq!(diagnosis.violations, 0, "{:#?}", diagnosis.findings);
}

/// The states of a task's steps, by name, in the order of the graph.
pub(crate) async fn statuses(task: &Task) -> Vec<(String, &'static str)> {
    let steps = task.workflow_steps().await.unwrap();
    steps
        .into_iter()
        .map(|step| (step.name, step.status))
        .collect()
}

/// The attempts that a step made.
pub(crate) async fn attempts(task: &Task, step: &str) -> u32 {
    let steps = task.workflow_steps().await.unwrap();
    steps
        .into_iter()
        .find(|found| found.name == step)
        .unwrap()
        .attempts
}

/// Fails unless the task ended like this.
#[track_caller]
pub(crate) fn assert_state(task: &Task, state: TaskState) {
    assert_eq!(task.state(), state, "task {}", task.id());
}
