//! Opens the sources of bind mounts that lie in the container's root, in its state after the
//! preceding mounts.
//! `rootfs` attaches them.

use std::cell::OnceCell;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};

use crate::detached::DetachedMount;
use crate::plan::rootfs::MountOp;
use crate::sys::{Result, mount, path};

/// From this number of mounts on, cloning from the root's mount is so slow that `bare` pays off.
const MANY_MOUNTS: usize = 128;

/// The container's root, in which sources are opened.
pub(super) struct RootSources<'a> {
    root: BorrowedFd<'a>,
    /// A copy of the root's mount that has no mounts below it. `None` if this kernel can't clone
    /// from a detached mount (before Linux 6.15).
    ///
    /// When a directory is cloned, the kernel checks every mount below the directory's mount
    /// (has_locked_children). So 10,000 clones from the root itself would take quadratic time.
    bare: OnceCell<Option<OwnedFd>>,
}

impl RootSources<'_> {
    pub(super) fn new(root: BorrowedFd<'_>) -> RootSources<'_> {
        let bare = OnceCell::new();
        RootSources { root, bare }
    }

    /// Clones the file or directory at a path in the root. The path can't lead out of the root.
    pub(super) fn open_source(
        &self,
        op: &MountOp,
        path: &Path,
        recursive: bool,
    ) -> Result<DetachedMount> {
        let path = path::c_path(path.as_os_str())?;
        let mut flags = OFlag::O_PATH;
        flags.set(OFlag::O_NOFOLLOW, op.mounts_link_itself());
        if op.index >= MANY_MOUNTS
            && let Ok(found) = path::open_in_mount(self.root, &path, flags)
        {
            if let Some(same) = self.open_in_bare_copy(&found, &path, flags, recursive) {
                return DetachedMount::copy_of_fd(same.as_fd(), false);
            }
            return DetachedMount::copy_of_fd(found.as_fd(), recursive);
        }
        let found = path::open_in_root(self.root, &path, flags)?;
        DetachedMount::copy_of_fd(found.as_fd(), recursive)
    }

    /// Opens the file in the bare copy. `found` is the same file in the root's own mount. Returns
    /// `None` if a clone from the bare copy could be another tree, because an earlier mount may lie
    /// below it or because somebody has replaced the file.
    fn open_in_bare_copy(
        &self,
        found: &OwnedFd,
        path: &CStr,
        flags: OFlag,
        recursive: bool,
    ) -> Option<OwnedFd> {
        let stat = fstat(found).ok()?;
        if recursive && path::is_file_type(&stat, SFlag::S_IFDIR) {
            return None;
        }
        let bare = self.bare.get_or_init(|| make_bare_copy(self.root).ok());
        let same = path::open_in_mount(bare.as_ref()?.as_fd(), path, flags).ok()?;
        let other = fstat(&same).ok()?;
        let is_same = (stat.st_dev, stat.st_ino) == (other.st_dev, other.st_ino);
        is_same.then_some(same)
    }
}

/// Makes the bare copy, and checks that the kernel can clone from it. Fails with EINVAL if a mount
/// below the root is locked.
fn make_bare_copy(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    let bare = mount::open_tree(root, c"", false)?;
    mount::open_tree(bare.as_fd(), c"", false)?;
    Ok(bare)
}
