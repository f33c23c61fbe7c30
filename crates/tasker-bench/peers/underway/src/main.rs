//! underway under the benchmark's workloads; prints one line of JSON.
//!
//! A workflow is a job of one or four steps, each of which gets the output of the one before. A
//! step is complete when its row says so, a moment after its handler has returned: this program
//! looks at the table. The last output is not kept, because underway has no place for it.

use std::error::Error;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use underway::job::Context;
use underway::{Job, To};

/// Says which version of underway is built in.
const LOCK: &str = include_str!("../Cargo.lock");
const CONCURRENT: usize = 8;
/// Two connections per attempt (its transaction and its heartbeat), and some to listen and add.
const POOL: u32 = 20;
/// Jobs per transaction that adds them, as many as Tasker's.
const ADD_AT_ONCE: usize = 200;
const WARM_UP: usize = 20;

type Fallible<T> = Result<T, Box<dyn Error>>;
type Steps = Job<Small, UnboundedSender<()>>;

/// A result of about 50 bytes of JSON.
#[derive(Serialize, Deserialize)]
struct Small {
    step: String,
    sum: u64,
    padding: String,
}

impl Small {
    fn after(step: &str, sum: u64) -> Small {
        let (step, padding) = (step.to_owned(), "0123456789".to_owned());
        Small {
            step,
            sum: 1 + sum,
            padding,
        }
    }
}

enum Measure {
    Throughput,
    Latency,
}

struct Arguments {
    url: String,
    workload: String,
    measure: Measure,
    jobs: usize,
}

impl Arguments {
    fn parse() -> Fallible<Arguments> {
        let (mut url, mut workload, mut measured) = (None, None, None);
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--url" => url = Some(value),
                "--workload" => workload = Some(value),
                "--tasks" => measured = Some((Measure::Throughput, value.parse()?)),
                "--latency" => measured = Some((Measure::Latency, value.parse()?)),
                _ => return Err(format!("unknown flag {flag}").into()),
            }
        }
        let (measure, jobs) = measured.ok_or("either --tasks or --latency is needed")?;
        let url = url.ok_or("--url is needed")?;
        let workload = workload.ok_or("--workload is needed")?;
        Ok(Arguments {
            url,
            workload,
            measure,
            jobs,
        })
    }
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let arguments = Arguments::parse()?;
    let pool = PgPoolOptions::new()
        .max_connections(POOL)
        .connect(&arguments.url)
        .await?;
    underway::run_migrations(&pool).await?;
    let (finished, mut ends) = unbounded_channel();
    // A job that has executed a step adds new ones at that step, not at the first: so one adds and
    // another executes, as if they were two processes.
    let (job, mut worker, steps) = match arguments.workload.as_str() {
        "single-step" => {
            let executing = single(&pool, finished.clone()).await?;
            (single(&pool, finished).await?, executing.worker(), 1)
        }
        "linear-4" => {
            let executing = linear(&pool, finished.clone()).await?;
            (linear(&pool, finished).await?, executing.worker(), 4)
        }
        other => return Err(format!("there is no {other} in underway: no branches").into()),
    };
    worker.set_concurrency_limit(CONCURRENT);
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { worker.run().await }
    });
    throughput(&pool, &job, &mut ends, WARM_UP).await?;
    let measured = match arguments.measure {
        Measure::Throughput => {
            let time = throughput(&pool, &job, &mut ends, arguments.jobs).await?;
            let rate = (arguments.jobs * steps) as f64 / time.as_secs_f64();
            format!(r#""steps_per_second":{rate}"#)
        }
        Measure::Latency => {
            let times = latency(&pool, &job, &mut ends, arguments.jobs).await?;
            let [p50, p95, p99] = [0.50, 0.95, 0.99].map(|share| quantile(&times, share));
            format!(r#""p50_ms":{p50},"p95_ms":{p95},"p99_ms":{p99}"#)
        }
    };
    worker.shutdown();
    running.await??;
    check_rows(&pool, (WARM_UP + arguments.jobs) * steps).await?;
    let version = version().ok_or("underway is not in Cargo.lock")?;
    println!(
        r#"{{"peer":"underway","version":"{version}","workload":"{}","settings":"{CONCURRENT} concurrent, pool of {POOL}",{measured}}}"#,
        arguments.workload
    );
    Ok(())
}

fn version() -> Option<&'static str> {
    let (_, underway) = LOCK.split_once("name = \"underway\"\nversion = \"")?;
    underway.split('"').next()
}

async fn single(pool: &PgPool, finished: UnboundedSender<()>) -> Fallible<Steps> {
    let job = Job::builder()
        .state(finished)
        .step(last)
        .name("bench")
        .pool(pool.clone());
    Ok(job.build().await?)
}

async fn linear(pool: &PgPool, finished: UnboundedSender<()>) -> Fallible<Steps> {
    let job = Job::builder()
        .state(finished)
        .step(|_, input: Small| async move { To::next(Small::after("s0_0", input.sum)) })
        .step(|_, parent: Small| async move { To::next(Small::after("s1_0", parent.sum)) })
        .step(|_, parent: Small| async move { To::next(Small::after("s2_0", parent.sum)) })
        .step(last)
        .name("bench")
        .pool(pool.clone());
    Ok(job.build().await?)
}

async fn last(
    context: Context<UnboundedSender<()>>,
    _parent: Small,
) -> underway::task::Result<To<()>> {
    // Nobody listens after the end of the measurement.
    let _ = context.state.send(());
    To::done()
}

/// The time from the first job's addition to the end of the last one.
async fn throughput(
    pool: &PgPool,
    job: &Steps,
    ends: &mut UnboundedReceiver<()>,
    jobs: usize,
) -> Fallible<Duration> {
    let input = Small::after("input", 0);
    let started = Instant::now();
    let mut left = jobs;
    while left > 0 {
        let batch = left.min(ADD_AT_ONCE);
        let mut transaction = pool.begin().await?;
        for _ in 0..batch {
            job.enqueue_using(&mut *transaction, &input).await?;
        }
        transaction.commit().await?;
        left -= batch;
    }
    wait_for(pool, ends, jobs).await?;
    Ok(started.elapsed())
}

/// One client adds a job, waits until it is complete, and adds the next; sorted.
async fn latency(
    pool: &PgPool,
    job: &Steps,
    ends: &mut UnboundedReceiver<()>,
    jobs: usize,
) -> Fallible<Vec<Duration>> {
    let input = Small::after("input", 0);
    let mut times = Vec::new();
    for _ in 0..jobs {
        let started = Instant::now();
        job.enqueue(&input).await?;
        wait_for(pool, ends, 1).await?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// Waits until so many last handlers have returned and every row says that it is done.
async fn wait_for(pool: &PgPool, ends: &mut UnboundedReceiver<()>, jobs: usize) -> Fallible<()> {
    for _ in 0..jobs {
        ends.recv().await.ok_or("the worker has stopped")?;
    }
    let open = "SELECT EXISTS (SELECT FROM underway.task WHERE state <> 'succeeded')";
    // The timer's smallest step is a millisecond, more than the question takes.
    while sqlx::query_scalar::<_, bool>(open).fetch_one(pool).await? {}
    Ok(())
}

/// What was measured must be in the database.
async fn check_rows(pool: &PgPool, steps: usize) -> Fallible<()> {
    let count = "SELECT count(*) FROM underway.task_attempt WHERE state = 'succeeded'";
    let recorded: i64 = sqlx::query_scalar(count).fetch_one(pool).await?;
    if usize::try_from(recorded) == Ok(steps) {
        return Ok(());
    }
    Err(format!("{recorded} attempts are recorded, not {steps}").into())
}

/// The nearest rank, of sorted times, in milliseconds.
fn quantile(times: &[Duration], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let rank = (share * times.len() as f64).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1].as_secs_f64() * 1_000.0
}
