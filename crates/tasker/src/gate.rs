//! What stands between the claim of a step and its handler: its trigger rule, and what it waits for.
//!
//! Whoever has claimed a step asks these questions, so that no transaction has to.

use tasker_model::json::Json;
use tasker_model::name::SignalName;
use tasker_model::outcome::{Failure, FailureKind, Outcome, SkipCause};
use tasker_model::trigger::Verdict;
use tasker_model::wait::{Until, Wait, WaitFor};
use tasker_store::store::ClaimedStep;

/// The outcome of a claimed step that is not for its handler, or not yet.
///
/// A step whose signal did not come in time goes on with the default of its definition, as if that
/// had been sent.
pub(crate) fn outcome_without_handler(claimed: &mut ClaimedStep) -> Option<Outcome> {
    let template = claimed.template.clone();
    let definition = template.step(claimed.lease.step.position);
    let parents = claimed.parent_states.iter().copied();
    if definition.trigger_rule.verdict(parents) == Verdict::Skip {
        let cause = SkipCause::TriggerRule;
        return Some(Outcome::Skipped { cause });
    }
    let is_first_look = claimed.waited_until.is_none();
    match definition.wait.as_ref()? {
        WaitFor::Delay { delay_ms } => {
            is_first_look.then(|| waiting(Until::After(*delay_ms), None))
        }
        WaitFor::Until { time } => is_first_look.then(|| until(time)),
        WaitFor::Signal {
            name,
            timeout_ms,
            default,
        } => {
            if claimed.signal.is_some() {
                return None;
            }
            if is_first_look {
                let until = timeout_ms.map_or(Until::Signalled, Until::After);
                return Some(waiting(until, Some(name.clone())));
            }
            claimed.signal = default.as_ref().and_then(|default| Json::of(default).ok());
            let message = || format!("signal `{name}` did not come in time");
            let has_default = claimed.signal.is_some();
            (!has_default).then(|| failed("SIGNAL_TIMEOUT", message()))
        }
    }
}

fn waiting(until: Until, signal: Option<SignalName>) -> Outcome {
    Outcome::Waiting(Wait { until, signal })
}

fn until(time: &str) -> Outcome {
    match time.parse() {
        Ok(time) => waiting(Until::At(time), None),
        Err(error) => failed("NOT_A_TIME", format!("`{time}` is not a time: {error}")),
    }
}

fn failed(code: &str, message: String) -> Outcome {
    Outcome::Failed(Failure {
        error_code: Some(code.to_owned()),
        ..Failure::new(FailureKind::Permanent, message)
    })
}
