//! Opens the sources of binds for a container that exists, in the parent or in a helper process.
//!
//! The kernel locks the flags of a mount, and locks a mount onto what it hides, only when a mount
//! namespace is copied for another user namespace (mount_namespaces(7)). A create has such a copy.
//! For a container that exists, a helper process makes a copy: the host of the sources. The host
//! enters the container's user namespace and no other one, so it sees the same paths as the caller.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;

use super::Error;
use super::clone::RootAndCwd;
use super::intermediate::{die_with, end, make_undumpable};
use super::link::{Link, out_of_order_error, reap};
use super::prepare::{map, tree};
use super::uncovered::Visit;
use crate::detached::DetachedMount;
use crate::error::{Failed, failed};
use crate::plan::rootfs::added::AddedMounts;
use crate::plan::rootfs::{MountOp, MountSource};
use crate::protocol::{self, Message, OpenNamespace};
use crate::sys::clone::{Child, CloneArgs, Side, clone3};
use crate::sys::ns;
use crate::sys::procfs::Procfs;

/// Opens the sources of all binds, in their order.
pub(super) fn open(
    added: &AddedMounts,
    proc: &Procfs,
    user: Option<&OpenNamespace>,
) -> Result<Vec<DetachedMount>, Error> {
    let is_bind = |op: &&MountOp| matches!(op.source, MountSource::Bind { .. });
    let binds: Vec<&MountOp> = added.mounts.iter().filter(is_bind).collect();
    match user {
        None => trees(&binds, proc, None),
        Some(_) if binds.is_empty() => Ok(Vec::new()),
        Some(user) => hosted(&binds, proc, user, added.namespaces.unprivileged),
    }
}

/// Opens sources in the mount namespace that this process is in or visits.
fn trees(
    binds: &[&MountOp],
    proc: &Procfs,
    visit: Option<&Visit<'_>>,
) -> Result<Vec<DetachedMount>, Error> {
    let mut trees = Vec::with_capacity(binds.len());
    for op in binds {
        let Some(tree) = tree(op, visit)? else {
            return Err(out_of_order_error());
        };
        if let Some(idmap) = &op.idmap {
            map(op, idmap, &tree, proc, visit.map(|visit| visit.child))?;
        }
        trees.push(tree);
    }
    Ok(trees)
}

/// Opens sources in the mount namespace of a host. If the caller isn't root, this process can't
/// visit that namespace, so the host opens the sources.
fn hosted(
    binds: &[&MountOp],
    proc: &Procfs,
    user: &OpenNamespace,
    unprivileged: bool,
) -> Result<Vec<DetachedMount>, Error> {
    let what = || "open sources for the container's user namespace".to_owned();
    let (link, other) = Link::make(Error::Failed)?;
    let parent = nix::unistd::getpid();
    let clone = CloneArgs {
        namespaces: CloneFlags::empty(),
        cgroup: None,
        sibling: false,
    };
    let own_binds = if unprivileged { binds } else { &[] };
    let host = match clone3(&clone).map_err(failed("clone3", what))? {
        Side::Parent(host) => host,
        Side::Child => {
            drop(link);
            match settle(own_binds, user, parent, &other) {
                // Stay alive until the parent has opened the sources. It then closes the link.
                Ok(()) => drop(protocol::receive(other.as_fd())),
                Err(failed) => end(&other, &Message::Failed(failed)),
            }
            crate::sys::process::exit_now(0)
        }
    };
    drop(other);
    let trees = match unprivileged {
        true => receive(&link),
        false => receive(&link).and_then(|_| visited(binds, proc, &host)),
    };
    drop(link);
    reap(&host)?;
    trees
}

/// Receives the sources that the host has opened, until the host reports that it is in its
/// namespaces.
fn receive(link: &Link) -> Result<Vec<DetachedMount>, Error> {
    let mut trees = Vec::new();
    loop {
        match link.receive()? {
            Message::DetachedMount(tree) => trees.push(tree),
            Message::Entered => return Ok(trees),
            _ => return Err(out_of_order_error()),
        }
    }
}

/// Runs in the host: enters the user namespace, copies the mount namespace, and opens the sources.
fn settle(
    binds: &[&MountOp],
    user: &OpenNamespace,
    parent: nix::unistd::Pid,
    link: &OwnedFd,
) -> Result<(), Failed> {
    let what = || "copy the mount namespace for the container's user namespace".to_owned();
    die_with(parent)?;
    make_undumpable()?;
    ns::setns(user.fd.as_fd(), CloneFlags::CLONE_NEWUSER).map_err(failed("setns", what))?;
    ns::unshare(CloneFlags::CLONE_NEWNS).map_err(failed("unshare", what))?;
    // Entering the user namespace has cleared the parent death signal and undone `make_undumpable`.
    die_with(parent)?;
    make_undumpable()?;
    let send = |message: &Message| {
        protocol::send(link.as_fd(), message)
            .map_err(failed("sendmsg", || "tell the parent".into()))
    };
    for op in binds {
        let MountSource::Bind { path, recursive } = &op.source else {
            continue;
        };
        let opened = match op.mounts_link_itself() {
            true => DetachedMount::open_link(path, *recursive),
            false => DetachedMount::open(path, *recursive),
        };
        let tree = opened.map_err(failed("open_tree", || op.describe_opening(path)))?;
        send(&Message::DetachedMount(tree))?;
    }
    send(&Message::Entered)
}

/// Opens sources in the mount namespace of the host, with the credentials of this process.
fn visited(binds: &[&MountOp], proc: &Procfs, host: &Child) -> Result<Vec<DetachedMount>, Error> {
    let what = || "visit the copy of the mount namespace".to_owned();
    let place = RootAndCwd::note()?;
    let own = proc
        .follow(&format!("{}/ns/mnt", std::process::id()), OFlag::O_RDONLY)
        .map_err(failed("open", what))?;
    ns::setns(host.pidfd.as_fd(), CloneFlags::CLONE_NEWNS).map_err(failed("setns", what))?;
    let visit = Visit {
        proc,
        child: host,
        own: own.as_fd(),
    };
    let opened = trees(binds, proc, Some(&visit));
    ns::setns(own.as_fd(), CloneFlags::CLONE_NEWNS).map_err(failed("setns", what))?;
    place.restore()?;
    opened
}
