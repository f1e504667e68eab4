//! Detached mounts: copies of the host's mounts, in no mount namespace until they are attached.
//! The child attaches them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::SFlag;

use crate::sys::{Errno, Result, mount, path};

/// A detached copy of a mount, or of a tree of mounts.
#[derive(Debug)]
pub(crate) struct DetachedMount {
    pub(crate) fd: OwnedFd,
    pub(crate) is_directory: bool,
}

impl DetachedMount {
    /// Copies the file or directory at a path of the host, with the mounts below it if `recursive`.
    pub(crate) fn open(path: &Path, recursive: bool) -> Result<DetachedMount> {
        let path = path::c_path(path.as_os_str())?;
        DetachedMount::new(mount::open_tree_at(&path, recursive)?)
    }

    /// As `open`, but copies a symbolic link at the end of the path instead of following it.
    pub(crate) fn open_link(path: &Path, recursive: bool) -> Result<DetachedMount> {
        let path = path::c_path(path.as_os_str())?;
        DetachedMount::new(mount::open_tree_nofollow(&path, recursive)?)
    }

    /// Copies the file or directory that an open descriptor refers to.
    pub(crate) fn copy_of_fd(of: BorrowedFd<'_>, recursive: bool) -> Result<DetachedMount> {
        DetachedMount::new(mount::open_tree(of, c"", recursive)?)
    }

    fn new(fd: OwnedFd) -> Result<DetachedMount> {
        let stat = nix::sys::stat::fstat(&fd)?;
        let is_directory = path::is_file_type(&stat, SFlag::S_IFDIR);
        Ok(DetachedMount { fd, is_directory })
    }

    /// Copies the tree that becomes the container's root. `propagation` is private or slave,
    /// because mounts in the container must not propagate to the host. Fails with ENOTDIR if the
    /// path doesn't lead to a directory.
    pub(crate) fn open_root(path: &Path, propagation: u64) -> Result<DetachedMount> {
        let root = DetachedMount::open(path, true)?;
        if !root.is_directory {
            return Err(Errno::ENOTDIR);
        }
        let attributes = mount::Attributes {
            propagation,
            ..mount::Attributes::default()
        };
        mount::mount_setattr(root.fd.as_fd(), true, attributes)?;
        Ok(root)
    }

    /// Copies a device node of the host as a mount with nosuid and noexec. Fails with ENODEV
    /// if another file is at the path.
    pub(crate) fn open_device(path: &Path, kind: SFlag, device: u64) -> Result<DetachedMount> {
        let node = DetachedMount::open(path, false)?;
        let stat = nix::sys::stat::fstat(&node.fd)?;
        if !path::is_file_type(&stat, kind) || stat.st_rdev != device {
            return Err(Errno::ENODEV);
        }
        let attributes = mount::Attributes {
            set: mount::NOSUID | mount::NOEXEC,
            ..mount::Attributes::default()
        };
        mount::mount_setattr(node.fd.as_fd(), false, attributes)?;
        Ok(node)
    }
}
