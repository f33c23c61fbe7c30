//! What is measured: four shapes of tasks with handlers that do next to nothing.

use serde::{Deserialize, Serialize};
use tasker::{Error, Step, StepContext, StepResult, TaskHandler};

/// The namespace of all benchmark handlers.
pub(crate) const NAMESPACE: &str = "bench";

/// A result of about 50 bytes of JSON.
#[derive(Serialize, Deserialize)]
struct Small {
    step: String,
    sum: u64,
    padding: String,
}

/// The shape of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    Single,
    Linear4,
    Diamond4,
    Fan100,
}

impl Workload {
    pub(crate) const ALL: [Workload; 4] = [
        Workload::Single,
        Workload::Linear4,
        Workload::Diamond4,
        Workload::Fan100,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Workload::Single => "single-step",
            Workload::Linear4 => "linear-4",
            Workload::Diamond4 => "diamond-4",
            Workload::Fan100 => "fan-100",
        }
    }

    /// Steps per level of the graph; every step depends on all steps of the level before.
    pub(crate) const fn levels(self) -> &'static [u32] {
        match self {
            Workload::Single => &[1],
            Workload::Linear4 => &[1, 1, 1, 1],
            Workload::Diamond4 => &[1, 2, 1],
            Workload::Fan100 => &[1, 100, 1],
        }
    }

    pub(crate) fn steps(self) -> u32 {
        self.levels().iter().sum()
    }

    pub(crate) fn handler(self) -> Result<TaskHandler, Error> {
        layered(self.name(), self.levels(), u32::MAX)
    }
}

/// Layers of steps; each step depends on so many steps of the layer before, on all at most.
pub(crate) fn layered(name: &str, levels: &[u32], parents: u32) -> Result<TaskHandler, Error> {
    let mut definition = TaskHandler::new(NAMESPACE, name, "1.0.0");
    let mut above = 0;
    for (level, &width) in levels.iter().enumerate() {
        for n in 0..width {
            let wanted = if width < above {
                above
            } else {
                parents.min(above)
            };
            let names =
                (0..wanted).map(|p| format!("s{}_{}", level.wrapping_sub(1), (n + p) % above));
            let step = Step::new(format!("s{level}_{n}"), sum_parents).depends_on_steps(names);
            definition = definition.step(step);
        }
        above = width;
    }
    definition.build()
}

/// Reads every parent's result and passes on what it adds up to.
async fn sum_parents(step: StepContext) -> StepResult<Small> {
    let parents: Vec<Small> = step.parents()?;
    let sum = 1 + parents.iter().map(|parent| parent.sum).sum::<u64>();
    Ok(Small {
        step: step.name().to_owned(),
        sum,
        padding: "0123456789".to_owned(),
    })
}
