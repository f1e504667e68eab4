//! orlop: a low-level OCI container runtime.
#![allow(dead_code)]

mod error;
mod spec;
mod sys;

fn main() {}
