//! The whole engine on a real store: patterns, failures, crashes, orders, bad input.

mod support;
mod patterns;
mod failures;
mod operators;
mod requests;
mod sql;
mod shutdown;
mod chaos;
mod scale;
mod idle;
