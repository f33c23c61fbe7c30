//! `tasker migrate`: the schema of a PostgreSQL store.

use std::process::ExitCode;

use serde_json::json;
use tasker::store::postgres::PostgresStore;

use crate::output::{Failure, Output, table};

pub(crate) async fn run(
    status: bool,
    sql: bool,
    store: Option<String>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let hint = "name it with --store postgres://USER@HOST/DATABASE, or with TASKER_STORE";
    let url = store.ok_or_else(|| Failure::usage("which store?").hint(hint))?;
    if !url.starts_with("postgres") {
        let text = "only a PostgreSQL store is migrated by hand; others are when they are opened";
        return Err(Failure::usage(text).hint(hint));
    }
    if sql {
        let script = PostgresStore::migration_script(&url)?;
        output.data(&json!({"sql": script}), || script.clone())?;
        return Ok(ExitCode::SUCCESS);
    }
    if status {
        return show(&url, output).await;
    }
    let (before, after) = PostgresStore::migrate(&url).await?;
    output.data(&json!({"before": before, "after": after}), || {
        if before == after {
            format!("the schema has version {after} already")
        } else {
            format!("the schema went from version {before} to {after}")
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Exit status 1 if something is missing, so that a deployment can ask.
async fn show(url: &str, output: &Output) -> Result<ExitCode, Failure> {
    let migrations = PostgresStore::migrations(url).await?;
    output.data(&migrations, || {
        let rows: Vec<[String; 3]> = migrations
            .iter()
            .map(|migration| {
                let applied = if migration.applied {
                    "applied"
                } else {
                    "missing"
                };
                [
                    migration.version.to_string(),
                    migration.name.clone(),
                    applied.to_owned(),
                ]
            })
            .collect();
        table(["VERSION", "NAME", "STATUS"], &rows)
    })?;
    let complete = migrations.iter().all(|migration| migration.applied);
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}
