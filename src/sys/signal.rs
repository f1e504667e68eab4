//! The signal dispositions and the signal mask of this process.
//! `launch::signals` decides what to do when a signal arrives.

use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Result, check, process, retry};

/// Blocks all signals.
pub(crate) fn block_all() -> Result<()> {
    SigSet::all().thread_set_mask()
}

/// Unblocks all signals.
pub(crate) fn unblock_all() -> Result<()> {
    SigSet::empty().thread_set_mask()
}

/// The signals that ask a command to terminate.
const ENDING: [i32; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM];

/// Returns a blocked and pending signal that asks this command to terminate, unless this process
/// ignores the signal.
pub(crate) fn pending_termination() -> Option<i32> {
    let pending = pending().ok()?;
    // The kernel keeps even ignored signals pending while they are blocked, since their disposition
    // may change.
    let is_pending =
        |signal: &i32| pending & (1 << (signal - 1)) != 0 && !process::ignores_signal(*signal);
    ENDING.into_iter().find(is_pending)
}

/// Returns the pending signals (rt_sigpending(2)). Bit n-1 is signal n.
fn pending() -> Result<u64> {
    let mut pending = 0_u64;
    let size = size_of_val(&pending);
    // SAFETY: pending outlives the call and has the size of the kernel's set, which is given.
    check(unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, size) })?;
    Ok(pending)
}

/// Opens a signalfd for the signals that ask a program to terminate. The signals must be blocked.
pub(crate) fn termination_signals() -> Result<SignalFd> {
    let signals = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ];
    SignalFd::with_flags(&signals.into_iter().collect(), SfdFlags::SFD_CLOEXEC)
}

/// Waits until one of these signals arrives or `fd` is readable. Returns the signal if one has
/// arrived.
pub(crate) fn wait_for_signal_or(signals: &SignalFd, fd: BorrowedFd<'_>) -> Result<Option<i32>> {
    let mut fds = [
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        PollFd::new(fd, PollFlags::POLLIN),
    ];
    retry(|| poll(&mut fds, PollTimeout::NONE))?;
    if fds.first().and_then(PollFd::any) != Some(true) {
        return Ok(None);
    }
    let received = retry(|| signals.read_signal())?;
    Ok(received.map(|signal| signal.ssi_signo.cast_signed()))
}

/// Sets SIGCHLD to its default. If the caller of this program left SIGCHLD ignored, waiting for a
/// child would fail with ECHILD (waitpid(2), NOTES).
pub(crate) fn default_sigchld() -> Result<()> {
    process::reset_signal(libc::SIGCHLD)
}

/// Resets every signal to its default disposition.
pub(crate) fn reset_all() -> Result<()> {
    for number in 1..=libc::SIGRTMAX() {
        match process::reset_signal(number) {
            // EINVAL: this is SIGKILL or SIGSTOP, whose disposition is fixed.
            Ok(()) | Err(super::Errno::EINVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Returns the signals that a process ignores, according to its /proc/PID/status.
pub(crate) fn ignored_in(status: &str) -> Vec<i32> {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let bits = bits.unwrap_or_default();
    (1..=64)
        .filter(|signal| bits & (1 << (signal - 1)) != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_kernels_mask() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t8000000000001001\nSigCgt:\t0\n";
        assert_eq!(ignored_in(status), [1, 13, 64]);
        assert!(ignored_in("Name: x").is_empty());
    }
}
