//! Parent: lets CRIU restore the processes of a container, which gets a cgroup and namespaces as
//! from `create`.
//! CRIU itself runs in that cgroup. It has a mount namespace of its own, so that the mounts for
//! CRIU don't outlive it.

mod root;

use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use super::checkpoint::{EXTERNAL, MASK_MOUNT_NAME};
use super::images::{DESCRIPTORS, Images, refuse_foreign_pids, refuse_unsupported};
use super::init::CreateRequest;
use super::{
    DEADLINE, Error, Launched, explained, foreground, network, notify, pid_file, placement,
    scheduling, terminal,
};
use crate::cgroup::{Cgroup, Placement};
use crate::criu::message::{
    self, CgroupRoot, CriuOptions, ExternalMount, InheritFd, JoinNamespace, request_type,
};
use crate::criu::{self, CriuNotice, CriuWorker, WorkerSetup};
use crate::error::failed;
use crate::hooks::{self, HookContext, HookKind};
use crate::invocation::{CgroupsMode, RestoreArgs};
use crate::origin::{config, flag};
use crate::plan::Plan;
use crate::plan::host::Host;
use crate::plan::rootfs;
use crate::state;
use crate::state::record::Record;
use crate::sys::clone::{Child, pidfd_open, pidfd_send_signal};
use crate::sys::procfs::{errno_of, namespace_at};
use crate::sys::{Errno, ns, path, wait};

/// The maximum number of bytes to read from descriptors.json, which has only three short strings.
const LARGEST: u64 = 64 << 10;
const VERB: &str = "restore the container";

/// A checkpoint to restore. It is checked before any part of the container is made.
pub(crate) struct Dumped<'a> {
    args: &'a RestoreArgs,
    images: Images,
    /// The names of standard input, output and error at the time of the dump.
    descriptors: Vec<String>,
}

/// The parts of the container that CRIU has restored so far.
#[derive(Default)]
struct Back {
    init: Option<Child>,
    /// The master of the container's terminal.
    master: Option<OwnedFd>,
    /// Descriptions of what was skipped because the host does not allow it.
    notes: Vec<String>,
}

impl Dumped<'_> {
    /// Finds CRIU and the dump, and refuses a container that can't be restored.
    pub(crate) fn open<'a>(
        plan: &Plan,
        host: &Host,
        args: &'a RestoreArgs,
    ) -> Result<Dumped<'a>, Error> {
        refuse_unsupported(plan, host)?;
        refuse_foreign_pids(plan, host, |joined| namespace_at(&joined.path))?;
        refuse_mode(host, args.dump.manage_cgroups_mode)?;
        let images = Images::open(&args.dump, false, "restore.log")?;
        let descriptors = descriptors(&images)?;
        Ok(Dumped {
            args,
            images,
            descriptors,
        })
    }

    /// Returns the name and version of CRIU, for the log.
    pub(crate) fn criu(&self) -> String {
        format!("CRIU {}", self.images.criu.version())
    }
}

/// Refuses modes of CRIU that cannot work. In the mode full, CRIU would write settings back into
/// cgroups of version 1. These would be the host's cgroups, since a container has none there. In
/// the mode strict, CRIU fails if the cgroup exists, and CRIU is started in the container's cgroup.
fn refuse_mode(host: &Host, mode: CgroupsMode) -> Result<(), Error> {
    let (name, what) = match mode {
        CgroupsMode::Full if host.own_cgroup.lines().count() != 1 => {
            ("full", "a host with hierarchies of cgroup v1")
        }
        CgroupsMode::Strict => ("strict", "a cgroup that exists before CRIU starts"),
        _ => return Ok(()),
    };
    let origin = flag(format!("--manage-cgroups-mode {name}"));
    Err(Error::NoCheckpoint(what.into(), origin))
}

/// Reads the names of the standard descriptors from the file that `checkpoint` has written. A dump
/// by CRIU alone has no such file.
fn descriptors(images: &Images) -> Result<Vec<String>, Error> {
    let what = || "read descriptors.json (--image-path)".to_owned();
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let file = match path::open_child(images.directory.as_fd(), DESCRIPTORS, flags, 0) {
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        file => file.map_err(failed("open", what))?,
    };
    let mut text = Vec::new();
    let mut file = std::fs::File::from(file).take(LARGEST);
    let read = file.read_to_end(&mut text);
    read.map_err(|e| failed("read", what)(errno_of(&e)))?;
    let names = serde_json::from_slice(&text);
    Ok(names.map_err(|_| failed("read", what)(Errno::EILSEQ))?)
}

/// Restores the container and lets it run. After an error, only the state directory is left, which
/// the caller removes.
pub(crate) fn restore(
    request: &CreateRequest<'_>,
    record: &mut Record,
    dumped: &Dumped<'_>,
) -> Result<Launched, Error> {
    let (mut placement, note) = placement::prepare_cgroup(request, record)?;
    let mut notes = Vec::from_iter(note);
    let mut back = Back::default();
    let done = bring_back(request, record, dumped, &mut placement, &mut back);
    notes.append(&mut back.notes);
    // The directory can be removed, because only CRIU's mount namespace has a mount on it.
    let removed = request.dir.remove_criu_directory();
    let done = done.and_then(|()| Ok(removed?)).and_then(|()| {
        let master = hand_over(request, back.master.take())?;
        request.dir.finish_record(record)?;
        Ok(master)
    });
    let result = match (done, back.init.as_ref()) {
        (Ok(master), Some(child)) => pid_file::write(request.pid_file, child.pid).map(|()| master),
        (Ok(_), None) => Err(Error::NotRunning),
        (Err(error), _) => Err(error),
    };
    match (result, back.init) {
        (Ok(master), Some(child)) => Ok(Launched {
            child,
            master,
            notes,
        }),
        (result, init) => {
            if let Some(init) = init {
                let _ = pidfd_send_signal(init.pidfd.as_fd(), Signal::SIGKILL as i32);
                let _ = wait::reap(init.pidfd.as_fd());
            }
            let error = result.err().unwrap_or(Error::NotRunning);
            let error = explained(error, None, placement.cgroup(), Some(&request.plan.limits));
            placement.undo_placement(DEADLINE);
            // Reap the processes that CRIU made, because they are children of this process.
            let _ = wait::reap_all_except(0);
            Err(error)
        }
    }
}

/// Sends the master of the terminal to the console socket, or prepares it for the relay, as
/// `create` and `run` do.
fn hand_over(
    request: &CreateRequest<'_>,
    master: Option<OwnedFd>,
) -> Result<Option<OwnedFd>, Error> {
    let Some(master) = master else {
        return Ok(None);
    };
    if let Some(socket) = request.console_socket {
        terminal::send_master(socket.as_fd(), master.as_fd())?;
        return Ok(None);
    }
    if let Some(own) = request.own_terminal {
        let terminal = request.plan.process.terminal;
        let size = terminal.and_then(|terminal| terminal.size);
        foreground::prepare(master.as_fd(), own.as_fd(), size)?;
    }
    Ok(Some(master))
}

fn bring_back<'b: 'c, 'c>(
    request: &CreateRequest<'b>,
    record: &mut Record,
    dumped: &Dumped<'_>,
    placement: &mut Placement<'c>,
    back: &mut Back,
) -> Result<(), Error> {
    let plan = request.plan;
    let namespaces = open_namespaces(plan)?;
    notify::prepare(request.dir)?;
    let at = request.dir.make_criu_directory()?;
    let mode = dumped.args.dump.manage_cgroups_mode;
    let place = root::Place {
        plan,
        at: &at,
        hierarchy: &request.host.hierarchy.mount,
        // If CRIU manages cgroups, it makes the cgroup namespace itself.
        cgroup_namespace: mode == CgroupsMode::Ignore
            && plan.namespaces.new.contains(CloneFlags::CLONE_NEWCGROUP),
        label: plan.process.labels.selinux.as_deref(),
        proc: &request.host.proc,
    };
    let external = namespaces.iter().filter(|(kind, _)| key(*kind).is_some());
    let start = WorkerSetup {
        namespaces: CloneFlags::CLONE_NEWNS,
        cgroup: placement.clone_target(),
        null: None,
        inherited: external.map(|(_, fd)| fd.as_fd()).collect(),
    };
    let worker = dumped
        .images
        .criu
        .start_worker(&start, || root::prepare(&place))?;
    let mut talk = Talk {
        request,
        record,
        dumped,
        placement,
        back,
    };
    let answered = talk
        .settle(&worker)
        .and_then(|()| talk.options(&worker, &namespaces, &at))
        .and_then(|options| talk.ask(&worker, options));
    let silent = matches!(answered, Err(Error::Criu(criu::Error::Silent)));
    if answered.is_err() && !silent {
        worker.kill_and_reap();
        return answered;
    }
    let exit = worker.close_and_reap()?;
    match exit.code() {
        0 if !silent => Ok(()),
        _ => Err(criu::exit_error(VERB, exit, &dumped.images.log).into()),
    }
}

/// The conversation with CRIU, and what this process does between its messages.
struct Talk<'a, 'b, 'c> {
    request: &'a CreateRequest<'b>,
    record: &'a mut Record,
    dumped: &'a Dumped<'a>,
    placement: &'a mut Placement<'c>,
    back: &'a mut Back,
}

impl<'b: 'c, 'c> Talk<'_, 'b, 'c> {
    /// Records the container's cgroup. Moves the process that becomes CRIU into it, and lets that
    /// process execute CRIU.
    fn settle(&mut self, worker: &CriuWorker) -> Result<(), Error> {
        let request = self.request;
        self.record.cgroup_id = self.placement.cgroup().map(Cgroup::id).transpose()?;
        request.dir.write_unfinished_record(self.record)?;
        placement::move_init_into_scope(request, self.record, self.placement, worker.pid())?;
        if let Some(rdt) = &request.plan.rdt {
            rdt.join_group(worker.pid())?;
        }
        scheduling::allow_all_cpus(worker.pid());
        self.back
            .notes
            .extend(placement::set_device_rules(request, self.placement)?);
        Ok(worker.let_execute()?)
    }

    fn options(
        &self,
        worker: &CriuWorker,
        namespaces: &[(CloneFlags, OwnedFd)],
        at: &Path,
    ) -> Result<CriuOptions, Error> {
        let (plan, args) = (self.request.plan, self.dumped.args);
        let dump = &args.dump;
        let mut options = self.dumped.images.options(dump, &self.record.annotations);
        options.rst_sibling = Some(true);
        // Turn this option off if the container has no terminal of its own. Otherwise CRIU makes a
        // new terminal for one from outside, which --shell-job takes from the caller, and then
        // fails to find the new terminal in the container.
        options.orphan_pts_master = Some(plan.process.terminal.is_some());
        options.evasive_devices = Some(true);
        options.root = Some(text(&at.join(root::ROOT))?);
        options.cgroup_yard = Some(text(&at.join(root::CGROUPS))?);
        options.lsm_profile = args.lsm_profile.clone();
        options.lsm_mount_context = args.lsm_mount_context.clone();
        options.ext_mnt = external(plan, &self.request.dir.notify_directory())?;
        for (number, name) in (0..3).zip(&self.dumped.descriptors) {
            if name.starts_with("pipe:[") {
                let key = name.clone();
                options.inherit_fd.push(InheritFd { key, fd: number });
            }
        }
        for (kind, fd) in namespaces {
            match key(*kind) {
                Some(key) => options.inherit_fd.push(InheritFd {
                    key: key.into(),
                    fd: fd.as_raw_fd(),
                }),
                None => options.join_ns.push(JoinNamespace {
                    kind: ns::link(*kind).into(),
                    file: format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()),
                }),
            }
        }
        if dump.manage_cgroups_mode != CgroupsMode::Ignore {
            options.cg_root = self.cgroup_roots(worker.pid())?;
        }
        Ok(options)
    }

    /// Returns the cgroups for the restored processes, which are those of the process that becomes
    /// CRIU.
    fn cgroup_roots(&self, pid: i32) -> Result<Vec<CgroupRoot>, Error> {
        let what = || format!("read /proc/{pid}/cgroup");
        let file = self.request.host.proc.read(&format!("{pid}/cgroup"));
        let file = file.map_err(failed("read", what))?;
        let mut roots = Vec::new();
        for line in file.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
                continue;
            };
            roots.extend(controllers.split(',').map(|controller| CgroupRoot {
                controller: Some(controller.into()),
                path: path.into(),
            }));
        }
        Ok(roots)
    }

    fn ask(&mut self, worker: &CriuWorker, options: CriuOptions) -> Result<(), Error> {
        let request = message::Request {
            kind: request_type::RESTORE,
            options: Some(Box::new(options)),
            ..message::Request::default()
        };
        let response = worker.ask_criu(&request, |notice| self.answer(notice))?;
        if !response.success {
            return Err(criu::refusal_error(VERB, &response, &self.dumped.images.log).into());
        }
        let pid = response.restore.map_or(0, |restored| restored.pid);
        match &self.back.init {
            Some(init) if init.pid == pid => Ok(()),
            Some(_) => Err(Error::NotRunning),
            None => self.found(pid),
        }
    }

    fn answer(&mut self, notice: CriuNotice) -> Result<(), Error> {
        match notice.script.as_str() {
            "setup-namespaces" => self.furnish_namespaces(notice.pid),
            "post-restore" => self.found(notice.pid),
            "orphan-pts-master" => {
                self.back.master = notice.fd;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Sets up the new namespaces as `create` does, because CRIU leaves them empty. Then runs the
    /// prestart and createRuntime hooks, as in runc.
    fn furnish_namespaces(&mut self, pid: i32) -> Result<(), Error> {
        let (plan, proc) = (self.request.plan, &self.request.host.proc);
        if plan.namespaces.new.contains(CloneFlags::CLONE_NEWNET) {
            network::bring_up_loopback(proc, pid)?;
            network::give_devices(plan, proc, pid)?;
        }
        let outputs = plan.hooks.outputs.open()?;
        let scene = HookContext {
            outputs: Some(&outputs),
            about: self.request.about,
            pid,
            env: None,
            cwd: Some(self.request.bundle),
            only_while: None,
            interruptible: true,
        };
        hooks::run_hooks(HookKind::Prestart, &plan.hooks.prestart, scene)?;
        Ok(hooks::run_hooks(
            HookKind::CreateRuntime,
            &plan.hooks.create_runtime,
            scene,
        )?)
    }

    /// Records the container's init. CRIU makes init with CLONE_PARENT, so it is a child of this
    /// process.
    fn found(&mut self, pid: i32) -> Result<(), Error> {
        let what = || format!("open process {pid}");
        if !wait::is_child(pid) {
            return Err(failed("waitid", what)(Errno::ECHILD).into());
        }
        let pidfd = pidfd_open(pid).map_err(failed("pidfd_open", what))?;
        self.back.init = Some(Child { pid, pidfd });
        let start_time = state::read_start_time(&self.request.host.proc, pid);
        self.record.pid = Some(pid);
        self.record.start_time = start_time.map_err(failed("read", what))?;
        Ok(self.request.dir.write_unfinished_record(self.record)?)
    }
}

/// Returns the key under which the dump lists an external namespace of this type. Returns `None` if
/// CRIU joins namespaces of this type by their path.
fn key(kind: CloneFlags) -> Option<&'static str> {
    let found = EXTERNAL.iter().find(|(external, ..)| *external == kind);
    found.map(|(_, _, key)| *key)
}

/// Opens the namespaces to join, and checks the type of each.
fn open_namespaces(plan: &Plan) -> Result<Vec<(CloneFlags, OwnedFd)>, Error> {
    let open = |joined: &crate::plan::namespaces::JoinedNamespace| {
        let path = joined.path.display();
        let origin = config(format!("linux.namespaces[{}].path", joined.index));
        let what = || origin.asks_to(format!("open the namespace {path}"));
        // O_NONBLOCK is for a path that isn't a namespace but a FIFO.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let fd =
            crate::sys::open(&joined.path, flags, Mode::empty()).map_err(failed("open", what))?;
        match ns::kind(fd.as_fd()) {
            Ok(kind) if kind == joined.kind => Ok((kind, fd)),
            Ok(_) | Err(Errno::ENOTTY) => {
                let why = "it is no namespace of that type";
                Err(Error::Unusable(format!("use {path}"), origin, why.into()))
            }
            Err(errno) => Err(failed("ioctl", what)(errno).into()),
        }
    };
    plan.namespaces.joined.iter().map(open).collect()
}

/// Returns the external mounts of the dump by name, each with a path on the host. Uses only
/// config.json, and not the current files of the container.
fn external(plan: &Plan, notify: &Path) -> Result<Vec<ExternalMount>, Error> {
    let mut external = Vec::new();
    let mut add = |name: &Path, source: &Path| -> Result<(), Error> {
        external.push(ExternalMount {
            key: text(name)?,
            value: text(source)?,
        });
        Ok(())
    };
    for op in &plan.rootfs.mounts {
        if let rootfs::MountSource::Bind { path, .. } = &op.source {
            // CRIU compares paths only by their names, without following links.
            let real = path.canonicalize();
            let what = || op.describe_opening(path);
            let real = real.map_err(|e| failed("readlink", what)(errno_of(&e)))?;
            add(&op.destination, &real)?;
        }
    }
    for node in &plan.devices {
        add(&node.path, &node.path)?;
    }
    // Add the source of masked paths. If a name has two sources, CRIU uses the first.
    add(Path::new(MASK_MOUNT_NAME), Path::new(MASK_MOUNT_NAME))?;
    add(Path::new(notify::NOTIFY_DIRECTORY_IN_CONTAINER), notify)?;
    Ok(external)
}

fn text(path: &Path) -> Result<String, Error> {
    let what = || format!("tell CRIU of {}", path.display());
    let text = path.to_str().ok_or(Errno::EILSEQ);
    Ok(text.map_err(failed("sendmsg", what))?.to_owned())
}
