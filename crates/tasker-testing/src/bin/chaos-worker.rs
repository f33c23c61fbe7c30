//! A worker to be killed: runs the mixed pattern on a store, fails at random, and says on
//! standard output what it executes, one line per attempt.
//!
//! `chaos-worker STORE CREATE`: creates so many tasks first. It ends by itself, with status 0,
//! when no task of the store is unfinished.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::time::Duration;

use tasker::model::task::TaskState;
use tasker::store::StoreError;
use tasker::store::store::{Page, TaskFilter};
use tasker::{
    Error, Options, PermanentError, RetryableError, StepContext, StepResult, TaskRequest, Tasker,
};
use tasker_testing::patterns::{MIXED, NAMESPACE};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the first argument is the store")?;
    let create: usize = arguments
        .next()
        .ok_or("the second is how many tasks to create")?
        .parse()?;
    let options = Options {
        slots: 16,
        lease_seconds: 1,
        ..Options::default()
    };
    let handler = MIXED.handler_with(|_, step| fail_by_chance(step))?;
    let tasker = Tasker::builder(url)
        .options(options)
        .register(handler)
        .start()
        .await?;
    create_surely(&tasker, create).await?;
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    while !is_done(&tasker).await? {
        looks.tick().await;
    }
    tasker.stop().await?;
    Ok(())
}

/// Asks again, under the same keys, for as long as the answer is that nobody knows.
async fn create_surely(tasker: &Tasker, tasks: usize) -> Result<(), Error> {
    let request = |number| {
        TaskRequest::new(MIXED.name)
            .namespace(NAMESPACE)
            .idempotency_key(format!("chaos-{number}"))
    };
    loop {
        let requests = (0..tasks).map(request).collect();
        match tasker.executor().execute_all(requests).await {
            Err(error) if error.is_transient() => {}
            answer => return answer.map(drop),
        }
    }
}

/// Whether no task is unfinished; `false`, too, while the store cannot be asked.
async fn is_done(tasker: &Tasker) -> Result<bool, StoreError> {
    let unfinished = TaskFilter {
        states: vec![TaskState::Pending, TaskState::InProgress],
        ..TaskFilter::default()
    };
    let one = Page {
        limit: 1,
        before: None,
    };
    match tasker.store().tasks(unfinished, one).await {
        Err(error) if error.is_transient() => Ok(false),
        answer => answer.map(|tasks| tasks.is_empty()),
    }
}

/// The same attempt of the same step always fares the same: 20 % fail, 1 % for good.
async fn fail_by_chance(step: StepContext) -> StepResult<()> {
    writeln!(
        std::io::stdout(),
        "{} {} {}",
        step.task_id(),
        step.name(),
        step.attempt()
    )?;
    let mut hasher = DefaultHasher::new();
    (step.task_id(), step.name(), step.attempt()).hash(&mut hasher);
    tokio::time::sleep(Duration::from_millis(hasher.finish() % 7)).await;
    match hasher.finish() % 100 {
        0 => Err(PermanentError::new("chance was against it for good").into()),
        1..20 => Err(RetryableError::new("chance was against it").into()),
        _ => Ok(()),
    }
}
