//! Programs and schemas of different versions: which may work together, and what the others say.

use std::sync::Arc;

use serde_json::json;
use tasker_model::task::TaskState;
use tasker_store::StoreError;
use tasker_store::postgres::PostgresStore;
use tasker_store::store::Order;

use super::place::{Place, Server, story};
use crate::fixture::{Fixture, clock, succeed};

/// The version that this program is written for.
async fn known(place: &Place) -> i64 {
    let status = PostgresStore::migrations(&place.url).await.unwrap();
    status.last().unwrap().version
}

/// A migration that a newer program may bring: what the rules of docs/UPGRADING.md allow.
fn additive(schema: &str) -> String {
    format!(
        "SET search_path = {schema};
         ALTER TABLE tasker_tasks ADD COLUMN colour text;
         ALTER TABLE tasker_steps ADD COLUMN colour text NOT NULL DEFAULT 'red';
         ALTER TABLE tasker_transitions ADD COLUMN colour text;
         ALTER TABLE tasker_requests ADD COLUMN colour text;
         CREATE INDEX tasker_steps_colour ON tasker_steps (colour) WHERE state = 'pending';
         CREATE TABLE tasker_colours (colour text PRIMARY KEY);
         DO $$
         DECLARE f record;
         BEGIN
             -- Written anew, with the same signature.
             FOR f IN
                 SELECT pg_get_functiondef(p.oid) AS definition
                 FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
                 WHERE p.pronamespace = '{schema}'::regnamespace AND l.lanname = 'plpgsql'
             LOOP
                 EXECUTE f.definition;
             END LOOP;
         END $$;"
    )
}

async fn keep_version(place: &Place, version: i64, compatible_with: i64) {
    let sql = format!(
        "INSERT INTO {}.tasker_schema (version, compatible_with) VALUES ({version}, {compatible_with})",
        place.quoted()
    );
    place.server.run(&sql).await;
}

async fn beside(f: &Fixture, url: &str) -> Fixture {
    let store = PostgresStore::open(url, f.clock.clone()).await.unwrap();
    f.beside(Arc::new(store))
}

#[tokio::test]
async fn nodes_go_on_while_a_schema_grows_under_them() {
    let server = Server::for_tests();
    let place = Place::migrated(&server, "").await;
    let (url, schema, known) = (place.url.clone(), place.quoted(), known(&place).await);
    let grows = format!(
        "BEGIN; {} INSERT INTO tasker_schema (version, compatible_with)
         VALUES ({}, {known}); COMMIT;",
        additive(&schema),
        known + 1
    );
    let old = place.open(&url).await;
    // Every statement is prepared on its connection, and attempts are under way.
    story(&old).await;
    let steps: [(&str, &[&str]); 4] =
        [("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])];
    let diamond = old.define("diamond", &steps).await;
    let (worker, other) = (old.worker(&[&diamond]), old.worker(&[&diamond]));
    let (task, cancelled) = (old.start(&diamond).await, old.start(&diamond).await);
    let first = old.claim(&worker, 1).await.claimed;

    server.run(&grows).await;

    let new = beside(&old, &url).await;
    let result = succeed(&json!(1));
    let b = old
        .settle_and_claim(&worker, &first[0], result.clone(), 1)
        .await;
    assert_eq!(b.claimed.len(), 1, "the node that was there goes on");
    new.order(cancelled, Order::CancelTask).await.unwrap();
    let c = new.claim(&other, 5).await;
    assert_eq!(
        c.claimed.len(),
        1,
        "and one that starts now works beside it"
    );
    old.settle(&worker, &b.claimed[0], result.clone()).await;
    let d = new
        .settle_and_claim(&other, &c.claimed[0], result.clone(), 1)
        .await;
    assert_eq!(d.claimed[0].parents.len(), 2);
    new.settle(&other, &d.claimed[0], result).await;
    assert_eq!(old.state(task).await, TaskState::Complete);
    assert_eq!(old.state(cancelled).await, TaskState::Cancelled);
    for f in [&old, &new] {
        story(f).await;
    }
    // Going back: a deployment of this program migrates before it starts.
    assert_eq!(
        PostgresStore::migrate(&url).await.unwrap(),
        (known + 1, known + 1)
    );
    let status = PostgresStore::migrations(&url).await.unwrap();
    let newest = status.last().unwrap();
    assert_eq!((newest.version, newest.applied), (known + 1, true));
    assert_eq!(newest.name, "of a newer Tasker");
}

#[tokio::test]
async fn a_schema_that_became_incompatible_is_refused_by_old_programs() {
    let server = Server::for_tests();
    let place = Place::migrated(&server, "").await;
    let (url, schema, known) = (place.url.clone(), place.quoted(), known(&place).await);
    keep_version(&place, known + 1, known + 1).await;
    // A later one does not make up for it.
    keep_version(&place, known + 2, known).await;
    let opened = PostgresStore::open(&url, clock()).await.err();
    let migrated = PostgresStore::migrate(&url).await.err();
    for refused in [opened, migrated] {
        let refused = refused.expect("refused");
        let is_newer = matches!(refused, StoreError::NewerVersion { .. });
        assert!(is_newer && !refused.is_transient(), "{refused:?}");
        let text = refused.to_string();
        let found = format!("has schema version {}", known + 2);
        let limit = format!("this Tasker knows versions up to {known}");
        for part in [
            &place.schema,
            &server.host,
            &found,
            &limit,
            "use a newer Tasker",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    // A node that was at work learns it from its next call, when what it calls is gone.
    let sql = format!("DELETE FROM {schema}.tasker_schema WHERE version > {known}");
    server.run(&sql).await;
    let clock = clock();
    let store = PostgresStore::open(&url, clock.clone()).await.unwrap();
    let f = Fixture::new(Arc::new(store), clock, Arc::new(()));
    story(&f).await;
    keep_version(&place, known + 1, known + 1).await;
    let sql = format!(
        "SET search_path = {schema};
         DO $$ BEGIN EXECUTE 'DROP FUNCTION ' || 'tasker_claim'::regproc::oid::regprocedure; END $$"
    );
    server.run(&sql).await;
    let worker = f.worker(&[]);
    let refused = f.store.claim(worker.slots(1)).await.expect_err("refused");
    let is_newer = matches!(refused, StoreError::NewerVersion { .. });
    assert!(is_newer, "{refused:?}");
}

#[tokio::test]
async fn a_program_that_is_newer_than_the_schema_asks_for_its_migration() {
    let server = Server::for_tests();
    let place = Place::migrated(&server, "").await;
    let known = known(&place).await;
    let sql = format!(
        "DELETE FROM {}.tasker_schema WHERE version = {known}",
        place.quoted()
    );
    server.run(&sql).await;
    let refused = PostgresStore::open(&place.url, clock()).await.err();
    let refused = refused.expect("refused");
    let is_older = matches!(refused, StoreError::NotMigrated { .. });
    assert!(is_older && !refused.is_transient(), "{refused:?}");
    let text = refused.to_string();
    let versions = format!("has version {}, this Tasker needs {known}", known - 1);
    for part in [&versions, "run `tasker migrate`"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
