//! Reading a task whole under its lock, and writing back what an order changed.

use deadpool_postgres::Transaction;
use tasker_model::id::TaskId;
use tasker_model::json::Json;
use tasker_model::name::SignalName;
use tasker_model::outcome::FailureKind;
use tasker_model::subtask::SubtaskStanding;
use tasker_model::task::TaskState;
use tasker_model::transition::Reason;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Inner;
use super::row::{Parameter, Row, int};
use crate::error::StoreError;
use crate::record::TemplateId;
use crate::sheet::{Sheet, Step};
use crate::store::Order;

impl Inner {
    pub(super) async fn operate(
        &self,
        id: TaskId,
        order: Order,
        actor: String,
    ) -> Result<TaskState, StoreError> {
        let mut connection = self.connections.connection().await?;
        let fail = |error| self.connections.error(error);
        let transaction = connection.transaction().await.map_err(fail)?;
        let (mut sheet, is_subtask) = self.load_sheet(&transaction, id).await?;
        sheet.operate(&order, &actor)?;
        self.save_sheet(&transaction, &sheet).await?;
        // The last thing: others wait for the tally until the commit.
        let left_due = is_subtask && self.count_subtask(&transaction, &sheet).await?;
        transaction.commit().await.map_err(fail)?;
        if left_due {
            self.bell.pull();
        }
        Ok(sheet.state)
    }

    /// The sheet of a task that is locked, and whether it is a sub-task.
    async fn load_sheet(
        &self,
        transaction: &Transaction<'_>,
        id: TaskId,
    ) -> Result<(Sheet, bool), StoreError> {
        let key = [(id.as_uuid() as _, Type::UUID)];
        let sql = include_str!("../../sql/postgres/sheet.task.sql");
        let mut rows = self.connections.rows_in(transaction, sql, &key).await?;
        let task = rows.pop().ok_or(StoreError::NoSuchTask(id))?;
        let template = TemplateId(task.get(0)?);
        let template = self.template_in(transaction, template).await?;
        // A second statement: it sees what was committed while the first waited for the lock.
        let sql = include_str!("../../sql/postgres/sheet.steps.sql");
        let rows = self.connections.rows_in(transaction, sql, &key).await?;
        let first = rows.first().map(|row| row.time(10)).transpose()?;
        let now = self.given_time().or(first);
        let now = now.ok_or_else(|| StoreError::BadRow(format!("task {id} has no steps")))?;
        let steps: Vec<Step> = rows.iter().map(step).collect::<Result<_, _>>()?;
        let (state, transitions) = (task.word(1)?, task.number(2)?);
        let mut sheet = Sheet::new(id, template, state, transitions, steps, now);
        let undo: Option<Option<Uuid>> = rows.first().map(|row| row.get(14)).transpose()?;
        sheet.undone_by = undo.flatten().map(TaskId::from_uuid);
        Ok((sheet, task.get(3)?))
    }

    /// Tells the step that started a sub-task what became of it; gives whether that left something due.
    async fn count_subtask(
        &self,
        transaction: &Transaction<'_>,
        sheet: &Sheet,
    ) -> Result<bool, StoreError> {
        if SubtaskStanding::from(sheet.was()) == SubtaskStanding::from(sheet.state) {
            return Ok(false);
        }
        let (now, was) = (self.given_time(), sheet.was().as_str());
        let columns: &[Parameter<'_>] = &[
            (&now, Type::TIMESTAMPTZ),
            (sheet.id.as_uuid(), Type::UUID),
            (&was, Type::TEXT),
        ];
        let sql = include_str!("../../sql/postgres/subtask.count.sql");
        let rows = self.connections.rows_in(transaction, sql, columns).await?;
        rows.first().map_or(Ok(false), |row| row.get(0))
    }

    async fn save_sheet(
        &self,
        transaction: &Transaction<'_>,
        sheet: &Sheet,
    ) -> Result<(), StoreError> {
        let id = sheet.id.as_uuid();
        let steps: Vec<&Step> = sheet.changed().collect();
        let column = |of: fn(&Step) -> i32| -> Vec<i32> { steps.iter().map(|s| of(s)).collect() };
        let positions = column(|step| int(step.position));
        let limits: Vec<i64> = steps.iter().map(|s| i64::from(s.attempt_limit)).collect();
        let lost = column(|step| int(step.lost_attempts));
        let unfinished = column(|step| int(step.unfinished_parents));
        let states: Vec<_> = steps.iter().map(|step| step.state.as_str()).collect();
        let due_at: Vec<_> = steps.iter().map(|step| step.due_at).collect();
        let failures: Vec<_> = steps
            .iter()
            .map(|step| step.failure.map(FailureKind::as_str))
            .collect();
        let workers: Vec<_> = steps
            .iter()
            .map(|step| step.worker.map(|worker| *worker.as_uuid()))
            .collect();
        let finished_at: Vec<_> = steps.iter().map(|step| step.finished_at).collect();
        let results: Vec<_> = steps
            .iter()
            .map(|step| step.result.as_ref().map(Json::as_str))
            .collect();
        let awaited: Vec<_> = steps.iter().map(|step| step.awaited).collect();
        let waited_until: Vec<_> = steps.iter().map(|step| step.waited_until).collect();
        let awaits: Vec<_> = steps
            .iter()
            .map(|step| step.awaits.as_ref().map(SignalName::as_str))
            .collect();
        let sql = include_str!("../../sql/postgres/sheet.save_steps.sql");
        let columns: &[Parameter<'_>] = &[
            (id, Type::UUID),
            (&positions, Type::INT4_ARRAY),
            (&states, Type::TEXT_ARRAY),
            (&limits, Type::INT8_ARRAY),
            (&lost, Type::INT4_ARRAY),
            (&unfinished, Type::INT4_ARRAY),
            (&due_at, Type::TIMESTAMPTZ_ARRAY),
            (&failures, Type::TEXT_ARRAY),
            (&workers, Type::UUID_ARRAY),
            (&finished_at, Type::TIMESTAMPTZ_ARRAY),
            (&results, Type::TEXT_ARRAY),
            (&awaited, Type::INT4_ARRAY),
            (&waited_until, Type::TIMESTAMPTZ_ARRAY),
            (&awaits, Type::TEXT_ARRAY),
        ];
        self.connections.rows_in(transaction, sql, columns).await?;
        self.record(transaction, sheet).await?;
        self.save_task(transaction, sheet).await
    }

    async fn save_task(
        &self,
        transaction: &Transaction<'_>,
        sheet: &Sheet,
    ) -> Result<(), StoreError> {
        let id = sheet.id.as_uuid();
        let tally = sheet.tally();
        let transitions = sheet.transitions
            + u32::try_from(sheet.entries.len()).expect("invariant: a few per step");
        let counts = [
            tally.done,
            tally.open,
            tally.failed,
            tally.cancelled,
            transitions,
        ]
        .map(int);
        let state = sheet.state.as_str();
        let finished_at = sheet.state.is_final().then_some(sheet.now);
        let (drops_deadline, moved) = (sheet.drops_deadline(), sheet.moved());
        let aftermath_at = sheet.leaves_aftermath().then_some(sheet.now);
        let sql = include_str!("../../sql/postgres/sheet.save_task.sql");
        let columns: &[Parameter<'_>] = &[
            (id, Type::UUID),
            (&counts[0], Type::INT4),
            (&counts[1], Type::INT4),
            (&counts[2], Type::INT4),
            (&counts[3], Type::INT4),
            (&counts[4], Type::INT4),
            (&state, Type::TEXT),
            (&finished_at, Type::TIMESTAMPTZ),
            (&drops_deadline, Type::BOOL),
            (&moved, Type::BOOL),
            (&aftermath_at, Type::TIMESTAMPTZ),
        ];
        self.connections.rows_in(transaction, sql, columns).await?;
        Ok(())
    }

    async fn record(&self, transaction: &Transaction<'_>, sheet: &Sheet) -> Result<(), StoreError> {
        let entries = &sheet.entries;
        let notes = || entries.iter().map(|entry| &entry.note);
        let positions: Vec<_> = entries.iter().map(|e| e.position.map(int)).collect();
        let from: Vec<_> = entries.iter().map(|e| e.from).collect();
        let to: Vec<_> = entries.iter().map(|e| e.to).collect();
        let attempts: Vec<_> = notes().map(|n| n.attempt.map(int)).collect();
        let workers: Vec<_> = notes().map(|n| n.worker.map(|w| *w.as_uuid())).collect();
        let actors: Vec<_> = notes().map(|n| n.actor.as_deref()).collect();
        let reasons: Vec<_> = notes().map(|n| n.reason.map(Reason::as_str)).collect();
        let text = |failure| serde_json::to_string(failure).expect("invariant: plain data");
        let failures: Vec<_> = notes().map(|n| n.failure.as_ref().map(text)).collect();
        let sequence = int(sheet.transitions);
        let sql = include_str!("../../sql/postgres/sheet.record.sql");
        let columns: &[Parameter<'_>] = &[
            (sheet.id.as_uuid(), Type::UUID),
            (&sequence, Type::INT4),
            (&sheet.now, Type::TIMESTAMPTZ),
            (&positions, Type::INT4_ARRAY),
            (&from, Type::TEXT_ARRAY),
            (&to, Type::TEXT_ARRAY),
            (&attempts, Type::INT4_ARRAY),
            (&workers, Type::UUID_ARRAY),
            (&actors, Type::TEXT_ARRAY),
            (&reasons, Type::TEXT_ARRAY),
            (&failures, Type::TEXT_ARRAY),
        ];
        self.connections.rows_in(transaction, sql, columns).await?;
        Ok(())
    }
}

fn step(row: &Row) -> Result<Step, StoreError> {
    Ok(Step {
        position: row.number(0)?,
        state: row.word(1)?,
        attempts: row.number(2)?,
        attempt_limit: row.limit(3)?,
        lost_attempts: row.number(4)?,
        unfinished_parents: row.number(5)?,
        due_at: row.time_or_none(6)?,
        failure: row.word_or_none(7)?,
        worker: row.worker_id(8)?,
        finished_at: row.time_or_none(9)?,
        awaited: row.get(11)?,
        waited_until: row.time_or_none(12)?,
        awaits: row.word_or_none(13)?,
        result: None,
    })
}
