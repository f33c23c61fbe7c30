//! The same random verbs on SQLite, on PostgreSQL and on the reference: the same answers, and
//! the same history of every task.
//!
//! `TASKER_SEED=17` runs one seed alone.

use std::collections::HashMap;

use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tasker_model::id::{TaskId, WorkerId};
use tasker_model::outcome::Settlement;
use tasker_model::transition::{Change, Transition};
use tasker_store::StoreError;
use tasker_store::store::{
    ClaimBudget, ClaimedStep, Completion, NewTask, Progress, Recorded, Signal,
};

use crate::fixture::{Defined, Fixture, LEASE_MS, Worker, ms, postgres, sqlite_in_memory, text};
use crate::random::{
    random_definition, random_order, random_settlement, random_signal, random_task,
};
use crate::reference::{Attempt, Claimer, Line, New, Outcome, Reference, Shown};

/// The sides, in their order.
const STORES: [&str; 2] = ["SQLite", "PostgreSQL"];
const SEEDS: u64 = 100;
const ACTIONS: usize = 100;
const WORKERS: usize = 3;
const TASKS_MAX: usize = 8;
/// More than there are.
const ALL: usize = 1_000;

#[tokio::test]
async fn sqlite_postgresql_and_the_reference_agree() {
    let only = std::env::var("TASKER_SEED").map(|seed| seed.parse::<u64>().unwrap());
    let seeds = only.map_or(0..SEEDS, |only| only..only + 1);
    let sides = [sqlite_in_memory().await, postgres().await];
    for seed in seeds {
        // Shown only if the test fails.
        println!("seed {seed}");
        World::new(&sides, seed).await.run().await;
    }
}

/// A store, and what only it knows of the workers and of what they hold.
struct Side {
    f: Fixture,
    workers: Vec<Worker>,
    held: HashMap<Attempt, ClaimedStep>,
}

struct World {
    rng: StdRng,
    defined: Vec<Defined>,
    reference: Reference,
    sides: Vec<Side>,
    /// Which definitions each worker can run.
    runs: Vec<Vec<usize>>,
    workers: Vec<WorkerId>,
    /// What each worker believes to hold.
    held: Vec<Vec<Attempt>>,
    tasks: Vec<TaskId>,
}

impl World {
    async fn new(fixtures: &[Fixture], seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let sources: Vec<_> = (0..rng.random_range(1..=3))
            .map(|number| {
                let mut source = random_definition(&mut rng, &format!("agree-{seed}-{number}"));
                source.deadline_ms = None;
                source
            })
            .collect();
        let handlers = 0..sources.len();
        let runs: Vec<Vec<usize>> = (0..WORKERS)
            .map(|worker| {
                let known = |_: &usize| worker == 0 || rng.random_bool(0.7);
                handlers.clone().filter(known).collect()
            })
            .collect();
        let ids: Vec<_> = runs.iter().map(|_| fixtures[0].worker(&[]).id).collect();
        let (mut sides, mut defined) = (Vec::new(), Vec::new());
        for f in fixtures {
            // Each store numbers definitions by itself.
            defined = Vec::new();
            for source in &sources {
                defined.push(f.register(source.clone()).await);
            }
            let mut workers = Vec::new();
            for (id, known) in ids.iter().zip(&runs) {
                let can_run: Vec<_> = known.iter().map(|number| &defined[*number]).collect();
                workers.push(Worker::new(*id, &can_run));
            }
            sides.push(Side {
                f: f.clone(),
                workers,
                held: HashMap::new(),
            });
        }
        World {
            rng,
            defined,
            reference: Reference::default(),
            sides,
            runs,
            workers: ids,
            held: vec![Vec::new(); WORKERS],
            tasks: Vec::new(),
        }
    }

    async fn run(mut self) {
        self.create().await;
        for _ in 0..ACTIONS {
            match self.rng.random_range(0..100) {
                0..6 => self.create().await,
                6..30 => self.claim().await,
                30..65 => self.complete().await,
                65..75 => self.advance(),
                75..80 => self.heartbeat().await,
                80..83 => self.crash(),
                83..86 => self.signal().await,
                _ => self.order().await,
            }
        }
        self.compare().await;
    }

    fn now(&self) -> jiff::Timestamp {
        self.sides[0].f.now()
    }

    /// Somebody with so many slots.
    fn claimer(&self, who: usize, slots: usize) -> Claimer {
        Claimer {
            worker: self.workers[who],
            runs: self.runs[who].clone(),
            slots,
            lease: SignedDuration::from_millis(LEASE_MS.cast_signed()),
        }
    }

    /// Somebody, and perhaps a budget of theirs.
    fn budget(&mut self) -> (usize, Option<Claimer>) {
        let who = self.rng.random_range(0..WORKERS);
        let slots = self.rng.random_range(0..6);
        let by = self.claimer(who, slots);
        (who, self.rng.random_bool(0.6).then_some(by))
    }

    /// Every store's answer is the reference's.
    fn agree(&mut self, who: usize, mut outcome: Outcome, answers: Vec<Progress>) {
        outcome.claimed.sort_unstable();
        outcome.finished.sort_unstable_by_key(|(id, _)| *id);
        for (side, progress) in self.sides.iter_mut().zip(answers) {
            let attempt = |step: &ClaimedStep| (step.lease.step, step.lease.attempt);
            let mut answer = Outcome {
                claimed: progress.claimed.iter().map(attempt).collect(),
                finished: progress.finished,
            };
            answer.claimed.sort_unstable();
            answer.finished.sort_unstable_by_key(|(id, _)| *id);
            assert_eq!(answer, outcome);
            let held = progress.claimed.into_iter();
            side.held.extend(held.map(|step| (attempt(&step), step)));
        }
        self.held[who].extend(outcome.claimed);
    }

    async fn create(&mut self) {
        if self.tasks.len() >= TASKS_MAX {
            return;
        }
        let mut new: Vec<(usize, NewTask)> = Vec::new();
        for _ in 0..self.rng.random_range(1..=2) {
            let number = self.rng.random_range(0..self.defined.len());
            let task = random_task(&self.sides[0].f, &mut self.rng, &self.defined[number]);
            new.push((number, task));
        }
        let (who, by) = self.budget();
        let (now, mut outcome) = (self.now(), Outcome::default());
        for (number, task) in &new {
            let template = &self.defined[*number].template;
            let steps = template.source().steps.iter();
            let names = task.request.request.bypass_steps.iter();
            let mut new = New {
                id: task.task_id,
                handler: *number,
                dag: template.dag(),
                rules: template
                    .source()
                    .steps
                    .iter()
                    .map(|step| step.trigger_rule)
                    .collect(),
                limits: steps.map(|step| step.retry.attempt_limit()).collect(),
                bypassed: names.map(|n| template.position(n).unwrap()).collect(),
            };
            new.bypassed.sort_unstable();
            self.reference.create(now, &new, by.as_ref(), &mut outcome);
            self.tasks.push(task.task_id);
        }
        let tasks: Vec<NewTask> = new.into_iter().map(|(_, task)| task).collect();
        let mut answers = Vec::new();
        for side in &self.sides {
            let budget = side.budget(who, by.as_ref(), false);
            let created = side.f.store.create(tasks.clone(), budget).await;
            answers.push(created.unwrap().1);
        }
        self.agree(who, outcome, answers);
    }

    async fn claim(&mut self) {
        let who = self.rng.random_range(0..WORKERS);
        let slots = self.rng.random_range(1..6);
        let mut by = self.claimer(who, slots);
        let now = self.now();
        let (mut after, mut outcome) = (self.reference.clone(), Outcome::default());
        let due = after.due(now, &by.runs);
        after.claim(now, &by, &mut outcome);
        // Which of those that became due at the same moment come first is nobody's business, so
        // all of them are taken.
        let claimed = |key| outcome.claimed.iter().any(|(known, _)| *known == key);
        let last = due.iter().rev().find(|(_, key)| claimed(*key));
        let tie = |(at, key): &(_, _)| last.is_some_and(|(last, _)| last == at) && !claimed(*key);
        if due.iter().any(tie) {
            by.slots = ALL;
            (after, outcome) = (self.reference.clone(), Outcome::default());
            after.claim(now, &by, &mut outcome);
        }
        after.roll_up(now, &mut outcome);
        self.reference = after;
        let mut answers = Vec::new();
        for side in &self.sides {
            let progress = side.f.claim(&side.workers[who], by.slots).await;
            answers.push(progress);
        }
        self.agree(who, outcome, answers);
    }

    async fn complete(&mut self) {
        let (who, by) = self.budget();
        let mut ends: Vec<(Attempt, Settlement)> = Vec::new();
        for _ in 0..self.rng.random_range(0..4) {
            let held = &mut self.held[who];
            if held.is_empty() {
                break;
            }
            let attempt = held.swap_remove(self.rng.random_range(0..held.len()));
            let claimed = &self.sides[0].held[&attempt];
            ends.push((attempt, random_settlement(&mut self.rng, claimed)));
        }
        let (now, worker) = (self.now(), self.workers[who]);
        let mut outcome = Outcome::default();
        let recorded: Vec<Recorded> = ends
            .iter()
            .map(|(attempt, settlement)| {
                let counts = self.reference.end(now, worker, *attempt, settlement);
                if counts {
                    Recorded::Yes
                } else {
                    Recorded::LeaseLost
                }
            })
            .collect();
        self.reference.ripen(now, by.as_ref(), &mut outcome);
        self.reference.roll_up(now, &mut outcome);
        let mut answers = Vec::new();
        for side in &self.sides {
            let completions = ends
                .iter()
                .map(|(attempt, settlement)| Completion {
                    lease: side.held[attempt].lease,
                    settlement: settlement.clone(),
                    log: None,
                    annotations: Vec::new(),
                    context: None,
                })
                .collect();
            let budget = side.budget(who, by.as_ref(), false);
            let answer = side.f.store.complete(worker, completions, budget).await;
            let (answer, progress) = answer.unwrap();
            assert_eq!(answer, recorded);
            answers.push(progress);
        }
        self.agree(who, outcome, answers);
    }

    fn advance(&mut self) {
        let by = [0, 1, 500, 3_000, 20_000, LEASE_MS, 2 * LEASE_MS];
        let by = ms(by[self.rng.random_range(0..by.len())]);
        self.sides.iter().for_each(|side| side.f.clock.advance(by));
    }

    async fn heartbeat(&mut self) {
        let who = self.rng.random_range(0..WORKERS);
        let (worker, until) = (self.workers[who], self.sides[0].f.now_and(LEASE_MS));
        let lost: Vec<Attempt> = self.held[who]
            .iter()
            .copied()
            .filter(|attempt| !self.reference.renew(worker, *attempt, until))
            .collect();
        for side in &self.sides {
            let leases = self.held[who].iter().map(|held| side.held[held].lease);
            let answer = side.f.store.heartbeat(worker, leases.collect(), LEASE_MS);
            let answer: Vec<Attempt> = answer
                .await
                .unwrap()
                .iter()
                .map(|lease| (lease.step, lease.attempt))
                .collect();
            assert_eq!(answer, lost);
        }
    }

    /// A worker forgets what it was doing.
    fn crash(&mut self) {
        let who = self.rng.random_range(0..WORKERS);
        self.held[who].clear();
    }

    async fn order(&mut self) {
        let task = self.tasks[self.rng.random_range(0..self.tasks.len())];
        let detail = self.sides[0].f.detail(task).await;
        let order = random_order(&mut self.rng, &detail);
        let expected = self.reference.order(self.now(), task, &order);
        for side in &self.sides {
            match side.f.order(task, order.clone()).await {
                Ok(state) => assert_eq!(Some(state), expected, "{order:?}"),
                Err(StoreError::IllegalMove(_) | StoreError::Refused(_)) => {
                    assert_eq!(expected, None, "{order:?}");
                }
                Err(error) => panic!("{order:?}: {error}"),
            }
        }
    }

    async fn signal(&mut self) {
        let task = self.tasks[self.rng.random_range(0..self.tasks.len())];
        let name = random_signal(&mut self.rng);
        let expected = self.reference.signal(self.now(), task, &name);
        for side in &self.sides {
            let signal = Signal {
                name: name.clone(),
                payload: text(&json!("yes")),
                by: "ada".to_owned(),
            };
            match side.f.store.signal(task, signal).await {
                Ok(answer) => assert_eq!(Some(answer), expected),
                Err(StoreError::Refused(_)) => assert_eq!(expected, None),
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn compare(&self) {
        for task in &self.tasks {
            for (side, store) in self.sides.iter().zip(STORES) {
                let detail = side.f.detail(*task).await;
                let history = in_order(detail.transitions.iter().map(told).collect());
                let expected = in_order(self.reference.history(*task).to_vec());
                assert_eq!(history, expected, "{store}: {task}");
                assert_eq!(detail.task.summary.state, self.reference.state(*task));
                let steps: Vec<Shown> = detail
                    .steps
                    .iter()
                    .map(|s| {
                        let counts = (s.attempts, s.attempt_limit, s.lost_attempts);
                        (s.state, counts, s.due_at, s.failure)
                    })
                    .collect();
                assert_eq!(steps, self.reference.steps(*task), "{store}: {task}");
            }
        }
    }
}

impl Side {
    fn budget(&self, who: usize, by: Option<&Claimer>, also_due: bool) -> Option<ClaimBudget> {
        by.map(|by| ClaimBudget {
            also_due,
            ..self.workers[who].slots(by.slots)
        })
    }
}

/// A history in which what happened to each step at one moment stands together: which step came first
/// then is nobody's business.
fn in_order(mut history: Vec<Line>) -> Vec<Line> {
    history.sort_by_key(|line| (line.at, line.step));
    history
}

fn told(transition: &Transition) -> Line {
    let (step, to) = match transition.change {
        Change::Task { to, .. } => (None, to.as_str()),
        Change::Step { position, to, .. } => (Some(position), to.as_str()),
    };
    Line {
        at: transition.at,
        step,
        to,
        attempt: transition.attempt,
        why: transition.reason.map_or("", |reason| reason.as_str()),
    }
}
