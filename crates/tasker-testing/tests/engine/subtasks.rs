//! Lists, tasks that steps start, and undoing, on both stores.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tasker::model::id::StepKey;
use tasker::model::subtask::SubtaskTally;
use tasker::model::task::TaskState;
use tasker::store::SystemClock;
use tasker::store::record::TaskDetail;
use tasker::store::sqlite::rusqlite::Connection;
use tasker::{
    Options, PermanentError, StepContext, StepHandlers, StepResult, Task, TaskHandler, TaskRequest,
    Tasker, yaml,
};

use crate::support::{assert_sound, assert_state, both_stores, on, on_file};

/// What undoes has done, in order.
type Undone = Arc<Mutex<Vec<String>>>;

const ORDER: &str = "
name: order
namespace_name: shop
step_templates:
  - {name: lines, handler: lines}
  - {name: reserve, handler: reserve, depends_on_step: lines, undo: undo,
     map: {over: results.lines, concurrency: 7, max_failures: 1}}
  - name: pay
    depends_on_step: reserve
    handler: {task: {namespace: money, name: payment, context: {sum: '${{ size(results.reserve) }}'}}}
    undo: undo
  - {name: tell, handler: tell, depends_on_step: lines, undo: undo}
  - {name: ship, handler: ship, depends_on_steps: [pay, tell]}
  - {name: gone, handler: tell, depends_on_step: ship, point_of_no_return: true}
";

const PAYMENT: &str = "
name: payment
namespace_name: money
step_templates:
  - {name: check, handler: check}
  - {name: charge, handler: check, depends_on_step: check}
";

async fn lines(step: StepContext) -> StepResult<Vec<u64>> {
    let context: Value = step.context()?;
    Ok((0..context["lines"].as_u64().unwrap_or_default()).collect())
}

async fn reserve(step: StepContext) -> StepResult<u64> {
    match step.item::<u64>()? {
        13 => Err(PermanentError::new("sold out").into()),
        item => Ok(item * 2),
    }
}

async fn tell(_step: StepContext) -> StepResult<&'static str> {
    Ok("told")
}

async fn check(step: StepContext) -> StepResult<Value> {
    let context: Value = step.context()?;
    if context["sum"] == json!(7) {
        return Err(PermanentError::new("seven is refused").into());
    }
    Ok(context["sum"].clone())
}

async fn ship(step: StepContext) -> StepResult<Value> {
    let context: Value = step.context()?;
    if context["fails"] == json!(true) {
        return Err(PermanentError::new("no van").into());
    }
    step.parent("pay").map_err(Into::into)
}

fn handlers(undone: &Undone) -> Vec<TaskHandler> {
    let undone = undone.clone();
    let undo = move |step: StepContext| {
        let undone = undone.clone();
        async move {
            let result: Value = step.parent(step.name())?;
            let text = format!("{} {result}", step.name());
            undone.lock().unwrap().push(text);
            StepResult::Ok(())
        }
    };
    let code = StepHandlers::new()
        .add("lines", lines)
        .add("reserve", reserve)
        .add("tell", tell)
        .add("check", check)
        .add("ship", ship)
        .add("undo", undo);
    [ORDER, PAYMENT]
        .into_iter()
        .map(|text| {
            let file = yaml::load_text(Path::new("order.yaml"), text, "test").unwrap();
            code.bind(&file).unwrap()
        })
        .collect()
}

/// An engine on either store, each empty.
async fn both(undone: &Undone) -> Vec<Tasker> {
    let mut engines = Vec::new();
    for url in both_stores().await {
        engines.push(on(url, handlers(undone), Options::default()).await);
    }
    engines
}

async fn order(tasker: &Tasker, context: Value) -> (Task, TaskDetail) {
    let request = TaskRequest::new("order").namespace("shop").context(context);
    let task = tasker.executor().execute_sync(request, None).await.unwrap();
    let detail = task.detail().await.unwrap();
    (task, detail)
}

fn result(detail: &TaskDetail, step: &str) -> Value {
    let step = detail.steps.iter().find(|s| s.name.as_str() == step);
    let result = step.unwrap().result.as_ref();
    result.map_or(Value::Null, |result| result.read().unwrap())
}

fn tally(detail: &TaskDetail, step: &str) -> SubtaskTally {
    let step = detail.steps.iter().find(|s| s.name.as_str() == step);
    step.unwrap().subtasks.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_and_a_task_end_to_end() {
    let undone = Undone::default();
    for tasker in both(&undone).await {
        let (task, detail) = order(&tasker, json!({"lines": 200})).await;
        assert_state(&task, TaskState::Complete);
        let mut expected: Vec<Value> = (0..200).map(|n| json!(n * 2)).collect();
        expected[13] = Value::Null;
        assert_eq!(result(&detail, "reserve"), json!(expected));
        assert_eq!(result(&detail, "ship"), json!(200));
        let SubtaskTally {
            created,
            open,
            held,
            failed,
            ..
        } = tally(&detail, "reserve");
        assert_eq!((created, open, held, failed), (200, 0, 0, 1));
        let page = tasker.store().subtasks(StepKey::new(task.id(), 1), 195, 50);
        let page: Vec<u32> = page.await.unwrap().iter().map(|s| s.ordinal).collect();
        assert_eq!(page, [195, 196, 197, 198, 199]);
        assert_sound(&tasker).await;
        tasker.stop().await.unwrap();
    }
    assert!(undone.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_undoes_what_came_before() {
    let undone = Undone::default();
    for tasker in both(&undone).await {
        let (task, _) = order(&tasker, json!({"lines": 3, "fails": true})).await;
        assert_state(&task, TaskState::Error);
        let undo = undo_of(&tasker, &task).await;
        assert_eq!(undo, TaskState::Complete);
        let mut order = std::mem::take(&mut *undone.lock().unwrap());
        let told = order
            .iter()
            .position(|step| step == "tell \"told\"")
            .unwrap();
        order.remove(told);
        assert_eq!(order, ["pay 3", "reserve [0,2,4]"]);
        let again = tasker.retry_task(task.id(), "test").await.unwrap_err();
        assert!(again.to_string().contains("undoes"), "{again}");
        assert_sound(&tasker).await;
        tasker.stop().await.unwrap();
    }
}

/// The state in which the task ends that undoes another.
async fn undo_of(tasker: &Tasker, task: &Task) -> TaskState {
    let mut events = tasker.events();
    loop {
        if let Some((undo, _)) = task.detail().await.unwrap().undone_by {
            let mut undo = tasker.executor().task(undo).await.unwrap();
            undo.wait(None).await.unwrap();
            return undo.detail().await.unwrap().task.summary.state;
        }
        events.next().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_task_that_fails_fails_its_step_and_says_why() {
    let undone = Undone::default();
    for tasker in both(&undone).await {
        let (task, detail) = order(&tasker, json!({"lines": 7})).await;
        assert_state(&task, TaskState::Error);
        let mut failures = detail
            .transitions
            .iter()
            .rev()
            .filter_map(|t| t.failure.as_ref());
        let failure = failures.next().unwrap();
        assert_eq!(failure.error_code.as_deref(), Some("SUBTASK_FAILED"));
        assert!(
            failure.message.ends_with("seven is refused"),
            "{}",
            failure.message
        );
        undo_of(&tasker, &task).await;
        assert_sound(&tasker).await;
        tasker.stop().await.unwrap();
    }
}

/// Three nodes end the items of the same lists, while tasks are cancelled: what is counted is exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_nodes_count_the_same_sub_tasks() {
    const TASKS: usize = 8;
    let undone = Undone::default();
    let [_, url] = both_stores().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(on(url.clone(), handlers(&undone), Options::default()).await);
    }
    let executor = nodes[0].executor();
    let mut tasks = Vec::new();
    for _ in 0..TASKS {
        let request = TaskRequest::new("order").namespace("shop");
        let request = request.context(json!({"lines": 150}));
        tasks.push(executor.execute_async(request).await.unwrap());
    }
    for (n, task) in tasks.iter().enumerate().step_by(3) {
        let began = |detail: &TaskDetail| detail.steps[1].subtasks.is_some_and(|t| t.open > 0);
        while !began(&task.detail().await.unwrap()) {
            tokio::task::yield_now().await;
        }
        nodes[n % 3].cancel_task(task.id(), "test").await.unwrap();
    }
    for (n, task) in tasks.iter_mut().enumerate() {
        let expected = if n % 3 == 0 {
            TaskState::Cancelled
        } else {
            TaskState::Complete
        };
        assert_eq!(task.wait(None).await.unwrap(), expected);
        while tally(&task.detail().await.unwrap(), "reserve").open > 0 {
            tokio::task::yield_now().await;
        }
        assert_counted(&nodes[0], task).await;
    }
    assert_sound(&nodes[0]).await;
    for node in nodes {
        node.stop().await.unwrap();
    }
}

/// What a step has counted is what there is.
async fn assert_counted(tasker: &Tasker, task: &Task) {
    let found = tally(&task.detail().await.unwrap(), "reserve");
    let all = tasker
        .store()
        .subtasks(StepKey::new(task.id(), 1), 0, 1_000);
    let all = all.await.unwrap();
    let count = |state: fn(TaskState) -> bool| all.iter().filter(|s| state(s.state)).count();
    let failed = count(|state| matches!(state, TaskState::Error | TaskState::Cancelled));
    let open = count(|state| !state.is_final());
    let counted = [found.created, found.open, found.held, found.failed];
    assert_eq!(counted.map(|n| n as usize), [all.len(), open, 0, failed]);
}

/// Each is done to the store of an order that has failed and was undone, and must be found.
#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_what_does_not_hold_between_tasks() {
    let damages = [
        (
            "UPDATE tasker_subtasks SET failed = 2 WHERE task_no = 1 AND position = 1",
            "I9: step `reserve` keeps 3 sub-tasks, of which 0 are open, 0 held and 2 failed, it has 3",
        ),
        (
            "UPDATE tasker_steps SET state = 'pending', due_at = 253370764800000000
             WHERE task_no = 1 AND position = 1",
            "I9: step `reserve` waits for sub-tasks, and need not",
        ),
        (
            "UPDATE tasker_tasks SET state = 'in_progress' WHERE ordinal = 2",
            "I9: step `reserve` is complete, and 1 of its sub-tasks are open",
        ),
        (
            "UPDATE tasker_tasks SET parent_id = NULL WHERE ordinal IS NULL",
            "I9: it can be undone, and nobody does it",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (n, (damage, expected)) in damages.into_iter().enumerate() {
        let path = folder.path().join(format!("{n}.db"));
        let undone = Undone::default();
        let tasker = on_file(&path, handlers(&undone), Options::default()).await;
        let (task, _) = order(&tasker, json!({"lines": 3, "fails": true})).await;
        undo_of(&tasker, &task).await;
        assert_sound(&tasker).await;
        tasker.stop().await.unwrap();
        let file = Connection::open(&path).unwrap();
        assert!(file.execute(damage, []).unwrap() > 0);
        let url = format!("sqlite:{}", path.display());
        let store = tasker::store::open(&url, Arc::new(SystemClock))
            .await
            .unwrap();
        let found = tasker::diagnose(&*store).await.unwrap().findings;
        let named = found
            .iter()
            .any(|finding| finding.found.starts_with(expected));
        assert!(named, "{damage}: no `{expected}` among {found:#?}");
    }
}

const SIGNALLED: &str = "
name: signalled
namespace_name: shop
step_templates:
  - {name: each, handler: reserve, wait_for: list, map: signal}
  - name: pay
    handler: {task: {namespace: money, name: payment, context: {sum: '${{ signal }}'}}}
    wait_for: {signal: sum, timeout: 1ms, default: 3}
";

/// What came with a signal is there when the list is asked for, and when its items have ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_waits_for_a_signal_and_then_for_its_sub_tasks() {
    let undone = Undone::default();
    for url in both_stores().await {
        let file = yaml::load_text(Path::new("signalled.yaml"), SIGNALLED, "test").unwrap();
        let code = StepHandlers::new().add("reserve", reserve);
        let mut all = handlers(&undone);
        all.push(code.bind(&file).unwrap());
        let tasker = on(url, all, Options::default()).await;
        let request = TaskRequest::new("signalled").namespace("shop");
        let mut task = tasker.executor().execute_async(request).await.unwrap();
        let list = json!([4, 5]);
        tasker
            .signal(task.id(), "list", &list, "test")
            .await
            .unwrap();
        assert_eq!(task.wait(None).await.unwrap(), TaskState::Complete);
        let detail = task.detail().await.unwrap();
        assert_eq!(result(&detail, "each"), json!([8, 10]));
        assert_eq!(result(&detail, "pay"), json!(3));
        tasker.stop().await.unwrap();
    }
}
