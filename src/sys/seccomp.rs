//! Classic BPF programs that filter system calls: their instructions, and setting one as a filter.
//! Not what they say: that is `plan/seccomp`.

use std::os::fd::OwnedFd;

use super::{Errno, Result, check, new_fd};

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
pub(crate) const LONGEST: usize = libc::BPF_MAXINSNS as usize;

/// Flags of seccomp(2), as linux/seccomp.h has them.
pub(crate) const LOG: u32 = libc::SECCOMP_FILTER_FLAG_LOG as u32;
pub(crate) const SPEC_ALLOW: u32 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
pub(crate) const NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
pub(crate) const WAIT_KILLABLE_RECV: u32 = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32;

/// The head of what the kernel reads: struct sock_fprog.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// seccomp(2) with SECCOMP_SET_MODE_FILTER.
fn set_mode_filter(flags: u32, program: Option<&Program>) -> libc::c_long {
    const MODE: libc::c_uint = libc::SECCOMP_SET_MODE_FILTER;
    let program = program.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the program is null, or it outlives the call and its length is that of its instructions.
    unsafe { libc::syscall(libc::SYS_seccomp, MODE, flags, program) }
}

/// True if this kernel has a flag of seccomp(2). It looks at the flags first, then at a filter that isn't there.
pub(crate) fn has_flag(flag: u32) -> bool {
    // Without a listener there is nobody to receive.
    let listener = flag & WAIT_KILLABLE_RECV != 0;
    let flags = flag | if listener { NEW_LISTENER } else { 0 };
    check(set_mode_filter(flags, None)) == Err(Errno::EFAULT)
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
    let result = set_mode_filter(flags, Some(&program));
    if flags & NEW_LISTENER == 0 {
        return check(result).map(|_| None);
    }
    new_fd(result).map(Some)
}
