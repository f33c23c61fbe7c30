//! The real binary, in a folder of its own: what the README shows, what people mistype, and what
//! happens when it is interrupted or killed.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use support::{command, tasker, text};

/// Runs what must succeed; gives its data.
#[track_caller]
fn data(folder: &Path, arguments: &[&str]) -> String {
    let output = tasker(folder, arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs what must be refused as wrong use; gives what it says.
#[track_caller]
fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let output = tasker(folder, arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(
        !said.contains("panicked") && !said.contains("backtrace"),
        "{said}"
    );
    said
}

fn demo_done(folder: &Path) {
    data(folder, &["demo", "--pace", "0"]);
}

#[test]
fn every_command_of_the_readme_works() {
    let folder = tempfile::tempdir().unwrap();
    let readme = include_str!("../../../README.md");
    let commands: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("$ tasker "))
        .collect();
    assert!(
        commands.len() >= 7,
        "the README shows its commands: {commands:?}"
    );
    for line in commands {
        let mut arguments: Vec<&str> = line.split(' ').collect();
        if arguments == ["demo"] {
            arguments.extend(["--pace", "0"]);
        }
        assert!(!data(folder.path(), &arguments).is_empty(), "{line}");
    }
}

#[test]
fn the_demo_leaves_a_report_a_summary_and_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let made: Value =
        serde_json::from_str(&data(folder.path(), &["demo", "--pace", "0", "--json"])).unwrap();
    assert_eq!(made["status"], "completed");
    let report = std::fs::read_to_string(made["report"].as_str().unwrap()).unwrap();
    assert!(report.contains("<svg") && report.contains("</html>"));
    let summary = std::fs::read_to_string(made["summary"].as_str().unwrap()).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&summary).unwrap()["overall"]["flights"],
        5_000
    );
    let record = data(folder.path(), &["task", "show", "last", "--record"]);
    assert!(record.contains("write_report") && record.contains("in_progress → complete"));
    let shown: Value =
        serde_json::from_str(&data(folder.path(), &["task", "show", "last", "--json"])).unwrap();
    assert_eq!(shown["task"]["state"], "complete");
    assert_eq!(shown["steps"].as_array().unwrap().len(), 6);
    let drawn = data(folder.path(), &["graph", "last"]);
    assert!(drawn.contains("● ✓ write_report (complete)"), "{drawn}");
    assert!(data(folder.path(), &["graph", "last", "--mermaid"]).starts_with("graph TD"));
}

/// Starts the demo, and gives it once it has said that a step is complete.
fn demo_in_the_middle(folder: &Path) -> std::process::Child {
    use std::io::{BufRead as _, BufReader};
    let mut demo = command(folder, &["demo", "--pace", "300"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stderr.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("completed") {}
    // Whatever it says from now on is not read; an unread pipe must not end it.
    std::thread::spawn(move || lines.for_each(drop));
    demo
}

#[test]
fn a_demo_that_was_killed_continues_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo_in_the_middle(folder.path());
    demo.kill().unwrap();
    demo.wait().unwrap();
    let again = tasker(folder.path(), &["demo", "--pace", "0"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    let said = text(&again.stderr);
    assert!(
        said.contains("continuing where it was") && said.contains("done before"),
        "{said}"
    );
    let tasks: Value =
        serde_json::from_str(&data(folder.path(), &["task", "list", "--json"])).unwrap();
    assert_eq!(
        tasks.as_array().unwrap().len(),
        1,
        "continued, not begun again"
    );
    assert!(data(folder.path(), &["doctor"]).contains("everything holds together"));
}

#[test]
fn a_demo_that_was_interrupted_hands_back_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo_in_the_middle(folder.path());
    let interrupt = Command::new("kill")
        .args(["-INT", &demo.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupt.success());
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    demo_done(folder.path());
    let tasks: Value =
        serde_json::from_str(&data(folder.path(), &["task", "list", "--json"])).unwrap();
    assert_eq!(
        (tasks.as_array().unwrap().len(), &tasks[0]["state"]),
        (1, &"complete".into())
    );
}

#[test]
fn lists_can_be_filtered_in_either_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    demo_done(folder.path());
    let count = |arguments: &[&str]| {
        let list = data(
            folder.path(),
            &[&["task", "list", "--json"], arguments].concat(),
        );
        serde_json::from_str::<Value>(&list)
            .unwrap()
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count(&["--state", "completed"]), 1);
    assert_eq!(count(&["--state", "complete"]), 1);
    assert_eq!(count(&["--state", "failed"]), 0);
    assert_eq!(
        count(&["--namespace", "examples", "--name", "flight_delays"]),
        1
    );
    assert_eq!(count(&["--namespace", "other"]), 0);
    let refused = refusal(folder.path(), &["task", "list", "--state", "done"]);
    assert!(
        refused.contains("unknown task state `done`; allowed: pending"),
        "{refused}"
    );
}

#[test]
fn wrong_use_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for (arguments, part) in [
        (&["tsk"][..], "unrecognized subcommand 'tsk'"),
        (&["task", "shw"], "a similar subcommand exists: 'show'"),
        (&["task", "list"], "run `tasker demo` or `tasker run` first"),
        (
            &["--store", "sqlite:none.db", "doctor"],
            "there is no store at `none.db`",
        ),
        (
            &["--store", "mysql://me:secret@host/db", "doctor"],
            "is not a store",
        ),
        (&["--store", "tasks.db", "doctor"], "expected `sqlite:PATH`"),
    ] {
        let said = refusal(here, arguments);
        assert!(said.contains(part), "{arguments:?}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
    demo_done(here);
    for (arguments, part) in [
        (&["task", "show", "nonsense"][..], "`nonsense` is not an id"),
        (
            &["task", "show", "0195d3b4-0a52-7cc3-98c4-dc0c0c07398f"],
            "there is no task 0195d3b4",
        ),
        (
            &["explain", "last", "write_reprot"],
            "has no step `write_reprot`; it has extract_flights",
        ),
        (
            &["step", "retry", "last", "write_report"],
            "a task in state `complete` cannot retry",
        ),
        (
            &["task", "retry", "last"],
            "a task in state `complete` cannot retry; it can cancel",
        ),
        (
            &["step", "resolve", "last", "write_report", "--result", "{"],
            "--result is not JSON",
        ),
    ] {
        let said = refusal(here, arguments);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}

#[test]
fn a_file_that_is_no_store_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letter.txt");
    let letter =
        "Dear database, I am a letter and long enough to be read as a page header.".repeat(9);
    std::fs::write(&file, &letter).unwrap();
    let output = tasker(folder.path(), &["--store", "sqlite:letter.txt", "doctor"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is damaged or not a Tasker database"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), letter);
}

#[test]
fn orders_are_carried_out_and_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo_in_the_middle(folder.path());
    demo.kill().unwrap();
    demo.wait().unwrap();
    let skipped = data(folder.path(), &["step", "skip", "last", "write_report"]);
    assert!(skipped.contains("is running"), "{skipped}");
    let cancelled = data(folder.path(), &["task", "cancel", "last", "--by", "grace"]);
    assert!(cancelled.contains("is cancelled"), "{cancelled}");
    let record = data(folder.path(), &["task", "show", "last", "--record"]);
    assert!(
        record.contains("(by ada)") && record.contains("(by grace)"),
        "{record}"
    );
    assert!(data(folder.path(), &["doctor"]).contains("everything holds together"));
}
