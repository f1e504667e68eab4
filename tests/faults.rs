//! Faults at every step of a command, load, and bad input: what the runtime promises then.
//! The everyday run takes a sample; `scripts/faults` covers all and sums up what was tried.

#[cfg(target_arch = "x86_64")]
mod configurations;
#[cfg(target_arch = "x86_64")]
mod sweep;
#[cfg(target_arch = "x86_64")]
mod trace;
