//! Checks the sources of mounts, and warns of mounts that later mounts cover.
//! Options and types are checked by the planner.

use std::ffi::CStr;
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::{All, Problem};
use crate::diagnosis::Code;
use crate::error::Failed;
use crate::plan::Plan;
use crate::plan::rootfs::{MountOp, MountSource};
use crate::program;
use crate::spec::paths::clean;
use crate::sys::path;

/// Checks all mounts.
pub(super) fn check(plan: &Plan, all: &mut All) {
    let mounts = &plan.rootfs.mounts;
    for (at, op) in mounts.iter().enumerate() {
        check_source(op, all);
        let later = mounts.get(at + 1..).unwrap_or_default();
        let covers = |other: &&MountOp| op.destination.starts_with(&other.destination);
        if let Some(other) = later.iter().find(covers) {
            let problem = format!(
                "is covered by mounts[{}], which is made later at {}",
                other.index,
                other.destination.display()
            );
            let field = format!("mounts[{}].destination", op.index);
            all.warn(Code::InvalidMount, field, problem);
        }
    }
}

/// Checks that the source of a bind mount exists. A source inside the container's root isn't
/// checked, because an earlier mount may provide it.
fn check_source(op: &MountOp, all: &mut All) {
    let MountSource::Bind { path, .. } = &op.source else {
        return;
    };
    let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    flags.set(OFlag::O_NOFOLLOW, op.mounts_link_itself());
    if let Err(errno) = crate::sys::open(path, flags, Mode::empty()) {
        let failed = Failed::new(op.describe_opening(path), "open_tree", errno);
        all.error(Problem::Failed(failed));
    }
}

/// Returns true if a file of the container may be below a mount. Then the root file system doesn't
/// show whether the file exists.
pub(super) fn may_cover(plan: &Plan, root: &program::Root<'_>, file: &CStr) -> bool {
    let is_below_mount = |file: &Path| {
        let mut mounts = plan.rootfs.mounts.iter();
        mounts.any(|op| clean(file).starts_with(&op.destination))
    };
    let mut file = path::as_path(file).to_owned();
    // Symbolic links may lead below a mount.
    for _ in 0..MOST_LINKS {
        if is_below_mount(&file) {
            return true;
        }
        let goal = path::c_path(file.as_os_str()).and_then(|file| {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
            path::read_link(path::open_in_root(root.root, &file, flags)?.as_fd())
        });
        match (goal, file.parent()) {
            (Ok(goal), Some(parent)) => file = parent.join(goal),
            _ => return false,
        }
    }
    false
}

/// The largest number of symbolic links that the kernel follows in a path.
const MOST_LINKS: usize = 40;
