//! Changes that a process makes to itself: credentials, capabilities, limits, signals, descriptors,
//! and exec.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;

use caps::Capability;
use nix::sys::personality::Persona;
use nix::sys::prctl;
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_thread_res_gid, set_thread_res_uid,
};

use super::{Errno, Result, check, errno};

/// Exits at once, without running destructors or flushing buffers. A cloned process must finish
/// with this function or with exec.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any integer and doesn't return.
    unsafe { libc::_exit(code) }
}

/// Sets whether this process is killed when its parent exits. The kernel clears this setting at
/// setres*id.
pub(crate) fn set_dies_with_parent(dies: bool) -> Result<()> {
    prctl::set_pdeathsig(dies.then_some(Signal::SIGKILL))
}

/// Returns standard input, output and error. No value owns these descriptors.
pub(crate) fn standard_fds() -> [BorrowedFd<'static>; 3] {
    use rustix::stdio::{stderr, stdin, stdout};
    [stdin(), stdout(), stderr()]
}

/// Changes the owner of the pipes and sockets at 0, 1 and 2 to a user, who can then open them
/// through /proc/self/fd. The owner of devices and files is kept.
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
            // The file system or the user namespace may not allow the change. The process can still
            // use the open descriptor.
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Returns which of the descriptors 0, 1 and 2 are the null device.
pub(crate) fn null_fds() -> Vec<RawFd> {
    let is_null = |fd: &BorrowedFd<'_>| {
        nix::sys::stat::fstat(fd).is_ok_and(|stat| super::path::is_null_device(&stat))
    };
    let null = standard_fds().into_iter().filter(is_null);
    null.map(|fd| fd.as_raw_fd()).collect()
}

/// Sets whether other processes may inspect this one with /proc or ptrace, and whether this process
/// dumps core.
pub(crate) fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl::set_dumpable(dumpable)
}

/// Makes this process the new parent of orphaned descendants.
pub(crate) fn set_child_subreaper() -> Result<()> {
    prctl::set_child_subreaper(true)
}

/// Prevents exec from ever granting new privileges.
pub(crate) fn set_no_new_privs() -> Result<()> {
    prctl::set_no_new_privs()
}

/// Sets whether the permitted capabilities are kept when the user id changes.
pub(crate) fn set_keepcaps(keep: bool) -> Result<()> {
    prctl::set_keepcaps(keep)
}

/// Sets the name that ps shows.
pub(crate) fn set_name(name: &CStr) -> Result<()> {
    prctl::set_name(name)
}

/// Removes every capability from the bounding set that is not in `keep` (bit n: capability n).
/// Stops at the first number that the kernel does not know.
pub(crate) fn drop_bounding_set(keep: u64) -> Result<()> {
    for capability in all_capabilities().filter(|capability| keep & capability.bits() == 0) {
        match remove_capability_from_bounding_set(capability).map_err(errno) {
            Ok(()) => {}
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Returns all capabilities that fit into 64 bits, each as a set.
fn all_capabilities() -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number))
}

/// Sets the effective, permitted and inheritable sets (bit n: capability n).
pub(crate) fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(inheritable),
    };
    set_capabilities(None, sets).map_err(errno)
}

/// True if a capability is in the effective set of this process.
pub(crate) fn has_effective(capability: Capability) -> bool {
    let set = CapabilitySet::from_bits_retain(capability.bitmask());
    capabilities(None).is_ok_and(|sets| sets.effective.contains(set))
}

/// Sets the ambient set. Fails with EPERM if a capability is not both permitted and inheritable.
pub(crate) fn set_ambient(set: u64) -> Result<()> {
    clear_ambient_capability_set().map_err(errno)?;
    for capability in all_capabilities().filter(|capability| set & capability.bits() != 0) {
        configure_capability_in_ambient_set(capability, true).map_err(errno)?;
    }
    Ok(())
}

/// Calls setgroups(2) for this thread only. glibc would signal other threads, which a cloned
/// process does not have.
pub(crate) fn setgroups(groups: &[u32]) -> Result<()> {
    // rustix is not used, because its type for group ids would need an allocation in the child.
    // SAFETY: pointer and length are of one slice.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// Calls setresgid(2) for this thread.
pub(crate) fn setresgid(gid: u32) -> Result<()> {
    let gid = Gid::from_raw(gid);
    set_thread_res_gid(gid, gid, gid).map_err(errno)
}

/// Calls setresuid(2) for this thread. The kernel clears the parent death signal. When the user id
/// changes from 0, the kernel also clears the dumpable flag and the effective capabilities.
pub(crate) fn setresuid(uid: u32) -> Result<()> {
    let uid = Uid::from_raw(uid);
    set_thread_res_uid(uid, uid, uid).map_err(errno)
}

/// Execution domains, linux/personality.h; libc has no constants for them.
pub(crate) const PER_LINUX: u32 = 0x0;
pub(crate) const PER_LINUX32: u32 = 0x8;

/// Calls personality(2). EINVAL means that the kernel runs no 32-bit programs.
pub(crate) fn set_personality(domain: u32) -> Result<()> {
    let persona = Persona::from_bits_retain(domain as libc::c_int);
    nix::sys::personality::set(persona).map(drop)
}

/// Sets the umask.
pub(crate) fn umask(mask: u32) {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
}

/// A resource limit; `u64::MAX` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rlimit {
    pub(crate) resource: Resource,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

pub(crate) const RLIMIT_NOFILE: Resource = Resource::RLIMIT_NOFILE;
pub(crate) const RLIMIT_AS: Resource = Resource::RLIMIT_AS;
pub(crate) const RLIMIT_DATA: Resource = Resource::RLIMIT_DATA;
pub(crate) const RLIMIT_NPROC: Resource = Resource::RLIMIT_NPROC;

/// The limits that the specification names.
const RLIMIT_NAMES: [(&str, Resource); 16] = [
    ("RLIMIT_CPU", Resource::RLIMIT_CPU),
    ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
    ("RLIMIT_DATA", Resource::RLIMIT_DATA),
    ("RLIMIT_STACK", Resource::RLIMIT_STACK),
    ("RLIMIT_CORE", Resource::RLIMIT_CORE),
    ("RLIMIT_RSS", Resource::RLIMIT_RSS),
    ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
    ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
    ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
    ("RLIMIT_AS", Resource::RLIMIT_AS),
    ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
    ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
    ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", Resource::RLIMIT_NICE),
    ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
];

/// Returns the limit that the specification calls `name`.
pub(crate) fn find_rlimit(name: &str) -> Option<Resource> {
    let found = RLIMIT_NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, resource)| *resource)
}

impl Rlimit {
    /// Returns the name of the limit in the specification.
    pub(crate) fn name(&self) -> &'static str {
        let found = RLIMIT_NAMES
            .iter()
            .find(|(_, known)| *known == self.resource);
        found.map_or("RLIMIT_?", |(name, _)| name)
    }
}

/// Sets a limit of this process. Fails with EPERM if a hard limit is raised without
/// CAP_SYS_RESOURCE.
pub(crate) fn set_rlimit(limit: &Rlimit) -> Result<()> {
    nix::sys::resource::setrlimit(limit.resource, limit.soft, limit.hard)
}

/// Returns a limit of this process.
pub(crate) fn rlimit(resource: Resource) -> Result<Rlimit> {
    let (soft, hard) = nix::sys::resource::getrlimit(resource)?;
    Ok(Rlimit {
        resource,
        soft,
        hard,
    })
}

/// Makes a session keyring with this name, or joins the existing one (keyctl(2)). Sets its
/// permissions to `perm` if given.
pub(crate) fn join_session_keyring(name: &CStr, perm: Option<u32>) -> Result<()> {
    // SAFETY: the name is a C string.
    let keyring = check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            name.as_ptr(),
        )
    })?;
    if let Some(perm) = perm {
        // SAFETY: integers only.
        check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, keyring, perm) })?;
    }
    Ok(())
}

/// The kernel's struct sigaction. On every architecture the struct fits into this array and begins
/// with the handler. All zeros mean SIG_DFL, no flags and an empty mask.
type SignalAction = [usize; 4];

/// Calls rt_sigaction(2) directly, because glibc reserves the signals 32 and 33 and refuses them.
fn sigaction(
    signal: i32,
    new: Option<&SignalAction>,
    old: Option<&mut SignalAction>,
) -> Result<()> {
    const KERNEL_SIGSET_BYTES: usize = 8;
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    let old = old.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: each pointer is null or points to a large enough array that outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            new,
            old,
            KERNEL_SIGSET_BYTES,
        )
    })
    .map(drop)
}

/// True if this process ignores a signal.
pub(crate) fn ignores_signal(signal: i32) -> bool {
    let mut action = SignalAction::default();
    let asked = sigaction(signal, None, Some(&mut action));
    asked.is_ok() && action.first() == Some(&libc::SIG_IGN)
}

/// Resets one signal to its default disposition.
pub(crate) fn reset_signal(signal: i32) -> Result<()> {
    sigaction(signal, Some(&SignalAction::default()), None)
}

/// Closes every descriptor from `first` to `last`.
pub(crate) fn close_range(first: u32, last: u32) -> Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: the callers own all descriptors of the range, or nobody uses them any more.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// Closes every descriptor from `first` on, except those in `keep`.
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

/// True if this descriptor is open.
pub(crate) fn is_open_descriptor(fd: i32) -> bool {
    // SAFETY: F_GETFD only reads, and fails with EBADF for a closed descriptor.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Makes the descriptor `number` (0, 1 or 2) a copy of `fd`; exec does not close it.
pub(crate) fn dup_onto(fd: BorrowedFd<'_>, number: i32) -> Result<()> {
    // SAFETY: integers only; standard descriptors are not owned by any value.
    check(unsafe { libc::dup3(fd.as_raw_fd(), number, 0) }.into())?;
    Ok(())
}

/// A null-terminated array of C strings for execve. The array is made before the clone, so that the
/// child allocates nothing.
pub(crate) struct CStringArray {
    pointers: Vec<*const libc::c_char>,
    strings: Vec<CString>,
}

impl CStringArray {
    /// Makes the array. The pointers stay valid when the value moves, since the strings are on the
    /// heap.
    pub(crate) fn new(strings: Vec<CString>) -> CStringArray {
        let pointers = strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect();
        CStringArray { pointers, strings }
    }

    /// Returns the environment of this process.
    pub(crate) fn own_environment() -> CStringArray {
        let entry = |(mut entry, value): (OsString, OsString)| {
            entry.push("=");
            entry.push(value);
            CString::new(entry.into_vec()).ok()
        };
        CStringArray::new(std::env::vars_os().filter_map(entry).collect())
    }

    /// Returns the strings.
    pub(crate) fn as_slice(&self) -> &[CString] {
        &self.strings
    }
}

/// Calls execve(2). Returns only if it fails.
pub(crate) fn execve(path: &CStr, argv: &CStringArray, envp: &CStringArray) -> Errno {
    // SAFETY: path is a C string; both arrays are null-terminated, and their strings outlive the
    // call.
    unsafe {
        libc::execve(
            path.as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
        )
    };
    Errno::last()
}

/// Calls execveat(2) for the file behind `fd`. Returns only if it fails.
pub(crate) fn execveat(fd: BorrowedFd<'_>, argv: &CStringArray, envp: &CStringArray) -> Errno {
    // SAFETY: the path is an empty C string; both arrays are null-terminated, and their strings
    // outlive the call.
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

/// Overwrites the environment in the memory that /proc/PID/environ shows to others. All variables
/// are empty afterwards.
pub(crate) fn erase_environment() {
    unsafe extern "C" {
        /// environ(7).
        static environ: *const *mut libc::c_char;
    }
    // SAFETY: glibc sets `environ` before main, and nothing changes it in a process with one
    // thread.
    let mut entry = unsafe { environ };
    // SAFETY: the array ends with a null pointer, at which the loop stops.
    while let Some(text) = std::ptr::NonNull::new(unsafe { *entry }) {
        // SAFETY: each entry is a C string in memory of this process.
        let length = unsafe { libc::strlen(text.as_ptr()) };
        // SAFETY: these bytes belong to the string.
        unsafe { text.as_ptr().write_bytes(0, length) };
        entry = entry.wrapping_add(1);
    }
}

/// Returns a value that the kernel stored at exec (getauxval(3)). This takes no system call.
pub(super) fn auxiliary_value(kind: libc::c_ulong) -> libc::c_ulong {
    // SAFETY: every integer is allowed; unknown ones yield 0.
    unsafe { libc::getauxval(kind) }
}

/// Returns the effective user id with which this program was started. The runtime never changes it.
pub(crate) fn effective_uid() -> u32 {
    auxiliary_value(libc::AT_EUID) as u32
}

/// Returns the effective group id with which this program was started.
pub(crate) fn effective_gid() -> u32 {
    auxiliary_value(libc::AT_EGID) as u32
}
