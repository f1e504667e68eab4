//! Parent: opens everything that init needs, before the clone: namespaces, sockets, and detached
//! mounts of the root and of the sources of bind mounts.
//! If the clone fails, everything closes with this process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, fstat};

use super::clone::RootAndCwd;
use super::init::CreateRequest;
use super::link::Link;
use super::uncovered::{self, Visit};
use super::{Error, ids, nodes};
use crate::detached::DetachedMount;
use crate::error::failed;
use crate::hooks::Outputs;
use crate::origin::config;
use crate::plan::Plan;
use crate::plan::host::Host;
use crate::plan::ids::Mappings;
use crate::plan::namespaces::{JoinedNamespace, UserNamespace};
use crate::plan::rootfs::{Idmap, MountOp, MountSource, RootEntry};
use crate::plan::route::CloningProcess;
use crate::protocol::{ChildDescriptors, Inherited, JoinedPidNamespace, Message, OpenNamespace};
use crate::state::START_SOCKET_NAME;
use crate::sys::clone::Child;
use crate::sys::procfs::{Procfs, namespace_at};
use crate::sys::{Errno, mount, ns, path, socket};
use crate::views;

/// All descriptors that a create needs.
pub(super) struct PreparedDescriptors {
    pub(super) link: Link,
    pub(super) inherited: Inherited,
    /// Existing namespaces that the parent or an intermediate process enters for the clone.
    pub(super) entered: Vec<OpenNamespace>,
}

/// Opens everything. With a user namespace, `in_container` opens the mounts later.
pub(super) fn prepare(request: &CreateRequest<'_>) -> Result<PreparedDescriptors, Error> {
    let plan = request.plan;
    let ExistingNamespaces {
        joined,
        entered,
        pid_namespace,
    } = namespaces(plan, &request.host.proc)?;
    let builds = plan.rootfs.entry != RootEntry::Chroot;
    let in_user_namespace = plan.namespaces.user.is_some();
    let root = if plan.namespaces.joins(CloneFlags::CLONE_NEWNS) || in_user_namespace && builds {
        // The child opens the root in its mount namespace.
        None
    } else if builds {
        Some(root(plan)?.fd)
    } else {
        Some(directory(plan)?)
    };
    let trees = if in_user_namespace {
        Vec::new()
    } else {
        trees(plan, &request.host.proc, None)?
    };
    let start_socket = if request.waits_for_start {
        let what = || "make the start socket in the state directory".to_owned();
        Some(socket::listen(request.dir.fd(), START_SOCKET_NAME).map_err(failed("bind", what))?)
    } else {
        None
    };
    let (link, other) = Link::make(Error::Init)?;
    let descriptors = ChildDescriptors {
        start_socket,
        root,
        trees,
        joined,
        pid_namespace,
        null: super::descriptors::null(&request.plan.process),
        hook_outputs: match plan.hooks.create_container.is_empty() {
            true => Outputs::default(),
            false => plan.hooks.outputs.open()?,
        },
        waits_for_cgroup: request.plan.driver.moves_init(),
    };
    let inherited = Inherited {
        link: other,
        descriptors,
    };
    Ok(PreparedDescriptors {
        link,
        inherited,
        entered,
    })
}

/// Maps the ids of the child's user namespace, if it has one, and sends the child its detached
/// mounts.
pub(super) fn set_up_user_namespace(
    plan: &Plan,
    host: &Host,
    child: &Child,
    link: &Link,
) -> Result<(), Error> {
    let Some(user) = &plan.namespaces.user else {
        return Ok(());
    };
    let proc = &host.proc;
    match user {
        UserNamespace::New(mappings) if !plan.route.user_is_made_by_intermediate() => {
            ids::write_for(&plan.namespaces, proc, child.pid, mappings)?;
        }
        UserNamespace::Joined(joined, Some(expected)) => {
            let has = host.mappings_of(child.pid);
            if has.is_none_or(|has| !has.is_same(expected)) {
                return Err(Error::Unusable(
                    describe_use(&joined.path),
                    config("linux.uidMappings, linux.gidMappings"),
                    "the user namespace has other mappings".into(),
                ));
            }
        }
        UserNamespace::New(_) | UserNamespace::Joined(_, None) => {}
    }
    if plan.parent_attaches_root() {
        in_container(plan, host, child, link)?;
    }
    link.send(&Message::IdsMapped)
}

/// Opens the sources of the mounts for a child with a user namespace, inside the child's mount
/// namespace. Attaches the root there, and sends all mounts to the child.
///
/// If a tree were cloned in the host's mount namespace, its flags would not be locked. The
/// container could then make it writable, or unmount a mount that covers something. The parent
/// opens the paths with the caller's credentials, because the child may be unable to reach them.
fn in_container(plan: &Plan, host: &Host, child: &Child, link: &Link) -> Result<(), Error> {
    let what = || "visit the container's mount namespace".to_owned();
    let proc = &host.proc;
    let nodes = if plan.devices.is_empty() {
        None
    } else {
        let mappings = host.mappings_of(child.pid);
        let none = || Mappings::new(&[], &[]);
        nodes::make(plan, &mappings.unwrap_or_else(none))?
    };
    let place = RootAndCwd::note()?;
    let own = proc
        .follow(&format!("{}/ns/mnt", std::process::id()), OFlag::O_RDONLY)
        .map_err(failed("open", what))?;
    ns::setns(child.pidfd.as_fd(), CloneFlags::CLONE_NEWNS).map_err(failed("setns", what))?;
    let visit = Visit {
        proc,
        child,
        own: own.as_fd(),
    };
    let opened = open_all(plan, &visit, nodes);
    ns::setns(own.as_fd(), CloneFlags::CLONE_NEWNS).map_err(failed("setns", what))?;
    place.restore()?;
    for tree in opened? {
        link.send(&Message::DetachedMount(tree))?;
    }
    Ok(())
}

/// Opens the root, the sources of bind mounts, and the device nodes. Uses the new device nodes in
/// `made`, or the host's if `made` is `None`. Attaches the root.
fn open_all(
    plan: &Plan,
    visit: &Visit<'_>,
    made: Option<OwnedFd>,
) -> Result<Vec<DetachedMount>, Error> {
    let mut all = vec![root(plan)?];
    all.extend(trees(plan, visit.proc, Some(visit))?);
    let cut = mount::set_root_propagation(mount::SLAVE, true);
    cut.map_err(failed("mount_setattr", || {
        "make / of the container's mount namespace a slave".into()
    }))?;
    if plan.rootfs.entry == RootEntry::Move {
        views::cover_unreachable_views(visit.proc).map_err(failed("move_mount", || {
            "cover the host's procfs and sysfs mounts that the container can't reach (--no-pivot)"
                .into()
        }))?;
    }
    match made {
        Some(made) => {
            // Attach `made` first, so that the root covers it. The child detaches it with the
            // host's root.
            attach(plan, made.as_fd())?;
            all.extend(nodes::trees(plan, made.as_fd())?);
        }
        None => all.extend(nodes::of_host(plan)?),
    }
    if let Some(root) = all.first() {
        attach(plan, root.fd.as_fd())?;
    }
    Ok(all)
}

/// Attaches a tree at the root's path of config.json, in the mount namespace that this process
/// visits. The sources are already open.
fn attach(plan: &Plan, tree: BorrowedFd<'_>) -> Result<(), Error> {
    path::c_path(plan.root_path().as_os_str())
        .and_then(|path| mount::move_mount_to(tree, &path))
        .map_err(failed("move_mount", || plan.attaching_root()))
        .map_err(Error::from)
}

/// Opens the sources of bind mounts, with their id mappings.
fn trees(
    plan: &Plan,
    proc: &Procfs,
    visit: Option<&Visit<'_>>,
) -> Result<Vec<DetachedMount>, Error> {
    let mut trees = Vec::new();
    let child = visit.map(|visit| visit.child);
    let ours = |op: &&MountOp| op.is_opened_by_parent(&plan.namespaces);
    for op in plan.rootfs.mounts.iter().filter(ours) {
        // In a joined mount namespace the path can lead elsewhere, so `uncovered` isn't used.
        let visit = visit.filter(|_| plan.namespaces.has_new_mount());
        let Some(tree) = tree(op, visit)? else {
            continue;
        };
        if let Some(idmap) = &op.idmap {
            map(op, idmap, &tree, proc, child)?;
        }
        trees.push(tree);
    }
    Ok(trees)
}

/// Maps the ids of mounts whose sources are in the container's root. The child sends these mounts.
pub(super) fn map_inside(
    mounts: &[MountOp],
    proc: &Procfs,
    child: &Child,
    link: &Link,
) -> Result<(), Error> {
    for op in mounts {
        let (MountSource::Inside { .. }, Some(idmap)) = (&op.source, &op.idmap) else {
            continue;
        };
        let tree = link.expect(Message::detached_mount)?;
        map(op, idmap, &tree, proc, Some(child))?;
        link.send(&Message::IdsMapped)?;
    }
    Ok(())
}

/// Maps the ids of a mount that is still detached.
pub(super) fn map(
    op: &MountOp,
    idmap: &Idmap,
    tree: &DetachedMount,
    proc: &Procfs,
    child: Option<&Child>,
) -> Result<(), Error> {
    let place = format!("mounts[{}]", op.index);
    let what = || {
        op.origin()
            .asks_to(format!("map the ids of {}", op.destination.display()))
    };
    let namespace = match (&idmap.mappings, child) {
        (Some(mappings), _) => ids::user_namespace(proc, mappings, &place)?,
        (None, Some(child)) => {
            let link = format!("{}/ns/user", child.pid);
            proc.follow(&link, OFlag::O_RDONLY)
                .map_err(failed("open", what))?
        }
        (None, None) => return Err(failed("mount_setattr", what)(Errno::EINVAL).into()),
    };
    mount::set_idmap(tree.fd.as_fd(), idmap.recursive, namespace.as_fd())
        .map_err(failed("mount_setattr", what))
        .map_err(Error::from)
}

/// Existing namespaces, opened and grouped by how they are entered.
struct ExistingNamespaces {
    /// Namespaces that the child joins.
    joined: Vec<OpenNamespace>,
    /// Namespaces that the cloner enters before the clone.
    entered: Vec<OpenNamespace>,
    /// The pid namespace that the child joins for the process that it clones last.
    pid_namespace: Option<JoinedPidNamespace>,
}

/// Opens the namespaces to join, and checks the kind of each.
fn namespaces(plan: &Plan, proc: &Procfs) -> Result<ExistingNamespaces, Error> {
    let mut existing = ExistingNamespaces {
        joined: Vec::new(),
        entered: Vec::new(),
        pid_namespace: None,
    };
    let user = match &plan.namespaces.user {
        Some(UserNamespace::Joined(user, _)) => Some(user),
        _ => None,
    };
    for namespace in plan.namespaces.joined.iter().chain(user) {
        let opened = open_namespace(plan, namespace, proc)?;
        if namespace.kind == CloneFlags::CLONE_NEWPID {
            let early = is_beyond_user_namespace(plan, &opened);
            let namespace = opened;
            existing.pid_namespace = Some(JoinedPidNamespace { namespace, early });
        } else if plan.route.cloner != CloningProcess::Child
            && plan.route.enters.contains(opened.kinds)
        {
            existing.entered.push(opened);
        } else {
            existing.joined.push(opened);
        }
    }
    Ok(existing)
}

/// Opens a namespace to join, and checks its kind.
pub(crate) fn open_namespace(
    plan: &Plan,
    namespace: &JoinedNamespace,
    proc: &Procfs,
) -> Result<OpenNamespace, Error> {
    let place = format!("linux.namespaces[{}].path", namespace.index);
    let what = || {
        config(place.clone()).asks_to(format!("open the namespace {}", namespace.path.display()))
    };
    // O_NONBLOCK is needed because a path that isn't a namespace may be a FIFO.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let fd =
        crate::sys::open(&namespace.path, flags, Mode::empty()).map_err(failed("open", what))?;
    match ns::kind(fd.as_fd()) {
        Ok(kind) if kind == namespace.kind => {}
        Ok(_) => {
            return Err(Error::Unusable(
                describe_use(&namespace.path),
                config(place),
                "it is a namespace of another type".into(),
            ));
        }
        Err(Errno::ENOTTY) => {
            return Err(Error::Unusable(
                describe_use(&namespace.path),
                config(place),
                "it is not a namespace".into(),
            ));
        }
        Err(errno) => return Err(failed("ioctl", what)(errno).into()),
    }
    if namespace.kind == CloneFlags::CLONE_NEWNS && plan.rootfs.entry != RootEntry::Chroot {
        let stat = fstat(&fd).map_err(failed("fstat", what))?;
        let it = Ok((stat.st_dev, stat.st_ino));
        // Refuse the caller's mount namespace and that of pid 1, because both are the host's.
        if ["self/ns/mnt", "1/ns/mnt"]
            .map(|link| proc.namespace(link))
            .contains(&it)
        {
            let why = "it is the host's mount namespace, whose root would be replaced; without this entry the container shares the namespace safely";
            return Err(Error::Unusable(
                describe_use(&namespace.path),
                config(place),
                why.into(),
            ));
        }
    }
    Ok(OpenNamespace {
        fd,
        kinds: namespace.kind,
        what: config(place).asks_to(format!("join the namespace {}", namespace.path.display())),
    })
}

/// True if root of the container's user namespace has no rights over a namespace.
fn is_beyond_user_namespace(plan: &Plan, namespace: &OpenNamespace) -> bool {
    match &plan.namespaces.user {
        None => false,
        Some(UserNamespace::New(_)) => true,
        Some(UserNamespace::Joined(user, _)) => {
            let owner = ns::owner(namespace.fd.as_fd());
            !owner.is_ok_and(|owner| Ok(owner) == namespace_at(&user.path))
        }
    }
}

fn describe_use(path: &std::path::Path) -> String {
    format!("use {}", path.display())
}

/// Returns the error for a root.path that isn't a directory.
pub(crate) fn root_is_no_directory(path: &std::path::Path) -> Error {
    Error::Unusable(
        describe_use(path),
        config("root.path"),
        "it is not a directory".into(),
    )
}

/// Opens the root as a detached mount.
fn root(plan: &Plan) -> Result<DetachedMount, Error> {
    let path = plan.root_path();
    DetachedMount::open_root(path, plan.rootfs.root_propagation_cut()).map_err(
        |errno| match errno {
            Errno::ENOTDIR => root_is_no_directory(path),
            errno => failed("open_tree", || plan.opening_root())(errno).into(),
        },
    )
}

/// Opens the root as a directory, for chroot.
fn directory(plan: &Plan) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    crate::sys::open(plan.root_path(), flags, Mode::empty())
        .map_err(failed("open", || plan.opening_root()))
        .map_err(Error::from)
}

/// Clones the source of a bind mount.
pub(super) fn tree(
    op: &MountOp,
    visit: Option<&Visit<'_>>,
) -> Result<Option<DetachedMount>, Error> {
    let MountSource::Bind { path, recursive } = &op.source else {
        return Ok(None);
    };
    let opened = if op.mounts_link_itself() {
        DetachedMount::open_link(path, *recursive)
    } else {
        DetachedMount::open(path, *recursive)
    };
    match (opened, visit) {
        (Err(Errno::EINVAL), Some(visit)) if !recursive => uncovered::open(path, visit).map(Some),
        (opened, _) => {
            let tree = opened.map_err(failed("open_tree", || op.describe_opening(path)))?;
            Ok(Some(tree))
        }
    }
}
