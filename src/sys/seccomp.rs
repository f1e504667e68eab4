//! Classic BPF programs that filter system calls: their instructions, and setting one as a filter.
//! Not what they say: that is `plan/seccomp`.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::{Errno, Result, check};

/// One instruction, laid out as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    /// How many instructions to skip if the condition holds.
    pub(crate) yes: u8,
    /// And if it doesn't.
    pub(crate) no: u8,
    pub(crate) operand: u32,
}

/// The longest program that the kernel takes, BPF_MAXINSNS.
pub(crate) const LONGEST: usize = 4096;

/// Flags of seccomp(2), as linux/seccomp.h has them.
pub(crate) const LOG: u32 = 1 << 1;
pub(crate) const SPEC_ALLOW: u32 = 1 << 2;
pub(crate) const NEW_LISTENER: u32 = 1 << 3;
pub(crate) const WAIT_KILLABLE_RECV: u32 = 1 << 5;

const SET_MODE_FILTER: libc::c_uint = 1;

/// The head of what the kernel reads: struct sock_fprog.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// True if this kernel has a flag of seccomp(2). It looks at the flags first, then at a filter that isn't there.
pub(crate) fn has_flag(flag: u32) -> bool {
    // Without a listener there is nobody to receive.
    let listener = flag & WAIT_KILLABLE_RECV != 0;
    let flags = flag | if listener { NEW_LISTENER } else { 0 };
    let nothing = std::ptr::null::<Program>();
    // SAFETY: a null pointer is EFAULT, so that no filter is set.
    let asked = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            flags as libc::c_uint,
            nothing,
        )
    });
    asked == Err(Errno::EFAULT)
}

/// Sets a filter for this thread and all that it becomes; with NEW_LISTENER answers its listener, which closes at exec.
///
/// EACCES: neither no_new_privs nor CAP_SYS_ADMIN. EINVAL: a flag that this kernel doesn't know, or a bad program.
/// EBUSY: there is a filter with a listener already.
pub(crate) fn set_filter(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>> {
    let program = Program {
        length: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        instructions: program.as_ptr(),
    };
    // SAFETY: the program and its instructions outlive the call, and the length is theirs.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            flags as libc::c_uint,
            &raw const program,
        )
    })?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with this flag the kernel answers a descriptor that it has just made for us.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
}
