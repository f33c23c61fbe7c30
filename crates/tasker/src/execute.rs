//! Attempts that run: started on the user's runtime, each under a deadline and a cancellation.
//!
//! A handler may panic, never return, or block its thread; none of that reaches the engine, which
//! lives on a thread of its own. Whatever happens to a handler, its attempt ends in exactly one
//! outcome here; what comes later is ignored.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use tasker_model::annotation::Annotation;
use tasker_model::id::StepKey;
use tasker_model::json::Json;
use tasker_model::name::StepName;
use tasker_model::outcome::{Failure, FailureKind, Outcome};
use tasker_model::progress::StepProgress;
use tasker_store::store::{ClaimedStep, Lease};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::code::{Code, Role};
use crate::gate::Asked;
use crate::handler::log::AttemptLog;
use crate::handler::progress::Reporter;
use crate::handler::{Annotate, Annotations, PermanentError, StepContext};
use crate::subtasks::{self, Subtasks};

/// The end of an attempt, told to the engine from wherever the handler ran.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) step: StepKey,
    pub(crate) attempt: u32,
    /// `HandedBack` if the handler was dropped before it returned.
    pub(crate) outcome: Outcome,
}

/// An attempt that has been started and has not ended.
pub(crate) struct Attempt {
    number: u64,
    pub(crate) claimed: ClaimedStep,
    until: Timestamp,
    cancel: CancellationToken,
    abort: AbortHandle,
    log: AttemptLog,
    annotations: Annotations,
    reporter: Reporter,
}

/// All attempts that this worker runs.
pub(crate) struct Attempts {
    running: BTreeMap<StepKey, Attempt>,
    deadlines: BTreeSet<(Timestamp, u64, StepKey)>,
    /// How many have been started: what concerns several is done in that order, since ids of tasks are as
    /// good as random.
    started: u64,
    runtime: Handle,
    subtasks: Arc<Subtasks>,
}

impl Attempts {
    pub(crate) fn new(runtime: Handle, subtasks: Subtasks) -> Attempts {
        let (running, deadlines) = (BTreeMap::new(), BTreeSet::new());
        Attempts {
            running,
            deadlines,
            started: 0,
            runtime,
            subtasks: Arc::new(subtasks),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.running.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Starts an attempt that ends by `until`; `tell` is called once, when its handler ends.
    ///
    /// Gives whether an earlier attempt of the step ran here and was stopped for it: this process
    /// was paused for so long that its lease ran out, and then claimed the step itself.
    pub(crate) fn start(
        &mut self,
        mut claimed: ClaimedStep,
        code: Code,
        until: Timestamp,
        reporter: Reporter,
        tell: impl FnOnce(Ended) + Send + 'static,
    ) -> bool {
        let Lease { step, attempt, .. } = claimed.lease;
        let earlier = self.running(step);
        let replaced = earlier.and_then(|earlier| self.take(step, earlier));
        replaced.iter().for_each(Attempt::stop);
        let replaced = replaced.is_some();
        let cancel = CancellationToken::new();
        let fits = fit_context(&mut claimed);
        let asked = Asked::of(&claimed);
        let context = StepContext::new(&claimed, cancel.clone(), reporter.clone());
        let (subtasks, log) = (self.subtasks.clone(), context.attempt_log());
        let annotations = context.annotations();
        let of_subtasks = subtasks::Attempt::of(&claimed);
        let mut report = Report {
            step,
            attempt,
            tell: Some(tell),
        };
        let task = self.runtime.spawn(async move {
            let fits = fits.map_err(PermanentError::new);
            let outcome = match fits.and_then(|()| context.viewed(code.view)) {
                Err(problem) => outcome_of(problem),
                Ok(mut context) => {
                    let known = code.gate.outcome_without_handler(&asked, &mut context);
                    match known {
                        None => {
                            let annotate =
                                code.annotate.clone().map(|hook| (hook, context.clone()));
                            let outcome = perform(&subtasks, of_subtasks, code, context).await;
                            if let Some((hook, context)) = annotate {
                                note(&hook, &context, &outcome);
                            }
                            outcome
                        }
                        Some(outcome) => outcome,
                    }
                }
            };
            report.send(outcome);
        });
        self.started += 1;
        let started = Attempt {
            number: self.started,
            claimed,
            until,
            cancel,
            abort: task.abort_handle(),
            log,
            annotations,
            reporter,
        };
        self.deadlines.insert((until, started.number, step));
        self.running.insert(step, started);
        replaced
    }

    /// Which attempt of a step runs here.
    pub(crate) fn running(&self, step: StepKey) -> Option<u32> {
        let attempt = self.running.get(&step)?;
        Some(attempt.claimed.lease.attempt)
    }

    /// What an attempt that runs has said of its progress since it was last asked.
    pub(crate) fn take_progress(
        &self,
        step: StepKey,
        attempt: u32,
    ) -> Option<(Lease, StepProgress)> {
        let running = self.running.get(&step)?;
        let lease = running.claimed.lease;
        (lease.attempt == attempt).then_some(())?;
        Some((lease, running.reporter.take()?))
    }

    /// The name of a step that runs here.
    pub(crate) fn step_name(&self, step: StepKey) -> Option<StepName> {
        let running = self.running.get(&step)?;
        Some(running.claimed.template.step(step.position).name.clone())
    }

    /// Takes an attempt out, if it is the one that runs.
    pub(crate) fn take(&mut self, step: StepKey, attempt: u32) -> Option<Attempt> {
        if self.running(step) != Some(attempt) {
            return None;
        }
        let ended = self.running.remove(&step)?;
        self.deadlines.remove(&(ended.until, ended.number, step));
        Some(ended)
    }

    /// Takes out an attempt whose time is over.
    pub(crate) fn take_late(&mut self, now: Timestamp) -> Option<Attempt> {
        let &(until, _, step) = self.deadlines.first()?;
        if until > now {
            return None;
        }
        let attempt = self.running.get(&step)?.claimed.lease.attempt;
        self.take(step, attempt)
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(until, ..)| *until)
    }

    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.in_order()
            .map(|attempt| attempt.claimed.lease)
            .collect()
    }

    /// Asks every handler to stop. Each tells when it has: what blocks its thread never does.
    pub(crate) fn stop_all(&self) {
        self.in_order().for_each(Attempt::stop);
    }

    /// As they were started.
    fn in_order(&self) -> impl Iterator<Item = &Attempt> {
        let mut all: Vec<&Attempt> = self.running.values().collect();
        all.sort_by_key(|attempt| attempt.number);
        all.into_iter()
    }
}

impl Attempt {
    /// What its handler has logged.
    pub(crate) fn log(&self) -> Option<String> {
        self.log.text()
    }

    /// What its handler has noted about the task.
    pub(crate) fn annotations(&self) -> Vec<Annotation> {
        self.annotations.all()
    }

    /// Tells the handler, and drops its future where it next awaits.
    pub(crate) fn stop(&self) {
        self.cancel.cancel();
        self.abort.abort();
    }
}

/// Lets a task handler note something about a step that is complete.
fn note(hook: &Annotate, context: &StepContext, outcome: &Outcome) {
    let Outcome::Completed { result } = outcome else {
        return;
    };
    if let Err(error) = hook(context, result) {
        let (task_id, step) = (context.task_id(), context.name());
        tracing::warn!(task.id = %task_id, step.name = step, %error, "update_annotations has failed");
        context.log(format!("update_annotations: {error}"));
    }
}

/// The outcome of an attempt that took too long.
pub(crate) fn timed_out(timeout: Duration) -> Outcome {
    let text = format!("the attempt took longer than its timeout of {timeout:?}");
    Outcome::Failed(Failure::new(FailureKind::TimedOut, text))
}

fn outcome_of(problem: PermanentError) -> Outcome {
    Outcome::Failed(Failure {
        error_code: problem.error_code,
        ..Failure::new(FailureKind::Permanent, problem.message)
    })
}

/// When an attempt that starts now must have ended.
pub(crate) fn until(now: Timestamp, timeout: Duration) -> Timestamp {
    let timeout = SignedDuration::try_from(timeout).unwrap_or(SignedDuration::MAX);
    now.checked_add(timeout).unwrap_or(Timestamp::MAX)
}

/// Holds a context against its schema and fills in defaults, if nobody has done so yet.
///
/// Before the attempt, not within it: children that are handed over with its completion are given the
/// same context, with its defaults. Only tasks that were created by SQL cost anything here.
fn fit_context(claimed: &mut ClaimedStep) -> Result<(), String> {
    let schema = claimed.template.schema();
    let Some(schema) = schema.filter(|_| !claimed.context_checked) else {
        return Ok(());
    };
    let unreadable =
        |error: serde_json::Error| format!("the context of the task cannot be read: {error}");
    let mut context: serde_json::Value = claimed.context.read().map_err(unreadable)?;
    schema
        .apply(&mut context)
        .map_err(|error| error.to_string())?;
    claimed.context = Json::of(&context).map_err(unreadable)?;
    claimed.context_checked = true;
    Ok(())
}

/// One attempt, as a list: run the handler, keep its panic, check its result.
async fn perform(
    subtasks: &Subtasks,
    attempt: subtasks::Attempt,
    code: Code,
    context: StepContext,
) -> Outcome {
    let run = async move {
        match code.role {
            Role::Performs => (code.handler)(context).await,
            Role::Asks | Role::Maps(_) => subtasks.perform(attempt, code, context).await,
        }
    };
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(outcome) => within_limit(outcome, subtasks.result_bytes_max),
        Err(panic) => {
            let text = format!("the handler panicked: {}", panic_text(panic.as_ref()));
            Outcome::Failed(Failure::new(FailureKind::Panicked, text))
        }
    }
}

fn within_limit(outcome: Outcome, allowed: usize) -> Outcome {
    match outcome {
        Outcome::Completed { result } if result.len_bytes() > allowed => {
            let text = format!(
                "the result is {} bytes of JSON; at most {allowed} are allowed; \
                 store large data elsewhere and return a reference to it",
                result.len_bytes()
            );
            Outcome::Failed(Failure::new(FailureKind::ResultRefused, text))
        }
        outcome => outcome,
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// Tells the end of an attempt exactly once, also when the handler's future is dropped.
struct Report<F: FnOnce(Ended)> {
    step: StepKey,
    attempt: u32,
    tell: Option<F>,
}

impl<F: FnOnce(Ended)> Report<F> {
    fn send(&mut self, outcome: Outcome) {
        if let Some(tell) = self.tell.take() {
            tell(Ended {
                step: self.step,
                attempt: self.attempt,
                outcome,
            });
        }
    }
}

impl<F: FnOnce(Ended)> Drop for Report<F> {
    fn drop(&mut self) {
        self.send(Outcome::HandedBack);
    }
}
