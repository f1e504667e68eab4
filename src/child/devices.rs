//! Device nodes and the links of /dev, made below descriptors of their directories: a link in the image leads nowhere else
//! (CVE-2026-41579, CVE-2026-47766).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstatat, mknodat};

use super::{Step, because};
use crate::plan::devices::{LINKS, Node};
use crate::protocol::{Failure, Tree};
use crate::sys::path::{self, Missing};
use crate::sys::{Errno, mount};

/// Makes the nodes; each in its directory.
pub(super) fn make(nodes: &[Node], root: BorrowedFd<'_>) -> Step {
    if nodes.is_empty() {
        return Ok(());
    }
    let dev = open_dir(root, Path::new("/dev"))?;
    for node in nodes {
        match make_in(node, root, dev.as_fd()) {
            // As root of a user namespace that the caller is in: the host's node does the same.
            Err(failure) if failure.errno == Errno::EPERM && node.is_privileged() => {
                bind(node, open(node)?, root)?;
            }
            made => made?,
        }
    }
    Ok(())
}

/// The same in a user namespace, whose root makes no device nodes: those of the host are bound, which the parent has opened, or
/// which can be opened by whoever the caller is.
pub(super) fn borrow(
    nodes: &[Node],
    mut trees: impl Iterator<Item = Tree>,
    root: BorrowedFd<'_>,
    unprivileged: bool,
) -> Step {
    for node in nodes {
        if !node.is_privileged() {
            let dev = open_dir(root, Path::new("/dev"))?;
            make_in(node, root, dev.as_fd())?;
        } else if unprivileged {
            bind(node, open(node)?, root)?;
        } else {
            let tree = trees.next().ok_or(Errno::EBADF);
            bind(
                node,
                tree.map_err(because("recvmsg", || node.opening()))?,
                root,
            )?;
        }
    }
    Ok(())
}

/// The host's path: this process' root is still the host's.
fn open(node: &Node) -> Step<Tree> {
    Tree::open_device(&node.path, node.kind, node.device())
        .map_err(because("open_tree", || node.opening()))
}

/// Binds the host's node onto a file that is made for it.
fn bind(node: &Node, tree: Tree, root: BorrowedFd<'_>) -> Step {
    let what = || format!("bind {}", node.place());
    let target =
        path::open_or_make(root, &node.path, Missing::File).map_err(because("openat2", what))?;
    mount::move_mount(tree.fd.as_fd(), target.as_fd()).map_err(because("move_mount", what))
}

fn make_in(node: &Node, root: BorrowedFd<'_>, dev: BorrowedFd<'_>) -> Step {
    match node.path.parent() {
        Some(parent) if parent != Path::new("/dev") => {
            make_node(node, open_dir(root, parent)?.as_fd())
        }
        _ => make_node(node, dev),
    }
}

/// Makes the symbolic links of /dev.
pub(super) fn link(root: BorrowedFd<'_>) -> Step {
    let dev = open_dir(root, Path::new("/dev"))?;
    for (name, target) in LINKS {
        match nix::unistd::symlinkat(target, &dev, name) {
            Ok(()) => {}
            // Whatever has that name comes from the image; ptmx alone must be ours, or a terminal would be the image's.
            Err(Errno::EEXIST) if name != c"ptmx" => {}
            Err(Errno::EEXIST) => replace_ptmx(dev.as_fd(), name, target)?,
            Err(errno) => {
                let what = format!("make the link /dev/{}", name.to_string_lossy());
                return Err(Failure::new(what, "symlinkat", errno));
            }
        }
    }
    Ok(())
}

fn replace_ptmx(dev: BorrowedFd<'_>, name: &std::ffi::CStr, target: &std::ffi::CStr) -> Step {
    let what = || "replace /dev/ptmx by a link to pts/ptmx".to_owned();
    nix::unistd::unlinkat(dev, name, nix::unistd::UnlinkatFlags::NoRemoveDir)
        .map_err(because("unlinkat", what))?;
    nix::unistd::symlinkat(target, dev, name).map_err(because("symlinkat", what))
}

fn open_dir(root: BorrowedFd<'_>, dir: &Path) -> Step<OwnedFd> {
    path::open_or_make(root, dir, Missing::Directory).map_err(because("openat2", || {
        format!("open {} in the root", dir.display())
    }))
}

fn make_node(node: &Node, dir: BorrowedFd<'_>) -> Step {
    let what = || format!("make {}", node.place());
    let name = path::c_path(node.path.file_name().unwrap_or_default())
        .map_err(because("mknodat", what))?;
    let device = node.device();
    match mknodat(
        dir,
        name.as_c_str(),
        node.kind,
        Mode::from_bits_truncate(node.mode),
        device,
    ) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let stat = fstatat(dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(because("fstatat", what))?;
            if !path::is_kind(&stat, node.kind)
                || stat.st_rdev != device && node.kind != nix::sys::stat::SFlag::S_IFIFO
            {
                return Err(Failure::told(format!(
                    "{}: something else is there already",
                    what()
                )));
            }
            // It is known to be no link, and nothing of the container runs yet; still, chmod has no way not to follow one.
            let file =
                path::open_child(dir, &name, OFlag::O_PATH, 0).map_err(because("openat2", what))?;
            let same = nix::sys::stat::fstat(&file).map_err(because("fstat", what))?;
            if (same.st_dev, same.st_ino) != (stat.st_dev, stat.st_ino) {
                return Err(Failure::told(format!(
                    "{}: it was exchanged meanwhile",
                    what()
                )));
            }
            fchmodat(
                dir,
                name.as_c_str(),
                Mode::from_bits_truncate(node.mode),
                FchmodatFlags::FollowSymlink,
            )
            .map_err(because("fchmodat", what))?;
        }
        Err(errno) => return Err(Failure::new(what(), "mknodat", errno)),
    }
    if (node.uid, node.gid) != (0, 0) {
        let (uid, gid) = (
            nix::unistd::Uid::from_raw(node.uid),
            nix::unistd::Gid::from_raw(node.gid),
        );
        nix::unistd::fchownat(
            dir,
            name.as_c_str(),
            Some(uid),
            Some(gid),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .map_err(because("fchownat", what))?;
    }
    Ok(())
}
