//! Parent: blocks its signals, and decides what each signal in the foreground asks for.
//! `launch::foreground` has the loop that reads the signals.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::Error;
use crate::error::{Failed, failed};
use crate::sys::procfs::Procfs;
use crate::sys::signal;

/// The blocked signals of this process, to be read one by one.
pub(crate) struct Signals(SignalFd);

/// What a signal asks of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// SIGCHLD: a child ended. Signals of one kind merge, so one SIGCHLD may stand for many
    /// children.
    Reap,
    /// SIGWINCH: our terminal has a new size.
    Resize,
    /// Any other signal, which is meant for the container.
    Forward(i32),
}

impl Signals {
    /// Opens a descriptor for all signals. The signals must be blocked. Otherwise they have their
    /// usual effect.
    pub(crate) fn new() -> Result<Signals, Failed> {
        SignalFd::with_flags(
            &SigSet::all(),
            SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
        )
        .map(Signals)
        .map_err(failed("signalfd", || "receive signals".into()))
    }

    /// Returns the next signal that requires an action, or `None` if no such signal is pending.
    /// Doesn't wait.
    pub(crate) fn next(&self) -> Result<Option<Action>, Failed> {
        loop {
            let received = crate::sys::retry(|| self.0.read_signal())
                .map_err(failed("read", || "receive signals".into()))?;
            let Some(received) = received else {
                return Ok(None);
            };
            let signal = received.ssi_signo.cast_signed();
            let ours = received.ssi_pid == std::process::id();
            if let Some(action) = action(signal, ours) {
                return Ok(Some(action));
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns the action for a signal. `ours` is true if this process itself caused the signal.
fn action(signal: i32, ours: bool) -> Option<Action> {
    match Signal::try_from(signal) {
        Ok(Signal::SIGCHLD) => Some(Action::Reap),
        Ok(Signal::SIGWINCH) => Some(Action::Resize),
        // runc never forwards SIGURG, and a Go program in the container mistakes it for one of its
        // own signals.
        Ok(Signal::SIGURG) => None,
        // Don't forward the signal of our own write to a closed pipe, because it could kill the
        // container. The kernel queues a blocked signal even if it is ignored.
        Ok(Signal::SIGPIPE) if ours => None,
        // Real-time signals have no name but are forwarded.
        _ => Some(Action::Forward(signal)),
    }
}

/// Blocks all signals, and resets SIGCHLD so that children can be waited for. The child unblocks
/// the signals before its program runs.
pub(crate) fn block() -> Result<(), Error> {
    signal::block_all().map_err(failed("sigprocmask", || "block the signals".into()))?;
    signal::default_sigchld().map_err(failed("sigaction", || "reset SIGCHLD".into()))?;
    Ok(())
}

/// Unblocks all signals.
pub(crate) fn unblock() -> Result<(), Error> {
    signal::unblock_all()
        .map_err(failed("sigprocmask", || "unblock the signals".into()))
        .map_err(Error::from)
}

/// Returns the signals that this process ignores. A container's process must reset them.
pub(crate) fn ignored(proc: &Procfs) -> Result<Vec<i32>, Error> {
    let name = format!("{}/status", std::process::id());
    let status = proc
        .read(&name)
        .map_err(failed("read", || format!("read /proc/{name}")))?;
    Ok(signal::ignored_in(&status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_is_forwarded_but_those_meant_for_the_runtime() {
        let kept: Vec<i32> = (1..=64)
            .filter(|&n| action(n, false) != Some(Action::Forward(n)))
            .collect();
        let expected = [Signal::SIGCHLD, Signal::SIGURG, Signal::SIGWINCH].map(|s| s as i32);
        assert_eq!(kept, expected);
    }

    #[test]
    fn the_sigpipe_of_an_own_write_is_not_forwarded() {
        let sigpipe = Signal::SIGPIPE as i32;
        assert_eq!(action(sigpipe, true), None);
        assert_eq!(action(sigpipe, false), Some(Action::Forward(sigpipe)));
    }
}
