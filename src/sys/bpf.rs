//! Loads eBPF programs that control access to devices, and attaches them to cgroups.
//! `cgroup/devices_bpf` makes the programs.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{Errno, Result, check, new_fd};

/// An instruction in the kernel's layout.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EbpfInstruction {
    pub(crate) code: u8,
    registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

impl EbpfInstruction {
    /// Makes an instruction; `to` and `from` are register numbers below 16.
    pub(crate) const fn new(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Self {
        // The kernel declares the two registers as bit fields, whose order depends on the byte
        // order.
        let registers = if cfg!(target_endian = "little") {
            (from << 4) | to
        } else {
            (to << 4) | from
        };
        EbpfInstruction {
            code,
            registers,
            offset,
            immediate,
        }
    }

    /// The register that is written or compared.
    #[cfg(test)]
    pub(crate) const fn to(self) -> u8 {
        if cfg!(target_endian = "little") {
            self.registers & 0xf
        } else {
            self.registers >> 4
        }
    }

    /// The register that is read.
    #[cfg(test)]
    pub(crate) const fn from(self) -> u8 {
        if cfg!(target_endian = "little") {
            self.registers >> 4
        } else {
            self.registers & 0xf
        }
    }
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
/// This flag requires Linux 5.6.
const BPF_F_REPLACE: u32 = 4;
/// How often to try to load a program before EAGAIN is an error. The verifier returns EAGAIN when a
/// signal is pending.
const MAX_LOAD_ATTEMPTS: usize = 5;

/// The first attributes of BPF_PROG_LOAD. The kernel treats the missing ones as zero.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The first attributes of BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// The first attributes of BPF_PROG_QUERY; the kernel writes its result into them.
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
}

/// The first attributes of BPF_PROG_GET_FD_BY_ID.
#[repr(C)]
struct ByIdAttributes {
    id: u32,
    next: u32,
    flags: u32,
}

/// Calls bpf(2) with the first attributes of the command. The kernel treats the missing ones as
/// zero.
fn bpf<T>(command: libc::c_int, attributes: &mut T) -> libc::c_long {
    let size = size_of::<T>();
    // SAFETY: attributes outlives the call and its size is given; the callers keep alive the memory
    // that it points to.
    unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size) }
}

/// Loads a program of type BPF_PROG_TYPE_CGROUP_DEVICE. Fails with EPERM if the caller has neither
/// CAP_SYS_ADMIN nor both CAP_BPF and CAP_NET_ADMIN.
pub(crate) fn load_device_program(program: &[EbpfInstruction]) -> Result<OwnedFd> {
    const LICENSE: &CStr = c"Apache-2.0";
    let mut attributes = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        instructions: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let mut loads = 1;
    loop {
        match new_fd(bpf(BPF_PROG_LOAD, &mut attributes)) {
            Err(Errno::EAGAIN | Errno::EINTR) if loads < MAX_LOAD_ATTEMPTS => loads += 1,
            result => return result,
        }
    }
}

/// Attaches a device program to a cgroup, given by its directory. The program replaces `replaced`,
/// if that is given. Otherwise the program is added. An access must be allowed by every attached
/// program.
pub(crate) fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: &OwnedFd,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let mut attributes = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI | replaced.map_or(0, |_| BPF_F_REPLACE),
        replaced: replaced.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    check(bpf(BPF_PROG_ATTACH, &mut attributes)).map(drop)
}

/// Detaches a device program from a cgroup, given by its directory. Fails with ENOENT if the
/// program isn't attached.
pub(crate) fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attributes = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: 0,
        replaced: 0,
    };
    check(bpf(BPF_PROG_DETACH, &mut attributes)).map(drop)
}

/// Returns the ids of the device programs that are attached to a cgroup itself, in the order in
/// which the kernel runs them.
pub(crate) fn attached_device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>> {
    // The kernel allows 64 attached programs at most.
    let mut ids = [0_u32; 64];
    let mut attributes = Query {
        target: cgroup.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
    };
    check(bpf(BPF_PROG_QUERY, &mut attributes))?;
    Ok(ids.into_iter().take(attributes.count as usize).collect())
}

/// Returns the programs with these ids, except those that no longer exist.
pub(crate) fn open_device_programs(ids: &[u32]) -> Result<Vec<OwnedFd>> {
    let mut programs = Vec::new();
    for id in ids {
        match open_program_by_id(*id) {
            Ok(program) => programs.push(program),
            // The program was detached in the meantime, and nothing else uses it.
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(programs)
}

fn open_program_by_id(id: u32) -> Result<OwnedFd> {
    let mut attributes = ByIdAttributes {
        id,
        next: 0,
        flags: 0,
    };
    new_fd(bpf(BPF_PROG_GET_FD_BY_ID, &mut attributes))
}
