//! The child: from clone to exec, a straight line of numbered steps (the order is the kernel's, see each step).
//! Decides nothing: it walks a plan, and says what failed.
//!
//! A child never logs and never panics; it allocates only small things. Whatever fails is sent to the parent as one message.

mod copy_up;
mod detached_root;
mod devices;
mod entry;
mod exec;
mod filter;
mod hooks;
mod identity;
mod inside;
mod labels;
mod locked;
mod masks;
mod namespaces;
mod null;
mod rootfs;
mod start_socket;
mod targets;
mod terminal;
mod visitor;

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sched::CloneFlags;

use exec::Course;
use start_socket::StartSocket;

use crate::detached::DetachedMount;
use crate::error::{Failed, failed};
use crate::hooks::About;
use crate::lsm::Labels;
use crate::origin::config;
use crate::plan::Plan;
use crate::plan::exec::ExecPlan;
use crate::plan::process::Process;
use crate::plan::rootfs::Entry;
use crate::plan::seccomp::Filter;
use crate::protocol::{Descriptors, Inherited, Message, Namespace, receive, send};
use crate::sys::process::Strings;
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, ns, path, process, socket, weakened};

/// What a step answers.
type Step<T = ()> = Result<T, Failed>;

/// Becomes the first process of a container.
pub(crate) fn init(plan: &Plan, about: &About, ignored_signals: &[i32], inherited: Inherited) -> ! {
    finish(inherited, |link, descriptors| {
        init_steps(plan, about, ignored_signals, link, descriptors)
    })
}

/// Becomes a further process of a container.
pub(crate) fn exec(exec: &ExecPlan, ignored_signals: &[i32], inherited: Inherited) -> ! {
    finish(inherited, |link, descriptors| {
        exec_steps(exec, ignored_signals, link, descriptors)
    })
}

/// Walks the steps, and sends what failed to the process that listens at that point: the parent, later `start`.
fn finish(inherited: Inherited, steps: impl FnOnce(&mut OwnedFd, Descriptors) -> Step) -> ! {
    let Inherited {
        mut link,
        descriptors,
    } = inherited;
    if let Err(failed) = steps(&mut link, descriptors) {
        // Nobody is left who could be told that this failed too.
        let _ = send(link.as_fd(), &Message::Failed(failed));
    }
    process::exit_now(1)
}

fn init_steps(
    plan: &Plan,
    about: &About,
    ignored_signals: &[i32],
    link: &mut OwnedFd,
    descriptors: Descriptors,
) -> Step {
    // 0. Nothing of the parent's stays open: a descriptor of the host's file system is a way out (CVE-2024-21626).
    begin(link, plan.preserve_fds, &descriptors)?;
    let Descriptors {
        start_socket,
        mut root,
        mut trees,
        joined,
        pid_namespace,
        null,
        waits_for_cgroup,
    } = descriptors;
    if !plan.namespaces.is_mapped_by_user() {
        hide()?;
    }
    // Before anything that is charged to a cgroup.
    if waits_for_cgroup {
        wait_for_cgroup(link);
        // It is rooted at the cgroup of the process that makes it.
        if !plan.route.unshares.is_empty() {
            ns::unshare(plan.route.unshares)
                .map_err(failed("unshare", || "make a cgroup namespace".into()))?;
        }
    }
    // Here or below: namespaces that exist. Where the process isn't born last, the clone has made the
    // new ones, and those that only a clone enters were entered by it.
    let proc = match &pid_namespace {
        Some(pid_namespace) => Some(namespaces::enter_all(plan, &joined, pid_namespace, link)?),
        None => None,
    };
    // Root of a user namespace, and what is mounted in it, once the parent has mapped the ids.
    if plan.namespaces.user.is_some() {
        trees = enter_user_namespace(
            link,
            &plan.process,
            plan.namespaces.unprivileged || plan.process.keeps_groups,
        )?;
        if !trees.is_empty() {
            root = Some(trees.remove(0).fd);
        }
    }
    // 1. Namespaces that exist.
    if pid_namespace.is_none() {
        namespaces::join(&joined)?;
    }
    drop(joined);
    let told = plan.namespaces.unprivileged;
    let start_socket =
        start_socket.map(|socket| StartSocket::new(socket, told, pid_namespace.as_ref()));
    // 2. A keyring of its own: the caller's would hand its keys to the container.
    keyring(plan.keyring.as_deref(), &plan.process, proc.as_ref(), true)?;
    // 3. What lives in the new namespaces.
    furnish(plan)?;
    let callers = if plan.rootfs.detached_root {
        Some(detached_root::enter()?)
    } else {
        None
    };
    // 4. The root, its mounts and devices, the hooks that want to see both sides of it, then into it.
    let (root, readonly_last) =
        rootfs::build(plan, link.as_fd(), root, trees, pid_namespace.as_ref())?;
    if plan.hooks.look_into_root() {
        hooks::before_entry(&plan.hooks, about, link, root.as_fd())?;
    }
    entry::enter(plan, &root)?;
    // 5. The terminal, from the container's own devpts; /dev/console needs /dev still writable. Or else its null device.
    if let Some(terminal) = &plan.process.terminal {
        let console = plan.rootfs.entry != Entry::Chroot;
        terminal::take(
            terminal,
            &plan.process,
            link.as_fd(),
            console.then_some(terminal::Console {
                root: root.as_fd(),
                is_made: plan.device_links,
            }),
        )?;
        if pid_namespace.is_none() {
            terminal::control()?;
        }
    }
    null::replace(&null)?;
    // 6. The working directory is made while the root can be written.
    make_cwd(plan, root.as_fd())?;
    // 7. What is read-only or hidden.
    protect(plan, root.as_fd(), &readonly_last, proc.as_ref())?;
    drop((root, readonly_last));
    if let Some(callers) = callers {
        detached_root::leave(&callers)?;
    }
    // 8. To the program.
    let course = Course {
        plan: &plan.process,
        ignored_signals,
        preserve_fds: plan.preserve_fds,
        proc,
    };
    let started = |env: &Strings, filter: Option<&Filter>| {
        let seccomp = (&plan.process, filter);
        hooks::start_container(&plan.hooks, about, env, seccomp)
    };
    let Some(pid_namespace) = pid_namespace else {
        return exec::become_process(course, link, start_socket, started);
    };
    if !pid_namespace.early {
        namespaces::join(std::slice::from_ref(&pid_namespace.namespace))?;
    }
    drop(pid_namespace);
    let born_filtered = plan.process.is_born_filtered();
    exec::bear_process(course, born_filtered, link, start_socket, started)
}

/// Makes what config.json says read-only, and hides what is to be hidden. Sysctls first: /proc/sys is
/// a default read-only path.
fn protect(
    plan: &Plan,
    root: BorrowedFd<'_>,
    last: &rootfs::ReadonlyLast<'_>,
    proc: Option<&Procfs>,
) -> Step {
    let builds = plan.rootfs.entry != Entry::Chroot;
    if builds {
        rootfs::make_readonly(plan, root, last)?;
    }
    sysctls(plan, proc)?;
    if builds {
        masks::make_readonly(&plan.rootfs.readonly_paths, root)?;
        masks::mask(&plan.rootfs, root)?;
    }
    Ok(())
}

/// Sets what lives in the new namespaces: the loopback interface and the names.
fn furnish(plan: &Plan) -> Step {
    if plan.namespaces.new.contains(CloneFlags::CLONE_NEWNET) {
        ns::bring_up_loopback()
            .map_err(failed("ioctl", || "bring up the loopback interface".into()))?;
    }
    if let Some(name) = &plan.hostname {
        ns::set_hostname(name.as_bytes()).map_err(failed("sethostname", || {
            config("hostname").asks_to(format!("set the host name to {name:?}"))
        }))?;
    }
    if let Some(name) = &plan.domainname {
        ns::set_domainname(name.as_bytes()).map_err(failed("setdomainname", || {
            config("domainname").asks_to(format!("set the domain name to {name:?}"))
        }))?;
    }
    Ok(())
}

/// Steps of a process that the container doesn't see: it stays in the pid namespace of the parent,
/// and bears the one that the container sees.
fn exec_steps(
    exec: &ExecPlan,
    ignored_signals: &[i32],
    link: &mut OwnedFd,
    descriptors: Descriptors,
) -> Step {
    begin(link, exec.preserve_fds, &descriptors)?;
    let Descriptors {
        start_socket: _,
        root,
        trees: _,
        joined,
        pid_namespace: _,
        null,
        waits_for_cgroup,
    } = descriptors;
    hide()?;
    if waits_for_cgroup {
        wait_for_cgroup(link);
    }
    // The container's procfs shows no pid of this process.
    let labelled = exec.process.labels != Labels::default();
    let proc = labelled.then(labels::hosts_procfs).transpose()?;
    namespaces::join(&joined)?;
    let is_user = |namespace: &Namespace| namespace.kinds.contains(CloneFlags::CLONE_NEWUSER);
    if joined.iter().any(is_user) {
        take_ids(&exec.process, link)?;
    }
    drop(joined);
    if let Some(root) = root {
        entry::chroot(root.as_fd())?;
    }
    // The container's keyring is that of its root, and nobody else finds it by its name.
    keyring(exec.keyring.as_deref(), &exec.process, proc.as_ref(), false)?;
    if let Some(terminal) = &exec.process.terminal {
        terminal::take(terminal, &exec.process, link.as_fd(), None)?;
    }
    null::replace(&null)?;
    let course = Course {
        plan: &exec.process,
        ignored_signals,
        preserve_fds: exec.preserve_fds,
        proc,
    };
    exec::bear_process(course, exec.born_filtered, link, None, |_, _| Ok(()))
}

/// Waits until this process is in its cgroup.
fn wait_for_cgroup(link: &OwnedFd) {
    if !matches!(receive(link.as_fd()), Ok(Some(Message::CgroupJoined))) {
        // The parent has failed, and says why itself.
        process::exit_now(1)
    }
}

/// Takes what is sent until the ids are mapped, and some ids of its user namespace.
fn enter_user_namespace(
    link: &OwnedFd,
    plan: &Process,
    keeps_groups: bool,
) -> Step<Vec<DetachedMount>> {
    let mut trees = Vec::new();
    loop {
        match receive(link.as_fd()) {
            Ok(Some(Message::DetachedMount(tree))) => trees.push(tree),
            Ok(Some(Message::IdsMapped)) => break,
            // The parent has failed, and says why itself.
            _ => process::exit_now(1),
        }
    }
    // A caller's groups may be what lets it reach the files of the container; what becomes of them is decided at the end.
    if !keeps_groups {
        let what = || "drop the caller's groups in the user namespace".into();
        identity::set_groups(&[]).map_err(failed("setgroups", what))?;
    }
    take_ids(plan, link)?;
    Ok(trees)
}

/// Takes id 0, or where the user namespace maps none the ids of the process: all capabilities are
/// there since this process came into the namespace, and a change between ids that aren't its root
/// takes none away (capabilities(7)). Some id of the namespace it must have, or could own no file.
fn take_ids(plan: &Process, link: &OwnedFd) -> Step {
    let unmapped = |failure| explained(failure, Errno::EINVAL, identity::UNMAPPED);
    let first_of = |set: fn(u32) -> Result<(), Errno>, id: u32| match set(0) {
        Err(Errno::EINVAL) => set(id),
        other => other,
    };
    let group = || format!("become group 0 or {} in the user namespace", plan.gid);
    first_of(process::setresgid, plan.gid)
        .map_err(failed("setresgid", group))
        .map_err(unmapped)?;
    let user = || format!("become user 0 or {} in the user namespace", plan.uid);
    first_of(process::setresuid, plan.uid)
        .map_err(failed("setresuid", user))
        .map_err(unmapped)?;
    // The change of user has cleared the signal, and may have made us dumpable again.
    die_with_parent(link)?;
    hide()
}

/// Adds what an errno means here.
fn explained(mut failure: Failed, errno: Errno, detail: &str) -> Failed {
    if failure.errno == errno && failure.detail.is_empty() {
        failure.detail = detail.into();
    }
    failure
}

/// Keeps others from looking into this process.
fn hide() -> Step {
    process::set_dumpable(false).map_err(failed("prctl", || "forbid being looked into".into()))
}

/// Closes all but what is inherited, ties this process to its parent until it is ready, and starts a session.
fn begin(link: &OwnedFd, preserve_fds: u32, descriptors: &Descriptors) -> Step {
    let mut keep = descriptors.numbers();
    keep.push(link.as_raw_fd());
    process::close_all_but(3 + preserve_fds, &mut keep).map_err(failed("close_range", || {
        "close what the parent had open".into()
    }))?;
    die_with_parent(link)?;
    nix::unistd::setsid().map_err(failed("setsid", || "start a session".into()))?;
    // Every mode below is given in full; the process' own umask is set last.
    process::umask(0);
    Ok(())
}

/// Arms the parent death signal; a parent that is already gone is seen by its end of the link being closed.
fn die_with_parent(link: &OwnedFd) -> Step {
    process::set_dies_with_parent(true)
        .map_err(failed("prctl", || "end with the parent".into()))?;
    if socket::is_hung_up(link.as_fd()).map_err(failed("poll", || "look for the parent".into()))? {
        process::exit_now(1);
    }
    Ok(())
}

/// Makes the container's session keyring, or joins it, with the label of its process.
fn keyring(name: Option<&CStr>, process: &Process, proc: Option<&Procfs>, new: bool) -> Step {
    let Some(name) = name else { return Ok(()) };
    let Some(label) = process.labels.selinux.as_deref() else {
        return join_keyring(name, new);
    };
    labels::set_of_keys(Some(label), proc)?;
    join_keyring(name, new)?;
    labels::set_of_keys(None, proc)
}

/// A kernel without keyrings is fine.
fn join_keyring(name: &CStr, new: bool) -> Step {
    // The default of a new keyring, and search for its owner: what lets an exec process find it by name.
    const SEARCHABLE: u32 = 0x3f1b_0000;
    match process::join_session_keyring(name, new.then_some(SEARCHABLE)) {
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(Errno::EDQUOT) => {
            let text = "make a session keyring: the user's quota is used up; raise the sysctl kernel.keys.maxkeys, or use --no-new-keyring";
            Err(Failed::new(text, "keyctl", Errno::EDQUOT))
        }
        Err(errno) => Err(Failed::new(
            format!("join the session keyring {name:?}"),
            "keyctl",
            errno,
        )),
    }
}

/// Makes process.cwd if it is missing, as runc does; a link of procfs (CVE-2024-21626) is ELOOP.
fn make_cwd(plan: &Plan, root: BorrowedFd<'_>) -> Step {
    let cwd = path::as_path(&plan.process.cwd);
    if cwd == std::path::Path::new("/") || weakened::lacks("cwd") {
        return Ok(());
    }
    match path::open_or_make(root, cwd, path::Missing::Directory) {
        Ok(_) => Ok(()),
        // Whether the process may go there is asked of the kernel when it goes.
        Err(Errno::EACCES) => Ok(()),
        Err(errno) => Err(Failed::new(
            config("process.cwd").asks_to(format!("make the working directory {}", cwd.display())),
            "openat2",
            errno,
        )),
    }
}

/// Sets kernel parameters through a procfs that nobody else can have mounted over; `given` is that of
/// the host.
fn sysctls(plan: &Plan, given: Option<&Procfs>) -> Step {
    if plan.sysctls.is_empty() {
        return Ok(());
    }
    let mounted = match Procfs::private() {
        Err(Errno::EPERM) if given.is_some() => None,
        // Root of a user namespace that doesn't own the pid namespace; what is at /proc is checked.
        Err(Errno::EPERM) => Some(Procfs::open()),
        made => Some(made),
    };
    let mounted = mounted.transpose().map_err(failed("fsmount", || {
        "mount a private procfs for linux.sysctl".into()
    }))?;
    let Some(proc) = mounted.as_ref().or(given) else {
        return Ok(());
    };
    for sysctl in &plan.sysctls {
        let what =
            || config("linux.sysctl").asks_to(format!("set {} to {:?}", sysctl.key, sysctl.value));
        proc.write(&sysctl.file, sysctl.value.as_bytes())
            .map_err(failed("write", what))?;
    }
    Ok(())
}
