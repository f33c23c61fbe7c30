//! Random tasks, workers and orders: after every action, what SQL keeps is what the model says.
//!
//! Every claim is compared with `readiness` over the steps as they were just before; every task
//! is audited every few actions; in the end, when handlers stop failing, every task is final.
//! `TASKER_SEED=17` runs one seed alone.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tasker_model::id::{Position, StepKey, TaskId};
use tasker_model::lease::{DueStep, OnClaim, on_claim};
use tasker_model::name::{SignalName, StepName};
use tasker_model::outcome::{Failure, FailureKind, Outcome, Settlement, SkipCause, settle};
use tasker_model::readiness::readiness;
use tasker_model::request::TaskRequest;
use tasker_model::rollup::StepTally;
use tasker_model::step::StepState;
use tasker_model::template::{StepTemplate, TemplateSource};
use tasker_model::trigger::TriggerRule;
use tasker_model::wait::{Until, Wait};
use tasker_store::record::{StepRecord, TaskDetail};
use tasker_store::store::{
    ClaimBudget, ClaimedStep, Completion, Created, Lease, NewTask, Order, Progress, Recorded,
    Signal, Signalled,
};
use tasker_store::{StoreError, audit};

use crate::fixture::{Defined, Fixture, LEASE_MS, Worker, ms, source, succeed, text};

const ACTIONS: usize = 120;
const WORKERS: usize = 3;
/// Larger than any task: a claim with so many slots takes all that may be taken.
const ALL: usize = 1_000;

pub(crate) async fn seeds_from_0(f: Fixture) {
    run_seeds(&f, 0..15).await;
}

pub(crate) async fn seeds_from_15(f: Fixture) {
    run_seeds(&f, 15..30).await;
}

pub(crate) async fn seeds_from_30(f: Fixture) {
    run_seeds(&f, 30..45).await;
}

pub(crate) async fn seeds_from_45(f: Fixture) {
    run_seeds(&f, 45..60).await;
}

/// Leaves random tasks as they are in the middle of their lives.
pub(crate) async fn midway(f: &Fixture, seed: u64) {
    World::new(f.clone(), seed).await.act().await;
}

async fn run_seeds(f: &Fixture, seeds: std::ops::Range<u64>) {
    let only = std::env::var("TASKER_SEED")
        .ok()
        .map(|seed| seed.parse::<u64>().unwrap());
    for seed in seeds.filter(|seed| only.is_none_or(|only| only == *seed)) {
        let running = Running { seed };
        World::new(f.clone(), seed).await.run().await;
        drop(running);
    }
}

/// Says which seed failed.
struct Running {
    seed: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "this was seed {}; run it alone with TASKER_SEED={0}",
                self.seed
            );
        }
    }
}

struct Busy {
    worker: Worker,
    held: Vec<ClaimedStep>,
}

struct World {
    f: Fixture,
    rng: StdRng,
    defined: Vec<Defined>,
    tasks: Vec<(TaskId, usize)>,
    workers: Vec<Busy>,
}

impl World {
    async fn new(f: Fixture, seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut defined = Vec::new();
        for number in 0..rng.random_range(1..=3) {
            let source = random_definition(&mut rng, &format!("random-{seed}-{number}"));
            defined.push(f.register(source).await);
        }
        let mut workers = Vec::new();
        for number in 0..WORKERS {
            // The first can run everything, the others perhaps not.
            let known = |rng: &mut StdRng| number == 0 || rng.random_bool(0.7);
            let can_run: Vec<_> = defined.iter().filter(|_| known(&mut rng)).collect();
            workers.push(Busy {
                worker: f.worker(&can_run),
                held: Vec::new(),
            });
        }
        World {
            f,
            rng,
            defined,
            tasks: Vec::new(),
            workers,
        }
    }

    async fn run(mut self) {
        self.act().await;
        self.drive_to_the_end().await;
    }

    async fn act(&mut self) {
        self.create().await;
        for action in 0..ACTIONS {
            match self.rng.random_range(0..100) {
                0..8 => self.create().await,
                8..32 => self.claim().await,
                32..60 => self.complete().await,
                60..70 => self.advance(),
                70..75 => self.heartbeat().await,
                75..78 => self.crash(),
                78..81 => self.signal().await,
                _ => self.order().await,
            }
            if action % 4 == 0 {
                self.check().await;
            }
        }
    }

    async fn create(&mut self) {
        if self.tasks.len() >= 10 {
            return;
        }
        let mut new = Vec::new();
        for _ in 0..self.rng.random_range(1..=2) {
            let number = self.rng.random_range(0..self.defined.len());
            new.push((
                number,
                random_task(&self.f, &mut self.rng, &self.defined[number]),
            ));
        }
        let ids = new.iter().map(|(number, task)| (task.task_id, *number));
        self.tasks.extend(ids);
        let tasks: Vec<NewTask> = new.into_iter().map(|(_, task)| task).collect();
        let expected: Vec<_> = tasks
            .iter()
            .map(|task| Created::New(task.task_id))
            .collect();
        let (who, budget) = self.random_budget();
        let (created, progress) = self.f.store.create(tasks, budget).await.unwrap();
        assert_eq!(created, expected);
        self.hold(who, progress);
    }

    /// Somebody, and perhaps a budget of theirs.
    fn random_budget(&mut self) -> (usize, Option<ClaimBudget>) {
        let who = self.rng.random_range(0..WORKERS);
        let slots = self.rng.random_range(0..5);
        let also_due = self.rng.random_bool(0.3);
        let budget = ClaimBudget {
            also_due,
            ..self.workers[who].worker.slots(slots)
        };
        (who, self.rng.random_bool(0.7).then_some(budget))
    }

    async fn signal(&mut self) {
        let (task, _) = self.tasks[self.rng.random_range(0..self.tasks.len())];
        let name = random_signal(&mut self.rng);
        let detail = self.f.detail(task).await;
        let is_known = detail.signals.iter().any(|known| known.name == name);
        let waits =
            |step: &StepRecord| step.awaits.as_ref() == Some(&name) && step.due_at.is_some();
        let expected = match (is_known, detail.steps.iter().any(waits)) {
            _ if detail.task.summary.state.is_final() => None,
            (true, _) => Some(Signalled::Known),
            (false, true) => Some(Signalled::Delivered),
            (false, false) => Some(Signalled::Kept),
        };
        let payload = text(&json!({"approved": true}));
        let by = "ada".to_owned();
        let answer = self
            .f
            .store
            .signal(task, Signal { name, payload, by })
            .await;
        match answer {
            Ok(answer) => assert_eq!(Some(answer), expected),
            Err(StoreError::Refused(_)) => assert_eq!(expected, None),
            Err(error) => panic!("{error}"),
        }
    }

    fn hold(&mut self, who: usize, progress: Progress) {
        self.workers[who].held.extend(progress.claimed);
    }

    /// What a claim by this worker may take now, by the model: the steps with the times at which
    /// they became due, and whether a step is given up instead, whose children may be due by it.
    async fn claimable(&self, worker: &Worker) -> (Vec<(jiff::Timestamp, StepKey)>, bool) {
        let mut gives_up = false;
        let (now, budget) = (self.f.now(), worker.slots(1));
        let mut found = Vec::new();
        for (task, number) in &self.tasks {
            if !budget.runnable.contains(&self.defined[*number].runnable) {
                continue;
            }
            let detail = self.f.detail(*task).await;
            if detail
                .task
                .deadline_at
                .is_some_and(|deadline| deadline <= now)
            {
                continue;
            }
            for step in &detail.steps {
                let is_claimable = readiness(step.facts(), now).is_claimable();
                gives_up |= is_claimable && !runs(step);
                if is_claimable && runs(step) {
                    let due = step.due_at.expect("what is claimable is due");
                    found.push((due, StepKey::new(*task, step.position)));
                }
            }
        }
        found.sort_unstable();
        (found, gives_up)
    }

    async fn claim(&mut self) {
        let who = self.rng.random_range(0..WORKERS);
        let slots = if self.rng.random_bool(0.3) {
            ALL
        } else {
            self.rng.random_range(1..6)
        };
        self.claim_as(who, slots).await;
    }

    async fn claim_as(&mut self, who: usize, slots: usize) -> Progress {
        let worker = self.workers[who].worker.clone();
        let (expected, gives_up) = self.claimable(&worker).await;
        let progress = self.f.claim(&worker, slots).await;
        let mut given: Vec<_> = progress.claimed.iter().map(|c| c.lease.step).collect();
        if gives_up {
            given.retain(|step| expected.iter().any(|(_, known)| known == step));
        }
        assert_eq!(
            given.len(),
            expected.len().min(slots),
            "of {expected:?}, {given:?}"
        );
        let due = |step: &StepKey| {
            expected
                .iter()
                .find(|(_, key)| key == step)
                .map(|(d, _)| *d)
        };
        let times: Vec<_> = given
            .iter()
            .map(|step| due(step).expect("it was not due"))
            .collect();
        // Which of those that became due at the same moment come first is nobody's business.
        let oldest: Vec<_> = expected.iter().map(|(due, _)| *due).take(slots).collect();
        assert_eq!(times, oldest, "the oldest first");
        let claimed: BTreeSet<_> = progress.claimed.iter().map(|c| c.lease.step).collect();
        assert_eq!(claimed.len(), progress.claimed.len(), "nothing twice");
        let held = progress.claimed.clone();
        self.workers[who].held.extend(held);
        progress
    }

    async fn complete(&mut self) {
        let (who, budget) = self.random_budget();
        let mut ends = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..self.rng.random_range(0..4) {
            let held = self.workers[who].held.len();
            if held == 0 {
                break;
            }
            let number = self.rng.random_range(0..held);
            let step = self.workers[who].held.swap_remove(number);
            expected.push(if self.holds(who, step.lease).await {
                Recorded::Yes
            } else {
                Recorded::LeaseLost
            });
            let settlement = random_settlement(&mut self.rng, &step);
            ends.push(Completion {
                lease: step.lease,
                settlement,
                log: None,
                annotations: Vec::new(),
                context: self.rng.random_bool(0.5).then(|| step.context.clone()),
            });
        }
        let worker = self.workers[who].worker.id;
        let done = self.f.store.complete(worker, ends, budget).await;
        let (recorded, progress) = done.unwrap();
        assert_eq!(recorded, expected);
        self.hold(who, progress);
    }

    /// Whether a worker still has the right to finish an attempt.
    async fn holds(&self, who: usize, lease: Lease) -> bool {
        let step = self.f.step(lease.step.task_id, lease.step.position).await;
        step.state == StepState::InProgress
            && step.worker == Some(self.workers[who].worker.id)
            && step.attempts == lease.attempt
    }

    fn advance(&mut self) {
        let by = [0, 1, 500, 3_000, 20_000, LEASE_MS, 2 * LEASE_MS];
        self.f
            .clock
            .advance(ms(by[self.rng.random_range(0..by.len())]));
    }

    async fn heartbeat(&mut self) {
        let who = self.rng.random_range(0..WORKERS);
        let leases: Vec<_> = self.workers[who]
            .held
            .iter()
            .map(|step| step.lease)
            .collect();
        let mut expected = Vec::new();
        for lease in &leases {
            if !self.holds(who, *lease).await {
                expected.push(*lease);
            }
        }
        let worker = self.workers[who].worker.id;
        let lost = self
            .f
            .store
            .heartbeat(worker, leases, LEASE_MS)
            .await
            .unwrap();
        assert_eq!(lost, expected);
    }

    /// A worker forgets what it was doing, and comes back as another.
    fn crash(&mut self) {
        let who = self.rng.random_range(0..WORKERS);
        self.workers[who].held.clear();
    }

    async fn order(&mut self) {
        let mut before = self.random_task().await;
        if !before.task.summary.state.is_final() && self.rng.random_bool(0.5) {
            before = self.random_task().await;
        }
        let task = before.task.summary.task_id;
        let order = random_order(&mut self.rng, &before);
        match self.f.order(task, order.clone()).await {
            Ok(state) => assert_eq!(self.f.state(task).await, state),
            Err(StoreError::IllegalMove(_) | StoreError::Refused(_)) => {
                let before = serde_json::to_string_pretty(&before).unwrap();
                assert_eq!(
                    self.f.as_text(task).await,
                    before,
                    "refused, and yet: {order:?}"
                );
            }
            Err(error) => panic!("{order:?}: {error}"),
        }
    }

    async fn random_task(&mut self) -> TaskDetail {
        let (task, _) = self.tasks[self.rng.random_range(0..self.tasks.len())];
        self.f.detail(task).await
    }

    async fn check(&self) {
        for (task, number) in &self.tasks {
            let detail = self.f.detail(*task).await;
            let kept = StepTally::from(detail.task.summary.steps);
            assert_eq!(
                kept,
                StepTally::of(detail.steps.iter().map(StepRecord::facts))
            );
            let violations = audit::check(&detail, &self.defined[*number].template);
            if !violations.is_empty() {
                let found: Vec<_> = violations.iter().map(ToString::to_string).collect();
                panic!("{found:#?} in {}", self.f.as_text(*task).await);
            }
        }
    }

    /// Handlers stop failing, workers come back: everything ends.
    async fn drive_to_the_end(mut self) {
        self.workers.iter_mut().for_each(|busy| busy.held.clear());
        for _ in 0..1_000 {
            let progress = self.claim_as(0, ALL).await;
            let worker = self.workers[0].worker.clone();
            for step in self.workers[0].held.split_off(0) {
                self.f.settle(&worker, &step, succeed(&json!(true))).await;
            }
            if progress.claimed.is_empty() {
                let Some(next) = progress.next_due else {
                    break;
                };
                let wait = next.duration_since(self.f.now());
                self.f.clock.advance(wait.try_into().unwrap());
            }
        }
        self.check().await;
        for (task, _) in &self.tasks {
            let state = self.f.state(*task).await;
            assert!(state.is_final(), "{state}: {}", self.f.as_text(*task).await);
        }
    }
}

/// Whether a claim starts this step, rather than giving it up.
fn runs(step: &StepRecord) -> bool {
    let due = DueStep {
        state: step.state,
        attempts: step.attempts,
        attempt_limit: step.attempt_limit,
        lost_attempts: step.lost_attempts,
    };
    matches!(on_claim(due), OnClaim::Run { .. })
}

/// A DAG of up to 30 steps, defined in any order.
pub(crate) fn random_definition(rng: &mut StdRng, name: &str) -> TemplateSource {
    // Among few steps, the rare states of a task as a whole are not so rare.
    let largest = [2, 4, 30][rng.random_range(0..3)];
    let count = rng.random_range(1..=largest);
    let density = rng.random_range(0.0..1.5) / f64::from(count);
    let with_rules = rng.random_bool(0.6);
    let mut steps = Vec::new();
    for number in 0..count {
        let mut step = StepTemplate::named(StepName::new(format!("s{number}")).unwrap());
        step.skippable = true;
        step.retry.limit = rng.random_range(1..=5);
        step.retry.retryable = rng.random_bool(0.9);
        for parent in 0..number {
            if rng.random_bool(density.min(1.0)) {
                step.depends_on_steps.push(format!("s{parent}"));
            }
        }
        // A chain through some of it, for depth.
        if number > 0 && rng.random_bool(0.3) {
            step.depends_on_steps.push(format!("s{}", number - 1));
        }
        step.depends_on_steps.shuffle(rng);
        if with_rules && rng.random_bool(0.6) {
            step.trigger_rule = random_rule(rng, &step.depends_on_steps);
        }
        steps.push(step);
    }
    steps.shuffle(rng);
    let deadline_ms = rng
        .random_bool(0.2)
        .then(|| rng.random_range(10_000..200_000));
    TemplateSource {
        deadline_ms,
        steps,
        ..source(name, &[])
    }
}

fn random_rule(rng: &mut StdRng, parents: &[String]) -> TriggerRule {
    let parents: BTreeSet<&String> = parents.iter().collect();
    let most = u32::try_from(parents.len()).unwrap();
    match rng.random_range(0..5) {
        0 => TriggerRule::AllSuccess,
        1 => TriggerRule::AnySuccess,
        2 => TriggerRule::AnyFailed,
        3 if most > 0 => TriggerRule::AtLeast(rng.random_range(1..=most)),
        _ => TriggerRule::AllDone,
    }
}

/// One of few, so that they meet.
pub(crate) fn random_signal(rng: &mut StdRng) -> SignalName {
    let names = ["approval", "delivery"];
    SignalName::new(names[rng.random_range(0..names.len())]).unwrap()
}

pub(crate) fn random_task(f: &Fixture, rng: &mut StdRng, defined: &Defined) -> NewTask {
    let source = defined.template.source();
    let share = if rng.random_bool(0.3) { 0.3 } else { 0.0 };
    let names = source
        .steps
        .iter()
        .map(|step| step.name.as_str().to_owned());
    let bypass_steps = names.filter(|_| rng.random_bool(share)).collect();
    let request = TaskRequest {
        bypass_steps,
        ..TaskRequest::new(source.name.as_str())
    };
    f.asked(defined, request)
}

/// What an engine would make of a random outcome, by the limit that it knows.
pub(crate) fn random_settlement(rng: &mut StdRng, step: &ClaimedStep) -> Settlement {
    let outcome = match rng.random_range(0..100) {
        0..60 => Outcome::Completed {
            result: text(&json!({"attempt": step.lease.attempt})),
        },
        60..84 => Outcome::Failed(Failure::new(FailureKind::Retryable, "try again")),
        84..92 => Outcome::Failed(Failure::new(FailureKind::Permanent, "never again")),
        92..94 => Outcome::Skipped {
            cause: SkipCause::Condition,
        },
        94..97 => Outcome::Waiting(Wait {
            until: Until::After(rng.random_range(0..20_000)),
            signal: rng.random_bool(0.7).then(|| random_signal(rng)),
        }),
        _ => Outcome::HandedBack,
    };
    let policy = &step.template.step(step.lease.step.position).retry;
    let chance = rng.random_range(0.0..1.0);
    settle(
        outcome,
        step.lease.attempt,
        step.attempt_limit,
        policy,
        chance,
    )
}

pub(crate) fn random_order(rng: &mut StdRng, detail: &TaskDetail) -> Order {
    // Failed steps are what people look at.
    let mut steps: Vec<_> = detail.steps.iter().collect();
    steps.shuffle(rng);
    steps
        .sort_by_cached_key(|step| Reverse(step.state == StepState::Error && rng.random_bool(0.7)));
    let position: Position = steps[0].position;
    match rng.random_range(0..100) {
        0..3 => Order::CancelTask,
        3..15 => Order::RetryTask,
        15..17 => Order::ResolveTask,
        17..24 => Order::CancelStep(position),
        24..50 => Order::RetryStep {
            position,
            attempts: rng.random_range(0..4),
        },
        50..67 => Order::ResolveStep {
            position,
            result: rng.random_bool(0.5).then(|| text(&json!("by hand"))),
        },
        67..80 => Order::SkipStep(position),
        _ => {
            // Also while the last attempt runs.
            steps.sort_by_key(|step| Reverse(step.state == StepState::InProgress));
            let step = steps[rng.random_range(0..steps.len().min(3))];
            Order::RaiseLimit {
                position: step.position,
                attempt_limit: step.attempt_limit + rng.random_range(0..3),
            }
        }
    }
}
