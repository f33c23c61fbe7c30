//! Tasks that tasks start, as the step that started them asks for them, and what is left to do after a task
//! that has failed.

use jiff::Timestamp;
use tasker_model::id::{StepKey, TaskId};
use tasker_model::json::Json;
use tasker_model::name::StepName;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Inner;
use super::row::{Row, int};
use crate::error::StoreError;
use crate::record::{SubtaskRecord, TemplateId};
use crate::store::Aftermath;

impl Inner {
    pub(super) async fn subtasks(
        &self,
        step: StepKey,
        from: u32,
        limit: usize,
    ) -> Result<Vec<SubtaskRecord>, StoreError> {
        let sql = include_str!("../../sql/postgres/subtask.list.sql");
        let (position, limit) = (int(step.position), limited(limit));
        let from = i32::try_from(from).unwrap_or(i32::MAX);
        let rows = self
            .connections
            .rows(
                sql,
                &[
                    (step.task_id.as_uuid(), Type::UUID),
                    (&position, Type::INT4),
                    (&from, Type::INT4),
                    (&limit, Type::INT8),
                ],
            )
            .await?;
        rows.iter().map(subtask).collect()
    }

    pub(super) async fn aftermaths(
        &self,
        templates: Vec<TemplateId>,
        limit: usize,
    ) -> Result<Vec<Aftermath>, StoreError> {
        let sql = include_str!("../../sql/postgres/aftermath.find.sql");
        let templates: Vec<i64> = templates.iter().map(|template| template.0).collect();
        let limit = limited(limit);
        let rows = self
            .connections
            .rows(sql, &[(&templates, Type::INT8_ARRAY), (&limit, Type::INT8)])
            .await?;
        rows.iter().map(aftermath).collect()
    }

    pub(super) async fn end_aftermath(
        &self,
        task_id: TaskId,
        since: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = include_str!("../../sql/postgres/aftermath.end.sql");
        let task = [
            (task_id.as_uuid() as _, Type::UUID),
            (&since as _, Type::TIMESTAMPTZ),
        ];
        self.connections.rows(sql, &task).await.map(drop)
    }
}

fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn subtask(row: &Row) -> Result<SubtaskRecord, StoreError> {
    let names: Vec<&str> = row.get(3)?;
    let results: Vec<Option<&str>> = row.get(4)?;
    let result = |(name, result): (&str, Option<&str>)| {
        let bad = |error| StoreError::BadRow(format!("{error}"));
        let name = StepName::new(name).map_err(bad)?;
        Ok((name, result.map(Json::from_stored)))
    };
    let results = names.into_iter().zip(results).map(result);
    Ok(SubtaskRecord {
        ordinal: row.number(0)?,
        task_id: row.task_id(1)?,
        state: row.word(2)?,
        results: results.collect::<Result<_, StoreError>>()?,
    })
}

fn aftermath(row: &Row) -> Result<Aftermath, StoreError> {
    let orphans: Option<Vec<Uuid>> = row.get(3)?;
    let orphans = orphans.unwrap_or_default().into_iter();
    Ok(Aftermath {
        task_id: row.task_id(0)?,
        state: row.word(1)?,
        since: row.time(2)?,
        orphans: orphans.map(TaskId::from_uuid).collect(),
    })
}
