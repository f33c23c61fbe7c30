//! `tasker step`: orders to one step.

use std::process::ExitCode;

use tasker::model::json::Json;
use tasker::step_position;
use tasker::store::store::Order;

use crate::args::{ByStep, Step};
use crate::commands::task::carry_out;
use crate::input;
use crate::output::{Failure, Output};
use crate::target;

pub(crate) async fn run(
    command: Step,
    store: Option<String>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let ByStep { task, step, by } = match &command {
        Step::Retry { step, .. }
        | Step::Resolve { step, .. }
        | Step::Skip { step }
        | Step::Cancel { step }
        | Step::RaiseLimit { step, .. } => step,
    };
    let store = target::open(store).await?;
    let task_id = target::task_id(&*store, task).await?;
    let position = step_position(&*store, task_id, step).await?;
    let order = match &command {
        Step::Retry { attempts, .. } => Order::RetryStep {
            position,
            attempts: *attempts,
        },
        Step::Resolve { result, .. } => Order::ResolveStep {
            position,
            result: result.as_deref().map(json).transpose()?,
        },
        Step::Skip { .. } => Order::SkipStep(position),
        Step::Cancel { .. } => Order::CancelStep(position),
        Step::RaiseLimit { attempt_limit, .. } => Order::RaiseLimit {
            position,
            attempt_limit: *attempt_limit,
        },
    };
    carry_out(&*store, task_id, order, &by.name, output).await
}

fn json(text: &str) -> Result<Json, Failure> {
    let value = input::json("--result", text)?;
    Json::of(&value).map_err(|error| Failure::usage(error.to_string()))
}
