//! How fast is Tasker, beside what the disk and the database alone would allow?
//!
//! Throughput: all tasks are submitted, and the clock stops when the last is complete. Latency:
//! one client creates a task, waits until it is complete, and creates the next. Every figure is
//! the median of several rounds, and stands beside its floor (see [`floor`]) from the same run.

mod workload;
mod place;
mod floor;
mod scale;
mod maps;
mod history;
mod load;
mod peers;

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use place::{Kind, Place};
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
    /// Fewer tasks and rounds; ends within 45 seconds per store, peers apart
    #[arg(long)]
    quick: bool,
    /// Write the figures as a JSON list to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the databases are put for the time of the run; their disk is what is measured
    #[arg(long, value_name = "FOLDER", default_value = "target")]
    folder: PathBuf,
    /// Which stores; several may be given
    #[arg(
        long,
        value_name = "STORE",
        value_delimiter = ',',
        default_value = "sqlite"
    )]
    store: Vec<Kind>,
    #[command(flatten)]
    instead: Instead,
    /// Then also: other engines, on the PostgreSQL that `TASKER_BENCH_POSTGRES` names
    #[arg(long)]
    peers: bool,
    /// Only this workload
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
}

/// Questions of their own.
#[derive(clap::Args)]
struct Instead {
    /// Instead: what a step costs in a task of 10,000 steps, beside a task of 10
    #[arg(long)]
    large_tasks: bool,
    /// Instead: what an item costs in a list of so many, beside a list of 100
    #[arg(long, value_name = "ITEMS")]
    maps: Option<u32>,
    /// Instead: what a step costs with so many finished tasks in the store
    #[arg(long, value_name = "TASKS")]
    history: Option<u32>,
    /// Instead: what an engine without work costs, over so many seconds
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u64>,
    /// Instead: a steady load over so many seconds, with the rows that wait for vacuum
    #[arg(long, value_name = "SECONDS")]
    endurance: Option<u64>,
    /// With --endurance: three clients hold a snapshot during the middle third
    #[arg(long, requires = "endurance")]
    hold: bool,
    /// Instead: what a step costs beside so many tasks that wait for their retry
    #[arg(long, value_name = "TASKS")]
    waiting: Option<u32>,
    /// Instead: throughput with one, two and four worker processes
    #[arg(long)]
    nodes: bool,
    /// A worker process of --nodes
    #[arg(long, value_name = "URL", hide = true)]
    work_on: Option<String>,
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
    statements_per_step: f64,
    statements_per_step_alone: f64,
    /// Of a server's write-ahead log, under load.
    wal_bytes_per_step: Option<f64>,
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
    if let Some(answered) = runtime.block_on(instead(&arguments)) {
        return answered;
    }
    println!(
        "{:<8} {:<12} {:>8} {:>8} {:>6} {:>8} {:>8} {:>8} {:>9} {:>6} {:>8} {:>9} {:>9}",
        "store",
        "workload",
        "steps/s",
        "floor",
        "share",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "floor p50",
        "times",
        "st/step",
        "alone",
        "WAL B/st"
    );
    let mut all = Vec::new();
    for kind in &arguments.store {
        for workload in &chosen {
            let figures = runtime.block_on(measure(*kind, *workload, &arguments))?;
            print_row(&figures);
            all.push(figures);
        }
    }
    let mut figures = serde_json::to_value(&all)?;
    if arguments.peers {
        let peers = serde_json::to_value(peers::run(&place::server()?, arguments.quick))?;
        if let (Some(all), Some(peers)) = (figures.as_array_mut(), peers.as_array()) {
            all.extend(peers.iter().cloned());
        }
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

/// Answers a question of its own, if one was asked.
async fn instead(arguments: &Arguments) -> Option<Result<(), Box<dyn Error>>> {
    let Instead {
        large_tasks,
        maps,
        history,
        idle,
        endurance,
        hold,
        waiting,
        nodes,
        work_on,
    } = &arguments.instead;
    let kind = arguments.store.first().copied().unwrap_or(Kind::Sqlite);
    let folder = &arguments.folder;
    Some(if let Some(url) = work_on {
        load::work_on(url).await
    } else if *large_tasks {
        scale::large_tasks(kind, folder).await
    } else if let Some(items) = maps {
        maps::maps(kind, folder, *items).await
    } else if let Some(seconds) = idle {
        scale::idle(kind, folder, Duration::from_secs(*seconds)).await
    } else if let Some(finished) = history {
        history::history(kind, folder, *finished).await
    } else if let Some(seconds) = endurance {
        load::endurance(kind, folder, *seconds, *hold).await
    } else if let Some(tasks) = waiting {
        load::waiting(kind, folder, *tasks).await
    } else if *nodes {
        load::nodes(kind, folder).await
    } else {
        return None;
    })
}

fn print_row(figures: &Figures) {
    println!(
        "{:<8} {:<12} {:>8.0} {:>8.0} {:>5.0}% {:>8.3} {:>8.3} {:>8.3} {:>9.3} {:>5.2}x {:>8.3} {:>9.2} {:>9}",
        figures.store,
        figures.workload,
        figures.steps_per_second,
        figures.floor_steps_per_second,
        100.0 * figures.steps_per_second / figures.floor_steps_per_second,
        figures.p50_ms,
        figures.p95_ms,
        figures.p99_ms,
        figures.floor_p50_ms,
        figures.p50_ms / figures.floor_p50_ms,
        figures.statements_per_step,
        figures.statements_per_step_alone,
        figures
            .wal_bytes_per_step
            .map_or_else(|| "–".to_owned(), |bytes| format!("{bytes:.0}")),
    );
}

async fn measure(
    kind: Kind,
    workload: Workload,
    arguments: &Arguments,
) -> Result<Figures, Box<dyn Error>> {
    let (rounds, steps, tasks) = match (arguments.quick, kind) {
        (true, _) => (1, 20_000, 200),
        (false, _) => (3, 60_000, 1_000),
    };
    let count = steps / workload.steps();
    let mut rates = Vec::new();
    let mut floor_rates = Vec::new();
    let mut latencies = Vec::new();
    let mut floor_latencies = Vec::new();
    let mut loaded = Vec::new();
    let mut alone = Vec::new();
    let mut wal = Vec::new();
    for _ in 0..rounds {
        let written = f64::from(count * workload.steps());
        let place = Place::fresh(kind, &arguments.folder).await?;
        start(&place, workload).await?.stop().await?;
        let time = floor::throughput(&place, workload, count).await?;
        floor_rates.push(written / time.as_secs_f64());
        floor_latencies.push(sorted(floor::latency(&place, workload, tasks).await?));
        place.remove().await?;
        let place = Place::fresh(kind, &arguments.folder).await?;
        let before = place.counters().await?;
        let run = throughput(&place, workload, count).await?;
        let after = place.counters().await?;
        rates.push(written / run.time.as_secs_f64());
        loaded.push(run.statements as f64 / written);
        if let (Some(before), Some(after)) = (before, after) {
            wal.push((after.wal_bytes - before.wal_bytes) / written);
        }
        place.remove().await?;
        let place = Place::fresh(kind, &arguments.folder).await?;
        let (times, statements) = latency(&place, workload, tasks).await?;
        alone.push(statements as f64 / f64::from(tasks * workload.steps()));
        latencies.push(sorted(times));
        place.remove().await?;
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
        store: kind.name(),
        workload: workload.name(),
        steps_per_second: median(rates),
        floor_steps_per_second: median(floor_rates),
        p50_ms: quantile(&latencies, 0.50),
        p95_ms: quantile(&latencies, 0.95),
        p99_ms: quantile(&latencies, 0.99),
        floor_p50_ms: quantile(&floor_latencies, 0.50),
        statements_per_step: median(loaded),
        statements_per_step_alone: median(alone),
        wal_bytes_per_step: (!wal.is_empty()).then(|| median(wal)),
    })
}

async fn start(place: &Place, workload: Workload) -> Result<Tasker, tasker::Error> {
    start_with(place, workload.handler()?).await
}

async fn start_with(place: &Place, handler: TaskHandler) -> Result<Tasker, tasker::Error> {
    let options = Options {
        slots: SLOTS,
        ..Options::default()
    };
    Tasker::builder(place.url())
        .options(options)
        .register(handler)
        .start()
        .await
}

fn request(workload: Workload) -> TaskRequest {
    TaskRequest::new(workload.name()).namespace(NAMESPACE)
}

/// A run under load.
struct Run {
    time: Duration,
    /// Of the engine; what the wait for the end has asked is not among them.
    statements: u64,
}

async fn throughput(place: &Place, workload: Workload, tasks: u32) -> Result<Run, Box<dyn Error>> {
    let tasker = start(place, workload).await?;
    let before = tasker.store().statements();
    let started = Instant::now();
    let mut left = tasks;
    let mut last = Vec::new();
    while left > 0 {
        let batch = left.min(SUBMIT_AT_ONCE);
        let requests = (0..batch).map(|_| request(workload)).collect();
        last = tasker.executor().execute_all(requests).await?;
        left -= batch;
    }
    // Costs the store nothing, unlike asking it again and again; the rest ends at about that time.
    for task in &mut last {
        task.wait(None).await?;
    }
    let asked = wait_for_all(&tasker).await?;
    let time = started.elapsed();
    let statements = tasker.store().statements() - before - asked;
    tasker.stop().await?;
    Ok(Run { time, statements })
}

/// Waits until no task is unfinished; none may have failed. Gives how many statements it took.
async fn wait_for_all(tasker: &Tasker) -> Result<u64, tasker::Error> {
    let unfinished = TaskFilter {
        states: vec![TaskState::Pending, TaskState::InProgress],
        ..TaskFilter::default()
    };
    let one = Page {
        limit: 1,
        before: None,
    };
    // Each look asks once per state.
    let mut asked = 2;
    while !tasker
        .store()
        .tasks(unfinished.clone(), one.clone())
        .await?
        .is_empty()
    {
        asked += 2;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let failed = TaskFilter {
        states: vec![TaskState::Error],
        ..TaskFilter::default()
    };
    assert!(
        tasker.store().tasks(failed, one).await?.is_empty(),
        "no benchmark task fails"
    );
    Ok(asked + 1)
}

/// Times of so many tasks one after the other, and the statements of the engine for them.
async fn latency(
    place: &Place,
    workload: Workload,
    tasks: u32,
) -> Result<(Vec<Duration>, u64), Box<dyn Error>> {
    let tasker = start(place, workload).await?;
    let executor = tasker.executor();
    let before = tasker.store().statements();
    let mut times = Vec::new();
    for _ in 0..tasks {
        let started = Instant::now();
        let task = executor.execute_sync(request(workload), None).await?;
        times.push(started.elapsed());
        assert_eq!(task.state(), TaskState::Complete, "no benchmark task fails");
    }
    let statements = tasker.store().statements() - before;
    tasker.stop().await?;
    Ok((times, statements))
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
