//! Bringing the schema up to date.
//!
//! All that is missing is applied in one transaction, together with its rows in `tasker_schema`; an
//! advisory lock lets one program do it at a time. A program works on its own version and on newer
//! ones that say that they are compatible: so nodes are replaced one by one (docs/UPGRADING.md).

use super::connection::Connections;
use super::migrations::{KNOWN, MIGRATIONS, VERSIONS, keep_version};
use super::row::Row;
use crate::error::StoreError;

/// Any number, as long as it is always the same: who migrates holds this lock.
const LOCK: i64 = 0x7461_736b_6572;

impl Connections {
    /// The version of the schema, and the oldest that it is compatible with; zeros if nothing of
    /// Tasker is there.
    pub(super) async fn version(&self) -> Result<(i64, i64), StoreError> {
        let sql = include_str!("../../sql/postgres/migrate.version.sql");
        match self.row(sql, &[]).await {
            Ok(Some(row)) => versions(&row),
            Ok(None) | Err(StoreError::NotMigrated { .. }) => Ok((0, 0)),
            Err(error) => Err(error),
        }
    }

    /// Refuses a schema that this program cannot work on.
    pub(super) async fn check_version(&self) -> Result<(), StoreError> {
        let (found, compatible_with) = self.version().await?;
        if found < KNOWN {
            return Err(StoreError::NotMigrated {
                server: self.address.shown(),
                schema: self.address.schema.clone(),
                found,
                needed: KNOWN,
            });
        }
        if compatible_with > KNOWN {
            return Err(self.newer(found));
        }
        Ok(())
    }

    fn newer(&self, found: i64) -> StoreError {
        StoreError::NewerVersion {
            path: format!("{} of {}", self.address.schema, self.address.shown()),
            found,
            known: KNOWN,
        }
    }

    /// Applies what is missing; gives the versions before and after. Of a newer schema that this
    /// program can work on there is nothing to apply: so going back to this program is no error.
    pub(super) async fn migrate(&self) -> Result<(i64, i64), StoreError> {
        let mut connection = self.connection().await?;
        let fail = |error| self.error(error);
        let transaction = connection.transaction().await.map_err(fail)?;
        let lock = format!("SELECT pg_advisory_xact_lock({LOCK})");
        transaction.batch_execute(&lock).await.map_err(fail)?;
        let schema = self.address.quoted_schema();
        // Asked first: creating what exists needs a right that a role may lack.
        let exists = "SELECT FROM pg_namespace WHERE nspname = $1";
        let name = (&self.address.schema as _, tokio_postgres::types::Type::TEXT);
        if self
            .rows_in(&transaction, exists, &[name])
            .await?
            .is_empty()
        {
            let create = format!("CREATE SCHEMA {schema}");
            transaction.batch_execute(&create).await.map_err(fail)?;
        }
        // Objects go to the schema, and functions keep this path.
        let path = format!("SET LOCAL search_path = {schema}, pg_temp; {VERSIONS}");
        transaction.batch_execute(&path).await.map_err(fail)?;
        let sql = include_str!("../../sql/postgres/migrate.version.sql");
        let row = self.rows_in(&transaction, sql, &[]).await?.pop();
        let (found, compatible_with) = row.as_ref().map_or(Ok((0, 0)), versions)?;
        if compatible_with > KNOWN {
            return Err(self.newer(found));
        }
        for (number, migration) in (1..).zip(MIGRATIONS) {
            if number > found {
                let sql = format!("{};\n{}", migration.sql, keep_version(number, migration));
                transaction.batch_execute(&sql).await.map_err(fail)?;
            }
        }
        transaction.commit().await.map_err(fail)?;
        Ok((found, found.max(KNOWN)))
    }
}

fn versions(row: &Row) -> Result<(i64, i64), StoreError> {
    let version: Option<i64> = row.get(0)?;
    let compatible_with: Option<i64> = row.get(1)?;
    Ok((version.unwrap_or(0), compatible_with.unwrap_or(0)))
}
