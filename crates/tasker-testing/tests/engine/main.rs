//! The whole engine on a real store: patterns, failures, crashes, orders, bad input.

mod support;
mod server;
mod patterns;
mod typed;
mod objects;
mod annotations;
mod failures;
mod waiting;
mod subtasks;
mod operators;
mod requests;
mod sql;
mod shutdown;
mod chaos;
mod outage;
mod scale;
mod idle;
