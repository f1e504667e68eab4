//! Shared parts of all tests: the runtime to test, a bundle, a container, and the kernel's records.
//! A container checks on drop that nothing of it is left. No test lives here.

pub(crate) mod agent;
mod bundle;
mod command;
mod container;
pub(crate) mod kernel;
mod place;
pub(crate) mod systemd;
pub(crate) mod terminal;

pub(crate) use bundle::Bundle;
pub(crate) use command::{DEADLINE, Output, Started, eventually};
pub(crate) use container::Container;
pub(crate) use place::{adopt, has_strace, install, runtime as runtime_path, skipped};

/// A new container for this test. On a machine that can't run one, the test returns early.
macro_rules! container {
    () => {
        match crate::harness::Container::new() {
            Some(container) => container,
            None => return,
        }
    };
}

/// Splits a line that a payload printed into its words.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The signal that ended a process, if one did.
pub(crate) fn signal_of(status: std::process::ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

/// Waits for a command that a test spawned itself. Panics past the deadline.
#[track_caller]
pub(crate) fn wait_for(child: &mut std::process::Child) -> std::process::ExitStatus {
    let mut status = None;
    eventually("the command ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}
