//! Black-box tests: they run the built binary and check the result in the kernel.
//! Unit tests are not here, and no test knows the runtime's internals. ORLOP_TEST_RUNTIME selects
//! another runtime to test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::too_many_lines
)]

#[macro_use]
mod harness;

mod annotations;
mod attacks;
mod bad_input;
mod cgroups;
mod check;
mod checkpoint;
mod cli;
mod commit;
mod config;
mod contract;
mod copy_up;
mod descriptors;
mod devices;
mod doctor;
mod engines;
mod events;
mod exec;
mod faults;
mod foreign_mounts;
mod hooks;
mod host_paths;
mod inspect;
mod interrupt;
mod keyring;
mod layers;
mod lifecycle;
mod limits;
mod list;
mod live_mounts;
mod lsm;
mod manual;
mod mount_options;
mod mounts;
mod namespaces;
mod net_devices;
mod no_cgroup;
mod notify;
mod process;
mod rootless;
mod scheduling;
mod seccomp;
mod seccomp_agent;
mod seccomp_programs;
mod shortage;
mod state;
mod systemd;
mod systemd_calls;
mod terminal;
mod timeline;
mod update;
mod userns;
mod userns_joined;
