//! What the functions in the database answer, turned into what a verb gives.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tasker_model::id::{Position, StepKey, TaskId};
use tasker_model::json::Json;
use tasker_model::step::StepState;
use tasker_model::subtask::SubtaskTally;
use tasker_model::task::TaskState;

use super::Inner;
use super::row::Row;
use crate::error::StoreError;
use crate::record::TemplateId;
use crate::store::{ClaimedStep, Created, Lease, Progress};

// The columns of tasker_answer (0002_engine.sql).
const KIND: usize = 0;
const TASK_ID: usize = 1;
const POSITION: usize = 2;
const ATTEMPT: usize = 3;
const ATTEMPT_LIMIT: usize = 4;
const TEMPLATE_ID: usize = 5;
const WORD: usize = 6;
const CONTEXT: usize = 7;
const RESULTS: usize = 8;
const NUMBERS: usize = 9;
const AT: usize = 10;
const NEXT_DUE: usize = 11;
const LEFT_DUE: usize = 12;
const STATES: usize = 13;
const SIGNAL: usize = 14;
const SUBTASKS: usize = 15;

/// The word of a claimed step whose context nobody has held against its schema (`0004_create_task.sql`).
const UNCHECKED: &str = "unchecked";

/// The word of a summary when another node was looking for due steps.
const BUSY: &str = "busy";

/// One row of an answer.
pub(super) enum Part {
    /// A step was claimed; its inputs follow from the row, or from the request that created it.
    Claimed(Box<Claimed>),
    /// A task reached a final state.
    Finished(TaskId, TaskState),
    /// A task was not created: its place in the call, and why.
    NotCreated(usize, Created),
    /// The last row.
    Summary(Summary),
}

/// A claimed step as it was answered.
pub(super) struct Claimed {
    pub(super) lease: Lease,
    pub(super) attempt_limit: u32,
    pub(super) template: TemplateId,
    /// `None` where the caller has context and results.
    pub(super) context: Option<Json>,
    pub(super) context_checked: bool,
    pub(super) results: Vec<Option<Json>>,
    pub(super) states: Vec<StepState>,
    pub(super) waited_until: Option<Timestamp>,
    pub(super) signal: Option<Json>,
    pub(super) subtasks: Option<SubtaskTally>,
}

/// What concerns the whole call.
pub(super) struct Summary {
    /// The time at which everything in it happened.
    pub(super) at: Timestamp,
    /// Places of the completions that were recorded, from 0.
    pub(super) recorded: Vec<usize>,
    pub(super) next_due: Option<Timestamp>,
    pub(super) left_due: bool,
    /// Nobody looked for due steps, since another node was looking.
    pub(super) busy: bool,
}

impl Part {
    pub(super) fn of(row: &Row) -> Result<Part, StoreError> {
        Ok(match row.get::<&str>(KIND)? {
            "claimed" => Part::Claimed(Box::new(claimed(row)?)),
            "finished" => Part::Finished(row.task_id(TASK_ID)?, row.word(WORD)?),
            "created" => {
                let place = places(row)?.first().copied();
                Part::NotCreated(place.unwrap_or(usize::MAX), not_created(row)?)
            }
            "summary" => Part::Summary(Summary {
                at: row.time(AT)?,
                recorded: places(row)?,
                next_due: row.time_or_none(NEXT_DUE)?,
                left_due: row.get::<Option<bool>>(LEFT_DUE)?.unwrap_or(false),
                busy: row.get::<Option<&str>>(WORD)? == Some(BUSY),
            }),
            other => return Err(StoreError::BadRow(format!("an answer of kind `{other}`"))),
        })
    }
}

fn claimed(row: &Row) -> Result<Claimed, StoreError> {
    let step = StepKey::new(row.task_id(TASK_ID)?, row.number(POSITION)?);
    let results: Option<Vec<Option<&str>>> = row.get(RESULTS)?;
    Ok(Claimed {
        lease: Lease {
            step,
            attempt: row.number(ATTEMPT)?,
            task_row: 0,
            step_row: 0,
        },
        attempt_limit: row.limit(ATTEMPT_LIMIT)?,
        template: TemplateId(row.get(TEMPLATE_ID)?),
        context: row.stored_json(CONTEXT)?,
        context_checked: row.get::<Option<&str>>(WORD)? != Some(UNCHECKED),
        results: results
            .unwrap_or_default()
            .into_iter()
            .map(|result| result.map(Json::from_stored))
            .collect(),
        states: states(row)?,
        waited_until: row.time_or_none(AT)?,
        signal: row.stored_json(SIGNAL)?,
        subtasks: row.json_or_none(SUBTASKS)?,
    })
}

fn states(row: &Row) -> Result<Vec<StepState>, StoreError> {
    let states: Option<Vec<&str>> = row.get(STATES)?;
    let read = |word: &str| {
        word.parse()
            .map_err(|error| StoreError::BadRow(format!("{error}")))
    };
    states.unwrap_or_default().into_iter().map(read).collect()
}

/// SQL counts places from 1.
fn places(row: &Row) -> Result<Vec<usize>, StoreError> {
    let numbers: Option<Vec<i32>> = row.get(NUMBERS)?;
    let place = |number: i32| {
        let place = usize::try_from(number - 1);
        place.map_err(|_| StoreError::BadRow(format!("place {number} of a call")))
    };
    numbers.unwrap_or_default().into_iter().map(place).collect()
}

fn not_created(row: &Row) -> Result<Created, StoreError> {
    let task = row.task_id(TASK_ID)?;
    Ok(match row.get::<&str>(WORD)? {
        "existing" => Created::Existing(task),
        "duplicate" => Created::Duplicate(task),
        "unwanted" => Created::Unwanted(task),
        other => return Err(StoreError::BadRow(format!("a task that is `{other}`"))),
    })
}

/// What the caller of a verb knows without reading it back.
#[derive(Default)]
pub(super) struct KnownInputs<'a> {
    pub(super) contexts: HashMap<TaskId, &'a Json>,
    pub(super) results: HashMap<StepKey, &'a Json>,
}

impl Inner {
    /// A claimed step with all that its handler needs.
    pub(super) async fn hand_out(
        &self,
        claimed: Claimed,
        known: &KnownInputs<'_>,
    ) -> Result<ClaimedStep, StoreError> {
        let template = self.template(claimed.template).await?;
        let task = claimed.lease.step.task_id;
        let named = template.dag().parents(claimed.lease.step.position);
        let parents: Arc<[_]> = if claimed.context.is_some() {
            let mut results = claimed.results.into_iter();
            let read = |parent: &Position| (*parent, results.next().flatten());
            named.iter().map(read).collect()
        } else {
            let known = |parent: &Position| {
                let result = known.results.get(&StepKey::new(task, *parent));
                (*parent, result.map(|result| (*result).clone()))
            };
            named.iter().map(known).collect()
        };
        let parent_states = if claimed.states.is_empty() {
            // All of them ended in this call: those without a result were skipped.
            let state = |(_, result): &(Position, Option<Json>)| match result {
                Some(_) => StepState::Complete,
                None => StepState::Skipped,
            };
            parents.iter().map(state).collect()
        } else {
            claimed.states.into()
        };
        let context = claimed
            .context
            .or_else(|| known.contexts.get(&task).map(|c| (*c).clone()));
        let missing = || StoreError::BadRow("a claimed step without a context".to_owned());
        Ok(ClaimedStep {
            lease: claimed.lease,
            attempt_limit: claimed.attempt_limit,
            context: context.ok_or_else(missing)?,
            context_checked: claimed.context_checked,
            template,
            parents,
            parent_states,
            waited_until: claimed.waited_until,
            signal: claimed.signal,
            subtasks: claimed.subtasks,
        })
    }

    /// Takes in the rows of a claim or a complete.
    pub(super) async fn progress(
        &self,
        rows: &[Row],
        known: &KnownInputs<'_>,
    ) -> Result<(Progress, Summary), StoreError> {
        let mut progress = Progress::default();
        let mut found = None;
        for row in rows {
            match Part::of(row)? {
                Part::Claimed(claimed) => {
                    progress.claimed.push(self.hand_out(*claimed, known).await?);
                }
                Part::Finished(task, state) => progress.finished.push((task, state)),
                Part::Summary(summary) => found = Some(summary),
                Part::NotCreated(..) => {}
            }
        }
        let summary = found.ok_or_else(no_summary)?;
        progress.left_due = summary.left_due;
        Ok((progress, summary))
    }
}

pub(super) fn no_summary() -> StoreError {
    StoreError::BadRow("an answer without a summary".to_owned())
}
