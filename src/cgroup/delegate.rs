//! Gives a cgroup to a user, who may then make cgroups below it and move processes between them.
//! The files of its own limits still belong to the caller.

use std::ffi::CStr;

use nix::fcntl::AtFlags;
use nix::unistd::Uid;

use super::{Cgroup, Error};
use crate::error::{Failed, failed};
use crate::sys::{Errno, path};

/// The kernel's list of the files that belong to the user to whom a cgroup is delegated.
const DELEGATED: &str = "/sys/kernel/cgroup/delegate";
/// The files of that list on any kernel, for hosts without sysfs.
const ALWAYS: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Makes a user the owner of the cgroup and of the files on the list, if the caller may.
    pub(crate) fn delegate(&self, uid: u32) -> Result<(), Error> {
        let give = |name: &CStr, flags| {
            let given =
                nix::unistd::fchownat(self.dir(), name, Some(Uid::from_raw(uid)), None, flags);
            given.map_err(failed("fchownat", || {
                self.object(&format!("give to user {uid}"), name)
            }))
        };
        match give(c".", AtFlags::empty()) {
            // Without the right to give it away, the container can't make cgroups in it. That is no
            // error.
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
