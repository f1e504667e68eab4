//! What is opened before the clone: the root and the sources of bind mounts as detached trees, namespaces, sockets.
//! All of it is gone with this process if the clone never comes.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, SFlag, fstat};

use super::{Error, Request};
use crate::error::failed;
use crate::plan::Plan;
use crate::plan::rootfs::{Entry, MountOp, Source};
use crate::protocol::{Inherited, Tree};
use crate::state::START_SOCKET;
use crate::sys::mount::{self, Attributes};
use crate::sys::{Errno, ns, path, socket};

/// All descriptors of a create.
pub(crate) struct Prepared {
    /// The parent's end of the link.
    pub(crate) link: OwnedFd,
    pub(crate) inherited: Inherited,
    /// The pid namespace to clone into, if one is joined.
    pub(crate) pid_namespace: Option<OwnedFd>,
}

/// Opens everything.
pub(super) fn prepare(request: &Request<'_>) -> Result<Prepared, Error> {
    let plan = request.plan;
    let (joined, pid_namespace) = namespaces(plan)?;
    let root = root(plan)?;
    let trees = plan
        .rootfs
        .mounts
        .iter()
        .map(tree)
        .collect::<Result<Vec<_>, _>>()?;
    let gate = if request.gated {
        let what = || "make the start socket in the state directory".to_owned();
        Some(socket::listen(request.dir.fd(), START_SOCKET).map_err(failed("bind", what))?)
    } else {
        None
    };
    let (link, childs) =
        socket::pair().map_err(failed("socketpair", || "make the link to the child".into()))?;
    Ok(Prepared {
        link,
        inherited: Inherited {
            link: childs,
            gate,
            root,
            trees,
            joined,
        },
        pid_namespace,
    })
}

type Joined = Vec<(OwnedFd, CloneFlags, String)>;

/// The namespaces to join, each checked to be of its kind; the pid namespace apart, as only a clone enters it.
fn namespaces(plan: &Plan) -> Result<(Joined, Option<OwnedFd>), Error> {
    let (mut joined, mut pid) = (Vec::new(), None);
    for namespace in &plan.namespaces.joined {
        let place = format!("linux.namespaces[{}].path", namespace.index);
        let what = || {
            format!(
                "open the namespace {} (config.json: {place})",
                namespace.path.display()
            )
        };
        // O_NONBLOCK: a path that is no namespace may be a fifo.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let fd = nix::fcntl::open(&namespace.path, flags, Mode::empty())
            .map_err(failed("open", what))?;
        match ns::kind(fd.as_fd()) {
            Ok(kind) if kind == namespace.kind => {}
            Ok(_) => {
                return Err(Error::Unusable(
                    what_name(&namespace.path),
                    place,
                    "it is a namespace of another type".into(),
                ));
            }
            Err(Errno::ENOTTY) => {
                return Err(Error::Unusable(
                    what_name(&namespace.path),
                    place,
                    "it is not a namespace".into(),
                ));
            }
            Err(errno) => return Err(failed("ioctl", what)(errno).into()),
        }
        if namespace.kind == CloneFlags::CLONE_NEWPID {
            pid = Some(fd);
        } else {
            let what = format!(
                "join the namespace {} (config.json: {place})",
                namespace.path.display()
            );
            joined.push((fd, namespace.kind, what));
        }
    }
    Ok((joined, pid))
}

fn what_name(path: &std::path::Path) -> String {
    format!("use {}", path.display())
}

/// The root: a private copy of its mount and all below, so that nothing mounted in the container comes back to the host.
fn root(plan: &Plan) -> Result<Option<OwnedFd>, Error> {
    let path = plan.root_path();
    let what = || {
        format!(
            "open the root file system {} (config.json: root.path)",
            path.display()
        )
    };
    let c_path = path::c_path(path.as_os_str()).map_err(failed("open", what))?;
    if plan.rootfs.entry == Entry::Chroot {
        // In a mount namespace that is joined, the child looks the path up there.
        if plan.namespaces.contains(CloneFlags::CLONE_NEWNS) {
            return Ok(None);
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        return nix::fcntl::open(path, flags, Mode::empty())
            .map(Some)
            .map_err(failed("open", what))
            .map_err(Error::from);
    }
    let tree = mount::open_tree_at(&c_path, true).map_err(failed("open_tree", what))?;
    if !is_directory(&tree).map_err(failed("fstat", what))? {
        return Err(Error::Unusable(
            what_name(path),
            "root.path".into(),
            "it is not a directory".into(),
        ));
    }
    let private = Attributes {
        propagation: mount::PRIVATE,
        ..Attributes::default()
    };
    mount::mount_setattr(tree.as_fd(), true, private).map_err(failed("mount_setattr", what))?;
    Ok(Some(tree))
}

/// What a bind mount shows, cloned from the host.
fn tree(op: &MountOp) -> Result<Option<Tree>, Error> {
    let Source::Bind { path, recursive } = &op.source else {
        return Ok(None);
    };
    let what = || {
        format!(
            "open {} for {} (config.json: mounts[{}].source)",
            path.display(),
            op.destination.display(),
            op.index
        )
    };
    let c_path = path::c_path(path.as_os_str()).map_err(failed("open_tree", what))?;
    let fd = mount::open_tree_at(&c_path, *recursive).map_err(failed("open_tree", what))?;
    let is_directory = is_directory(&fd).map_err(failed("fstat", what))?;
    Ok(Some(Tree { fd, is_directory }))
}

fn is_directory(fd: &OwnedFd) -> Result<bool, Errno> {
    Ok(path::is_kind(&fstat(fd)?, SFlag::S_IFDIR))
}
