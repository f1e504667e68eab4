//! orlop: a low-level OCI container runtime.
#![allow(dead_code)]

mod cgroup;
mod error;
mod sys;

fn main() {}
