//! How fast is Tasker, beside what the disk and SQLite alone would allow?
//!
//! Throughput: all tasks are submitted, and the clock stops when the last is complete. Latency:
//! one client creates a task, waits until it is complete, and creates the next. Every figure is
//! the median of several rounds, and stands beside its floor (see [`floor`]) from the same run.

mod workload;
mod floor;
mod scale;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;
use tasker::model::task::TaskState;
use tasker::store::store::{Page, TaskFilter};
use tasker::{Options, TaskHandler, TaskRequest, Tasker};
use workload::{NAMESPACE, Workload};

/// Attempts at the same time, for all workloads.
const SLOTS: usize = 512;
/// Tasks that one request to the engine creates, so that submitting is not what is measured.
const SUBMIT_AT_ONCE: u32 = 200;

/// Measures throughput and latency of Tasker and of the floor beneath it.
#[derive(Parser)]
struct Arguments {
    /// Fewer tasks and rounds; ends within 45 seconds
    #[arg(long)]
    quick: bool,
    /// Write the figures as a JSON list to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the databases are put for the time of the run; their disk is what is measured
    #[arg(long, value_name = "FOLDER", default_value = "target")]
    folder: PathBuf,
    /// Instead: what a step costs in a task of 10,000 steps, beside a task of 10
    #[arg(long)]
    large_tasks: bool,
    /// Instead: what a step costs with so many finished tasks in the store
    #[arg(long, value_name = "TASKS")]
    history: Option<u32>,
    /// Instead: what an engine without work costs, over so many seconds
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u64>,
    /// Only this workload
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
}

/// The figures of one workload.
#[derive(Serialize)]
struct Figures {
    store: &'static str,
    workload: &'static str,
    steps_per_second: f64,
    floor_steps_per_second: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    floor_p50_ms: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let chosen: Vec<Workload> = Workload::ALL
        .into_iter()
        .filter(|workload| {
            arguments
                .workload
                .as_deref()
                .is_none_or(|n| n == workload.name())
        })
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = Workload::ALL
            .iter()
            .map(|workload| workload.name())
            .collect();
        return Err(format!("there is no such workload; there are {}", names.join(", ")).into());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    if arguments.large_tasks {
        return runtime.block_on(scale::large_tasks(&arguments.folder));
    }
    if let Some(seconds) = arguments.idle {
        return runtime.block_on(scale::idle(&arguments.folder, Duration::from_secs(seconds)));
    }
    if let Some(finished) = arguments.history {
        return runtime.block_on(scale::history(&arguments.folder, finished));
    }
    println!(
        "{:<12} {:>10} {:>10} {:>6} {:>9} {:>9} {:>9} {:>9} {:>6}",
        "workload", "steps/s", "floor", "share", "p50 ms", "p95 ms", "p99 ms", "floor p50", "times"
    );
    let mut all = Vec::new();
    for workload in chosen {
        let figures = runtime.block_on(measure(workload, &arguments))?;
        print_row(&figures);
        all.push(figures);
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}

fn print_row(figures: &Figures) {
    println!(
        "{:<12} {:>10.0} {:>10.0} {:>5.0}% {:>9.3} {:>9.3} {:>9.3} {:>9.3} {:>5.2}x",
        figures.workload,
        figures.steps_per_second,
        figures.floor_steps_per_second,
        100.0 * figures.steps_per_second / figures.floor_steps_per_second,
        figures.p50_ms,
        figures.p95_ms,
        figures.p99_ms,
        figures.floor_p50_ms,
        figures.p50_ms / figures.floor_p50_ms,
    );
}

async fn measure(workload: Workload, arguments: &Arguments) -> Result<Figures, Box<dyn Error>> {
    let (rounds, steps, tasks) = if arguments.quick {
        (1, 20_000, 200)
    } else {
        (3, 60_000, 1_000)
    };
    let count = steps / workload.steps();
    let mut rates = Vec::new();
    let mut floor_rates = Vec::new();
    let mut latencies = Vec::new();
    let mut floor_latencies = Vec::new();
    for _ in 0..rounds {
        let rate = |time: Duration| f64::from(count * workload.steps()) / time.as_secs_f64();
        let folder = tempfile::tempdir_in(&arguments.folder)?;
        let path = folder.path().join("floor.db");
        start(&path, workload).await?.stop().await?;
        floor_rates.push(rate(floor::throughput(&path, workload, count)?));
        floor_latencies.push(sorted(floor::latency(&path, workload, tasks)?));
        rates.push(rate(
            throughput(&folder.path().join("engine.db"), workload, count).await?,
        ));
        latencies.push(sorted(
            latency(&folder.path().join("latency.db"), workload, tasks).await?,
        ));
    }
    let quantile = |rounds: &[Vec<Duration>], share: f64| {
        median(
            rounds
                .iter()
                .map(|times| milliseconds(quantile(times, share)))
                .collect(),
        )
    };
    Ok(Figures {
        store: "sqlite",
        workload: workload.name(),
        steps_per_second: median(rates),
        floor_steps_per_second: median(floor_rates),
        p50_ms: quantile(&latencies, 0.50),
        p95_ms: quantile(&latencies, 0.95),
        p99_ms: quantile(&latencies, 0.99),
        floor_p50_ms: quantile(&floor_latencies, 0.50),
    })
}

async fn start(path: &Path, workload: Workload) -> Result<Tasker, tasker::Error> {
    start_with(path, workload.handler()?).await
}

async fn start_with(path: &Path, handler: TaskHandler) -> Result<Tasker, tasker::Error> {
    let options = Options {
        slots: SLOTS,
        ..Options::default()
    };
    Tasker::builder(format!("sqlite:{}", path.display()))
        .options(options)
        .register(handler)
        .start()
        .await
}

fn request(workload: Workload) -> TaskRequest {
    TaskRequest::new(workload.name()).namespace(NAMESPACE)
}

async fn throughput(
    path: &Path,
    workload: Workload,
    tasks: u32,
) -> Result<Duration, Box<dyn Error>> {
    let tasker = start(path, workload).await?;
    let started = Instant::now();
    let mut left = tasks;
    while left > 0 {
        let batch = left.min(SUBMIT_AT_ONCE);
        let requests = (0..batch).map(|_| request(workload)).collect();
        tasker.executor().execute_all(requests).await?;
        left -= batch;
    }
    wait_for_all(&tasker).await?;
    let elapsed = started.elapsed();
    tasker.stop().await?;
    Ok(elapsed)
}

/// Waits until no task is unfinished; none may have failed.
async fn wait_for_all(tasker: &Tasker) -> Result<(), tasker::Error> {
    let unfinished = TaskFilter {
        states: vec![TaskState::Pending, TaskState::InProgress],
        ..TaskFilter::default()
    };
    let one = Page {
        limit: 1,
        before: None,
    };
    while !tasker
        .store()
        .tasks(unfinished.clone(), one.clone())
        .await?
        .is_empty()
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let failed = TaskFilter {
        states: vec![TaskState::Error],
        ..TaskFilter::default()
    };
    assert!(
        tasker.store().tasks(failed, one).await?.is_empty(),
        "no benchmark task fails"
    );
    Ok(())
}

async fn latency(
    path: &Path,
    workload: Workload,
    tasks: u32,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let tasker = start(path, workload).await?;
    let executor = tasker.executor();
    let mut times = Vec::new();
    for _ in 0..tasks {
        let started = Instant::now();
        let task = executor.execute_sync(request(workload), None).await?;
        times.push(started.elapsed());
        assert_eq!(task.state(), TaskState::Complete, "no benchmark task fails");
    }
    tasker.stop().await?;
    Ok(times)
}

fn sorted(mut times: Vec<Duration>) -> Vec<Duration> {
    times.sort_unstable();
    times
}

/// The nearest rank, of sorted times.
fn quantile(times: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let rank = (share * times.len() as f64).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
