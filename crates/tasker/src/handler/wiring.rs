//! What holds between the steps of a definition and the compiler cannot see.

use super::reference::{Definer, Named, Read};
use super::state::States;
use super::step::Step;
use crate::error::HandlerProblem;

/// All that is wrong: references to steps of another definition, results taken as another type,
/// shared state that nobody gave. A step that does not exist is found with the graph.
pub(super) fn problems(definer: &Definer, steps: &[Step], states: &States) -> Vec<HandlerProblem> {
    let wiring = Wiring { definer, steps };
    let of_step = |step| {
        let parents = wiring.parents(step);
        parents.into_iter().chain(missing_states(step, states))
    };
    steps.iter().flat_map(of_step).collect()
}

struct Wiring<'a> {
    definer: &'a Definer,
    steps: &'a [Step],
}

impl Wiring<'_> {
    fn parents(&self, step: &Step) -> Vec<HandlerProblem> {
        let foreign = (step.plan.reads.iter().chain(&step.plan.waits))
            .flat_map(|read| &read.steps)
            .filter_map(|parent| self.foreign(step, parent));
        let unfit = (step.plan.reads.iter())
            .flat_map(|read| read.steps.iter().map(move |parent| (read, parent)))
            .filter_map(|(read, parent)| self.unfit(step, read, parent));
        foreign.chain(unfit).collect()
    }

    fn is_own(&self, parent: &Named) -> bool {
        (parent.of.as_ref()).is_none_or(|of| Definer::ptr_eq(of, self.definer))
    }

    fn foreign(&self, step: &Step, parent: &Named) -> Option<HandlerProblem> {
        let of = parent.of.as_ref().filter(|_| !self.is_own(parent))?;
        Some(HandlerProblem::OtherDefinition {
            step: step.plan.name.clone(),
            parent: parent.name.clone(),
            of: of.to_string(),
        })
    }

    fn unfit(&self, step: &Step, read: &Read, parent: &Named) -> Option<HandlerProblem> {
        let found = self
            .steps
            .iter()
            .find(|found| found.plan.name == parent.name);
        let gives = found.filter(|_| self.is_own(parent))?.code.gives;
        (!gives.fits(read.wanted)).then(|| HandlerProblem::ParentType {
            step: step.plan.name.clone(),
            parent: parent.name.clone(),
            wanted: read.wanted.name,
            given: gives.name,
        })
    }
}

fn missing_states<'a>(
    step: &'a Step,
    states: &'a States,
) -> impl Iterator<Item = HandlerProblem> + 'a {
    let missing = (step.code.needs.states.iter()).filter(|wanted| !states.has(**wanted));
    missing.map(|wanted| HandlerProblem::NoState {
        step: step.plan.name.clone(),
        state: wanted.name,
        given: states.names().collect(),
    })
}
