//! Connections, and what is said of their failures.
//!
//! Every call is one statement on any connection of the pool, and no setting is changed, so a pooler
//! may give each call another session; behind one nothing is prepared either. The connections live
//! on a thread of the store's own, where no handler can hold them up, or on the engine's.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use deadpool::managed::{QueueMode, TimeoutType};
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime as PoolRuntime,
    Transaction,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::{Error as DriverError, SqlState};
use tokio_postgres::types::{ToSql, Type};

use super::address::Address;
use super::row::{Parameter, Row};
use crate::error::{Cause, StoreError};

/// A call that takes longer has lost its server: the connection is given up.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a transaction that another one pushed aside is run again.
const TRIES: u32 = 5;

/// The connections of one store.
pub(super) struct Connections {
    pub(super) address: Address,
    pool: Pool,
    statements: Arc<AtomicU64>,
    /// Whether statements are prepared and kept by their connections, which saves the server to
    /// read them anew. Off behind a pooler; off for good once one has shown itself.
    prepares: Arc<AtomicBool>,
    /// A thread of the store's own; `None` where the caller drives the connections, and while
    /// being dropped.
    runtime: Option<Runtime>,
}

impl Drop for Connections {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it would panic where the store is dropped by async code.
            runtime.shutdown_background();
        }
    }
}

impl Connections {
    pub(super) fn new(address: Address) -> Result<Connections, StoreError> {
        let prepares = Arc::new(AtomicBool::new(!address.pooler));
        Connections::with(address, Arc::default(), prepares)
    }

    /// Connections to the same server that live on the caller's thread.
    pub(super) fn local(&self) -> Result<Connections, StoreError> {
        Ok(Connections {
            address: self.address.clone(),
            pool: pool(&self.address)?,
            statements: self.statements.clone(),
            prepares: self.prepares.clone(),
            runtime: None,
        })
    }

    fn with(
        address: Address,
        statements: Arc<AtomicU64>,
        prepares: Arc<AtomicBool>,
    ) -> Result<Connections, StoreError> {
        // First: a runtime may not be dropped by async code, where a bad URL is refused.
        let pool = pool(&address)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("tasker-postgres")
            .enable_all()
            .build()
            .map_err(StoreError::NoThread)?;
        Ok(Connections {
            pool,
            address,
            statements,
            prepares,
            runtime: Some(runtime),
        })
    }

    /// Runs a future on the store's own thread, where it goes on if the caller goes away; or, for
    /// a caller that drives the connections itself, right there.
    pub(super) fn spawn<T, F>(&self, run: F) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let Some(runtime) = &self.runtime else {
            return run.boxed();
        };
        let task = runtime.spawn(run);
        async move {
            match task.await {
                Ok(answer) => answer,
                Err(error) if error.is_panic() => {
                    let panic = error.into_panic();
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                    Err(StoreError::Bug(text.unwrap_or("no message").to_owned()))
                }
                Err(_) => Err(StoreError::Closed),
            }
        }
        .boxed()
    }

    /// Statements and round trips so far: every statement is one.
    pub(super) fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    pub(super) fn count_statement(&self) {
        self.statements.fetch_add(1, Ordering::Relaxed);
    }

    /// The text of a statement; files under `sql/postgres` leave the schema open.
    pub(super) fn text(&self, sql: &str) -> String {
        sql.replace("{schema}", &self.address.quoted_schema())
    }

    pub(super) async fn connection(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => self.cannot_connect(error),
            PoolError::Timeout(TimeoutType::Create) => self.cannot_reach(error),
            error => StoreError::Unavailable(Box::new(error)),
        })
    }

    /// Runs one statement as a transaction of its own, again if another pushed it aside.
    pub(super) async fn rows(
        &self,
        sql: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let text = self.text(sql);
        let mut tries = 1;
        loop {
            let connection = self.connection().await?;
            self.count_statement();
            let call = self.call(&connection, &text, parameters);
            match tokio::time::timeout(CALL_TIMEOUT, call).await {
                Ok(Ok(rows)) => return Ok(rows.into_iter().map(Row).collect()),
                Ok(Err(error)) if tries < TRIES && was_pushed_aside(&error) => tries += 1,
                Ok(Err(error)) if tries < TRIES && self.lost_statement(&connection, &error) => {
                    tries += 1;
                }
                Ok(Err(error)) => return Err(self.error(error)),
                Err(elapsed) => {
                    // Whatever comes on this connection now is the answer to something else.
                    drop(Object::take(connection));
                    return Err(StoreError::Unavailable(Box::new(elapsed)));
                }
            }
        }
    }

    async fn call(
        &self,
        connection: &Object,
        text: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<tokio_postgres::Row>, DriverError> {
        if !self.prepares.load(Ordering::Relaxed) {
            return connection.query_typed(text, parameters).await;
        }
        let types: Vec<Type> = parameters.iter().map(|(_, of)| of.clone()).collect();
        let statement = connection.prepare_typed_cached(text, &types).await?;
        let values: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|(value, _)| *value).collect();
        connection.query(&statement, &values).await
    }

    /// Whether a prepared statement is not what it was, and the call may be made again: a pooler
    /// has given this call another session, or a migration has replaced what it calls.
    fn lost_statement(&self, connection: &Object, error: &DriverError) -> bool {
        let pooled = matches!(
            error.code(),
            Some(&(SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT))
        );
        if pooled && self.prepares.swap(false, Ordering::Relaxed) {
            tracing::info!("a pooler shares sessions: statements are no longer prepared");
        }
        connection.statement_cache.clear();
        pooled || error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
    }

    /// Runs one statement that gives one row or none.
    pub(super) async fn row(
        &self,
        sql: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, parameters).await?.pop())
    }

    /// Runs a statement within a transaction.
    pub(super) async fn rows_in(
        &self,
        transaction: &Transaction<'_>,
        sql: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.count_statement();
        let rows = transaction.query_typed(&self.text(sql), parameters).await;
        let rows = rows.map_err(|error| self.error(error))?;
        Ok(rows.into_iter().map(Row).collect())
    }

    /// Says of a refused connection what can be done about it: a server that is away comes back, a
    /// wrong password does not.
    pub(super) fn cannot_connect(&self, error: DriverError) -> StoreError {
        let refused = error.code().is_some_and(|code| {
            let class = code.code().get(..2).unwrap_or_default();
            matches!(class, "28" | "3D" | "42")
        });
        // TLS that cannot be agreed on, or settings that fit no server.
        let text = error.to_string();
        let never =
            text.contains("invalid configuration") || (text.contains("TLS") && !went_away(&error));
        if refused || never {
            return StoreError::CannotConnect {
                server: self.address.shown(),
                source: Box::new(error),
            };
        }
        self.cannot_reach(error)
    }

    /// Whoever reads it may have several stores.
    pub(super) fn cannot_reach(
        &self,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> StoreError {
        StoreError::Unavailable(Box::new(CannotReach {
            server: self.address.shown(),
            source: Box::new(error),
        }))
    }

    /// Says of an error what the caller can do about it.
    pub(super) fn error(&self, error: DriverError) -> StoreError {
        let Some(code) = error.code().cloned() else {
            // Nothing came from the server: the connection broke.
            return StoreError::Unavailable(Box::new(error));
        };
        let source = Box::new(error);
        match code.code().get(..2).unwrap_or_default() {
            _ if code == SqlState::DISK_FULL => StoreError::DiskFull(source),
            "08" | "53" | "57" | "40" => StoreError::Unavailable(source),
            _ if code == SqlState::LOCK_NOT_AVAILABLE => StoreError::Unavailable(source),
            _ if code == SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::ReadOnly {
                path: self.address.shown(),
                source,
            },
            // Within a function of Tasker's own it would be a bug.
            _ if missing(&code) && source.as_db_error().is_none_or(|e| e.where_().is_none()) => {
                StoreError::NotMigrated {
                    server: self.address.shown(),
                    schema: self.address.schema.clone(),
                    found: 0,
                    needed: super::migrations::KNOWN,
                }
            }
            _ => StoreError::Unexpected {
                context: self.address.shown(),
                source,
            },
        }
    }
}

/// A server that did not answer, by its name.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach `{server}`")]
struct CannotReach {
    server: String,
    source: Cause,
}

/// Whether the connection ended while something was agreed on, rather than by disagreement.
fn went_away(error: &DriverError) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            // What TLS itself refuses is invalid data.
            return error.kind() != io::ErrorKind::InvalidData;
        }
        cause = error.source();
    }
    false
}

fn pool(address: &Address) -> Result<Pool, StoreError> {
    let settings = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = Manager::from_config(address.config.clone(), address.tls()?, settings);
    Pool::builder(manager)
        .max_size(address.connections)
        // The connection used last has its plans and its memory at hand.
        .queue_mode(QueueMode::Lifo)
        .runtime(PoolRuntime::Tokio1)
        .wait_timeout(Some(CALL_TIMEOUT))
        .create_timeout(Some(address.connect_limit()))
        .build()
        .map_err(|error| StoreError::BadUrlPart(error.to_string()))
}

/// Whether the server undid a transaction for another's sake: the same call may succeed at once.
pub(super) fn was_pushed_aside(error: &DriverError) -> bool {
    matches!(
        error.code(),
        Some(&(SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED))
    )
}

fn missing(code: &SqlState) -> bool {
    [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::INVALID_SCHEMA_NAME,
    ]
    .contains(code)
}
