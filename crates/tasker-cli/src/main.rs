//! The `tasker` command: arguments → command → exit code.

mod args;
mod output;
mod input;
mod target;
mod definitions;
mod progress;
mod commands;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::args::{Arguments, Command};
use crate::output::{Failure, Output, fail};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    let output = Output::new(arguments.json);
    // What the engine has to warn of, such as a full disk, is for the person to read.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .init();
    // A few threads are enough: the engine has one of its own, and SQLite another.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::check(format!("cannot start: {error}"))),
    };
    match runtime.block_on(run(arguments, &output)) {
        Ok(code) => code,
        Err(failure) => fail(&failure),
    }
}

/// Help and version are what was asked for; everything else is wrong use.
fn refuse(error: &clap::Error) -> ExitCode {
    // If not even this can be printed, there is nobody to tell.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

async fn run(arguments: Arguments, output: &Output) -> Result<ExitCode, Failure> {
    let store = arguments.store;
    match arguments.command {
        Command::Demo(demo) => commands::demo::run(&demo, store, output).await,
        Command::Run(run) => commands::run::run(run, store, output).await,
        Command::Worker(worker) => commands::worker::run(worker, store).await,
        Command::Task(task) => commands::task::run(task, store, output).await,
        Command::Step(step) => commands::step::run(step, store, output).await,
        Command::Explain { task, step } => {
            commands::explain::run(&task, step.as_deref(), store, output).await
        }
        Command::Graph { task, mermaid } => {
            commands::graph::run(&task, mermaid, store, output).await
        }
        Command::Doctor => commands::doctor::run(store, output).await,
        Command::Migrate { status, sql } => {
            commands::migrate::run(status, sql, store, output).await
        }
        Command::Handler(handler) => commands::handler::run(handler, store, output).await,
        Command::Node(node) => commands::node::run(&node, store, output).await,
        Command::Queue(queue) => commands::queue::run(queue, store, output).await,
        Command::Prune(prune) => commands::prune::run(&prune, store, output).await,
        Command::Completions { shell } => commands::manual::completions(shell),
        Command::Man { folder } => commands::manual::man(folder.as_deref(), output),
    }
}
