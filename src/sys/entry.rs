//! The program's entry point: C's `main`, without the start-up code of Rust's standard library.
//! That code makes two dozen system calls and reads /proc/self/maps, for a stack guard and threads,
//! which orlop doesn't need.

use std::os::fd::IntoRawFd as _;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::resource::Resource;
use rustix::rand::{GetRandomFlags, getrandom};

use super::{Errno, Result, errno, process, procfs, retry};

/// Defines the program's entry point, which calls the given function and exits with the returned
/// code.
#[cfg(not(test))]
macro_rules! entry {
    ($start:path) => {
        // SAFETY: the C library calls this symbol once at start; nothing else in the program has
        // this name.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "C" fn main(
            _: core::ffi::c_int,
            _: *const *const core::ffi::c_char,
        ) -> core::ffi::c_int {
            $start()
        }
    };
}
#[cfg(not(test))]
pub(crate) use entry;

/// Returns the soft limit of the stack in bytes; `u64::MAX` means no limit.
pub(crate) fn stack_limit() -> Result<u64> {
    process::rlimit(Resource::RLIMIT_STACK).map(|limit| limit.soft)
}

/// Opens /dev/null for each of the descriptors 0, 1 and 2 that is closed. Otherwise a file that is
/// opened later would get that number and be mistaken for standard input or output.
pub(crate) fn open_standard_fds() -> Result<()> {
    let mut fds = process::standard_fds().map(|fd| PollFd::new(fd, PollFlags::empty()));
    retry(|| nix::poll::poll(&mut fds, PollTimeout::ZERO))?;
    let is_closed = |fd: &&PollFd<'_>| {
        let events = fd.revents();
        events.is_some_and(|events| events.contains(PollFlags::POLLNVAL))
    };
    for _ in fds.iter().filter(is_closed) {
        // The kernel uses the lowest free number. The descriptor stays open, also across exec.
        let mode = nix::sys::stat::Mode::empty();
        let _ = crate::sys::open(c"/dev/null", OFlag::O_RDWR, mode)?.into_raw_fd();
    }
    Ok(())
}

/// Fails if the standard library can't get random numbers, neither from getrandom(2) nor from
/// /dev/urandom.
pub(crate) fn check_random() -> Result<()> {
    let mut byte = [0_u8];
    match getrandom(&mut byte, GetRandomFlags::INSECURE).map_err(errno) {
        Ok(_) => Ok(()),
        // In these cases the standard library reads /dev/urandom.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => std::fs::File::open("/dev/urandom")
            .map(drop)
            .map_err(|error| procfs::errno_of(&error)),
        Err(errno) => Err(errno),
    }
}

/// Makes writing to a closed pipe an error instead of a signal that kills this process. The child
/// resets the signal before exec.
pub(crate) fn ignore_sigpipe() -> Result<()> {
    // SAFETY: SIG_IGN installs no handler.
    let old = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    if old == libc::SIG_ERR {
        Err(Errno::last())
    } else {
        Ok(())
    }
}
