//! The pattern workflows: linear, diamond, parallel merge, tree, mixed, configurable failure.
//!
//! Every handler reads the results of all its parents, so that a wrong order cannot go unnoticed.
//! A step that is to fail `n` times fails its first `n` attempts; the attempt number decides, so
//! the count survives a crash.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tasker::model::retry::Backoff;
use tasker::{Error, RetryableError, Step, StepContext, StepResult, TaskHandler};

/// The task handler of those that start others, beside the patterns.
pub const NESTED: &str = "nested";

/// The namespace of all patterns.
pub const NAMESPACE: &str = "patterns";

/// One step of a pattern: its name, the steps it depends on, and how often it fails first.
pub type PatternStep = (&'static str, &'static [&'static str], u32);

/// A pattern of the specification.
#[derive(Debug, Clone, Copy)]
pub struct Pattern {
    /// The task handler's name.
    pub name: &'static str,
    /// The steps, in the order of definition.
    pub steps: &'static [PatternStep],
}

/// Six steps, each on the previous one.
pub const LINEAR: Pattern = Pattern {
    name: "linear",
    steps: &[
        ("initialize_data", &[], 0),
        ("validate_input", &["initialize_data"], 0),
        ("process_data", &["validate_input"], 1),
        ("transform_results", &["process_data"], 0),
        ("validate_output", &["transform_results"], 0),
        ("finalize_workflow", &["validate_output"], 0),
    ],
};

/// Two branches of two steps that meet.
pub const DIAMOND: Pattern = Pattern {
    name: "diamond",
    steps: &[
        ("start_workflow", &[], 0),
        ("branch_one_process", &["start_workflow"], 1),
        ("branch_two_process", &["start_workflow"], 1),
        ("branch_one_validate", &["branch_one_process"], 0),
        ("branch_two_validate", &["branch_two_process"], 0),
        (
            "merge_branches",
            &["branch_one_validate", "branch_two_validate"],
            0,
        ),
        ("end_workflow", &["merge_branches"], 0),
    ],
};

/// Four roots whose results are merged.
pub const PARALLEL_MERGE: Pattern = Pattern {
    name: "parallel_merge",
    steps: &[
        ("fetch_user_data", &[], 0),
        ("fetch_order_data", &[], 1),
        ("fetch_inventory_data", &[], 1),
        ("fetch_pricing_data", &[], 0),
        ("process_user_data", &["fetch_user_data"], 0),
        ("process_order_data", &["fetch_order_data"], 0),
        (
            "merge_all_data",
            &[
                "process_user_data",
                "process_order_data",
                "fetch_inventory_data",
                "fetch_pricing_data",
            ],
            1,
        ),
    ],
};

/// A root that branches twice and is aggregated again.
pub const TREE: Pattern = Pattern {
    name: "tree",
    steps: &[
        ("root_initialization", &[], 0),
        ("branch_a_setup", &["root_initialization"], 0),
        ("branch_b_setup", &["root_initialization"], 1),
        ("branch_a_task_one", &["branch_a_setup"], 0),
        ("branch_a_task_two", &["branch_a_setup"], 1),
        ("branch_b_task_one", &["branch_b_setup"], 0),
        ("branch_b_task_two", &["branch_b_setup"], 1),
        (
            "aggregate_results",
            &[
                "branch_a_task_one",
                "branch_a_task_two",
                "branch_b_task_one",
                "branch_b_task_two",
            ],
            0,
        ),
    ],
};

/// Two chains that meet, part, and meet again; one step is a second leaf.
pub const MIXED: Pattern = Pattern {
    name: "mixed",
    steps: &[
        ("init_auth", &[], 0),
        ("validate_permissions", &["init_auth"], 1),
        ("init_config", &[], 0),
        ("setup_environment", &["init_config"], 1),
        (
            "begin_processing",
            &["validate_permissions", "setup_environment"],
            0,
        ),
        ("process_critical_data", &["begin_processing"], 2),
        ("process_optional_data", &["begin_processing"], 0),
        ("cleanup_temp_files", &["setup_environment"], 0),
        (
            "finalize_and_report",
            &["process_critical_data", "cleanup_temp_files"],
            0,
        ),
    ],
};

/// A chain of every kind of handler.
pub const CONFIGURABLE_FAILURE: Pattern = Pattern {
    name: "configurable_failure",
    steps: &[
        ("reliable_step", &[], 0),
        ("flaky_step", &["reliable_step"], 2),
        ("timeout_step", &["flaky_step"], 1),
        ("idempotent_step", &["timeout_step"], 0),
    ],
};

/// All patterns with built-in failures.
pub const ALL: [Pattern; 6] = [
    LINEAR,
    DIAMOND,
    PARALLEL_MERGE,
    TREE,
    MIXED,
    CONFIGURABLE_FAILURE,
];

/// What every step of a pattern gives: who did it, and after whom.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The step.
    pub step_name: String,
    /// The attempt that succeeded.
    pub total_attempts: u32,
    /// The steps whose results it read.
    pub after: Vec<String>,
}

impl Pattern {
    /// The task handler, whose retries wait only a few milliseconds.
    pub fn handler(&self) -> Result<TaskHandler, Error> {
        self.handler_with(|failures, step| async move { fail_first(failures, &step) })
    }

    /// The task handler with another rule for what a step does before it succeeds; the rule gets
    /// the number of built-in failures.
    pub fn handler_with<F, R>(&self, before: F) -> Result<TaskHandler, Error>
    where
        F: Fn(u32, StepContext) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = StepResult<()>> + Send + 'static,
    {
        let mut definition = TaskHandler::new(NAMESPACE, self.name, "1.0.0");
        for &(name, parents, failures) in self.steps {
            let before = before.clone();
            let step = Step::new(name, move |step: StepContext| {
                let before = before(failures, step.clone());
                async move {
                    before.await?;
                    done(&step)
                }
            });
            let step = step
                .depends_on_steps(parents.iter().copied())
                .backoff(Backoff::Fixed { delay_ms: 5 })
                .timeout(Duration::from_mins(1));
            definition = definition.step(step);
        }
        definition.build()
    }
}

/// Fails the first so many attempts.
pub fn fail_first(failures: u32, step: &StepContext) -> StepResult<()> {
    if step.attempt() <= failures {
        let text = format!("failure {} of {failures}", step.attempt());
        return Err(RetryableError::new(text).into());
    }
    Ok(())
}

fn done(step: &StepContext) -> StepResult<Done> {
    let parents: Vec<Done> = step.parents()?;
    Ok(Done {
        step_name: step.name().to_owned(),
        total_attempts: step.attempt(),
        after: parents.into_iter().map(|parent| parent.step_name).collect(),
    })
}
