//! `simulate`: runs seeds, and shows those that go wrong.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use tasker_simulation::{Batch, Place, run, run_all};

/// Runs the engine under virtual time with everything that can go wrong, seed by seed
#[derive(Parser)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// The URL of a store: SQLite in memory, or a PostgreSQL database, of which a schema is used
    #[arg(long, value_name = "URL", default_value = "sqlite::memory:")]
    store: String,
    /// Seeds that run at the same time; as many as there are cores if absent
    #[arg(long)]
    threads: Option<usize>,
    /// Instead: run the first seed alone, and print what happens when and the record of all tasks
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if arguments.trace {
        1
    } else {
        arguments.threads.unwrap_or(cores).max(1)
    };
    let places: Result<Vec<_>, _> = (0..threads)
        .map(|_| Place::open(&arguments.store))
        .collect();
    let mut places = match places {
        Ok(places) => places,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match places.pop() {
        Some(place) if arguments.trace => trace(arguments.from, &place),
        last => {
            places.extend(last);
            simulate(&arguments, places)
        }
    }
}

fn trace(seed: u64, place: &Place) -> ExitCode {
    let (report, failure) = match run(seed, place, true) {
        Ok(report) => (report, None),
        Err(failure) => (failure.report.clone(), Some(failure)),
    };
    println!("{}\n{}", report.trace.join("\n"), report.history);
    match failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(arguments: &Arguments, places: Vec<Place>) -> ExitCode {
    let started = Instant::now();
    let seeds = arguments.from..arguments.from.saturating_add(arguments.seeds);
    let shows_progress = std::io::stderr().is_terminal();
    let batch = run_all(places, seeds, None, |batch| {
        if shows_progress {
            eprint!("\r{} seeds, {} failed", batch.seeds, batch.failures.len());
        }
    });
    if shows_progress {
        eprintln!();
    }
    print(&batch, started);
    if batch.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print(batch: &Batch, started: Instant) {
    for failure in &batch.failures {
        println!("{failure}\n");
    }
    let seconds = started.elapsed().as_secs_f64();
    let (seeds, failed) = (batch.seeds, batch.failures.len());
    let speed = seeds as f64 / seconds;
    println!("{seeds} seeds in {seconds:.1} s ({speed:.0} per second), {failed} failed");
    for (what, count) in &batch.counts {
        println!("{count:>10} {what}");
    }
}
