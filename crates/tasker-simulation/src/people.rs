//! Clients that ask for tasks, again and again if they get no answer, and operators who intervene.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tasker::model::id::{StepKey, TaskId};
use tasker::model::step::StepState;
use tasker::model::task::TaskState;
use tasker::store::StoreError;
use tasker::store::record::{StepRecord, TaskDetail};
use tasker::{Error, Task, TaskExecutor, TaskRequest, Tasker};

use crate::chance::Chance;
use crate::lives::is_expected;
use crate::process::{Process, sleep};
use crate::workflow::SIGNAL;
use crate::world::{Running, World};

/// How long a client waits for an answer before it asks again.
const PATIENCE: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_mins(1);
/// How often a client asks at most.
const TRIES_MAX: u32 = 12;

/// Makes requests, one after the other.
pub(crate) async fn ask(world: Arc<World>, mut chance: Chance, client: u32) {
    for number in 0..world.plan.people.requests_each {
        sleep(&world.clock, chance.time(&world.plan.people.think)).await;
        let batch = u32::try_from(number).unwrap_or(u32::MAX) + 1_000 * client;
        if chance.happens(0.15) {
            ask_for_many(&world, &mut chance, batch).await;
        } else {
            ask_for_one(&world, &mut chance).await;
        }
    }
}

async fn ask_for_one(world: &World, chance: &mut Chance) {
    let has_key = chance.happens(0.7);
    let number = world.ledger.requested(has_key, None);
    let request = request(world, chance, number, has_key);
    let waits = chance.happens(0.2);
    let numbers = [number];
    for _ in 0..TRIES_MAX {
        let answered = send(world, chance, &numbers, |executor| {
            let request = request.clone();
            async move {
                let task = if waits {
                    executor.execute_sync(request, None).await?
                } else {
                    executor.execute_async(request).await?
                };
                Ok(vec![task])
            }
        });
        // Some do not believe the answer, and some give up.
        let again = match answered.await {
            Ok(()) => has_key && chance.happens(0.2),
            Err(()) => chance.happens(0.9),
        };
        if !again {
            return;
        }
        sleep(&world.clock, chance.time(&world.plan.people.think)).await;
    }
}

/// Several requests in one transaction. Sent once: half of them repeated under their keys and
/// half of them not is nothing that anybody would do.
async fn ask_for_many(world: &World, chance: &mut Chance, batch: u32) {
    let count = chance.number(2..=4);
    let numbers: Vec<usize> = (0..count)
        .map(|_| world.ledger.requested(true, Some(batch)))
        .collect();
    let requests: Vec<TaskRequest> = numbers
        .iter()
        .map(|number| request(world, chance, *number, true))
        .collect();
    // If it fails, the ledger has counted it, and whether anything of it exists is up to chance.
    let _ = send(world, chance, &numbers, |executor| {
        let requests = requests.clone();
        async move { executor.execute_all(requests).await }
    })
    .await;
}

fn request(world: &World, chance: &mut Chance, number: usize, has_key: bool) -> TaskRequest {
    let definition = &world.definitions[chance.number(0..world.definitions.len())];
    let mut request = TaskRequest::new(&definition.name)
        .namespace(&definition.namespace)
        .context(json!({ "request": number }));
    if has_key {
        request = request.idempotency_key(format!("{} {number}", world.seed));
    }
    if chance.happens(0.1) {
        let names = definition.step_names();
        request.bypass_steps = names.into_iter().filter(|_| chance.happens(0.3)).collect();
    }
    request
}

/// Sends requests to some node and waits for the answer, for a while.
async fn send<F, R>(
    world: &World,
    chance: &mut Chance,
    numbers: &[usize],
    execute: F,
) -> Result<(), ()>
where
    F: Fn(TaskExecutor) -> R,
    R: Future<Output = Result<Vec<Task>, Error>>,
{
    let (executor, process) = loop {
        if let Some(running) = world.any(chance) {
            break (running.tasker.executor(), running.process.clone());
        }
        sleep(&world.clock, Duration::from_secs(1)).await;
    };
    for number in numbers {
        world.ledger.sent(*number);
    }
    let note = |what: &str| {
        world
            .ledger
            .note(|| format!("requests {numbers:?} to {process}: {what}"));
    };
    note("sent");
    let answer = tokio::select! {
        biased;
        answer = execute(executor) => answer,
        () = process.is_dead() => Err(Error::Stopped),
        () = sleep(&world.clock, chance.time(&PATIENCE)) => Err(Error::Stopped),
    };
    match answer {
        Ok(tasks) => {
            note("acknowledged");
            for (number, task) in numbers.iter().zip(&tasks) {
                world.ledger.acknowledged(*number, task.id());
            }
            Ok(())
        }
        Err(Error::Duplicate(task)) if numbers.len() == 1 => {
            note("a duplicate");
            world.ledger.acknowledged(numbers[0], task);
            Ok(())
        }
        Err(error) => {
            note(&error.to_string());
            // A node whose program lacks the task handler says so.
            if !is_expected(&error) && !matches!(error, Error::NoHandler(_)) {
                world.ledger.problem(format!("{process}: request: {error}"));
            }
            Err(())
        }
    }
}

/// Gives orders about tasks, sensible or not.
pub(crate) async fn intervene(world: Arc<World>, mut chance: Chance) {
    for number in 0..world.plan.people.orders {
        sleep(&world.clock, chance.time(&world.plan.people.think)).await;
        let known = world.ledger.known_tasks();
        let Some(running) = world.any(&mut chance).filter(|_| !known.is_empty()) else {
            // Nothing to say yet, or nobody to say it to.
            sleep(&world.clock, Duration::from_secs(1)).await;
            continue;
        };
        let actor = format!("operator {number}");
        let process: Arc<Process> = running.process.clone();
        let done = tokio::select! {
            biased;
            done = order(&running, &mut chance, &known, &actor) => done,
            () = process.is_dead() => Ok("unheard"),
        };
        match done {
            Ok(order) => {
                world.ledger.count("orders carried out");
                world.ledger.note(|| format!("{actor}: {order}"));
            }
            Err(error) => {
                world.ledger.note(|| format!("{actor}: {error}"));
                if !is_expected(&error) && !is_refused(&error) {
                    world.ledger.problem(format!("{process}: order: {error}"));
                }
            }
        }
    }
}

async fn order(
    running: &Running,
    chance: &mut Chance,
    known: &[TaskId],
    actor: &str,
) -> Result<&'static str, Error> {
    let tasker = &running.tasker;
    let mut detail = look(tasker, chance, known).await?;
    // People look at what has failed or still runs, most of the time.
    if matches!(
        detail.task.summary.state,
        TaskState::Complete | TaskState::Cancelled
    ) {
        detail = look(tasker, chance, known).await?;
    }
    let task = detail.task.summary.task_id;
    let failed: Vec<&StepRecord> = detail
        .steps
        .iter()
        .filter(|s| s.state == StepState::Error)
        .collect();
    let step = if failed.is_empty() || chance.happens(0.2) {
        &detail.steps[chance.number(0..detail.steps.len())]
    } else {
        failed[chance.number(0..failed.len())]
    };
    let name = step.name.as_str();
    let (what, done) = match chance.number(0..23) {
        20..23 => {
            let sent = tasker.signal(task, SIGNAL, &json!(actor), actor).await;
            return sent.map(|_| "signal");
        }
        0 => ("cancel task", tasker.cancel_task(task, actor).await),
        1..4 => ("retry task", tasker.retry_task(task, actor).await),
        4 => ("resolve task", tasker.resolve_task(task, actor).await),
        5..7 => ("cancel step", tasker.cancel_step(task, name, actor).await),
        7..12 => {
            let attempts = chance.number(0..4);
            let done = tasker.retry_step(task, name, attempts, actor).await;
            ("retry step", done)
        }
        12..15 => {
            let result = json!({ "by": actor });
            let result = chance.happens(0.5).then_some(&result);
            let done = tasker.resolve_step(task, name, result, actor).await;
            ("resolve step", done)
        }
        15..18 => ("skip step", tasker.skip_step(task, name, actor).await),
        _ => {
            let limit = step.attempt_limit + chance.number(0..3);
            let done = tasker.raise_limit(task, name, limit, actor).await;
            ("raise limit", done)
        }
    };
    done.map(|_| what)
}

async fn look(tasker: &Tasker, chance: &mut Chance, known: &[TaskId]) -> Result<TaskDetail, Error> {
    let task = known[chance.number(0..known.len())];
    let detail = tasker.store().task_detail(task).await?;
    // It was acknowledged: that it is not there is a failure.
    let detail = detail.ok_or(Error::NoSuchTask(task))?;
    if !chance.happens(0.3) {
        return Ok(detail);
    }
    // Some look at what it has started, or at what undoes it.
    let mut others: Vec<TaskId> = detail.undone_by.iter().map(|(undo, _)| *undo).collect();
    for step in detail.steps.iter().filter(|step| step.subtasks.is_some()) {
        let step = StepKey::new(task, step.position);
        let subtasks = tasker.store().subtasks(step, 0, 20).await?;
        others.extend(subtasks.iter().map(|subtask| subtask.task_id));
    }
    if others.is_empty() {
        return Ok(detail);
    }
    let other = others[chance.number(0..others.len())];
    let other = tasker.store().task_detail(other).await?;
    Ok(other.unwrap_or(detail))
}

/// Whether an order was not allowed, which is the right answer to many.
fn is_refused(error: &Error) -> bool {
    if matches!(error, Error::NoSuchSignal(_)) {
        return true;
    }
    let Error::Store(error) = error else {
        return false;
    };
    matches!(**error, StoreError::IllegalMove(_) | StoreError::Refused(_))
}
