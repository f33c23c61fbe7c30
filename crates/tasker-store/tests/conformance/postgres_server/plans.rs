//! The plans of all statements, beside a history of a million steps: everything is found by an
//! index, and little is read.
//!
//! The server itself tells the plans (`auto_explain`), those of the statements inside of functions,
//! too, while the verbs are called as a node calls them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use tasker_model::id::TaskId;
use tasker_model::identity::Identity;
use tasker_model::name::SignalName;
use tasker_model::outcome::{FailureKind, Settlement};
use tasker_model::progress::StepProgress;
use tasker_model::request::TaskRequest;
use tasker_model::subtask::{Gather, SubtaskPlan};
use tasker_model::task::TaskState;
use tasker_model::template::MapOver;
use tasker_model::trigger::TriggerRule;
use tasker_model::wait::{Until, Wait};
use tasker_store::postgres::PostgresStore;
use tasker_store::record::WorkerRecord;
use tasker_store::store::{
    Expired, NewOrigin, NewTask, Order, Page, Signal, Signalled, TaskFilter,
};
use tokio_postgres::NoTls;

use super::place::{Place, Server, encoded};
use super::wire::{Notice, Tap};
use crate::fixture::{
    Defined, Fixture, LEASE_MS, Worker, end, fail, ms, retry_in, source, succeed, text,
};

/// Tables that grow with every task.
const LARGE: [&str; 5] = [
    "tasker_tasks",
    "tasker_requests",
    "tasker_steps",
    "tasker_subtasks",
    "tasker_transitions",
];
const HISTORY_TASKS: i64 = 250_000;
const STEPS_OF_EACH: i64 = 4;
/// Tasks that are not over.
const OPEN_TASKS: usize = 300;
/// What one part of a plan may read, in rows: all that is open, and a batch of what is over.
const READ_MAX: f64 = 2_000.0;

/// Statements that need no index: a notification, between nodes that listen; and figures over whole
/// tables, which say so.
fn needs_no_index(statement: &str) -> bool {
    statement == "ring" || statement.starts_with("figures.")
}

/// One part of a plan that reads a large table as nobody should.
type Offence = String;

/// What the server told of the statements that it ran.
#[derive(Default)]
struct Plans {
    /// Names of the files that the statements come from.
    statements: BTreeSet<String>,
    /// Functions of which at least one statement was run.
    functions: BTreeSet<String>,
    offences: BTreeMap<Offence, u32>,
    count: u32,
}

impl Plans {
    fn hear(&mut self, tap: &mut Tap, partial: &BTreeSet<String>) {
        while let Ok(notice) = tap.notices.try_recv() {
            self.note(&notice, partial);
        }
    }

    fn note(&mut self, notice: &Notice, partial: &BTreeSet<String>) {
        let Some((_, plan)) = notice.text.split_once("plan:\n") else {
            return;
        };
        let plan: Value = serde_json::from_str(plan).unwrap();
        let statement = plan["Query Text"].as_str().unwrap();
        // The innermost function comes first, as `schema.name(types) line 1 at SQL statement`.
        let of = notice.context.split("PL/pgSQL function ").nth(1);
        let of = of.and_then(|rest| rest.split('(').next());
        let place = if let Some(function) = of {
            let name = function.rsplit('.').next().unwrap();
            self.functions.insert(name.to_owned());
            name
        } else {
            let first = statement.lines().next().unwrap_or_default();
            let name = first.strip_prefix("-- ").unwrap_or(first);
            self.statements.insert(name.to_owned());
            name
        };
        self.count += 1;
        let mut found = Vec::new();
        judge(&plan["Plan"], partial, &mut found);
        for offence in found {
            let offence = format!("{place}: {offence}, in\n{statement}\n");
            *self.offences.entry(offence).or_default() += 1;
        }
    }
}

/// Looks for parts of a plan that read a large table without an index, all of an index that holds
/// the history, or simply too much.
fn judge(node: &Value, partial: &BTreeSet<String>, found: &mut Vec<Offence>) {
    let word = |key: &str| node[key].as_str().unwrap_or_default();
    let number = |key: &str| node[key].as_f64().unwrap_or_default();
    let (how, table, index) = (word("Node Type"), word("Relation Name"), word("Index Name"));
    if how == "Seq Scan" && LARGE.contains(&table) {
        found.push(format!("reads all of {table}"));
    }
    let of_large = LARGE.iter().any(|table| index.starts_with(table));
    if of_large && word("Index Cond").is_empty() && !partial.contains(index) {
        found.push(format!("reads all of the index {index}"));
    }
    let removed = number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
    let read = (number("Actual Rows") + removed) * number("Actual Loops");
    if (of_large || LARGE.contains(&table)) && read > READ_MAX {
        found.push(format!(
            "{how} of {table} {index} reads more than {READ_MAX} rows"
        ));
    }
    for part in node["Plans"].as_array().into_iter().flatten() {
        judge(part, partial, found);
    }
}

/// The first column of what a statement of the test's own selects.
async fn names(server: &Server, sql: &str) -> BTreeSet<String> {
    let rows = server.client().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Tasks that are long over, written as the engine leaves them. Nothing of this need survive a
/// crash.
async fn fill(server: &Server, schema: &str) {
    let template = "(SELECT template_id FROM tasker_templates WHERE name = 'chain')";
    let unlogged = LARGE.map(|table| format!("ALTER TABLE {table} SET UNLOGGED;"));
    let analyze = LARGE.map(|table| format!("ANALYZE {table};"));
    let sql = format!(
        "SET search_path = {schema}; {unlogged}
         CREATE TEMPORARY TABLE history AS
         SELECT n, ('2025-06-01Z'::timestamptz + n * interval '1 second') AS at,
                (lpad(to_hex(x'019000000000'::bigint + n), 12, '0') || '70008000000000000000')::uuid AS id
         FROM generate_series(1, {HISTORY_TASKS}) AS n;
         INSERT INTO tasker_tasks
         SELECT id, {template}, CASE WHEN n % 100 = 0 THEN 'error' ELSE 'complete' END, {STEPS_OF_EACH},
                {STEPS_OF_EACH}, 0, 0, 0, {STEPS_OF_EACH}, at, at, NULL, false
         FROM history;
         INSERT INTO tasker_requests
         SELECT id, '{{}}', 'ann', 'test', 'test', '[]', '[]', at, 'key ' || n, 'identity ' || n % 1000, 0
         FROM history;
         INSERT INTO tasker_steps
         SELECT id, p, 1, 3, 0, 0, n % 3, {template}, NULL, at, at, NULL, 'complete', 'shop', 'step', NULL, '1'
         FROM history, generate_series(0, {STEPS_OF_EACH} - 1) AS p;
         INSERT INTO tasker_subtasks
         SELECT id, 1, 10, 5, 0, 'list', 10, 0, 0, 0, false
         FROM history;
         INSERT INTO tasker_transitions (task_id, sequence, position, at, to_state)
         SELECT id, p, p - 1, at, 'complete'
         FROM history, generate_series(1, {STEPS_OF_EACH}) AS p;
         {analyze}",
        unlogged = unlogged.concat(),
        analyze = analyze.concat(),
    );
    server.run(&sql).await;
}

/// Tasks of every kind, so that the functions go through all of their branches.
fn open_tasks(f: &Fixture, chain: &Defined, limited: &Defined) -> Vec<NewTask> {
    let one = |n: usize| {
        let mut request = TaskRequest::new("chain").idempotency_key(format!("open {n}"));
        request = request.priority(i32::try_from(n % 3).unwrap());
        if n.is_multiple_of(7) {
            request.bypass_steps = vec!["b".to_owned()];
        }
        if n.is_multiple_of(11) {
            return f.asked(limited, TaskRequest::new("limited"));
        }
        let identity = n.is_multiple_of(2).then(|| Identity {
            key: format!("identity {n}"),
            since: Some(f.now()),
        });
        NewTask {
            identity,
            ..f.asked(chain, request)
        }
    };
    (0..OPEN_TASKS).map(one).collect()
}

/// Creates, claims, extends, completes and loses, until every branch of the functions was taken.
async fn work(f: &Fixture, chain: &Defined, worker: &Worker, tasks: Vec<NewTask>) {
    f.store.create(tasks, Some(worker.slots(5))).await.unwrap();
    f.store
        .set_queue_limit(chain.runnable.queue.clone(), Some(100))
        .await
        .unwrap();
    let limited = f.claim(worker, 20).await.claimed;
    assert_eq!(limited.len(), 20);
    f.store
        .set_queue_limit(chain.runnable.queue.clone(), None)
        .await
        .unwrap();
    let claimed = f.claim(worker, 20).await.claimed;
    let leases = claimed.iter().map(|claimed| claimed.lease).collect();
    let lost = f
        .store
        .heartbeat(worker.id, leases, LEASE_MS)
        .await
        .unwrap();
    assert_eq!(lost, []);
    let note = StepProgress {
        done: 1,
        total: Some(2),
        message: "half".to_owned(),
    };
    let notes = claimed.iter().map(|c| (c.lease, note.clone())).collect();
    f.store.note_progress(worker.id, notes).await.unwrap();
    let held = f.store.held(worker.id, worker.slots(0).runnable);
    assert!(held.await.unwrap().len() > 20);
    let how = |n: usize| match n % 5 {
        0 => fail(FailureKind::Permanent),
        1 => retry_in(1_000),
        2 => Settlement::HandBack,
        _ => succeed(&json!(n)),
    };
    let ends = claimed.iter().enumerate();
    let ends = ends.map(|(n, claimed)| end(claimed, how(n))).collect();
    let mut budget = worker.slots(20);
    budget.also_due = true;
    let done = f.store.complete(worker.id, ends, Some(budget));
    assert!(!done.await.unwrap().1.claimed.is_empty());
    // Leases end, three times, and then the deadlines.
    for _ in 0..4 {
        f.clock.advance(ms(LEASE_MS));
        assert_eq!(f.claim(worker, 100).await.claimed.len(), 100);
    }
}

/// A task whose steps wait for a signal, and for the failure of others.
async fn wait_and_fail(f: &Fixture) {
    let mut definition = source("rules", &[("a", &[]), ("b", &["a"])]);
    definition.steps[1].trigger_rule = TriggerRule::AnyFailed;
    let rules = f.register(definition).await;
    let worker = f.worker(&[&rules]);
    let task = f.start(&rules).await;
    let approval = SignalName::new("approval").unwrap();
    let claimed = f.claim_one(&worker).await;
    let wait = Wait {
        until: Until::Signalled,
        signal: Some(approval.clone()),
    };
    f.settle(&worker, &claimed, Settlement::Wait(wait)).await;
    let signal = Signal {
        name: approval,
        payload: text(&json!(1)),
        by: "ann".to_owned(),
    };
    let sent = f.store.signal(task, signal).await.unwrap();
    assert_eq!(sent, Signalled::Delivered);
    let claimed = f.claim_one(&worker).await;
    f.settle(&worker, &claimed, fail(FailureKind::Permanent))
        .await;
    let claimed = f.claim_one(&worker).await;
    f.settle(&worker, &claimed, succeed(&json!(1))).await;
}

/// A step with sub-tasks, of which some fail and some are held, and what is left of it.
async fn start_others(f: &Fixture) {
    let mut definition = source("list", &[("each", &[])]);
    definition.steps[0].map = Some(MapOver::new("context.list"));
    let list = f.register(definition).await;
    let item = f.define("item", &[("each", &[])]).await;
    let (asking, working) = (f.worker(&[&list]), f.worker(&[&item]));
    let task = f.start(&list).await;
    let claimed = f.claim_one(&asking).await;
    let plan = SubtaskPlan {
        count: 40,
        concurrency: 10,
        max_failures: 40,
        gather: Gather::List,
    };
    let subtask = |ordinal: u32, replaces: Option<TaskId>| {
        let origin = NewOrigin::Step {
            lease: claimed.lease,
            worker: asking.id,
            ordinal,
            plan,
            replaces,
        };
        NewTask {
            task_id: origin.origin().subtask_id(),
            origin: Some(origin),
            ..f.asked(&item, TaskRequest::new("item").namespace("shop"))
        }
    };
    let all = (0..40).map(|ordinal| subtask(ordinal, None)).collect();
    f.store.create(all, None).await.unwrap();
    let wait = Wait {
        until: Until::Subtasks,
        signal: None,
    };
    f.settle(&asking, &claimed, Settlement::Wait(wait)).await;
    let items = f.claim(&working, 2).await.claimed;
    for (item, end) in items
        .iter()
        .zip([succeed(&json!(1)), fail(FailureKind::Permanent)])
    {
        f.settle(&working, item, end).await;
    }
    let page = f.store.subtasks(claimed.lease.step, 0, 40).await.unwrap();
    assert_eq!(page.len(), 40);
    f.order(page[39].task_id, Order::CancelTask).await.unwrap();
    f.order(task, Order::CancelTask).await.unwrap();
    for _ in 0..7 {
        let left = f.store.aftermaths(vec![list.runnable.template], 100);
        let left = left.await.unwrap();
        assert_eq!((left.len(), left[0].orphans.len()), (1, 37));
        let past = Timestamp::UNIX_EPOCH;
        f.store.end_aftermath(task, past).await.unwrap();
    }
}

/// Orders for a task that has just begun.
async fn give_orders(f: &Fixture, chain: &Defined) {
    let result = Some(text(&json!(1)));
    let orders = [
        Order::RaiseLimit {
            position: 0,
            attempt_limit: 9,
        },
        Order::SkipStep(1),
        Order::ResolveStep {
            position: 0,
            result,
        },
        Order::CancelStep(2),
        Order::CancelTask,
    ];
    let task = f.start(chain).await;
    let given = orders.len();
    let mut obeyed = 0;
    for order in orders {
        obeyed += usize::from(f.order(task, order).await.is_ok());
    }
    assert!(obeyed + 1 >= given, "but the last, for it is over");
}

/// Everything that people and nodes ask.
async fn ask(f: &Fixture, worker: &Worker, chain: &Defined) {
    f.store
        .register_worker(WorkerRecord {
            worker_id: worker.id,
            host: "host".to_owned(),
            pid: 1,
            handlers: Vec::new(),
            started_at: f.now(),
            seen_at: f.now(),
            attempts: 0,
        })
        .await
        .unwrap();
    let page = |before| Page { limit: 100, before };
    let states = |states: &[TaskState]| TaskFilter {
        states: states.to_vec(),
        ..TaskFilter::default()
    };
    let of_chain = TaskFilter {
        namespace: Some("shop".to_owned()),
        name: Some("chain".to_owned()),
        ..TaskFilter::default()
    };
    let filters = [
        TaskFilter::default(),
        states(&[TaskState::Complete]),
        states(&[TaskState::Pending, TaskState::InProgress, TaskState::Error]),
        of_chain,
    ];
    let mut last = None;
    for filter in filters {
        let found = f.store.tasks(filter, page(None)).await.unwrap();
        assert_eq!(found.len(), 100);
        last = Some(found[99].task_id);
    }
    f.store
        .tasks(TaskFilter::default(), page(last))
        .await
        .unwrap();
    let task = last.unwrap();
    assert_eq!(f.detail(task).await.steps.len(), 4);
    f.store.task(task).await.unwrap();
    f.store.template(chain.runnable.template).await.unwrap();
    f.store.templates(None).await.unwrap();
    assert_eq!(f.store.queues().await.unwrap().len(), 1);
    f.store.workers(Timestamp::UNIX_EPOCH).await.unwrap();
    let expired = Expired {
        states: vec![TaskState::Complete],
        finished_before: f.now(),
        namespace: None,
    };
    let deleted = f.store.delete_finished(expired, None, 10).await.unwrap();
    assert_eq!(deleted.tasks, 10);
}

/// Everything that the schema's functions and the files of statements have to show.
async fn missing(plans: &Plans, schema: &str, server: &Server) -> Vec<String> {
    let sql = format!(
        "SELECT proname::text FROM pg_proc JOIN pg_language l ON l.oid = prolang
         WHERE pronamespace = '{schema}'::regnamespace AND lanname = 'plpgsql'
           AND prosrc ~ '{}'",
        LARGE.join("|")
    );
    let functions = names(server, &sql).await;
    assert!(functions.contains("tasker_complete"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/postgres");
    let files = fs::read_dir(folder).unwrap().map(|file| {
        let name = file.unwrap().file_name().into_string().unwrap();
        name.trim_end_matches(".sql").to_owned()
    });
    let statements = files.filter(|name| !needs_no_index(name));
    let functions = functions.difference(&plans.functions).cloned();
    functions
        .chain(statements.filter(|name| !plans.statements.contains(name)))
        .collect()
}

/// A way to the server on which every statement tells its plan.
async fn tapped(server: &Server, place: &Place) -> (Tap, String) {
    let options = [
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_nested_statements=on",
        "auto_explain.log_analyze=on",
        "auto_explain.log_timing=off",
        "auto_explain.log_format=json",
        "client_min_messages=log",
        "lc_messages=C",
    ];
    let options = options.map(|option| format!("-c {option} ")).concat();
    let tap = Tap::before(server).await;
    let tapped = Server {
        host: "127.0.0.1".to_owned(),
        port: tap.port,
        ..server.clone()
    };
    let parameters = format!("sslmode=disable&options={}", encoded(&options));
    let url = place.by(&tapped, &parameters);
    (tap, url)
}

/// Creates a task as programs in other languages do.
async fn create_in_sql(url: &str, schema: &str) {
    let url = url.split("&schema").next().unwrap();
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let request =
        r#"{"namespace": "shop", "name": "chain", "context": {}, "idempotency_key": "sql"}"#;
    let sql = format!("SELECT {schema}.create_task('{request}', 'hash')");
    client.batch_execute(&sql).await.unwrap();
}

/// That an offence would be noticed: a statement without an index, and one that has an index and
/// reads all of it.
async fn offend(url: &str, schema: &str, tap: &mut Tap, partial: &BTreeSet<String>) {
    let url = url.split("&schema").next().unwrap();
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let ask = async |sql: &str| {
        let sql = format!("SET search_path = {schema}; {sql}");
        client.batch_execute(&sql).await.unwrap();
    };
    ask("SELECT count(*) FROM tasker_steps WHERE name = 'step'").await;
    ask("SET enable_seqscan = off; SELECT count(*) FROM tasker_transitions").await;
    let mut plans = Plans::default();
    plans.hear(tap, partial);
    let found: Vec<_> = plans.offences.into_keys().collect();
    let found = found.concat();
    for part in [
        "reads all of tasker_steps",
        "reads all of the index tasker_transitions_pkey",
    ] {
        assert!(found.contains(part), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_finds_its_rows_by_an_index() {
    let server = Server::as_superuser();
    let loaded = server
        .client()
        .await
        .batch_execute("LOAD 'auto_explain'")
        .await;
    if let Err(error) = loaded {
        println!("not run: the server cannot tell its plans: {error}");
        return;
    }
    let place = Place::migrated(&server, "").await;
    let (schema, quoted) = (place.schema.clone(), place.quoted());
    let sql = format!(
        "SELECT c.relname::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid
         WHERE indpred IS NOT NULL AND relnamespace = '{schema}'::regnamespace"
    );
    let partial = names(&server, &sql).await;
    let (mut tap, url) = tapped(&server, &place).await;
    let f = place.open(&url).await;
    let steps: [(&str, &[&str]); 4] =
        [("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])];
    let chain = f.define("chain", &steps).await;
    let mut limited = source("limited", &steps);
    limited.deadline_ms = Some(2 * LEASE_MS);
    let limited = f.register(limited).await;
    fill(&server, &quoted).await;
    let worker = f.worker(&[&chain, &limited]);
    let tasks = open_tasks(&f, &chain, &limited);
    work(&f, &chain, &worker, tasks).await;
    wait_and_fail(&f).await;
    start_others(&f).await;
    give_orders(&f, &chain).await;
    create_in_sql(&url, &quoted).await;
    // One that knows none of the definitions.
    let store = PostgresStore::open(&url, f.clock.clone()).await.unwrap();
    let other = f.beside(Arc::new(store));
    // The server plans a prepared statement anew five times, then it may keep a plan for all values.
    for _ in 0..7 {
        ask(&other, &worker, &chain).await;
    }
    let mut plans = Plans::default();
    plans.hear(&mut tap, &partial);
    assert!(plans.offences.is_empty(), "{:#?}", plans.offences);
    assert!(plans.count > 1_000, "{} plans", plans.count);
    let missing = missing(&plans, &schema, &server).await;
    assert!(
        missing.is_empty(),
        "no plan was told of {missing:?}: call them in this test"
    );
    offend(&url, &quoted, &mut tap, &partial).await;
}
