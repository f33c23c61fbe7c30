//! Recording the ends of attempts, and extending leases.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Instant;

use jiff::Timestamp;
use tasker_model::annotation::Annotation;
use tasker_model::id::WorkerId;
use tasker_model::json::Json;
use tasker_model::name::SignalName;
use tasker_model::outcome::{Failure, Settlement};
use tasker_model::progress::StepProgress;
use tasker_model::step::StepState;
use tasker_model::transition::Reason;
use tasker_model::wait::{NEVER, Until};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Inner;
use super::answer::KnownInputs;
use super::budget::Budget;
use super::looks::Look;
use super::row::{Parameter, Row, int, milliseconds};
use crate::error::StoreError;
use crate::store::{ClaimBudget, Completion, Lease, Progress, Recorded};

/// The function's word for a step that waits for a time or a signal.
const WAITING: &str = "waiting";
/// For one that waits for its sub-tasks.
const SUBTASKS: &str = "subtasks";
/// What the server may add to a time without leaving the calendar.
const CENTURY_MS: i64 = 100 * 365 * 24 * 3_600 * 1_000;

/// What a settlement writes to the step's row.
struct End<'a> {
    delay_ms: Option<i64>,
    failure: Option<&'a Failure>,
    result: Option<&'a Json>,
    /// The function's word for this end.
    word: &'static str,
    /// Why it was skipped, or which signal it waits for.
    more: Option<&'a str>,
    until: Option<Timestamp>,
}

impl End<'_> {
    fn of(settlement: &Settlement) -> End<'_> {
        let end = |state: StepState| End {
            delay_ms: None,
            failure: None,
            result: None,
            word: state.as_str(),
            more: None,
            until: None,
        };
        match settlement {
            Settlement::Complete { result } => End {
                result: Some(result),
                ..end(StepState::Complete)
            },
            Settlement::Retry { failure, delay_ms } => End {
                delay_ms: Some(milliseconds(*delay_ms)),
                failure: Some(failure),
                ..end(StepState::Error)
            },
            Settlement::Fail { failure } => End {
                failure: Some(failure),
                ..end(StepState::Error)
            },
            Settlement::Skip { cause } => End {
                more: Some(Reason::from(*cause).as_str()),
                ..end(StepState::Skipped)
            },
            Settlement::HandBack => end(StepState::Pending),
            Settlement::Wait(wait) => End {
                delay_ms: match wait.until {
                    Until::After(delay_ms) => Some(milliseconds(delay_ms).min(CENTURY_MS)),
                    Until::At(_) | Until::Signalled | Until::Subtasks => None,
                },
                until: match wait.until {
                    Until::After(_) => None,
                    Until::At(time) => Some(time.min(NEVER)),
                    Until::Signalled | Until::Subtasks => Some(NEVER),
                },
                word: match wait.until {
                    Until::Subtasks => SUBTASKS,
                    Until::After(_) | Until::At(_) | Until::Signalled => WAITING,
                },
                more: wait.signal.as_ref().map(SignalName::as_str),
                ..end(StepState::Pending)
            },
        }
    }

    /// The failure may be tried again, but the worker believes that no attempt is left.
    fn wants_attempts(&self) -> bool {
        self.delay_ms.is_none() && self.failure.is_some_and(|failure| failure.kind.may_retry())
    }
}

/// Completions, column by column, sorted by task: the order in which everybody locks tasks.
struct Columns<'a> {
    /// Where each stood in the call.
    places: Vec<usize>,
    tasks: Vec<Uuid>,
    positions: Vec<i32>,
    attempts: Vec<i32>,
    states: Vec<&'static str>,
    delays_ms: Vec<Option<i64>>,
    limited: Vec<bool>,
    kinds: Vec<Option<&'static str>>,
    failures: Vec<Option<String>>,
    results: Vec<Option<&'a str>>,
    logs: Vec<Option<&'a str>>,
    words: Vec<Option<Cow<'a, str>>>,
    until: Vec<Option<Timestamp>>,
}

/// Why it was skipped, which signal it waits for, or what was noted.
fn words<'a>(completion: &Completion, end: &End<'a>) -> Option<Cow<'a, str>> {
    if end.word == StepState::Complete.as_str() && !completion.annotations.is_empty() {
        let both = |note: &Annotation| {
            let kind = serde_json::to_string(&note.annotation_type);
            let kind = kind.expect("invariant: a text");
            format!("{kind},{}", note.annotation.as_str())
        };
        let notes: Vec<String> = completion.annotations.iter().map(both).collect();
        return Some(format!("[{}]", notes.join(",")).into());
    }
    end.more.map(Cow::Borrowed)
}

impl<'a> Columns<'a> {
    fn of(completions: &'a [Completion]) -> Columns<'a> {
        // An attempt ends once, also within one call.
        let mut named = HashSet::with_capacity(completions.len());
        let mut once: Vec<(usize, &Completion)> = completions
            .iter()
            .enumerate()
            .filter(|(_, completion)| named.insert(completion.lease))
            .collect();
        once.sort_by_key(|(_, completion)| completion.lease.step.task_id);
        let ends: Vec<End<'_>> = once.iter().map(|(_, c)| End::of(&c.settlement)).collect();
        let leases = || once.iter().map(|(_, completion)| completion.lease);
        let text = |failure| serde_json::to_string(failure).expect("invariant: plain data");
        Columns {
            places: once.iter().map(|(place, _)| *place).collect(),
            tasks: leases().map(|l| *l.step.task_id.as_uuid()).collect(),
            positions: leases().map(|l| int(l.step.position)).collect(),
            attempts: leases().map(|l| int(l.attempt)).collect(),
            states: ends.iter().map(|end| end.word).collect(),
            words: once
                .iter()
                .zip(&ends)
                .map(|((_, c), end)| words(c, end))
                .collect(),
            until: ends.iter().map(|end| end.until).collect(),
            delays_ms: ends.iter().map(|end| end.delay_ms).collect(),
            limited: ends.iter().map(End::wants_attempts).collect(),
            kinds: ends
                .iter()
                .map(|end| end.failure.map(|failure| failure.kind.as_str()))
                .collect(),
            failures: ends.iter().map(|end| end.failure.map(text)).collect(),
            results: ends
                .iter()
                .map(|end| end.result.map(Json::as_str))
                .collect(),
            logs: once.iter().map(|(_, c)| c.log.as_deref()).collect(),
        }
    }
}

impl Inner {
    pub(super) async fn complete(
        &self,
        worker: WorkerId,
        completions: Vec<Completion>,
        budget: Option<ClaimBudget>,
    ) -> Result<(Vec<Recorded>, Progress), StoreError> {
        let columns = Columns::of(&completions);
        // A child that is handed over was made ready by steps whose task and results are at hand.
        let known = completions.iter().all(|c| c.context.is_some());
        let by_test_clock = self.given_time().is_some();
        let look = budget.as_ref().map(|b| self.looks.peek(b, by_test_clock));
        let look = look.unwrap_or_default();
        let started = Instant::now();
        let rows = self
            .call_complete(worker, &columns, budget.as_ref(), &look, known)
            .await?;
        let took = started.elapsed();
        let mut inputs = KnownInputs::default();
        for Completion {
            lease,
            settlement,
            context,
            ..
        } in &completions
        {
            if let Some(context) = context {
                inputs.contexts.insert(lease.step.task_id, context);
            }
            if let Settlement::Complete { result } = settlement {
                inputs.results.insert(lease.step, result);
            }
        }
        let (mut progress, summary) = self.progress(&rows, &inputs).await?;
        self.saw_time(summary.at);
        if let Some(budget) = &budget {
            self.looks.looked(budget, &look, summary.next_due, took);
        }
        if progress.left_due {
            self.bell.pull();
        }
        progress.left_due |= summary.busy;
        let mut recorded = vec![Recorded::LeaseLost; completions.len()];
        for row in summary.recorded {
            let bad = || StoreError::BadRow(format!("completion {row} was never sent"));
            recorded[*columns.places.get(row).ok_or_else(bad)?] = Recorded::Yes;
        }
        Ok((recorded, progress))
    }

    async fn call_complete(
        &self,
        worker: WorkerId,
        columns: &Columns<'_>,
        budget: Option<&ClaimBudget>,
        look: &Look,
        known: bool,
    ) -> Result<Vec<Row>, StoreError> {
        let also_due = budget.is_some_and(|budget| budget.also_due);
        let budget = Budget::of(budget);
        let (now, worker) = (self.given_time(), *worker.as_uuid());
        let runs = budget.runs();
        let parameters: &[Parameter<'_>] = &[
            (&now, Type::TIMESTAMPTZ),
            (&worker, Type::UUID),
            (&columns.tasks, Type::UUID_ARRAY),
            (&columns.positions, Type::INT4_ARRAY),
            (&columns.attempts, Type::INT4_ARRAY),
            (&columns.states, Type::TEXT_ARRAY),
            (&columns.delays_ms, Type::INT8_ARRAY),
            (&columns.limited, Type::BOOL_ARRAY),
            (&columns.kinds, Type::TEXT_ARRAY),
            (&columns.failures, Type::TEXT_ARRAY),
            (&columns.results, Type::TEXT_ARRAY),
            (&columns.logs, Type::TEXT_ARRAY),
            (&columns.words, Type::TEXT_ARRAY),
            (&columns.until, Type::TIMESTAMPTZ_ARRAY),
            (&budget.lease_ms, Type::INT8),
            (&budget.slots, Type::INT4),
            (&runs, Type::TEXT_ARRAY),
            (&budget.queues, Type::TEXT_ARRAY),
            (&budget.templates, Type::INT8_ARRAY),
            (&also_due, Type::BOOL),
            (&look.due_after, Type::TIMESTAMPTZ),
            (&look.leased_after, Type::TIMESTAMPTZ),
            (&known, Type::BOOL),
        ];
        let sql = include_str!("../../sql/postgres/complete.sql");
        self.connections.rows(sql, parameters).await
    }

    pub(super) async fn note_progress(
        &self,
        worker: WorkerId,
        mut notes: Vec<(Lease, StepProgress)>,
    ) -> Result<(), StoreError> {
        notes.sort_by_key(|(lease, _)| lease.step.task_id);
        let leases = || notes.iter().map(|(lease, _)| lease);
        let tasks: Vec<Uuid> = leases().map(|l| *l.step.task_id.as_uuid()).collect();
        let positions: Vec<i32> = leases().map(|l| int(l.step.position)).collect();
        let attempts: Vec<i32> = leases().map(|l| int(l.attempt)).collect();
        let text = |progress| serde_json::to_string(progress).expect("invariant: plain data");
        let texts: Vec<String> = notes.iter().map(|(_, progress)| text(progress)).collect();
        let parameters: &[Parameter<'_>] = &[
            (worker.as_uuid(), Type::UUID),
            (&tasks, Type::UUID_ARRAY),
            (&positions, Type::INT4_ARRAY),
            (&attempts, Type::INT4_ARRAY),
            (&texts, Type::TEXT_ARRAY),
        ];
        let sql = include_str!("../../sql/postgres/note_progress.sql");
        self.connections.rows(sql, parameters).await.map(drop)
    }

    pub(super) async fn heartbeat(
        &self,
        worker: WorkerId,
        leases: Vec<Lease>,
        lease_ms: u64,
    ) -> Result<Vec<Lease>, StoreError> {
        let tasks: Vec<Uuid> = leases.iter().map(|l| *l.step.task_id.as_uuid()).collect();
        let positions: Vec<i32> = leases.iter().map(|l| int(l.step.position)).collect();
        let attempts: Vec<i32> = leases.iter().map(|l| int(l.attempt)).collect();
        let (now, worker, lease_ms) =
            (self.given_time(), *worker.as_uuid(), milliseconds(lease_ms));
        let row = self
            .connections
            .row(
                include_str!("../../sql/postgres/heartbeat.sql"),
                &[
                    (&now, Type::TIMESTAMPTZ),
                    (&worker, Type::UUID),
                    (&tasks, Type::UUID_ARRAY),
                    (&positions, Type::INT4_ARRAY),
                    (&attempts, Type::INT4_ARRAY),
                    (&lease_ms, Type::INT8),
                ],
            )
            .await?;
        let held: Vec<i32> = row.map(|row| row.get(0)).transpose()?.unwrap_or_default();
        let held: HashSet<i32> = held.into_iter().collect();
        let lost = (1..).zip(leases).filter(|(place, _)| !held.contains(place));
        Ok(lost.map(|(_, lease)| lease).collect())
    }
}
