//! The definition of a workflow as data.
//!
//! A [`TaskTemplate`] that exists has been checked as a whole: names, dependencies, policies and
//! schema. It is immutable and identified by the hash of its content; running tasks are pinned
//! to it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::dag::{Dag, DagError};
use crate::id::Position;
use crate::json::{canonical, given};
use crate::name::{Namespace, Queue, StepName, TaskName, Version};
use crate::retry::{InvalidRetryPolicy, RetryPolicy};
use crate::schema::{ContextSchema, InvalidSchema};
use crate::subtask::{Gather, MAP_CONCURRENCY};
use crate::trigger::{ParentEnd, TriggerRule};
use crate::wait::WaitFor;

/// More steps than this in one template are refused.
pub const STEPS_MAX: usize = 100_000;

/// One step of a definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepTemplate {
    /// Unique within the task.
    pub name: StepName,
    /// The registered name of the code that performs the step.
    pub handler: String,
    /// What the step does, for people; the name if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The names of the steps that must be done before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on_steps: Vec<String>,
    /// Which ends of its parents the step starts on.
    #[serde(default, skip_serializing_if = "TriggerRule::is_default")]
    pub trigger_rule: TriggerRule,
    /// A condition in CEL over context and results; if it is false, the step is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What the step waits for once its parents have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitFor>,
    /// Whether, how often and when to try again.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// The longest time of one attempt, in milliseconds; the engine's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Whether a request may bypass the step.
    #[serde(default)]
    pub skippable: bool,
    /// Where workers claim the step; the queue of the task if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// Label of the outside system that the step touches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependent_system: Option<String>,
    /// What the code is told beside the task's context and the parents' results.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub handler_config: Option<Value>,
    /// Events that the code may publish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom_events: Vec<CustomEvent>,
    /// Whether the code's result is a request: the step then starts that task, waits for it, and has
    /// its result.
    #[serde(default, skip_serializing_if = "is_false")]
    pub starts_task: bool,
    /// A list: the code then runs once for each of its items, as a sub-task of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<MapOver>,
    /// What undoes the step if the task fails or is cancelled after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// Whether nothing is undone any more once this step is complete.
    #[serde(default, skip_serializing_if = "is_false")]
    pub point_of_no_return: bool,
}

/// The list that a step runs over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapOver {
    /// An expression in CEL over context and results that gives it.
    pub over: String,
    /// How many items are worked on at the same time.
    #[serde(default = "map_concurrency")]
    pub concurrency: u32,
    /// How many items may fail before the step does.
    #[serde(default)]
    pub max_failures: u32,
    /// What the step's result is made of: [`Gather::List`] or [`Gather::Count`].
    #[serde(default = "list")]
    pub gather: Gather,
}

const fn map_concurrency() -> u32 {
    MAP_CONCURRENCY
}

const fn list() -> Gather {
    Gather::List
}

impl MapOver {
    /// All results of a list, with the default limits.
    pub fn new(over: impl Into<String>) -> MapOver {
        MapOver {
            over: over.into(),
            concurrency: MAP_CONCURRENCY,
            max_failures: 0,
            gather: Gather::List,
        }
    }

    /// Why it could never do what it says.
    pub fn problem(&self) -> Option<&'static str> {
        if self.concurrency == 0 {
            return Some("a map with a concurrency of 0 would never start an item");
        }
        (self.gather == Gather::One).then_some("a map gathers a `list` or a `count`")
    }
}

/// What compensates a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// The registered name of the code.
    pub handler: String,
    /// What the code is told.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub handler_config: Option<Value>,
    /// Whether, how often and when to try again.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// The longest time of one attempt, in milliseconds; the engine's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl Undo {
    /// By this code, with the default policies.
    pub fn by(handler: impl Into<String>) -> Undo {
        Undo {
            handler: handler.into(),
            handler_config: None,
            retry: RetryPolicy::default(),
            timeout_ms: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// An event of the user's own that a step may publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomEvent {
    /// Its name: two or more words with dots between them, such as `payment.risk_flagged`.
    pub name: String,
    /// When it is published, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// Beginnings that belong to the engine's own events (spec 06 §7).
const RESERVED_PREFIXES: [&str; 5] = ["task", "step", "workflow", "observability", "test"];

/// The name cannot be that of a custom event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEventName {
    /// There are no two parts.
    #[error(
        "`{0}` is not the name of an event; expected words with dots between them, such as `payment.declined`"
    )]
    Shape(String),
    /// It could be taken for an event of the engine.
    #[error(
        "events that begin with `{prefix}.` are the engine's own; choose another name for `{name}`"
    )]
    Reserved {
        /// The name.
        name: String,
        /// How it begins.
        prefix: &'static str,
    },
}

impl CustomEvent {
    /// Whether users may publish an event of this name.
    pub fn check(&self) -> Result<(), InvalidEventName> {
        let name = &self.name;
        let word = |word: &str| {
            !word.is_empty()
                && word
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        };
        if !name.contains('.') || !name.split('.').all(word) {
            return Err(InvalidEventName::Shape(name.clone()));
        }
        let first = name.split('.').next().unwrap_or_default();
        match RESERVED_PREFIXES
            .into_iter()
            .find(|prefix| *prefix == first)
        {
            None => Ok(()),
            Some(prefix) => Err(InvalidEventName::Reserved {
                name: name.clone(),
                prefix,
            }),
        }
    }
}

impl StepTemplate {
    /// A step without dependencies, with the default policies, whose handler has its name.
    pub fn named(name: StepName) -> StepTemplate {
        StepTemplate {
            handler: name.as_str().to_owned(),
            name,
            description: String::new(),
            depends_on_steps: Vec::new(),
            trigger_rule: TriggerRule::default(),
            when: None,
            wait: None,
            retry: RetryPolicy::default(),
            timeout_ms: None,
            skippable: false,
            queue: None,
            dependent_system: None,
            handler_config: None,
            custom_events: Vec::new(),
            starts_task: false,
            map: None,
            undo: None,
            point_of_no_return: false,
        }
    }

    /// Whether the step may start sub-tasks.
    pub const fn has_subtasks(&self) -> bool {
        self.starts_task || self.map.is_some()
    }
}

/// What a definition says, before it is checked; also its stored form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateSource {
    /// The team or domain.
    pub namespace: Namespace,
    /// The name within the namespace.
    pub name: TaskName,
    /// The version of this definition.
    pub version: Version,
    /// What the task does, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// JSON schema of the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// The longest time from start to end of a whole task, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Where workers claim its steps; the namespace if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// The steps, in the order of definition.
    pub steps: Vec<StepTemplate>,
}

/// Lower-case hex, as hashes are shown and stored.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("invariant: writing to a String does not fail");
        text
    })
}

/// Identifies a definition by its content: SHA-256 of its canonical JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A hash that was stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// One thing that is wrong with a definition.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TemplateProblem {
    /// There is nothing to do.
    #[error("it has no steps")]
    NoSteps,
    /// There are too many steps.
    #[error("it has {found} steps; at most {STEPS_MAX} are allowed")]
    TooManySteps {
        /// How many there are.
        found: usize,
    },
    /// The dependencies are not a DAG.
    #[error(transparent)]
    Dag(#[from] DagError),
    /// A step's retry policy cannot be followed.
    #[error("step `{step}`: {problem}")]
    Retry {
        /// The step.
        step: StepName,
        /// What is wrong with its policy.
        problem: InvalidRetryPolicy,
    },
    /// A time limit of nothing.
    #[error("{whose}: a time limit of 0 ms would end it before it starts")]
    ZeroLimit {
        /// The step, or the task.
        whose: String,
    },
    /// A rule that its parents can never fulfil, or always do.
    #[error(
        "step `{step}`: trigger rule `at_least: {asked}` with {parents} parents; at least 1, and no more than there are, can be asked"
    )]
    Rule {
        /// The step.
        step: StepName,
        /// How many parents it asks for.
        asked: u32,
        /// How many it has.
        parents: usize,
    },
    /// A map that could never do what it says.
    #[error("step `{step}`: {problem}")]
    Map {
        /// The step.
        step: StepName,
        /// What is wrong.
        problem: &'static str,
    },
    /// An event that users cannot publish.
    #[error("step `{step}`: {problem}")]
    Event {
        /// The step.
        step: StepName,
        /// What is wrong with the name.
        problem: InvalidEventName,
    },
    /// The schema is not one.
    #[error(transparent)]
    Schema(#[from] InvalidSchema),
}

/// A definition that cannot be used, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("task handler `{full_name}`: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct InvalidTemplate {
    /// `namespace.name@version`.
    pub full_name: String,
    /// What is wrong, all of it.
    pub problems: Vec<TemplateProblem>,
}

/// A checked definition. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TaskTemplate(Arc<Checked>);

#[derive(Debug)]
struct Checked {
    source: TemplateSource,
    dag: Dag,
    positions: HashMap<StepName, Position>,
    schema: Option<ContextSchema>,
    hash: ContentHash,
    counts_ends: bool,
    has_aftermath: bool,
}

impl TaskTemplate {
    /// Checks a definition as a whole.
    pub fn new(source: TemplateSource) -> Result<TaskTemplate, InvalidTemplate> {
        let mut problems = limits(&source);
        let dag = Dag::new(source.steps.iter().map(|step| {
            (
                step.name.as_str(),
                step.depends_on_steps.iter().map(String::as_str),
            )
        }));
        let schema = source
            .schema
            .clone()
            .map(ContextSchema::compile)
            .transpose();
        match (dag, schema, problems.is_empty()) {
            (Ok(dag), Ok(schema), true) => {
                let hash = content_hash(&source);
                let counts_ends = source
                    .steps
                    .iter()
                    .any(|step| step.trigger_rule.awaited(1).is_some());
                let has_aftermath = source
                    .steps
                    .iter()
                    .any(|step| step.has_subtasks() || step.undo.is_some());
                let positions = (0..)
                    .zip(&source.steps)
                    .map(|(p, s)| (s.name.clone(), p))
                    .collect();
                Ok(TaskTemplate(Arc::new(Checked {
                    source,
                    dag,
                    positions,
                    schema,
                    hash,
                    counts_ends,
                    has_aftermath,
                })))
            }
            (dag, schema, _) => {
                problems.extend(dag.err().into_iter().flatten().map(TemplateProblem::Dag));
                problems.extend(schema.err().map(TemplateProblem::Schema));
                Err(InvalidTemplate {
                    full_name: full_name(&source),
                    problems,
                })
            }
        }
    }

    /// What was defined.
    pub fn source(&self) -> &TemplateSource {
        &self.0.source
    }

    /// The graph of its steps.
    pub fn dag(&self) -> &Dag {
        &self.0.dag
    }

    /// The compiled schema of the context.
    pub fn schema(&self) -> Option<&ContextSchema> {
        self.0.schema.as_ref()
    }

    /// What identifies this content.
    pub fn hash(&self) -> ContentHash {
        self.0.hash
    }

    /// `namespace.name@version`.
    pub fn full_name(&self) -> String {
        full_name(&self.0.source)
    }

    /// The step at a place.
    pub fn step(&self, position: Position) -> &StepTemplate {
        &self.0.source.steps[position as usize]
    }

    /// Where workers claim a step: its own queue, else the task's, else the namespace.
    pub fn queue(&self, position: Position) -> Queue {
        let source = &self.0.source;
        let named = self.step(position).queue.as_ref().or(source.queue.as_ref());
        named.map_or_else(|| Queue::from(&source.namespace), Clone::clone)
    }

    /// All queues of its steps, each once.
    pub fn queues(&self) -> Vec<Queue> {
        let positions = (0..).take(self.0.dag.len());
        let queues: BTreeSet<Queue> = positions.map(|position| self.queue(position)).collect();
        queues.into_iter().collect()
    }

    /// How many ends of its parents a step's rule waits for, if it counts them.
    pub fn awaited(&self, position: Position) -> Option<u32> {
        let parents = self.0.dag.parents(position).len();
        let parents = u32::try_from(parents).expect("invariant: at most STEPS_MAX steps");
        self.step(position).trigger_rule.awaited(parents)
    }

    /// Whether the rule of any step counts ends of parents.
    pub fn counts_ends(&self) -> bool {
        self.0.counts_ends
    }

    /// By how much an end of a parent lowers what a step awaits; `None` if its rule counts nothing.
    pub fn counted(&self, position: Position, end: ParentEnd) -> Option<i32> {
        self.awaited(position)?;
        Some(i32::from(self.step(position).trigger_rule.counts(end)))
    }

    /// Whether something may be left to do once a task of it has failed or was cancelled: sub-tasks to
    /// cancel, or steps to undo.
    pub fn has_aftermath(&self) -> bool {
        self.0.has_aftermath
    }

    /// The place of a step, by name.
    pub fn position(&self, name: &str) -> Option<Position> {
        self.0.positions.get(name).copied()
    }
}

fn full_name(source: &TemplateSource) -> String {
    format!("{}.{}@{}", source.namespace, source.name, source.version)
}

fn content_hash(source: &TemplateSource) -> ContentHash {
    let value = serde_json::to_value(source).expect("invariant: a definition is plain data");
    ContentHash(Sha256::digest(canonical(&value)).into())
}

fn limits(source: &TemplateSource) -> Vec<TemplateProblem> {
    let mut problems = Vec::new();
    match source.steps.len() {
        0 => problems.push(TemplateProblem::NoSteps),
        found if found > STEPS_MAX => problems.push(TemplateProblem::TooManySteps { found }),
        _ => {}
    }
    if source.deadline_ms == Some(0) {
        problems.push(TemplateProblem::ZeroLimit {
            whose: "the task".to_owned(),
        });
    }
    for step in &source.steps {
        if let Err(problem) = step.retry.check() {
            problems.push(TemplateProblem::Retry {
                step: step.name.clone(),
                problem,
            });
        }
        if let TriggerRule::AtLeast(asked) = step.trigger_rule {
            let named: BTreeSet<&String> = step.depends_on_steps.iter().collect();
            if asked == 0 || asked as usize > named.len() {
                problems.push(TemplateProblem::Rule {
                    step: step.name.clone(),
                    asked,
                    parents: named.len(),
                });
            }
        }
        if let Some(problem) = step.map.as_ref().and_then(MapOver::problem) {
            let step = step.name.clone();
            problems.push(TemplateProblem::Map { step, problem });
        }
        if let Some(undo) = &step.undo {
            if let Err(problem) = undo.retry.check() {
                let step = step.name.clone();
                problems.push(TemplateProblem::Retry { step, problem });
            }
            if undo.timeout_ms == Some(0) {
                problems.push(TemplateProblem::ZeroLimit {
                    whose: format!("what undoes step `{}`", step.name),
                });
            }
        }
        for problem in step
            .custom_events
            .iter()
            .filter_map(|event| event.check().err())
        {
            let step = step.name.clone();
            problems.push(TemplateProblem::Event { step, problem });
        }
        if step.timeout_ms == Some(0) {
            problems.push(TemplateProblem::ZeroLimit {
                whose: format!("step `{}`", step.name),
            });
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source(steps: &Value) -> TemplateSource {
        serde_json::from_value(json!({
            "namespace": "shop", "name": "order", "version": "1.0.0", "steps": steps
        }))
        .unwrap()
    }

    #[test]
    fn every_problem_of_a_definition_is_reported_at_once() {
        let mut wrong = source(&json!([
            {"name": "a", "handler": "a", "depends_on_steps": ["b"], "timeout_ms": 0},
            {"name": "b", "handler": "b", "depends_on_steps": ["a"], "retry": {"limit": 0}}
        ]));
        wrong.schema = Some(json!({"type": "objekt"}));
        let text = TaskTemplate::new(wrong).unwrap_err().to_string();
        for part in [
            "task handler `shop.order@1.0.0`: ",
            "step `a`: a time limit of 0 ms",
            "step `b`: retry limit is 0",
            "a → b → a",
            "not a valid JSON schema",
        ] {
            assert!(text.contains(part), "`{part}` in: {text}");
        }
        assert!(
            TaskTemplate::new(source(&json!([])))
                .unwrap_err()
                .to_string()
                .contains("no steps")
        );
    }

    #[test]
    fn the_hash_is_of_the_content() {
        let steps = json!([{"name": "a", "handler": "a"}]);
        let one = TaskTemplate::new(source(&steps)).unwrap();
        let same = TaskTemplate::new(source(&steps)).unwrap();
        let other = TaskTemplate::new(source(&json!([{"name": "a", "handler": "b"}]))).unwrap();
        assert_eq!(one.hash(), same.hash());
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.hash().to_string().len(), 64);
        let stored = serde_json::to_string(one.source()).unwrap();
        let read: TemplateSource = serde_json::from_str(&stored).unwrap();
        assert_eq!(
            TaskTemplate::new(read).unwrap().hash(),
            one.hash(),
            "survives the store"
        );
    }
}
