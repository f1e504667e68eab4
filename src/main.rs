//! orlop: a low-level OCI container runtime.
#![allow(dead_code)]

mod cli;
mod cmd;
mod cgroup;
mod error;
mod invocation;
mod log;
mod sys;
mod time;

fn main() {}
