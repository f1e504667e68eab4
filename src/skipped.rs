//! How a unit test that cannot run on this machine says so. The black-box tests have their own way, in their harness.
//! One line on standard error past the capture of the test runner; `scripts/test` counts and lists them.

use std::io::Write as _;

/// Counts the running test as skipped.
pub(crate) fn because(reason: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {reason}\n", thread.name().unwrap_or("?"));
    let _ = std::io::stderr().write_all(line.as_bytes());
}
