//! Killed at random moments, again and again, the engine loses nothing.

use std::collections::HashSet;
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tasker::model::outcome::FailureKind;
use tasker::model::step::StepState;
use tasker::model::task::TaskState;
use tasker::store::store::{Page, TaskFilter};
use tasker::store::{Store, SystemClock};
use tasker_testing::patterns::{MIXED, NESTED};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinHandle;

use crate::server::Server;

const TASKS: usize = 200;
const KILLS: usize = 50;
const NODES: usize = 3;
/// Every eighth befalls the server, the others a worker.
const INCIDENTS: usize = 32;

fn start(url: &str, create: usize) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_chaos-worker"))
        .args([url, &create.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let lines = BufReader::new(worker.stdout.take().unwrap()).lines();
    (worker, lines)
}

/// Reads what the worker executes until it ends or so many attempts were seen.
async fn watch(lines: &mut Lines<BufReader<ChildStdout>>, most: usize, executed: &mut Vec<String>) {
    for _ in 0..most {
        match lines.next_line().await.unwrap() {
            Some(line) => executed.push(line),
            None => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_lose_nothing_and_repeat_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("chaos.db").display());
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let mut executed = Vec::new();
    for kill in 0..KILLS {
        let (mut worker, mut lines) = start(&url, if kill == 0 { TASKS } else { 0 });
        watch(&mut lines, chance.random_range(1..60), &mut executed).await;
        // SIGKILL: no handler, no destructor, no flush.
        worker.kill().await.unwrap();
        watch(&mut lines, usize::MAX, &mut executed).await;
    }
    let (mut worker, mut lines) = start(&url, 0);
    watch(&mut lines, usize::MAX, &mut executed).await;
    assert!(worker.wait().await.unwrap().success());

    assert_nothing_is_lost(&url, &executed).await;
}

async fn assert_nothing_is_lost(url: &str, executed: &[String]) {
    let store = tasker::store::open(url, Arc::new(SystemClock))
        .await
        .unwrap();
    every_task_is_as_it_should_be(&*store).await;
    // A line that a kill cut short cannot be told from another; all others are unique: no attempt
    // ran twice, so neither did a step after its recorded completion.
    let whole: Vec<&String> = executed
        .iter()
        .filter(|l| l.split(' ').count() == 3)
        .collect();
    let different: HashSet<&String> = whole.iter().copied().collect();
    assert_eq!(
        whole.len(),
        different.len(),
        "an attempt was executed twice"
    );
    println!("{} attempts were executed", whole.len());
}

/// Three worker processes on one server; both they and the server are killed again and again.
#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_and_a_killed_server_lose_nothing() {
    let server = Server::start().await;
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let (say, mut said) = mpsc::unbounded_channel();
    let nodes: Vec<Node> = (0..NODES)
        .map(|number| {
            let create = if number == 0 { TASKS } else { 0 };
            Node::start(server.url(), create, say.clone())
        })
        .collect();
    drop(say);
    let mut executed = Vec::new();
    let server = Arc::new(server);
    for incident in 0..INCIDENTS {
        for _ in 0..chance.random_range(1..80) {
            executed.push(said.recv().await.expect("there is work for all incidents"));
        }
        if incident % 8 == 7 {
            let server = server.clone();
            let restart = move || {
                server.down();
                server.up();
            };
            tokio::task::spawn_blocking(restart).await.unwrap();
        } else {
            nodes[chance.random_range(0..NODES)].kill.notify_one();
        }
    }
    while let Some(line) = said.recv().await {
        executed.push(line);
    }
    for node in nodes {
        node.life.await.unwrap();
    }
    assert_nothing_is_lost(&server.url(), &executed).await;
}

/// A worker process that is started again whenever it ends before its work is done.
struct Node {
    kill: Arc<Notify>,
    life: JoinHandle<()>,
}

impl Node {
    fn start(url: String, create: usize, say: UnboundedSender<String>) -> Node {
        let kill = Arc::new(Notify::new());
        let killed = kill.clone();
        let life = tokio::spawn(async move {
            loop {
                let (mut worker, mut lines) = start(&url, create);
                let reading = async {
                    while let Some(line) = lines.next_line().await.unwrap() {
                        say.send(line).unwrap();
                    }
                };
                let mut reading = pin!(reading);
                tokio::select! {
                    () = &mut reading => {}
                    () = killed.notified() => {
                        worker.kill().await.unwrap();
                        reading.await;
                    }
                }
                // It ends with an error if it finds no server when it starts.
                if worker.wait().await.unwrap().success() {
                    return;
                }
            }
        });
        Node { kill, life }
    }
}

async fn every_task_is_as_it_should_be(store: &dyn Store) {
    let diagnosis = tasker::diagnose(store).await.unwrap();
    assert_eq!(diagnosis.violations, 0, "{:#?}", diagnosis.findings);
    let all = Page {
        limit: TASKS + 1,
        before: None,
    };
    nested_tasks_are_as_they_should_be(store).await;
    let mixed = TaskFilter {
        name: Some(MIXED.name.to_owned()),
        ..TaskFilter::default()
    };
    let tasks = store.tasks(mixed, all).await.unwrap();
    assert_eq!(
        tasks.len(),
        TASKS,
        "created once, by a request that was acknowledged"
    );
    for task in &tasks {
        let expected = match (task.steps.done_steps, task.steps.failed_steps) {
            (9, 0) => TaskState::Complete,
            (_, 1..) => TaskState::Error,
            other => panic!("task {} ended with {other:?} steps", task.task_id),
        };
        assert_eq!(task.state, expected, "task {}", task.task_id);
        let detail = store.task_detail(task.task_id).await.unwrap().unwrap();
        for step in detail
            .steps
            .iter()
            .filter(|step| step.state == StepState::Error)
        {
            // No step gives up while it could go on: kills count as attempts, and three lost
            // workers are enough.
            let for_good = [FailureKind::Permanent, FailureKind::Quarantined]
                .map(Some)
                .contains(&step.failure);
            assert!(for_good || step.attempts == step.attempt_limit, "{step:?}");
        }
    }
    let complete = tasks
        .iter()
        .filter(|task| task.state == TaskState::Complete)
        .count();
    println!("{complete} of {TASKS} tasks are complete");
    assert!(complete > 0, "some tasks survive");
}

/// That what failed is undone, and that counts are true, the doctor has said.
async fn nested_tasks_are_as_they_should_be(store: &dyn Store) {
    let nested = TaskFilter {
        name: Some(NESTED.to_owned()),
        ..TaskFilter::default()
    };
    let all = Page {
        limit: TASKS,
        before: None,
    };
    let tasks = store.tasks(nested, all).await.unwrap();
    assert_eq!(tasks.len(), TASKS / 10);
    let (mut complete, mut undone) = (0, 0);
    for task in &tasks {
        let detail = store.task_detail(task.task_id).await.unwrap().unwrap();
        if task.state == TaskState::Complete {
            complete += 1;
            let result = detail.steps[0].result.as_ref().unwrap();
            assert_eq!(result.read::<Vec<Value>>().unwrap().len(), 10);
        }
        undone += usize::from(detail.undone_by.is_some());
    }
    println!("of those with sub-tasks {complete} are complete, {undone} undone");
    assert!(undone > 0, "half of them fail in the end");
}
