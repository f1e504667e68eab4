//! Keeps a container from overwriting the host's orlop through /proc/PID/exe (CVE-2019-5736): whatever enters a container's
//! namespaces runs from a copy of the binary, or a view of it, that can't be written. Pays only where the binary can be.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;

use crate::error::{Failed, failed};
use crate::sys::Errno;
use crate::sys::exe::{self, Seals};
use crate::sys::mount::{Attributes, RDONLY, mount_setattr, open_tree};
use crate::sys::process::{Strings, execveat, set_name};

/// Why the binary can't be protected; nothing is run then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("protect the binary from the container: {0}")]
    Failed(#[from] Failed),
}

/// Returns if this process already runs from a binary that can't be written; else runs it anew from one that can't.
pub(crate) fn ensure() -> Result<(), Error> {
    let what = || "look at /proc/self/exe".to_owned();
    let exe = nix::fcntl::open(
        c"/proc/self/exe",
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed("open", what))?;
    if is_protected(&exe).map_err(failed("fcntl", what))? {
        // An exec by descriptor leaves its number as the name (Linux before 6.14).
        return set_name(c"orlop").map_err(|errno| failed("prctl", what)(errno).into());
    }
    let sealed = match read_only_view(&exe) {
        Ok(view) => view,
        // No privilege to mount, or the binary lies outside this mount namespace: a copy in memory.
        Err(Errno::EPERM | Errno::EINVAL | Errno::ENOENT) => copy_in_memory(exe)?,
        Err(errno) => return Err(failed("open_tree", what)(errno).into()),
    };
    let strings = |list: Vec<std::ffi::OsString>| {
        list.into_iter()
            .filter_map(|s| CString::new(s.into_vec()).ok())
            .collect()
    };
    let argv = Strings::new(strings(std::env::args_os().collect()));
    let variables = std::env::vars_os().map(|(name, value)| {
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        entry
    });
    let envp = Strings::new(strings(variables.collect()));
    Err(
        failed("execveat", || "run the protected binary".into())(execveat(
            sealed.as_fd(),
            &argv,
            &envp,
        ))
        .into(),
    )
}

/// The proofs that hold whatever the container does. A read-only mount alone is none: it can be remounted while an O_PATH
/// descriptor of the file is kept.
fn is_protected(exe: &OwnedFd) -> Result<bool, Errno> {
    if exe::seals(exe.as_fd())?.is_some_and(|seals| {
        seals.contains(Seals::WRITE | Seals::GROW | Seals::SHRINK | Seals::SEAL)
    }) {
        return Ok(true);
    }
    Ok(exe::is_on_dissolved_mount(exe.as_fd())?
        || exe::is_on_read_only_superblock(exe.as_fd())?
        || exe::is_verity(exe.as_fd())?)
}

/// A detached read-only mount of the binary. All descriptors of it close at exec, and the mount with the last of them: with
/// one of them left, a container could make it writable again (tried on Linux 6.18).
fn read_only_view(exe: &OwnedFd) -> Result<OwnedFd, Errno> {
    let view = open_tree(exe.as_fd(), c"", false)?;
    mount_setattr(
        view.as_fd(),
        false,
        Attributes {
            set: RDONLY,
            ..Attributes::default()
        },
    )?;
    Ok(view)
}

/// A sealed copy of the binary in memory.
fn copy_in_memory(exe: OwnedFd) -> Result<OwnedFd, Error> {
    let what = || "copy the binary into memory".to_owned();
    // Without MFD_EXEC, vm.memfd_noexec=1 would make it not executable; kernels before 6.3 don't know the flag.
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
