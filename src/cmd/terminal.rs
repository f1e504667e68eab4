//! The caller's side of a process: its sockets, its terminal, and the wait for its exit.
//! `create`, `run` and `exec` use this module.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::Error;
use crate::invocation::console::{self, MasterDestination};
use crate::launch::notify::NotifyRelay;
use crate::launch::signals::Signals;
use crate::launch::{Launched, foreground, terminal};

/// How long to wait for the reader of our stdout to accept the last output.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(10);

/// The destinations of a process's terminal and pidfd. They are opened before anything is started.
pub(super) struct ProcessEndpoints {
    pub(super) console_socket: Option<OwnedFd>,
    pub(super) pidfd_socket: Option<OwnedFd>,
    /// The caller's terminal, if the process's terminal is relayed to it.
    pub(super) terminal: Option<OwnedFd>,
}

impl ProcessEndpoints {
    /// Connects to the named sockets. `terminal` is true if the process has a terminal.
    pub(super) fn open(
        terminal: bool,
        detached: bool,
        console_socket: Option<&Path>,
        pidfd_socket: Option<&Path>,
    ) -> Result<ProcessEndpoints, Error> {
        let terminal = match console::decide_master(terminal, detached, console_socket.is_some())? {
            MasterDestination::Relayed => Some(terminal::own_terminal()?),
            MasterDestination::Absent | MasterDestination::Sent => None,
        };
        Ok(ProcessEndpoints {
            console_socket: console_socket.map(terminal::connect_console).transpose()?,
            pidfd_socket: pidfd_socket.map(terminal::connect_pidfd).transpose()?,
            terminal,
        })
    }
}

/// Waits until a process exits and returns its exit code. `terminal` is the caller's terminal.
pub(super) fn wait_in_foreground(
    launched: Launched,
    terminal: Option<OwnedFd>,
    signals: &Signals,
    subreaper: bool,
    notify: Option<&NotifyRelay>,
) -> Result<i32, Error> {
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    let console = match (launched.master, &terminal) {
        (Some(master), Some(terminal)) => Some(foreground::Console {
            master,
            terminal: terminal.as_fd(),
            input: stdin.as_fd(),
            output: stdout.as_fd(),
        }),
        _ => None,
    };
    let options = foreground::Settings {
        notify,
        subreaper,
        patience: OUTPUT_TIMEOUT,
    };
    Ok(foreground::supervise(&launched.child, console, signals, options)?.code())
}
