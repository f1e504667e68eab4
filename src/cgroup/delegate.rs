//! Delegates a cgroup to a user, who may then make cgroups below it and move processes between
//! them.
//! The files with the cgroup's own limits still belong to the caller.

use std::ffi::CStr;

use nix::fcntl::AtFlags;
use nix::unistd::Uid;

use super::{Cgroup, Error};
use crate::error::{Failed, failed};
use crate::sys::{Errno, path};

/// The kernel's list of the files whose owner changes when a cgroup is delegated.
const DELEGATED: &str = "/sys/kernel/cgroup/delegate";
/// The files that are on this list on every kernel, for hosts without sysfs.
const ALWAYS: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Makes a user the owner of the cgroup and of the listed files, if the caller has permission.
    pub(crate) fn delegate(&self, uid: u32) -> Result<(), Error> {
        let give = |name: &CStr, flags| {
            let given =
                nix::unistd::fchownat(self.dir(), name, Some(Uid::from_raw(uid)), None, flags);
            given.map_err(failed("fchownat", || {
                self.object(&format!("give to user {uid}"), name)
            }))
        };
        match give(c".", AtFlags::empty()) {
            // The caller may not change the owner, so the container can't make cgroups below this
            // one. That is not an error.
            Err(Failed {
                errno: Errno::EPERM,
                ..
            }) => return Ok(()),
            other => other?,
        }
        let list = std::fs::read_to_string(DELEGATED).unwrap_or_else(|_| ALWAYS.into());
        for file in list.lines() {
            let name = path::c_path(file.as_ref())
                .map_err(failed("fchownat", || format!("read {DELEGATED}")))?;
            match give(&name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                // The file belongs to a controller that is not enabled here.
                Ok(())
                | Err(Failed {
                    errno: Errno::ENOENT,
                    ..
                }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
