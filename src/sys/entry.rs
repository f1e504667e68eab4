//! The entry of the program: C's `main`, without what the standard library does before Rust's.
//! That is two dozen system calls and a read of /proc/self/maps at each start, for a stack guard and threads that orlop has not.

use super::{Result, check};

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
    super::process::rlimit(libc::RLIMIT_STACK).map(|limit| limit.soft)
}

/// Opens /dev/null for each of the descriptors 0, 1 and 2 that is closed: what is opened later would be taken for it.
pub(crate) fn open_standard_fds() -> Result<()> {
    let closed = |fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    };
    let mut fds = [closed(0), closed(1), closed(2)];
    // SAFETY: pointer and length are of one array.
    check(unsafe { libc::poll(fds.as_mut_ptr(), 3, 0) }.into())?;
    for _ in fds.iter().filter(|fd| fd.revents & libc::POLLNVAL != 0) {
        // The kernel takes the lowest number that is free.
        // SAFETY: the path is a C string.
        check(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) }.into())?;
    }
    Ok(())
}

/// Fails where the standard library would get no random numbers: of neither the system call nor the device.
pub(crate) fn check_random() -> Result<()> {
    let mut byte = 0_u8;
    // SAFETY: pointer and length are of one byte.
    let called =
        check(unsafe { libc::syscall(libc::SYS_getrandom, &raw mut byte, 1, libc::GRND_INSECURE) });
    match called {
        Ok(_) => Ok(()),
        // It reads the device then.
        Err(super::Errno::ENOSYS | super::Errno::EPERM | super::Errno::EAGAIN) => {
            std::fs::File::open("/dev/urandom")
                .map(drop)
                .map_err(|error| super::procfs::errno_of(&error))
        }
        Err(errno) => Err(errno),
    }
}

/// A reader that is gone is an error of write(2), not the end of this process. The child lets the signal through again.
pub(crate) fn ignore_sigpipe() -> Result<()> {
    // SAFETY: SIG_IGN installs no code of ours.
    let old = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    if old == libc::SIG_ERR {
        Err(super::Errno::last())
    } else {
        Ok(())
    }
}
