//! The database goes away and comes back, under an engine that runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tasker::model::task::TaskState;
use tasker::{Health, Options, Step, TaskHandler, TaskRequest, Tasker};
use tokio::sync::{Notify, Semaphore};

use crate::server::Server;
use crate::support::{assert_sound, assert_state};

/// How often a test asks for what it waits for.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// A lease that outlives the outage: the attempt must not be lost because nobody could renew it.
const LEASE_SECONDS: u64 = 60;

async fn until_health(tasker: &Tasker, wanted: impl Fn(&Health) -> bool) -> Health {
    let mut asks = tokio::time::interval(ASK_EVERY);
    loop {
        asks.tick().await;
        let health = tasker.health().await;
        if wanted(&health) {
            return health;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_the_database_is_away_is_recorded_when_it_is_back() {
    let server = Server::start().await;
    let (begun, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let slow = {
        let (begun, go_on) = (begun.clone(), go_on.clone());
        Step::new("slow", move |_| {
            let (begun, go_on) = (begun.clone(), go_on.clone());
            async move {
                begun.add_permits(1);
                go_on.notified().await;
                Ok(42)
            }
        })
    };
    let after = Step::new(
        "after",
        |step| async move { Ok(step.parent::<u32>("slow")?) },
    );
    let handler = TaskHandler::new("outage", "two_steps", "1.0.0")
        .step(slow)
        .step(after.depends_on_steps(["slow"]))
        .build()
        .unwrap();
    let options = Options {
        lease_seconds: LEASE_SECONDS,
        ..Options::default()
    };
    let builder = Tasker::builder(server.url()).options(options);
    let tasker = builder.register(handler).start().await.unwrap();
    assert_eq!(tasker.health().await, Health::Ready);
    let executor = tasker.executor();
    let request = || TaskRequest::new("two_steps").namespace("outage");
    let mut task = executor.execute_async(request()).await.unwrap();
    begun.acquire().await.unwrap().forget();

    server.down();
    let health = until_health(&tasker, |health| *health != Health::Ready).await;
    let Health::NotReady { reason } = health else {
        unreachable!("just waited for");
    };
    assert!(reason.contains("cannot be reached"), "{reason}");
    let refused = executor.execute_async(request()).await.unwrap_err();
    assert!(
        refused.to_string().contains("cannot be reached"),
        "{refused}"
    );
    go_on.notify_one();

    server.up();
    let back = Instant::now();
    until_health(&tasker, |health| *health == Health::Ready).await;
    task.wait(None).await.unwrap();
    println!("resumed {:?} after the server's return", back.elapsed());
    assert_state(&task, TaskState::Complete);
    for step in task.workflow_steps().await.unwrap() {
        assert_eq!(step.attempts, 1, "{} was not repeated", step.name);
    }
    assert_sound(&tasker).await;
    tasker.stop().await.unwrap();
}
