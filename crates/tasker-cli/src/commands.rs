//! One file per command.

pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod graph;
pub(crate) mod handler;
pub(crate) mod manual;
pub(crate) mod migrate;
pub(crate) mod node;
pub(crate) mod prune;
pub(crate) mod queue;
pub(crate) mod run;
pub(crate) mod task;
pub(crate) mod step;
pub(crate) mod worker;
