//! What stands between the claim of a step and its handler: its trigger rule, its condition, and what
//! it waits for.
//!
//! Whoever has claimed a step asks these questions, so that no transaction has to.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tasker_model::json::Json;
use tasker_model::name::SignalName;
use tasker_model::outcome::{Failure, FailureKind, Outcome, SkipCause};
use tasker_model::step::StepState;
use tasker_model::template::StepTemplate;
use tasker_model::trigger::{TriggerRule, Verdict};
use tasker_model::wait::{Until, Wait, WaitFor};
use tasker_store::store::ClaimedStep;

use crate::expression::{Expression, InvalidExpression, Scope, Variables, kind};
use crate::handler::StepContext;

/// The questions of one step, compiled.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    rule: TriggerRule,
    when: Option<Expression>,
    wait: Option<WaitFor>,
    /// The time of [`WaitFor::Until`], if it is not written out.
    until: Option<Expression>,
}

/// What a claim says beside what the handler sees.
#[derive(Debug)]
pub(crate) struct Asked {
    parent_states: Arc<[StepState]>,
    is_first_look: bool,
}

impl Asked {
    pub(crate) fn of(claimed: &ClaimedStep) -> Asked {
        Asked {
            parent_states: claimed.parent_states.clone(),
            is_first_look: claimed.waited_until.is_none(),
        }
    }
}

/// The key of a step whose expression is none, and why.
pub(crate) type InvalidKey = (&'static str, InvalidExpression);

impl Gate {
    /// Compiles what a definition says.
    pub(crate) fn of(step: &StepTemplate) -> Result<Gate, InvalidKey> {
        let compile = |key: &'static str, text: &str| {
            Expression::compile(text, Variables::TASK.plain()).map_err(|error| (key, error))
        };
        let when = step.when.as_deref().map(|text| compile("when", text));
        let until = match &step.wait {
            Some(WaitFor::Until { time }) if time.parse::<Timestamp>().is_err() => {
                Some(compile("until", time)?)
            }
            _ => None,
        };
        Ok(Gate {
            rule: step.trigger_rule,
            when: when.transpose()?,
            wait: step.wait.clone(),
            until,
        })
    }

    /// The steps whose results its expressions name, each with the key of the expression.
    pub(crate) fn results_named(&self) -> Vec<(&'static str, &str)> {
        let expressions = [("when", &self.when), ("until", &self.until)];
        let mut named = Vec::new();
        for (key, expression) in expressions {
            let results = expression.iter().flat_map(|of| &of.uses().results);
            named.extend(results.map(|name| (key, name.as_str())));
        }
        named
    }

    /// The outcome of a claimed step that is not for its handler, or not yet.
    ///
    /// A step whose signal did not come in time goes on with the default of its definition, as if
    /// that had been sent.
    pub(crate) fn outcome_without_handler(
        &self,
        asked: &Asked,
        context: &mut StepContext,
    ) -> Option<Outcome> {
        let parents = asked.parent_states.iter().copied();
        if self.rule.verdict(parents) == Verdict::Skip {
            let cause = SkipCause::TriggerRule;
            return Some(Outcome::Skipped { cause });
        }
        if asked.is_first_look
            && let Some(when) = &self.when
        {
            match value(when, context) {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => {
                    let cause = SkipCause::Condition;
                    return Some(Outcome::Skipped { cause });
                }
                Ok(other) => {
                    let message = format!("`when` must be true or false; it is {}", kind(&other));
                    return Some(failed("CONDITION", message));
                }
                Err(message) => return Some(failed("CONDITION", format!("`when`: {message}"))),
            }
        }
        self.wait(asked, context)
    }

    fn wait(&self, asked: &Asked, context: &mut StepContext) -> Option<Outcome> {
        match self.wait.as_ref()? {
            WaitFor::Delay { delay_ms } => asked
                .is_first_look
                .then(|| waiting(Until::After(*delay_ms), None)),
            WaitFor::Until { time } => asked.is_first_look.then(|| self.until(time, context)),
            WaitFor::Signal {
                name,
                timeout_ms,
                default,
            } => {
                if context.signal_json().is_some() {
                    return None;
                }
                if asked.is_first_look {
                    let until = timeout_ms.map_or(Until::Signalled, Until::After);
                    return Some(waiting(until, Some(name.clone())));
                }
                let default = default.as_ref().and_then(|default| Json::of(default).ok());
                let message = format!("signal `{name}` did not come in time");
                match default {
                    None => Some(failed("SIGNAL_TIMEOUT", message)),
                    Some(default) => {
                        context.set_signal(default);
                        None
                    }
                }
            }
        }
    }

    fn until(&self, time: &str, context: &StepContext) -> Outcome {
        let time = match &self.until {
            None => time.to_owned(),
            Some(until) => match value(until, context) {
                Ok(Value::String(time)) => time,
                Ok(other) => {
                    let message = format!("`until` must be a time as text; it is {}", kind(&other));
                    return failed("NOT_A_TIME", message);
                }
                Err(message) => return failed("NOT_A_TIME", format!("`until`: {message}")),
            },
        };
        match time.parse() {
            Ok(time) => waiting(Until::At(time), None),
            Err(error) => failed("NOT_A_TIME", format!("`until` is not a time: {error}")),
        }
    }
}

fn value(expression: &Expression, context: &StepContext) -> Result<Value, String> {
    let scope = Scope::new(context, expression.uses()).map_err(|error| error.to_string())?;
    expression
        .evaluate(&scope)
        .map_err(|error| error.to_string())
}

fn waiting(until: Until, signal: Option<SignalName>) -> Outcome {
    Outcome::Waiting(Wait { until, signal })
}

fn failed(code: &str, message: String) -> Outcome {
    Outcome::Failed(Failure {
        error_code: Some(code.to_owned()),
        ..Failure::new(FailureKind::Permanent, message)
    })
}
