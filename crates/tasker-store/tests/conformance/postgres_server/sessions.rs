//! Sessions that end under a store that is at work: by an administrator, a restart or a network.

use std::time::Duration;

use tasker_store::store::TaskFilter;
use tasker_store::{StoreError, store::Page};
use tokio::time::timeout;

use super::place::{Place, Server, story};
use crate::fixture::Fixture;

const MINUTE: Duration = Duration::from_mins(1);
/// What `Place` gives a store, the listening one apart.
const CONNECTIONS: usize = 4;

/// A store whose sessions the server knows by a name.
async fn named(server: &Server) -> (Fixture, String) {
    let place = Place::migrated(server, "").await;
    let name = place.schema.clone();
    let url = format!("{}&application_name={name}", place.url);
    (place.open_by_its_clock(&url).await, name)
}

/// Ends the sessions of this name that `and` is true of; gives how many there were.
async fn end(server: &Server, name: &str, and: &str) -> i64 {
    let sql = format!(
        "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = '{name}' AND {and} OFFSET 0) ended"
    );
    server.ask(&sql).await
}

async fn look(f: &Fixture) -> Result<(), StoreError> {
    let page = Page {
        limit: 1,
        before: None,
    };
    f.store.tasks(TaskFilter::default(), page).await.map(drop)
}

#[tokio::test]
async fn sessions_that_were_ended_are_replaced() {
    let server = Server::for_tests();
    let (f, name) = named(&server).await;
    story(&f).await;
    for _ in 0..3 {
        assert!(end(&server, &name, "query NOT LIKE 'LISTEN%'").await > 0);
        // Whoever is handed a broken one before its end was noticed is told to try again.
        let mut failed = 0;
        while let Err(error) = look(&f).await {
            assert!(error.is_transient(), "{error:?}");
            failed += 1;
            assert!(failed <= CONNECTIONS, "each is given up once");
        }
        story(&f).await;
    }
}

#[tokio::test]
async fn a_store_whose_ear_was_cut_off_listens_again() {
    let server = Server::for_tests();
    let (f, name) = named(&server).await;
    let client = server.client().await;
    // The session that listens, and where.
    let sql = format!(
        "SELECT pid, query FROM pg_stat_activity
         WHERE application_name = '{name}' AND query LIKE 'LISTEN%' AND state = 'idle'"
    );
    let listens = async |before: i32| loop {
        if let Some(row) = client.query_opt(&sql, &[]).await.unwrap()
            && row.get::<_, i32>(0) != before
        {
            let query: String = row.get(1);
            return (row.get(0), query.replace("LISTEN ", ""));
        }
    };
    let (first, channel) = timeout(MINUTE, listens(0)).await.expect("it listens");
    assert_eq!(end(&server, &name, "query LIKE 'LISTEN%'").await, 1);
    timeout(MINUTE, listens(first))
        .await
        .expect("it listens again");
    // By itself it rings at most twice, whenever it begins to listen.
    for _ in 0..3 {
        let rung = f.store.rung();
        server
            .run(&format!("NOTIFY {channel}, 'another node'"))
            .await;
        timeout(MINUTE, rung).await.expect("it hears the others");
    }
}
