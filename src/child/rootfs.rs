//! The container's file system: its mounts and device nodes.
//! `entry` attaches and enters the root. `masks` makes paths masked and read-only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;

use super::inside::RootSources;
use super::targets::{describe_mount, open_ordinary_directory, open_target};
use super::{StepResult, add_detail_for, copy_up, devices, entry, locked, visitor};
use crate::detached::DetachedMount;
use crate::error::{Failed, failed};
use crate::origin::config;
use crate::plan::Plan;
use crate::plan::namespaces::Namespaces;
use crate::plan::rootfs::{MountOp, MountSource, NewFilesystem, RootEntry};
use crate::protocol::{JoinedPidNamespace, Message, receive, send};
use crate::sys::mount::{self, Attributes, Context, NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::path::{self, Missing};
use crate::sys::procfs::is_procfs;
use crate::sys::{Errno, Result, process};
use crate::timeline::{self, Phase};

/// Mounts whose read-only flag changes after everything in the root is made. Most become read-only.
/// Mounts of the host's file systems become writable, because until then nothing may be made there.
pub(super) type LateReadonly<'a> = Vec<(&'a MountOp, OwnedFd)>;

/// Builds the file system in this mount namespace. Returns its root.
pub(super) fn build_rootfs<'a>(
    plan: &'a Plan,
    link: BorrowedFd<'_>,
    root: Option<OwnedFd>,
    trees: Vec<DetachedMount>,
    pid_namespace: Option<&JoinedPidNamespace>,
) -> StepResult<(OwnedFd, LateReadonly<'a>)> {
    timeline::begin_step(Phase::Rootfs);
    let root = match root {
        Some(root) => root,
        None => entry::open_root(plan)?,
    };
    let mut readonly_last = Vec::new();
    if plan.rootfs.entry == RootEntry::Chroot {
        return Ok((root, readonly_last));
    }
    if !plan.parent_attaches_root() {
        entry::attach_root(plan, root.as_fd())?;
    }
    nix::unistd::fchdir(&root).map_err(failed("fchdir", || plan.opening_root()))?;
    let mut trees = trees.into_iter();
    let place = Place {
        link,
        root: root.as_fd(),
        inside: RootSources::new(root.as_fd()),
        pid_namespace,
        namespaces: &plan.namespaces,
    };
    for (at, op) in plan.rootfs.mounts.iter().enumerate() {
        let tree = op.is_opened_by_parent(&plan.namespaces);
        let tree = tree.then(|| trees.next().ok_or(Errno::EBADF));
        let made = {
            let _span = timeline::begin_span(Phase::Mount, at);
            place.mount(op, tree)?
        };
        if made.is_readonly_last {
            readonly_last.push((op, made.fd));
        }
    }
    let _span = timeline::begin_span(Phase::Devices, 0);
    if plan.namespaces.user.is_some() {
        let unprivileged = plan.namespaces.unprivileged;
        devices::bind_nodes(&plan.devices, trees, root.as_fd(), unprivileged)?;
    } else {
        devices::make_nodes(&plan.devices, root.as_fd())?;
    }
    if plan.device_links {
        devices::make_dev_links(root.as_fd())?;
    }
    Ok((root, readonly_last))
}

/// The input that all mounts share: the container's root, and where their sources come from.
pub(super) struct Place<'a> {
    pub(super) link: BorrowedFd<'a>,
    pub(super) root: BorrowedFd<'a>,
    pub(super) inside: RootSources<'a>,
    pub(super) pid_namespace: Option<&'a JoinedPidNamespace>,
    pub(super) namespaces: &'a Namespaces,
}

/// A mount that was made.
pub(super) struct Made {
    pub(super) fd: OwnedFd,
    /// True if the read-only flag of the mount changes after everything in the root is made.
    pub(super) is_readonly_last: bool,
}

impl Place<'_> {
    /// Makes one mount. `tree` is the source of a bind, if the parent has opened it.
    pub(super) fn mount(
        &self,
        op: &MountOp,
        tree: Option<Result<DetachedMount>>,
    ) -> StepResult<Made> {
        let tree = match &op.source {
            MountSource::Filesystem(filesystem) => {
                return mount_new_filesystem(self.root, op, filesystem, self.pid_namespace);
            }
            MountSource::Bind { path, recursive } => {
                let opened = match tree {
                    Some(tree) => tree,
                    None if op.mounts_link_itself() => DetachedMount::open_link(path, *recursive),
                    None => DetachedMount::open(path, *recursive),
                };
                opened
                    .map_err(failed("open_tree", || op.describe_opening(path)))
                    .map_err(|failure| match self.namespaces.unprivileged {
                        true => add_detail_for(failure, Errno::EINVAL, HIDDEN_FILES_HINT),
                        false => failure,
                    })?
            }
            MountSource::Inside { path, recursive } => {
                let opened = self.inside.open_source(op, path, *recursive);
                let tree = opened.map_err(failed("open_tree", || op.describe_opening(path)))?;
                match op.idmap {
                    Some(_) => have_ids_mapped(self.link, tree)?,
                    None => tree,
                }
            }
        };
        attach_bind(self.root, op, &tree)?;
        Ok(Made {
            fd: tree.fd,
            is_readonly_last: false,
        })
    }
}

/// The explanation of EINVAL for a source, if the caller isn't root.
pub(crate) const HIDDEN_FILES_HINT: &str =
    "in a user namespace, a bind can't leave out the mounts below its source; rbind includes them";

/// Has the parent map the ids of a tree. This requires rights over its file system that root of a
/// user namespace doesn't have.
fn have_ids_mapped(link: BorrowedFd<'_>, tree: DetachedMount) -> StepResult<DetachedMount> {
    let message = Message::DetachedMount(tree);
    send(link, &message).map_err(failed("sendmsg", || "send the parent a mount".into()))?;
    match (message, receive(link)) {
        (Message::DetachedMount(tree), Ok(Some(Message::IdsMapped))) => Ok(tree),
        // The parent has failed, and reports the reason itself.
        _ => process::exit_now(1),
    }
}

/// Attaches a tree of the host. The attributes are set while the tree is still detached, so that no
/// process ever sees the tree without them.
fn attach_bind(root: BorrowedFd<'_>, op: &MountOp, tree: &DetachedMount) -> StepResult {
    if op.links.copied
        && let Some(goal) = path::link_target(tree.fd.as_fd())
    {
        return path::make_link(root, &op.destination, &goal).map_err(failed("symlinkat", || {
            format!(
                "{}: copy the link to {}",
                describe_mount(op),
                goal.to_string_lossy()
            )
        }));
    }
    set_mount_attributes(tree.fd.as_fd(), op)?;
    let missing = if tree.is_directory {
        Missing::Directory
    } else {
        Missing::File
    };
    let target = open_target(root, op, missing)?;
    attach_mount(tree.fd.as_fd(), tree.is_directory, op, target.as_fd())
}

/// Attaches a mount to its destination.
fn attach_mount(
    mounted: BorrowedFd<'_>,
    is_directory: bool,
    op: &MountOp,
    target: BorrowedFd<'_>,
) -> StepResult {
    mount::move_mount(mounted, target).map_err(|errno| {
        let found =
            nix::sys::stat::fstat(target).map(|stat| path::is_file_type(&stat, SFlag::S_IFDIR));
        // move_mount returns EINVAL for a directory on a file or the reverse. Report ENOTDIR like
        // mount(2), because engines search for it.
        let mismatch = errno == Errno::EINVAL && found != Ok(is_directory);
        let errno = if mismatch { Errno::ENOTDIR } else { errno };
        Failed::new(describe_mount(op), "move_mount", errno)
    })
}

fn set_mount_attributes(tree: BorrowedFd<'_>, op: &MountOp) -> StepResult {
    let change = |recursive, attributes| {
        if attributes == Attributes::default() {
            return Ok(());
        }
        locked::set_attributes(tree, recursive, attributes)
            .map_err(failed("mount_setattr", || describe_mount(op)))
    };
    change(true, op.recursive)?;
    change(false, op.top)?;
    match op.own_peers {
        Some(recursive) => change(
            recursive,
            Attributes {
                propagation: mount::SHARED,
                ..Attributes::default()
            },
        ),
        None => Ok(()),
    }
}

/// Mounts a new file system.
fn mount_new_filesystem(
    root: BorrowedFd<'_>,
    op: &MountOp,
    filesystem: &NewFilesystem,
    pid_namespace: Option<&JoinedPidNamespace>,
) -> StepResult<Made> {
    let covered = if filesystem.copies_mode {
        covered_directory_mode(root, op)
    } else {
        None
    };
    let target = if filesystem.ordinary_directory {
        open_ordinary_directory(root, op)?
    } else {
        open_target(root, op, Missing::Directory)?
    };
    let context = match pid_namespace.filter(|_| filesystem.kind.as_c_str() == c"proc") {
        Some(pid_namespace) => {
            visitor::open_procfs_of(pid_namespace, root).map_err(|failure| Failed {
                what: format!("{}: {}", describe_mount(op), failure.what).into(),
                ..failure
            })
        }
        None => Context::open(&filesystem.kind).map_err(failed("fsopen", || {
            format!("{}: type {:?}", describe_mount(op), filesystem.kind)
        })),
    };
    let made = context.and_then(|context| make_filesystem(&context, op, filesystem, covered));
    let mounted = match (made, &filesystem.stand_in) {
        (Err(failure), Some(path)) if failure.errno == Errno::EPERM => {
            return bind_stand_in(op, path, target.as_fd());
        }
        (Err(failure), None) if filesystem.ordinary_directory => {
            return Err(add_detail_for(failure, Errno::EPERM, NOT_OWNED_REASON));
        }
        (made, _) => made?,
    };
    if filesystem.copies_up {
        copy_up::copy_contents(target.as_fd(), mounted.as_fd()).map_err(|stuck| {
            let what = format!("{}: copy up {}", describe_mount(op), stuck.path.display());
            Failed::new(what, stuck.call, stuck.errno)
        })?;
    }
    attach_mount(mounted.as_fd(), true, op, target.as_fd())?;
    if let Some(label) = &filesystem.label {
        path::set_label(mounted.as_fd(), label).map_err(failed("fsetxattr", || {
            config("linux.mountLabel").asks_to(format!("{}: set its label", describe_mount(op)))
        }))?;
    }
    let sealed = if filesystem.is_hosts_filesystem() {
        RDONLY
    } else {
        0
    };
    let after = Attributes {
        set: op.recursive.set & !filesystem.late_attributes(op),
        clear: op.recursive.clear & !sealed,
        propagation: op.top.propagation | op.recursive.propagation,
    };
    if after != Attributes::default() {
        mount::mount_setattr(mounted.as_fd(), true, after)
            .map_err(failed("mount_setattr", || describe_mount(op)))?;
    }
    Ok(Made {
        fd: mounted,
        is_readonly_last: filesystem.late_attributes(op) | sealed != 0,
    })
}

/// Makes a detached mount of a new file system.
fn make_filesystem(
    context: &Context,
    op: &MountOp,
    filesystem: &NewFilesystem,
    mode: Option<u32>,
) -> StepResult<OwnedFd> {
    let configure = || -> Result<()> {
        if let Some(source) = &filesystem.source {
            context.set_string(c"source", source)?;
        }
        if let Some(mode) = mode {
            context.set_string(c"mode", &path::c_path(format!("{mode:o}").as_ref())?)?;
        }
        for (key, value) in &filesystem.options {
            match value {
                Some(value) => context.set_string(key, value)?,
                None => context.set_flag(key)?,
            }
        }
        context.create()
    };
    configure().map_err(|errno| {
        let mut failure = Failed::new(describe_mount(op), "fsconfig", errno);
        let mut buffer = [0_u8; 256];
        failure.detail = String::from_utf8_lossy(context.message(&mut buffer)).into();
        failure
    })?;
    // Protect a file system of the host. While its mount is read-only, no later step can make
    // anything in it, whatever path leads there.
    let sealed = if filesystem.is_hosts_filesystem() {
        RDONLY
    } else {
        0
    };
    let mounted = context
        .mount(op.top.set & !filesystem.late_attributes(op) | sealed)
        .map_err(failed("fsmount", || describe_mount(op)))?;
    // The context of a procfs may come from a visitor process. Other processes in the visitor's pid
    // namespace could have replaced that context.
    if filesystem.kind.as_c_str() == c"proc"
        && !is_procfs(mounted.as_fd()).map_err(failed("fstatfs", || describe_mount(op)))?
    {
        return Err(Failed::new(describe_mount(op), "fsmount", Errno::EPROTO));
    }
    Ok(mounted)
}

/// The explanation of EPERM for a file system that shows a namespace.
const NOT_OWNED_REASON: &str = "the user namespace does not own the namespace that it shows, or the host has covered parts of its own";

/// Binds the host's mount of a file system that this process may not mount. The protecting flags of
/// the planned mount, such as `ro` and `nosuid`, apply to the whole tree.
fn bind_stand_in(op: &MountOp, path: &Path, target: BorrowedFd<'_>) -> StepResult<Made> {
    let tree = DetachedMount::open(path, true).map_err(|errno| match errno {
        // Don't report ENOENT, because engines take its text for a missing program.
        Errno::ENOENT => Failed::from_sentence(format!(
            "{}: {NOT_OWNED_REASON}; and the host has no {} to show in its place",
            describe_mount(op),
            path.display()
        )),
        errno => Failed::new(op.describe_opening(path), "open_tree", errno),
    })?;
    let protection = RDONLY | NOSUID | NODEV | NOEXEC;
    let attributes = Attributes {
        set: (op.top.set | op.recursive.set) & protection,
        propagation: mount::SLAVE,
        ..Attributes::default()
    };
    mount::mount_setattr(tree.fd.as_fd(), true, attributes)
        .map_err(failed("mount_setattr", || describe_mount(op)))?;
    mount::move_mount(tree.fd.as_fd(), target)
        .map_err(failed("move_mount", || describe_mount(op)))?;
    Ok(Made {
        fd: tree.fd,
        is_readonly_last: false,
    })
}

/// Returns the permissions of the directory that a mount will cover, or `None` if the directory
/// doesn't exist yet.
fn covered_directory_mode(root: BorrowedFd<'_>, op: &MountOp) -> Option<u32> {
    let path = path::c_path(op.destination.as_os_str()).ok()?;
    let directory = path::open_in_root(root, &path, OFlag::O_PATH).ok()?;
    Some(nix::sys::stat::fstat(&directory).ok()?.st_mode & 0o7777)
}

/// Applies root.readonly and the late changes of `last`, after everything in the root is made.
pub(super) fn apply_late_readonly(
    plan: &Plan,
    root: BorrowedFd<'_>,
    last: &LateReadonly<'_>,
) -> StepResult {
    if plan.rootfs.readonly {
        set_readonly(root, || {
            config("root.readonly").asks_to("make the root read-only")
        })?;
    }
    make_late(last.iter().map(|(op, mounted)| (*op, mounted.as_fd())))
}

/// Applies the late changes of read-only flags.
pub(super) fn make_late<'a>(
    last: impl Iterator<Item = (&'a MountOp, BorrowedFd<'a>)>,
) -> StepResult {
    for (op, mounted) in last {
        match &op.source {
            MountSource::Filesystem(filesystem) if filesystem.is_hosts_filesystem() => {
                let writable = Attributes {
                    clear: RDONLY & !(op.top.set | op.recursive.set),
                    ..Attributes::default()
                };
                mount::mount_setattr(mounted, false, writable)
                    .map_err(failed("mount_setattr", || describe_mount(op)))?;
            }
            _ => set_readonly(mounted, || describe_mount(op))?,
        }
    }
    Ok(())
}

fn set_readonly(mount: BorrowedFd<'_>, what: impl FnOnce() -> String) -> StepResult {
    let attributes = Attributes {
        set: RDONLY,
        ..Attributes::default()
    };
    mount::mount_setattr(mount, false, attributes).map_err(failed("mount_setattr", what))
}
