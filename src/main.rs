//! orlop: a low-level OCI container runtime.
#![allow(dead_code)]

mod error;
mod sys;

fn main() {}
