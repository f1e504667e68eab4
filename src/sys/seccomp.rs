//! Defines the instructions and constants of classic BPF programs that filter system calls, and
//! installs such programs.
//! `plan/seccomp` decides what a filter does.

use std::mem::offset_of;
use std::os::fd::OwnedFd;

pub(crate) use libc::{
    SECCOMP_RET_ACTION_FULL, SECCOMP_RET_ALLOW, SECCOMP_RET_DATA, SECCOMP_RET_ERRNO,
    SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_LOG, SECCOMP_RET_USER_NOTIF,
};
pub(crate) use seccompiler::{BpfProgram, SeccompAction, sock_filter as Instruction};

use super::{Errno, Result, check, new_fd};

/// The length of the longest program that the kernel accepts.
pub(crate) const LONGEST: usize = libc::BPF_MAXINSNS as usize;

// Instruction codes, linux/bpf_common.h.
pub(crate) const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub(crate) const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
pub(crate) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
pub(crate) const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
pub(crate) const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub(crate) const JUMP_IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
pub(crate) const JUMP_IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
pub(crate) const JUMP_IF_ANY_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

// Offsets in struct seccomp_data, the data that a filter can load.
pub(crate) const NUMBER_OFFSET: u32 = offset_of!(libc::seccomp_data, nr) as u32;
pub(crate) const ARCH_OFFSET: u32 = offset_of!(libc::seccomp_data, arch) as u32;
pub(crate) const ARGUMENTS_OFFSET: u32 = offset_of!(libc::seccomp_data, args) as u32;

// AUDIT_ARCH_* of linux/audit.h. Each is the ELF machine number with flags for 64 bits and for
// little-endian.
const AUDIT_64BIT: u32 = 0x8000_0000;
pub(crate) const AUDIT_LE: u32 = 0x4000_0000;
/// libc has no constant for this machine.
const EM_LOONGARCH: u16 = 258;
pub(crate) const AUDIT_X86_64: u32 = libc::EM_X86_64 as u32 | AUDIT_64BIT | AUDIT_LE;
pub(crate) const AUDIT_X86: u32 = libc::EM_386 as u32 | AUDIT_LE;
pub(crate) const AUDIT_AARCH64: u32 = libc::EM_AARCH64 as u32 | AUDIT_64BIT | AUDIT_LE;
pub(crate) const AUDIT_ARM: u32 = libc::EM_ARM as u32 | AUDIT_LE;
pub(crate) const AUDIT_RISCV64: u32 = libc::EM_RISCV as u32 | AUDIT_64BIT | AUDIT_LE;
pub(crate) const AUDIT_PPC64LE: u32 = libc::EM_PPC64 as u32 | AUDIT_64BIT | AUDIT_LE;
pub(crate) const AUDIT_S390X: u32 = libc::EM_S390 as u32 | AUDIT_64BIT;
pub(crate) const AUDIT_S390: u32 = libc::EM_S390 as u32;
pub(crate) const AUDIT_LOONGARCH64: u32 = EM_LOONGARCH as u32 | AUDIT_64BIT | AUDIT_LE;

// Flags of seccomp(2).
pub(crate) const LOG: u32 = libc::SECCOMP_FILTER_FLAG_LOG as u32;
pub(crate) const FILTER_FLAG_SPEC_ALLOW: u32 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
pub(crate) const FILTER_FLAG_NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
pub(crate) const FILTER_FLAG_WAIT_KILLABLE_RECV: u32 =
    libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32;

/// struct sock_fprog.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Calls seccomp(2) with SECCOMP_SET_MODE_FILTER.
fn set_mode_filter(flags: u32, program: Option<&Program>) -> libc::c_long {
    const MODE: libc::c_uint = libc::SECCOMP_SET_MODE_FILTER;
    let program = program.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the program is null, or outlives the call and has the right length.
    unsafe { libc::syscall(libc::SYS_seccomp, MODE, flags, program) }
}

/// True if this kernel knows a flag of seccomp(2). The kernel checks the flags before it reads the
/// filter, which is a null pointer here.
pub(crate) fn kernel_has_flag(flag: u32) -> bool {
    // The kernel refuses WAIT_KILLABLE_RECV without a listener.
    let listener = flag & FILTER_FLAG_WAIT_KILLABLE_RECV != 0;
    let flags = flag
        | if listener {
            FILTER_FLAG_NEW_LISTENER
        } else {
            0
        };
    check(set_mode_filter(flags, None)) == Err(Errno::EFAULT)
}

/// Installs a filter for this thread and its children. With NEW_LISTENER, returns the listener,
/// which is closed at exec.
///
/// EACCES: the thread has neither no_new_privs nor CAP_SYS_ADMIN. EINVAL: this kernel does not know
/// a flag, or the program is bad. EBUSY: an earlier filter has a listener.
pub(crate) fn set_filter(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>> {
    let program = Program {
        length: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        instructions: program.as_ptr(),
    };
    let result = set_mode_filter(flags, Some(&program));
    if flags & FILTER_FLAG_NEW_LISTENER == 0 {
        return check(result).map(|_| None);
    }
    new_fd(result).map(Some)
}
