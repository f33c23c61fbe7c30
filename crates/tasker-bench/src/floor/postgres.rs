//! The floor of PostgreSQL: set-based statements over arrays, prepared, in transactions whose
//! statements are sent without waiting for each other's answers.

use std::error::Error;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use super::{RESULT, STEPS_PER_TRANSACTION};
use crate::place::Schema;
use crate::workload::{NAMESPACE, Workload};

const INSERT_TASKS: &str = "INSERT INTO tasker_tasks (task_id, template_id, state, total_steps,
    done_steps, open_steps, failed_steps, cancelled_steps, transitions, created_at, counts_ends)
    SELECT id, 1, 'in_progress', $2, 0, 1, 0, 0, $2 + 3, $3, false FROM unnest($1::uuid[]) AS id";
const INSERT_REQUESTS: &str = "INSERT INTO tasker_requests (task_id, context, initiator,
    source_system, reason, tags, bypass_steps, requested_at, priority)
    SELECT id, '{}', 'unknown', 'unknown', 'unknown', '[]', '[]', $2, 0 FROM unnest($1::uuid[]) AS id";
const INSERT_STEPS: &str = "INSERT INTO tasker_steps (task_id, position, name, state, attempts,
    attempt_limit, lost_attempts, unfinished_parents, priority, due_at, queue, template_id, worker,
    started_at)
    SELECT t, p, n, s, a, 3, 0, u, 0, d, $8, 1, w, d
    FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::int[], $6::int[], $7::timestamptz[],
                $9::uuid[]) AS r (t, p, n, s, a, u, d, w)";
const INSERT_TRANSITIONS: &str = "INSERT INTO tasker_transitions (task_id, sequence, position,
    from_state, to_state, at, attempt, worker, duration)
    SELECT t, n, p, f, s, $6, a, w, d
    FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::text[], $7::int[], $8::uuid[],
                $9::bigint[]) AS r (t, n, p, f, s, a, w, d)";
const COMPLETE_STEPS: &str = "UPDATE tasker_steps SET state = 'complete', due_at = NULL,
    result = $3::text::json, worker = NULL, finished_at = $4
    FROM unnest($1::uuid[], $2::int[]) AS r (t, p) WHERE task_id = t AND position = p";
const CLAIM_STEPS: &str =
    "UPDATE tasker_steps SET state = 'in_progress', attempts = 1, worker = $3,
    due_at = $4, started_at = $4, unfinished_parents = 0
    FROM unnest($1::uuid[], $2::int[]) AS r (t, p) WHERE task_id = t AND position = p";
const COUNT_TASKS: &str =
    "UPDATE tasker_tasks SET done_steps = $2, open_steps = $3, transitions = $4
    WHERE task_id = ANY ($1)";
const FINISH_TASKS: &str =
    "UPDATE tasker_tasks SET done_steps = $2, open_steps = 0, transitions = $3,
    state = 'complete', finished_at = $4 WHERE task_id = ANY ($1)";

struct Statements {
    insert_tasks: Statement,
    insert_requests: Statement,
    insert_steps: Statement,
    insert_transitions: Statement,
    complete_steps: Statement,
    claim_steps: Statement,
    count_tasks: Statement,
    finish_tasks: Statement,
}

/// Transitions of a transaction, column by column.
#[derive(Default)]
struct Record {
    tasks: Vec<Uuid>,
    sequences: Vec<i32>,
    positions: Vec<Option<i32>>,
    from: Vec<Option<&'static str>>,
    to: Vec<&'static str>,
    attempts: Vec<Option<i32>>,
    workers: Vec<Option<Uuid>>,
    durations: Vec<Option<i64>>,
}

impl Record {
    fn add(
        &mut self,
        task: &mut (Uuid, i32),
        position: Option<i32>,
        from: Option<&'static str>,
        to: &'static str,
    ) {
        task.1 += 1;
        let attempt = (position.is_some() && to != "pending").then_some(1);
        self.tasks.push(task.0);
        self.sequences.push(task.1);
        self.positions.push(position);
        self.from.push(from);
        self.to.push(to);
        self.attempts.push(attempt);
        self.workers.push(attempt.map(|_| WORKER));
        let ended = position.is_some() && to == "complete";
        self.durations.push(ended.then_some(100));
    }
}

const WORKER: Uuid = Uuid::from_u128(7);

type Call<'a> = (&'a Statement, Vec<&'a (dyn ToSql + Sync)>);

/// Sends a whole transaction at once: one round trip.
async fn transaction(client: &Client, calls: &[Call<'_>]) -> Result<(), tokio_postgres::Error> {
    let run = try_join_all(
        calls
            .iter()
            .map(|(sql, values)| client.execute(*sql, values)),
    );
    let ((), _, ()) = tokio::try_join!(
        client.batch_execute("BEGIN"),
        run,
        client.batch_execute("COMMIT")
    )?;
    Ok(())
}

pub(super) async fn throughput(
    schema: &Schema,
    workload: Workload,
    tasks: u32,
) -> Result<Duration, Box<dyn Error>> {
    let client = schema.connect().await?;
    let sql = Statements {
        insert_tasks: client.prepare(INSERT_TASKS).await?,
        insert_requests: client.prepare(INSERT_REQUESTS).await?,
        insert_steps: client.prepare(INSERT_STEPS).await?,
        insert_transitions: client.prepare(INSERT_TRANSITIONS).await?,
        complete_steps: client.prepare(COMPLETE_STEPS).await?,
        claim_steps: client.prepare(CLAIM_STEPS).await?,
        count_tasks: client.prepare(COUNT_TASKS).await?,
        finish_tasks: client.prepare(FINISH_TASKS).await?,
    };
    let started = Instant::now();
    let per_batch = (STEPS_PER_TRANSACTION / workload.steps()).max(1);
    let mut left = tasks;
    while left > 0 {
        let batch = left.min(per_batch);
        write_batch(&client, &sql, workload, batch).await?;
        left -= batch;
    }
    Ok(started.elapsed())
}

fn int(number: u32) -> i32 {
    i32::try_from(number).expect("invariant: workloads are small")
}

/// One transaction creates the tasks, then one per level completes it and claims the next.
async fn write_batch(
    client: &Client,
    sql: &Statements,
    workload: Workload,
    tasks: u32,
) -> Result<(), tokio_postgres::Error> {
    let mut batch: Vec<(Uuid, i32)> = (0..tasks).map(|_| (Uuid::now_v7(), 0)).collect();
    insert(client, sql, workload, &mut batch).await?;
    let ids: Vec<Uuid> = batch.iter().map(|(id, _)| *id).collect();
    let now = SystemTime::now();
    let mut first = 0;
    for (level, width) in workload.levels().iter().enumerate() {
        let next = workload.levels().get(level + 1).copied().unwrap_or(0);
        let keys = |from: u32, width: u32| -> (Vec<Uuid>, Vec<i32>) {
            let of_task = |id: &Uuid| (from..from + width).map(|p| (*id, int(p))).collect();
            ids.iter().flat_map(|id| -> Vec<_> { of_task(id) }).unzip()
        };
        let (done_tasks, done) = keys(first, *width);
        let (next_tasks, claimed) = keys(first + width, next);
        let mut record = Record::default();
        for task in &mut batch {
            for position in first..first + width {
                record.add(task, Some(int(position)), Some("in_progress"), "complete");
            }
            for position in first + width..first + width + next {
                record.add(task, Some(int(position)), Some("pending"), "in_progress");
            }
            if next == 0 {
                record.add(task, None, Some("in_progress"), "complete");
            }
        }
        let (all_done, open, transitions) = (int(first + width), int(next), batch[0].1);
        let record_call: Call<'_> = (&sql.insert_transitions, record_values(&record, &now));
        let mut calls: Vec<Call<'_>> = vec![
            (&sql.complete_steps, vec![&done_tasks, &done, &RESULT, &now]),
            record_call,
        ];
        if next == 0 {
            calls.push((&sql.finish_tasks, vec![&ids, &all_done, &transitions, &now]));
        } else {
            calls.push((&sql.claim_steps, vec![&next_tasks, &claimed, &WORKER, &now]));
            calls.push((&sql.count_tasks, vec![&ids, &all_done, &open, &transitions]));
        }
        transaction(client, &calls).await?;
        first += width;
    }
    Ok(())
}

fn record_values<'a>(record: &'a Record, now: &'a SystemTime) -> Vec<&'a (dyn ToSql + Sync)> {
    vec![
        &record.tasks,
        &record.sequences,
        &record.positions,
        &record.from,
        &record.to,
        now,
        &record.attempts,
        &record.workers,
        &record.durations,
    ]
}

async fn insert(
    client: &Client,
    sql: &Statements,
    workload: Workload,
    batch: &mut [(Uuid, i32)],
) -> Result<(), tokio_postgres::Error> {
    let now = SystemTime::now();
    let steps = int(workload.steps());
    let mut record = Record::default();
    let mut tasks = Vec::new();
    let (mut positions, mut names, mut states) = (Vec::new(), Vec::new(), Vec::new());
    let (mut attempts, mut unfinished) = (Vec::new(), Vec::new());
    let (mut due_at, mut workers) = (Vec::new(), Vec::new());
    for task in batch.iter_mut() {
        record.add(task, None, None, "pending");
        let mut above = 0;
        let mut position = 0;
        for (level, width) in workload.levels().iter().enumerate() {
            for n in 0..*width {
                let root = level == 0;
                tasks.push(task.0);
                positions.push(position);
                names.push(format!("s{level}_{n}"));
                states.push(if root { "in_progress" } else { "pending" });
                attempts.push(i32::from(root));
                unfinished.push(above);
                due_at.push(root.then_some(now));
                workers.push(root.then_some(WORKER));
                record.add(task, Some(position), None, "pending");
                position += 1;
            }
            above = int(*width);
        }
        record.add(task, None, Some("pending"), "in_progress");
        record.add(task, Some(0), Some("pending"), "in_progress");
    }
    let ids: Vec<Uuid> = batch.iter().map(|(id, _)| *id).collect();
    let calls: Vec<Call<'_>> = vec![
        (&sql.insert_tasks, vec![&ids, &steps, &now]),
        (&sql.insert_requests, vec![&ids, &now]),
        (
            &sql.insert_steps,
            vec![
                &tasks,
                &positions,
                &names,
                &states,
                &attempts,
                &unfinished,
                &due_at,
                &NAMESPACE,
                &workers,
            ],
        ),
        (&sql.insert_transitions, record_values(&record, &now)),
    ];
    transaction(client, &calls).await
}

pub(super) async fn latency(
    schema: &Schema,
    workload: Workload,
    rounds: u32,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let client = schema.connect().await?;
    client
        .batch_execute("CREATE TABLE IF NOT EXISTS one_row (n int)")
        .await?;
    let insert = client.prepare("INSERT INTO one_row VALUES (1)").await?;
    let commits = workload.levels().len() + 1;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let started = Instant::now();
        for _ in 0..commits {
            client.execute(&insert, &[]).await?;
        }
        times.push(started.elapsed());
    }
    Ok(times)
}
