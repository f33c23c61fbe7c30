//! Connections, and what is said of their failures.
//!
//! Every call is one unnamed statement on any connection of the pool: nothing is prepared and no
//! setting is changed, so a pooler may give each call another session. The connections live on a
//! thread of the store's own, where no handler can hold them up.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime as PoolRuntime,
    Transaction,
};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::{Error as DriverError, SqlState};

use super::address::Address;
use super::row::{Parameter, Row};
use crate::error::StoreError;

/// A call that takes longer has lost its server: the connection is given up.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a transaction that another one pushed aside is run again.
const TRIES: u32 = 5;

/// The connections of one store.
pub(super) struct Connections {
    pub(super) address: Address,
    pool: Pool,
    statements: AtomicU64,
    /// `None` only while being dropped.
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
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("tasker-postgres")
            .enable_all()
            .build()
            .map_err(StoreError::NoThread)?;
        let settings = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(address.config.clone(), address.tls()?, settings);
        let pool = Pool::builder(manager)
            .max_size(address.connections)
            .runtime(PoolRuntime::Tokio1)
            .wait_timeout(Some(CALL_TIMEOUT))
            .create_timeout(Some(CALL_TIMEOUT))
            .build()
            .map_err(|error| StoreError::BadUrlPart(error.to_string()))?;
        Ok(Connections {
            address,
            pool,
            statements: AtomicU64::new(0),
            runtime: Some(runtime),
        })
    }

    /// Runs a future on the store's own thread. It goes on if the caller goes away.
    pub(super) fn spawn<T, F>(
        &self,
        run: F,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let task = self.runtime.as_ref().map(|runtime| runtime.spawn(run));
        async move {
            let Some(task) = task else {
                return Err(StoreError::Closed);
            };
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
            let call = connection.query_typed(&text, parameters);
            match tokio::time::timeout(CALL_TIMEOUT, call).await {
                Ok(Ok(rows)) => return Ok(rows.into_iter().map(Row).collect()),
                Ok(Err(error)) if was_pushed_aside(&error) && tries < TRIES => tries += 1,
                Ok(Err(error)) => return Err(self.error(error)),
                Err(elapsed) => {
                    // Whatever comes on this connection now is the answer to something else.
                    drop(Object::take(connection));
                    return Err(StoreError::Unavailable(Box::new(elapsed)));
                }
            }
        }
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
        let never = error.to_string().contains("TLS")
            || error.to_string().contains("invalid configuration");
        if refused || never {
            return StoreError::CannotConnect {
                server: self.address.shown(),
                source: Box::new(error),
            };
        }
        StoreError::Unavailable(Box::new(error))
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
            "08" | "53" | "55" | "57" | "40" => StoreError::Unavailable(source),
            _ if code == SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::ReadOnly {
                path: self.address.shown(),
                source,
            },
            _ if missing(&code) => StoreError::NotMigrated {
                server: self.address.shown(),
                schema: self.address.schema.clone(),
                found: 0,
                needed: super::migrate::KNOWN,
            },
            _ => StoreError::Unexpected {
                context: self.address.shown(),
                source,
            },
        }
    }
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
