//! Opens the destination of a mount inside the root. Makes the destination if it is missing, and
//! checks it.
//! `rootfs` then mounts there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::StepResult;
use crate::error::{Failed, failed};
use crate::plan::rootfs::MountOp;
use crate::sys::path::{self, Missing};
use crate::sys::{Errno, Result, procfs, weakened};

/// Describes the mount for messages: `mount /dev/mqueue (config.json: mounts[3])`.
pub(super) fn describe_mount(op: &MountOp) -> String {
    op.origin()
        .asks_to(format!("mount {}", op.destination.display()))
}

/// Opens the destination of a mount.
pub(super) fn open_target(
    root: BorrowedFd<'_>,
    op: &MountOp,
    missing: Missing,
) -> StepResult<OwnedFd> {
    let opened = if op.links.target_is_itself {
        path::open_or_make_nofollow(root, &op.destination, missing)
    } else {
        path::open_or_make(root, &op.destination, missing)
    };
    let target = opened.map_err(|errno| target_error(root, op, missing, errno))?;
    check_target(root, op, target)
}

/// Like `open_target`, but refuses a path with a symbolic link.
pub(super) fn open_ordinary_directory(root: BorrowedFd<'_>, op: &MountOp) -> StepResult<OwnedFd> {
    if weakened::lacks("ordinary-directory") {
        return open_target(root, op, Missing::Directory);
    }
    let opened = match open_target_without_links(root, op, OFlag::O_DIRECTORY) {
        Err(Errno::ENOENT) => {
            open_target(root, op, Missing::Directory)?;
            open_target_without_links(root, op, OFlag::O_DIRECTORY)
                .map_err(failed("openat2", || describe_mount(op)))
        }
        other => other.map_err(failed("openat2", || {
            format!(
                "{}: must be mounted on ordinary directory",
                describe_mount(op)
            )
        })),
    };
    check_target(root, op, opened?)
}

fn open_target_without_links(root: BorrowedFd<'_>, op: &MountOp, flags: OFlag) -> Result<OwnedFd> {
    let relative = op.destination.strip_prefix("/").unwrap_or(&op.destination);
    let path = path::c_path(relative.as_os_str())?;
    path::open_without_links(root, &path, OFlag::O_PATH | flags)
}

/// The reason why no mount point is made in a cgroup file system or a similar one.
const KERNEL_OBJECTS_REASON: &str =
    "a new entry there would be an object of the host, like a cgroup or a message queue";

/// Makes the error for a destination that can't be opened. If the destination is missing, the
/// message names the nearest directory above it that exists.
fn target_error(root: BorrowedFd<'_>, op: &MountOp, missing: Missing, errno: Errno) -> Failed {
    let exists = |path: &Path| {
        let path = path::c_path(path.as_os_str())?;
        path::open_in_root(root, &path, OFlag::O_PATH)
    };
    let mut above = op.destination.ancestors();
    let within = above.find_map(|path| Some((path, exists(path).ok()?)));
    match within.filter(|(within, _)| *within != op.destination) {
        Some((within, found)) => {
            let what = format!(
                "{}: make the mount point in {}",
                describe_mount(op),
                within.display()
            );
            let call = match missing {
                Missing::Directory => "mkdirat",
                Missing::File => "openat2",
            };
            let mut failure = Failed::new(what, call, errno);
            if path::has_kernel_objects(found.as_fd()) == Ok(true) {
                failure.detail = KERNEL_OBJECTS_REASON.into();
            }
            failure
        }
        None => Failed::new(
            format!("{}: open the mount point", describe_mount(op)),
            "openat2",
            errno,
        ),
    }
}

/// Refuses a destination inside a procfs, unless the plan allows it and no symbolic link leads
/// there. A mount in a procfs could redirect what the runtime writes to it (CVE-2019-16884). A
/// symbolic link of the image or an earlier mount may have led there.
fn check_target(root: BorrowedFd<'_>, op: &MountOp, target: OwnedFd) -> StepResult<OwnedFd> {
    let what = || format!("{}: look at the mount point", describe_mount(op));
    if weakened::lacks("procfs-target") {
        return Ok(target);
    }
    if !procfs::is_in_procfs(target.as_fd()).map_err(failed("fstatfs", what))? {
        return Ok(target);
    }
    let id = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let found = id(&target).map_err(failed("fstat", what))?;
    let by_name =
        || open_target_without_links(root, op, OFlag::empty()).and_then(|named| id(&named));
    if op.may_find_procfs && by_name() == Ok(found) {
        return Ok(target);
    }
    let refused = format!("{}: the mount point is inside a procfs", describe_mount(op));
    Err(Failed::from_sentence(refused))
}
