//! `tasker prune`: old tasks go.

use std::process::ExitCode;

use serde_json::json;
use tasker::{Retention, prune};

use crate::args::Prune;
use crate::output::{Failure, Output};
use crate::target;

pub(crate) async fn run(
    arguments: &Prune,
    store: Option<String>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let store = target::open(store).await?;
    let retention = Retention {
        namespace: arguments.namespace.clone(),
        complete_days: arguments.keep_complete,
        error_days: arguments.keep_error,
    };
    let deleted = prune(&*store, &retention).await?;
    output.data(&json!({"deleted_tasks": deleted}), || {
        format!("deleted {deleted} tasks")
    })?;
    Ok(ExitCode::SUCCESS)
}
