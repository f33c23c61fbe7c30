//! A worker to be killed: runs the mixed pattern on a store, and one that runs over a list, starts the mixed
//! one, and can be undone; fails at random, and says on standard output what it executes, one line per
//! attempt.
//!
//! `chaos-worker STORE CREATE`: creates so many tasks of the first first, and a tenth as many of the second.
//! It ends by itself, with status 0, when no task of the store is unfinished, and nothing is left to undo.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::time::Duration;

use tasker::model::task::TaskState;
use tasker::model::template::MapOver;
use tasker::store::StoreError;
use tasker::store::store::{Page, TaskFilter};
use tasker::{
    Error, Options, PermanentError, RetryableError, Step, StepContext, StepResult, TaskHandler,
    TaskRequest, Tasker,
};
use tasker_testing::patterns::{MIXED, NAMESPACE, NESTED};

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
    let mixed = MIXED.handler_with(|_, step| fail_by_chance(step))?;
    let tasker = Tasker::builder(url)
        .options(options)
        .register(mixed)
        .register(nested()?)
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

/// A list, a task of the other kind, and a step that fails half of the time, so that they are undone.
fn nested() -> Result<TaskHandler, Error> {
    let list = MapOver {
        concurrency: 3,
        max_failures: 1,
        ..MapOver::new("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]")
    };
    let ask = |step: StepContext| async move {
        fail_by_chance(step).await?;
        Ok(TaskRequest::new(MIXED.name).namespace(NAMESPACE))
    };
    let end = |step: StepContext| async move {
        let fails = step.task_id().as_uuid().as_u128().is_multiple_of(2);
        fail_by_chance(step).await?;
        if fails {
            return Err(PermanentError::new("half of them fail").into());
        }
        StepResult::Ok(())
    };
    TaskHandler::new(NAMESPACE, NESTED, "1.0.0")
        .step(
            Step::new("each", fail_by_chance)
                .map_over(list)
                .undo(fail_by_chance),
        )
        .step(
            Step::new("ask", ask)
                .starts_task()
                .depends_on_step("each")
                .undo(fail_by_chance),
        )
        .step(Step::new("end", end).depends_on_step("ask"))
        .build()
}

/// Asks again, under the same keys, for as long as the answer is that nobody knows.
async fn create_surely(tasker: &Tasker, tasks: usize) -> Result<(), Error> {
    let request = |name, number| {
        TaskRequest::new(name)
            .namespace(NAMESPACE)
            .idempotency_key(format!("chaos-{number}"))
    };
    loop {
        let mixed = (0..tasks).map(|number| request(MIXED.name, number));
        let nested = (0..tasks / 10).map(|number| request(NESTED, number));
        let requests = mixed.chain(nested).collect();
        match tasker.executor().execute_all(requests).await {
            Err(error) if error.is_transient() => {}
            answer => return answer.map(drop),
        }
    }
}

/// Whether nothing is left to be done; `false`, too, while the store cannot be asked.
async fn is_done(tasker: &Tasker) -> Result<bool, StoreError> {
    match (all_final(tasker).await, nothing_left(tasker).await) {
        (Ok(final_), Ok(nothing_left)) => Ok(final_ && nothing_left),
        (Err(error), _) | (_, Err(error)) if error.is_transient() => Ok(false),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

async fn nothing_left(tasker: &Tasker) -> Result<bool, StoreError> {
    let known = tasker.store().templates(None).await?;
    let known = known.into_iter().map(|(id, _)| id).collect();
    let left = tasker.store().aftermaths(known, 1).await?;
    Ok(left.is_empty())
}

async fn all_final(tasker: &Tasker) -> Result<bool, StoreError> {
    let unfinished = TaskFilter {
        states: vec![TaskState::Pending, TaskState::InProgress],
        also_subtasks: true,
        ..TaskFilter::default()
    };
    let one = Page {
        limit: 1,
        before: None,
    };
    let found = tasker.store().tasks(unfinished, one).await?;
    Ok(found.is_empty())
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
