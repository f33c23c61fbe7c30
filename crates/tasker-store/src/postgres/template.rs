//! Definitions: registered once, and kept by every node, since they never change.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use deadpool_postgres::Transaction;
use tasker_model::template::{ContentHash, StepTemplate, TaskTemplate};
use tasker_model::trigger::ParentEnd;
use tokio_postgres::types::Type;

use super::Inner;
use super::row::{Row, int, milliseconds};
use crate::error::StoreError;
use crate::record::{TemplateId, stored_template};

const READ: &str = include_str!("../../sql/postgres/query.template.sql");

/// Definitions by their number, and numbers by their content.
#[derive(Default)]
pub(super) struct Templates(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_id: HashMap<TemplateId, TaskTemplate>,
    by_hash: HashMap<ContentHash, TemplateId>,
}

impl Templates {
    fn get(&self, id: TemplateId) -> Option<TaskTemplate> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.by_id.get(&id).cloned()
    }

    fn find(&self, hash: ContentHash) -> Option<TemplateId> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.by_hash.get(&hash).copied()
    }

    fn keep(&self, id: TemplateId, template: &TaskTemplate) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.by_hash.insert(template.hash(), id);
        known.by_id.insert(id, template.clone());
    }
}

impl Inner {
    /// The definition behind a number.
    pub(super) async fn template(&self, id: TemplateId) -> Result<TaskTemplate, StoreError> {
        if let Some(template) = self.templates.get(id) {
            return Ok(template);
        }
        let row = self.connections.row(READ, &[(&id.0, Type::INT8)]).await?;
        self.read(id, row)
    }

    /// The same for whoever is in a transaction: with a second connection, as many as there are
    /// would wait for each other's.
    pub(super) async fn template_in(
        &self,
        transaction: &Transaction<'_>,
        id: TemplateId,
    ) -> Result<TaskTemplate, StoreError> {
        if let Some(template) = self.templates.get(id) {
            return Ok(template);
        }
        let key = [(&id.0 as _, Type::INT8)];
        let mut rows = self.connections.rows_in(transaction, READ, &key).await?;
        self.read(id, rows.pop())
    }

    fn read(&self, id: TemplateId, row: Option<Row>) -> Result<TaskTemplate, StoreError> {
        let missing = || StoreError::BadRow(format!("no template has number {}", id.0));
        let template = stored_template(row.ok_or_else(missing)?.get(0)?)?;
        self.templates.keep(id, &template);
        Ok(template)
    }

    pub(super) async fn templates(
        &self,
        after: Option<TemplateId>,
    ) -> Result<Vec<(TemplateId, TaskTemplate)>, StoreError> {
        let sql = include_str!("../../sql/postgres/query.templates.sql");
        let after = after.map_or(0, |id| id.0);
        let rows = self.connections.rows(sql, &[(&after, Type::INT8)]).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let id = TemplateId(row.get(0)?);
            let known = self.templates.get(id);
            let template = known.map_or_else(|| stored_template(row.get(1)?), Ok)?;
            self.templates.keep(id, &template);
            found.push((id, template));
        }
        Ok(found)
    }

    pub(super) async fn register_template(
        &self,
        template: &TaskTemplate,
    ) -> Result<TemplateId, StoreError> {
        if let Some(id) = self.templates.find(template.hash()) {
            return Ok(id);
        }
        let source = template.source();
        let dag = template.dag();
        let positions = || (0..).take(dag.len());
        let version = source.version.to_string();
        let order = [
            source.version.major,
            source.version.minor,
            source.version.patch,
        ];
        let order: Vec<i64> = order.into_iter().map(i64::from).collect();
        let deadline_ms = source.deadline_ms.map(milliseconds);
        let definition = serde_json::to_string(source).expect("invariant: plain data");
        let steps: Vec<&str> = source.steps.iter().map(|step| step.name.as_str()).collect();
        let queues: Vec<String> = positions()
            .map(|step| template.queue(step).into())
            .collect();
        let limit = |step: &StepTemplate| i64::from(step.retry.attempt_limit());
        let limits: Vec<i64> = source.steps.iter().map(limit).collect();
        let parents: Vec<i32> = positions()
            .map(|step| i32::try_from(dag.parents(step).len()).unwrap_or(i32::MAX))
            .collect();
        let skippable: Vec<bool> = source.steps.iter().map(|step| step.skippable).collect();
        let levels: Vec<i32> = positions().map(|step| int(dag.level(step))).collect();
        let edges = Edges::of(template);
        let rules = Rules::of(template);
        let (now, hash) = (self.given_time(), template.hash());
        let hash = hash.as_bytes().as_slice();
        let row = self
            .connections
            .row(
                include_str!("../../sql/postgres/register_template.sql"),
                &[
                    (&now, Type::TIMESTAMPTZ),
                    (&hash, Type::BYTEA),
                    (&source.namespace.as_str(), Type::TEXT),
                    (&source.name.as_str(), Type::TEXT),
                    (&version, Type::TEXT),
                    (&order, Type::INT8_ARRAY),
                    (&deadline_ms, Type::INT8),
                    (&definition, Type::TEXT),
                    (&steps, Type::TEXT_ARRAY),
                    (&queues, Type::TEXT_ARRAY),
                    (&limits, Type::INT8_ARRAY),
                    (&parents, Type::INT4_ARRAY),
                    (&skippable, Type::BOOL_ARRAY),
                    (&levels, Type::INT4_ARRAY),
                    (&edges.parents, Type::INT4_ARRAY),
                    (&edges.children, Type::INT4_ARRAY),
                    (&edges.ordinals, Type::INT4_ARRAY),
                    (&rules.awaited, Type::INT4_ARRAY),
                    (&rules.on_success, Type::INT4_ARRAY),
                    (&rules.on_skip, Type::INT4_ARRAY),
                    (&rules.on_failure, Type::INT4_ARRAY),
                    (&template.has_aftermath(), Type::BOOL),
                ],
            )
            .await?;
        let missing = || StoreError::BadRow("a definition without a number".to_owned());
        let id = TemplateId(row.ok_or_else(missing)?.get(0)?);
        self.templates.keep(id, template);
        Ok(id)
    }
}

/// The edges of a definition, column by column.
struct Edges {
    parents: Vec<i32>,
    children: Vec<i32>,
    /// The place of the parent among those that the child names.
    ordinals: Vec<i32>,
}

impl Edges {
    fn of(template: &TaskTemplate) -> Edges {
        let dag = template.dag();
        let edges = || {
            (0..).take(dag.len()).flat_map(|child| {
                let parents = dag.parents(child).iter().zip(0..);
                parents.map(move |(parent, ordinal)| (int(*parent), int(child), ordinal))
            })
        };
        Edges {
            parents: edges().map(|(parent, _, _)| parent).collect(),
            children: edges().map(|(_, child, _)| child).collect(),
            ordinals: edges().map(|(_, _, ordinal)| ordinal).collect(),
        }
    }
}

/// What the rules of the steps count, column by column; nothing for rules that count nothing.
struct Rules {
    awaited: Vec<Option<i32>>,
    on_success: Vec<Option<i32>>,
    on_skip: Vec<Option<i32>>,
    on_failure: Vec<Option<i32>>,
}

impl Rules {
    fn of(template: &TaskTemplate) -> Rules {
        let positions = || (0..).take(template.dag().len());
        let counted = |end| {
            positions()
                .map(|step| template.counted(step, end))
                .collect()
        };
        Rules {
            awaited: positions()
                .map(|step| template.awaited(step).map(int))
                .collect(),
            on_success: counted(ParentEnd::Success),
            on_skip: counted(ParentEnd::Skip),
            on_failure: counted(ParentEnd::Failure),
        }
    }
}
