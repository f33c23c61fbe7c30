//! `tasker run`, `tasker worker` and signals: workflows without a line of Rust.

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use support::{command, tasker, text};

/// Runs what must end with this status; gives its data and what it says.
#[track_caller]
fn ends(folder: &Path, status: i32, arguments: &[&str]) -> (String, String) {
    let output = tasker(folder, arguments);
    let (data, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        output.status.code(),
        Some(status),
        "{arguments:?}: {data}{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
    (data, said)
}

const APPROVAL: &str = "\
name: approval
schema: {type: object, required: [order], properties: {order: {type: integer}}}
step_templates:
  - {name: pause, delay: 10ms}
  - {name: decision, depends_on_step: pause, wait_for: approval}
  - {name: late, depends_on_step: decision, delay: 10ms, trigger_rule: any_failed}
";

fn folder_with(name: &str, text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    folder
}

/// Starts a command, and gives it with the first line of its talk that contains a text.
fn started(folder: &Path, arguments: &[&str], until: &str) -> (Child, String) {
    let mut child = command(folder, arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let found = lines.find_map(|line| line.ok().filter(|line| line.contains(until)));
    let found = found.expect("it says so before it ends");
    // Whatever it says from now on is not read; an unread pipe must not end it.
    std::thread::spawn(move || lines.for_each(drop));
    (child, found)
}

#[test]
fn a_signal_from_another_process_lets_a_run_go_on() {
    let folder = folder_with("approval.yaml", APPROVAL);
    let arguments = [
        "run",
        "approval.yaml",
        "--context",
        r#"{"order": 5}"#,
        "--json",
    ];
    let (run, hint) = started(folder.path(), &arguments, "tasker task signal ");
    let words: Vec<&str> = hint.rsplit("tasker ").next().unwrap().split(' ').collect();
    let (why, _) = ends(folder.path(), 0, &["explain", "last"]);
    assert!(why.contains("it waits for signal `approval`"), "{why}");
    let mut signal = words;
    signal.push(r#"{"approved": true}"#);
    let (sent, _) = ends(folder.path(), 0, &signal);
    assert!(sent.contains("a step waited for it, and goes on"), "{sent}");
    let ended = run.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    let ended: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(ended["status"], "completed");
    assert_eq!(ended["results"]["decision"]["approved"], true);
    assert_eq!(ended["results"].get("late"), None, "it was skipped");
    let (_, refused) = ends(folder.path(), 1, &["task", "signal", "last", "approval"]);
    assert!(
        refused.contains("nothing of it waits for a signal any more"),
        "{refused}"
    );
}

#[test]
fn a_run_that_failed_says_so_and_what_to_do() {
    let failing = "name: f\nstep_templates: [{name: a, wait_for: {signal: s, timeout: 0.01}}]\n";
    let folder = folder_with("f.yaml", failing);
    let (data, said) = ends(folder.path(), 1, &["run", "f.yaml"]);
    assert!(
        data.contains("a     failed  signal `s` did not come in time"),
        "{data}"
    );
    assert!(said.contains("hint: `tasker explain "), "{said}");
    let json: Value =
        serde_json::from_str(&ends(folder.path(), 1, &["run", "f.yaml", "--json"]).0).unwrap();
    assert_eq!(json["state"], "error");
    assert_eq!(json["failures"]["a"], "signal `s` did not come in time");
}

#[test]
fn input_comes_from_the_line_a_file_or_standard_input() {
    let quick = APPROVAL.replace("wait_for: approval", "delay: 1ms");
    let folder = folder_with("a.yaml", &quick);
    std::fs::write(folder.path().join("order.json"), "\u{feff}{\"order\": 7}").unwrap();
    ends(folder.path(), 0, &["run", "a.yaml", "-c", "@order.json"]);
    let mut piped = command(folder.path(), &["run", "a.yaml", "-c", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut piped.stdin.take().unwrap(), b"{\"order\": 8}").unwrap();
    assert!(piped.wait().unwrap().success());
    for (context, expected) in [
        ("{order}", "--context is not JSON"),
        ("@gone.json", "cannot read `gone.json`"),
        (
            r#"{"order": "7"}"#,
            r#"/order: "7" is not of type "integer""#,
        ),
    ] {
        let (_, said) = ends(folder.path(), 2, &["run", "a.yaml", "-c", context]);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_run_is_asked_for_once_under_its_key() {
    let folder = folder_with(
        "a.yaml",
        "name: a\nstep_templates: [{name: x, delay: 1ms}]\n",
    );
    let run = || {
        let arguments = ["run", "a.yaml", "--idempotency-key", "k", "--json"];
        let ended: Value = serde_json::from_str(&ends(folder.path(), 0, &arguments).0).unwrap();
        ended["task_id"].clone()
    };
    assert_eq!(run(), run());
}

#[test]
fn an_interrupted_run_is_finished_by_a_worker() {
    let folder = folder_with("config/tasker/tasks/approval.yaml", APPROVAL);
    let arguments = ["run", "approval", "-c", r#"{"order": 5}"#];
    let (mut run, _) = started(folder.path(), &arguments, "tasker task signal ");
    interrupt(&run);
    assert_eq!(run.wait().unwrap().code(), Some(130));
    ends(
        folder.path(),
        0,
        &["task", "signal", "last", "approval", "true"],
    );
    let (mut worker, line) = started(folder.path(), &["worker"], "completed decision");
    assert!(line.contains("completed decision"), "{line}");
    interrupt(&worker);
    assert!(worker.wait().unwrap().success());
    let (shown, _) = ends(folder.path(), 0, &["task", "show", "last"]);
    assert!(shown.contains("✓ decision"), "{shown}");
}

#[test]
fn what_an_interrupted_run_says_to_do_works_as_it_stands() {
    let folder = folder_with("flows/approval.yaml", APPROVAL);
    let store = "sqlite:elsewhere.db";
    let arguments = [
        "--store",
        store,
        "run",
        "flows/approval.yaml",
        "-c",
        "{\"order\": 5}",
    ];
    let mut run = command(folder.path(), &arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines();
    let mut command_in = |start: &str, end: &str| {
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains(start)));
        let line = line.expect("it says so before it ends");
        let (_, rest) = line.split_once("tasker ").unwrap();
        let shown = rest.split(end).next().unwrap();
        // What a shell makes of it.
        shown.replace('\'', "")
    };
    let signal = command_in("tasker task signal ", "\n") + " true";
    interrupt(&run);
    let worker = command_in("hint: `tasker worker ", "` ");
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert_eq!(worker, format!("worker --store {store} --templates flows"));
    ends(folder.path(), 0, &words(&signal));
    let (mut worker, _) = started(folder.path(), &words(&worker), "completed decision");
    interrupt(&worker);
    assert!(worker.wait().unwrap().success());
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn interrupt(child: &Child) {
    let status = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_worker_starts_anew_when_a_file_changes_and_survives_a_wrong_one() {
    let folder = folder_with(
        "config/tasker/tasks/a.yaml",
        "name: a\nstep_templates: [{name: x, delay: 1ms}]\n",
    );
    let path = folder.path().join("config/tasker/tasks/a.yaml");
    let mut worker = command(folder.path(), &["worker", "--watch"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(worker.stderr.take().unwrap()).lines();
    let mut said = |what: &str| lines.any(|line| line.unwrap().contains(what));
    assert!(said("working on sqlite:tasker.db"));
    std::fs::write(&path, "name: [").unwrap();
    assert!(said(
        "the files have changed, and are wrong; going on with what was:"
    ));
    std::fs::write(
        &path,
        "name: a\nversion: 0.2.0\nstep_templates: [{name: y, delay: 1ms}]\n",
    )
    .unwrap();
    assert!(said("default.a@0.2.0"));
    interrupt(&worker);
    assert!(said("stopping"));
    assert!(worker.wait().unwrap().success());
}

#[test]
fn what_cannot_be_run_is_refused() {
    let folder = folder_with(
        "a.yaml",
        "name: a\nstep_templates: [{name: x, handler: Shop::Charge}]\n",
    );
    let (_, missing) = ends(folder.path(), 2, &["run", "a.yaml"]);
    assert!(
        missing
            .contains("a.yaml:2:28: no code is registered for handler `Shop::Charge` of step `x`"),
        "{missing}"
    );
    let (_, gone) = ends(folder.path(), 2, &["run", "b.yaml"]);
    assert!(gone.contains("b.yaml:1:1: cannot be read"), "{gone}");
    let (_, empty) = ends(folder.path(), 2, &["worker"]);
    assert!(
        empty.contains("there are no template files in `config/tasker/tasks`"),
        "{empty}"
    );
}

#[test]
fn shells_and_man_are_served() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (script, _) = ends(folder.path(), 0, &["completions", shell]);
        assert!(script.contains("tasker"), "{shell}");
    }
    let (page, _) = ends(folder.path(), 0, &["man"]);
    assert!(page.starts_with(".ie"), "{page}");
    let (pages, _) = ends(folder.path(), 0, &["man", "--folder", "pages"]);
    assert!(pages.contains("pages/tasker-run.1"), "{pages}");
}

const PROGRAMS: &str = r#"
name: programs
step_templates:
  - name: list
    handler: {command: {program: sh, args: [-c, 'echo looking >&2; echo "{\"total\": 6}"']}}
  - name: big
    depends_on_step: list
    when: results.list.total > 10
    handler: {command: {program: sh, args: [-c, 'echo 1']}}
  - name: fails
    depends_on_step: list
    retryable: false
    handler: {command: {program: sh, args: [-c, 'echo oops >&2; exit 3']}}
  - name: tell
    depends_on_steps: [big, fails]
    trigger_rule: any_failed
    handler: {command: {program: sh, args: [-c, 'echo "\"told\""']}}
"#;

#[test]
fn programs_and_conditions_make_a_workflow() {
    let folder = folder_with("p.yaml", PROGRAMS);
    let (data, _) = ends(folder.path(), 1, &["run", "p.yaml", "--json"]);
    let ended: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(ended["results"]["list"]["total"], 6);
    assert_eq!(ended["results"]["tell"], "told");
    assert_eq!(ended["results"].get("big"), None);
    let failure = ended["failures"]["fails"].as_str().unwrap();
    assert!(
        failure.contains("exit code 3") && failure.contains("oops"),
        "{failure}"
    );
    let (record, _) = ends(folder.path(), 0, &["task", "show", "last", "--record"]);
    assert!(
        record.contains("list, attempt 1, logged:\n  looking\n"),
        "{record}"
    );
    assert!(
        record.contains("skipped: its condition was false"),
        "{record}"
    );
}

#[test]
fn a_worker_that_is_killed_in_a_program_loses_nothing() {
    let text = "name: k\nstep_templates: [{name: a, handler: {command: {program: sh, args: [-c, 'test -e go || { echo waiting >&2; exec sleep 1000; }; echo 7']}}}]\n";
    let folder = folder_with("config/tasker/tasks/k.yaml", text);
    let (mut run, _) = started(folder.path(), &["run", "k", "--lease", "1"], "started a");
    run.kill().unwrap();
    run.wait().unwrap();
    std::fs::write(folder.path().join("go"), "").unwrap();
    let (mut worker, _) = started(folder.path(), &["worker"], "completed a");
    interrupt(&worker);
    worker.wait().unwrap();
    let (shown, _) = ends(folder.path(), 0, &["task", "show", "last", "--results"]);
    assert!(shown.contains("a: 7"), "{shown}");
}

/// Items wait for a file; then all goes well but the last step.
const NESTED: &str = r#"
name: nested
step_templates:
  - name: each
    map: {over: "[1, 2, 3]", concurrency: 2}
    handler: {command: {program: sh, args: [-c, 'until [ -e go ]; do sleep 0.01; done; echo "$0"', '${{ item }}']}}
    undo: {handler: {command: {program: sh, args: [-c, 'echo "\"undone\""']}}}
  - {name: other, depends_on_step: each, handler: {task: {name: other, context: {n: '${{ results.each[2] }}'}}}}
  - {name: fails, depends_on_step: other, retryable: false, handler: {command: {program: 'false'}}}
"#;
const OTHER: &str = "name: other\nstep_templates: [{name: only, handler: {command: {program: cat, stdin: '${{ context.n }}'}}}]\n";

#[test]
fn a_run_shows_what_it_starts_and_what_undoes_it() {
    let folder = folder_with("nested.yaml", NESTED);
    std::fs::write(folder.path().join("other.yaml"), OTHER).unwrap();
    let arguments = ["run", "nested.yaml", "--json"];
    let (run, _) = started(folder.path(), &arguments, "progress each 0/3 done, 1 held");
    let (shown, _) = ends(folder.path(), 0, &["task", "show", "last"]);
    assert!(shown.contains("0/3 done, 1 held"), "{shown}");
    let (why, _) = ends(folder.path(), 0, &["explain", "last"]);
    assert!(why.contains("sub-tasks"), "{why}");
    std::fs::write(folder.path().join("go"), "").unwrap();
    let ended = run.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let ended: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(ended["results"]["each"], serde_json::json!([1, 2, 3]));
    assert_eq!(ended["results"]["other"], 3);
    assert_eq!(ended["undone_by"]["state"], "complete", "{ended}");
    let (shown, _) = ends(folder.path(), 0, &["task", "show", "last"]);
    assert!(shown.contains("\nundone   by task "), "{shown}");
    let (items, _) = ends(
        folder.path(),
        0,
        &["task", "subtasks", "last", "each", "--from", "1"],
    );
    assert_eq!(items.lines().count(), 3, "{items}");
    let part = items
        .lines()
        .last()
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap();
    let (shown, _) = ends(folder.path(), 0, &["task", "show", part]);
    assert!(
        shown.contains("part of  task ") && shown.contains("step `each`, item 2"),
        "{shown}"
    );
    let (list, _) = ends(folder.path(), 0, &["task", "list"]);
    assert_eq!(list.lines().count(), 2, "{list}");
    let (list, _) = ends(folder.path(), 0, &["task", "list", "--also-subtasks"]);
    assert_eq!(list.lines().count(), 7, "{list}");
    let (drawn, _) = ends(folder.path(), 0, &["handler", "graph", "nested.yaml"]);
    let expected = "● each · for each of [1, 2, 3], can be undone\n● other · starts other\n● fails";
    assert_eq!(drawn.trim(), expected);
    let (doctor, _) = ends(folder.path(), 0, &["doctor"]);
    assert!(doctor.contains("examined 6 tasks"), "{doctor}");
}

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Runs the commands that a page shows from the root of the repository, on a store of their own.
fn run_commands_of(page: &str, least: usize) {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    let commands: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("% tasker "))
        .collect();
    assert!(commands.len() >= least, "{commands:?}");
    for line in commands {
        let arguments: Vec<&str> = ["--store", &store]
            .into_iter()
            .chain(line.split(' '))
            .collect();
        assert!(!ends(root(), 0, &arguments).0.is_empty(), "{line}");
    }
}

#[test]
fn every_command_of_the_readme_about_files_works() {
    let readme = include_str!("../../../README.md");
    let (_, section) = readme.split_once("## A workflow without Rust").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    run_commands_of(section, 4);
    let shown = section
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let folder = folder_with("shown.yaml", shown.unwrap());
    ends(folder.path(), 0, &["handler", "validate", "shown.yaml"]);
}

#[test]
fn every_command_of_the_examples_works() {
    let mut pages = 0;
    for example in std::fs::read_dir(root().join("examples")).unwrap() {
        let page = example.unwrap().path().join("README.md");
        if let Ok(page) = std::fs::read_to_string(page) {
            run_commands_of(&page, 1);
            pages += 1;
        }
    }
    assert!(pages > 0);
}

/// What the README of the example says, word for word but for the place of its state.
#[test]
fn a_purchase_goes_on_after_a_kill_when_it_is_approved() {
    let folder = tempfile::tempdir().unwrap();
    let example = root().join("examples/approval").canonicalize().unwrap();
    let shown = |path: &str| example.join(path).display().to_string();
    let context = serde_json::json!({
        "requester": "ada", "item": "a desk", "amount": 900,
        "folder": example, "state": folder.path().join("state"),
    });
    let (context, file) = (context.to_string(), shown("approval.yaml"));
    let run = ["run", &file, "--context", &context];
    let (mut run, _) = started(folder.path(), &run, "tasker task signal ");
    run.kill().unwrap();
    run.wait().unwrap();
    let signal = [
        "task",
        "signal",
        "last",
        "approval",
        r#"{"approved": true}"#,
    ];
    ends(folder.path(), 0, &signal);
    let worker = ["worker", "--templates", &shown("")];
    let (mut worker, _) = started(folder.path(), &worker, "completed confirm");
    interrupt(&worker);
    assert!(worker.wait().unwrap().success());
    let (shown, _) = ends(folder.path(), 0, &["task", "show", "last"]);
    assert!(shown.contains("completed (complete)"), "{shown}");
}
