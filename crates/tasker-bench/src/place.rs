//! Where a round of measurements happens: a fresh store, removed with it.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use tasker::store::postgres::PostgresStore;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// Which store is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Sqlite => "sqlite",
            Kind::Postgres => "postgres",
        }
    }
}

/// A fresh store.
pub(crate) enum Place {
    Sqlite {
        path: PathBuf,
        _folder: TempDir,
    },
    Postgres(Schema),
    /// Somebody else's, by its URL.
    Elsewhere(String),
}

/// A schema of its own in the database that `TASKER_BENCH_POSTGRES` names.
pub(crate) struct Schema {
    server: String,
    name: String,
}

impl Place {
    pub(crate) async fn fresh(kind: Kind, folder: &Path) -> Result<Place, Box<dyn Error>> {
        match kind {
            Kind::Sqlite => {
                let folder = tempfile::tempdir_in(folder)?;
                let path = folder.path().join("bench.db");
                Ok(Place::Sqlite {
                    path,
                    _folder: folder,
                })
            }
            Kind::Postgres => {
                let server = server()?;
                let name = format!("bench_{}", Uuid::now_v7().simple());
                let schema = Schema { server, name };
                PostgresStore::migrate(&schema.url()).await?;
                Ok(Place::Postgres(schema))
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Place::Sqlite { path, .. } => format!("sqlite:{}", path.display()),
            Place::Postgres(schema) => schema.url(),
            Place::Elsewhere(url) => url.clone(),
        }
    }

    /// Removes what would slow the next round down.
    pub(crate) async fn remove(self) -> Result<(), Box<dyn Error>> {
        if let Place::Postgres(schema) = &self {
            let drop = format!("DROP SCHEMA {} CASCADE", schema.name);
            schema.connect().await?.batch_execute(&drop).await?;
        }
        Ok(())
    }

    /// A client that reads at one moment for as long as it lives: nothing that was deleted since
    /// can be vacuumed.
    pub(crate) async fn hold_snapshot(&self) -> Result<Client, Box<dyn Error>> {
        let Place::Postgres(schema) = self else {
            return Err("only a PostgreSQL store has snapshots to hold".into());
        };
        let client = schema.connect().await?;
        client.batch_execute(HOLD).await?;
        Ok(client)
    }

    /// Rows that wait for vacuum, in all tables of the schema.
    pub(crate) async fn dead_rows(&self) -> Result<Option<i64>, Box<dyn Error>> {
        let Place::Postgres(schema) = self else {
            return Ok(None);
        };
        let client = schema.connect().await?;
        let row = client.query_one(DEAD_ROWS, &[&schema.name]).await?;
        Ok(row.get(0))
    }

    /// For how many milliseconds, at most, a step that was due was passed over for a younger one.
    pub(crate) async fn overtaken_ms(&self) -> Result<Option<f64>, Box<dyn Error>> {
        let Place::Postgres(schema) = self else {
            return Ok(None);
        };
        let row = schema.connect().await?.query_one(OVERTAKEN, &[]).await?;
        Ok(row.get(0))
    }

    /// What the server has counted so far; `None` where there is no server.
    pub(crate) async fn counters(&self) -> Result<Option<Counters>, Box<dyn Error>> {
        let Place::Postgres(schema) = self else {
            return Ok(None);
        };
        let row = schema.connect().await?.query_one(COUNTERS, &[]).await?;
        Ok(Some(Counters {
            wal_bytes: row.get(0),
        }))
    }
}

const HOLD: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tasker_templates";
const DEAD_ROWS: &str =
    "SELECT sum(n_dead_tup)::bigint FROM pg_stat_user_tables WHERE schemaname = $1";
const COUNTERS: &str = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8";

/// Of first steps, which are due when their task is created.
const OVERTAKEN: &str = "
    SELECT max(extract(epoch FROM started_at - first_after) * 1000)::float8
    FROM (SELECT s.started_at, min(s.started_at) OVER (
              ORDER BY t.created_at ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS first_after
          FROM tasker_steps s
          JOIN tasker_tasks t ON t.task_id = s.task_id
          WHERE s.position = 0) starts";

/// Running totals of a server.
#[derive(Clone, Copy)]
pub(crate) struct Counters {
    pub(crate) wal_bytes: f64,
}

pub(crate) fn server() -> Result<String, Box<dyn Error>> {
    let named = std::env::var("TASKER_BENCH_POSTGRES");
    named.map_err(|_| {
        "TASKER_BENCH_POSTGRES names no database; `cargo xtask bench --store postgres` starts one"
            .into()
    })
}

impl Schema {
    fn url(&self) -> String {
        let and = if self.server.contains('?') { '&' } else { '?' };
        // As the other engines connect; encryption on one machine would measure something else.
        format!("{}{and}sslmode=disable&schema={}", self.server, self.name)
    }

    /// A plain connection that finds the schema's tables.
    pub(crate) async fn connect(&self) -> Result<Client, Box<dyn Error>> {
        let (client, connection) = tokio_postgres::connect(&self.server, NoTls).await?;
        // Ends with the client.
        tokio::spawn(connection);
        let path = format!("SET search_path = {}", self.name);
        client.batch_execute(&path).await?;
        Ok(client)
    }
}
