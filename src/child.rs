//! The child process, from clone to execve. The numbered steps are in the order that the kernel
//! requires.
//! The child makes no decisions. It follows a plan and reports a step that fails.
//!
//! A child never logs, never panics, and allocates little. It reports a failure to the parent in
//! one message.

mod copy_up;
mod detached_root;
mod devices;
mod entry;
mod exec;
mod filter;
mod hooks;
mod identity;
mod inside;
mod keyring;
mod labels;
mod locked;
mod masks;
mod mounts;
mod namespaces;
mod null;
mod rootfs;
mod start_socket;
mod targets;
mod terminal;
mod visitor;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sched::CloneFlags;

use exec::LastStepsInput;
use start_socket::StartSocket;

use crate::detached::DetachedMount;
use crate::error::{Failed, failed};
use crate::hooks::StateTemplate;
use crate::lsm::Labels;
use crate::origin::config;
use crate::plan::Plan;
use crate::plan::exec::ExecPlan;
use crate::plan::process::Process;
use crate::plan::rootfs::RootEntry;
use crate::plan::rootfs::added::{AddedMounts, RemovedMounts};
use crate::plan::seccomp::SeccompFilter;
use crate::protocol::{ChildDescriptors, Inherited, Message, OpenNamespace, receive, send};
use crate::sys::process::CStringArray;
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, ns, path, process, socket, weakened};
use crate::timeline::{self, Phase, Side};

/// The result of a step.
type StepResult<T = ()> = Result<T, Failed>;

/// Becomes the first process of a container.
pub(crate) fn become_init(
    plan: &Plan,
    about: &StateTemplate,
    ignored_signals: &[i32],
    inherited: Inherited,
) -> ! {
    run_steps_or_report(inherited, |link, descriptors| {
        init_steps(plan, about, ignored_signals, link, descriptors)
    })
}

/// Becomes an additional process of a container.
pub(crate) fn become_exec(exec: &ExecPlan, ignored_signals: &[i32], inherited: Inherited) -> ! {
    run_steps_or_report(inherited, |link, descriptors| {
        exec_steps(exec, ignored_signals, link, descriptors)
    })
}

/// Adds mounts to an existing container, in a separate process.
pub(crate) fn add_mounts(added: &AddedMounts, inherited: Inherited) -> ! {
    run_steps_or_report(inherited, |link, descriptors| {
        mounts::add(added, link, descriptors)
    })
}

/// Removes mounts of an existing container, in a separate process.
pub(crate) fn remove_mounts(removed: &RemovedMounts, inherited: Inherited) -> ! {
    run_steps_or_report(inherited, |link, descriptors| {
        mounts::remove(removed, link, descriptors)
    })
}

/// Runs the steps. Reports a failure to the process at the other end of the link, which is the
/// parent or later `start`.
fn run_steps_or_report(
    inherited: Inherited,
    steps: impl FnOnce(&mut OwnedFd, ChildDescriptors) -> StepResult,
) -> ! {
    timeline::become_side(Side::Child);
    timeline::begin_step(Phase::Begin);
    let Inherited {
        mut link,
        descriptors,
    } = inherited;
    if let Err(failed) = steps(&mut link, descriptors) {
        // If this fails too, there is nobody left to report to.
        let _ = send(link.as_fd(), &Message::Failed(failed));
    }
    process::exit_now(1)
}

fn init_steps(
    plan: &Plan,
    about: &StateTemplate,
    ignored_signals: &[i32],
    link: &mut OwnedFd,
    descriptors: ChildDescriptors,
) -> StepResult {
    // 0. Close all descriptors of the parent, because a descriptor of the host's file system is a
    // way out of the container (CVE-2024-21626).
    close_fds_and_start_session(link, plan.preserve_fds, &descriptors)?;
    let ChildDescriptors {
        start_socket,
        mut root,
        mut trees,
        joined,
        pid_namespace,
        null,
        hook_outputs,
        waits_for_cgroup,
    } = descriptors;
    if !plan.namespaces.is_mapped_by_user() {
        make_undumpable()?;
    }
    // Wait for the cgroup before doing anything that the kernel charges to a cgroup.
    if waits_for_cgroup {
        wait_for_cgroup(link);
        // A cgroup namespace is rooted at the cgroup of the process that makes it. So make it now.
        if !plan.route.unshares.is_empty() {
            ns::unshare(plan.route.unshares)
                .map_err(failed("unshare", || "make a cgroup namespace".into()))?;
        }
    }
    // If init is to be cloned last, in an existing pid namespace, this process joins and makes all
    // namespaces now. Otherwise the clone has made the new namespaces and entered those that only a
    // clone can enter, and step 1 joins the others.
    let proc = match &pid_namespace {
        Some(pid_namespace) => Some(namespaces::join_and_make_namespaces(
            plan,
            &joined,
            pid_namespace,
            link,
        )?),
        None => None,
    };
    // Receive the container's mounts until the parent has mapped the ids. Then become root of the
    // user namespace.
    if plan.namespaces.user.is_some() {
        let keeps_groups = plan.namespaces.unprivileged || plan.process.keeps_groups;
        trees = enter_user_namespace(link, &plan.process, keeps_groups)?;
        if !trees.is_empty() {
            root = Some(trees.remove(0).fd);
        }
    }
    // 1. Join existing namespaces.
    if pid_namespace.is_none() {
        namespaces::join_namespaces(&joined)?;
    }
    drop(joined);
    let told = plan.namespaces.unprivileged;
    let start_socket =
        start_socket.map(|socket| StartSocket::new(socket, told, pid_namespace.as_ref()));
    // 2. Make a session keyring. With the caller's keyring, the container would have access to the
    // caller's keys.
    keyring::set_up_keyring(plan.keyring.as_deref(), &plan.process, proc.as_ref(), true)?;
    // 3. Set up the new namespaces.
    set_up_namespaces(plan)?;
    let callers = if plan.rootfs.detached_root {
        Some(detached_root::enter_mount_namespace_copy()?)
    } else {
        None
    };
    // 4. Build the root with its mounts and devices. Then run the hooks that need the paths of both
    // the host and the container, and enter the root.
    let (root, readonly_last) =
        rootfs::build_rootfs(plan, link.as_fd(), root, trees, pid_namespace.as_ref())?;
    if plan.hooks.look_into_root() {
        hooks::run_hooks_before_entry(&plan.hooks, about, link, root.as_fd(), hook_outputs)?;
    }
    entry::enter_root(plan, &root)?;
    // 5. Open the terminal in the container's own devpts, while /dev is still writable for
    // /dev/console. Replace standard descriptors that are the host's null device.
    if let Some(terminal) = &plan.process.terminal {
        let console = plan.rootfs.entry != RootEntry::Chroot;
        terminal::make_terminal(
            terminal,
            &plan.process,
            link.as_fd(),
            console.then_some(terminal::ConsoleMount {
                root: root.as_fd(),
                is_made: plan.device_links,
            }),
        )?;
        if pid_namespace.is_none() {
            terminal::take_controlling_terminal()?;
        }
    }
    null::replace_null_devices(&null)?;
    // 6. Make the working directory, while the root is still writable.
    make_cwd(plan, root.as_fd())?;
    // 7. Make paths read-only, and mask paths.
    protect_paths(plan, root.as_fd(), &readonly_last, proc.as_ref())?;
    drop((root, readonly_last));
    if let Some(callers) = callers {
        detached_root::return_with_detached_root(&callers)?;
    }
    // 8. Run the program.
    let input = LastStepsInput {
        plan: &plan.process,
        ignored_signals,
        preserve_fds: plan.preserve_fds,
        proc,
    };
    let started = |env: &CStringArray, filter: Option<&SeccompFilter>| {
        let seccomp = (&plan.process, filter);
        hooks::run_start_container_hooks(&plan.hooks, about, env, seccomp)
    };
    let Some(pid_namespace) = pid_namespace else {
        return exec::become_process(input, link, start_socket, started);
    };
    if !pid_namespace.early {
        namespaces::join_namespaces(std::slice::from_ref(&pid_namespace.namespace))?;
    }
    drop(pid_namespace);
    let born_filtered = plan.process.is_cloned_filtered();
    exec::clone_and_become_process(input, born_filtered, link, start_socket, started)
}

/// Makes paths read-only and masks paths, as config.json says. Sets the sysctls first, because
/// engines make /proc/sys read-only.
fn protect_paths(
    plan: &Plan,
    root: BorrowedFd<'_>,
    last: &rootfs::LateReadonly<'_>,
    proc: Option<&Procfs>,
) -> StepResult {
    let builds = plan.rootfs.entry != RootEntry::Chroot;
    if builds {
        rootfs::apply_late_readonly(plan, root, last)?;
    }
    write_sysctls(plan, proc)?;
    if builds {
        masks::make_paths_readonly(&plan.rootfs.readonly_paths, root)?;
        masks::mask_paths(&plan.rootfs, root)?;
    }
    Ok(())
}

/// Sets up the new namespaces. Brings up the loopback interface, and sets host name and domain
/// name.
fn set_up_namespaces(plan: &Plan) -> StepResult {
    timeline::begin_step(Phase::Furnish);
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

/// Runs the steps of the child of an exec. This child stays in the parent's pid namespace, so the
/// container doesn't see it. It clones the process that runs the program.
fn exec_steps(
    exec: &ExecPlan,
    ignored_signals: &[i32],
    link: &mut OwnedFd,
    descriptors: ChildDescriptors,
) -> StepResult {
    close_fds_and_start_session(link, exec.preserve_fds, &descriptors)?;
    let ChildDescriptors {
        start_socket: _,
        root,
        trees: _,
        joined,
        pid_namespace: _,
        null,
        hook_outputs: _,
        waits_for_cgroup,
    } = descriptors;
    make_undumpable()?;
    if waits_for_cgroup {
        wait_for_cgroup(link);
    }
    // This process has no pid in the container's procfs, so open the host's procfs now.
    let labelled = exec.process.labels != Labels::default();
    let proc = labelled.then(labels::open_host_procfs).transpose()?;
    namespaces::join_namespaces(&joined)?;
    let is_user = |namespace: &OpenNamespace| namespace.kinds.contains(CloneFlags::CLONE_NEWUSER);
    if joined.iter().any(is_user) {
        switch_to_namespace_ids((exec.process.uid, exec.process.gid), link)?;
    }
    drop(joined);
    if let Some(root) = root {
        entry::chroot_into(root.as_fd())?;
    }
    // Join the keyring before switching to the user of the process. Only the container's root can
    // find the keyring by its name.
    keyring::set_up_keyring(exec.keyring.as_deref(), &exec.process, proc.as_ref(), false)?;
    if let Some(terminal) = &exec.process.terminal {
        terminal::make_terminal(terminal, &exec.process, link.as_fd(), None)?;
    }
    null::replace_null_devices(&null)?;
    let input = LastStepsInput {
        plan: &exec.process,
        ignored_signals,
        preserve_fds: exec.preserve_fds,
        proc,
    };
    exec::clone_and_become_process(input, exec.born_filtered, link, None, |_, _| Ok(()))
}

/// Waits until the parent has moved this process into the container's cgroup.
fn wait_for_cgroup(link: &OwnedFd) {
    timeline::begin_step(Phase::AwaitCgroup);
    if !matches!(receive(link.as_fd()), Ok(Some(Message::CgroupJoined))) {
        // The parent has failed, and reports the reason itself.
        process::exit_now(1)
    }
}

/// Receives detached mounts until the parent has mapped the ids, then switches to ids of the user
/// namespace.
fn enter_user_namespace(
    link: &OwnedFd,
    plan: &Process,
    keeps_groups: bool,
) -> StepResult<Vec<DetachedMount>> {
    timeline::begin_step(Phase::AwaitIds);
    let mut trees = Vec::new();
    loop {
        match receive(link.as_fd()) {
            Ok(Some(Message::DetachedMount(tree))) => trees.push(tree),
            Ok(Some(Message::IdsMapped)) => break,
            // The parent has failed, and reports the reason itself.
            _ => process::exit_now(1),
        }
    }
    // With `keeps_groups`, keep the caller's groups for now, because they may be needed to reach
    // the container's files. A later step sets or drops them.
    if !keeps_groups {
        let what = || "drop the caller's groups in the user namespace".into();
        identity::set_groups(&[]).map_err(failed("setgroups", what))?;
    }
    switch_to_namespace_ids((plan.uid, plan.gid), link)?;
    Ok(trees)
}

/// Switches to user 0 and group 0, or to `uid` and `gid` if the user namespace doesn't map id 0.
/// This process needs ids of the namespace to own files. It has had all capabilities since it
/// entered the namespace. A change between ids other than 0 drops none of them (capabilities(7)).
fn switch_to_namespace_ids((uid, gid): (u32, u32), link: &OwnedFd) -> StepResult {
    let unmapped = |failure| add_detail_for(failure, Errno::EINVAL, identity::UNMAPPED_ID_HINT);
    let first_of = |set: fn(u32) -> Result<(), Errno>, id: u32| match set(0) {
        Err(Errno::EINVAL) => set(id),
        other => other,
    };
    let group = || format!("become group 0 or {gid} in the user namespace");
    first_of(process::setresgid, gid)
        .map_err(failed("setresgid", group))
        .map_err(unmapped)?;
    let user = || format!("become user 0 or {uid} in the user namespace");
    first_of(process::setresuid, uid)
        .map_err(failed("setresuid", user))
        .map_err(unmapped)?;
    // The change of user has cleared the parent death signal, and may have made this process
    // dumpable.
    die_with_parent(link)?;
    make_undumpable()
}

/// Adds a detail to a failure with this errno.
fn add_detail_for(mut failure: Failed, errno: Errno, detail: &str) -> Failed {
    if failure.errno == errno && failure.detail.is_empty() {
        failure.detail = detail.into();
    }
    failure
}

/// Makes this process undumpable, so that other processes can't inspect it.
fn make_undumpable() -> StepResult {
    process::set_dumpable(false).map_err(failed("prctl", || "make the process undumpable".into()))
}

/// Closes all descriptors that the child doesn't need, sets the parent death signal, and starts a
/// session.
fn close_fds_and_start_session(
    link: &OwnedFd,
    preserve_fds: u32,
    descriptors: &ChildDescriptors,
) -> StepResult {
    let mut keep = descriptors.raw_fds();
    keep.push(link.as_raw_fd());
    process::close_all_but(3 + preserve_fds, &mut keep).map_err(failed("close_range", || {
        "close the parent's descriptors".into()
    }))?;
    die_with_parent(link)?;
    nix::unistd::setsid().map_err(failed("setsid", || "start a session".into()))?;
    // Later steps create files with complete modes, so the umask is 0. The program's umask is set
    // last.
    process::umask(0);
    Ok(())
}

/// Sets the parent death signal. Exits if the link is closed, because then the parent has already
/// ended.
fn die_with_parent(link: &OwnedFd) -> StepResult {
    process::set_dies_with_parent(true)
        .map_err(failed("prctl", || "set the parent death signal".into()))?;
    if socket::is_hung_up(link.as_fd())
        .map_err(failed("poll", || "check that the parent still runs".into()))?
    {
        process::exit_now(1);
    }
    Ok(())
}

/// Makes process.cwd if it is missing, as runc does. Fails with ELOOP if the path contains a magic
/// link of procfs (CVE-2024-21626).
fn make_cwd(plan: &Plan, root: BorrowedFd<'_>) -> StepResult {
    timeline::begin_step(Phase::Protect);
    let cwd = path::as_path(&plan.process.cwd);
    if cwd == std::path::Path::new("/") || weakened::lacks("cwd") {
        return Ok(());
    }
    match path::open_or_make(root, cwd, path::Missing::Directory) {
        Ok(_) => Ok(()),
        // This is no failure yet. The later chdir decides whether the process may enter.
        Err(Errno::EACCES) => Ok(()),
        Err(errno) => Err(Failed::new(
            config("process.cwd").asks_to(format!("make the working directory {}", cwd.display())),
            "openat2",
            errno,
        )),
    }
}

/// Sets kernel parameters through a procfs over which nobody else can have mounted anything.
/// `given` is the host's procfs, if the child has opened it.
fn write_sysctls(plan: &Plan, given: Option<&Procfs>) -> StepResult {
    if plan.sysctls.is_empty() {
        return Ok(());
    }
    let mounted = match Procfs::private() {
        Err(Errno::EPERM) if given.is_some() => None,
        // Root of a user namespace that doesn't own the pid namespace can't mount a procfs. Use
        // /proc, which is checked to be a procfs.
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
