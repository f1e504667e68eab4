//! Adds mounts to an existing container, or removes them. The process that does this stays in the
//! pid namespace of its parent, so that the container doesn't see it.
//! `rootfs` has the code that makes one mount.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use super::inside::RootSources;
use super::rootfs::{Made, Place, make_late};
use super::{
    StepResult, close_fds_and_start_session, identity, labels, make_undumpable, namespaces,
    switch_to_namespace_ids,
};
use crate::detached::DetachedMount;
use crate::error::{Failed, failed};
use crate::origin::Origin;
use crate::plan::rootfs::MountSource;
use crate::plan::rootfs::added::{AddedMounts, RemovedMounts};
use crate::protocol::{ChildDescriptors, Message, OpenNamespace, receive, send};
use crate::sys::procfs::{Procfs, errno_of};
use crate::sys::{Errno, mount, path, process};

/// Adds all mounts, or none. Sends each mount to the parent, then Ready. If the parent doesn't
/// answer Go, removes the mounts again.
pub(super) fn add(
    added: &AddedMounts,
    link: &mut OwnedFd,
    descriptors: ChildDescriptors,
) -> StepResult {
    let (root, trees, proc) = enter(link, descriptors, added.owner)?;
    let mut made = Vec::with_capacity(added.mounts.len());
    let done = attach(added, link.as_fd(), root.as_fd(), trees, &mut made)
        .and_then(|()| tell(link.as_fd(), made.iter().map(|made| &made.fd)));
    let kept = done.is_ok() && matches!(receive(link.as_fd()), Ok(Some(Message::Go)));
    if kept {
        process::exit_now(0)
    }
    for mounted in made.iter().rev() {
        // Ignore errors, because the container may have moved or unmounted the mount itself.
        let _ = proc.detach(mounted.fd.as_fd());
    }
    done
}

fn attach(
    added: &AddedMounts,
    link: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    trees: Vec<DetachedMount>,
    made: &mut Vec<Made>,
) -> StepResult {
    let place = Place {
        link,
        root,
        inside: RootSources::new(root),
        pid_namespace: None,
        namespaces: &added.namespaces,
    };
    let mut trees = trees.into_iter();
    for op in &added.mounts {
        let tree = matches!(op.source, MountSource::Bind { .. });
        let tree = tree.then(|| trees.next().ok_or(Errno::EBADF));
        made.push(place.mount(op, tree)?);
    }
    let last = added.mounts.iter().zip(made.iter());
    let last = last.filter(|(_, made)| made.is_readonly_last);
    make_late(last.map(|(op, made)| (op, made.fd.as_fd())))
}

/// Sends the parent the mounts that were made or removed, then Ready.
fn tell<'a>(link: BorrowedFd<'_>, mounts: impl Iterator<Item = &'a OwnedFd>) -> StepResult {
    let tell = |message: &Message| {
        send(link, message).map_err(failed("sendmsg", || "tell the parent".into()))
    };
    for mounted in mounts {
        let fd = mounted.try_clone().map_err(|error| {
            Failed::new("copy the descriptor of a mount", "fcntl", errno_of(&error))
        })?;
        tell(&Message::Attached(fd))?;
    }
    tell(&Message::Ready)
}

/// Removes all mounts, or none. For this, looks up all mounts before it removes the first.
pub(super) fn remove(
    removed: &RemovedMounts,
    link: &mut OwnedFd,
    descriptors: ChildDescriptors,
) -> StepResult {
    let (root, _, proc) = enter(link, descriptors, removed.owner)?;
    let mut found = Vec::with_capacity(removed.destinations.len());
    for (origin, destination) in &removed.destinations {
        let what = || unmounting(origin, destination);
        let path = path::c_path(destination.as_os_str()).map_err(failed("openat2", what))?;
        let opened = path::open_in_root(root.as_fd(), &path, OFlag::O_PATH);
        let opened = opened.map_err(failed("openat2", what))?;
        let holder = mount::holder(opened.as_fd()).map_err(failed("statx", what))?;
        if !holder.is_its_root || !removed.ids.contains(&holder.id) {
            let what = format!(
                "{}: the mount there isn't one that mounts add has made",
                what()
            );
            return Err(Failed::from_sentence(what));
        }
        found.push((what(), opened));
    }
    // What was mounted last may lie in what was mounted first.
    for (index, (what, mounted)) in found.iter().rev().enumerate() {
        match proc.detach(mounted.as_fd()) {
            // A mount that an earlier one held went with it.
            Err(Errno::EINVAL) if index > 0 => {}
            detached => detached.map_err(failed("umount2", || what.clone()))?,
        }
    }
    tell(link.as_fd(), found.iter().map(|(_, mounted)| mounted))?;
    process::exit_now(0)
}

fn unmounting(origin: &Origin, destination: &std::path::Path) -> String {
    origin.asks_to(format!("unmount {}", destination.display()))
}

/// Joins the container's namespaces except its pid namespace, and switches to the ids `owner` in
/// its user namespace. Returns the container's root, the sources that the parent has opened, and
/// the host's procfs.
fn enter(
    link: &OwnedFd,
    descriptors: ChildDescriptors,
    owner: Option<(u32, u32)>,
) -> StepResult<(OwnedFd, Vec<DetachedMount>, Procfs)> {
    close_fds_and_start_session(link, 0, &descriptors)?;
    make_undumpable()?;
    let ChildDescriptors { trees, joined, .. } = descriptors;
    let proc = labels::open_host_procfs()?;
    let is_user = |one: &OpenNamespace| one.kinds.contains(CloneFlags::CLONE_NEWUSER);
    let user = owner.filter(|_| joined.iter().any(is_user));
    // Drop the caller's groups, because they could let this process make mount points where root of
    // the container may not.
    if user.is_some() && process::effective_uid() == 0 {
        identity::set_groups(&[]).map_err(failed("setgroups", || "drop the groups".into()))?;
    }
    namespaces::join_namespaces(&joined)?;
    if let Some(owner) = user {
        switch_to_namespace_ids(owner, link)?;
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = crate::sys::open(c"/", flags, Mode::empty())
        .map_err(failed("open", || "open the container's root".into()))?;
    // If the parent is killed, this process must live to take its mounts back. It learns that from
    // the link.
    process::set_dies_with_parent(false)
        .map_err(failed("prctl", || "clear the parent death signal".into()))?;
    Ok((root, trees, proc))
}
