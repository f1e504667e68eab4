//! Reports unit tests that can't run on this machine. The black-box tests' harness has its own
//! reports.
//! A report is one line on stderr that the test runner doesn't capture. `scripts/test` counts these
//! lines.

use std::io::Write as _;

/// Reports the running test as skipped.
pub(crate) fn because(reason: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {reason}\n", thread.name().unwrap_or("?"));
    let _ = std::io::stderr().write_all(line.as_bytes());
}
