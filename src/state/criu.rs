//! CRIU's directory in a container's state directory: to mount on, or to find cgroups in.

use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::{CRIU, CRIU_CGROUPS, Dir, Error, NOTIFY_DIRECTORY};
use crate::error::failed;
use crate::sys::Errno;
use crate::sys::procfs::errno_of;

impl Dir {
    /// Makes the directory. Returns its path, which leads through no link.
    pub(crate) fn make_criu_directory(&self) -> Result<PathBuf, Error> {
        let what = || format!("make {}/criu", self.path.display());
        // A killed command may have left its directory behind.
        self.remove_criu_directory()?;
        mkdirat(&self.fd, CRIU, Mode::S_IRWXU).map_err(failed("mkdir", what))?;
        let path = self.path.join(CRIU.to_string_lossy().as_ref());
        let path = path.canonicalize();
        Ok(path.map_err(|e| failed("readlink", what)(errno_of(&e)))?)
    }

    /// Makes a link in CRIU's directory to the cgroup v2 mount, with the name that CRIU looks for.
    pub(crate) fn link_cgroups(&self, mount: &Path) -> Result<(), Error> {
        let what = || format!("make {}/criu/unified", self.path.display());
        symlinkat(mount, &self.fd, CRIU_CGROUPS).map_err(failed("symlink", what))?;
        Ok(())
    }

    /// Removes the directory.
    pub(crate) fn remove_criu_directory(&self) -> Result<(), Error> {
        let what = || format!("remove {}/criu", self.path.display());
        for (name, kind) in [
            (CRIU_CGROUPS, UnlinkatFlags::NoRemoveDir),
            (CRIU, UnlinkatFlags::RemoveDir),
        ] {
            match unlinkat(&self.fd, name, kind) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(failed("unlink", what)(errno).into()),
            }
        }
        Ok(())
    }

    /// The path of the directory that the container sees as /run/notify.
    pub(crate) fn notify_directory(&self) -> PathBuf {
        self.path.join(NOTIFY_DIRECTORY.to_string_lossy().as_ref())
    }
}
