//! `tasker handler`: definitions, to look at, to check and to compare.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tasker::model::dag::diagram::{self, Node};
use tasker::model::template::{StepTemplate, TaskTemplate};
use tasker::model::wait::WaitFor;
use tasker::yaml::problem::{InvalidFile, Problem};
use tasker::yaml::{self, Difference};

use crate::args::{Handler, HandlerCommand, Templates};
use crate::definitions::Source;
use crate::output::{Failure, Output, table};

pub(crate) async fn run(
    handler: Handler,
    store: Option<String>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let Handler { templates, command } = handler;
    match command {
        HandlerCommand::List => list(&templates.all(store).await?, output),
        HandlerCommand::Show { handler } => {
            show(templates.find(&handler, store).await?.template(), output)
        }
        HandlerCommand::Validate { paths } => validate(&templates, paths, output),
        HandlerCommand::Graph { handler, mermaid } => graph(
            templates.find(&handler, store).await?.template(),
            mermaid,
            output,
        ),
        HandlerCommand::Schema => schema(output),
        HandlerCommand::Diff { before, after } => {
            let before = templates.find(&before, store.clone()).await?;
            let after = templates.find(&after, store).await?;
            diff(before.template(), after.template(), output)
        }
    }
}

#[derive(Serialize)]
struct Listed {
    handler: String,
    description: String,
    steps: usize,
    content_hash: String,
    source: String,
}

fn list(sources: &[Source], output: &Output) -> Result<ExitCode, Failure> {
    let listed = |source: &Source| {
        let template = source.template();
        Listed {
            handler: template.full_name(),
            description: template.source().description.clone(),
            steps: template.source().steps.len(),
            content_hash: template.hash().to_string(),
            source: source.place(),
        }
    };
    let mut listed: Vec<Listed> = sources.iter().map(listed).collect();
    listed.sort_by(|a, b| a.handler.cmp(&b.handler));
    output.data(&listed, || {
        if listed.is_empty() {
            return format!(
                "no task handlers: no files in {}, and none in the store",
                yaml::DIRECTORY
            );
        }
        let row = |of: &Listed| {
            let hash = of.content_hash[..12].to_owned();
            [
                of.handler.clone(),
                of.steps.to_string(),
                hash,
                of.source.clone(),
            ]
        };
        let rows: Vec<[String; 4]> = listed.iter().map(row).collect();
        table(["handler", "steps", "content", "source"], &rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn show(template: &TaskTemplate, output: &Output) -> Result<ExitCode, Failure> {
    let text = yaml::to_yaml(template);
    let data = json!({
        "handler": template.full_name(),
        "content_hash": template.hash().to_string(),
        "definition": template.source(),
        "yaml": text,
    });
    output.data(&data, || text.clone())?;
    Ok(ExitCode::SUCCESS)
}

/// What was found in one file.
#[derive(Serialize)]
struct Checked {
    path: PathBuf,
    handler: Option<String>,
    problems: Vec<Finding>,
    notes: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    line: u64,
    column: u64,
    message: String,
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Finding {
        let Problem { at, message } = problem;
        Finding {
            line: at.line,
            column: at.column,
            message,
        }
    }
}

impl Checked {
    fn good(file: yaml::TemplateFile) -> Checked {
        Checked {
            handler: Some(file.template.full_name()),
            path: file.path,
            problems: Vec::new(),
            notes: file.notes.into_iter().map(Finding::from).collect(),
        }
    }

    fn bad(invalid: InvalidFile) -> Checked {
        Checked {
            path: invalid.path,
            handler: None,
            problems: invalid.problems.into_iter().map(Finding::from).collect(),
            notes: Vec::new(),
        }
    }
}

fn validate(
    templates: &Templates,
    paths: Vec<PathBuf>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let paths = if paths.is_empty() {
        vec![templates.templates.clone()]
    } else {
        paths
    };
    let mut checked = Vec::new();
    for path in paths {
        if path.is_dir() {
            let files = yaml::check_directory(&path, &templates.environment);
            checked.extend(
                files
                    .into_iter()
                    .map(|file| file.map_or_else(Checked::bad, Checked::good)),
            );
        } else {
            checked.push(
                templates
                    .file(&path)
                    .map_or_else(Checked::bad, Checked::good),
            );
        }
    }
    let wrong: usize = checked.iter().map(|file| file.problems.len()).sum();
    output.data(&checked, || report(&checked))?;
    Ok(ExitCode::from(u8::from(wrong > 0)))
}

fn report(checked: &[Checked]) -> String {
    const SHOWN_MAX: usize = 50;
    let mut text = String::new();
    let mut say = |line: &str| writeln!(text, "{line}").expect("invariant: a String takes all");
    for file in checked {
        let source = std::fs::read_to_string(&file.path).unwrap_or_default();
        let lines: Vec<&str> = source.lines().collect();
        let path = file.path.display();
        if let Some(handler) = &file.handler {
            say(&format!("✓ {path}: {handler}"));
        } else {
            say(&format!("✗ {path}"));
        }
        let problems = file.problems.iter().map(|finding| ("error", finding));
        let notes = file.notes.iter().map(|finding| ("note", finding));
        for (kind, finding) in problems.chain(notes).take(SHOWN_MAX) {
            say(&excerpt(kind, &file.path, finding, &lines));
        }
        if let Some(more) = file
            .problems
            .len()
            .checked_sub(SHOWN_MAX)
            .filter(|more| *more > 0)
        {
            say(&format!("  and {more} more problems"));
        }
    }
    if checked.is_empty() {
        say("no template files");
    }
    text
}

/// A finding with the line that it is about.
fn excerpt(kind: &str, path: &Path, finding: &Finding, lines: &[&str]) -> String {
    const SHOWN_CHARS: usize = 100;
    let Finding {
        line,
        column,
        message,
    } = finding;
    let head = format!(
        "  {kind}: {message}\n    --> {}:{line}:{column}",
        path.display()
    );
    let place = usize::try_from(*line)
        .ok()
        .and_then(|line| line.checked_sub(1));
    let Some(shown) = place.and_then(|place| lines.get(place)) else {
        return head;
    };
    let column = usize::try_from(*column).unwrap_or(1);
    if column > SHOWN_CHARS {
        return head;
    }
    let shown: String = shown
        .chars()
        .take(SHOWN_CHARS)
        .map(|c| if c == '\t' { ' ' } else { c })
        .collect();
    let number = line.to_string();
    let (gap, mark) = (" ".repeat(number.len()), " ".repeat(column - 1));
    format!("{head}\n    {gap} |\n    {number} | {shown}\n    {gap} | {mark}^")
}

fn graph(template: &TaskTemplate, mermaid: bool, output: &Output) -> Result<ExitCode, Failure> {
    let steps = &template.source().steps;
    let special: Vec<String> = steps.iter().map(note).collect();
    let nodes: Vec<Node<'_>> = steps
        .iter()
        .zip(&special)
        .map(|(step, note)| Node {
            name: step.name.as_str(),
            state: None,
            note,
        })
        .collect();
    let source = diagram::mermaid(template.dag(), &nodes);
    let edges = steps.iter().flat_map(|step| {
        step.depends_on_steps
            .iter()
            .map(move |parent| [parent.clone(), step.name.to_string()])
    });
    let data = json!({
        "handler": template.full_name(),
        "nodes": steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(),
        "edges": edges.collect::<Vec<_>>(),
        "mermaid": source,
    });
    output.data(&data, || {
        if mermaid {
            source.clone()
        } else {
            diagram::text(template.dag(), &nodes)
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What is special about a step: when it runs, and what it starts.
fn note(step: &StepTemplate) -> String {
    let mut notes = Vec::new();
    if let Some(when) = &step.when {
        notes.push(format!("when {when}"));
    }
    match &step.wait {
        None => {}
        Some(WaitFor::Delay { delay_ms }) => {
            notes.push(format!("after {:?}", Duration::from_millis(*delay_ms)));
        }
        Some(WaitFor::Until { time }) => notes.push(format!("at {time}")),
        Some(WaitFor::Signal { name, .. }) => notes.push(format!("on signal {name}")),
    }
    if let Some(map) = &step.map {
        notes.push(format!("for each of {}", map.over));
    }
    if step.starts_task {
        notes.push(format!("starts {}", started(step)));
    }
    if step.undo.is_some() {
        notes.push("can be undone".to_owned());
    }
    if step.point_of_no_return {
        notes.push("no return".to_owned());
    }
    notes.join(", ")
}

/// The task handler that a step starts, as fully as its file names it: the name alone may be that of several.
fn started(step: &StepTemplate) -> String {
    let said = |key: &str| step.handler_config.as_ref()?[key].as_str();
    let Some(name) = said("name") else {
        return "a task".to_owned();
    };
    let namespace = said("namespace").map(|namespace| format!("{namespace}."));
    let version = said("version").map(|version| format!("@{version}"));
    namespace.unwrap_or_default() + name + &version.unwrap_or_default()
}

fn schema(output: &Output) -> Result<ExitCode, Failure> {
    let value: serde_json::Value =
        serde_json::from_str(yaml::SCHEMA).map_err(|error| Failure::check(error.to_string()))?;
    output.data(&value, || yaml::SCHEMA.to_owned())?;
    Ok(ExitCode::SUCCESS)
}

fn diff(before: &TaskTemplate, after: &TaskTemplate, output: &Output) -> Result<ExitCode, Failure> {
    let found = yaml::differences(before, after);
    output.data(&found, || {
        if found.is_empty() {
            return format!(
                "no difference: content {}",
                &before.hash().to_string()[..12]
            );
        }
        found.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitCode::from(u8::from(!found.is_empty())))
}

fn line(difference: &Difference) -> String {
    let Difference { at, before, after } = difference;
    match (before, after) {
        (None, Some(after)) => format!("+ {at}: {after}"),
        (Some(before), None) => format!("- {at}: {before}"),
        (before, after) => {
            let shown = |value: &Option<serde_json::Value>| value.clone().unwrap_or_default();
            format!("~ {at}: {} → {}", shown(before), shown(after))
        }
    }
}
