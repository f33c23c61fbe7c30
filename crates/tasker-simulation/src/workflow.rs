//! Random task handlers, and what their steps do: succeed, fail, panic, hang, take their time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tasker::model::id::StepKey;
use tasker::model::retry::Backoff;
use tasker::model::subtask::Gather;
use tasker::model::template::MapOver;
use tasker::model::trigger::TriggerRule;
use tasker::{
    PermanentError, RetryableError, Step, StepContext, StepResult, TaskHandler, TaskRequest,
};

use crate::chance::Chance;
use crate::ledger::{Execution, Ledger};
use crate::plan::Handlers;
use crate::process::Process;

/// A step that hangs does so for so long, if nobody stops it.
const HANGS: Duration = Duration::from_hours(1);

/// The definition of a task handler, still without code.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    pub(crate) namespace: String,
    pub(crate) name: String,
    steps: Vec<Node>,
    deadline: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Node {
    parents: Vec<usize>,
    limit: u32,
    retryable: bool,
    backoff: Backoff,
    timeout: Option<Duration>,
    rule: TriggerRule,
    waits: Waits,
    starts: Starts,
    can_be_undone: bool,
    point_of_no_return: bool,
}

/// What a step starts.
#[derive(Debug, Clone)]
enum Starts {
    Nothing,
    /// A task of another task handler, by its name.
    Task(String),
    /// One task for each item of a list.
    Items(MapOver),
}

/// What a step waits for before it starts.
#[derive(Debug, Clone, Copy)]
enum Waits {
    Nothing,
    Delay(Duration),
    /// At most so long; then it goes on, or fails.
    Signal(Duration, bool),
}

/// The signal that steps wait for.
pub(crate) const SIGNAL: &str = "go";

impl Definition {
    /// Draws a definition; its steps may start tasks of `others`.
    pub(crate) fn draw(
        chance: &mut Chance,
        namespace: &str,
        name: String,
        others: &[Definition],
    ) -> Definition {
        let parents = draw_shape(chance);
        let timed = chance.happens(0.3);
        let ruled = chance.happens(0.5);
        let waiting = chance.happens(0.4);
        let starting = chance.happens(0.5);
        let undoing = chance.happens(0.5);
        let steps = parents
            .into_iter()
            .map(|parents| Node {
                rule: if ruled {
                    draw_rule(chance, parents.len())
                } else {
                    TriggerRule::default()
                },
                waits: if waiting {
                    draw_waits(chance)
                } else {
                    Waits::Nothing
                },
                starts: if starting {
                    draw_starts(chance, others)
                } else {
                    Starts::Nothing
                },
                can_be_undone: undoing && chance.happens(0.5),
                point_of_no_return: undoing && chance.happens(0.05),
                parents,
                limit: chance.number(1..=5),
                retryable: chance.happens(0.9),
                backoff: draw_backoff(chance),
                timeout: (timed && chance.happens(0.5))
                    .then(|| Duration::from_millis(chance.number(50..20_000))),
            })
            .collect();
        let deadline = chance
            .happens(0.1)
            .then(|| Duration::from_secs(chance.number(5..600)));
        Definition {
            namespace: namespace.to_owned(),
            name,
            steps,
            deadline,
        }
    }

    /// The names of its steps.
    pub(crate) fn step_names(&self) -> Vec<String> {
        (0..self.steps.len()).map(step_name).collect()
    }

    /// The task handler as a process runs it.
    pub(crate) fn handler(&self, stage: &Stage) -> TaskHandler {
        let mut definition = TaskHandler::new(&self.namespace, &self.name, "1.0.0");
        if let Some(deadline) = self.deadline {
            definition = definition.deadline(deadline);
        }
        for (number, node) in self.steps.iter().enumerate() {
            let (stage, stage_of_undo) = (stage.clone(), stage.clone());
            let parents: Vec<String> = node.parents.iter().copied().map(step_name).collect();
            let part = match &node.starts {
                Starts::Nothing => Part::Step(parents.clone()),
                Starts::Task(other) => {
                    Part::Asks(parents.clone(), self.namespace.clone(), other.clone())
                }
                Starts::Items(_) => Part::Item,
            };
            let mut step = Step::new(step_name(number), move |context| {
                perform(stage.clone(), part.clone(), context)
            })
            .depends_on_steps(parents)
            .retry_limit(node.limit)
            .retryable(node.retryable)
            .backoff(node.backoff.clone())
            .trigger_rule(node.rule)
            .skippable(true);
            step = match &node.starts {
                Starts::Nothing => step,
                Starts::Task(_) => step.starts_task(),
                Starts::Items(list) => step.map_over(list.clone()),
            };
            if node.can_be_undone {
                let stage = stage_of_undo;
                let undo = Step::new(format!("u{number}"), move |context| {
                    perform(stage.clone(), Part::Undo, context)
                });
                let backoff = Backoff::Fixed { delay_ms: 1_000 };
                step = step.undo_with(undo.retry_limit(3).backoff(backoff));
            }
            if node.point_of_no_return {
                step = step.point_of_no_return();
            }
            step = match node.waits {
                Waits::Nothing => step,
                Waits::Delay(delay) => step.delay(delay),
                Waits::Signal(timeout, true) => step.wait_for_or(SIGNAL, timeout, json!(null)),
                Waits::Signal(timeout, false) => step.wait_for_within(SIGNAL, timeout),
            };
            if let Some(timeout) = node.timeout {
                step = step.timeout(timeout);
            }
            definition = definition.step(step);
        }
        definition.build().expect("invariant: drawn to be valid")
    }
}

fn step_name(number: usize) -> String {
    format!("s{number}")
}

/// The parents of each step: a line, a fan, a diamond of diamonds, or anything.
fn draw_shape(chance: &mut Chance) -> Vec<Vec<usize>> {
    let count = chance.number(1..=12_usize);
    match chance.number(0..5) {
        0 => (0..count)
            .map(|step| (step.saturating_sub(1)..step).collect())
            .collect(),
        // Out of the first, into the last.
        1 => (0..count)
            .map(|step| match step {
                0 => Vec::new(),
                _ if step + 1 == count && count > 2 => (1..step).collect(),
                _ => vec![0],
            })
            .collect(),
        // 0 → 1, 2 → 3 → 4, 5 → 6 …
        2 => (0..count)
            .map(|step| match step % 3 {
                _ if step == 0 => Vec::new(),
                0 => vec![step - 2, step - 1],
                1 => vec![step - 1],
                _ => vec![step - 2],
            })
            .collect(),
        _ => {
            let density = chance.number(0.0..2.0) / count as f64;
            (0..count)
                .map(|step| {
                    (0..step)
                        .filter(|_| chance.happens(density.min(1.0)))
                        .collect()
                })
                .collect()
        }
    }
}

fn draw_rule(chance: &mut Chance, parents: usize) -> TriggerRule {
    let most = u32::try_from(parents).expect("invariant: a few");
    match chance.number(0..8) {
        0 => TriggerRule::AllSuccess,
        1 => TriggerRule::AnySuccess,
        2 => TriggerRule::AnyFailed,
        3 => TriggerRule::AllDone,
        4 if most > 0 => TriggerRule::AtLeast(chance.number(1..=most)),
        _ => TriggerRule::NoneFailed,
    }
}

fn draw_waits(chance: &mut Chance) -> Waits {
    let span = Duration::from_millis(chance.number(0..120_000));
    match chance.number(0..5) {
        0 => Waits::Delay(span),
        1 => Waits::Signal(span, true),
        2 => Waits::Signal(span, false),
        _ => Waits::Nothing,
    }
}

fn draw_starts(chance: &mut Chance, others: &[Definition]) -> Starts {
    match chance.number(0..6) {
        0 if !others.is_empty() => {
            Starts::Task(others[chance.number(0..others.len())].name.clone())
        }
        1 => {
            let items: Vec<String> = (0..chance.number(0..9_u32))
                .map(|n| n.to_string())
                .collect();
            let over = format!(
                "[{}].map(n, {{'request': context.request, 'number': n}})",
                items.join(", ")
            );
            Starts::Items(MapOver {
                concurrency: chance.number(1..5),
                max_failures: chance.one_of(&[0, 0, 1, 3]),
                gather: chance.one_of(&[Gather::List, Gather::List, Gather::Count]),
                ..MapOver::new(over)
            })
        }
        _ => Starts::Nothing,
    }
}

fn draw_backoff(chance: &mut Chance) -> Backoff {
    match chance.number(0..4) {
        0 => Backoff::Fixed { delay_ms: 0 },
        1 => Backoff::Fixed {
            delay_ms: chance.number(1..60_000),
        },
        2 => Backoff::Exponential {
            base_ms: chance.number(1..2_000),
            cap_ms: chance.number(2_000..60_000),
            jitter: 0.5,
        },
        _ => Backoff::default(),
    }
}

/// Where step handlers perform.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) seed: u64,
    pub(crate) process: Arc<Process>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) handlers: Handlers,
    /// Nothing fails any more.
    pub(crate) calm: Arc<AtomicBool>,
}

/// What an attempt does.
#[derive(Debug, Clone, Copy)]
enum Act {
    Succeed,
    Fail {
        retry_after: Option<u32>,
    },
    FailForGood,
    Panic,
    /// Until it is stopped; `heeds`: it notices that it should.
    Hang {
        heeds: bool,
    },
}

#[derive(Debug, Deserialize)]
struct Input {
    request: u64,
}

/// What code is there for.
#[derive(Clone)]
enum Part {
    /// A step, with its parents.
    Step(Vec<String>),
    /// A step that starts a task of this namespace and name.
    Asks(Vec<String>, String, String),
    Item,
    Undo,
}

async fn perform(stage: Stage, part: Part, context: StepContext) -> StepResult<Value> {
    let process = stage.process.clone();
    process.runs().await;
    let input: Input = match part {
        Part::Item => context.item()?,
        _ => context.context()?,
    };
    let request = input.request;
    let (act, time) = stage.draw(request, &part, &context);
    let parents = match &part {
        Part::Step(parents) | Part::Asks(parents, ..) => &parents[..],
        Part::Item | Part::Undo => &[],
    };
    let execution = stage.enter(parents, &context)?;
    match &part {
        Part::Step(_) => {}
        Part::Asks(..) => stage.ledger.count("sub-tasks asked for"),
        Part::Item => stage.ledger.count("items worked on"),
        Part::Undo => stage.ledger.count("steps undone"),
    }
    let note = |what: &str| {
        let (step, attempt) = (context.name(), context.attempt());
        let text = || format!("{process}: request {request} {step} attempt {attempt} {what}");
        stage.ledger.note(text);
    };
    note(&format!("will {act:?} after {time:?}"));
    if !time.is_zero() {
        process.sleep(time).await;
    }
    note("ends");
    match act {
        Act::Succeed => Ok(match part {
            Part::Asks(_, namespace, name) => {
                let request = TaskRequest::new(name).namespace(namespace);
                json!(request.context(json!({ "request": input.request })))
            }
            _ => json!({ "execution": execution }),
        }),
        Act::Fail { retry_after } => {
            let mut error = RetryableError::new("not yet");
            if let Some(seconds) = retry_after {
                error = error.retry_after(f64::from(seconds));
            }
            Err(error.into())
        }
        Act::FailForGood => Err(PermanentError::new("never").into()),
        // As a panic, but without a word on the terminal.
        Act::Panic => std::panic::resume_unwind(Box::new("as planned")),
        Act::Hang { heeds } => {
            tokio::select! {
                biased;
                () = context.cancelled(), if heeds => {}
                () = process.sleep(HANGS) => {}
            }
            Err(RetryableError::new("took too long").into())
        }
    }
}

impl Stage {
    /// What an attempt does, and after which time: the same whoever runs it.
    fn draw(&self, request: u64, part: &Part, context: &StepContext) -> (Act, Duration) {
        let position = context.name()[1..].parse().expect("invariant: named so");
        let attempt = u64::from(context.attempt());
        let index = match (part, context.index()) {
            (Part::Undo, _) => 100,
            (_, None) => 0,
            (_, Some(index)) => 1 + u64::from(index),
        };
        let mut chance = Chance::about(&[self.seed, request, position, index, attempt]);
        let handlers = &self.handlers;
        let at_once = chance.happens(0.2);
        let time = chance.time(&handlers.duration);
        let time = if at_once { Duration::ZERO } else { time };
        if self.calm.load(Ordering::Relaxed) {
            return (Act::Succeed, time.min(Duration::from_millis(20)));
        }
        let act = if chance.happens(handlers.fails) {
            let retry_after = chance.happens(0.2).then(|| chance.number(0..100));
            Act::Fail { retry_after }
        } else if chance.happens(handlers.fails_for_good) {
            Act::FailForGood
        } else if chance.happens(handlers.panics) {
            Act::Panic
        } else if chance.happens(handlers.hangs) {
            let heeds = chance.happens(0.5);
            Act::Hang { heeds }
        } else {
            Act::Succeed
        };
        (act, time)
    }

    /// Notes that an attempt began to run, and what it saw of its parents.
    fn enter(&self, parents: &[String], context: &StepContext) -> StepResult<usize> {
        let mut seen = Vec::with_capacity(parents.len());
        for name in parents {
            let position = name[1..].parse().expect("invariant: named so");
            if let Some(result) = context.parent_json(name)? {
                seen.push((position, result.clone()));
            }
        }
        // Of an item, and of what undoes, the name of the step says nothing of its place.
        let key = context.idempotency_key();
        let position = key
            .rsplit('-')
            .next()
            .and_then(|number| number.parse().ok());
        let position = position.expect("invariant: the key ends with the position");
        self.ledger.count("attempts executed");
        Ok(self.ledger.executed(Execution {
            step: StepKey::new(context.task_id(), position),
            attempt: context.attempt(),
            worker: self.process.worker_id(),
            parents: seen,
        }))
    }
}
