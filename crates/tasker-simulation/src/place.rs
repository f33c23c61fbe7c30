//! Where seeds find their store: one in memory for each, or one schema of a PostgreSQL database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tasker::store::postgres::PostgresStore;
use tasker::store::{ManualClock, Store, StoreError};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_postgres::NoTls;
use uuid::Uuid;

/// Where the seeds of one thread find their store.
pub struct Place {
    url: String,
    /// A schema that is removed in the end, and the server that it is on.
    schema: Option<(String, String)>,
    /// Where the store does what it does in the background.
    io: Runtime,
    runs: AtomicU64,
}

impl Place {
    /// A place by the URL of its store: `sqlite::memory:` is empty for every seed, of a PostgreSQL
    /// database a fresh schema is used, and removed when this value is dropped.
    pub fn open(url: &str) -> Result<Place, StoreError> {
        let io = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(StoreError::NoThread)?;
        let mut place = Place {
            url: url.to_owned(),
            schema: None,
            io,
            runs: AtomicU64::new(0),
        };
        if url.starts_with("postgres") {
            let schema = format!("simulation_{}", Uuid::now_v7().simple());
            let and = if url.contains('?') { '&' } else { '?' };
            place.url = format!("{url}{and}schema={schema}&connections=2");
            place.io.block_on(PostgresStore::migrate(&place.url))?;
            place.schema = Some((url.to_owned(), schema));
        }
        Ok(place)
    }

    /// The store, by this clock, and a namespace that no seed has used in it.
    pub(crate) fn store(
        &self,
        clock: Arc<ManualClock>,
    ) -> Result<(Arc<dyn Store>, String), StoreError> {
        let store = self.io.block_on(tasker::store::open(&self.url, clock))?;
        let namespace = match &self.schema {
            None => "simulated".to_owned(),
            Some(_) => format!("simulated-{}", self.runs.fetch_add(1, Ordering::Relaxed)),
        };
        Ok((store, namespace))
    }

    /// Where the store does what it does in the background.
    pub(crate) fn io(&self) -> Handle {
        self.io.handle().clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((server, schema)) = self.schema.take() else {
            return;
        };
        let dropped = self.io.block_on(async {
            let (client, connection) = tokio_postgres::connect(&server, NoTls).await?;
            let connected = tokio::spawn(connection);
            client
                .batch_execute(&format!("DROP SCHEMA {schema} CASCADE"))
                .await?;
            connected.abort();
            Ok::<(), tokio_postgres::Error>(())
        });
        if let Err(error) = dropped {
            eprintln!("cannot drop schema {schema}: {error}");
        }
    }
}
