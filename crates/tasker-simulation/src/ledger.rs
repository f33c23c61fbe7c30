//! What the world outside of the store saw: requests and their answers, executions, faults.
//!
//! The store is judged by it in the end. Nothing in here is known to the engine.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tasker::model::id::{Position, StepKey, TaskId, WorkerId};
use tasker::model::json::Json;
use tasker::store::{Clock as _, ManualClock};

/// Everything that was seen of one seed.
pub(crate) struct Ledger {
    clock: Arc<ManualClock>,
    start: Timestamp,
    pages: Mutex<Pages>,
}

/// What the ledger holds.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pub(crate) requests: Vec<Request>,
    pub(crate) executions: Vec<Execution>,
    /// What must not be, found on the way.
    pub(crate) problems: Vec<String>,
    pub(crate) counts: Counts,
    /// What happened when, for people; empty unless somebody wants to read it.
    lines: Option<Vec<String>>,
}

/// How often something happened.
pub type Counts = BTreeMap<&'static str, u64>;

/// A request that a client made, however often it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) has_key: bool,
    /// How often it was sent.
    pub(crate) sent: u32,
    /// The tasks that it was told of.
    pub(crate) answers: Vec<TaskId>,
    /// Which others it was sent together with: all of them are created, or none.
    pub(crate) batch: Option<u32>,
}

/// A handler that began to run.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    pub(crate) step: StepKey,
    pub(crate) attempt: u32,
    pub(crate) worker: WorkerId,
    /// For each parent with a result: that result.
    pub(crate) parents: Vec<(Position, Json)>,
}

impl Ledger {
    pub(crate) fn new(clock: Arc<ManualClock>, traced: bool) -> Ledger {
        let start = clock.now();
        let pages = Pages {
            lines: traced.then(Vec::new),
            ..Pages::default()
        };
        Ledger {
            clock,
            start,
            pages: Mutex::new(pages),
        }
    }

    pub(crate) fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    pub(crate) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts something.
    pub(crate) fn count(&self, what: &'static str) {
        *self.pages().counts.entry(what).or_default() += 1;
    }

    /// Notes something that must not be.
    pub(crate) fn problem(&self, what: impl fmt::Display) {
        self.note(|| format!("PROBLEM: {what}"));
        self.pages().problems.push(what.to_string());
    }

    /// Notes what happens, if somebody wants to read it.
    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if self.pages().lines.is_none() {
            return;
        }
        let at = self.clock.now().duration_since(self.start);
        let line = format!("{:>14.6}  {}", at.as_secs_f64(), what());
        let mut pages = self.pages();
        pages
            .lines
            .iter_mut()
            .for_each(|lines| lines.push(line.clone()));
    }

    /// How often what happened.
    pub(crate) fn counts(&self) -> Counts {
        self.pages().counts.clone()
    }

    /// The notes so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.pages().lines.clone().unwrap_or_default()
    }

    /// Notes an execution, and gives its number.
    pub(crate) fn executed(&self, execution: Execution) -> usize {
        let executions = &mut self.pages().executions;
        executions.push(execution);
        executions.len() - 1
    }

    /// Notes a new request, and gives its number.
    pub(crate) fn requested(&self, has_key: bool, batch: Option<u32>) -> usize {
        let requests = &mut self.pages().requests;
        requests.push(Request {
            has_key,
            sent: 0,
            answers: Vec::new(),
            batch,
        });
        requests.len() - 1
    }

    /// Notes that a request was sent, perhaps again.
    pub(crate) fn sent(&self, request: usize) {
        self.pages().requests[request].sent += 1;
    }

    /// Notes that a request was acknowledged.
    pub(crate) fn acknowledged(&self, request: usize, task: TaskId) {
        let answers = &mut self.pages().requests[request].answers;
        if !answers.contains(&task) {
            answers.push(task);
        }
    }

    /// Every task that a client was told of.
    pub(crate) fn known_tasks(&self) -> Vec<TaskId> {
        let pages = self.pages();
        let requests = pages.requests.iter();
        requests
            .flat_map(|request| request.answers.clone())
            .collect()
    }
}
