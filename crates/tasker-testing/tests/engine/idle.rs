//! An engine without work hardly touches its store.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tasker::Tasker;
use tasker::model::id::WorkerId;
use tasker::store::{Clock as _, ManualClock};
use tasker_testing::patterns::LINEAR;

use crate::support::request_for;

#[tokio::test]
async fn an_idle_engine_runs_at_most_two_statements_per_second() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("idle.db").display());
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_000_000).unwrap()));
    let handler = LINEAR.handler().unwrap();
    let builder = Tasker::builder(url)
        .clock(clock.clone())
        .register(handler.clone());
    let tasker = builder.start().await.unwrap();
    let mut task = tasker
        .executor()
        .execute_async(request_for(&handler))
        .await
        .unwrap();
    // The pattern fails once; its retry is due a few milliseconds later.
    while !task.refresh().await.unwrap().is_final() {
        clock.advance(Duration::from_millis(5));
    }

    let nobody = WorkerId::from_uuid(*task.id().as_uuid());
    let time = SignedDuration::from_secs(120);
    let end = clock.now() + time;
    let before = tasker.store().statements();
    let mut own = 0;
    while clock.now() < end {
        // An empty write stands in line behind whatever the engine has sent, so time never runs
        // ahead of the store; it begins and commits, and nothing else.
        tasker
            .store()
            .heartbeat(nobody, Vec::new(), 1)
            .await
            .unwrap();
        own += 2;
        while clock.advance_to_next().is_none() {
            // The engine has not gone to sleep again yet.
            tokio::task::yield_now().await;
        }
    }
    let statements = tasker.store().statements() - before - own;
    assert!(statements <= 240, "{statements} statements in {time:#}");
    assert!(statements > 0, "heartbeats go on");
}
