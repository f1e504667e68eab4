//! The dispositions and the mask of signals of this process. What is done with a signal is `launch::signals`' concern.

use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Result, check, process, retry};

/// Holds every signal back that can be.
pub(crate) fn block_all() -> Result<()> {
    SigSet::all().thread_set_mask()
}

/// Lets every signal through.
pub(crate) fn unblock_all() -> Result<()> {
    SigSet::empty().thread_set_mask()
}

/// What an interrupted command is asked to end by.
const ENDING: [i32; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM];

/// The signal, of those that ask a command to end, that is held back for this process and that it doesn't ignore.
pub(crate) fn pending_end() -> Option<i32> {
    let pending = pending().ok()?;
    // The kernel keeps also those that are ignored, in case that changes before they are let through.
    let is_pending =
        |signal: &i32| pending & (1 << (signal - 1)) != 0 && !process::ignores(*signal);
    ENDING.into_iter().find(is_pending)
}

/// The signals that are held back for this process: bit n-1 for signal n. rt_sigpending(2).
fn pending() -> Result<u64> {
    let mut pending = 0_u64;
    let size = size_of_val(&pending);
    // SAFETY: pending outlives the call and its size, which is that of the kernel's set, is given.
    check(unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, size) })?;
    Ok(pending)
}

/// The signals by which a program is asked to end, which must be blocked.
pub(crate) fn requests_to_end() -> Result<SignalFd> {
    let signals = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ];
    SignalFd::with_flags(&signals.into_iter().collect(), SfdFlags::SFD_CLOEXEC)
}

/// Waits for one of these signals or until `fd` is readable; the signal's number if it came first.
pub(crate) fn before(signals: &SignalFd, fd: BorrowedFd<'_>) -> Result<Option<i32>> {
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

/// Sets SIGCHLD to its default: ignored by whoever started us, waiting for a child is ECHILD (waitpid(2), NOTES).
pub(crate) fn default_sigchld() -> Result<()> {
    process::reset_signal(libc::SIGCHLD)
}

/// Sets every signal back to its default that has another one.
pub(crate) fn reset_all() -> Result<()> {
    for number in 1..=libc::SIGRTMAX() {
        match process::reset_signal(number) {
            // SIGKILL, SIGSTOP, and two that glibc keeps for itself.
            Ok(()) | Err(super::Errno::EINVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The signals that a process ignores, by the text of its /proc/PID/status.
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
