//! Many seeds, on several threads, under the eyes of one that notices when a seed does not end.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::ledger::Counts;
use crate::place::Place;
use crate::play::{Failure, Report, run};

/// A seed takes a tenth of a second, and a few seconds on a server, more on a machine that does other things as
/// well. One that takes so long does not end: something goes on and on at one moment of virtual time.
const SEED_MAX: Duration = Duration::from_mins(4);

/// What became of many seeds.
#[derive(Debug, Default)]
pub struct Batch {
    /// How many ran.
    pub seeds: u64,
    /// Those that went wrong, by number.
    pub failures: Vec<Failure>,
    /// How often what happened, in all of them.
    pub counts: Counts,
}

enum Told {
    Begun(usize, u64),
    Ended(usize, Result<Report, Box<Failure>>),
    Gone,
}

/// Runs seeds, one thread for each place, until all have run or the time is over; calls `each`
/// with the number of those that have.
///
/// A seed that does not end is a failure, and the last: its thread is left behind.
pub fn run_all(
    places: Vec<Place>,
    seeds: Range<u64>,
    until: Option<Instant>,
    mut each: impl FnMut(&Batch),
) -> Batch {
    let (tell, told) = channel();
    let threads = places.len();
    let next = Arc::new(AtomicU64::new(seeds.start));
    for (number, place) in places.into_iter().enumerate() {
        let (tell, next) = (tell.clone(), next.clone());
        std::thread::spawn(move || work(number, &place, &next, seeds.end, until, &tell));
    }
    let mut batch = Batch::default();
    watch(&told, threads, &mut batch, &mut each);
    batch.failures.sort_by_key(|failure| failure.seed);
    batch
}

fn work(
    number: usize,
    place: &Place,
    next: &AtomicU64,
    end: u64,
    until: Option<Instant>,
    tell: &Sender<Told>,
) {
    // Whoever listens has gone only if a seed does not end: then nobody wants to know any more.
    while until.is_none_or(|until| Instant::now() < until) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end || tell.send(Told::Begun(number, seed)).is_err() {
            break;
        }
        let _ = tell.send(Told::Ended(number, run(seed, place, false)));
    }
    let _ = tell.send(Told::Gone);
}

fn watch(
    told: &Receiver<Told>,
    mut threads: usize,
    batch: &mut Batch,
    each: &mut impl FnMut(&Batch),
) {
    let mut running: HashMap<usize, (u64, Instant)> = HashMap::new();
    while threads > 0 {
        match told.recv_timeout(Duration::from_secs(1)) {
            Ok(Told::Begun(thread, seed)) => {
                running.insert(thread, (seed, Instant::now()));
            }
            Ok(Told::Ended(thread, result)) => {
                running.remove(&thread);
                batch.add(result);
                each(batch);
            }
            Ok(Told::Gone) => threads -= 1,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        for (seed, since) in running.values() {
            if now.duration_since(*since) > SEED_MAX {
                batch.failures.push(Failure::endless(*seed));
                return;
            }
        }
    }
}

impl Batch {
    fn add(&mut self, result: Result<Report, Box<Failure>>) {
        self.seeds += 1;
        let report = match result {
            Ok(report) => report,
            Err(failure) => {
                self.failures.push(*failure);
                return;
            }
        };
        for (what, count) in report.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }
}
