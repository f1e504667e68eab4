//! The start socket, at which the init of a created container waits for `start`.
//! While init waits, it sends its namespaces to an `exec` of the container's owner.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::fcntl::OFlag;

use super::StepResult;
use crate::error::failed;
use crate::protocol::{JoinedPidNamespace, Message, receive, send};
use crate::sys::procfs::{Procfs, errno_of};
use crate::sys::{Errno, ns, process, signal, socket};

/// The start socket, and the namespaces that init sends over it.
pub(super) struct StartSocket {
    socket: OwnedFd,
    /// The namespaces for an owner who isn't root. Before execve, init isn't dumpable, so the
    /// kernel hides init's namespaces from such an owner (ptrace(2), "Ptrace access mode
    /// checking").
    namespaces: Vec<Message>,
}

impl StartSocket {
    /// If `told` is true, init sends its namespaces to an `exec`. `pid_namespace` is the pid
    /// namespace of the process that this process will clone.
    pub(super) fn new(
        socket: OwnedFd,
        told: bool,
        pid_namespace: Option<&JoinedPidNamespace>,
    ) -> StartSocket {
        // If /proc can't be used, init has no namespaces to send, and an exec has to wait for
        // `start`.
        let open = || own_namespaces(pid_namespace).unwrap_or_default();
        let namespaces = if told { open() } else { Vec::new() };
        StartSocket { socket, namespaces }
    }

    /// Returns the descriptors that must stay open.
    pub(super) fn raw_fds(&self) -> impl Iterator<Item = RawFd> + '_ {
        let namespaces = self.namespaces.iter().filter_map(|message| match message {
            Message::Namespace(fd) => Some(fd.as_raw_fd()),
            _ => None,
        });
        namespaces.chain([self.socket.as_raw_fd()])
    }

    /// Waits for the message Go. Returns the connection to its sender.
    pub(super) fn wait_for_start(self) -> StepResult<OwnedFd> {
        loop {
            let caller = accept_connection(&self.socket)?;
            match receive(caller.as_fd()) {
                Ok(Some(Message::Go)) => return Ok(caller),
                Ok(Some(Message::Enter)) => {
                    let mut namespaces = self.namespaces.iter();
                    // A failure to send is ignored, because an exec that has ended needs no answer.
                    let _ = namespaces.try_for_each(|message| send(caller.as_fd(), message));
                }
                // The sender has ended without sending Go.
                _ => process::exit_now(1),
            }
        }
    }
}

/// Waits for a connection. A termination signal (SIGTERM and the like) ends the container, because
/// no program runs yet that could handle it.
fn accept_connection(socket: &OwnedFd) -> StepResult<OwnedFd> {
    let what = || "wait for start".to_owned();
    let signals = signal::termination_signals().map_err(failed("signalfd", what))?;
    let first = signal::wait_for_signal_or(&signals, socket.as_fd());
    if let Some(signal) = first.map_err(failed("poll", what))? {
        process::exit_now(128 + signal);
    }
    drop(signals);
    socket::accept(socket.as_fd()).map_err(failed("accept4", what))
}

fn own_namespaces(pid_namespace: Option<&JoinedPidNamespace>) -> Result<Vec<Message>, Errno> {
    let proc = Procfs::open()?;
    let open = |name: &str| match pid_namespace {
        Some(pid_namespace) if name == "pid" => {
            let copied = pid_namespace.namespace.fd.try_clone();
            copied.map_err(|error| errno_of(&error))
        }
        _ => proc.follow(&format!("self/ns/{name}"), OFlag::O_RDONLY),
    };
    ns::LINKS
        .iter()
        .map(|(name, _)| open(name).map(Message::Namespace))
        .collect()
}
