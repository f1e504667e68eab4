//! The dispositions and the mask of signals of this process. What is done with a signal is `launch::signals`' concern.

use nix::sys::signal::SigSet;

use super::{Result, process};

/// Holds every signal back that can be.
pub(crate) fn block_all() -> Result<()> {
    SigSet::all().thread_set_mask()
}

/// Lets every signal through.
pub(crate) fn unblock_all() -> Result<()> {
    SigSet::empty().thread_set_mask()
}

/// Sets SIGCHLD to its default: ignored by whoever started us, waiting for a child is ECHILD (waitpid(2), NOTES).
pub(crate) fn default_sigchld() -> Result<()> {
    process::reset_signal(libc::SIGCHLD)
}

/// The signals that this process ignores, which exec and clone3 pass on.
///
/// Asked from the kernel signal by signal: that needs no /proc and is faster than reading SigIgn there. The two signals
/// that glibc keeps for itself (32, 33) are not asked for.
pub(crate) fn ignored() -> Vec<i32> {
    (1..=libc::SIGRTMAX())
        .filter(|&signal| is_ignored(signal))
        .collect()
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: sigaction is plain data, for which all zeros is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call only writes the old one, which outlives it; a bad number is EINVAL.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_the_kernel_lists_as_ignored_is_found() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("SigIgn:"))
            .unwrap();
        let mut bits = u64::from_str_radix(line.trim(), 16).unwrap();
        bits &= !(0b11 << 31);
        let listed: Vec<i32> = (1..=64).filter(|n| bits & (1 << (n - 1)) != 0).collect();
        assert!(listed.contains(&libc::SIGPIPE), "Rust ignores SIGPIPE");
        assert_eq!(ignored(), listed);
    }
}
