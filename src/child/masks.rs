//! Applies linux.readonlyPaths and linux.maskedPaths.
//! Each path is resolved once, and the mount uses the resulting descriptor. So it has no effect if
//! the container replaces the file in between (CVE-2025-31133, GHSA-3q8j-pf29-vwv8).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};

use super::StepResult;
use crate::error::{Failed, failed};
use crate::origin::config;
use crate::plan::rootfs::Rootfs;
use crate::sys::mount::{self, Attributes, RDONLY};
use crate::sys::{Errno, path, weakened};

/// Opens a path in the container. Returns `None` if the path doesn't exist. Only the target of a
/// mount may be missing, not its source.
fn open_path(root: BorrowedFd<'_>, target: &Path) -> Result<Option<OwnedFd>, Errno> {
    match path::open_in_root(root, &path::c_path(target.as_os_str())?, OFlag::O_PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Mounts each path over itself, read-only.
pub(super) fn make_paths_readonly(paths: &[(usize, PathBuf)], root: BorrowedFd<'_>) -> StepResult {
    for (index, target) in paths {
        let what = || {
            config(format!("linux.readonlyPaths[{index}]"))
                .asks_to(format!("make {} read-only", target.display()))
        };
        let Some(fd) = open_path(root, target).map_err(failed("openat2", what))? else {
            continue;
        };
        let tree = mount::open_tree(fd.as_fd(), c"", true).map_err(failed("open_tree", what))?;
        let set = |mount: BorrowedFd<'_>| {
            let attributes = Attributes {
                set: RDONLY,
                ..Attributes::default()
            };
            mount::mount_setattr(mount, false, attributes).map_err(failed("mount_setattr", what))
        };
        let by_path = weakened::lacks("resolve-once");
        if !by_path {
            set(tree.as_fd())?;
        }
        mount::move_mount(tree.as_fd(), fd.as_fd()).map_err(failed("move_mount", what))?;
        if by_path && let Ok(Some(again)) = open_path(root, target) {
            let _ = set(again.as_fd());
        }
    }
    Ok(())
}

/// Covers all directories with the same empty read-only tmpfs, and all other files with the
/// container's /dev/null.
pub(super) fn mask_paths(plan: &Rootfs, root: BorrowedFd<'_>) -> StepResult {
    let (mut empty, mut null): (Option<OwnedFd>, Option<OwnedFd>) = (None, None);
    for (index, target) in &plan.masked_paths {
        let what = || {
            config(format!("linux.maskedPaths[{index}]"))
                .asks_to(format!("mask {}", target.display()))
        };
        let Some(fd) = open_path(root, target).map_err(failed("openat2", what))? else {
            continue;
        };
        let is_directory =
            path::is_file_type(&fstat(&fd).map_err(failed("fstat", what))?, SFlag::S_IFDIR);
        let cover = match (is_directory, &empty) {
            // Clone the tmpfs that is attached already. Cloning a detached mount requires Linux
            // 6.15.
            (true, Some(first)) => {
                mount::open_tree(first.as_fd(), c"", false).map_err(failed("open_tree", what))?
            }
            (true, None) => mount::mount_empty_directory(plan.label.as_deref())
                .map_err(failed("fsmount", what))?,
            (false, _) => {
                let null = match &mut null {
                    Some(null) => null,
                    none => none.insert(open_null_device(root)?),
                };
                mount::open_tree(null.as_fd(), c"", false).map_err(failed("open_tree", what))?
            }
        };
        mount::move_mount(cover.as_fd(), fd.as_fd()).map_err(failed("move_mount", what))?;
        if is_directory && empty.is_none() {
            empty = Some(cover);
        }
    }
    Ok(())
}

/// Opens the container's /dev/null, and checks that it is the null device.
fn open_null_device(root: BorrowedFd<'_>) -> StepResult<OwnedFd> {
    let what = || "open the container's /dev/null for linux.maskedPaths".to_owned();
    let dev = path::open_in_root(root, c"/dev", OFlag::O_PATH | OFlag::O_DIRECTORY)
        .map_err(failed("openat2", what))?;
    let null = path::open_child(dev.as_fd(), c"null", OFlag::O_PATH, 0)
        .map_err(failed("openat2", what))?;
    let stat = fstat(&null).map_err(failed("fstat", what))?;
    if path::is_null_device(&stat) || weakened::lacks("null-mask") {
        Ok(null)
    } else {
        Err(Failed::from_sentence(format!(
            "{}: it is not the character device 1:3",
            what()
        )))
    }
}
