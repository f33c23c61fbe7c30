//! Signals to tasks.

use std::sync::Arc;

use serde_json::Value;
use tasker_model::dag::nearest;
use tasker_model::id::TaskId;
use tasker_model::json::Json;
use tasker_model::name::SignalName;
use tasker_model::wait::WaitFor;
use tasker_store::Store;
use tasker_store::store::{Signal, Signalled};

use crate::error::Error;

/// Sends a signal to a task of a store. A name that no step of the task waits for is refused: it
/// would be kept for nobody.
pub async fn send(
    store: &dyn Store,
    task: TaskId,
    name: &str,
    payload: &Value,
    actor: &str,
) -> Result<Signalled, Error> {
    let record = store.task(task).await?.ok_or(Error::NoSuchTask(task))?;
    let template = store.template(record.template).await?;
    let steps = template.source().steps.iter();
    let waits = steps.filter_map(|step| match &step.wait {
        Some(WaitFor::Signal { name, .. }) => Some(name),
        _ => None,
    });
    let mut known: Vec<&SignalName> = waits.collect();
    known.sort_unstable();
    known.dedup();
    let Some(name) = known.iter().find(|known| known.as_str() == name) else {
        return Err(Error::NoSuchSignal(unknown(task, name, &known)));
    };
    let payload = Json::of(payload).map_err(|error| Error::NotJson(Arc::new(error)))?;
    let signal = Signal {
        name: (*name).clone(),
        payload,
        by: actor.to_owned(),
    };
    Ok(store.signal(task, signal).await?)
}

fn unknown(task: TaskId, name: &str, known: &[&SignalName]) -> String {
    let text = format!("no step of task {task} waits for signal `{name}`");
    match nearest(name, known.iter().map(|known| known.as_str())) {
        Some(near) => format!("{text}; did you mean `{near}`?"),
        None if known.is_empty() => format!("{text}, nor for any other"),
        None => {
            let known: Vec<&str> = known.iter().map(|known| known.as_str()).collect();
            format!("{text}; it waits for {}", known.join(", "))
        }
    }
}
