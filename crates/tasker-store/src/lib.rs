//! What Tasker remembers: tasks, steps, and the record of every change.
//!
//! [`Store`] speaks whole transactions, not tables: create, claim, complete, and the few verbs
//! around them. What concerns one step alone arrives here decided by `tasker-model`; what
//! depends on siblings (children becoming ready, a task becoming final) is counted inside the
//! transaction, because two siblings may finish at once in two processes.
//!
//! Start with [`store`] for the verbs and what each guarantees; [`sqlite`] is the embedded store, [`postgres`] the one for many nodes.

pub mod clock;
pub mod error;
pub mod record;
pub mod figures;
pub mod store;
pub mod audit;
mod sheet;
pub mod sqlite;
pub mod postgres;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::StoreError;
pub use store::Store;

use std::sync::Arc;

/// Opens the store that a URL names: `sqlite:PATH`, `sqlite::memory:` for one that lives and dies
/// with the process, or `postgres://…`.
///
/// Creates a file and brings an older one up to date; a PostgreSQL schema is brought up to date by
/// [`postgres::PostgresStore::migrate`] alone. Refuses one of a newer version.
pub async fn open(url: &str, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", ":memory:")) => Ok(Arc::new(sqlite::SqliteStore::in_memory(clock)?)),
        Some(("sqlite", path)) if !path.is_empty() => {
            let path = path.strip_prefix("//").unwrap_or(path);
            Ok(Arc::new(sqlite::SqliteStore::open(path, clock)?))
        }
        Some(("postgres" | "postgresql", _)) => {
            Ok(Arc::new(postgres::PostgresStore::open(url, clock).await?))
        }
        _ => Err(StoreError::BadUrl {
            url: without_password(url),
        }),
    }
}

/// A URL as it may be shown: whatever stands before an `@` is left out.
fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}
