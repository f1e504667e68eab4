//! Checks, before the clone, whether a caller without root rights on the host may put processes
//! into a cgroup.
//! Root on the host needs no such check.

use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::AccessFlags;

use super::{Cgroup, Error};
use crate::error::failed;

impl Cgroup {
    /// Refuses the cgroup if the kernel would let none of the caller's processes enter it. The
    /// cgroup is at `below`, a path below `mount`. `own` is the text of /proc/self/cgroup.
    pub(super) fn refuse_unenterable(
        &self,
        mount: &Path,
        below: &Path,
        own: &str,
    ) -> Result<(), Error> {
        let file = mount.join(common_ancestor(own, below)).join("cgroup.procs");
        let what = || {
            format!(
                "put a process into cgroup {}: this requires write access to {} (cgroups(7))",
                self.path.display(),
                file.display()
            )
        };
        let allowed =
            nix::unistd::faccessat(AT_FDCWD, &file, AccessFlags::W_OK, AtFlags::AT_EACCESS);
        Ok(allowed.map_err(failed("faccessat", what))?)
    }
}

/// Returns the nearest common ancestor of the caller's cgroup and the cgroup at `below`, as a path
/// below the mount.
fn common_ancestor(own: &str, below: &Path) -> PathBuf {
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = Path::new(own.unwrap_or_default());
    own.components()
        .zip(below.components())
        .take_while(|(own, other)| own == other)
        .map(|(own, _)| own)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_ancestor_is_found_by_components() {
        let common =
            |below: &str| common_ancestor("1:cpu:/\n0::/user.slice/user-1/app\n", below.as_ref());
        assert_eq!(
            common("user.slice/user-1/x"),
            Path::new("user.slice/user-1")
        );
        assert_eq!(common("user.slice/user-10/x"), Path::new("user.slice"));
        assert_eq!(common("other"), Path::new(""));
    }
}
