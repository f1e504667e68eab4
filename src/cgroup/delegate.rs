//! Delegates a cgroup to a user, who may then make cgroups below it and move processes between
//! them.
//! The files with the cgroup's own limits still belong to the caller.

use std::ffi::CStr;
use std::path::Path;

use nix::fcntl::AtFlags;
use nix::unistd::Uid;

use super::{Cgroup, Error, hierarchy};
use crate::error::{Failed, failed};
use crate::sys::{Errno, path};

/// The kernel's list of the files whose owner changes when a cgroup is delegated.
const DELEGATE_LIST_PATH: &str = "/sys/kernel/cgroup/delegate";
/// The files that every kernel lists, for hosts without sysfs.
const ALWAYS_DELEGATED_FILES: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Moves a process into the cgroup at the path `below` this cgroup. Makes that cgroup if it is
    /// missing, enables the controllers of this cgroup for it, and delegates it to the user
    /// `owner`.
    pub(crate) fn move_below(
        &self,
        below: &Path,
        pid: i32,
        owner: Option<u32>,
    ) -> Result<(), Error> {
        hierarchy::make_cgroups(&self.path, below)?;
        let path = self.path.join(below);
        let cgroup = Cgroup::open(&path)?.ok_or(Error::NotCgroup(path))?;
        cgroup.write_file(c"cgroup.procs", &pid.to_string())?;
        // Enable the controllers after the move, because the kernel refuses this while the cgroup
        // above has processes.
        cgroup.enable_controllers(&self.path, below)?;
        owner.map_or(Ok(()), |uid| cgroup.delegate_to(uid))
    }

    /// Makes a user the owner of the cgroup and of the listed files, if the caller has permission.
    pub(crate) fn delegate_to(&self, uid: u32) -> Result<(), Error> {
        let give = |name: &CStr, flags| {
            let given =
                nix::unistd::fchownat(self.dir_fd(), name, Some(Uid::from_raw(uid)), None, flags);
            given.map_err(failed("fchownat", || {
                self.describe_access(&format!("give to user {uid}"), name)
            }))
        };
        match give(c".", AtFlags::empty()) {
            // The caller has no permission to change the owner. The container then can't make
            // cgroups below this one, which is not an error.
            Err(Failed {
                errno: Errno::EPERM,
                ..
            }) => return Ok(()),
            other => other?,
        }
        let list = std::fs::read_to_string(DELEGATE_LIST_PATH)
            .unwrap_or_else(|_| ALWAYS_DELEGATED_FILES.into());
        for file in list.lines() {
            let name = path::c_path(file.as_ref())
                .map_err(failed("fchownat", || format!("read {DELEGATE_LIST_PATH}")))?;
            match give(&name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                // The file belongs to a controller that is not enabled in this cgroup.
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
