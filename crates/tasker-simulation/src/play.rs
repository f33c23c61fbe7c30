//! One seed, from the first process to the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tasker::model::id::TaskId;
use tasker::model::subtask::Origin;
use tasker::store::record::{TaskSummary, TemplateId};
use tasker::store::store::{Page, TaskFilter};
use tasker::store::{Clock as _, ManualClock, StoreError};
use tokio::runtime::Builder;

use crate::chance::Chance;
use crate::database::Database;
use crate::ledger::{Counts, Ledger};
use crate::lives::{live, stop};
use crate::people::{ask, intervene};
use crate::place::Place;
use crate::plan::Plan;
use crate::process::sleep;
use crate::verdict::{Found, problems};
use crate::weather::{cut_off, jump};
use crate::workflow::Definition;
use crate::world::{World, panic_text};

/// When every seed begins: 2026-01-01.
const START: i64 = 1_767_225_600;
/// How often whoever waits for the end looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// By then every task must be final, after the end of all trouble.
const ALL_FINAL_WITHIN: Duration = Duration::from_hours(6);
/// By then an engine must have stopped that nothing holds up.
const STOPPED_WITHIN: Duration = Duration::from_mins(10);
/// More tasks than any seed creates.
const TASKS_MAX: usize = 10_000;

/// What a seed did, if nothing was wrong.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How often what happened.
    pub counts: Counts,
    /// The whole record of every task, with numbers in place of random ids.
    pub history: String,
    /// What happened when; empty unless it was asked for.
    pub trace: Vec<String>,
}

/// A seed that went wrong.
#[derive(Debug)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What was wrong.
    pub problems: Vec<String>,
    /// What happened until then.
    pub report: Report,
}

impl Failure {
    /// Of a seed that does not end.
    pub(crate) fn endless(seed: u64) -> Failure {
        let problem = "it does not end: something loops and lets no virtual time pass";
        Failure {
            seed,
            problems: vec![problem.to_owned()],
            report: Report::default(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} failed:", self.seed)?;
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        let seed = self.seed;
        write!(
            f,
            "replay, on the same store: cargo xtask simulate --from {seed} --trace"
        )
    }
}

/// Runs one seed; with `traced`, what happens is written down for people.
pub fn run(seed: u64, place: &Place, traced: bool) -> Result<Report, Box<Failure>> {
    let start = Timestamp::from_second(START).expect("invariant: a time of this century");
    let clock = Arc::new(ManualClock::new(start));
    let ledger = Arc::new(Ledger::new(clock, traced));
    let judged = played(seed, place, &ledger).map(|(found, lease_ms)| {
        let problems = problems(&found, &ledger.pages(), lease_ms);
        (problems, history(&found))
    });
    let (problems, history) = judged.unwrap_or_else(|problem| (vec![problem], String::new()));
    finish(seed, problems, history, &ledger)
}

/// Plays a seed to its end; gives every task, and how long leases lasted.
pub(crate) fn played(
    seed: u64,
    place: &Place,
    ledger: &Arc<Ledger>,
) -> Result<(Vec<Found>, u64), String> {
    let clock = ledger.clock().clone();
    let (store, namespace) = place
        .store(clock.clone())
        .map_err(|error| format!("cannot open the store: {error}"))?;
    let mut chance = Chance::new(seed);
    let plan = Plan::draw(&mut chance);
    ledger.note(|| format!("seed {seed}: {plan:#?}"));
    let lease_ms = plan.lease_seconds * 1_000;
    let mut definitions: Vec<Definition> = Vec::new();
    for number in 0..chance.number(1..=3) {
        let name = format!("handler-{number}");
        definitions.push(Definition::draw(
            &mut chance,
            &namespace,
            name,
            &definitions,
        ));
    }
    let database = Database::new(store, place.io(), ledger.clone(), plan.notice);
    let database = Arc::new(database);
    let world = World::new(seed, plan, clock, ledger.clone(), database, definitions);
    let found = drive(Arc::new(world), chance)?;
    Ok((found, lease_ms))
}

fn finish(
    seed: u64,
    mut problems: Vec<String>,
    history: String,
    ledger: &Ledger,
) -> Result<Report, Box<Failure>> {
    let (counts, trace) = (ledger.counts(), ledger.lines());
    let report = Report {
        counts,
        history,
        trace,
    };
    if problems.is_empty() {
        return Ok(report);
    }
    // Those that were found on the way, if there was no verdict.
    let found = ledger.pages().problems.clone();
    let new = found.into_iter().filter(|found| !problems.contains(found));
    let new: Vec<String> = new.collect();
    problems.extend(new);
    Err(Box::new(Failure {
        seed,
        problems,
        report,
    }))
}

/// Runs a world on this thread: time moves when nothing else can.
fn drive(world: Arc<World>, chance: Chance) -> Result<Vec<Found>, String> {
    let over = Arc::new(AtomicBool::new(false));
    let stuck = world.database.alarm.clone();
    let runtime = {
        let (clock, over, stuck) = (world.clock.clone(), over.clone(), stuck.clone());
        let move_on = move || {
            if !over.load(Ordering::Relaxed) && clock.advance_to_next().is_none() {
                stuck.notify_one();
            }
        };
        // Tokio calls this when no task can go on: that is when time passes.
        Builder::new_current_thread()
            .on_thread_park(move_on)
            .build()
    };
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let played = runtime.block_on(async move {
        let playing = tokio::spawn(async move {
            let result = play(world, chance).await;
            over.store(true, Ordering::Relaxed);
            result
        });
        tokio::select! {
            biased;
            played = playing => played.map_err(|error| match error.try_into_panic() {
                Ok(panic) => format!("the simulation {}", panic_text(panic.as_ref())),
                Err(error) => error.to_string(),
            }),
            () = stuck.notified() => Err("nothing can happen any more, or too much does".to_owned()),
        }
    });
    played?.map_err(|error| format!("the tasks cannot be read: {error}"))
}

/// Trouble and recovery; gives every task as it is in the end.
async fn play(world: Arc<World>, mut chance: Chance) -> Result<Vec<Found>, StoreError> {
    trouble(&world, &mut chance).await;
    world.ledger.note(|| "all trouble ends".to_owned());
    world.calm.store(true, Ordering::Relaxed);
    for node in 0..world.plan.nodes {
        if let Some(running) = world.take(node) {
            running.crash();
        }
    }
    recover(&world, &mut chance).await?;
    all_tasks(&world)
}

/// Everybody does what they want, and everything goes wrong, until clients, operators and weather
/// are through.
async fn trouble(world: &Arc<World>, chance: &mut Chance) {
    let lives: Vec<_> = (0..world.plan.nodes)
        .map(|node| tokio::spawn(live(world.clone(), node, chance.fork())))
        .collect();
    let mut others = Vec::new();
    for client in 0..world.plan.people.clients {
        let client = u32::try_from(client).unwrap_or(u32::MAX);
        others.push(tokio::spawn(ask(world.clone(), chance.fork(), client)));
    }
    others.push(tokio::spawn(intervene(world.clone(), chance.fork())));
    others.push(tokio::spawn(jump(world.clone(), chance.fork())));
    others.push(tokio::spawn(cut_off(world.clone(), chance.fork())));
    let (clock, least) = (world.clock.clone(), world.plan.trouble);
    others.push(tokio::spawn(async move { sleep(&clock, least).await }));
    for other in others {
        if let Err(error) = other.await {
            world.ledger.problem(format!("an actor: {error}"));
        }
    }
    for life in lives {
        life.abort();
        // An error that is not a cancellation is a panic of the simulation itself.
        if let Err(error) = life.await
            && error.is_panic()
        {
            world.ledger.problem(format!("a life: {error}"));
        }
    }
}

/// Healthy nodes run until every task is final; then they stop.
async fn recover(world: &World, chance: &mut Chance) -> Result<(), StoreError> {
    let known: Vec<&Definition> = world.definitions.iter().collect();
    for node in 0..world.plan.nodes {
        match world.start(world.process(node), &known, chance).await {
            Ok(running) => drop(world.put(node, running)),
            Err(error) => world.ledger.problem(format!("a healthy start: {error}")),
        }
    }
    let end = world.clock.now() + ALL_FINAL_WITHIN;
    while world.clock.now() < end && !is_over(world)? {
        sleep(&world.clock, LOOK_EVERY).await;
    }
    for node in 0..world.plan.nodes {
        if let Some(running) = world.take(node)
            && !stop(world, running, STOPPED_WITHIN).await
        {
            world.ledger.problem("I7: a healthy engine does not stop");
        }
    }
    Ok(())
}

/// Whether every task is final, and nothing is left to be done of any.
fn is_over(world: &World) -> Result<bool, StoreError> {
    if !list(world, true)?.iter().all(|task| task.state.is_final()) {
        return Ok(false);
    }
    let namespace = world.definitions[0].namespace.as_str();
    let known = world.database.at_once(|store| store.templates(None))?;
    let known = known.iter();
    let own = known.filter(|(_, template)| template.source().namespace.as_str() == namespace);
    let own: Vec<TemplateId> = own.map(|(id, _)| *id).collect();
    let left = world.database.at_once(|store| store.aftermaths(own, 1))?;
    Ok(left.is_empty())
}

fn list(world: &World, also_subtasks: bool) -> Result<Vec<TaskSummary>, StoreError> {
    let filter = TaskFilter {
        namespace: Some(world.definitions[0].namespace.clone()),
        also_subtasks,
        ..TaskFilter::default()
    };
    let page = Page {
        limit: TASKS_MAX,
        before: None,
    };
    world.database.at_once(|store| store.tasks(filter, page))
}

/// Every task with its record, oldest first.
fn all_tasks(world: &World) -> Result<Vec<Found>, StoreError> {
    let ids = |also_subtasks| -> Result<BTreeSet<TaskId>, StoreError> {
        Ok(list(world, also_subtasks)?
            .iter()
            .map(|task| task.task_id)
            .collect())
    };
    let asked = ids(false)?;
    let ids = ids(true)?;
    let mut templates = BTreeMap::<TemplateId, _>::new();
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        let detail = world.database.at_once(|store| store.task_detail(id))?;
        let detail = detail.ok_or(StoreError::NoSuchTask(id))?;
        let number = detail.task.template;
        if let std::collections::btree_map::Entry::Vacant(e) = templates.entry(number) {
            let template = world.database.at_once(|store| store.template(number))?;
            e.insert(template);
        }
        let template = templates[&number].clone();
        let was_asked = asked.contains(&id);
        found.push(Found {
            detail,
            template,
            was_asked,
        });
    }
    Ok(in_order(found))
}

/// Tasks that were asked for as they were, each of the others after the one that it comes from: the ids of
/// those do not grow.
fn in_order(mut found: Vec<Found>) -> Vec<Found> {
    let id = |task: &Found| task.detail.task.summary.task_id;
    found.sort_by_key(|task| (!task.was_asked, id(task)));
    let mut places: BTreeMap<TaskId, usize> = BTreeMap::new();
    let mut order = Vec::with_capacity(found.len());
    let mut level: Vec<Found> = Vec::new();
    let (mut rest, mut next): (Vec<Found>, Vec<Found>) = (Vec::new(), found);
    while !next.is_empty() {
        for task in next {
            let origin = task.detail.task.origin.map(|origin| origin.task_id());
            let is_known = origin.is_none_or(|origin| places.contains_key(&origin));
            if is_known {
                level.push(task);
            } else {
                rest.push(task);
            }
        }
        level.sort_by_cached_key(|task| {
            let origin = task.detail.task.origin;
            let from = origin.and_then(|origin| places.get(&origin.task_id()).copied());
            let place = match origin {
                Some(Origin::Step {
                    position, ordinal, ..
                }) => (position, ordinal),
                _ => (0, 0),
            };
            let created = task.detail.task.summary.created_at;
            let context = task.detail.task.context.as_str().to_owned();
            let asked = task.was_asked.then(|| id(task));
            (!task.was_asked, asked, from, place, created, context)
        });
        let is_stuck = level.is_empty();
        for task in level.drain(..) {
            places.insert(id(&task), order.len());
            order.push(task);
        }
        next = std::mem::take(&mut rest);
        if is_stuck {
            order.append(&mut next);
        }
    }
    order
}

/// The record of every task as text, the same for the same seed.
fn history(found: &[Found]) -> String {
    let mut text = String::new();
    for (number, Found { detail, .. }) in found.iter().enumerate() {
        let state = detail.task.summary.state;
        text.push_str(&format!(
            "task {number}: {state}, {}\n",
            detail.task.context.as_str()
        ));
        for transition in &detail.transitions {
            let mut fields = serde_json::to_value(transition).unwrap_or(Value::Null);
            if let Some(fields) = fields.as_object_mut() {
                fields.remove("task_id");
            }
            text.push_str(&format!("  {fields}\n"));
        }
    }
    for (number, task) in found.iter().enumerate() {
        let id = task.detail.task.summary.task_id.to_string();
        text = text.replace(&id, &format!("task {number}"));
    }
    text
}
