//! Sets attributes of a host's mount as root of a user namespace.
//! Flags that the host has set are locked there, and stay (mount_namespaces(7)).

use std::os::fd::BorrowedFd;

use crate::sys::mount::{
    ATIME_MASK, Attributes, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY, mount_setattr,
};
use crate::sys::{Errno, Result};

/// The flags that can be cleared one by one.
const CLEARABLE_FLAGS: [u64; 6] = [RDONLY, NOSUID, NODEV, NOEXEC, NODIRATIME, NOSYMFOLLOW];

/// Changes attributes. A locked flag stays as it is, as in crun. Engines clear flags that nobody
/// has asked them to clear: podman passes `rw` for every mount that isn't read-only.
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

/// Changes an attribute of all mounts of the tree, or only of the top mount if a mount below has a
/// locked flag.
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
