//! `tasker doctor`: does the store hold together?

use std::process::ExitCode;

use tasker::diagnose;

use crate::output::{Failure, Output};
use crate::target;

pub(crate) async fn run(store: Option<String>, output: &Output) -> Result<ExitCode, Failure> {
    let store = target::open(store).await?;
    let diagnosis = diagnose(&*store).await?;
    output.data(&diagnosis, || {
        let mut text = format!(
            "examined {} tasks with {} steps\n",
            diagnosis.tasks, diagnosis.steps
        );
        for finding in &diagnosis.findings {
            text += &format!("✗ task {}: {}\n", finding.task_id, finding.found);
        }
        for finding in &diagnosis.quarantined {
            text += &format!("! task {}: {}\n", finding.task_id, finding.found);
        }
        match diagnosis.violations {
            0 => text += "✓ everything holds together\n",
            violations => text += &format!("{violations} things do not hold; please report them\n"),
        }
        text
    })?;
    Ok(if diagnosis.violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}
