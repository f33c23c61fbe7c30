//! Reading: one task with its record, lists, definitions, workers.

use jiff::Timestamp;
use rusqlite::Row;
use tasker_model::annotation::Annotation;
use tasker_model::id::TaskId;
use tasker_model::json::Json;
use tasker_model::name::Queue;
use tasker_model::step::StepState;
use tasker_model::task::TaskState;
use tasker_model::template::TaskTemplate;
use tasker_model::transition::{Change, Transition};

use super::row::{Id, json, task_id, time, time_or_none, word, word_or_none, worker_id};
use super::subtask::{origin, tally_or_none, undone_by};
use super::transaction::Tx;
use crate::error::StoreError;
use crate::record::{
    AnnotationRecord, QueueRecord, SignalRecord, StepCounts, StepRecord, TaskDetail, TaskRecord,
    TaskSummary, TemplateId, WorkerRecord, stored_template,
};
use crate::store::{Page, TaskFilter};

pub(super) fn task(tx: &Tx<'_>, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
    Ok(find(tx, id)?.map(|(task, _)| task))
}

pub(super) fn task_detail(tx: &Tx<'_>, id: TaskId) -> Result<Option<TaskDetail>, StoreError> {
    let Some((task, row)) = find(tx, id)? else {
        return Ok(None);
    };
    let steps = tx.rows(
        include_str!("../../sql/sqlite/query.steps.sql"),
        [row],
        step,
    )?;
    let sql = include_str!("../../sql/sqlite/query.transitions.sql");
    let transitions = tx.rows(sql, [row], |columns| transition(id, columns))?;
    let sql = include_str!("../../sql/sqlite/query.signals.sql");
    let signals = tx.rows(sql, [row], signal)?;
    let sql = include_str!("../../sql/sqlite/query.annotations.sql");
    let annotations = tx.rows(sql, [row], annotation)?;
    Ok(Some(TaskDetail {
        annotations,
        task,
        steps,
        transitions,
        signals,
        undone_by: undone_by(tx, id)?,
    }))
}

fn find(tx: &Tx<'_>, id: TaskId) -> Result<Option<(TaskRecord, i64)>, StoreError> {
    tx.row(
        include_str!("../../sql/sqlite/query.task.sql"),
        [Id::from(id)],
        |row| {
            let task = TaskRecord {
                summary: summary(row)?,
                context: Json::from_stored(row.get_ref(12)?.as_str()?),
                initiator: row.get(13)?,
                source_system: row.get(14)?,
                reason: row.get(15)?,
                tags: json(row, 16)?,
                bypass_steps: json(row, 17)?,
                requested_at: time(row, 18)?,
                deadline_at: time_or_none(row, 19)?,
                transitions: row.get(20)?,
                template: TemplateId(row.get(21)?),
                priority: row.get(23)?,
                start_at: time_or_none(row, 24)?,
                origin: origin(row, 25)?,
            };
            Ok((task, row.get(22)?))
        },
    )
}

fn summary(row: &Row<'_>) -> rusqlite::Result<TaskSummary> {
    let state: TaskState = word(row, 4)?;
    Ok(TaskSummary {
        task_id: task_id(row, 0)?,
        namespace: word(row, 1)?,
        name: word(row, 2)?,
        version: word(row, 3)?,
        state,
        status: state.status(),
        steps: StepCounts {
            total_steps: row.get(5)?,
            done_steps: row.get(6)?,
            open_steps: row.get(7)?,
            failed_steps: row.get(8)?,
            cancelled_steps: row.get(9)?,
        },
        created_at: time(row, 10)?,
        finished_at: time_or_none(row, 11)?,
    })
}

fn step(row: &Row<'_>) -> rusqlite::Result<StepRecord> {
    let state: StepState = word(row, 2)?;
    Ok(StepRecord {
        position: row.get(0)?,
        name: word(row, 1)?,
        state,
        status: state.status(),
        attempts: row.get(3)?,
        attempt_limit: row.get(4)?,
        lost_attempts: row.get(5)?,
        unfinished_parents: row.get(6)?,
        due_at: time_or_none(row, 7)?,
        worker: worker_id(row, 8)?,
        failure: word_or_none(row, 9)?,
        result: row.get_ref(10)?.as_str_or_null()?.map(Json::from_stored),
        started_at: time_or_none(row, 11)?,
        finished_at: time_or_none(row, 12)?,
        awaited: row.get(13)?,
        awaits: word_or_none(row, 14)?,
        progress: row
            .get_ref(15)?
            .as_str_or_null()?
            .map(|_| json(row, 15))
            .transpose()?,
        subtasks: tally_or_none(row, 16)?,
    })
}

fn signal(row: &Row<'_>) -> rusqlite::Result<SignalRecord> {
    Ok(SignalRecord {
        name: word(row, 0)?,
        payload: Json::from_stored(row.get_ref(1)?.as_str()?),
        by: row.get(2)?,
        at: time(row, 3)?,
    })
}

fn annotation(row: &Row<'_>) -> rusqlite::Result<AnnotationRecord> {
    Ok(AnnotationRecord {
        annotation: Annotation {
            annotation_type: word(row, 0)?,
            annotation: Json::from_stored(row.get_ref(1)?.as_str()?),
        },
        step: word(row, 2)?,
        at: time(row, 3)?,
    })
}

fn transition(id: TaskId, row: &Row<'_>) -> rusqlite::Result<Transition> {
    let change = match row.get(1)? {
        Some(position) => Change::Step {
            position,
            from: word_or_none(row, 2)?,
            to: word(row, 3)?,
        },
        None => Change::Task {
            from: word_or_none(row, 2)?,
            to: word(row, 3)?,
        },
    };
    let failure = row
        .get_ref(10)?
        .as_str_or_null()?
        .map(|_| json(row, 10))
        .transpose()?;
    Ok(Transition {
        task_id: id,
        sequence: row.get(0)?,
        change,
        at: time(row, 4)?,
        attempt: row.get(5)?,
        worker: worker_id(row, 6)?,
        actor: row.get(7)?,
        reason: word_or_none(row, 8)?,
        duration_ms: row.get::<_, Option<i64>>(9)?.map(|us| us as f64 / 1_000.0),
        failure,
        retry_at: time_or_none(row, 11)?,
        log: row.get(12)?,
    })
}

pub(super) fn tasks(
    tx: &Tx<'_>,
    filter: &TaskFilter,
    page: &Page,
) -> Result<Vec<TaskSummary>, StoreError> {
    let before = match page.before {
        None => i64::MAX,
        Some(id) => {
            let sql = include_str!("../../sql/sqlite/work.find.sql");
            tx.row(sql, [Id::from(id)], |row| row.get(0))?
                .ok_or(StoreError::NoSuchTask(id))?
        }
    };
    let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
    let list = |state: Option<TaskState>| {
        let indexed = matches!(
            state,
            Some(TaskState::Pending | TaskState::InProgress | TaskState::Error)
        );
        let sql = if indexed {
            include_str!("../../sql/sqlite/query.tasks_needing_attention.sql")
        } else {
            include_str!("../../sql/sqlite/query.tasks.sql")
        };
        let wanted = (
            before,
            state.map(TaskState::as_str),
            &filter.namespace,
            &filter.name,
            limit,
            filter.also_subtasks,
        );
        tx.rows(sql, wanted, |row| {
            Ok((row.get::<_, i64>(12)?, summary(row)?))
        })
    };
    let mut found = Vec::new();
    if filter.states.is_empty() {
        found = list(None)?;
    }
    for state in &filter.states {
        found.extend(list(Some(*state))?);
    }
    found.sort_by_key(|(row, _)| std::cmp::Reverse(*row));
    // A state may be named twice.
    found.dedup_by_key(|(row, _)| *row);
    Ok(found
        .into_iter()
        .take(page.limit)
        .map(|(_, task)| task)
        .collect())
}

pub(super) fn templates(
    tx: &mut Tx<'_>,
    after: Option<TemplateId>,
) -> Result<Vec<(TemplateId, TaskTemplate)>, StoreError> {
    let sql = include_str!("../../sql/sqlite/query.templates.sql");
    let stored = tx.rows(sql, [after.map_or(0, |id| id.0)], |row| {
        Ok((TemplateId(row.get(0)?), row.get::<_, String>(1)?))
    })?;
    let mut templates = Vec::with_capacity(stored.len());
    for (id, definition) in stored {
        let known = tx.templates.get(&id).cloned();
        let template = known.map_or_else(|| stored_template(&definition), Ok)?;
        tx.templates.insert(id, template.clone());
        templates.push((id, template));
    }
    Ok(templates)
}

pub(super) fn workers(tx: &Tx<'_>, since: Timestamp) -> Result<Vec<WorkerRecord>, StoreError> {
    let sql = include_str!("../../sql/sqlite/query.workers.sql");
    tx.rows(sql, [since.as_microsecond()], |row| {
        let id: Id = row.get(0)?;
        Ok(WorkerRecord {
            worker_id: tasker_model::id::WorkerId::from_uuid(id.0),
            host: row.get(1)?,
            pid: row.get(2)?,
            handlers: json(row, 3)?,
            started_at: time(row, 4)?,
            seen_at: time(row, 5)?,
            attempts: row.get(6)?,
        })
    })
}

pub(super) fn queues(tx: &Tx<'_>) -> Result<Vec<QueueRecord>, StoreError> {
    let sql = include_str!("../../sql/sqlite/query.queues.sql");
    tx.rows(sql, [tx.now_us()], |row| {
        Ok(QueueRecord {
            queue: word(row, 0)?,
            concurrency_limit: row.get(1)?,
            running: row.get(2)?,
            due: row.get(3)?,
        })
    })
}

pub(super) fn set_queue_limit(
    tx: &Tx<'_>,
    queue: &Queue,
    limit: Option<u32>,
) -> Result<(), StoreError> {
    let changed = if let Some(limit) = limit {
        let sql = include_str!("../../sql/sqlite/queue.set_limit.sql");
        tx.execute(sql, (queue.as_str(), limit))
    } else {
        let sql = include_str!("../../sql/sqlite/queue.clear_limit.sql");
        tx.execute(sql, [queue.as_str()])
    };
    changed.map(drop)
}
