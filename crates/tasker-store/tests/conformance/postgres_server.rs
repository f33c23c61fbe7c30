//! What concerns the store on PostgreSQL alone: how it is reached, what may stand in between, and
//! several stores at work on one task.
//!
//! Every test has a schema of its own. Some need a superuser: `TASKER_TEST_POSTGRES_SUPER`, or, if
//! it is not set, the role of `TASKER_TEST_POSTGRES`.

mod place;
mod wire;
mod connecting;
mod sessions;
mod schema;
mod upgrade;
mod pooler;
mod clocks;
mod contention;
mod subtasks;
mod plans;
