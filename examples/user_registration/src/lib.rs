//! The services that `user_registration.yaml` speaks to, made up and in one small server.
//!
//! The workflow itself needs no code. [`accounts`] knows users, [`server`] speaks HTTP.

pub mod accounts;
pub mod server;
