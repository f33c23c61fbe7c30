//! `tasker node`: who works on a store.

use std::process::ExitCode;
use std::time::Duration;

use crate::args::Node;
use crate::output::{Failure, Output, table};
use crate::target;

pub(crate) async fn run(
    command: &Node,
    store: Option<String>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let Node::List { seen_within } = command;
    let store = target::open(store).await?;
    let now = store.clock().now();
    let since = now.checked_sub(Duration::from_secs(*seen_within));
    let nodes = store.workers(since.unwrap_or(jiff::Timestamp::MIN)).await?;
    output.data(&nodes, || {
        if nodes.is_empty() {
            return format!("no node was seen within {seen_within} seconds");
        }
        let rows: Vec<[String; 6]> = nodes
            .iter()
            .map(|node| {
                let seen = now.duration_since(node.seen_at).as_secs().max(0);
                [
                    node.worker_id.to_string(),
                    format!("{}:{}", node.host, node.pid),
                    format!("{:.0}", node.started_at),
                    format!("{seen} s ago"),
                    node.attempts.to_string(),
                    node.handlers.join(", "),
                ]
            })
            .collect();
        table(
            ["NODE", "PROCESS", "STARTED", "SEEN", "ATTEMPTS", "HANDLERS"],
            &rows,
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
