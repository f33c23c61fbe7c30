//! Figures over many tasks.

use jiff::Timestamp;
use rusqlite::Row;

use super::row::{task_id, time, word};
use super::transaction::Tx;
use crate::error::StoreError;
use crate::figures::{
    ANALYTICS_SECONDS, Analytics, AnalyticsCounts, SLOWEST_SECONDS, SlowStep, SlowTask, Slowest,
    StepStateCounts, SystemHealth, TaskCounts, before,
};

/// A count; the sum of nothing is null.
fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let found = row.get::<_, Option<i64>>(column)?.unwrap_or(0);
    u64::try_from(found).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, found))
}

/// The one row of an aggregate.
fn aggregate<T>(
    tx: &Tx<'_>,
    sql: &'static str,
    parameters: impl rusqlite::Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<T, StoreError> {
    let missing = || StoreError::BadRow("an aggregate without a row".to_owned());
    tx.row(sql, parameters, read)?.ok_or_else(missing)
}

pub(super) fn system_health(tx: &Tx<'_>) -> Result<SystemHealth, StoreError> {
    let sql = include_str!("../../sql/sqlite/figures.tasks.sql");
    let tasks = aggregate(tx, sql, [], |row| {
        Ok(TaskCounts {
            total: count(row, 0)?,
            pending: count(row, 1)?,
            in_progress: count(row, 2)?,
            complete: count(row, 3)?,
            error: count(row, 4)?,
            cancelled: count(row, 5)?,
            resolved_manually: count(row, 6)?,
        })
    })?;
    let sql = include_str!("../../sql/sqlite/figures.steps.sql");
    let steps = aggregate(tx, sql, [tx.now_us()], |row| {
        Ok(StepStateCounts {
            total: count(row, 0)?,
            pending: count(row, 1)?,
            in_progress: count(row, 2)?,
            complete: count(row, 3)?,
            error: count(row, 4)?,
            cancelled: count(row, 5)?,
            resolved_manually: count(row, 6)?,
            skipped: count(row, 7)?,
            retryable_error: count(row, 8)?,
            exhausted_retry: count(row, 9)?,
            permanent_error: count(row, 10)?,
            in_backoff: count(row, 11)?,
        })
    })?;
    Ok(SystemHealth {
        tasks,
        steps,
        connections: None,
    })
}

pub(super) fn analytics(tx: &Tx<'_>, since: Option<Timestamp>) -> Result<Analytics, StoreError> {
    let recently = before(tx.now, ANALYTICS_SECONDS);
    let since = since.unwrap_or(recently);
    let sql = include_str!("../../sql/sqlite/figures.step_times.sql");
    let avg_step_duration_ms = aggregate(tx, sql, [since.as_microsecond()], |row| mean(row, 0, 1))?;
    let sql = include_str!("../../sql/sqlite/figures.task_types.sql");
    let (namespaces, task_types) =
        aggregate(tx, sql, [], |row| Ok((count(row, 0)?, count(row, 1)?)))?;
    let sql = include_str!("../../sql/sqlite/figures.analytics.sql");
    let times = [since.as_microsecond(), recently.as_microsecond()];
    let counts = aggregate(tx, sql, times, |row| {
        Ok(AnalyticsCounts {
            active_tasks: count(row, 0)?,
            namespaces,
            task_types,
            recent: (count(row, 1)?, count(row, 2)?),
            task_throughput: count(row, 3)?,
            completions: count(row, 4)?,
            errors: count(row, 5)?,
            avg_task_duration_ms: mean(row, 6, 7)?,
            avg_step_duration_ms,
            step_throughput: count(row, 8)?,
        })
    })?;
    Ok(Analytics::of(&counts, since, tx.now))
}

/// The mean in milliseconds of so many times whose sum is given in microseconds.
fn mean(row: &Row<'_>, number: usize, sum: usize) -> rusqlite::Result<i64> {
    let number = row.get::<_, Option<i64>>(number)?.unwrap_or(0);
    let sum = row.get::<_, Option<i64>>(sum)?.unwrap_or(0);
    Ok(if number == 0 {
        0
    } else {
        rounded(sum, number * 1_000)
    })
}

/// Milliseconds of microseconds.
fn milliseconds(row: &Row<'_>, column: usize) -> rusqlite::Result<i64> {
    Ok(rounded(row.get(column)?, 1_000))
}

/// A quotient to the nearest whole number; a half goes away from zero, as in SQL.
fn rounded(part: i64, by: i64) -> i64 {
    (part + part.signum() * (by / 2)) / by
}

fn since_and_limit(tx: &Tx<'_>, among: &Slowest) -> (i64, i64) {
    let since = among.since.unwrap_or(before(tx.now, SLOWEST_SECONDS));
    let limit = i64::try_from(among.limit).unwrap_or(i64::MAX);
    (since.as_microsecond(), limit)
}

pub(super) fn slowest_tasks(tx: &Tx<'_>, among: &Slowest) -> Result<Vec<SlowTask>, StoreError> {
    let (since, limit) = since_and_limit(tx, among);
    let version = among.version.map(|version| version.to_string());
    tx.rows(
        include_str!("../../sql/sqlite/figures.slowest_tasks.sql"),
        (since, limit, &among.namespace, &among.name, version),
        |row| {
            Ok(SlowTask {
                task_id: task_id(row, 0)?,
                namespace: word(row, 1)?,
                name: word(row, 2)?,
                version: word(row, 3)?,
                state: word(row, 4)?,
                duration_ms: milliseconds(row, 5)?,
                steps: row.get(6)?,
                done_steps: row.get(7)?,
                failed_steps: row.get(8)?,
                created_at: time(row, 9)?,
                finished_at: time(row, 10)?,
                initiator: row.get(11)?,
                source_system: row.get(12)?,
            })
        },
    )
}

pub(super) fn slowest_steps(tx: &Tx<'_>, among: &Slowest) -> Result<Vec<SlowStep>, StoreError> {
    let (since, limit) = since_and_limit(tx, among);
    let version = among.version.map(|version| version.to_string());
    tx.rows(
        include_str!("../../sql/sqlite/figures.slowest_steps.sql"),
        (since, limit, &among.namespace, &among.name, version),
        |row| {
            Ok(SlowStep {
                task_id: task_id(row, 0)?,
                position: row.get(1)?,
                name: word(row, 2)?,
                namespace: word(row, 3)?,
                task_name: word(row, 4)?,
                version: word(row, 5)?,
                duration_ms: milliseconds(row, 6)?,
                total_ms: milliseconds(row, 7)?,
                attempts: row.get(8)?,
                retryable: row.get(9)?,
                created_at: time(row, 10)?,
                finished_at: time(row, 11)?,
            })
        },
    )
}
