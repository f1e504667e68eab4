//! The entry of the program: C's `main`, without what the standard library does before Rust's.
//! That is two dozen system calls and a read of /proc/self/maps at each start, for a stack guard and threads that orlop has not.

use std::os::fd::IntoRawFd as _;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::resource::Resource;
use rustix::rand::{GetRandomFlags, getrandom};

use super::{Errno, Result, errno, process, procfs};

/// Defines the program's entry, which calls a function and ends with the code that it answers.
#[cfg(not(test))]
macro_rules! entry {
    ($start:path) => {
        // SAFETY: the symbol is what the C library calls once at start; nothing else in the program has this name.
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

/// The soft limit of the stack in bytes; `u64::MAX` is no limit.
pub(crate) fn stack_limit() -> Result<u64> {
    process::rlimit(Resource::RLIMIT_STACK).map(|limit| limit.soft)
}

/// Opens /dev/null for each of the descriptors 0, 1 and 2 that is closed: what is opened later would be taken for it.
pub(crate) fn open_standard_fds() -> Result<()> {
    let mut fds = process::standard_fds().map(|fd| PollFd::new(fd, PollFlags::empty()));
    nix::poll::poll(&mut fds, PollTimeout::ZERO)?;
    let is_closed = |fd: &&PollFd<'_>| {
        let events = fd.revents();
        events.is_some_and(|events| events.contains(PollFlags::POLLNVAL))
    };
    for _ in fds.iter().filter(is_closed) {
        // The kernel takes the lowest number that is free. The descriptor stays open for good, also over exec.
        let mode = nix::sys::stat::Mode::empty();
        let _ = nix::fcntl::open(c"/dev/null", OFlag::O_RDWR, mode)?.into_raw_fd();
    }
    Ok(())
}

/// Fails where the standard library would get no random numbers: of neither the system call nor the device.
pub(crate) fn check_random() -> Result<()> {
    let mut byte = [0_u8];
    match getrandom(&mut byte, GetRandomFlags::INSECURE).map_err(errno) {
        Ok(_) => Ok(()),
        // The library reads the device then.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => std::fs::File::open("/dev/urandom")
            .map(drop)
            .map_err(|error| procfs::errno_of(&error)),
        Err(errno) => Err(errno),
    }
}

/// A reader that is gone is an error of write(2), not the end of this process. The child lets the signal through again.
pub(crate) fn ignore_sigpipe() -> Result<()> {
    // SAFETY: SIG_IGN installs no code of ours.
    let old = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    if old == libc::SIG_ERR {
        Err(Errno::last())
    } else {
        Ok(())
    }
}
