//! Workflows to test with: the canonical patterns of the specification (07 A), whose steps fail
//! a given number of times before they succeed.

pub mod patterns;
