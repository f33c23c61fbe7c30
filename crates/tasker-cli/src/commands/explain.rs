//! `tasker explain`: why has this step not started?

use std::process::ExitCode;

use tasker::explain;

use crate::output::{Failure, Output, table};
use crate::target;

pub(crate) async fn run(
    task: &str,
    step: Option<&str>,
    store: Option<String>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let store = target::open(store).await?;
    let task_id = target::task_id(&*store, task).await?;
    let explanations = explain(&*store, task_id, step).await?;
    output.data(&explanations, || {
        let rows: Vec<[String; 3]> = explanations
            .iter()
            .map(|e| [e.step.clone(), e.state.to_string(), e.why.clone()])
            .collect();
        table(["STEP", "STATE", "WHY"], &rows)
    })?;
    Ok(ExitCode::SUCCESS)
}
