//! Mistakes in typed workflows that must not compile, and what the compiler says to them.
//!
//! The texts beside the programs are those of the compiler that the workspace is built with; after
//! a change, `TRYBUILD=overwrite` writes them anew, to be read before they are committed.

#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
