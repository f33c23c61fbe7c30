//! One transaction: the connection that it runs on and what its statements need.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, Params};
use tasker_model::template::TaskTemplate;

use super::connection::Location;
use crate::error::StoreError;
use crate::record::{TemplateId, stored_template};

/// Definitions by their number; read once per connection, since they never change.
pub(super) type Templates = HashMap<TemplateId, TaskTemplate>;

/// An open transaction.
pub(super) struct Tx<'a> {
    pub(super) connection: &'a Connection,
    pub(super) location: &'a Location,
    pub(super) statements: &'a AtomicU64,
    pub(super) templates: &'a mut Templates,
    /// The time at which everything in this transaction happens.
    pub(super) now: Timestamp,
}

impl<'a> Tx<'a> {
    /// A prepared statement. The text of every statement is a file under `sql/sqlite`.
    pub(super) fn prepare(&self, sql: &'static str) -> Result<CachedStatement<'a>, StoreError> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        self.connection
            .prepare_cached(sql)
            .map_err(|error| self.error(error))
    }

    /// Runs a statement that gives no rows; says how many it changed.
    pub(super) fn execute(
        &self,
        sql: &'static str,
        params: impl Params,
    ) -> Result<usize, StoreError> {
        self.prepare(sql)?
            .execute(params)
            .map_err(|error| self.error(error))
    }

    /// Runs a statement that gives one row or none.
    pub(super) fn row<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        use rusqlite::OptionalExtension as _;
        self.prepare(sql)?
            .query_row(params, read)
            .optional()
            .map_err(|error| self.error(error))
    }

    /// Runs a statement that gives rows.
    pub(super) fn rows<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.prepare(sql)?;
        let rows = statement
            .query_map(params, read)
            .map_err(|error| self.error(error))?;
        rows.collect::<rusqlite::Result<_>>()
            .map_err(|error| self.error(error))
    }

    pub(super) fn error(&self, error: rusqlite::Error) -> StoreError {
        self.location.error(error)
    }

    /// The time now in the form of the columns.
    pub(super) fn now_us(&self) -> i64 {
        self.now.as_microsecond()
    }

    /// The definition behind a number.
    pub(super) fn template(&mut self, id: TemplateId) -> Result<TaskTemplate, StoreError> {
        if let Some(template) = self.templates.get(&id) {
            return Ok(template.clone());
        }
        let sql = include_str!("../../sql/sqlite/query.template.sql");
        let definition = self.row(sql, [id.0], |row| row.get::<_, String>(0))?;
        let missing = || StoreError::BadRow(format!("no template has number {}", id.0));
        let template = stored_template(&definition.ok_or_else(missing)?)?;
        self.templates.insert(id, template.clone());
        Ok(template)
    }

    pub(super) fn register_template(
        &mut self,
        template: &TaskTemplate,
    ) -> Result<TemplateId, StoreError> {
        if let Some((id, _)) = self
            .templates
            .iter()
            .find(|(_, t)| t.hash() == template.hash())
        {
            return Ok(*id);
        }
        let source = template.source();
        let definition = serde_json::to_string(source).expect("invariant: plain data");
        self.execute(
            include_str!("../../sql/sqlite/register_template.sql"),
            (
                template.hash().as_bytes(),
                source.namespace.as_str(),
                source.name.as_str(),
                source.version.to_string(),
                definition,
                self.now_us(),
            ),
        )?;
        let sql = include_str!("../../sql/sqlite/query.template_id.sql");
        let id = self.row(sql, [template.hash().as_bytes()], |row| row.get(0))?;
        Ok(TemplateId(id.expect(
            "invariant: the template was inserted or was there",
        )))
    }
}
