//! What holds between the steps of a definition and the compiler cannot see.

use std::collections::HashMap;

use super::argument::Needs;
use super::context::View;
use super::reference::{Definer, Named, Read};
use super::state::States;
use super::step::Step;
use crate::error::HandlerProblem;

/// All that is wrong: references to steps of another definition, results taken as another type,
/// shared state that nobody gave, what is taken at the wrong place. A step that does not exist is
/// found with the graph.
pub(super) fn problems(definer: &Definer, steps: &[Step], states: &States) -> Vec<HandlerProblem> {
    let wiring = Wiring {
        definer,
        steps,
        names: names_of_code(steps),
    };
    let of_step = |step| {
        let parents = wiring.parents(step).into_iter();
        let missing = missing_states(&step.plan.name, &step.code.needs, states);
        let undo = step.plan.undo.iter();
        let undo = undo.flat_map(|undo| wiring.undo(step, undo, states));
        parents.chain(missing).chain(misfits(step)).chain(undo)
    };
    steps.iter().flat_map(of_step).collect()
}

struct Wiring<'a> {
    definer: &'a Definer,
    steps: &'a [Step],
    /// How often each handler is named by a step that brings its code.
    names: HashMap<&'a str, u32>,
}

fn names_of_code(steps: &[Step]) -> HashMap<&str, u32> {
    let mut names = HashMap::new();
    let undoing = steps.iter().filter_map(|step| step.plan.undo.as_deref());
    for step in steps.iter().chain(undoing) {
        *names.entry(step.plan.handler()).or_default() += 1;
    }
    names
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

    /// What is wrong with what undoes a step.
    fn undo(&self, step: &Step, undo: &Step, states: &States) -> Vec<HandlerProblem> {
        let (plan, needs) = (&undo.plan, &undo.code.needs);
        let step_name = || step.plan.name.clone();
        let mut found: Vec<HandlerProblem> = missing_states(&plan.name, needs, states).collect();
        found.extend(needs.misfits(View::Undo).into_iter().map(|misfit| {
            HandlerProblem::UndoMisfit {
                step: step_name(),
                misfit,
            }
        }));
        let gives = step.code.gives;
        let unfit = needs.undone.filter(|wanted| !gives.fits(*wanted));
        found.extend(unfit.map(|wanted| HandlerProblem::UndoneType {
            step: step_name(),
            wanted: wanted.name,
            given: gives.name,
        }));
        if !plan.fits_undo() {
            found.push(HandlerProblem::UndoPlan { step: step_name() });
        }
        if plan.built_in.is_none() && self.names[plan.handler()] > 1 {
            let (step, name) = (step_name(), plan.name.clone());
            found.push(HandlerProblem::UndoName { step, name });
        }
        found
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
    step: &'a str,
    needs: &'a Needs,
    states: &'a States,
) -> impl Iterator<Item = HandlerProblem> + 'a {
    let missing = (needs.states.iter()).filter(|wanted| !states.has(**wanted));
    missing.map(move |wanted| HandlerProblem::NoState {
        step: step.to_owned(),
        state: wanted.name,
        given: states.names().collect(),
    })
}

/// What a step takes that is not there, because it runs over a list or does not.
fn misfits(step: &Step) -> Vec<HandlerProblem> {
    let is_map = step.plan.configure.map.is_some();
    let place = if is_map { View::Item } else { View::Task };
    let found = step.code.needs.misfits(place).into_iter();
    let problem = |misfit| HandlerProblem::Misfit {
        step: step.plan.name.clone(),
        misfit,
    };
    found.map(problem).collect()
}
