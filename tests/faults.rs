//! Faults at every step of a command, load, and bad input: the runtime must keep its promises.
//! The everyday run takes a sample; `scripts/faults` covers all and sums up the results.

#[cfg(target_arch = "x86_64")]
mod configurations;
mod load;
mod processes;
mod surroundings;
#[cfg(target_arch = "x86_64")]
mod sweep;
#[cfg(target_arch = "x86_64")]
mod trace;

use std::io::Write;

/// Prints a line in the test's output. A long run also prints it past the capture.
fn note(line: &str) {
    println!("{line}");
    let long = ["ORLOP_TEST_FAULTS", "ORLOP_TEST_LOAD"];
    if long.iter().any(|name| std::env::var_os(name).is_some()) {
        let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}
