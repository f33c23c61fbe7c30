//! A steady load, counted by the second: what a long run, a held snapshot, or another node changes.

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tasker::model::event::Fact;
use tasker::model::retry::Backoff;
use tasker::{
    Options, RetryableError, Step, StepContext, StepResult, TaskHandler, TaskRequest, Tasker,
};

use crate::place::{Kind, Place};
use crate::workload::{NAMESPACE, Workload};
use crate::{SLOTS, SUBMIT_AT_ONCE, request, start, wait_for_all};

/// Tasks that are under way at the same time.
const UNDER_WAY: u64 = 2_000;
const WORKLOAD: Workload = Workload::Linear4;

/// An engine that is never without work, until it is dropped.
struct Load {
    finished: Arc<AtomicU64>,
    feeding: tokio::task::JoinHandle<Result<(), tasker::Error>>,
}

impl Load {
    fn start(tasker: &Tasker) -> Load {
        let finished = Arc::new(AtomicU64::new(0));
        let (counted, mut events) = (finished.clone(), tasker.events());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if matches!(event.fact, Fact::TaskFinished { .. }) {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let (counted, executor) = (finished.clone(), tasker.executor());
        let feeding = tokio::spawn(async move {
            let mut submitted = 0;
            loop {
                while submitted - counted.load(Ordering::Relaxed) < UNDER_WAY {
                    let batch = (0..SUBMIT_AT_ONCE).map(|_| request(WORKLOAD)).collect();
                    executor.execute_all(batch).await?;
                    submitted += u64::from(SUBMIT_AT_ONCE);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Load { finished, feeding }
    }

    /// Steps per second over a time.
    async fn rate(&self, time: Duration) -> f64 {
        let (before, started) = (self.finished.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(time).await;
        let finished = self.finished.load(Ordering::Relaxed) - before;
        finished as f64 * f64::from(WORKLOAD.steps()) / started.elapsed().as_secs_f64()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.feeding.abort();
    }
}

async fn engine(place: &Place, slots: usize) -> Result<Tasker, tasker::Error> {
    let options = Options {
        slots,
        event_buffer: 1 << 16,
        ..Options::default()
    };
    Tasker::builder(place.url())
        .options(options)
        .register(WORKLOAD.handler()?)
        .start()
        .await
}

/// Prints throughput and dead rows of a long run, and with three snapshots held in its middle third.
pub(crate) async fn endurance(
    kind: Kind,
    folder: &Path,
    seconds: u64,
    hold: bool,
) -> Result<(), Box<dyn Error>> {
    let place = Place::fresh(kind, folder).await?;
    let tasker = engine(&place, SLOTS).await?;
    let load = Load::start(&tasker);
    load.rate(Duration::from_secs(5)).await;
    println!(
        "{:>8} {:>10} {:>12} {:<10}",
        "second", "steps/s", "dead rows", "snapshots"
    );
    let parts = 15;
    let part = Duration::from_secs((seconds / parts).max(1));
    let mut snapshots = Vec::new();
    for n in 0..parts {
        let middle = hold && (5..10).contains(&n);
        if middle && snapshots.is_empty() {
            for _ in 0..3 {
                snapshots.push(place.hold_snapshot().await?);
            }
        } else if !middle {
            snapshots.clear();
        }
        let rate = load.rate(part).await;
        let dead = place.dead_rows().await?;
        let (at, dead) = ((n + 1) * part.as_secs(), dead.unwrap_or(0));
        println!("{at:>8} {rate:>10.0} {dead:>12} {:<10}", snapshots.len());
    }
    drop(load);
    wait_for_all(&tasker).await?;
    tasker.stop().await?;
    place.remove().await
}

/// Prints throughput beside so many tasks that wait for their retry, and without them.
pub(crate) async fn waiting(kind: Kind, folder: &Path, tasks: u32) -> Result<(), Box<dyn Error>> {
    println!("{:<16} {:>10}", "tasks waiting", "steps/s");
    let mut rates = Vec::new();
    for waiting in [0, tasks] {
        let place = Place::fresh(kind, folder).await?;
        fail_for_now(&place, waiting).await?;
        let tasker = engine(&place, SLOTS).await?;
        let load = Load::start(&tasker);
        load.rate(Duration::from_secs(3)).await;
        let mut of_rounds = Vec::new();
        for _ in 0..3 {
            of_rounds.push(load.rate(Duration::from_secs(5)).await);
        }
        drop(load);
        let rate = crate::median(of_rounds);
        println!("{waiting:<16} {rate:>10.0}");
        rates.push(rate);
        tasker.stop().await?;
        place.remove().await?;
    }
    println!("cost per step {:.2}x", rates[0] / rates[1]);
    Ok(())
}

async fn not_now(_: StepContext) -> StepResult<()> {
    Err(RetryableError::new("not now").into())
}

async fn fail_for_now(place: &Place, tasks: u32) -> Result<(), Box<dyn Error>> {
    let an_hour = Backoff::Fixed {
        delay_ms: 3_600_000,
    };
    let handler = TaskHandler::new(NAMESPACE, "later", "1.0.0")
        .step(Step::new("a", not_now).backoff(an_hour))
        .build()?;
    let options = Options {
        slots: SLOTS,
        event_buffer: 1 << 16,
        ..Options::default()
    };
    let builder = Tasker::builder(place.url()).options(options);
    let tasker = builder.register(handler).start().await?;
    let mut events = tasker.events();
    let executor = tasker.executor();
    let submitting = tokio::spawn(async move {
        for _ in 0..tasks / SUBMIT_AT_ONCE {
            let later = (0..SUBMIT_AT_ONCE)
                .map(|_| TaskRequest::new("later").namespace(NAMESPACE))
                .collect();
            executor.execute_all(later).await?;
        }
        Ok::<_, tasker::Error>(())
    });
    let mut failed = 0;
    while failed < tasks / SUBMIT_AT_ONCE * SUBMIT_AT_ONCE {
        match events.next().await.map(|event| event.fact) {
            Some(Fact::StepFailed { .. }) => failed += 1,
            Some(_) => {}
            None => return Err("the engine ended".into()),
        }
    }
    submitting.await??;
    tasker.stop().await?;
    Ok(())
}

/// Prints throughput with one, two and four worker processes, and for how long a due step was passed
/// over for a younger one: nobody starves while all are busy.
pub(crate) async fn nodes(kind: Kind, folder: &Path) -> Result<(), Box<dyn Error>> {
    println!("{:<8} {:>10} {:>13}", "workers", "steps/s", "overtaken, ms");
    for workers in [1, 2, 4] {
        let mut rates = Vec::new();
        let mut overtaken = Vec::new();
        for _ in 0..3 {
            let place = Place::fresh(kind, folder).await?;
            rates.push(with_workers(&place, workers).await?);
            overtaken.extend(place.overtaken_ms().await?);
            place.remove().await?;
        }
        let longest = overtaken.into_iter().reduce(f64::max);
        let longest = longest.map_or("-".to_owned(), |ms| format!("{ms:.0}"));
        println!("{workers:<8} {:>10.0} {longest:>13}", crate::median(rates));
    }
    Ok(())
}

async fn with_workers(place: &Place, workers: u32) -> Result<f64, Box<dyn Error>> {
    // Only creates and waits; the definition is registered before the workers look.
    let tasker = engine(place, 0).await?;
    let mut nodes = Vec::new();
    for _ in 0..workers {
        let mut node = Command::new(std::env::current_exe()?)
            .args(["--work-on", &place.url()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // One line says that it is ready.
        let mut line = String::new();
        let out = node.stdout.as_mut().ok_or("a worker without output")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line)?;
        nodes.push(Node(node));
    }
    // A server process plans each statement when it first runs it: not what is asked here.
    run_tasks(&tasker, 2_000).await?;
    let count = 20_000;
    let started = Instant::now();
    run_tasks(&tasker, count).await?;
    let time = started.elapsed();
    tasker.stop().await?;
    Ok(f64::from(count * WORKLOAD.steps()) / time.as_secs_f64())
}

async fn run_tasks(tasker: &Tasker, count: u32) -> Result<(), Box<dyn Error>> {
    let mut last = Vec::new();
    for _ in 0..count / SUBMIT_AT_ONCE {
        let batch = (0..SUBMIT_AT_ONCE).map(|_| request(WORKLOAD)).collect();
        last = tasker.executor().execute_all(batch).await?;
    }
    // First those that come last, each of which is one row: a list of what is unfinished passes over
    // the remains of all that was.
    for task in &mut last {
        while !task.refresh().await?.is_final() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    wait_for_all(tasker).await?;
    Ok(())
}

/// A worker process; ends when its input does.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // If it cannot be waited for, it has ended.
        let _ = self.0.wait();
    }
}

/// What a worker process does: work until its input ends.
pub(crate) async fn work_on(url: &str) -> Result<(), Box<dyn Error>> {
    let place = Place::Elsewhere(url.to_owned());
    let tasker = start(&place, WORKLOAD).await?;
    println!("ready");
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    tasker.stop().await?;
    Ok(())
}
