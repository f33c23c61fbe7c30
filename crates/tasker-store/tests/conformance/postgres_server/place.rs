//! The server for tests, and a schema on it.

use std::env;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use tasker_model::task::TaskState;
use tasker_store::postgres::PostgresStore;
use tasker_store::{Clock, SystemClock};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

use crate::fixture::{self, Fixture, clock, succeed};

/// How to reach a database, part by part.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) user: String,
    pub(super) password: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
}

impl Server {
    /// The database for tests, as the role that the tests of all stores use.
    pub(super) fn for_tests() -> Server {
        Server::named("TASKER_TEST_POSTGRES").expect(
            "TASKER_TEST_POSTGRES names a database for tests; `cargo xtask test` starts one",
        )
    }

    /// The same database, as a superuser.
    pub(super) fn as_superuser() -> Server {
        let server = Server::for_tests();
        let Some(superuser) = Server::named("TASKER_TEST_POSTGRES_SUPER") else {
            return server;
        };
        Server {
            user: superuser.user,
            password: superuser.password,
            ..server
        }
    }

    fn named(variable: &str) -> Option<Server> {
        let url = env::var(variable).ok().filter(|url| !url.is_empty())?;
        let config: Config = url.parse().unwrap();
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            #[cfg(unix)]
            Some(Host::Unix(folder)) => folder.display().to_string(),
            None => "localhost".to_owned(),
        };
        let user = config.get_user().unwrap_or_default().to_owned();
        let password = config.get_password().unwrap_or_default().to_vec();
        Some(Server {
            password: String::from_utf8(password).unwrap(),
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            database: config.get_dbname().unwrap_or(&user).to_owned(),
            user,
        })
    }

    /// As a URL with these parameters.
    pub(super) fn url(&self, parameters: &str) -> String {
        let [user, password, host, database] =
            [&self.user, &self.password, &self.host, &self.database].map(|part| encoded(part));
        let port = self.port;
        let url = format!("postgres://{user}:{password}@{host}:{port}/{database}");
        if parameters.is_empty() {
            url
        } else {
            format!("{url}?{parameters}")
        }
    }

    /// A connection for statements of the test's own.
    pub(super) async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(""), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Runs statements of the test's own.
    pub(super) async fn run(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    /// One value.
    pub(super) async fn ask<T>(&self, sql: &str) -> T
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        self.client()
            .await
            .query_one(sql, &[])
            .await
            .unwrap()
            .get(0)
    }
}

/// A text as a part of a URL.
pub(super) fn encoded(text: &str) -> String {
    // Addresses and names of hosts stay legible.
    const SPECIAL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');
    utf8_percent_encode(text, SPECIAL).to_string()
}

/// A schema that nobody else uses, removed when its test is over; it need not exist.
pub(super) struct Place {
    pub(super) url: String,
    pub(super) schema: String,
    pub(super) server: Server,
}

impl Place {
    /// Nothing is there yet.
    pub(super) fn fresh(server: &Server, parameters: &str) -> Place {
        let (url, schema) = fixture::fresh_schema(&server.url(parameters));
        let server = server.clone();
        Place {
            url,
            schema,
            server,
        }
    }

    /// Ready for a store.
    pub(super) async fn migrated(server: &Server, parameters: &str) -> Place {
        let place = Place::fresh(server, parameters);
        PostgresStore::migrate(&place.url).await.unwrap();
        place
    }

    /// The same schema, reached in another way.
    pub(super) fn by(&self, server: &Server, parameters: &str) -> String {
        let and = if parameters.is_empty() { "" } else { "&" };
        let schema = encoded(&self.schema);
        server.url(&format!("{parameters}{and}schema={schema}&connections=4"))
    }

    /// The schema as SQL names it.
    pub(super) fn quoted(&self) -> String {
        format!("\"{}\"", self.schema.replace('"', "\"\""))
    }

    /// A store at this URL, by a test's clock.
    pub(super) async fn open(self, url: &str) -> Fixture {
        let clock = clock();
        let store = PostgresStore::open(url, clock.clone()).await.unwrap();
        Fixture::new(Arc::new(store), clock, Arc::new(self))
    }

    /// A store at this URL, by the database's clock.
    pub(super) async fn open_by_its_clock(self, url: &str) -> Fixture {
        let real: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = PostgresStore::open(url, real).await.unwrap();
        Fixture::new(Arc::new(store), clock(), Arc::new(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (server, schema) = (self.server.clone(), self.quoted());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let sql = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
            runtime.unwrap().block_on(server.run(&sql));
        });
        assert!(
            dropped.join().is_ok() || std::thread::panicking(),
            "the schema is dropped"
        );
    }
}

/// A task from its creation to its end: whoever can do this can work.
pub(super) async fn story(f: &Fixture) {
    let chain = f.define("chain", &[("a", &[]), ("b", &["a"])]).await;
    let worker = f.worker(&[&chain]);
    let task = f.start(&chain).await;
    let first = f.claim_one(&worker).await;
    let second = f
        .settle_and_claim(&worker, &first, succeed(&json!(1)), 1)
        .await
        .claimed;
    f.settle(&worker, &second[0], succeed(&json!(2))).await;
    assert_eq!(f.state(task).await, TaskState::Complete);
    f.audit().await;
}
