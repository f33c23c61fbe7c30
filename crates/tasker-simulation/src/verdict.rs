//! Is what the store holds in the end what the world saw?
//!
//! [`audit`](tasker::store::audit) says whether each task holds together by itself. Here it is
//! compared with the ledger: what was acknowledged, and what was executed.

mod between;

use std::collections::BTreeMap;

use serde::Deserialize;
use tasker::model::id::{Position, StepKey, TaskId, WorkerId};
use tasker::model::outcome::FailureKind;
use tasker::model::step::StepState;
use tasker::model::subtask::Origin;
use tasker::model::template::TaskTemplate;
use tasker::model::transition::{Change, Reason, Transition};
use tasker::model::wait::WaitFor;
use tasker::store::audit;
use tasker::store::record::{StepRecord, TaskDetail};

use crate::ledger::{Execution, Pages};

/// A task as it is in the end, with its definition.
pub(crate) struct Found {
    pub(crate) detail: TaskDetail,
    pub(crate) template: TaskTemplate,
    /// Somebody asked for it: it is no sub-task, and undoes nothing.
    pub(crate) was_asked: bool,
}

/// Which attempt: of which step, its number, and who made it.
type Attempt = (StepKey, u32, Option<WorkerId>);

#[derive(Deserialize)]
struct Context {
    request: usize,
}

#[derive(Deserialize)]
struct Product {
    execution: usize,
}

struct Verdict<'a> {
    found: &'a [Found],
    pages: &'a Pages,
    lease_ms: u64,
    problems: Vec<String>,
}

/// Everything that is not as it should be.
pub(crate) fn problems(found: &[Found], pages: &Pages, lease_ms: u64) -> Vec<String> {
    let mut verdict = Verdict {
        found,
        pages,
        lease_ms,
        problems: pages.problems.clone(),
    };
    verdict.soundness();
    verdict.requests();
    verdict.executions();
    for task in found {
        verdict.times(task);
        verdict.results(task);
    }
    verdict.problems.extend(between::problems(found));
    verdict.problems
}

impl Verdict<'_> {
    fn expect(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }

    /// Every task holds together, and has come to its end.
    fn soundness(&mut self) {
        for Found {
            detail, template, ..
        } in self.found
        {
            let id = detail.task.summary.task_id;
            for violation in audit::check(detail, template) {
                self.problems.push(format!("task {id}: {violation}"));
            }
            let state = detail.task.summary.state;
            self.expect(state.is_final(), || {
                format!("I7: task {id} is {state} in the end")
            });
        }
    }

    /// What was acknowledged exists, once; what was asked for together exists together.
    fn requests(&mut self) {
        let mut created: BTreeMap<usize, Vec<TaskId>> = BTreeMap::new();
        for Found { detail, .. } in self.found.iter().filter(|task| task.was_asked) {
            let id = detail.task.summary.task_id;
            match detail.task.context.read::<Context>() {
                Ok(context) => created.entry(context.request).or_default().push(id),
                Err(error) => self.problems.push(format!("task {id}: context: {error}")),
            }
        }
        let none = Vec::new();
        let mut batches: BTreeMap<u32, Vec<bool>> = BTreeMap::new();
        for (number, request) in self.pages.requests.iter().enumerate() {
            let exist = created.get(&number).unwrap_or(&none);
            for answer in &request.answers {
                self.expect(exist.contains(answer), || {
                    format!("I8: request {number} was answered with {answer}, created {exist:?}")
                });
            }
            let most = if request.has_key {
                1
            } else {
                request.sent as usize
            };
            self.expect(exist.len() <= most && request.answers.len() <= most, || {
                let (key, sent, answers) = (request.has_key, request.sent, &request.answers);
                format!(
                    "I8: request {number} (key: {key}) was sent {sent} times, answered with \
                     {answers:?}, created {exist:?}"
                )
            });
            if let Some(batch) = request.batch {
                batches.entry(batch).or_default().push(!exist.is_empty());
            }
        }
        for (batch, exist) in batches {
            self.expect(exist.iter().all(|one| *one == exist[0]), || {
                format!("I8: batch {batch} was created in part: {exist:?}")
            });
        }
    }

    /// Nothing ran that was not claimed, and each claim ran at most once.
    fn executions(&mut self) {
        let mut claims: BTreeMap<Attempt, usize> = BTreeMap::new();
        let mut limits: BTreeMap<StepKey, u32> = BTreeMap::new();
        for Found { detail, .. } in self.found {
            let id = detail.task.summary.task_id;
            for transition in &detail.transitions {
                if let Change::Step { position, to, .. } = transition.change
                    && to == StepState::InProgress
                {
                    *claims.entry(attempt(transition, position)).or_default() += 1;
                }
            }
            let steps = detail.steps.iter();
            limits.extend(steps.map(|step| (StepKey::new(id, step.position), step.attempt_limit)));
        }
        let mut runs: BTreeMap<Attempt, usize> = BTreeMap::new();
        for execution in &self.pages.executions {
            *runs.entry(attempt_of(execution)).or_default() += 1;
        }
        for (attempt, runs) in runs {
            let claimed = claims.get(&attempt).copied().unwrap_or(0);
            self.expect(runs <= claimed, || {
                format!("I2: {attempt:?} was executed {runs} times and claimed {claimed} times")
            });
            let (step, number, _) = attempt;
            let limit = limits.get(&step).copied().unwrap_or(0);
            self.expect(number <= limit, || {
                format!("I3: {attempt:?} was executed; the limit is {limit}")
            });
        }
    }

    /// Nothing was tried again before its time, and no lease was taken away before its end.
    fn times(
        &mut self,
        Found {
            detail, template, ..
        }: &Found,
    ) {
        let id = detail.task.summary.task_id;
        let mut claimed = BTreeMap::new();
        let mut retry_at = BTreeMap::new();
        for transition in &detail.transitions {
            let Change::Step { position, to, .. } = transition.change else {
                continue;
            };
            let (at, number) = (transition.at, transition.sequence);
            if transition.reason == Some(Reason::Operator) {
                retry_at.remove(&position);
                // A step that a failed parent has started waits for it again, and later begins anew.
                retry_at.retain(|step, _| template.awaited(*step).is_none());
            }
            if to == StepState::InProgress {
                let earliest = retry_at.remove(&position);
                self.expect(earliest.is_none_or(|earliest| earliest <= at), || {
                    format!("task {id}: transition {number}: a retry before its time")
                });
                claimed.insert(position, at);
            } else if transition.reason == Some(Reason::LeaseLost) {
                let age = claimed
                    .get(&position)
                    .map(|since| at.duration_since(*since));
                let lease = i128::from(self.lease_ms);
                self.expect(age.is_some_and(|age| age.as_millis() >= lease), || {
                    format!("I2: task {id}: transition {number}: a lease was lost after {age:?}")
                });
            }
            let definition = template.step(position);
            let signalled = matches!(definition.wait, Some(WaitFor::Signal { .. }));
            // A signal ends a wait before its time, and so does the end of sub-tasks.
            let may_be_early = transition.reason == Some(Reason::Waiting)
                && (signalled || definition.has_subtasks());
            if let Some(time) = transition.retry_at.filter(|_| !may_be_early) {
                retry_at.insert(position, time);
            }
        }
    }

    /// What was recorded of an attempt was done by it, and what children read was recorded.
    fn results(
        &mut self,
        Found {
            detail, template, ..
        }: &Found,
    ) {
        let id = detail.task.summary.task_id;
        let ran: Vec<Attempt> = self.pages.executions.iter().map(attempt_of).collect();
        for transition in &detail.transitions {
            let Change::Step { position, to, .. } = transition.change else {
                continue;
            };
            if template.step(position).has_subtasks() {
                // That is for others to judge.
                continue;
            }
            let told = transition.failure.as_ref().is_some_and(|failure| {
                // Of a signal that did not come nobody is told but the record.
                let by_handler = matches!(
                    failure.kind,
                    FailureKind::Retryable | FailureKind::Permanent | FailureKind::Panicked
                );
                by_handler && failure.error_code.as_deref() != Some("SIGNAL_TIMEOUT")
            });
            if to == StepState::Complete || told {
                let attempt = attempt(transition, position);
                self.expect(ran.contains(&attempt), || {
                    format!("{attempt:?} is recorded, and was never executed")
                });
            }
            if to == StepState::Complete {
                let product = product(&detail.steps[position as usize]);
                let by = product.and_then(|product| ran.get(product).copied());
                let attempt = attempt(transition, position);
                self.expect(by == Some(attempt), || {
                    format!("I2: {attempt:?} was recorded with the result of {by:?}")
                });
            }
        }
        let executions = self.pages.executions.iter();
        for execution in executions.filter(|execution| execution.step.task_id == id) {
            let position = execution.step.position;
            if template.awaited(position).is_some() || undoes(detail) {
                // It may have run before its parents ended, or reads what it undoes.
                continue;
            }
            for parent in template.dag().parents(position) {
                let record = &detail.steps[*parent as usize];
                let seen = execution.parents.iter().find(|(seen, _)| seen == parent);
                if record.state == StepState::Complete {
                    let seen = seen.map(|(_, result)| result);
                    self.expect(seen.is_some() && seen == record.result.as_ref(), || {
                        format!("{execution:?} read something else than {:?}", record.result)
                    });
                }
            }
        }
    }
}

fn undoes(detail: &TaskDetail) -> bool {
    matches!(detail.task.origin, Some(Origin::Undo { .. }))
}

fn attempt(transition: &Transition, position: Position) -> Attempt {
    let step = StepKey::new(transition.task_id, position);
    (step, transition.attempt.unwrap_or(0), transition.worker)
}

fn attempt_of(execution: &Execution) -> Attempt {
    (execution.step, execution.attempt, Some(execution.worker))
}

/// The number of the execution that produced a step's result.
fn product(step: &StepRecord) -> Option<usize> {
    let product = step.result.as_ref()?.read::<Product>().ok()?;
    Some(product.execution)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use tasker::model::task::TaskState;
    use tasker::store::ManualClock;

    use super::*;
    use crate::ledger::Ledger;
    use crate::place::Place;
    use crate::play::played;

    /// The problems of a seed whose world is shown otherwise than it was.
    fn problems_if(tamper: impl FnOnce(&mut Vec<Found>, &mut Pages, &mut u64)) -> String {
        let (mut found, mut pages, mut lease_ms) = (0..1_000)
            .map(world_of)
            .find(|(found, ..)| has_everything(found))
            .expect("invariant: one of many");
        assert!(problems(&found, &pages, lease_ms).is_empty());
        tamper(&mut found, &mut pages, &mut lease_ms);
        problems(&found, &pages, lease_ms).join("\n")
    }

    fn world_of(seed: u64) -> (Vec<Found>, Pages, u64) {
        let ledger = Ledger::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)), false);
        let (ledger, place) = (Arc::new(ledger), Place::open("sqlite::memory:").unwrap());
        let (found, lease_ms) = played(seed, &place, &ledger).unwrap();
        let pages = std::mem::take(&mut *ledger.pages());
        (found, pages, lease_ms)
    }

    /// Leases are lost, steps with sub-tasks complete, and failures undone.
    fn has_everything(found: &[Found]) -> bool {
        let details = || found.iter().map(|task| &task.detail);
        let mut transitions = details().flat_map(|detail| &detail.transitions);
        let mut steps = details().flat_map(|detail| &detail.steps);
        details().any(undoes)
            && transitions.any(|transition| transition.reason == Some(Reason::LeaseLost))
            && steps.any(|step| {
                let started = step.subtasks.is_some_and(|tally| tally.created > 0);
                started && step.state == StepState::Complete
            })
    }

    #[track_caller]
    fn assert_says(problems: &str, what: &str) {
        assert!(problems.contains(what), "{problems:?} does not say {what}");
    }

    #[test]
    fn an_acknowledged_task_that_is_gone_is_noticed() {
        let problems = problems_if(|found, pages, _| {
            let answers = pages.requests.iter().flat_map(|request| &request.answers);
            let gone = *answers.min().expect("somebody was answered");
            found.retain(|task| task.detail.task.summary.task_id != gone);
        });
        assert_says(&problems, "I8: request");
    }

    #[test]
    fn an_attempt_that_ran_twice_is_noticed() {
        let problems = problems_if(|_, pages, _| {
            let again = pages.executions[0].clone();
            pages.executions.push(again);
        });
        assert_says(&problems, "was executed 2 times and claimed 1 times");
    }

    #[test]
    fn an_outcome_that_never_happened_is_noticed() {
        let problems = problems_if(|_, pages, _| pages.executions.clear());
        assert_says(&problems, "is recorded, and was never executed");
    }

    #[test]
    fn a_lease_that_was_taken_away_early_is_noticed() {
        let problems = problems_if(|_, _, lease_ms| *lease_ms *= 1_000_000);
        assert_says(&problems, "a lease was lost after");
    }

    #[test]
    fn a_sub_task_that_is_gone_is_noticed() {
        let problems = problems_if(|found, _, _| {
            let is_subtask =
                |task: &Found| matches!(task.detail.task.origin, Some(Origin::Step { .. }));
            let gone = found.iter().position(is_subtask).expect("some are there");
            found.remove(gone);
        });
        assert_says(&problems, "keeps [");
    }

    #[test]
    fn a_result_that_is_not_that_of_the_sub_tasks_is_noticed() {
        let problems = problems_if(|found, _, _| {
            let steps = found.iter_mut().flat_map(|task| &mut task.detail.steps);
            let mut done =
                steps.filter(|step| step.subtasks.is_some() && step.state == StepState::Complete);
            let step = done.next().expect("some are complete");
            step.result = Some(tasker::model::json::Json::from_stored("7"));
        });
        assert_says(&problems, "has the result");
    }

    #[test]
    fn a_failure_that_nobody_undoes_is_noticed() {
        let problems = problems_if(|found, _, _| {
            let gone = found.iter().position(|task| undoes(&task.detail));
            found.remove(gone.expect("something is undone"));
        });
        assert_says(&problems, "0 tasks undo it instead of 1");
    }

    #[test]
    fn a_task_that_does_not_end_is_noticed() {
        let problems = problems_if(|found, _, _| {
            found[0].detail.task.summary.state = TaskState::InProgress;
        });
        assert_says(&problems, "I7: task");
    }
}
