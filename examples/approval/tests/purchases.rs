//! The file as it stands, with people who approve, reject, are early, and do not answer at all.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tasker::model::name::Queue;
use tasker::model::outcome::FailureKind;
use tasker::model::step::StepState;
use tasker::model::task::TaskState;
use tasker::model::transition::Change;
use tasker::store::store::Signalled;
use tasker::{Options, StepHandlers, Task, TaskRequest, Tasker, yaml};

/// Waits as long as the file says.
const PATIENT: &str = yaml::DEFAULT_ENVIRONMENT;
/// Nobody is waited for.
const HASTY: &str = "test";

/// A store, and what the scripts know.
struct World(tempfile::TempDir);

impl World {
    fn new() -> World {
        World(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn start_with(&self, environment: &str, options: Options) -> Tasker {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("approval.yaml");
        let file = yaml::load_file(&path, environment).unwrap();
        assert_eq!(file.notes, []);
        let handler = StepHandlers::new().bind(&file).unwrap();
        let store = format!("sqlite:{}", self.path("store.db").display());
        let tasker = Tasker::builder(store).register(handler).options(options);
        tasker.start().await.unwrap()
    }

    async fn start(&self, environment: &str) -> Tasker {
        self.start_with(environment, Options::default()).await
    }

    /// Asks for what a file of the README wants, with these members in place of its own.
    async fn ask(&self, tasker: &Tasker, sample: &str, changes: Value) -> Task {
        let mut context: Value = serde_json::from_str(sample).unwrap();
        context["folder"] = json!(env!("CARGO_MANIFEST_DIR"));
        context["state"] = json!(self.path("state"));
        for (name, value) in changes.as_object().unwrap() {
            context[name] = value.clone();
        }
        let request = TaskRequest::new("approval")
            .namespace("purchases")
            .context(context);
        tasker.executor().execute_async(request).await.unwrap()
    }

    /// Of whom money is reserved.
    fn reserved(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.path("state/reserved")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    fn ordered(&self) -> usize {
        let orders = std::fs::read_dir(self.path("state/orders"));
        orders.map_or(0, Iterator::count)
    }

    /// What was said, without the keys.
    fn post(&self) -> Vec<String> {
        let post = std::fs::read_to_string(self.path("state/post")).unwrap_or_default();
        let lines = post.lines().map(|line| line.split_once(" to ").unwrap().1);
        lines.map(str::to_owned).collect()
    }
}

const DESK: &str = include_str!("../desk.json");
const LAMP: &str = include_str!("../lamp.json");

/// Returns when a step waits for its signal.
async fn waits(tasker: &Tasker, task: &Task, name: &str) {
    let mut events = tasker.events();
    loop {
        let steps = task.detail().await.unwrap().steps;
        let mut found = steps.iter().filter(|step| step.name.as_str() == name);
        let step = found.next().unwrap();
        if step.state == StepState::Pending && step.due_at.is_some() {
            return;
        }
        events.next().await.unwrap();
    }
}

async fn answer(tasker: &Tasker, task: &Task, payload: Value) -> Signalled {
    let sent = tasker.signal(task.id(), "approval", &payload, "grace");
    sent.await.unwrap()
}

async fn status(task: &Task, name: &str) -> &'static str {
    let steps = task.workflow_steps().await.unwrap();
    let step = steps.into_iter().find(|step| step.name == name);
    step.unwrap().status
}

/// What was undone, in its order, once all of it is.
async fn undone(tasker: &Tasker, task: &mut Task, expected: TaskState) -> Vec<String> {
    let mut events = tasker.events();
    assert_eq!(task.wait(None).await.unwrap(), expected);
    let undo = loop {
        if let Some((undo, _)) = task.detail().await.unwrap().undone_by {
            break undo;
        }
        events.next().await.unwrap();
    };
    let mut undo = tasker.executor().task(undo).await.unwrap();
    assert_eq!(undo.wait(None).await.unwrap(), TaskState::Complete);
    let detail = undo.detail().await.unwrap();
    let completed = detail.transitions.iter().filter_map(|it| match it.change {
        Change::Step {
            position,
            to: StepState::Complete,
            ..
        } => Some(detail.steps[position as usize].name.to_string()),
        _ => None,
    });
    completed.collect()
}

#[tokio::test]
async fn what_is_approved_is_ordered() {
    let world = World::new();
    let tasker = world.start(PATIENT).await;
    let mut task = world.ask(&tasker, DESK, json!({})).await;
    waits(&tasker, &task, "first_answer").await;
    assert_eq!(world.reserved(), [task.id().to_string()]);
    let sent = answer(&tasker, &task, json!({"approved": true})).await;
    assert_eq!(sent, Signalled::Delivered);
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    assert_eq!(world.ordered(), 1);
    assert_eq!(world.reserved().len(), 1);
    for name in ["remind_approver", "release_budget", "reject"] {
        assert_eq!(status(&task, name).await, "skipped", "{name}");
    }
    let (asked, order) = (task.id(), format!("{}-5", task.id()));
    let said = [
        format!("grace: may ada buy a desk for 900? Answer task {asked}"),
        format!("ada: a desk is ordered: {order}"),
    ];
    assert_eq!(world.post(), said);
}

#[tokio::test]
async fn what_is_rejected_gives_its_budget_back_and_is_no_failure() {
    let world = World::new();
    let tasker = world.start(PATIENT).await;
    for (payload, reason) in [
        (json!({"approved": false, "reason": "too dear"}), "too dear"),
        (json!({"approved": false}), "no reason was given"),
    ] {
        let mut task = world.ask(&tasker, DESK, json!({})).await;
        waits(&tasker, &task, "first_answer").await;
        answer(&tasker, &task, payload).await;
        assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
        assert_eq!(status(&task, "order").await, "skipped");
        assert_eq!(status(&task, "confirm").await, "skipped");
        assert!(task.detail().await.unwrap().undone_by.is_none());
        let last = world.post().pop().unwrap();
        assert_eq!(last, format!("ada: a desk will not be bought: {reason}"));
    }
    assert_eq!(world.reserved(), [""; 0]);
    assert_eq!(world.ordered(), 0);
}

#[tokio::test]
async fn who_does_not_answer_is_reminded_and_then_has_said_no() {
    let world = World::new();
    let tasker = world.start(HASTY).await;
    let mut task = world.ask(&tasker, DESK, json!({})).await;
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    let said = [
        format!(
            "grace: may ada buy a desk for 900? Answer task {}",
            task.id()
        ),
        "grace: ada still waits for a desk".to_owned(),
        "ada: a desk will not be bought: nobody has answered".to_owned(),
    ];
    assert_eq!(world.post(), said);
    assert_eq!(world.reserved(), [""; 0]);
}

/// A task whose answer comes before anything of it has run, and an engine that runs it now, in no time.
async fn answered_before(world: &World, sample: &str, changes: Value) -> (Tasker, Task) {
    let elsewhere = Options {
        queues: vec![Queue::new("elsewhere").unwrap()],
        ..Options::default()
    };
    let tasker = world.start_with(HASTY, elsewhere).await;
    let task = world.ask(&tasker, sample, changes).await;
    let sent = answer(&tasker, &task, json!({"approved": true})).await;
    assert_eq!(sent, Signalled::Kept);
    tasker.stop().await.unwrap();
    let tasker = world.start(HASTY).await;
    let task = tasker.executor().task(task.id()).await.unwrap();
    (tasker, task)
}

#[tokio::test]
async fn an_answer_that_is_there_before_the_question_counts() {
    let world = World::new();
    let (_tasker, mut task) = answered_before(&world, DESK, json!({})).await;
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    assert_eq!(world.ordered(), 1);
    assert_eq!(status(&task, "remind_approver").await, "skipped");
}

#[tokio::test]
async fn what_cannot_be_ordered_is_undone_the_last_first() {
    for (supplier, attempts) in [("nobody", 1), ("acme-on-holiday", 3)] {
        let world = World::new();
        let context = json!({"supplier": supplier});
        let (tasker, mut task) = answered_before(&world, LAMP, context).await;
        let undone = undone(&tasker, &mut task, TaskState::Error).await;
        assert_eq!(undone, ["ask_approver", "reserve_budget"]);
        let steps = task.workflow_steps().await.unwrap();
        let order = steps.iter().find(|step| step.name == "order").unwrap();
        assert_eq!((order.status, order.attempts), ("failed", attempts));
        assert_eq!(world.reserved(), [""; 0]);
        let last = world.post().pop().unwrap();
        assert_eq!(last, "grace: never mind a lamp: it will not be bought");
    }
}

#[tokio::test]
async fn what_is_cancelled_while_it_waits_is_undone_too() {
    let world = World::new();
    let tasker = world.start(PATIENT).await;
    let mut task = world.ask(&tasker, DESK, json!({})).await;
    waits(&tasker, &task, "first_answer").await;
    tasker.cancel_task(task.id(), "ada").await.unwrap();
    let undone = undone(&tasker, &mut task, TaskState::Cancelled).await;
    assert_eq!(undone, ["ask_approver", "reserve_budget"]);
    assert_eq!(world.reserved(), [""; 0]);
}

#[tokio::test]
async fn an_answer_that_says_nothing_is_neither_yes_nor_no() {
    let world = World::new();
    let tasker = world.start(PATIENT).await;
    let mut task = world.ask(&tasker, DESK, json!({})).await;
    answer(&tasker, &task, json!("well")).await;
    undone(&tasker, &mut task, TaskState::Error).await;
    assert_eq!(world.reserved(), [""; 0]);
    assert_eq!(world.ordered(), 0);
    let record = task.detail().await.unwrap().transitions;
    let failure = record
        .into_iter()
        .find_map(|change| change.failure)
        .unwrap();
    assert_eq!(failure.error_code.as_deref(), Some("CONDITION"));
}

#[tokio::test]
async fn the_budget_is_not_reserved_twice() {
    let world = World::new();
    let tasker = world.start(PATIENT).await;
    let first = world.ask(&tasker, DESK, json!({"amount": 4000})).await;
    waits(&tasker, &first, "first_answer").await;
    let mut second = world.ask(&tasker, DESK, json!({"amount": 1001})).await;
    assert_eq!(second.wait(None).await.unwrap(), TaskState::Error);
    let record = second.detail().await.unwrap().transitions;
    let failure = record
        .into_iter()
        .find_map(|change| change.failure)
        .unwrap();
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(
        failure
            .message
            .contains("1001 is 1 more than what is left of 5000"),
        "{}",
        failure.message
    );
    assert_eq!(world.reserved(), [first.id().to_string()]);
    let third = world.ask(&tasker, DESK, json!({"amount": 1000})).await;
    waits(&tasker, &third, "first_answer").await;
    assert_eq!(world.reserved().len(), 2);
}

#[tokio::test]
async fn the_wait_survives_the_engine() {
    let world = World::new();
    let tasker = world.start(PATIENT).await;
    let task = world.ask(&tasker, DESK, json!({})).await;
    waits(&tasker, &task, "first_answer").await;
    tasker.stop().await.unwrap();
    let tasker = world.start(PATIENT).await;
    let mut task = tasker.executor().task(task.id()).await.unwrap();
    let sent = answer(&tasker, &task, json!({"approved": true})).await;
    assert_eq!(sent, Signalled::Delivered);
    assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
    assert_eq!(world.ordered(), 1);
    // Nothing that was done before is done again.
    assert!(
        task.workflow_steps()
            .await
            .unwrap()
            .iter()
            .all(|step| step.attempts == 1)
    );
    assert_eq!(world.post().len(), 2);
}
