//! What concerns the embedded store alone: files that cannot be used, several stores on one file, the
//! caller's own transaction, and the plans of all statements.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join_all;
use tasker_model::task::TaskState;
use tasker_store::sqlite::rusqlite::Connection;
use tasker_store::sqlite::{SqliteStore, create_in};
use tasker_store::store::{Created, Order, TaskFilter};
use tasker_store::{Clock, StoreError, open};

use crate::fixture::{Fixture, clock, sqlite_with_path};

fn refusal(path: &Path) -> StoreError {
    let opened = SqliteStore::open(path, clock());
    opened.err().expect("it was opened")
}

#[test]
fn a_file_that_is_not_a_database_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter.txt");
    let content = "Dear Ann, ".repeat(1_000);
    fs::write(&path, &content).unwrap();
    let refused = refusal(&path);
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused:?}");
    let text = refused.to_string();
    assert!(
        text.contains("letter.txt` is damaged or not a Tasker database"),
        "{text}"
    );
    assert!(!refused.is_transient());
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
}

#[test]
fn the_database_of_another_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ours = |name: &str, sql: &str| {
        let path = folder.path().join(name);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        path
    };
    let foreign = [ours(
        "marked.db",
        "PRAGMA application_id = 7; CREATE TABLE own (x)",
    )];
    for path in foreign {
        let before = fs::read(&path).unwrap();
        let refused = refusal(&path);
        assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused:?}");
        assert!(
            fs::read(&path).unwrap() == before,
            "{} was changed",
            path.display()
        );
    }
}

#[test]
fn an_application_may_keep_its_own_tables_and_versions_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let own = "PRAGMA user_version = 7; CREATE TABLE tasks (x); INSERT INTO tasks VALUES (1)";
    Connection::open(&path).unwrap().execute_batch(own).unwrap();
    drop(SqliteStore::open(&path, Arc::new(tasker_store::SystemClock)).unwrap());
    let raw = Connection::open(&path).unwrap();
    let number = |sql: &str| raw.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(
        number("SELECT count(*) FROM tasks"),
        1,
        "the application's own table"
    );
    assert_eq!(number("SELECT count(*) FROM tasker_tasks"), 0);
    assert_eq!(number("PRAGMA user_version"), 7);
    assert_eq!(
        number("PRAGMA application_id"),
        0,
        "the file stays the application's"
    );
}

#[test]
fn a_newer_file_is_refused_with_both_versions() {
    let (fixture, path) = sqlite_with_path();
    let raw = Connection::open(&path).unwrap();
    raw.execute("INSERT INTO tasker_schema VALUES (4711)", [])
        .unwrap();
    let refused = refusal(&path);
    assert!(
        matches!(refused, StoreError::NewerVersion { found: 4_711, .. }),
        "{refused:?}"
    );
    let text = refused.to_string();
    assert!(
        text.contains("schema version 4711, this Tasker knows versions up to"),
        "{text}"
    );
    drop(fixture);
}

#[test]
fn a_missing_folder_and_a_folder_are_not_files() {
    let folder = tempfile::tempdir().unwrap();
    for path in [
        folder.path().join("not/there/tasker.db"),
        folder.path().to_owned(),
    ] {
        let refused = refusal(&path);
        assert!(
            matches!(refused, StoreError::CannotOpen { .. }),
            "{refused:?}"
        );
        let text = refused.to_string();
        assert!(text.contains(&path.display().to_string()), "{text}");
        assert!(text.contains("check that its folder exists"), "{text}");
    }
}

#[tokio::test]
async fn a_url_names_a_file_or_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasker.db");
    for url in [
        format!("sqlite:{}", path.display()),
        format!("sqlite://{}", path.display()),
    ] {
        fs::remove_file(&path).ok();
        let store = open(&url, clock()).await.unwrap();
        assert!(path.exists(), "{url}");
        assert!(store.templates(None).await.unwrap().is_empty());
    }
    let memory = open("sqlite::memory:", clock()).await.unwrap();
    assert!(memory.templates(None).await.unwrap().is_empty());
    assert_eq!(memory.change_mark(), None);
}

#[tokio::test]
async fn a_url_that_is_no_store_is_shown_without_its_secret() {
    let urls = [
        "mysql://user:secret@h/db",
        "mysql://user:p@ss:secret@h/db",
        "mysql://secret@h",
        "tasker.db",
        "sqlite:",
        "",
    ];
    for url in urls {
        let refused = open(url, clock()).await.err().expect("it was opened");
        assert!(
            matches!(refused, StoreError::BadUrl { .. }),
            "{url}: {refused:?}"
        );
        let shown = format!("{refused} {refused:?}");
        assert!(
            !shown.contains("secret") && !shown.contains("p@ss"),
            "{shown}"
        );
        assert!(
            shown.contains("expected `sqlite:PATH`, `sqlite::memory:`"),
            "{shown}"
        );
    }
    let refused = open("mysql://user:secret@h/db", clock())
        .await
        .err()
        .unwrap();
    assert!(refused.to_string().contains("mysql://…@h/db"), "{refused}");
}

#[tokio::test]
async fn a_file_keeps_everything() {
    let (f, path) = sqlite_with_path();
    let chain = f.define("chain", &[("a", &[]), ("b", &["a"])]).await;
    let worker = f.worker(&[&chain]);
    let task = f.start(&chain).await;
    let step = f.claim_one(&worker).await;
    let before = f.as_text(task).await;
    let kept = tempfile::tempdir().unwrap();
    // Also what only the log holds: the process may be killed at any time.
    for end in ["", "-wal"] {
        let name = format!("{}{end}", path.display());
        fs::copy(&name, kept.path().join(format!("tasker.db{end}"))).unwrap();
    }
    let clock = f.clock.clone();
    let store = SqliteStore::open(kept.path().join("tasker.db"), clock.clone()).unwrap();
    drop(f);
    let again = Fixture::new(Arc::new(store), clock, Arc::new(kept));
    assert_eq!(again.as_text(task).await, before);
    again
        .settle(
            &worker,
            &step,
            crate::fixture::succeed(&serde_json::json!(1)),
        )
        .await;
    again.run_all(&worker).await;
    assert_eq!(again.state(task).await, TaskState::Complete);
    again.audit().await;
}

#[tokio::test]
async fn a_file_can_be_opened_again_and_again() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let path = folder.path().join("tasker.db");
    let mut made = Vec::new();
    for round in 0..3 {
        let clock = clock();
        clock.advance(crate::fixture::ms(round));
        let store = Arc::new(SqliteStore::open(&path, clock.clone()).unwrap());
        let f = Fixture::new(store, clock, folder.clone());
        // Ids start over with each fixture: use up those that are taken.
        for _ in 0..made.len() {
            f.task_id();
        }
        let one = f.define("one", &[("a", &[])]).await;
        made.push(f.start(&one).await);
        assert_eq!(f.store.templates(None).await.unwrap().len(), 1);
        assert_eq!(f.list(TaskFilter::default()).await.len(), made.len());
        f.audit().await;
    }
}

#[tokio::test]
async fn two_stores_on_one_file_share_the_work() {
    let (f, path) = sqlite_with_path();
    let wide = f
        .define("wide", &[("a", &[]), ("b", &[]), ("c", &[])])
        .await;
    let tasks = join_all((0..15).map(|_| f.start(&wide))).await;
    let other = SqliteStore::open(&path, f.clock.clone()).unwrap();
    let other = f.beside(Arc::new(other));
    let workers = [f.worker(&[&wide]), f.worker(&[&wide])];
    let claims = (0..20).map(|number| {
        let side = number % 2;
        [&f, &other][side].claim(&workers[side], 3)
    });
    let progress = join_all(claims).await;
    let given = progress
        .iter()
        .flat_map(|p| &p.claimed)
        .map(|c| c.lease.step);
    let given: Vec<_> = given.collect();
    let distinct: HashSet<_> = given.iter().collect();
    assert_eq!((given.len(), distinct.len()), (45, 45));
    // What one side does, the other sees.
    f.order(tasks[0], Order::CancelTask).await.unwrap();
    assert_eq!(other.state(tasks[0]).await, TaskState::Cancelled);
    let two = other.define("two", &[("a", &[])]).await;
    let mixed = f.start(&two).await;
    assert_eq!(
        other
            .claim_one(&other.worker(&[&two]))
            .await
            .lease
            .step
            .task_id,
        mixed
    );
    let mark = f.store.change_mark();
    other.start(&two).await;
    assert_ne!(
        f.store.change_mark(),
        mark,
        "another process's commit is noticed"
    );
    f.audit().await;
}

#[tokio::test]
async fn a_task_is_created_with_the_callers_own_row_or_not_at_all() {
    let (f, path) = sqlite_with_path();
    let one = f.define("one", &[("a", &[])]).await;
    let mut own = Connection::open(&path).unwrap();
    own.execute_batch("CREATE TABLE own_orders (id INTEGER PRIMARY KEY)")
        .unwrap();
    let clock: Arc<dyn Clock> = f.clock.clone();
    let (kept, undone) = (f.plain(&one), f.plain(&one));
    for (new, commit) in [(&undone, false), (&kept, true)] {
        let transaction = own.transaction().unwrap();
        transaction
            .execute("INSERT INTO own_orders (id) VALUES (NULL)", [])
            .unwrap();
        let created = create_in(&transaction, new, &clock).unwrap();
        assert_eq!(created, Created::New(new.task_id));
        assert!(
            f.store.task(new.task_id).await.unwrap().is_none(),
            "not before the commit"
        );
        if commit {
            transaction.commit().unwrap();
        } else {
            transaction.rollback().unwrap();
        }
    }
    let rows: i64 = own
        .query_row("SELECT count(*) FROM own_orders", [], |r| r.get(0))
        .unwrap();
    assert_eq!(rows, 1);
    assert!(f.store.task(undone.task_id).await.unwrap().is_none());
    assert_eq!(f.list(TaskFilter::default()).await, [kept.task_id]);
    let again = create_in(&own, &kept, &clock).unwrap();
    assert_eq!(again, Created::Existing(kept.task_id));
    f.run_all(&f.worker(&[&one])).await;
    assert_eq!(f.state(kept.task_id).await, TaskState::Complete);
    f.audit().await;
}

fn crate_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn statements() -> Vec<(String, String)> {
    let files = fs::read_dir(crate_folder("sql/sqlite")).unwrap();
    let mut statements: Vec<_> = files
        .map(|file| {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            (name, fs::read_to_string(file.path()).unwrap())
        })
        .collect();
    statements.sort();
    statements
}

/// The lines of a statement's query plan.
fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut explain = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap();
    let lines = explain
        .raw_query()
        .mapped(|row| row.get(3))
        .collect::<Result<_, _>>();
    lines.unwrap()
}

#[test]
fn every_statement_is_valid_and_finds_its_rows_by_an_index() {
    let (fixture, path) = sqlite_with_path();
    let connection = Connection::open(path).unwrap();
    let statements = statements();
    assert!(statements.len() > 30);
    let large = ["steps", "tasks", "transitions", "requests", "t", "r"];
    for (name, sql) in &statements {
        let title = format!("-- {}", name.trim_end_matches(".sql"));
        assert_eq!(
            sql.lines().next(),
            Some(title.as_str()),
            "the first line is the name"
        );
        if let Err(error) = connection.prepare(sql) {
            panic!("{name}: {error}");
        }
        // Figures are over everything, and are looked at now and then.
        if name.starts_with("transaction.") || name.starts_with("figures.") {
            continue;
        }
        for line in plan(&connection, sql) {
            let scanned = line
                .strip_prefix("SCAN ")
                .and_then(|rest| rest.split(' ').next());
            let is_large = scanned.is_some_and(|table| large.contains(&table));
            assert!(!is_large, "{name} reads a whole table: {line}");
        }
    }
    drop(fixture);
}

#[test]
fn the_claim_reads_the_index_of_due_steps_in_order() {
    let (fixture, path) = sqlite_with_path();
    let connection = Connection::open(path).unwrap();
    for (name, sql) in statements() {
        let index = match name.as_str() {
            "claim.due.sql" | "claim.next_due.sql" => "tasker_steps_due",
            "claim.past_deadline.sql" | "claim.next_deadline.sql" => "tasker_tasks_deadline",
            "create.find_idempotency_key.sql" => "tasker_requests_idempotency_key",
            "create.find_identity.sql" => "tasker_requests_identity",
            "query.tasks_needing_attention.sql" => "tasker_tasks_attention",
            _ => continue,
        };
        let lines = plan(&connection, &sql);
        assert!(
            lines.iter().any(|line| line.contains(index)),
            "{name}: {lines:?}"
        );
        assert!(
            !lines.iter().any(|line| line.contains("TEMP B-TREE")),
            "{name}: {lines:?}"
        );
    }
    drop(fixture);
}

#[test]
fn every_statement_is_used() {
    let mut source = String::new();
    for file in fs::read_dir(crate_folder("src/sqlite")).unwrap() {
        source += &fs::read_to_string(file.unwrap().path()).unwrap();
    }
    for (name, _) in statements() {
        assert!(
            source.contains(&format!("sql/sqlite/{name}\"")),
            "nobody uses {name}"
        );
    }
}
