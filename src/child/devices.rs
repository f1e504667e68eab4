//! Device nodes and the links of /dev.
//! Each is made relative to a descriptor of its directory, so that a symbolic link in the image
//! can't redirect it (CVE-2026-41579, CVE-2026-47766).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mknodat, stat};

use super::StepResult;
use crate::detached::DetachedMount;
use crate::error::{Failed, failed};
use crate::plan::devices::{DEV_LINKS, DeviceNode};
use crate::sys::path::{self, Missing};
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, mount, weakened};

pub(super) fn make_nodes(nodes: &[DeviceNode], root: BorrowedFd<'_>) -> StepResult {
    if nodes.is_empty() {
        return Ok(());
    }
    let dev = open_or_make_dir(root, Path::new("/dev"))?;
    for node in nodes {
        match make_node_below(node, root, dev.as_fd()) {
            // The kernel lets only root of the initial user namespace make devices. The caller is
            // root of another one, so bind the host's node.
            Err(failure) if failure.errno == Errno::EPERM && node.is_privileged() => {
                bind_node(node, open_host_node(node)?, root)?;
            }
            made => made?,
        }
    }
    Ok(())
}

/// Binds device nodes in a user namespace, because its root can make only FIFOs. The nodes come
/// from the parent (`trees`), or if `unprivileged` from the host's /dev.
pub(super) fn bind_nodes(
    nodes: &[DeviceNode],
    mut trees: impl Iterator<Item = DetachedMount>,
    root: BorrowedFd<'_>,
    unprivileged: bool,
) -> StepResult {
    for node in nodes {
        if !node.is_privileged() {
            let dev = open_or_make_dir(root, Path::new("/dev"))?;
            make_node_below(node, root, dev.as_fd())?;
        } else if unprivileged {
            bind_node(node, open_host_node(node)?, root)?;
        } else {
            let tree = trees.next().ok_or(Errno::EBADF);
            bind_node(
                node,
                tree.map_err(failed("recvmsg", || node.describe_opening()))?,
                root,
            )?;
        }
    }
    Ok(())
}

/// Opens the host's node. Its path is valid because this process is still in the host's root.
fn open_host_node(node: &DeviceNode) -> StepResult<DetachedMount> {
    DetachedMount::open_device(&node.path, node.kind, node.device_number())
        .map_err(failed("open_tree", || node.describe_opening()))
}

/// Binds the node in `tree` onto the path of `node`. Makes a file there if none exists.
fn bind_node(node: &DeviceNode, tree: DetachedMount, root: BorrowedFd<'_>) -> StepResult {
    let what = || format!("bind {}", node.describe_device());
    let target =
        path::open_or_make(root, &node.path, Missing::File).map_err(failed("openat2", what))?;
    mount::move_mount(tree.fd.as_fd(), target.as_fd()).map_err(failed("move_mount", what))
}

fn make_node_below(node: &DeviceNode, root: BorrowedFd<'_>, dev: BorrowedFd<'_>) -> StepResult {
    match node.path.parent() {
        Some(parent) if parent != Path::new("/dev") => {
            if lies_in_hosts_dev(parent, root) {
                return check_host_node(node, root);
            }
            make_node(node, open_or_make_dir(root, parent)?.as_fd())
        }
        _ => make_node(node, dev),
    }
}

/// True for a directory, existing or not, that lies in the file system of the host's /dev. The
/// container may have a bind mount of that file system.
fn lies_in_hosts_dev(dir: &Path, root: BorrowedFd<'_>) -> bool {
    let existing = dir.ancestors().find_map(|path| {
        let path = path::c_path(path.as_os_str()).ok()?;
        path::open_in_root(root, &path, OFlag::O_PATH).ok()
    });
    let device = |path| stat(path).map(|stat| stat.st_dev);
    // This process is still in the host's root.
    match (existing.map(fstat), device("/dev"), device("/")) {
        (Some(Ok(stat)), Ok(dev), Ok(top)) => stat.st_dev == dev && dev != top,
        _ => false,
    }
}

/// Checks that the planned node already exists in the host's /dev, and changes nothing there.
fn check_host_node(node: &DeviceNode, root: BorrowedFd<'_>) -> StepResult {
    let found = path::c_path(node.path.as_os_str())
        .and_then(|path| path::open_in_root(root, &path, OFlag::O_PATH | OFlag::O_NOFOLLOW))
        .and_then(fstat);
    match found {
        Ok(stat) if is_planned_node(node, &stat) => Ok(()),
        _ => Err(Failed::from_sentence(format!(
            "make {}: it would be in the host's /dev",
            node.describe_device()
        ))),
    }
}

/// Makes the symbolic links of /dev.
pub(super) fn make_dev_links(root: BorrowedFd<'_>) -> StepResult {
    let dev = open_or_make_dir(root, Path::new("/dev"))?;
    for (name, target) in DEV_LINKS {
        match nix::unistd::symlinkat(target, &dev, name) {
            Ok(()) => {}
            // Keep a file of the image, except ptmx. A terminal must come from the container's
            // devpts and not from the image's ptmx.
            Err(Errno::EEXIST) if name != c"ptmx" => {}
            Err(Errno::EEXIST) => replace_ptmx(dev.as_fd(), name, target)?,
            Err(errno) => {
                let what = format!("make the link /dev/{}", name.to_string_lossy());
                return Err(Failed::new(what, "symlinkat", errno));
            }
        }
    }
    Ok(())
}

fn replace_ptmx(dev: BorrowedFd<'_>, name: &std::ffi::CStr, target: &std::ffi::CStr) -> StepResult {
    let what = || "replace /dev/ptmx by a link to pts/ptmx".to_owned();
    nix::unistd::unlinkat(dev, name, nix::unistd::UnlinkatFlags::NoRemoveDir)
        .map_err(failed("unlinkat", what))?;
    nix::unistd::symlinkat(target, dev, name).map_err(failed("symlinkat", what))
}

fn open_or_make_dir(root: BorrowedFd<'_>, dir: &Path) -> StepResult<OwnedFd> {
    path::open_or_make(root, dir, Missing::Directory).map_err(failed("openat2", || {
        format!("open {} in the root", dir.display())
    }))
}

fn make_node(node: &DeviceNode, dir: BorrowedFd<'_>) -> StepResult {
    let what = || format!("make {}", node.describe_device());
    let name =
        path::c_path(node.path.file_name().unwrap_or_default()).map_err(failed("mknodat", what))?;
    let mode = Mode::from_bits_truncate(node.mode);
    let owned = (node.uid, node.gid) != (0, 0);
    let new = match mknodat(dir, name.as_c_str(), node.kind, mode, node.device_number()) {
        Ok(()) if !owned => return Ok(()),
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(Failed::new(what(), "mknodat", errno)),
    };
    // From here on, use only a descriptor. In a volume, another process may replace the file at any
    // time, even by a link to a file of the host.
    let file = if weakened::lacks("nodes") {
        crate::sys::open_at(dir, name.as_c_str(), OFlag::O_PATH, Mode::empty())
    } else {
        path::open_child(dir, &name, OFlag::O_PATH, 0)
    };
    let file = file.map_err(failed("openat2", what))?;
    let stat = fstat(&file).map_err(failed("fstat", what))?;
    if !is_planned_node(node, &stat) && !weakened::lacks("nodes") {
        let problem = if new {
            "it was exchanged meanwhile"
        } else {
            "something else is there already"
        };
        return Err(Failed::from_sentence(format!("{}: {problem}", what())));
    }
    if owned {
        path::set_owner(file.as_fd(), node.uid, node.gid).map_err(failed("fchownat", what))?;
    }
    if new {
        return Ok(());
    }
    set_mode(file.as_fd(), node.mode).map_err(failed("fchmodat2", what))
}

/// True if the file is the node of the plan. A FIFO has no device numbers to compare.
fn is_planned_node(node: &DeviceNode, stat: &FileStat) -> bool {
    path::is_file_type(stat, node.kind)
        && (node.kind == SFlag::S_IFIFO || stat.st_rdev == node.device_number())
}

/// Sets permissions through a descriptor. Falls back to procfs if the kernel has no fchmodat2
/// (ENOSYS), or if a seccomp filter that doesn't know the call refuses it (EPERM).
fn set_mode(file: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    match path::set_mode(file, mode) {
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let proc = match Procfs::private() {
                Err(Errno::EPERM) => Procfs::open(),
                made => made,
            };
            proc?.set_mode(file, mode)
        }
        other => other,
    }
}
