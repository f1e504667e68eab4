//! Checks whether a filter allows the system calls that are needed before the program runs.
//! `verdict` runs the filter.

use super::SeccompFilter;
use super::verdict::{SeccompData, run_filter};
use crate::plan::seccomp_arch::{SystemCall, native};
use crate::sys::clone::{FLAGS_COME_SECOND, SIBLING_FLAGS};
use crate::sys::seccomp::{SECCOMP_RET_ACTION_FULL, SECCOMP_RET_ALLOW, SECCOMP_RET_LOG};

/// The system calls between installing a filter and execve, if the filter is installed before the
/// final process is cloned. The installing process makes some of them. The final process makes the
/// others, before and while it waits for `start`.
const CALLS_BEFORE_EXECVE: [&str; 17] = [
    "accept4",
    "capset",
    "clone",
    "close",
    "exit_group",
    "getpid",
    "ioctl",
    "poll",
    "ppoll",
    "prctl",
    "prlimit64",
    "recvmsg",
    "rt_sigprocmask",
    "sendmsg",
    "setsid",
    "signalfd4",
    "execve",
];

/// The system calls that `program` makes to examine a file, including those for heap memory.
const CALLS_TO_READ_FILES: [&str; 14] = [
    "brk",
    "close",
    "fcntl",
    "fstat",
    "fstatfs",
    "getcwd",
    "mmap",
    "munmap",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pread64",
    "statx",
];

impl SeccompFilter {
    /// True if a process under this filter may read files, and report what it has read.
    pub(crate) fn allows_reading_files(&self) -> bool {
        self.allows(&CALLS_TO_READ_FILES)
    }

    /// True if the filter can be installed before the final process is cloned, because the profile
    /// allows every call needed until execve.
    pub(crate) fn allows_early_install(&self) -> bool {
        self.allows(&CALLS_BEFORE_EXECVE)
    }

    /// True if the filter allows each of these calls.
    fn allows(&self, names: &[&str]) -> bool {
        let Some(arch) = native().and_then(|family| family.first()) else {
            return false;
        };
        names.iter().all(|name| {
            let Some(number) = SystemCall::by_name(name).and_then(|call| arch.call_number(call))
            else {
                // This architecture has no such call and does not need it.
                return true;
            };
            let arguments = match *name {
                "clone" if FLAGS_COME_SECOND => [0, SIBLING_FLAGS, 0, 0, 0, 0],
                "clone" => [SIBLING_FLAGS, 0, 0, 0, 0, 0],
                _ => [0; 6],
            };
            let call = SeccompData {
                number,
                audit: arch.audit,
                arguments,
                big_endian: arch.big_endian,
            };
            let answer = run_filter(&self.program, &call, |_| {});
            answer.is_some_and(|answer| {
                let action = answer & SECCOMP_RET_ACTION_FULL;
                matches!(action, SECCOMP_RET_ALLOW | SECCOMP_RET_LOG)
            })
        })
    }
}
