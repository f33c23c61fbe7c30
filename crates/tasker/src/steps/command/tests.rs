//! Tests of steps that run programs: with real ones, as badly behaved as they come.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tasker_model::outcome::FailureKind;
use tempfile::TempDir;

use super::*;

fn attempt() -> StepContext {
    let context = json!({"id": 7, "name": "Ada", "big": u64::MAX});
    StepContext::example(&context, &[("fetch", Some(json!([1]))), ("skipped", None)])
}

async fn outcome(config: Value) -> Outcome {
    let handler =
        command(&config, Variables::TASK).unwrap_or_else(|problems| panic!("{problems:?}"));
    handler(attempt()).await
}

async fn result(config: Value) -> Value {
    match outcome(config).await {
        Outcome::Completed { result } => result.read().unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn failure(config: Value) -> Failure {
    match outcome(config).await {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

/// A step that runs a script, which may be written here.
fn shell(script: &str) -> Value {
    json!({"program": "sh", "args": ["-c", script], "grace": 0.2})
}

/// Waits for a file that holds a process id.
async fn pid_in(file: &Path) -> Pid {
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        look.tick().await;
        let text = fs::read_to_string(file).unwrap_or_default();
        if let Some(pid) = text.strip_suffix('\n').and_then(|pid| pid.parse().ok()) {
            return Pid::from_raw(pid).unwrap();
        }
    }
    panic!("no process id in {}", file.display());
}

/// Waits until a process does not exist, or is only waited for by a parent that does not look.
async fn gone(pid: Pid) {
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        look.tick().await;
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        match stat {
            Err(_) => return,
            Ok(stat) if stat.rsplit(')').next().unwrap().trim().starts_with('Z') => return,
            Ok(_) => {}
        }
    }
    panic!("process {pid:?} still runs");
}

/// Written by another process: a file that this one has open for writing, or that a program which
/// is just being started has inherited so, cannot be run.
fn script(folder: &TempDir, name: &str, mode: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    let write = "printf '%s' \"$1\" > \"$2\" && chmod \"$3\" \"$2\"";
    let mut writer = std::process::Command::new("sh");
    writer.args(["-c", write, "sh", text]).arg(&path).arg(mode);
    assert!(writer.status().unwrap().success());
    path
}

#[tokio::test]
async fn json_goes_in_and_out() {
    let expected = json!({
        "task_id": "0190b6a0-0000-7000-8000-000000000001",
        "step": "here",
        "attempt": 2,
        "attempt_limit": 3,
        "idempotency_key": "0190b6a0-0000-7000-8000-000000000001-2",
        "context": {"id": 7, "name": "Ada", "big": u64::MAX},
        "results": {"fetch": [1], "skipped": null},
    });
    assert_eq!(result(json!({"program": "cat"})).await, expected);
    let config = json!({"program": "cat", "stdin": {"id": "${{ context.id }}"}});
    assert_eq!(result(config).await, json!({"id": 7}));
    let config = json!({"program": "cat", "stdin": "${{ context.name }}\n", "output": "text"});
    assert_eq!(result(config).await, json!("Ada"));
    let config = json!({"program": "cat", "stdin": null});
    assert_eq!(result(config).await, json!(null));
    let config = json!({"program": "cat", "output": "none"});
    assert_eq!(result(config).await, json!(null));
}

#[tokio::test]
async fn numbers_of_a_result_are_not_touched() {
    let written = r#"{"z": 1.0, "a": 18446744073709551615, "p": 3.14159265358979323846}"#;
    let outcome = outcome(json!({"program": "printf", "args": ["%s\n", written]})).await;
    let Outcome::Completed { result } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(result.as_str(), written);
}

#[tokio::test]
async fn arguments_environment_and_folder_are_as_configured() {
    let folder = TempDir::new().unwrap();
    let text = r#"printf '["%s","%s","%s","%s","%s","%s"]' "$1" "$2" "$A" "${USER-none}" "$TASKER_STEP" "$(pwd -P)""#;
    let config = json!({
        "program": "sh",
        "args": ["-c", text, "sh", "${{ context.id }}", "$(no shell) ${{ context.name }}"],
        "env": {"A": "a ${{ results.fetch[0] }}", "USER": null},
        "cwd": folder.path(),
    });
    let here = folder.path().canonicalize().unwrap();
    let expected = json!(["7", "$(no shell) Ada", "a 1", "none", "here", here]);
    assert_eq!(result(config).await, expected);
    let config = json!({"program": "env", "inherit_env": false, "output": "text"});
    let names = result(config).await;
    let mut names: Vec<_> = names.as_str().unwrap().lines().collect();
    names.sort_unstable();
    assert!(names[0].starts_with("PATH="), "{names:?}");
    assert!(
        names[1..].iter().all(|name| name.starts_with("TASKER_")),
        "{names:?}"
    );
}

#[tokio::test]
async fn exit_codes_decide() {
    let coded = |code: i32| shell(&format!("echo one >&2; echo two >&2; exit {code}"));
    for (code, kind) in [
        (1, FailureKind::Retryable),
        (75, FailureKind::Retryable),
        (70, FailureKind::Retryable),
        (64, FailureKind::Permanent),
        (78, FailureKind::Permanent),
        (127, FailureKind::Permanent),
    ] {
        let failure = failure(coded(code)).await;
        assert_eq!(failure.kind, kind, "{code}");
        assert_eq!(failure.error_code, Some(format!("EXIT_{code}")));
        assert_eq!(
            failure.message,
            format!("`sh` ended with exit code {code}: two")
        );
        let expected = json!({"exit_code": code, "stderr": ["one", "two"]});
        assert_eq!(failure.context, expected);
    }
    let mut config = coded(1);
    config["exit_codes"] = json!({"permanent": [1], "retryable": [78], "success": [0, 3]});
    assert_eq!(failure(config.clone()).await.kind, FailureKind::Permanent);
    config["args"][1] = json!("exit 78");
    assert_eq!(failure(config.clone()).await.kind, FailureKind::Retryable);
    config["args"][1] = json!("echo 5; exit 3");
    assert_eq!(result(config).await, json!(5));
    let killed = failure(shell("kill -9 $$")).await;
    assert_eq!(killed.kind, FailureKind::Retryable);
    assert_eq!(killed.error_code.as_deref(), Some("SIGNAL_9"));
}

#[tokio::test]
async fn a_program_that_does_not_read_its_input_is_not_to_blame() {
    let mut config = shell("echo 1");
    config["stdin"] = json!("x".repeat(4 << 20));
    assert_eq!(result(config).await, json!(1));
    let mut config = shell("exec <&-; echo 2");
    config["stdin"] = json!("x".repeat(4 << 20));
    assert_eq!(result(config).await, json!(2));
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_ended() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("pid");
    let started = Instant::now();
    let text = format!(
        "(trap '' TERM; sleep 1000) & echo $! > {}; echo 3",
        file.display()
    );
    assert_eq!(result(shell(&text)).await, json!(3));
    gone(pid_in(&file).await).await;
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn what_left_the_group_and_holds_the_output_does_not_hold_the_step() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("pid");
    let text = format!(
        "setsid sh -c 'echo $$ > {0}; exec sleep 1000' & \
                        while ! [ -s {0} ]; do :; done; echo 4",
        file.display()
    );
    assert_eq!(result(shell(&text)).await, json!(4));
    let pid = pid_in(&file).await;
    kill_process(pid, Signal::KILL).unwrap();
    gone(pid).await;
}

#[tokio::test]
async fn a_dropped_attempt_ends_the_program_even_if_it_ignores_the_signal() {
    let folder = TempDir::new().unwrap();
    let (leader, child) = (folder.path().join("leader"), folder.path().join("child"));
    let text = format!(
        "trap '' TERM; sleep 1000 & echo $! > {}; echo $$ > {}; echo waiting >&2; wait; wait",
        child.display(),
        leader.display()
    );
    let handler = command(&shell(&text), Variables::TASK).unwrap();
    let attempt = attempt();
    let running = tokio::spawn(handler(attempt.clone()));
    let (leader, child) = (pid_in(&leader).await, pid_in(&child).await);
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    gone(leader).await;
    gone(child).await;
    let logged = attempt.attempt_log().text();
    assert!(logged.is_none_or(|text| text == "waiting\n"));
}

#[test]
fn a_program_is_ended_with_the_runtime() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("pid");
    let text = format!(
        "trap '' TERM; echo $$ > {}; while :; do sleep 1; done",
        file.display()
    );
    let handler = command(&shell(&text), Variables::TASK).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.spawn(handler(attempt()));
    let pid = runtime.block_on(pid_in(&file));
    runtime.shutdown_background();
    tokio::runtime::Runtime::new().unwrap().block_on(gone(pid));
    assert!(crate::steps::programs_ended(Duration::from_secs(20)));
}

#[tokio::test]
async fn a_gigabyte_is_cut_and_the_program_ended() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("pid");
    let text = |to: &str| {
        format!(
            "echo $$ > {}; exec head -c 1000000000 /dev/zero {to}",
            file.display()
        )
    };
    let cut = failure(shell(&text(""))).await;
    assert_eq!(cut.kind, FailureKind::Permanent);
    assert_eq!(cut.error_code.as_deref(), Some("OUTPUT_TOO_LARGE"));
    assert!(
        cut.message.contains("more than 1048576 bytes to stdout"),
        "{}",
        cut.message
    );
    gone(pid_in(&file).await).await;
    let mut config = shell(&text(">&2"));
    config["stderr_bytes_max"] = json!(1_000_000);
    let cut = failure(config).await;
    assert_eq!(cut.error_code.as_deref(), Some("OUTPUT_TOO_LARGE"));
    assert!(
        cut.message.contains("more than 1000000 bytes to stderr"),
        "{}",
        cut.message
    );
    assert!(cut.context.to_string().len() < 10_000);
    assert!(!format!("{cut:?}").contains("\\0"));
    gone(pid_in(&file).await).await;
    let mut config = shell(&text("| head -c 30000000"));
    config["output"] = json!("none");
    assert_eq!(result(config).await, json!(null));
}

#[tokio::test]
async fn a_result_that_is_no_json_is_shown_with_its_place() {
    for (script, expected) in [
        (
            r#"printf '{\n"a": oops}'"#,
            "expected value in line 2, column 6: `\"a\": oops}`",
        ),
        (
            "echo '1 2'",
            "trailing characters in line 1, column 3: `1 2`",
        ),
        ("echo 'hello'", "in line 1, column 1: `hello`"),
        (
            r"printf 'ab\ncd\377'",
            "did not write UTF-8: byte 0xff in line 2, column 3",
        ),
        ("echo '{'", "EOF while parsing"),
    ] {
        let failure = failure(shell(script)).await;
        assert_eq!(failure.kind, FailureKind::Permanent, "{script}");
        assert_eq!(failure.error_code.as_deref(), Some("RESULT_NOT_JSON"));
        assert!(failure.message.contains(expected), "{}", failure.message);
    }
    let mut config = shell("head -c 100000 /dev/zero | tr '\\0' x");
    let failure = failure(config.clone()).await;
    assert!(failure.message.len() < 300, "{}", failure.message);
    config["output"] = json!("text");
    assert_eq!(result(config).await.as_str().unwrap().len(), 100_000);
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_named() {
    let folder = TempDir::new().unwrap();
    let plain = script(&folder, "plain", "644", "#!/bin/sh\n");
    let orphan = script(&folder, "orphan", "755", "#!/no/such/interpreter\n");
    let binary = script(&folder, "binary", "755", "\u{1}\u{2}");
    for (program, code) in [
        ("/no/such/program", "PROGRAM_NOT_FOUND"),
        ("no-such-program-at-all", "PROGRAM_NOT_FOUND"),
        (plain.to_str().unwrap(), "PROGRAM_NOT_EXECUTABLE"),
        (orphan.to_str().unwrap(), "PROGRAM_NOT_FOUND"),
        (binary.to_str().unwrap(), "PROGRAM_NOT_EXECUTABLE"),
    ] {
        let failure = failure(json!({"program": program})).await;
        assert_eq!(failure.kind, FailureKind::Permanent, "{program}");
        assert_eq!(failure.error_code.as_deref(), Some(code), "{failure:?}");
        assert!(failure.message.contains(program), "{}", failure.message);
    }
    let config = json!({"program": "true", "cwd": folder.path().join("none")});
    assert_eq!(
        failure(config).await.error_code.as_deref(),
        Some("CWD_NOT_FOUND")
    );
    let config = json!({"program": "true", "args": ["a\u{0}b"]});
    assert_eq!(failure(config).await.kind, FailureKind::Permanent);
}

#[tokio::test]
async fn what_the_environment_holds_is_shown_nowhere() {
    let secret = std::env::var("PATH").unwrap();
    let mut config = shell("echo \"token=$TOKEN\" >&2; exit 1");
    config["env"] = json!({"TOKEN": "${{ env.PATH }}"});
    let attempt = attempt();
    let outcome = command(&config, Variables::TASK).unwrap()(attempt.clone()).await;
    let Outcome::Failed(failed) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        failed.message,
        "`sh` ended with exit code 1: token=[redacted]"
    );
    assert!(!format!("{failed:?}").contains(&secret));
    assert_eq!(attempt.attempt_log().text().unwrap(), "token=[redacted]\n");
    config["args"][1] = json!("echo \"$TOKEN\"");
    let failed = failure(config.clone()).await;
    assert!(failed.message.contains("[redacted]") && !failed.message.contains(&secret));
    config["env"] = json!({"TOKEN": "${{ env.TASKER_NO_SUCH_VARIABLE }}"});
    let failed = failure(config).await;
    assert_eq!(failed.kind, FailureKind::Retryable);
    assert!(
        failed.message.starts_with("`env/TOKEN`: the expression"),
        "{}",
        failed.message
    );
}

#[tokio::test]
async fn an_expression_without_value_is_a_permanent_failure() {
    let failed = failure(json!({"program": "true", "args": ["${{ context.none }}"]})).await;
    assert_eq!(failed.kind, FailureKind::Permanent);
    assert_eq!(failed.error_code.as_deref(), Some("EXPRESSION"));
    let expected = "`args/0`: the expression `context.none` has no value: `context` has no `none`";
    assert_eq!(failed.message, expected);
}

fn problems(config: &Value) -> Vec<String> {
    let problems = command(config, Variables::TASK).err().unwrap_or_default();
    let lines = problems
        .iter()
        .map(|p| format!("{}: {}", p.path, p.problem));
    lines.collect()
}

#[test]
fn every_problem_of_a_configuration_is_reported() {
    let found = problems(&json!({
        "program": "${{ context.program }}",
        "arg": [],
        "args": ["${{ contxt }}", "${{ env.HOME }}"],
        "env": {"A=B": "x", "C": "${{ env }}"},
        "cwd": 1,
        "output": "yaml",
        "output_bytes_max": -1,
        "grace": "2s",
        "inherit_env": "no",
        "exit_codes": {"retry": [1], "permanent": [1, 256, "2"], "retryable": [1]},
    }));
    for expected in [
        "/arg: unknown key; did you mean `args`?",
        "/program: holds an expression",
        "/args/0: column 1: unknown variable `contxt`; did you mean `context`?",
        "/args/1: column 1: `env` may be used",
        "/env: `A=B` cannot be the name of a variable",
        "/env/C: column 1: `env` is used as a whole",
        "/cwd: expected a text, found a number",
        "/output: expected one of json, text, none, found `yaml`",
        "/output_bytes_max: expected a whole number from 0 to 1073741824, found -1",
        "/grace: expected seconds from 0 to 600, found a text",
        "/inherit_env: expected true or false, found a text",
        "/exit_codes/retry: unknown key; did you mean `retryable`?",
        "/exit_codes/permanent/1: expected an exit code from 0 to 255, found 256",
        "/exit_codes/permanent/2: expected an exit code from 0 to 255, found \"2\"",
        "/exit_codes/permanent: 1 is also in `retryable`",
    ] {
        assert!(
            found.iter().any(|line| line.starts_with(expected)),
            "{expected}: {found:#?}"
        );
    }
    assert_eq!(found.len(), 15, "{found:#?}");
    assert_eq!(problems(&json!({})), ["/program: is required"]);
    assert!(problems(&json!([]))[0].starts_with(": expected an object with program, args"));
}
