//! Reading: one task with its record, lists, definitions, workers.

use jiff::Timestamp;
use tasker_model::annotation::Annotation;
use tasker_model::id::{TaskId, WorkerId};
use tasker_model::name::Queue;
use tasker_model::step::StepState;
use tasker_model::subtask::Origin;
use tasker_model::task::TaskState;
use tasker_model::transition::{Change, Transition};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Inner;
use super::row::Row;
use crate::error::StoreError;
use crate::record::{
    AnnotationRecord, QueueRecord, SignalRecord, StepCounts, StepRecord, TaskDetail, TaskRecord,
    TaskSummary, TemplateId, WorkerRecord,
};
use crate::store::{Page, TaskFilter};

impl Inner {
    pub(super) async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        let sql = include_str!("../../sql/postgres/query.task.sql");
        let row = self
            .connections
            .row(sql, &[(id.as_uuid(), Type::UUID)])
            .await?;
        row.as_ref().map(task).transpose()
    }

    /// Task, steps and record, read at one moment.
    pub(super) async fn task_detail(&self, id: TaskId) -> Result<Option<TaskDetail>, StoreError> {
        let mut connection = self.connections.connection().await?;
        let fail = |error| self.connections.error(error);
        let transaction = connection
            .build_transaction()
            .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await
            .map_err(fail)?;
        let key = [(id.as_uuid() as _, Type::UUID)];
        let read = async |sql| self.connections.rows_in(&transaction, sql, &key).await;
        let found = read(include_str!("../../sql/postgres/query.task.sql")).await?;
        let Some(found) = found.first() else {
            return Ok(None);
        };
        let steps = read(include_str!("../../sql/postgres/query.steps.sql")).await?;
        let transitions = read(include_str!("../../sql/postgres/query.transitions.sql")).await?;
        let signals = read(include_str!("../../sql/postgres/query.signals.sql")).await?;
        let annotations = read(include_str!("../../sql/postgres/query.annotations.sql")).await?;
        Ok(Some(TaskDetail {
            annotations: annotations
                .iter()
                .map(annotation)
                .collect::<Result<_, _>>()?,
            undone_by: undone_by(found)?,
            signals: signals.iter().map(signal).collect::<Result<_, _>>()?,
            task: task(found)?,
            steps: steps.iter().map(step).collect::<Result<_, _>>()?,
            transitions: transitions
                .iter()
                .map(|row| transition(id, row))
                .collect::<Result<_, _>>()?,
        }))
    }

    pub(super) async fn tasks(
        &self,
        filter: TaskFilter,
        page: Page,
    ) -> Result<Vec<TaskSummary>, StoreError> {
        if let Some(before) = page.before
            && self.task(before).await?.is_none()
        {
            return Err(StoreError::NoSuchTask(before));
        }
        let before = page.before.map_or(Uuid::max(), |id| *id.as_uuid());
        let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
        let mut wanted: Vec<Option<TaskState>> = filter.states.iter().copied().map(Some).collect();
        if wanted.is_empty() {
            wanted.push(None);
        }
        let mut found = Vec::new();
        for state in wanted {
            let indexed = matches!(
                state,
                Some(TaskState::Pending | TaskState::InProgress | TaskState::Error)
            );
            let sql = if indexed {
                include_str!("../../sql/postgres/query.tasks_needing_attention.sql")
            } else {
                include_str!("../../sql/postgres/query.tasks.sql")
            };
            let state = state.map(TaskState::as_str);
            let rows = self
                .connections
                .rows(
                    sql,
                    &[
                        (&before, Type::UUID),
                        (&state, Type::TEXT),
                        (&filter.namespace, Type::TEXT),
                        (&filter.name, Type::TEXT),
                        (&limit, Type::INT8),
                        (&filter.also_subtasks, Type::BOOL),
                    ],
                )
                .await?;
            for row in &rows {
                found.push(summary(row)?);
            }
        }
        found.sort_by_key(|task| std::cmp::Reverse(task.task_id));
        // A state may be named twice.
        found.dedup_by_key(|task| task.task_id);
        found.truncate(page.limit);
        Ok(found)
    }

    pub(super) async fn workers(&self, since: Timestamp) -> Result<Vec<WorkerRecord>, StoreError> {
        let sql = include_str!("../../sql/postgres/query.workers.sql");
        let rows = self
            .connections
            .rows(sql, &[(&since, Type::TIMESTAMPTZ)])
            .await?;
        let worker = |row: &Row| {
            let pid: i64 = row.get(2)?;
            Ok(WorkerRecord {
                worker_id: WorkerId::from_uuid(row.get(0)?),
                host: row.get(1)?,
                pid: u32::try_from(pid).map_err(|_| StoreError::BadRow(format!("pid {pid}")))?,
                handlers: row.json(3)?,
                started_at: row.time(4)?,
                seen_at: row.time(5)?,
                attempts: row.number(6)?,
            })
        };
        rows.iter().map(worker).collect()
    }

    pub(super) async fn queues(&self) -> Result<Vec<QueueRecord>, StoreError> {
        let sql = include_str!("../../sql/postgres/query.queues.sql");
        let now = self.given_time();
        let rows = self
            .connections
            .rows(sql, &[(&now, Type::TIMESTAMPTZ)])
            .await?;
        let queue = |row: &Row| {
            Ok(QueueRecord {
                queue: row.word(0)?,
                concurrency_limit: row.number_or_none(1)?,
                running: row.number(2)?,
                due: row.number(3)?,
            })
        };
        rows.iter().map(queue).collect()
    }

    pub(super) async fn set_queue_limit(
        &self,
        queue: Queue,
        limit: Option<u32>,
    ) -> Result<(), StoreError> {
        let name = (&queue.as_str() as _, Type::TEXT);
        if let Some(limit) = limit {
            let limit = i32::try_from(limit).unwrap_or(i32::MAX);
            let sql = include_str!("../../sql/postgres/queue.set_limit.sql");
            let limit = (&limit as _, Type::INT4);
            self.connections.rows(sql, &[name, limit]).await?;
        } else {
            let sql = include_str!("../../sql/postgres/queue.clear_limit.sql");
            self.connections.rows(sql, &[name]).await?;
        }
        // There may be room now, for others, too.
        self.bell.pull();
        Ok(())
    }

    pub(super) async fn register_worker(&self, worker: WorkerRecord) -> Result<(), StoreError> {
        let id = *worker.worker_id.as_uuid();
        let pid = i64::from(worker.pid);
        let handlers = serde_json::to_string(&worker.handlers).expect("invariant: texts");
        // By the clock that decides here; a test's worker says its own time.
        let seen_at = self.given_time().map(|_| worker.seen_at);
        let asked = Timestamp::now();
        let row = self
            .connections
            .row(
                include_str!("../../sql/postgres/register_worker.sql"),
                &[
                    (&id, Type::UUID),
                    (&worker.host, Type::TEXT),
                    (&pid, Type::INT8),
                    (&handlers, Type::TEXT),
                    (&worker.started_at, Type::TIMESTAMPTZ),
                    (&seen_at, Type::TIMESTAMPTZ),
                ],
            )
            .await?;
        if let Some(row) = row {
            self.measure_clock(asked, row.time(0)?);
        }
        Ok(())
    }
}

fn task(row: &Row) -> Result<TaskRecord, StoreError> {
    let missing = || StoreError::BadRow("a task without a context".to_owned());
    Ok(TaskRecord {
        summary: summary(row)?,
        context: row.stored_json(12)?.ok_or_else(missing)?,
        initiator: row.get(13)?,
        source_system: row.get(14)?,
        reason: row.get(15)?,
        tags: row.json(16)?,
        bypass_steps: row.json(17)?,
        requested_at: row.time(18)?,
        deadline_at: row.time_or_none(19)?,
        transitions: row.number(20)?,
        template: TemplateId(row.get(21)?),
        priority: row.get(22)?,
        start_at: row.time_or_none(23)?,
        origin: origin(row)?,
    })
}

/// Why a task exists that nobody asked for.
fn origin(row: &Row) -> Result<Option<Origin>, StoreError> {
    let Some(parent) = row.get::<Option<Uuid>>(24)? else {
        return Ok(None);
    };
    let task_id = TaskId::from_uuid(parent);
    Ok(match (row.number_or_none(25)?, row.number_or_none(26)?) {
        (Some(position), Some(ordinal)) => Some(Origin::Step {
            task_id,
            position,
            ordinal,
        }),
        // Another sub-task has taken its place.
        (Some(_), None) => None,
        (None, _) => Some(Origin::Undo { task_id }),
    })
}

/// The task that undoes what one did, and its state.
fn undone_by(row: &Row) -> Result<Option<(TaskId, TaskState)>, StoreError> {
    let found = row.get::<Option<Uuid>>(27)?.map(TaskId::from_uuid);
    found.map(|id| Ok((id, row.word(28)?))).transpose()
}

fn summary(row: &Row) -> Result<TaskSummary, StoreError> {
    let state: TaskState = row.word(4)?;
    Ok(TaskSummary {
        task_id: row.task_id(0)?,
        namespace: row.word(1)?,
        name: row.word(2)?,
        version: row.word(3)?,
        state,
        status: state.status(),
        steps: StepCounts {
            total_steps: row.number(5)?,
            done_steps: row.number(6)?,
            open_steps: row.number(7)?,
            failed_steps: row.number(8)?,
            cancelled_steps: row.number(9)?,
        },
        created_at: row.time(10)?,
        finished_at: row.time_or_none(11)?,
    })
}

fn step(row: &Row) -> Result<StepRecord, StoreError> {
    let state: StepState = row.word(2)?;
    Ok(StepRecord {
        position: row.number(0)?,
        name: row.word(1)?,
        state,
        status: state.status(),
        attempts: row.number(3)?,
        attempt_limit: row.limit(4)?,
        lost_attempts: row.number(5)?,
        unfinished_parents: row.number(6)?,
        due_at: row.time_or_none(7)?,
        worker: row.worker_id(8)?,
        failure: row.word_or_none(9)?,
        result: row.stored_json(10)?,
        started_at: row.time_or_none(11)?,
        finished_at: row.time_or_none(12)?,
        awaited: row.get(13)?,
        awaits: row.word_or_none(14)?,
        progress: row.json_or_none(15)?,
        subtasks: row.json_or_none(16)?,
    })
}

fn annotation(row: &Row) -> Result<AnnotationRecord, StoreError> {
    let missing = || StoreError::BadRow("an annotation without a value".to_owned());
    Ok(AnnotationRecord {
        annotation: Annotation {
            annotation_type: row.word(0)?,
            annotation: row.stored_json(1)?.ok_or_else(missing)?,
        },
        step: row.word(2)?,
        at: row.time(3)?,
    })
}

fn signal(row: &Row) -> Result<SignalRecord, StoreError> {
    let payload = row.stored_json(1)?;
    let missing = || StoreError::BadRow("a signal without a payload".to_owned());
    Ok(SignalRecord {
        name: row.word(0)?,
        payload: payload.ok_or_else(missing)?,
        by: row.get(2)?,
        at: row.time(3)?,
    })
}

fn transition(id: TaskId, row: &Row) -> Result<Transition, StoreError> {
    let change = match row.number_or_none(1)? {
        Some(position) => Change::Step {
            position,
            from: row.word_or_none(2)?,
            to: row.word(3)?,
        },
        None => Change::Task {
            from: row.word_or_none(2)?,
            to: row.word(3)?,
        },
    };
    Ok(Transition {
        task_id: id,
        sequence: row.number(0)?,
        change,
        at: row.time(4)?,
        attempt: row.number_or_none(5)?,
        worker: row.worker_id(6)?,
        actor: row.get(7)?,
        reason: row.word_or_none(8)?,
        duration_ms: row.get::<Option<i64>>(9)?.map(|us| us as f64 / 1_000.0),
        failure: row.json_or_none(10)?,
        retry_at: row.time_or_none(11)?,
        log: row.get(12)?,
    })
}
