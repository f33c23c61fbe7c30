//! Does a step cost the same in a large task, and in a store with a long history?

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use tasker::{TaskHandler, TaskRequest};

use crate::workload::{NAMESPACE, Workload, layered};
use crate::{floor, latency, median, milliseconds, quantile, sorted, start_with, wait_for_all};

/// Steps of each run: as one task, and as tasks of ten steps.
const STEPS: u32 = 10_000;
const ROUNDS: usize = 3;

/// Prints what a step costs in a task of 10,000 steps, beside a task of 10.
pub(crate) async fn large_tasks(folder: &Path) -> Result<(), Box<dyn Error>> {
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
            costs.push(cost_of_a_step(folder, &handler, STEPS / steps).await?);
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
    folder: &Path,
    handler: &TaskHandler,
    tasks: u32,
) -> Result<f64, Box<dyn Error>> {
    let mut costs = Vec::new();
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir_in(folder)?;
        let tasker = start_with(&folder.path().join("scale.db"), handler.clone()).await?;
        let name = handler.template().source().name.as_str();
        let requests = (0..tasks)
            .map(|_| TaskRequest::new(name).namespace(NAMESPACE))
            .collect();
        let started = Instant::now();
        tasker.executor().execute_all(requests).await?;
        wait_for_all(&tasker).await?;
        costs.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(STEPS));
        tasker.stop().await?;
    }
    Ok(median(costs))
}

/// Prints throughput and latency on an empty store, and with so many finished tasks in it.
pub(crate) async fn history(folder: &Path, finished: u32) -> Result<(), Box<dyn Error>> {
    let workload = Workload::Linear4;
    println!("{:<16} {:>10} {:>9}", "finished tasks", "steps/s", "p50 ms");
    let mut figures = Vec::new();
    for finished in [0, finished] {
        let folder = tempfile::tempdir_in(folder)?;
        let path = folder.path().join("history.db");
        start_with(&path, workload.handler()?).await?.stop().await?;
        floor::throughput(&path, Workload::Single, finished)?;
        let mut rates = Vec::new();
        let mut medians = Vec::new();
        for _ in 0..ROUNDS {
            let time: Duration = crate::throughput(&path, workload, 5_000).await?;
            rates.push(20_000.0 / time.as_secs_f64());
            let times = sorted(latency(&path, workload, 500).await?);
            medians.push(milliseconds(quantile(&times, 0.5)));
        }
        let (rate, p50) = (median(rates), median(medians));
        println!("{finished:<16} {rate:>10.0} {p50:>9.3}");
        figures.push((rate, p50));
    }
    let [(empty_rate, empty_p50), (rate, p50)] = figures[..] else {
        return Ok(());
    };
    println!(
        "cost per step {:.2}x, latency {:.2}x",
        empty_rate / rate,
        p50 / empty_p50
    );
    Ok(())
}

/// Prints how many statements per second an idle engine runs, and how much memory it holds.
pub(crate) async fn idle(folder: &Path, time: Duration) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir_in(folder)?;
    let tasker = start_with(&folder.path().join("idle.db"), Workload::Linear4.handler()?).await?;
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
    Ok(())
}
