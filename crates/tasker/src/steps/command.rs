//! A step that runs a program.
//!
//! The program is started without a shell, reads JSON and writes JSON; its exit code says whether
//! it succeeded. Whatever it does, the attempt ends, memory stays bounded, and of the program and
//! what it started nothing is left.

mod ending;
mod output;
mod exit;
mod run;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::Value;
use tasker_model::json::Json;
use tasker_model::outcome::{Failure, Outcome};

use crate::expression::{Scope, Uses, ValueTemplate, Variables};
use crate::handler::{StepCode, StepContext};

use super::config::Reader;
use super::redact::Secrets;
use super::{ConfigProblem, unreadable};
use exit::ExitCodes;
use run::Prepared;

pub(super) use ending::all_ended;

const KEYS: &[&str] = &[
    "program",
    "args",
    "env",
    "inherit_env",
    "cwd",
    "stdin",
    "exit_codes",
    "output",
    "output_bytes_max",
    "stderr_bytes_max",
    "stderr_lines_max",
    "grace",
];

/// The step as it was configured.
struct Command {
    program: String,
    args: Vec<ValueTemplate>,
    env: Vec<(String, ValueTemplate)>,
    inherit_env: bool,
    cwd: Option<ValueTemplate>,
    stdin: Stdin,
    exit_codes: ExitCodes,
    output: Output,
    output_bytes_max: usize,
    stderr_bytes_max: usize,
    stderr_lines_max: usize,
    grace: Duration,
    uses: Uses,
}

/// What the program reads.
enum Stdin {
    /// One JSON object with all that the step knows.
    Attempt,
    Template(ValueTemplate),
}

/// What the program's output means.
#[derive(Clone, Copy)]
enum Output {
    Json,
    Text,
    None,
}

/// The handler of a step that runs a program; or everything that is wrong with its configuration.
pub(crate) fn command(
    config: &Value,
    variables: Variables,
) -> Result<StepCode, Vec<ConfigProblem>> {
    let command = Arc::new(Command::read(config, variables)?);
    Ok(Arc::new(move |attempt| {
        let command = command.clone();
        async move { command.perform(attempt).await }.boxed()
    }))
}

impl Command {
    fn read(config: &Value, variables: Variables) -> Result<Command, Vec<ConfigProblem>> {
        let mut config = Reader::new(config, KEYS)?;
        let program = config
            .required("program")
            .and_then(|_| config.text("program"));
        if let Some(program) = program.as_ref().filter(|p| p.contains("${{")) {
            let text = format!("holds an expression: `{program}`; which program runs is fixed");
            config.refuse("program", text);
        }
        let args = config.templates("args", variables.plain());
        let env = config.named_templates("env", variables.with_env());
        for (name, _) in env
            .iter()
            .filter(|(name, _)| name.is_empty() || name.contains(['=', '\0']))
        {
            config.refuse("env", format!("`{name}` cannot be the name of a variable"));
        }
        let stdin = match config.template("stdin", variables.plain()) {
            Some(template) => Stdin::Template(template),
            None => Stdin::Attempt,
        };
        let words = [
            ("json", Output::Json),
            ("text", Output::Text),
            ("none", Output::None),
        ];
        let made = Command {
            program: program.unwrap_or_default(),
            args,
            env,
            inherit_env: config.truth("inherit_env", true),
            cwd: config
                .text("cwd")
                .and_then(|_| config.template("cwd", variables.plain())),
            stdin,
            exit_codes: ExitCodes::read(&mut config),
            output: config.word("output", &words, Output::Json),
            output_bytes_max: config.count("output_bytes_max", 1 << 20, 1 << 30),
            stderr_bytes_max: config.count("stderr_bytes_max", 16 << 20, 1 << 40),
            stderr_lines_max: config.count("stderr_lines_max", 10, 50),
            grace: config.seconds("grace", Duration::from_secs(2), Duration::from_mins(10)),
            uses: config.uses.clone(),
        };
        config.end(Some(made))
    }

    async fn perform(&self, attempt: StepContext) -> Outcome {
        match self.result(&attempt).await {
            Ok(result) => Outcome::Completed { result },
            Err(failure) => Outcome::Failed(*failure),
        }
    }

    async fn result(&self, attempt: &StepContext) -> Result<Json, Box<Failure>> {
        let scope = Scope::new(attempt, &self.uses).map_err(unreadable)?;
        let mut secrets = Secrets::default();
        scope.secrets().for_each(|secret| secrets.add(secret));
        let run = async {
            let prepared = Prepared::new(self, attempt, &scope)?;
            let ended = prepared.run(self, attempt, &secrets).await?;
            self.exit_codes.check(self, &ended)?;
            self.output.result(&ended.stdout, &secrets)
        };
        run.await.map_err(|failure| secrets.out_of(failure))
    }
}

impl Output {
    fn result(self, stdout: &[u8], secrets: &Secrets) -> Result<Json, Box<Failure>> {
        match self {
            Output::None => Ok(exit::as_json(&Value::Null)),
            Output::Text => exit::text(stdout),
            Output::Json => exit::json(stdout, secrets),
        }
    }
}

#[cfg(test)]
mod tests;
