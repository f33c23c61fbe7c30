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
    Sqlite { path: PathBuf, _folder: TempDir },
    Postgres(Schema),
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

const COUNTERS: &str = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8";

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
        format!("{}{and}schema={}", self.server, self.name)
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
