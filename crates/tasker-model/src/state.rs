//! What the two state machines share: the refusal of a move.

/// Which state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Machine {
    /// The machine of tasks.
    Task,
    /// The machine of steps.
    Step,
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Machine::Task => "task",
            Machine::Step => "step",
        })
    }
}

/// The state machine has no such move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {machine} in state `{from}` cannot {event}; it can {}", list(.possible))]
pub struct IllegalMove {
    /// Which machine refused.
    pub machine: Machine,
    /// The state it is in.
    pub from: &'static str,
    /// What was asked.
    pub event: &'static str,
    /// What would have been possible.
    pub possible: Vec<&'static str>,
}

impl IllegalMove {
    /// A refusal, with what would have been possible.
    pub(crate) fn new(
        machine: Machine,
        (from, event): (&'static str, &'static str),
        possible: impl Iterator<Item = &'static str>,
    ) -> IllegalMove {
        IllegalMove {
            machine,
            from,
            event,
            possible: possible.collect(),
        }
    }
}

fn list(possible: &[&'static str]) -> String {
    if possible.is_empty() {
        "do nothing more".to_owned()
    } else {
        possible.join(", ")
    }
}
