//! The schema: bringing it up to date, its name, its owner, and its neighbours.

use futures_util::future::join_all;
use tasker_model::id::TaskId;
use tasker_model::request::TaskRequest;
use tasker_store::StoreError;
use tasker_store::postgres::PostgresStore;
use tasker_store::store::{Created, Order, TaskFilter};

use super::place::{Place, Server, encoded, story};
use crate::fixture::{Defined, Fixture, clock};

#[tokio::test]
async fn a_schema_that_was_never_migrated_is_refused_with_the_remedy() {
    let server = Server::for_tests();
    let place = Place::fresh(&server, "");
    let missing = async || {
        let opened = PostgresStore::open(&place.url, clock()).await;
        let refused = opened.err().expect("refused");
        let is_missing = matches!(refused, StoreError::NotMigrated { found: 0, .. });
        assert!(is_missing && !refused.is_transient(), "{refused:?}");
        let text = refused.to_string();
        let schema = format!("schema `{}` of `{}:", place.schema, server.host);
        for part in [&schema, "has version 0", "run `tasker migrate`"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let status = PostgresStore::migrations(&place.url).await.unwrap();
        assert!(status.iter().all(|migration| !migration.applied));
    };
    missing().await;
    // Somebody else's tables are not ours.
    let sql = format!(
        "CREATE SCHEMA {0}; CREATE TABLE {0}.tasks (id int)",
        place.quoted()
    );
    server.run(&sql).await;
    missing().await;
}

#[tokio::test]
async fn migrating_is_safe_to_repeat_and_to_do_at_once() {
    let server = Server::for_tests();
    let place = Place::fresh(&server, "");
    let four = join_all((0..4).map(|_| PostgresStore::migrate(&place.url))).await;
    let mut versions: Vec<_> = four.into_iter().map(Result::unwrap).collect();
    versions.sort_unstable();
    let known = versions[0].1;
    assert!(known > 0);
    let (up, already) = ((0, known), (known, known));
    assert_eq!(versions, [up, already, already, already], "applied once");
    assert_eq!(PostgresStore::migrate(&place.url).await.unwrap(), already);
    let sql = format!("SELECT count(*) FROM {}.tasker_schema", place.quoted());
    assert_eq!(server.ask::<i64>(&sql).await, known);
    let status = PostgresStore::migrations(&place.url).await.unwrap();
    assert!(status.iter().all(|migration| migration.applied));
    let url = place.url.clone();
    story(&place.open(&url).await).await;
}

/// Everything in a schema that Tasker put there, but for the schema's name.
async fn contents(server: &Server, place: &Place) -> String {
    let schema = &place.schema;
    let of = format!("WHERE n.nspname = '{schema}'");
    let sql = format!(
        "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
             SELECT format('%s.%s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                           a.attnotnull) AS line
             FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace {of} AND a.attnum > 0
             UNION ALL
             SELECT pg_get_indexdef(c.oid) FROM pg_class c
             JOIN pg_namespace n ON n.oid = c.relnamespace {of} AND c.relkind = 'i'
             UNION ALL
             SELECT pg_get_functiondef(p.oid) FROM pg_proc p
             JOIN pg_namespace n ON n.oid = p.pronamespace {of}) lines"
    );
    let lines: String = server.ask(&sql).await;
    lines.replace(schema, "schema")
}

#[tokio::test]
async fn the_script_makes_the_schema_that_migrating_makes() {
    let server = Server::for_tests();
    let by_hand = Place::fresh(&server, "");
    let script = PostgresStore::migration_script(&by_hand.url).unwrap();
    server.run(&script).await;
    let by_program = Place::migrated(&server, "").await;
    let made = contents(&server, &by_hand).await;
    assert!(made.contains("tasker_complete"));
    assert_eq!(made, contents(&server, &by_program).await);
    let (before, after) = PostgresStore::migrate(&by_hand.url).await.unwrap();
    assert_eq!(before, after, "nothing is left to do");
    let url = by_hand.url.clone();
    story(&by_hand.open(&url).await).await;
}

#[tokio::test]
async fn a_schema_may_have_any_name() {
    let server = Server::for_tests();
    let mut place = Place::fresh(&server, "");
    // What needs quotation marks, and what somebody might take for a place to fill in.
    place.schema += " \"Ü\" {schema} 'x'$$";
    let url = place.by(&server, "");
    PostgresStore::migrate(&url).await.unwrap();
    let name = place.schema.clone();
    let f = place.open(&url).await;
    story(&f).await;
    let task = f.list(TaskFilter::default()).await[0];
    let refused = f.order(task, Order::RetryTask).await.unwrap_err();
    assert!(matches!(refused, StoreError::IllegalMove(_)), "{refused:?}");
    // The script, too, for a neighbour whose name differs in case alone.
    let mut other = Place::fresh(&server, "");
    other.schema = name.to_uppercase().replace("{SCHEMA}", "{schema}");
    let url = other.by(&server, "");
    let script = PostgresStore::migration_script(&url).unwrap();
    server.run(&script).await;
    let other = other.open_by_its_clock(&url).await;
    assert!(other.list(TaskFilter::default()).await.is_empty());
    story(&other).await;
}

async fn with_key(f: &Fixture, defined: &Defined) -> (TaskId, Created) {
    let request = TaskRequest::new("one").idempotency_key("the same");
    let task = f.asked(defined, request);
    let created = f.create(std::slice::from_ref(&task)).await;
    (task.task_id, created[0].clone())
}

#[tokio::test]
async fn two_schemas_of_one_database_do_not_see_each_other() {
    let server = Server::for_tests();
    let mut fixtures = Vec::new();
    for _ in 0..2 {
        let place = Place::migrated(&server, "").await;
        let url = place.url.clone();
        fixtures.push(place.open(&url).await);
    }
    let (f, other) = (&fixtures[0], &fixtures[1]);
    let one = f.define("one", &[("a", &[])]).await;
    let same = other.define("one", &[("a", &[])]).await;
    assert_eq!(
        one.runnable, same.runnable,
        "each numbers from the beginning"
    );
    let (task, created) = with_key(f, &one).await;
    assert_eq!(created, Created::New(task));
    let (other_task, created) = with_key(other, &same).await;
    assert_eq!(created, Created::New(other_task), "a key of another schema");
    f.start(&one).await;
    assert_eq!(other.list(TaskFilter::default()).await, [other_task]);
    let worker = other.worker(&[&same]);
    assert_eq!(
        other.claim_one(&worker).await.lease.step.task_id,
        other_task
    );
    let worker = f.worker(&[&one]);
    assert_eq!(
        f.claim(&worker, 5).await.claimed.len(),
        2,
        "nobody else took them"
    );
    for f in fixtures {
        f.audit().await;
    }
}

/// A role that may do nothing, in the database of the tests.
async fn role(place: &Place) -> Server {
    let name = format!("{}_role", place.schema);
    let password = "pass word?&/";
    let sql = format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'");
    place.server.run(&sql).await;
    Server {
        user: name,
        password: password.to_owned(),
        ..place.server.clone()
    }
}

async fn drop_role(server: &Server, role: &Server) {
    let name = &role.user;
    server
        .run(&format!("DROP OWNED BY {name}; DROP ROLE {name}"))
        .await;
}

#[tokio::test]
async fn whoever_owns_the_schema_can_migrate_without_a_right_to_the_database() {
    let superuser = Server::as_superuser();
    let place = Place::fresh(&superuser, "");
    let role = role(&place).await;
    let url = place.by(&role, "");
    let refused = PostgresStore::migrate(&url).await.unwrap_err();
    assert!(!refused.is_transient(), "{refused:?}");
    let sql = format!(
        "CREATE SCHEMA {} AUTHORIZATION {}",
        place.quoted(),
        role.user
    );
    superuser.run(&sql).await;
    let (before, after) = PostgresStore::migrate(&url).await.unwrap();
    assert!(before == 0 && after > 0);
    story(&place.open(&url).await).await;
    drop_role(&superuser, &role).await;
}

#[tokio::test]
async fn a_right_to_the_rows_is_enough_to_work() {
    let superuser = Server::as_superuser();
    let place = Place::migrated(&superuser, "").await;
    let role = role(&place).await;
    let (schema, name) = (place.quoted(), &role.user);
    let sql = format!(
        "GRANT USAGE ON SCHEMA {schema} TO {name};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {name}"
    );
    superuser.run(&sql).await;
    let url = place.by(&role, &format!("application_name={}", encoded("a & b")));
    let f = place.open(&url).await;
    story(&f).await;
    let one = f.define("one", &[("a", &[])]).await;
    let task = f.start(&one).await;
    f.order(task, Order::CancelTask).await.unwrap();
    drop_role(&superuser, &role).await;
}
