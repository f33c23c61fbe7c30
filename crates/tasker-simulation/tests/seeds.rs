//! The seeds that every change must pass; `cargo xtask simulate` runs more, and others.

use std::time::{Duration, Instant};

use tasker_simulation::{Batch, Place, run, run_all};

/// Seeds on SQLite.
const SEEDS: u64 = 1_000;
/// On a PostgreSQL server as many as this time allows, and at least so many.
const POSTGRES_TIME: Duration = Duration::from_secs(110);
const POSTGRES_SEEDS_MIN: u64 = 20;

fn places(url: &str) -> Vec<Place> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (0..cores)
        .map(|_| Place::open(url).expect("a store"))
        .collect()
}

fn assert_holds(batch: &Batch) {
    let failures: Vec<String> = batch.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    // A simulation in which nothing goes wrong would prove nothing.
    for trouble in [
        "answers lost",
        "calls lost",
        "calls without connection",
        "clock jumps",
        "crashes",
        "outages",
        "orders carried out",
        "pauses",
        "planned stops",
        "sub-tasks asked for",
        "items worked on",
        "steps undone",
    ] {
        assert!(batch.counts.contains_key(trouble), "no {trouble}");
    }
}

#[test]
fn a_thousand_seeds_hold_on_sqlite() {
    let batch = run_all(places("sqlite::memory:"), 0..SEEDS, None, |_| {});
    assert_eq!(batch.seeds, SEEDS);
    assert_holds(&batch);
}

#[test]
fn as_many_seeds_as_time_allows_hold_on_postgresql() {
    let url = std::env::var("TASKER_TEST_POSTGRES")
        .expect("TASKER_TEST_POSTGRES names a database; `cargo xtask test` starts one");
    let url = url.as_str();
    let first = run_all(places(url), 0..POSTGRES_SEEDS_MIN, None, |_| {});
    assert_eq!(first.seeds, POSTGRES_SEEDS_MIN);
    assert_holds(&first);
    let end = Instant::now() + POSTGRES_TIME;
    let more = POSTGRES_SEEDS_MIN..u64::MAX;
    let batch = run_all(places(url), more, Some(end), |_| {});
    println!("{} seeds on PostgreSQL", POSTGRES_SEEDS_MIN + batch.seeds);
    assert!(batch.failures.is_empty(), "{:?}", batch.failures);
}

#[test]
fn a_seed_replays_to_the_letter() {
    let place = Place::open("sqlite::memory:").expect("a store");
    for seed in [8, 50, 137] {
        let [one, two] = [0, 1].map(|_| run(seed, &place, true).expect("the seed holds"));
        assert!(one.history.lines().count() > 10, "{}", one.history);
        assert_eq!(one.history, two.history);
        assert_eq!(one.counts, two.counts);
    }
}
