//! A step's row as orders and deadlines see it: read whole, changed, written back.

use jiff::Timestamp;
use tasker_model::id::{Position, WorkerId};
use tasker_model::json::Json;
use tasker_model::outcome::FailureKind;
use tasker_model::step::StepState;

use super::row::{time_or_none, word, word_or_none, worker_id};
use super::transaction::Tx;
use super::work::{Standing, Work};
use crate::error::StoreError;

/// A step's row, as far as orders and deadlines are concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) row: i64,
    pub(super) position: Position,
    pub(super) state: StepState,
    pub(super) attempts: u32,
    pub(super) attempt_limit: u32,
    pub(super) unfinished_parents: u32,
    pub(super) due_at: Option<Timestamp>,
    pub(super) failure: Option<FailureKind>,
    pub(super) worker: Option<WorkerId>,
}

/// All steps of a task, by position.
pub(super) fn steps(tx: &Tx<'_>, task_row: i64) -> Result<Vec<Step>, StoreError> {
    tx.rows(
        include_str!("../../sql/sqlite/operate.steps.sql"),
        [task_row],
        |row| {
            Ok(Step {
                row: row.get(0)?,
                position: row.get(1)?,
                state: word(row, 2)?,
                attempts: row.get(3)?,
                attempt_limit: row.get(4)?,
                unfinished_parents: row.get(5)?,
                due_at: time_or_none(row, 6)?,
                failure: word_or_none(row, 7)?,
                worker: worker_id(row, 8)?,
            })
        },
    )
}

impl Step {
    const fn standing(&self) -> Standing {
        Standing {
            state: self.state,
            open: self.due_at.is_some(),
        }
    }

    /// Writes the step as it is now, and counts the difference to `before`.
    pub(super) fn save(
        &self,
        tx: &Tx<'_>,
        work: &mut Work,
        before: &Step,
        result: Option<&Json>,
    ) -> Result<(), StoreError> {
        let ended = self.due_at.is_none();
        let sent_again = self.state == StepState::Pending;
        let changed = tx.execute(
            include_str!("../../sql/sqlite/operate.save_step.sql"),
            (
                self.row,
                self.state.as_str(),
                self.attempt_limit,
                sent_again,
                self.due_at.map(Timestamp::as_microsecond),
                self.failure.map(FailureKind::as_str),
                ended.then(|| tx.now_us()),
                result.map(Json::as_str),
            ),
        )?;
        assert_eq!(changed, 1, "the step's row was read in this transaction");
        work.count(Some(before.standing()), self.standing());
        Ok(())
    }
}
