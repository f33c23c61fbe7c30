//! What is true of tasks and steps, as plain functions over plain values.
//!
//! This crate has no async runtime, no database, no clock and no random source: time and
//! chance are arguments. It decides what concerns one step or one definition; what depends on
//! siblings is counted by a store inside its transaction, and [`readiness`] and [`rollup`]
//! define the rules that such counting must agree with.
//!
//! The modules are declared in dependency order, which is also the order of a task's life:
//! names and states, the definition ([`template`]), the request ([`request`]), the attempt
//! ([`outcome`], [`retry`], [`lease`]), the roll-up, and the record that remains
//! ([`transition`], [`event`]).

pub mod text_enum;
pub mod json;
pub mod id;
pub mod name;
pub mod state;
pub mod step;
pub mod task;
pub mod dag;
pub mod retry;
pub mod trigger;
pub mod wait;
pub mod schema;
pub mod annotation;
pub mod subtask;
pub mod template;
pub mod derived;
pub mod request;
pub mod identity;
pub mod outcome;
pub mod progress;
pub mod lease;
pub mod readiness;
pub mod rollup;
pub mod transition;
pub mod event;
