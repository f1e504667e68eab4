//! Keeps a container from overwriting the host's orlop through /proc/PID/exe (CVE-2019-5736).
//! Commands that enter a container's namespaces run from a copy or a view of the binary that can't
//! be written.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;

use crate::error::{Failed, failed};
use crate::sys::Errno;
use crate::sys::exe::{self, Seals};
use crate::sys::mount::{Attributes, RDONLY, mount_setattr, open_tree};
use crate::sys::process::{CStringArray, execveat, set_name};
use crate::sys::weakened;

/// The reason why the binary can't be protected. The command then fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("protect the binary from the container: {0}")]
    Failed(#[from] Failed),
}

/// What keeps the binary from being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The binary is already a sealed memfd.
    Sealed,
    /// The binary is on a detached mount whose descriptors are closed.
    Dissolved,
    /// The binary's file system is read-only.
    ReadOnly,
    /// fs-verity protects the binary's content.
    Verity,
    /// `ensure_sealed` maps the binary from a read-only view.
    Mapped,
    /// `ensure_sealed` executes a read-only view of the binary.
    View,
    /// `ensure_sealed` executes a sealed copy of the binary in memory.
    Copy,
}

impl Form {
    pub(crate) const ALL: [Form; 7] = [
        Form::Sealed,
        Form::Dissolved,
        Form::ReadOnly,
        Form::Verity,
        Form::Mapped,
        Form::View,
        Form::Copy,
    ];
}

/// Returns what `ensure_sealed` would do, without an exec. Callers should run this in a child,
/// because it may replace the mappings of the process.
pub(crate) fn form() -> Result<Form, Error> {
    let exe = open_own_exe().map_err(failed("open", || "look at /proc/self/exe".to_owned()))?;
    if let Some(form) = protection(&exe)? {
        return Ok(form);
    }
    if run_from_view(&exe).is_ok() {
        return Ok(Form::Mapped);
    }
    match make_read_only_view(&exe) {
        Ok(_) => Ok(Form::View),
        Err((_, Errno::EPERM | Errno::EINVAL | Errno::ENOENT)) => {
            copy_to_memory(exe).map(|_| Form::Copy)
        }
        Err((call, errno)) => {
            let what = || "look at /proc/self/exe".to_owned();
            Err(failed(call, what)(errno).into())
        }
    }
}

/// Returns once this process runs from a binary that can't be written. If the binary can be
/// written, replaces its mappings by those of a read-only view. If that fails, executes a read-only
/// view or a copy of the binary.
pub(crate) fn ensure_sealed() -> Result<(), Error> {
    if weakened::lacks("seal") {
        return Ok(());
    }
    let what = || "look at /proc/self/exe".to_owned();
    let exe = open_own_exe().map_err(failed("open", what))?;
    if protection(&exe)?.is_some() {
        // Before Linux 6.14, an exec by descriptor leaves the descriptor's number as the process
        // name.
        return set_name(c"orlop").map_err(|errno| failed("prctl", what)(errno).into());
    }
    if run_from_view(&exe).is_ok() {
        // The kernel made sure that no mapping of the old file is left, so the same check applies
        // as after an exec.
        let exe = open_own_exe().map_err(failed("open", what))?;
        if protection(&exe)?.is_some() {
            return Ok(());
        }
    }
    let sealed = match make_read_only_view(&exe) {
        Ok(view) => view,
        // Without the privilege to mount, or with a binary outside this mount namespace, use a copy
        // in memory.
        Err((_, Errno::EPERM | Errno::EINVAL | Errno::ENOENT)) => copy_to_memory(exe)?,
        Err((call, errno)) => return Err(failed(call, what)(errno).into()),
    };
    let strings = |list: Vec<std::ffi::OsString>| {
        list.into_iter()
            .filter_map(|s| CString::new(s.into_vec()).ok())
            .collect()
    };
    let argv = CStringArray::new(strings(std::env::args_os().collect()));
    let envp = CStringArray::own_environment();
    Err(
        failed("execveat", || "run the protected binary".into())(execveat(
            sealed.as_fd(),
            &argv,
            &envp,
        ))
        .into(),
    )
}

fn open_own_exe() -> Result<OwnedFd, Errno> {
    open_read_only(c"/proc/self/exe")
}

fn open_read_only(path: &CStr) -> Result<OwnedFd, Errno> {
    crate::sys::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Switches this process to the read-only view, and closes the descriptors of the view. This saves
/// an exec and the start of the C library, 13 % of a run. It requires CAP_CHECKPOINT_RESTORE or
/// CAP_SYS_ADMIN.
///
/// Closing the last descriptor destroys the mount. The kernel then waits for all readers
/// (synchronize_rcu_expedited in namespace_unlock): 0.1 ms on a quiet machine, and 2 to 150 ms
/// where readers are preempted or other containers are torn down. The close can't be postponed,
/// because the mount could be made writable again through an open descriptor.
fn run_from_view(exe: &OwnedFd) -> Result<(), Errno> {
    let view = make_read_only_view(exe).map_err(|(_, errno)| errno)?;
    // open_tree returns an O_PATH descriptor, from which nothing can be mapped.
    let path = CString::new(format!("/proc/self/fd/{}", view.as_raw_fd()));
    let file = open_read_only(&path.map_err(|_| Errno::EINVAL)?)?;
    crate::sys::remap::replace_exe(file.as_fd())
}

/// Returns what protects the binary from every write by the container; `None` if it isn't
/// protected. A read-only mount alone is not enough, because it can be remounted while an O_PATH
/// descriptor of the file is open.
fn protection(exe: &OwnedFd) -> Result<Option<Form>, Failed> {
    let what = || "look at /proc/self/exe".to_owned();
    let seals = exe::seals(exe.as_fd()).map_err(failed("fcntl", what))?;
    if seals.is_some_and(|seals| {
        seals.contains(Seals::WRITE | Seals::GROW | Seals::SHRINK | Seals::SEAL)
    }) {
        return Ok(Some(Form::Sealed));
    }
    if exe::is_on_read_only_mount(exe.as_fd()).map_err(failed("fstatfs", what))? {
        if exe::is_on_dissolved_mount(exe.as_fd()).map_err(failed("readlinkat", what))? {
            return Ok(Some(Form::Dissolved));
        }
        if exe::is_on_read_only_superblock(exe.as_fd()).map_err(failed("statx", what))? {
            return Ok(Some(Form::ReadOnly));
        }
    }
    let verity = exe::is_verity(exe.as_fd()).map_err(failed("statx", what))?;
    Ok(verity.then_some(Form::Verity))
}

/// Makes a detached read-only mount of the binary. All its descriptors close at exec, and the last
/// close destroys the mount. Through an open descriptor, a container could make the mount writable
/// again (tried on Linux 6.18).
fn make_read_only_view(exe: &OwnedFd) -> Result<OwnedFd, (&'static str, Errno)> {
    let view = open_tree(exe.as_fd(), c"", false).map_err(|errno| ("open_tree", errno))?;
    let read_only = Attributes {
        set: RDONLY,
        ..Attributes::default()
    };
    mount_setattr(view.as_fd(), false, read_only).map_err(|errno| ("mount_setattr", errno))?;
    Ok(view)
}

/// Makes a sealed copy of the binary in memory.
fn copy_to_memory(exe: OwnedFd) -> Result<OwnedFd, Error> {
    let what = || "copy the binary into memory".to_owned();
    // Without MFD_EXEC, vm.memfd_noexec=1 would make the copy not executable. Kernels before 6.3
    // don't know the flag.
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let executable = flags | MFdFlags::from_bits_retain(exe::MFD_EXEC);
    let copy = match memfd_create(c"orlop", executable) {
        Err(Errno::EINVAL) => memfd_create(c"orlop", flags),
        other => other,
    };
    let copy = copy.map_err(failed("memfd_create", what))?;
    let (mut from, mut to) = (std::fs::File::from(exe), std::fs::File::from(copy));
    std::io::copy(&mut from, &mut to)
        .map_err(|e| failed("write", what)(crate::sys::procfs::errno_of(&e)))?;
    let copy = OwnedFd::from(to);
    exe::add_seals(copy.as_fd()).map_err(failed("fcntl", what))?;
    Ok(copy)
}
