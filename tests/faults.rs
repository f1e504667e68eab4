//! Faults at every step of a command, load, and bad input: what the runtime promises then.
//! The everyday run takes a sample; `scripts/faults` covers all and sums up what was tried.

#[cfg(target_arch = "x86_64")]
mod configurations;
mod load;
#[cfg(target_arch = "x86_64")]
mod sweep;
#[cfg(target_arch = "x86_64")]
mod trace;

use std::io::Write;

/// Says something in the test's output, and in a long run past its capture.
fn note(line: &str) {
    println!("{line}");
    let long = ["ORLOP_TEST_FAULTS", "ORLOP_TEST_LOAD"];
    if long.iter().any(|name| std::env::var_os(name).is_some()) {
        let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}
