//! What a process does to itself or, by pid, to its child: credentials, capabilities, limits, signals, descriptors, exec.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;

use super::{Errno, Result, check};

/// Ends this process at once: no destructors, no flushing. The only way out for a clone besides exec.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any integer and doesn't return.
    unsafe { libc::_exit(code) }
}

fn prctl(option: libc::c_int, arg2: u64, arg3: u64) -> Result<i64> {
    // SAFETY: every option used in this file takes integers only.
    check(unsafe { libc::prctl(option, arg2, arg3, 0, 0) }.into())
}

/// This process is killed when its parent ends, or not. Cleared by the kernel at setres*id.
pub(crate) fn set_dies_with_parent(dies: bool) -> Result<()> {
    prctl(
        libc::PR_SET_PDEATHSIG,
        if dies { libc::SIGKILL as u64 } else { 0 },
        0,
    )
    .map(drop)
}

/// Standard input, output and error, which no value owns.
pub(crate) fn standard_fds() -> [BorrowedFd<'static>; 3] {
    // SAFETY: the runtime opens them at start if they were closed, and nothing in this program closes them.
    [0, 1, 2].map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Gives pipes and sockets at 0, 1 and 2 to a user, who can then open them anew by /proc/self/fd. Never a device or a file.
pub(crate) fn give_standard_fds(uid: u32) -> Result<()> {
    for fd in standard_fds() {
        let Ok(stat) = nix::sys::stat::fstat(fd) else {
            continue;
        };
        let kind = stat.st_mode & libc::S_IFMT;
        if !matches!(kind, libc::S_IFIFO | libc::S_IFSOCK) || stat.st_uid == uid {
            continue;
        }
        match nix::unistd::fchown(fd, Some(nix::unistd::Uid::from_raw(uid)), None) {
            // It may be of a file system, or a user namespace, that doesn't let us; what is open can still be used.
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Those of 0, 1 and 2 that are the null device.
pub(crate) fn null_fds() -> Vec<RawFd> {
    let is_null = |fd: &BorrowedFd<'_>| {
        nix::sys::stat::fstat(fd).is_ok_and(|stat| super::path::is_null_device(&stat))
    };
    let null = standard_fds().into_iter().filter(is_null);
    null.map(|fd| fd.as_raw_fd()).collect()
}

/// Forbids (or allows) that others look into this process by /proc or ptrace, and that it dumps core.
pub(crate) fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, dumpable.into(), 0).map(drop)
}

/// Orphans below this process become its children.
pub(crate) fn set_child_subreaper() -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// Forbids gaining privileges by exec, for ever.
pub(crate) fn set_no_new_privs() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Keeps the permitted capabilities over a change of the user id.
pub(crate) fn set_keepcaps(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, keep.into(), 0).map(drop)
}

/// The name that ps shows.
pub(crate) fn set_name(name: &CStr) -> Result<()> {
    // SAFETY: the name is a C string; the kernel copies its first 15 bytes.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) }.into())?;
    Ok(())
}

/// Removes from the bounding set what `keep` (bit n: capability n) lacks, up to the last capability that the kernel knows.
pub(crate) fn drop_bounding_set(keep: u64) -> Result<()> {
    for capability in 0..64 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Ok(_) => {}
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityWord {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITIES: CapabilityHeader = CapabilityHeader {
    version: 0x2008_0522, // _LINUX_CAPABILITY_VERSION_3
    pid: 0,
};

/// Sets the effective, permitted and inheritable sets (bit n: capability n).
pub(crate) fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let word = |shift: u32| CapabilityWord {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let words = [word(0), word(32)];
    let header = CAPABILITIES;
    // SAFETY: header and the two words of version 3 outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) })?;
    Ok(())
}

/// True if a capability (below 32) is in the effective set.
pub(crate) fn has_effective(capability: u32) -> bool {
    capget().is_ok_and(|[low, _]| low.effective & (1 << capability) != 0)
}

fn capget() -> Result<[CapabilityWord; 2]> {
    let mut words = [CapabilityWord::default(); 2];
    let header = CAPABILITIES;
    // SAFETY: header and the two words of version 3 outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, words.as_mut_ptr()) })?;
    Ok(words)
}

/// Replaces the ambient set; EPERM for a capability that is not both permitted and inheritable.
pub(crate) fn set_ambient(set: u64) -> Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as u64,
        0,
    )?;
    for capability in (0..64).filter(|c| set & (1 << c) != 0) {
        prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_RAISE as u64,
            capability,
        )?;
    }
    Ok(())
}

/// setgroups(2) of this thread, past glibc, which would signal threads that a clone doesn't have.
pub(crate) fn setgroups(groups: &[u32]) -> Result<()> {
    // SAFETY: pointer and length are of one slice.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    Ok(())
}

/// setresgid(2) of this thread.
pub(crate) fn setresgid(gid: u32) -> Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    Ok(())
}

/// setresuid(2) of this thread. Clears the parent death signal and, from root, dumpable and the effective capabilities.
pub(crate) fn setresuid(uid: u32) -> Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    Ok(())
}

/// The execution domains of linux/personality.h.
pub(crate) const PER_LINUX: u32 = 0x0;
pub(crate) const PER_LINUX32: u32 = 0x8;

/// personality(2). EINVAL: a kernel without 32-bit programs.
pub(crate) fn set_personality(domain: u32) -> Result<()> {
    // SAFETY: an integer only.
    check(unsafe { libc::personality(domain.into()) }.into())?;
    Ok(())
}

/// Sets the umask.
pub(crate) fn umask(mask: u32) {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
}

/// One limit of prlimit(2); `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rlimit {
    /// The `RLIMIT_` number.
    pub(crate) resource: u32,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// Numbers of limits on this architecture.
pub(crate) const RLIMIT_NOFILE: u32 = libc::RLIMIT_NOFILE;
pub(crate) const RLIMIT_AS: u32 = libc::RLIMIT_AS;
pub(crate) const RLIMIT_DATA: u32 = libc::RLIMIT_DATA;
pub(crate) const RLIMIT_NPROC: u32 = libc::RLIMIT_NPROC;

/// The limits of the specification; their numbers differ by architecture.
const RLIMITS: [(&str, u32); 16] = [
    ("RLIMIT_CPU", libc::RLIMIT_CPU),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("RLIMIT_DATA", libc::RLIMIT_DATA),
    ("RLIMIT_STACK", libc::RLIMIT_STACK),
    ("RLIMIT_CORE", libc::RLIMIT_CORE),
    ("RLIMIT_RSS", libc::RLIMIT_RSS),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("RLIMIT_AS", libc::RLIMIT_AS),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", libc::RLIMIT_NICE),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
];

/// The `RLIMIT_` number of the specification's name.
pub(crate) fn rlimit_number(name: &str) -> Option<u32> {
    let found = RLIMITS.iter().find(|(known, _)| *known == name);
    found.map(|(_, number)| *number)
}

impl Rlimit {
    /// The specification's name.
    pub(crate) fn name(&self) -> &'static str {
        let found = RLIMITS.iter().find(|(_, known)| *known == self.resource);
        found.map_or("RLIMIT_?", |(name, _)| name)
    }
}

/// Sets a limit of this process. EPERM: raising a hard limit takes CAP_SYS_RESOURCE.
pub(crate) fn set_rlimit(limit: &Rlimit) -> Result<()> {
    let new = libc::rlimit64 {
        rlim_cur: limit.soft,
        rlim_max: limit.hard,
    };
    // SAFETY: new outlives the call; the old limits are not asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            limit.resource,
            &raw const new,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })?;
    Ok(())
}

/// A limit of this process.
pub(crate) fn rlimit(resource: u32) -> Result<Rlimit> {
    let mut old = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: old outlives the call; no new limits are given.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            std::ptr::null::<libc::rlimit64>(),
            &raw mut old,
        )
    })?;
    Ok(Rlimit {
        resource,
        soft: old.rlim_cur,
        hard: old.rlim_max,
    })
}

/// Makes a new session keyring of this name, or joins the one that exists, with the permissions `perm` (keyctl(2)) if given.
pub(crate) fn join_session_keyring(name: &CStr, perm: Option<u32>) -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    const KEYCTL_SETPERM: libc::c_int = 5;
    // SAFETY: the name is a C string.
    let keyring = check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr())
    })?;
    if let Some(perm) = perm {
        // SAFETY: integers only.
        check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, keyring, perm) })?;
    }
    Ok(())
}

/// True if this process ignores a signal.
pub(crate) fn ignores(signal: i32) -> bool {
    // SAFETY: sigaction is plain data, for which all zeros is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: action outlives the call; no new action is set.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Sets one signal back to its default; past glibc, which keeps 32 and 33 for itself and refuses them.
pub(crate) fn reset_signal(signal: i32) -> Result<()> {
    // The kernel's sigaction is at most this long, and all zeros are SIG_DFL, no flags and an empty mask.
    let default = [0_u64; 4];
    const KERNEL_SIGSET: usize = 8;
    // SAFETY: default outlives the call; the old action is not asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            default.as_ptr(),
            std::ptr::null_mut::<u64>(),
            KERNEL_SIGSET,
        )
    })?;
    Ok(())
}

/// Closes every descriptor from `first` to `last`.
pub(crate) fn close_range(first: u32, last: u32) -> Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: callers own everything in the range or leave it to the kernel; nothing of it is used afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// Closes every descriptor from `first` up but those in `keep`.
pub(crate) fn close_all_but(first: u32, keep: &mut [RawFd]) -> Result<()> {
    keep.sort_unstable();
    let mut next = first;
    for &fd in keep.iter().filter(|fd| **fd >= first as RawFd) {
        if fd as u32 > next {
            close_range(next, fd as u32 - 1)?;
        }
        next = fd as u32 + 1;
    }
    close_range(next, u32::MAX)
}

/// True if a descriptor of this number is open.
pub(crate) fn is_open(fd: i32) -> bool {
    // SAFETY: F_GETFD only looks; a closed number is EBADF.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Makes descriptor `number` (0, 1 or 2) a copy of `fd` that survives exec.
pub(crate) fn dup_onto(fd: BorrowedFd<'_>, number: i32) -> Result<()> {
    // SAFETY: integers only; standard descriptors are not owned by any value.
    check(unsafe { libc::dup3(fd.as_raw_fd(), number, 0) }.into())?;
    Ok(())
}

/// A null-ended array of pointers to C strings, as execve takes it. Made before the clone, so that the child needn't allocate.
pub(crate) struct Strings {
    pointers: Vec<*const libc::c_char>,
    strings: Vec<CString>,
}

impl Strings {
    /// Takes the strings; their buffers don't move when the value does.
    pub(crate) fn new(strings: Vec<CString>) -> Strings {
        let pointers = strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect();
        Strings { pointers, strings }
    }

    /// The environment of this process.
    pub(crate) fn of_this_process() -> Strings {
        let entry = |(mut entry, value): (OsString, OsString)| {
            entry.push("=");
            entry.push(value);
            CString::new(entry.into_vec()).ok()
        };
        Strings::new(std::env::vars_os().filter_map(entry).collect())
    }

    /// The strings themselves.
    pub(crate) fn as_slice(&self) -> &[CString] {
        &self.strings
    }
}

/// execve(2); returns only with an error.
pub(crate) fn execve(path: &CStr, argv: &Strings, envp: &Strings) -> Errno {
    // SAFETY: path is a C string; both arrays end with null and their strings live as long as they do.
    unsafe {
        libc::execve(
            path.as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
        )
    };
    Errno::last()
}

/// execveat(2) of the file that `fd` is; returns only with an error.
pub(crate) fn execveat(fd: BorrowedFd<'_>, argv: &Strings, envp: &Strings) -> Errno {
    // SAFETY: the path is an empty C string; both arrays end with null and their strings live as long as they do.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

/// Overwrites the environment that this program was started with, which others read in
/// /proc/PID/environ. All variables are empty afterwards.
pub(crate) fn forget_environment() {
    unsafe extern "C" {
        /// environ(7).
        static environ: *const *mut libc::c_char;
    }
    // SAFETY: glibc has set it before main, and nobody changes it in a process of one thread.
    let mut entry = unsafe { environ };
    // SAFETY: the array ends with a null pointer, at which the loop ends.
    while let Some(text) = std::ptr::NonNull::new(unsafe { *entry }) {
        // SAFETY: each entry is a C string in memory that belongs to this process.
        let length = unsafe { libc::strlen(text.as_ptr()) };
        // SAFETY: these bytes are the string's.
        unsafe { text.as_ptr().write_bytes(0, length) };
        entry = entry.wrapping_add(1);
    }
}

/// The effective user id that this program was started with; the runtime itself never changes it.
pub(crate) fn effective_uid() -> u32 {
    // SAFETY: an integer only. The kernel put it there at exec, so that no call is needed.
    unsafe { libc::getauxval(libc::AT_EUID) as u32 }
}

/// The same for the group.
pub(crate) fn effective_gid() -> u32 {
    // SAFETY: as above.
    unsafe { libc::getauxval(libc::AT_EGID) as u32 }
}
