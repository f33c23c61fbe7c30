//! Figures over many tasks: what the functions for operators say (`0003_operators.sql`).

use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::Inner;
use super::row::Row;
use crate::error::StoreError;
use crate::figures::{
    Analytics, Connections, SlowStep, SlowTask, Slowest, StepStateCounts, SystemHealth, TaskCounts,
};

fn count(row: &Row, column: usize) -> Result<u64, StoreError> {
    let found: i64 = row.get(column)?;
    u64::try_from(found).map_err(|_| StoreError::BadRow(format!("a count of {found}")))
}

fn no_row() -> StoreError {
    StoreError::BadRow("an aggregate without a row".to_owned())
}

impl Inner {
    pub(super) async fn system_health(&self) -> Result<SystemHealth, StoreError> {
        let sql = include_str!("../../sql/postgres/figures.health.sql");
        let now = self.given_time();
        let parameters = [(&now as _, Type::TIMESTAMPTZ)];
        let row = self.connections.row(sql, &parameters).await?;
        let row = row.ok_or_else(no_row)?;
        let count = |column| count(&row, column);
        Ok(SystemHealth {
            tasks: TaskCounts {
                total: count(0)?,
                pending: count(1)?,
                in_progress: count(2)?,
                complete: count(3)?,
                error: count(4)?,
                cancelled: count(5)?,
                resolved_manually: count(6)?,
            },
            steps: StepStateCounts {
                total: count(7)?,
                pending: count(8)?,
                in_progress: count(9)?,
                complete: count(10)?,
                error: count(11)?,
                cancelled: count(12)?,
                resolved_manually: count(13)?,
                skipped: count(14)?,
                retryable_error: count(15)?,
                exhausted_retry: count(16)?,
                permanent_error: count(17)?,
                in_backoff: count(18)?,
            },
            connections: Some(Connections {
                active: count(19)?,
                max: count(20)?,
            }),
        })
    }

    pub(super) async fn analytics(
        &self,
        since: Option<Timestamp>,
    ) -> Result<Analytics, StoreError> {
        let sql = include_str!("../../sql/postgres/figures.analytics.sql");
        let now = self.given_time();
        let row = self
            .connections
            .row(
                sql,
                &[(&now, Type::TIMESTAMPTZ), (&since, Type::TIMESTAMPTZ)],
            )
            .await?
            .ok_or_else(no_row)?;
        Ok(Analytics {
            active_tasks: count(&row, 0)?,
            namespaces: count(&row, 1)?,
            task_types: count(&row, 2)?,
            system_health_score: row.get(3)?,
            task_throughput: count(&row, 4)?,
            completions: count(&row, 5)?,
            errors: count(&row, 6)?,
            completion_rate: row.get(7)?,
            error_rate: row.get(8)?,
            avg_task_duration_ms: row.get(9)?,
            avg_step_duration_ms: row.get(10)?,
            step_throughput: count(&row, 11)?,
            analysis_period_start: row.time(12)?,
            calculated_at: row.time(13)?,
        })
    }

    async fn slowest(&self, sql: &'static str, among: &Slowest) -> Result<Vec<Row>, StoreError> {
        let now = self.given_time();
        let limit = i32::try_from(among.limit).unwrap_or(i32::MAX);
        let version = among.version.map(|version| version.to_string());
        self.connections
            .rows(
                sql,
                &[
                    (&now, Type::TIMESTAMPTZ),
                    (&among.since, Type::TIMESTAMPTZ),
                    (&limit, Type::INT4),
                    (&among.namespace, Type::TEXT),
                    (&among.name, Type::TEXT),
                    (&version, Type::TEXT),
                ],
            )
            .await
    }

    pub(super) async fn slowest_tasks(&self, among: Slowest) -> Result<Vec<SlowTask>, StoreError> {
        let sql = include_str!("../../sql/postgres/figures.slowest_tasks.sql");
        let task = |row: &Row| {
            Ok(SlowTask {
                task_id: row.task_id(0)?,
                namespace: row.word(1)?,
                name: row.word(2)?,
                version: row.word(3)?,
                state: row.word(4)?,
                duration_ms: row.get(5)?,
                steps: row.number(6)?,
                done_steps: row.number(7)?,
                failed_steps: row.number(8)?,
                created_at: row.time(9)?,
                finished_at: row.time(10)?,
                initiator: row.get(11)?,
                source_system: row.get(12)?,
            })
        };
        self.slowest(sql, &among).await?.iter().map(task).collect()
    }

    pub(super) async fn slowest_steps(&self, among: Slowest) -> Result<Vec<SlowStep>, StoreError> {
        let sql = include_str!("../../sql/postgres/figures.slowest_steps.sql");
        let step = |row: &Row| {
            Ok(SlowStep {
                task_id: row.task_id(0)?,
                position: row.number(1)?,
                name: row.word(2)?,
                namespace: row.word(3)?,
                task_name: row.word(4)?,
                version: row.word(5)?,
                duration_ms: row.get(6)?,
                total_ms: row.get(7)?,
                attempts: row.number(8)?,
                retryable: row.get(9)?,
                created_at: row.time(10)?,
                finished_at: row.time(11)?,
            })
        };
        self.slowest(sql, &among).await?.iter().map(step).collect()
    }
}
