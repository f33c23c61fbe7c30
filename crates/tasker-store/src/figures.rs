//! Figures over many tasks: what operators look at first.
//!
//! What is counted, and over what, is said here once; both stores give the same answers, and the
//! functions in PostgreSQL of the same purpose (`docs/SQL_FUNCTIONS.md`) do, too.

use jiff::Timestamp;
use serde::Serialize;
use tasker_model::id::{Position, TaskId};
use tasker_model::name::{Namespace, StepName, TaskName, Version};
use tasker_model::task::TaskState;

/// How many tasks and steps there are, by state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SystemHealth {
    /// Tasks.
    pub tasks: TaskCounts,
    /// Steps.
    pub steps: StepStateCounts,
    /// The server's connections; `None` where there is no server.
    pub connections: Option<Connections>,
}

/// Tasks by state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskCounts {
    /// All of them.
    pub total: u64,
    /// Nothing of them has started.
    pub pending: u64,
    /// They can make progress.
    pub in_progress: u64,
    /// Every step is done.
    pub complete: u64,
    /// A step has failed for good.
    pub error: u64,
    /// Abandoned.
    pub cancelled: u64,
    /// Failed, and accepted as handled.
    pub resolved_manually: u64,
}

/// Steps by state, and those in `error` by what becomes of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepStateCounts {
    /// All of them.
    pub total: u64,
    /// Waiting for parents, a time or a worker.
    pub pending: u64,
    /// With a worker.
    pub in_progress: u64,
    /// Succeeded.
    pub complete: u64,
    /// Failed, for good or not.
    pub error: u64,
    /// Abandoned.
    pub cancelled: u64,
    /// Declared done by a person.
    pub resolved_manually: u64,
    /// Not needed.
    pub skipped: u64,
    /// In `error`, and tried again.
    pub retryable_error: u64,
    /// In `error`, without an attempt left.
    pub exhausted_retry: u64,
    /// In `error` for good, although attempts were left.
    pub permanent_error: u64,
    /// In `error`, and the time of the next attempt is still to come.
    pub in_backoff: u64,
}

/// A server's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Those that run a statement in this database, as far as this role may see them.
    pub active: u64,
    /// How many the server allows.
    pub max: u64,
}

/// What happened since a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Analytics {
    /// Tasks that can still make progress, whenever they were created.
    pub active_tasks: u64,
    /// Namespaces that have a task.
    pub namespaces: u64,
    /// Task handlers, by namespace and name, that have a task.
    pub task_types: u64,
    /// Of the tasks that were created within the last hour and have ended well or badly, the share
    /// that ended well, three decimals; 1 if there are none.
    pub system_health_score: f64,
    /// Tasks created since.
    pub task_throughput: u64,
    /// Of these, those that are complete or resolved manually.
    pub completions: u64,
    /// Of these, those in `error`.
    pub errors: u64,
    /// Completions as percent of the tasks created, two decimals; 0 without tasks.
    pub completion_rate: f64,
    /// Errors as percent of the tasks created, two decimals; 0 without tasks.
    pub error_rate: f64,
    /// Mean time from creation to end of the complete ones, in milliseconds; 0 if there are none.
    pub avg_task_duration_ms: i64,
    /// Mean time of the last attempts of their complete steps, in milliseconds; 0 if there are none.
    pub avg_step_duration_ms: i64,
    /// Steps of the tasks created since.
    pub step_throughput: u64,
    /// Since when.
    pub analysis_period_start: Timestamp,
    /// Until when.
    pub calculated_at: Timestamp,
}

/// What a store counts for [`Analytics`].
#[derive(Debug)]
pub(crate) struct AnalyticsCounts {
    pub(crate) active_tasks: u64,
    pub(crate) namespaces: u64,
    pub(crate) task_types: u64,
    /// Of the last hour: ended well, ended badly.
    pub(crate) recent: (u64, u64),
    pub(crate) task_throughput: u64,
    pub(crate) completions: u64,
    pub(crate) errors: u64,
    pub(crate) avg_task_duration_ms: i64,
    pub(crate) avg_step_duration_ms: i64,
    pub(crate) step_throughput: u64,
}

impl Analytics {
    /// Shares and rates from counts.
    pub(crate) fn of(counts: &AnalyticsCounts, since: Timestamp, now: Timestamp) -> Analytics {
        let (good, bad) = counts.recent;
        Analytics {
            active_tasks: counts.active_tasks,
            namespaces: counts.namespaces,
            task_types: counts.task_types,
            system_health_score: share(good, good + bad, 1_000).unwrap_or(1.0),
            task_throughput: counts.task_throughput,
            completions: counts.completions,
            errors: counts.errors,
            completion_rate: percent(counts.completions, counts.task_throughput),
            error_rate: percent(counts.errors, counts.task_throughput),
            avg_task_duration_ms: counts.avg_task_duration_ms,
            avg_step_duration_ms: counts.avg_step_duration_ms,
            step_throughput: counts.step_throughput,
            analysis_period_start: since,
            calculated_at: now,
        }
    }
}

/// Since when analytics count if nobody says: an hour.
pub(crate) const ANALYTICS_SECONDS: i64 = 3_600;
/// Since when tasks count among the slowest if nobody says: a day.
pub(crate) const SLOWEST_SECONDS: i64 = 24 * 3_600;

/// A time so many seconds before another.
pub(crate) fn before(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_sub(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MIN)
}

fn percent(part: u64, whole: u64) -> f64 {
    share(part, whole, 10_000).map_or(0.0, |share| share * 100.0)
}

/// `part / whole`, rounded to one part in `steps`; counted in whole numbers, so that a half is rounded as
/// SQL does.
fn share(part: u64, whole: u64, steps: u64) -> Option<f64> {
    let rounded = (u128::from(part) * u128::from(steps) * 2 + u128::from(whole))
        .checked_div(u128::from(whole) * 2)?;
    #[expect(clippy::cast_precision_loss, reason = "at most `steps`")]
    Some(rounded as f64 / steps as f64)
}

/// Which tasks or steps to look for the slowest among.
#[derive(Debug, Clone)]
pub struct Slowest {
    /// Only of tasks that were created since; the last day if absent.
    pub since: Option<Timestamp>,
    /// At most this many.
    pub limit: usize,
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only this task handler.
    pub name: Option<String>,
    /// Only this version.
    pub version: Option<Version>,
}

impl Default for Slowest {
    /// The ten slowest of the last day.
    fn default() -> Slowest {
        Slowest {
            since: None,
            limit: 10,
            namespace: None,
            name: None,
            version: None,
        }
    }
}

/// A task that ended, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlowTask {
    /// Its id.
    pub task_id: TaskId,
    /// Its handler's namespace.
    pub namespace: Namespace,
    /// Its handler's name.
    pub name: TaskName,
    /// Its handler's version.
    pub version: Version,
    /// Complete, error or resolved manually.
    pub state: TaskState,
    /// From its creation to its end.
    pub duration_ms: i64,
    /// All steps.
    pub steps: u32,
    /// Complete, resolved manually or skipped.
    pub done_steps: u32,
    /// Failed for good.
    pub failed_steps: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Who asked for it.
    pub initiator: String,
    /// Where the request came from.
    pub source_system: String,
}

/// A step that completed, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlowStep {
    /// Its task.
    pub task_id: TaskId,
    /// Its place in the definition.
    pub position: Position,
    /// Its name.
    pub name: StepName,
    /// Its task handler's namespace.
    pub namespace: Namespace,
    /// Its task handler's name.
    pub task_name: TaskName,
    /// Its task handler's version.
    pub version: Version,
    /// How long its last attempt ran.
    pub duration_ms: i64,
    /// From the creation of its task to its end, waiting included.
    pub total_ms: i64,
    /// Attempts made.
    pub attempts: u32,
    /// Whether it may be tried more than once.
    pub retryable: bool,
    /// When its task was created.
    pub created_at: Timestamp,
    /// When it completed.
    pub finished_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_like_sql() {
        assert!((percent(1, 3) - 33.33).abs() < 1e-9);
        assert!(
            (percent(1, 800) - 0.13).abs() < 1e-9,
            "a half is rounded up"
        );
        assert!(percent(0, 0).abs() < 1e-9);
        assert_eq!(share(0, 0, 1_000), None);
        assert_eq!(share(2, 3, 1_000), Some(0.667));
    }
}
