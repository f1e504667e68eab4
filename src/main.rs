//! orlop: a low-level OCI container runtime.
#![allow(dead_code)]

mod error;
mod launch;
mod sys;

fn main() {}
