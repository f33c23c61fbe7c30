//! The floor of SQLite.

use std::path::Path;
use std::time::{Duration, Instant};

use tasker::store::sqlite::rusqlite::{Connection, Result, params};

use super::{RESULT, STEPS_PER_TRANSACTION};
use crate::workload::{NAMESPACE, Workload};

const WORKER: [u8; 16] = [7; 16];
const TIME: i64 = 1_700_000_000_000_000;

const INSERT_TASK: &str =
    "INSERT INTO tasker_tasks (task_id, template_id, state, total_steps, done_steps,
    open_steps, failed_steps, cancelled_steps, transitions, created_at)
    VALUES (?1, 1, 'in_progress', ?2, 0, 1, 0, 0, ?3, ?4)";
const INSERT_REQUEST: &str =
    "INSERT INTO tasker_requests (task_no, context, initiator, source_system,
    reason, tags, bypass_steps, requested_at)
    VALUES (?1, '{}', 'unknown', 'unknown', 'unknown', '[]', '[]', ?2)";
const INSERT_STEP: &str = "INSERT INTO tasker_steps (task_no, position, name, state, attempts,
    attempt_limit, lost_attempts, unfinished_parents, due_at, queue, template_id, worker, started_at)
    VALUES (?1, ?2, ?3, ?4, ?5, 3, 0, ?6, ?7, ?8, 1, ?9, ?7)";
const INSERT_TRANSITION: &str =
    "INSERT INTO tasker_transitions (task_no, sequence, position, from_state,
    to_state, at, attempt, worker, duration)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const COMPLETE_STEP: &str =
    "UPDATE tasker_steps SET state = 'complete', due_at = NULL, result = ?2,
    worker = NULL, finished_at = ?3 WHERE step_no = ?1";
const CLAIM_STEP: &str = "UPDATE tasker_steps SET state = 'in_progress', attempts = 1, worker = ?2,
    due_at = ?3, started_at = ?3, unfinished_parents = 0 WHERE step_no = ?1";
const COUNT_TASK: &str =
    "UPDATE tasker_tasks SET done_steps = ?2, open_steps = ?3, transitions = ?4
    WHERE task_no = ?1";
const FINISH_TASK: &str =
    "UPDATE tasker_tasks SET done_steps = ?2, open_steps = 0, transitions = ?3,
    state = 'complete', finished_at = ?4 WHERE task_no = ?1";

/// A task whose rows are being written.
struct Rows {
    task_no: i64,
    first_step: i64,
    sequence: u32,
}

pub(super) fn throughput(path: &Path, workload: Workload, tasks: u32) -> Result<Duration> {
    let connection = connect(path)?;
    let started = Instant::now();
    let per_batch = (STEPS_PER_TRANSACTION / workload.steps()).max(1);
    let mut left = tasks;
    while left > 0 {
        let batch = left.min(per_batch);
        write_batch(&connection, workload, batch, tasks - left)?;
        left -= batch;
    }
    Ok(started.elapsed())
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "cache_size", -16_000)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// One transaction creates the tasks, then one per level completes it and claims the next.
fn write_batch(connection: &Connection, workload: Workload, tasks: u32, before: u32) -> Result<()> {
    let mut batch = Vec::new();
    in_transaction(connection, || {
        for task in 0..tasks {
            batch.push(insert(connection, workload, before + task)?);
        }
        Ok(())
    })?;
    let mut first = 0;
    for (level, width) in workload.levels().iter().enumerate() {
        let next = workload.levels().get(level + 1).copied().unwrap_or(0);
        in_transaction(connection, || {
            batch.iter_mut().try_for_each(|rows| {
                complete_level(connection, workload, rows, (first, *width, next))
            })
        })?;
        first += width;
    }
    Ok(())
}

fn in_transaction(connection: &Connection, write: impl FnOnce() -> Result<()>) -> Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    write()?;
    connection.prepare_cached("COMMIT")?.execute([]).map(drop)
}

fn insert(connection: &Connection, workload: Workload, number: u32) -> Result<Rows> {
    let mut id = [0_u8; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    id[4..].copy_from_slice(&[workload as u8; 12]);
    let steps = workload.steps();
    connection
        .prepare_cached(INSERT_TASK)?
        .execute(params![id, steps, steps + 3, TIME])?;
    let task_no = connection.last_insert_rowid();
    connection
        .prepare_cached(INSERT_REQUEST)?
        .execute(params![task_no, TIME])?;
    let mut rows = Rows {
        task_no,
        first_step: 0,
        sequence: 0,
    };
    transition(connection, &mut rows, None, None, "pending")?;
    let mut position = 0;
    let mut above = 0;
    for (level, width) in workload.levels().iter().enumerate() {
        for n in 0..*width {
            let root = level == 0;
            let state = if root { "in_progress" } else { "pending" };
            connection.prepare_cached(INSERT_STEP)?.execute(params![
                task_no,
                position,
                format!("s{level}_{n}"),
                state,
                u32::from(root),
                above,
                root.then_some(TIME),
                NAMESPACE,
                root.then_some(WORKER),
            ])?;
            if position == 0 {
                rows.first_step = connection.last_insert_rowid();
            }
            transition(connection, &mut rows, Some(position), None, "pending")?;
            position += 1;
        }
        above = *width;
    }
    transition(connection, &mut rows, None, Some("pending"), "in_progress")?;
    transition(
        connection,
        &mut rows,
        Some(0),
        Some("pending"),
        "in_progress",
    )?;
    Ok(rows)
}

/// `level`: its first position, its width, and the width of the next one.
fn complete_level(
    connection: &Connection,
    workload: Workload,
    rows: &mut Rows,
    level: (u32, u32, u32),
) -> Result<()> {
    let (first, width, next) = level;
    for position in first..first + width {
        let step = rows.first_step + i64::from(position);
        connection
            .prepare_cached(COMPLETE_STEP)?
            .execute(params![step, RESULT, TIME])?;
        transition(
            connection,
            rows,
            Some(position),
            Some("in_progress"),
            "complete",
        )?;
    }
    for position in first + width..first + width + next {
        let step = rows.first_step + i64::from(position);
        connection
            .prepare_cached(CLAIM_STEP)?
            .execute(params![step, WORKER, TIME])?;
        transition(
            connection,
            rows,
            Some(position),
            Some("pending"),
            "in_progress",
        )?;
    }
    let done = first + width;
    if done == workload.steps() {
        transition(connection, rows, None, Some("in_progress"), "complete")?;
        let row = params![rows.task_no, done, rows.sequence, TIME];
        connection.prepare_cached(FINISH_TASK)?.execute(row)?;
    } else {
        let row = params![rows.task_no, done, next, rows.sequence];
        connection.prepare_cached(COUNT_TASK)?.execute(row)?;
    }
    Ok(())
}

fn transition(
    connection: &Connection,
    rows: &mut Rows,
    position: Option<u32>,
    from: Option<&str>,
    to: &str,
) -> Result<()> {
    rows.sequence += 1;
    let attempt = (position.is_some() && to != "pending").then_some(1);
    let worker = attempt.map(|_| WORKER);
    let duration = (to == "complete" && position.is_some()).then_some(100);
    let row = params![
        rows.task_no,
        rows.sequence,
        position,
        from,
        to,
        TIME,
        attempt,
        worker,
        duration
    ];
    connection.prepare_cached(INSERT_TRANSITION)?.execute(row)?;
    Ok(())
}

pub(super) fn latency(path: &Path, workload: Workload, rounds: u32) -> Result<Vec<Duration>> {
    let connection = connect(path)?;
    connection.execute_batch("CREATE TABLE IF NOT EXISTS one_row (n INTEGER)")?;
    let commits = workload.levels().len() + 1;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let started = Instant::now();
        for _ in 0..commits {
            connection
                .prepare_cached("INSERT INTO one_row VALUES (1)")?
                .execute([])?;
        }
        times.push(started.elapsed());
    }
    Ok(times)
}
