//! Changes attributes of a mount of the host, as root of a user namespace.
//! A user namespace can't clear flags that the host has set: they are locked (mount_namespaces(7)).

use std::os::fd::BorrowedFd;

use crate::sys::mount::{
    ATIME_MASK, Attributes, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY, mount_setattr,
};
use crate::sys::{Errno, Result};

/// The flags that can be cleared one by one.
const CLEARABLE_FLAGS: [u64; 6] = [RDONLY, NOSUID, NODEV, NOEXEC, NODIRATIME, NOSYMFOLLOW];

/// Changes attributes. Like crun, leaves a locked flag set instead of failing, because engines
/// clear flags that no user has asked them to clear. For example, podman passes `rw` for every
/// mount that isn't read-only.
pub(super) fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    wanted: Attributes,
) -> Result<()> {
    match mount_setattr(mount, recursive, wanted) {
        Err(Errno::EPERM) if wanted.clear != 0 => {}
        other => return other,
    }
    let rest = Attributes {
        set: wanted.set & !ATIME_MASK,
        clear: 0,
        propagation: wanted.propagation,
    };
    mount_setattr(mount, recursive, rest)?;
    let clear = |bits, set| Attributes {
        set,
        clear: bits,
        propagation: 0,
    };
    for flag in CLEARABLE_FLAGS
        .into_iter()
        .filter(|flag| wanted.clear & flag != 0)
    {
        set_unless_locked(mount, recursive, clear(flag, 0))?;
    }
    if wanted.clear & ATIME_MASK != 0 {
        let times = clear(ATIME_MASK, wanted.set & ATIME_MASK);
        set_unless_locked(mount, recursive, times)?;
    }
    Ok(())
}

/// Changes an attribute of all mounts of the tree, or of the top mount alone if a mount below has a
/// locked flag. Changes nothing if the flag of the top mount is locked too.
fn set_unless_locked(mount: BorrowedFd<'_>, recursive: bool, one: Attributes) -> Result<()> {
    let changed = match mount_setattr(mount, recursive, one) {
        Err(Errno::EPERM) if recursive => mount_setattr(mount, false, one),
        other => other,
    };
    match changed {
        Err(Errno::EPERM) => Ok(()),
        other => other,
    }
}
