//! `tasker queue`: what runs where, and how much of it.

use std::process::ExitCode;

use crate::args::Queue;
use crate::output::{Failure, Output, table};
use crate::target;

pub(crate) async fn run(
    command: Queue,
    store: Option<String>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let store = target::open(store).await?;
    if let Queue::Limit { queue, limit, .. } = command {
        let name = tasker::model::name::Queue::new(&queue);
        let name = name.map_err(|error| Failure::usage(error.to_string()))?;
        store.set_queue_limit(name, limit).await?;
    }
    let queues = store.queues().await?;
    output.data(&queues, || {
        if queues.is_empty() {
            return "nothing waits on any queue, and none has a limit".to_owned();
        }
        let rows: Vec<[String; 4]> = queues
            .iter()
            .map(|queue| {
                let limit = match queue.concurrency_limit {
                    Some(0) => "paused".to_owned(),
                    Some(limit) => limit.to_string(),
                    None => "none".to_owned(),
                };
                let (running, due) = (queue.running.to_string(), queue.due.to_string());
                [queue.queue.to_string(), running, due, limit]
            })
            .collect();
        table(["QUEUE", "RUNNING", "DUE", "LIMIT"], &rows)
    })?;
    Ok(ExitCode::SUCCESS)
}
