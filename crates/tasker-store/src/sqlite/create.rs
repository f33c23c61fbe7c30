//! Creating tasks with their steps.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use rusqlite::Connection;
use tasker_model::id::Position;
use tasker_model::rollup::StepTally;
use tasker_model::step::{StepEvent, StepState};
use tasker_model::task::TaskState;
use tasker_model::template::TaskTemplate;
use tasker_model::transition::Reason;
use tasker_model::trigger::ParentEnd;
use tasker_model::wait::NEVER;

use super::connection::Location;
use super::row::{Id, task_id};
use super::subtask::{self, Wanted};
use super::transaction::{Templates, Tx};
use super::work::{Batch, Note, Standing, Work, after, lease};
use crate::clock::Clock;
use crate::error::StoreError;
use crate::record::TemplateId;
use crate::store::{ClaimBudget, Created, NewTask, Progress, scoped_key};

pub(super) fn create(
    tx: &mut Tx<'_>,
    tasks: &[NewTask],
    budget: Option<&ClaimBudget>,
) -> Result<(Vec<Created>, Progress), StoreError> {
    let mut batch = Batch::new(tx, budget)?;
    let created = tasks
        .iter()
        .map(|task| create_one(tx, &mut batch, task))
        .collect::<Result<_, _>>()?;
    Ok((created, batch.finish(tx)?))
}

/// Creates one task on a connection that the caller owns, inside the caller's transaction.
///
/// The task exists if and only if the caller commits; workers see it then, at their next look.
/// The connection must be to a file that a [`super::SqliteStore`] has opened before.
pub fn create_in(
    connection: &Connection,
    task: &NewTask,
    clock: &Arc<dyn Clock>,
) -> Result<Created, StoreError> {
    let location = Location::Memory;
    let statements = AtomicU64::new(0);
    let mut templates = Templates::new();
    let mut tx = Tx {
        connection,
        location: &location,
        statements: &statements,
        templates: &mut templates,
        now: clock.now(),
    };
    let (mut created, _) = create(&mut tx, std::slice::from_ref(task), None)?;
    Ok(created.pop().expect("invariant: one answer per task"))
}

fn create_one(tx: &mut Tx<'_>, batch: &mut Batch, new: &NewTask) -> Result<Created, StoreError> {
    if let Some(known) = find_equal(tx, new)? {
        return Ok(known);
    }
    let Wanted::Yes(membership) = subtask::begin(tx, new)? else {
        return Ok(Created::Unwanted(new.task_id));
    };
    let template = &new.request.template;
    let template_id = tx.register_template(template)?;
    let is_held = membership.as_ref().is_some_and(|of| of.held);
    let plan = Plan::new(batch, template_id, new, is_held);
    let Some(row) = insert_task(tx, template_id, new, &plan)? else {
        return Ok(Created::Existing(new.task_id));
    };
    subtask::join(tx, row, new, membership.as_ref())?;
    let definition = (template_id, template.clone());
    batch.adopt(Work::created(
        row,
        new.task_id,
        definition,
        plan.row_values(),
        membership,
    ));
    let steps = insert_steps(tx, batch, row, &plan)?;
    claim_roots(tx, batch, row, &plan, &steps)?;
    Ok(Created::New(new.task_id))
}

fn find_equal(tx: &Tx<'_>, new: &NewTask) -> Result<Option<Created>, StoreError> {
    if let Some(key) = scoped_key(new) {
        let sql = include_str!("../../sql/sqlite/create.find_idempotency_key.sql");
        if let Some(id) = tx.row(sql, [key], |row| task_id(row, 0))? {
            return Ok(Some(Created::Existing(id)));
        }
    }
    if let Some(identity) = &new.identity {
        let since = identity
            .since
            .map_or(i64::MIN, jiff::Timestamp::as_microsecond);
        let sql = include_str!("../../sql/sqlite/create.find_identity.sql");
        let found = tx.row(sql, (&identity.key, since), |row| task_id(row, 0))?;
        // A repeated create finds what it created itself.
        return Ok(found.map(|id| {
            if id == new.task_id {
                Created::Existing(id)
            } else {
                Created::Duplicate(id)
            }
        }));
    }
    Ok(None)
}

/// What is known of a new task before its first row is written.
struct Plan {
    template_id: TemplateId,
    priority: i32,
    start_at: Option<Timestamp>,
    bypassed: Vec<bool>,
    roots: Vec<Position>,
    claims: usize,
    steps: u32,
}

impl Plan {
    fn new(batch: &Batch, template_id: TemplateId, new: &NewTask, is_held: bool) -> Plan {
        let template = &new.request.template;
        let dag = template.dag();
        let mut bypassed = vec![false; dag.len()];
        for name in &new.request.request.bypass_steps {
            let position = template
                .position(name)
                .expect("invariant: the request was checked");
            bypassed[position as usize] = true;
        }
        let steps = Position::try_from(dag.len()).expect("invariant: checked against STEPS_MAX");
        let unfinished = |step| {
            dag.parents(step)
                .iter()
                .filter(|p| !bypassed[**p as usize])
                .count()
        };
        let roots: Vec<Position> = (0..steps)
            .filter(|s| !bypassed[*s as usize] && unfinished(*s) == 0)
            .collect();
        let may_claim = |root: &&Position| batch.may_claim(template_id, &template.queue(**root));
        let request = &new.request.request;
        let start_at = if is_held {
            Some(NEVER)
        } else {
            request.start_at
        };
        // A root that is not to start yet, or that a bypassed step has made one, is left to a look.
        let claims = if start_at.is_some() || !request.bypass_steps.is_empty() {
            0
        } else {
            roots
                .iter()
                .take(batch.slots_left)
                .take_while(may_claim)
                .count()
        };
        Plan {
            template_id,
            priority: request.priority,
            start_at,
            bypassed,
            roots,
            claims,
            steps,
        }
    }

    /// How many parents of a step are not done, and how many ends its rule still waits for.
    fn parents(&self, template: &TaskTemplate, position: Position) -> (u32, Option<i32>) {
        let parents = template.dag().parents(position);
        let is_bypassed = |parent: &&Position| self.bypassed[**parent as usize];
        let skipped = count(parents.iter().filter(is_bypassed).count());
        let per_skip = template.counted(position, ParentEnd::Skip).unwrap_or(0);
        let awaited = template.awaited(position);
        let awaited =
            awaited.map(|awaited| awaited.cast_signed() - per_skip * skipped.cast_signed());
        (count(parents.len()) - skipped, awaited)
    }

    fn bypassed_count(&self) -> u32 {
        count(self.bypassed.iter().filter(|bypassed| **bypassed).count())
    }

    /// State, counts and number of transitions with which the task's row is written: what they
    /// will be at the end of the transaction, so that it need not be written twice.
    fn row_values(&self) -> (TaskState, StepTally, u32) {
        let tally = StepTally {
            total: self.steps,
            done: self.bypassed_count(),
            open: count(self.roots.len()),
            ..StepTally::default()
        };
        let started = self.claims > 0;
        let state = if started {
            TaskState::InProgress
        } else {
            TaskState::Pending
        };
        let claims = count(self.claims);
        let transitions = 1 + self.steps + self.bypassed_count() + u32::from(started) + claims;
        (state, tally, transitions)
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("invariant: checked against STEPS_MAX")
}

/// The new task's row, or `None` if its id exists.
fn insert_task(
    tx: &Tx<'_>,
    template_id: TemplateId,
    new: &NewTask,
    plan: &Plan,
) -> Result<Option<i64>, StoreError> {
    let request = &new.request.request;
    let (state, tally, transitions) = plan.row_values();
    let deadline = new
        .request
        .template
        .source()
        .deadline_ms
        .map(|ms| after(tx.now, ms));
    let inserted = tx.execute(
        include_str!("../../sql/sqlite/create.task.sql"),
        (
            Id::from(new.task_id),
            template_id.0,
            state.as_str(),
            tally.total,
            tally.done,
            tally.open,
            transitions,
            tx.now_us(),
            deadline.map(jiff::Timestamp::as_microsecond),
        ),
    )?;
    if inserted == 0 {
        return Ok(None);
    }
    let row = tx.connection.last_insert_rowid();
    let list = |names: &[String]| serde_json::to_string(names).expect("invariant: texts");
    tx.execute(
        include_str!("../../sql/sqlite/create.request.sql"),
        (
            row,
            new.request.context.as_str(),
            &request.initiator,
            &request.source_system,
            &request.reason,
            list(&request.tags),
            list(&request.bypass_steps),
            request.requested_at.unwrap_or(tx.now).as_microsecond(),
            scoped_key(new),
            new.identity.as_ref().map(|identity| &identity.key),
            request.priority,
            request.start_at.map(Timestamp::as_microsecond),
        ),
    )?;
    Ok(Some(row))
}

/// Writes the steps, those that are claimed at once as claimed; gives their rows.
fn insert_steps(
    tx: &mut Tx<'_>,
    batch: &mut Batch,
    task_row: i64,
    plan: &Plan,
) -> Result<Vec<i64>, StoreError> {
    let (lease_until, worker) = (batch.lease_until(tx), batch.worker());
    let work = batch.work(tx, task_row)?;
    work.record(tx, None, None, TaskState::Pending.as_str(), Note::default())?;
    let template = work.template.clone();
    let claimed = &plan.roots[..plan.claims];
    let mut rows = Vec::with_capacity(plan.roots.len());
    for position in 0..plan.steps {
        let step = template.step(position);
        let is_root = plan.roots.binary_search(&position).is_ok();
        let is_claimed = claimed.binary_search(&position).is_ok();
        let bypassed = plan.bypassed[position as usize];
        let state = match (bypassed, is_claimed) {
            (true, _) => StepState::Skipped,
            (false, true) => StepState::InProgress,
            (false, false) => StepState::Pending,
        };
        let (unfinished, awaited) = plan.parents(&template, position);
        let start_at = plan
            .start_at
            .map_or(tx.now, |start_at| start_at.max(tx.now));
        let due_at = is_root.then(|| {
            if is_claimed {
                lease_until
            } else {
                start_at.as_microsecond()
            }
        });
        tx.execute(
            include_str!("../../sql/sqlite/create.step.sql"),
            (
                task_row,
                position,
                step.name.as_str(),
                state.as_str(),
                u32::from(is_claimed),
                step.retry.attempt_limit(),
                unfinished,
                due_at,
                template.queue(position).as_str(),
                plan.template_id.0,
                is_claimed.then(|| worker.map(Id::from)).flatten(),
                is_claimed.then(|| tx.now_us()),
                plan.priority,
                awaited,
            ),
        )?;
        if is_root {
            rows.push(tx.connection.last_insert_rowid());
        }
        let pending = StepState::Pending;
        work.record(tx, Some(position), None, pending.as_str(), Note::default())?;
        work.count(
            None,
            Standing {
                state,
                open: is_root,
            },
        );
    }
    for (position, _) in (0..).zip(&plan.bypassed).filter(|(_, bypassed)| **bypassed) {
        let note = Note {
            reason: Some(Reason::Bypassed),
            ..Note::default()
        };
        work.move_step(tx, position, StepState::Pending, StepEvent::Skip, note)?;
    }
    Ok(rows)
}

fn claim_roots(
    tx: &mut Tx<'_>,
    batch: &mut Batch,
    task_row: i64,
    plan: &Plan,
    rows: &[i64],
) -> Result<(), StoreError> {
    let worker = batch.worker();
    for (position, row) in plan.roots.iter().zip(rows).take(plan.claims) {
        let work = batch.work(tx, task_row)?;
        work.start(tx)?;
        let note = Note {
            attempt: Some(1),
            worker,
            ..Note::default()
        };
        work.move_step(tx, *position, StepState::Pending, StepEvent::Claim, note)?;
        let attempt_limit = work.template.step(*position).retry.attempt_limit();
        let lease = lease(work, *position, *row, 1);
        batch.claimed(lease, attempt_limit);
    }
    batch.left_due |= plan.roots.len() > plan.claims;
    Ok(())
}
