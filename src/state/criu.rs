//! CRIU's directory in a container's state directory. A restore uses it as a mount point. In a
//! checkpoint, CRIU finds the cgroup hierarchies in it.

use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::{CRIU_DIRECTORY, Dir, Error, Listing, NOTIFY_DIRECTORY};
use crate::error::failed;
use crate::sys::Errno;
use crate::sys::procfs::errno_of;

impl Dir {
    /// Makes the directory. Returns its path without symbolic links.
    pub(crate) fn make_criu_directory(&self) -> Result<PathBuf, Error> {
        let what = || format!("make {}/criu", self.path.display());
        // A killed command may have left its directory behind.
        self.remove_criu_directory()?;
        mkdirat(&self.fd, CRIU_DIRECTORY, Mode::S_IRWXU).map_err(failed("mkdir", what))?;
        let path = self.path.join(CRIU_DIRECTORY.to_string_lossy().as_ref());
        let path = path.canonicalize();
        Ok(path.map_err(|e| failed("readlink", what)(errno_of(&e)))?)
    }

    /// Makes links in CRIU's directory to the mounts of cgroup hierarchies. Each link has the name
    /// by which CRIU looks for the hierarchy.
    pub(crate) fn link_cgroups(&self, hierarchies: &[(String, PathBuf)]) -> Result<(), Error> {
        for (name, mount) in hierarchies {
            let what = || format!("make {}/criu/{name}", self.path.display());
            let link = Path::new("criu").join(name);
            symlinkat(mount, &self.fd, &link).map_err(failed("symlink", what))?;
        }
        Ok(())
    }

    /// Removes the directory, if it exists.
    pub(crate) fn remove_criu_directory(&self) -> Result<(), Error> {
        let what = || format!("remove {}/criu", self.path.display());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut listing = match Listing::openat(&self.fd, CRIU_DIRECTORY, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(()),
            listing => listing.map_err(failed("open", what))?,
        };
        let mut names = Vec::new();
        for entry in listing.iter() {
            let entry = entry.map_err(failed("getdents64", what))?;
            names.push(entry.file_name().to_owned());
        }
        names.retain(|name| !matches!(name.to_bytes(), b"." | b".."));
        for name in names {
            unlinkat(&listing, name.as_c_str(), UnlinkatFlags::NoRemoveDir)
                .map_err(failed("unlink", what))?;
        }
        let removed = unlinkat(&self.fd, CRIU_DIRECTORY, UnlinkatFlags::RemoveDir);
        Ok(removed.map_err(failed("rmdir", what))?)
    }

    /// Returns the path of the directory that the container sees as /run/notify.
    pub(crate) fn notify_directory(&self) -> PathBuf {
        self.path.join(NOTIFY_DIRECTORY.to_string_lossy().as_ref())
    }
}
