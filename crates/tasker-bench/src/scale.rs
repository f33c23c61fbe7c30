//! Does a step cost the same in a large task? What does an engine without work cost?

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use tasker::{TaskHandler, TaskRequest};

use crate::place::{Kind, Place};
use crate::workload::{NAMESPACE, Workload, layered};
use crate::{median, start_with, wait_for_all};

/// Steps of each run: as one task, and as tasks of ten steps.
const STEPS: u32 = 10_000;
const ROUNDS: usize = 3;

/// Prints what a step costs in a task of 10,000 steps, beside a task of 10.
pub(crate) async fn large_tasks(kind: Kind, folder: &Path) -> Result<(), Box<dyn Error>> {
    println!(
        "{:<10} {:>14} {:>14} {:>8}",
        "shape", "10 steps, µs", "10000, µs", "times"
    );
    let hundred = vec![100; 100];
    let shapes: [(&str, &[u32], &[u32], u32); 2] = [
        ("wide", &[1, 8, 1], &[1, STEPS - 2, 1], 1),
        ("layered", &[2, 2, 2, 2, 2], &hundred, 2),
    ];
    for (name, small, large, parents) in shapes {
        let mut costs = Vec::new();
        for levels in [small, large] {
            let steps: u32 = levels.iter().sum();
            let handler = layered(&format!("{name}_{steps}"), levels, parents)?;
            costs.push(cost_of_a_step(kind, folder, &handler, STEPS / steps).await?);
        }
        println!(
            "{name:<10} {:>14.1} {:>14.1} {:>7.2}x",
            costs[0],
            costs[1],
            costs[1] / costs[0]
        );
    }
    Ok(())
}

/// Microseconds per step: the median of several runs, each on a store of its own.
async fn cost_of_a_step(
    kind: Kind,
    folder: &Path,
    handler: &TaskHandler,
    tasks: u32,
) -> Result<f64, Box<dyn Error>> {
    let mut costs = Vec::new();
    for _ in 0..ROUNDS {
        let place = Place::fresh(kind, folder).await?;
        let tasker = start_with(&place, handler.clone()).await?;
        let name = handler.template().source().name.as_str();
        let requests = (0..tasks)
            .map(|_| TaskRequest::new(name).namespace(NAMESPACE))
            .collect();
        let started = Instant::now();
        tasker.executor().execute_all(requests).await?;
        wait_for_all(&tasker).await?;
        costs.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(STEPS));
        tasker.stop().await?;
        place.remove().await?;
    }
    Ok(median(costs))
}

/// Prints how many statements per second an idle engine runs, and how much memory it holds.
pub(crate) async fn idle(kind: Kind, folder: &Path, time: Duration) -> Result<(), Box<dyn Error>> {
    let place = Place::fresh(kind, folder).await?;
    let tasker = start_with(&place, Workload::Linear4.handler()?).await?;
    let before = tasker.store().statements();
    tokio::time::sleep(time).await;
    let statements = tasker.store().statements() - before;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let resident = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap_or("VmRSS unknown");
    println!(
        "{:.2} statements per second, {resident}",
        statements as f64 / time.as_secs_f64()
    );
    tasker.stop().await?;
    place.remove().await
}
