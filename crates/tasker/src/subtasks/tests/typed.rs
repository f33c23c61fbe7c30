//! The same, as it is written in Rust: what the types give at run time, and what `build` refuses.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker_model::request::TaskRequest;
use tasker_model::task::TaskState;
use tasker_model::template::MapOver;

use super::{detail, engine, result, run};
use crate::handler::Definition;
use crate::{
    Context, Counted, IdempotencyKey, Index, Item, Parent, Parents, PermanentError, State, Step,
    StepContext, StepHandler, StepRef, StepResult, Task, TaskHandler, Tasker, Undone, map, step,
    subtask,
};

fn definition(name: &str) -> Definition {
    TaskHandler::new("tests", name, "1.0.0")
}

async fn run_one(definition: Definition, context: Value) -> (Tasker, Task) {
    let handler = definition.build().unwrap();
    let name = handler.template().source().name.to_string();
    let tasker = engine(vec![handler]).await;
    let task = run(&tasker, &name, context).await;
    (tasker, task)
}

/// Waits until what undoes a task has ended, and gives how.
async fn undone(tasker: &Tasker, task: &Task) -> TaskState {
    let mut events = tasker.events();
    loop {
        match detail(tasker, task.id()).await.undone_by {
            Some((_, state)) if state.is_final() => return state,
            _ => assert!(events.next().await.is_some()),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Image {
    name: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Album {
    images: Vec<Image>,
}

async fn album(Context(album): Context<Album>) -> StepResult<Album> {
    Ok(album)
}

async fn list(Context(album): Context<Album>) -> StepResult<Vec<Image>> {
    Ok(album.images)
}

async fn resize(Index(place): Index, Item(image): Item<Image>) -> StepResult<String> {
    match image.name.as_str() {
        "" => Err(PermanentError::new("no image").into()),
        name => Ok(format!("{place}: {name}")),
    }
}

/// An object.
struct Names;

impl StepHandler for Names {
    type Output = String;

    async fn process(&self, step: &StepContext) -> StepResult<String> {
        Ok(step.item::<Image>()?.name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_step_takes_the_results_of_a_map_and_a_map_runs_over_them() {
    async fn join(Parent(thumbs): Parent<Vec<String>>) -> StepResult<String> {
        Ok(thumbs.join(", "))
    }
    async fn length(Item(thumb): Item<String>, context: StepContext) -> StepResult<usize> {
        assert_eq!(context.name(), "length");
        Ok(thumb.len())
    }
    let mut photos = definition("photos");
    let list = photos.add(step("in", list));
    let thumbs = photos.add(map("my thumbs", resize).over(&list).concurrency(2));
    let named = map("names", Names).over_expression::<Image>("context.images");
    photos.add(named);
    photos.add(step("join", join).after(&thumbs));
    photos.add(map("length", length).over(&thumbs));
    let context = json!({"images": [{"name": "a"}, {"name": "bcd"}]});
    let (tasker, task) = run_one(photos, context).await;
    let found = detail(&tasker, task.id()).await;
    assert_eq!(result(&found, "join"), json!("0: a, 1: bcd"));
    assert_eq!(result(&found, "length"), json!([4, 6]));
    assert_eq!(result(&found, "names"), json!(["a", "bcd"]));
    tasker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn items_that_failed_are_none_and_may_be_counted() {
    async fn join(Parent(thumbs): Parent<Vec<Option<String>>>) -> StepResult<Vec<String>> {
        Ok(thumbs.into_iter().flatten().collect())
    }
    async fn share(Parent(counted): Parent<Counted>) -> StepResult<u32> {
        Ok(counted.failed * 100 / counted.items)
    }
    let mut tolerant = definition("tolerant");
    let album = tolerant.add(step("album", album));
    let over_images = |name: &str| {
        let over = map(name, resize).over_expression("results.album.images");
        over.follows(&album)
    };
    let thumbs = tolerant.add(over_images("thumbs").max_failures(1));
    tolerant.add(step("join", join).after(&thumbs));
    let counted = tolerant.add(over_images("count").count_only().max_failures(3));
    tolerant.add(step("share", share).after(&counted));
    let context = json!({"images": [{"name": "a"}, {"name": ""}]});
    let (tasker, task) = run_one(tolerant, context).await;
    let found = detail(&tasker, task.id()).await;
    assert_eq!(result(&found, "join"), json!(["0: a"]));
    assert_eq!(result(&found, "share"), json!(50));
    tasker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_and_items_have_the_results_of_the_tasks_that_they_start() {
    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    struct Receipt {
        cents: u64,
    }
    async fn take(Context(receipt): Context<Receipt>) -> StepResult<Receipt> {
        Ok(receipt)
    }
    fn payment(cents: u64) -> TaskRequest {
        let request = TaskRequest::new("payment").namespace("tests");
        request.context(json!({"cents": cents}))
    }
    async fn amounts() -> StepResult<Vec<u64>> {
        Ok(vec![3, 4])
    }
    async fn pay_sum(Parent(amounts): Parent<Vec<u64>>) -> StepResult<TaskRequest> {
        Ok(payment(amounts.iter().sum()))
    }
    async fn pay_each(Item(amount): Item<u64>) -> StepResult<TaskRequest> {
        Ok(payment(amount))
    }
    async fn check(
        Parent(whole): Parent<Receipt>,
        parts: Parent<Vec<Receipt>>,
    ) -> StepResult<bool> {
        Ok(whole.cents == parts.0.iter().map(|part| part.cents).sum::<u64>())
    }
    let mut paid = definition("payment");
    paid.add(step("take", take));
    let mut order = definition("order");
    let amounts = order.add(step("amounts", amounts));
    let whole = order.add(
        subtask("whole", pay_sum)
            .returning::<Receipt>()
            .after(&amounts),
    );
    let parts = order.add(map("parts", pay_each).over(&amounts).returning::<Receipt>());
    order.add(step("check", check).after((&whole, &parts)));
    let tasker = engine(vec![paid.build().unwrap(), order.build().unwrap()]).await;
    let task = run(&tasker, "order", json!({})).await;
    let found = detail(&tasker, task.id()).await;
    assert_eq!(result(&found, "check"), json!(true), "{found:?}");
    tasker.stop().await.unwrap();
}

/// What was done, in order.
type Done = Arc<Mutex<Vec<String>>>;

fn shop(done: &Done, is_sent: bool) -> Definition {
    async fn reserve() -> StepResult<u32> {
        Ok(7)
    }
    async fn charge(Parent(place): Parent<u32>) -> StepResult<String> {
        Ok(format!("receipt for {place}"))
    }
    async fn send(Context(context): Context<Value>) -> StepResult<()> {
        match &context["lorry"] {
            Value::Null => Err(PermanentError::new("no lorry").into()),
            _ => Ok(()),
        }
    }
    async fn release(Undone(place): Undone<u32>, State(done): State<Done>) -> StepResult<()> {
        done.lock().unwrap().push(format!("release {place}"));
        Ok(())
    }
    async fn refund(
        State(done): State<Done>,
        Undone(receipt): Undone<String>,
        Context(context): Context<Value>,
        Parent(place): Parent<u32>,
        IdempotencyKey(_): IdempotencyKey,
    ) -> StepResult<()> {
        let who = &context["who"];
        let text = format!("refund {receipt} at {place} to {who}");
        done.lock().unwrap().push(text);
        Ok(())
    }
    async fn fails() -> StepResult<()> {
        Err(PermanentError::new("too late").into())
    }
    let mut shop = definition("shop").state(done.clone());
    let reserve = shop.add(step("reserve", reserve).undo(release));
    let charge = step("charge", charge).after(&reserve);
    let charge = shop.add(charge.undo_with(step("refund", refund).retry_limit(9)));
    let mut send = step("send", send).follows(&charge);
    if is_sent {
        send = send.point_of_no_return();
    }
    let send = shop.add(send);
    shop.add(step("tell", fails).follows(&send));
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_complete_is_undone_by_typed_code_in_reverse_order() {
    let done = Done::default();
    let (tasker, task) = run_one(shop(&done, false), json!({"who": "Ada", "lorry": 1})).await;
    assert_eq!(undone(&tasker, &task).await, TaskState::Complete);
    assert_eq!(
        *done.lock().unwrap(),
        [r#"refund receipt for 7 at 7 to "Ada""#, "release 7"]
    );
    let template = detail(&tasker, task.id()).await.task.template;
    let template = tasker.store().template(template).await.unwrap();
    let undo = |position| template.step(position).undo.clone().unwrap();
    assert_eq!(undo(0).handler, "reserve.undo");
    assert_eq!(
        (undo(1).handler.as_str(), undo(1).retry.limit),
        ("refund", 9)
    );
    tasker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_takes_what_its_step_has_taken() {
    async fn nothing() -> StepResult<Option<u32>> {
        Ok(None)
    }
    async fn sum(
        _: Option<Parent<Option<u32>>>,
        _: Parents<Option<u32>>,
        _: Parent<Option<u32>>,
    ) -> StepResult<()> {
        Ok(())
    }
    async fn undo(
        Undone(()): Undone<()>,
        skipped: Option<Parent<Option<u32>>>,
        list: Parents<Option<u32>>,
        null: Parent<Option<u32>>,
        State(done): State<Done>,
    ) -> StepResult<()> {
        let text = format!("{:?} {:?} {:?}", skipped.map(|p| p.0), list.0, null.0);
        done.lock().unwrap().push(text);
        Ok(())
    }
    async fn fails(_: Parent<()>) -> StepResult<()> {
        Err(PermanentError::new("no").into())
    }
    let done = Done::default();
    let mut taken = definition("taken").state(done.clone());
    let skipped = taken.add(step("skipped", nothing).when("false"));
    let null = taken.add(step("null", nothing));
    let sum = step("sum", sum).after((&skipped, [&null, &skipped], &null));
    let sum = taken.add(sum.undo(undo));
    taken.add(step("fails", fails).after(&sum));
    let (tasker, task) = run_one(taken, json!({})).await;
    assert_eq!(undone(&tasker, &task).await, TaskState::Complete);
    assert_eq!(*done.lock().unwrap(), ["None [None] None"]);
    tasker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_undone_after_the_point_of_no_return() {
    let done = Done::default();
    let handler = shop(&done, true).build().unwrap();
    let tasker = engine(vec![handler]).await;
    let sent = run(&tasker, "shop", json!({"lorry": 1})).await;
    let unsent = run(&tasker, "shop", json!({"lorry": null})).await;
    assert_eq!(
        (sent.state(), unsent.state()),
        (TaskState::Error, TaskState::Error)
    );
    undone(&tasker, &unsent).await;
    assert_eq!(detail(&tasker, sent.id()).await.undone_by, None);
    assert_eq!(done.lock().unwrap().len(), 2);
    tasker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_of_a_program_are_mapped_and_undone_too() {
    let done = Done::default();
    let keeps = done.clone();
    let double = |context: StepContext| async move {
        let item: u32 = context.item()?;
        StepResult::Ok(item * 2)
    };
    let undo = move |Undone(all): Undone<Vec<u32>>, context: StepContext| {
        let text = format!("{all:?} {}", context.parent::<Value>("list").unwrap());
        keeps.lock().unwrap().push(text);
        async { StepResult::Ok(()) }
    };
    let list = |_: StepContext| async { StepResult::Ok(vec![1, 2]) };
    let fails = |_: StepContext| async { StepResult::<()>::Err(PermanentError::new("no").into()) };
    let over = MapOver::new("results.list");
    let program = definition("program")
        .step(Step::new("list", list))
        .step(
            Step::new("double", double)
                .map_over(over)
                .depends_on_step("list")
                .undo(undo),
        )
        .step(Step::new("fails", fails).depends_on_step("double"));
    let (tasker, task) = run_one(program, json!({})).await;
    assert_eq!(undone(&tasker, &task).await, TaskState::Complete);
    assert_eq!(*done.lock().unwrap(), ["[2, 4] [1,2]"]);
    tasker.stop().await.unwrap();
}

#[test]
fn what_does_not_fit_is_said_when_it_is_built() {
    async fn scale(_: Item<Image>, _: Context<Album>) -> StepResult<u8> {
        Ok(1)
    }
    async fn drop_all(_: Undone<Vec<u8>>) -> StepResult<()> {
        Ok(())
    }
    async fn wrong(_: Undone<u8>, _: Item<u8>, _: State<u16>) -> StepResult<()> {
        Ok(())
    }
    async fn nothing() -> StepResult<()> {
        Ok(())
    }
    let mut photos = definition("photos");
    let list: StepRef<Vec<Image>> = photos.add(step("list", list));
    let scaled = map("scale", scale).over(&list).undo(drop_all);
    photos.add(scaled.max_failures(1));
    photos.add(
        map("none", resize)
            .over(&StepRef::<Vec<Image>>::named("scale"))
            .concurrency(0),
    );
    let told = step("told", nothing).follows(&list).undo(nothing);
    photos.add(told.undo_with(step("again", nothing).follows(&list)));
    photos.add(step("again", nothing).undo_with(step("told", nothing)));
    let text = |_: StepContext| async { StepResult::Ok("text") };
    let photos = photos.step(Step::new("untyped", text).undo(wrong));
    let error = photos.build().unwrap_err().to_string();
    for part in [
        "step `scale` takes Context<tasker::subtasks::tests::typed::Album>, which one item of a list \
         does not see; take what is needed into the list",
        "what undoes step `scale` takes its result as alloc::vec::Vec<u8>, but `scale` gives \
         alloc::vec::Vec<core::option::Option<u8>>",
        "step `none` takes the result of `scale` as alloc::vec::Vec<tasker::subtasks::tests::typed::Image>, \
         but `scale` gives alloc::vec::Vec<core::option::Option<u8>>",
        "step `none`: a map with a concurrency of 0",
        "what undoes step `told` is told more than its config, its retries and its timeout",
        "what undoes step `told` is named `again`, and so is other code",
        "what undoes step `again` is named `told`, and so is other code",
        "what undoes step `untyped` takes Item<u8>, but runs over no list",
        "what undoes step `untyped` takes its result as u8, but `untyped` gives &str",
        "`untyped.undo` takes State<u16>, which was not given",
    ] {
        assert!(error.contains(part), "{part}\nin: {error}");
    }
}
