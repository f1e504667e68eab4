//! What every test needs: a runtime to judge, a bundle, a container that leaves nothing behind, and the kernel's own records.
//! No test lives here.

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

/// A new container for this test. Where the machine can't run one, the test returns.
macro_rules! container {
    () => {
        match crate::harness::Container::new() {
            Some(container) => container,
            None => return,
        }
    };
}

/// A line of `key value` pairs or of words that a payload printed, cut at white space.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The signal that ended a process, if one did.
pub(crate) fn signal_of(status: std::process::ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

/// Waits for a command that a test spawned itself; panics past the deadline.
#[track_caller]
pub(crate) fn wait_for(child: &mut std::process::Child) -> std::process::ExitStatus {
    let mut status = None;
    eventually("the command ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}
