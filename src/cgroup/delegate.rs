//! A cgroup given to a user who may then make cgroups below it and move processes between them.
//! Its limits are not his: their files stay the caller's.

use std::ffi::CStr;

use nix::fcntl::AtFlags;
use nix::unistd::Uid;

use super::{Cgroup, Error};
use crate::error::{Failed, failed};
use crate::sys::{Errno, path};

/// The kernel's list of files that belong to whom a cgroup is delegated.
const DELEGATED: &str = "/sys/kernel/cgroup/delegate";
/// The same where sysfs is not to be had.
const ALWAYS: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Makes a user its owner, and the owner of the files that go with that, if the caller may.
    pub(crate) fn delegate(&self, uid: u32) -> Result<(), Error> {
        let give = |name: &CStr, flags| {
            let given =
                nix::unistd::fchownat(self.dir(), name, Some(Uid::from_raw(uid)), None, flags);
            given.map_err(failed("fchownat", || {
                self.object(&format!("give to user {uid}"), name)
            }))
        };
        match give(c".", AtFlags::empty()) {
            // A caller without that right has made a cgroup in which the container makes none.
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
                // Of a controller that isn't enabled here.
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
