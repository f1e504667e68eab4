//! Parent: has CRIU write a container into files.
//! The container is only frozen until the dump is complete, so that it continues after any failure.

mod hierarchies;
mod mounts;

pub(super) use mounts::MASK_MOUNT_NAME;

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use super::Error;
use super::images::{DESCRIPTORS, DIRECTORY, Images, refuse_foreign_pids, refuse_unsupported};
use crate::cgroup::Cgroup;
use crate::criu::message::{CriuOptions, PageServer, Request, request_type};
use crate::criu::{self, CriuNotice, WorkerSetup};
use crate::error::failed;
use crate::invocation::{CgroupsMode, CheckpointArgs};
use crate::plan::Plan;
use crate::plan::host::Host;
use crate::state::Dir;
use crate::state::record::Record;
use crate::sys::procfs::errno_of;
use crate::sys::{Errno, handed, path, retry};

/// The names that a dump gives to external network and pid namespaces. runc uses the same names.
pub(super) const EXTERNAL: [(CloneFlags, &str, &str); 2] = [
    (CloneFlags::CLONE_NEWNET, "net", "extRootNetNS"),
    (CloneFlags::CLONE_NEWPID, "pid", "extRootPidNS"),
];

/// The container to checkpoint.
pub(crate) struct Subject<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) host: &'a Host,
    pub(crate) record: &'a Record,
    pub(crate) dir: &'a Dir,
    /// The pid of the container's init.
    pub(crate) pid: i32,
    /// The container's cgroup. If it is `None`, CRIU stops the processes one by one.
    pub(crate) cgroup: Option<&'a Cgroup>,
    /// True if the container was frozen before the checkpoint, and stays frozen.
    pub(crate) paused: bool,
}

/// Takes over the descriptor of --status-fd. Called before this process opens any descriptor, which
/// could get the same number.
pub(crate) fn status_fd(args: &CheckpointArgs) -> Result<Option<OwnedFd>, Error> {
    let take = |number| {
        let what = || format!("write to --status-fd {number}");
        handed::take_writable_fd(number).map_err(failed("fcntl", what))
    };
    Ok(args.status_fd.map(take).transpose()?)
}

/// Has CRIU write the container into files. CRIU then kills the container, unless it is to keep
/// running. `tell` writes to the log.
pub(crate) fn checkpoint(
    subject: &Subject<'_>,
    args: &CheckpointArgs,
    status: Option<OwnedFd>,
    tell: impl FnOnce(&str),
) -> Result<(), Error> {
    let (plan, host) = (subject.plan, subject.host);
    refuse_unsupported(plan, host)?;
    // Take the namespace from init, because the path in config.json may not exist any more.
    refuse_foreign_pids(plan, host, |_| {
        host.proc.namespace(&format!("{}/ns/pid", subject.pid))
    })?;
    let images = Images::open(&args.dump, true, "dump.log")?;
    tell(&format!("CRIU {}", images.criu.version()));
    let dumped =
        prepare(subject, args, &images).and_then(|options| dump(options, args, status, &images));
    let removed = subject.dir.remove_criu_directory();
    if dumped.is_err()
        && let Some(cgroup) = subject.cgroup.filter(|_| !subject.paused)
        && cgroup.is_frozen().unwrap_or(false)
    {
        // CRIU leaves the cgroup frozen if it is killed.
        let _ = cgroup.thaw_all();
    }
    dumped.and_then(|()| Ok(removed?))
}

/// Prepares the options for CRIU, and the files that they refer to.
fn prepare(
    subject: &Subject<'_>,
    args: &CheckpointArgs,
    images: &Images,
) -> Result<CriuOptions, Error> {
    let mut options = options(subject, args, images)?;
    if args.pre_dump || args.parent_path.is_some() {
        images.criu.require_features(true, false, images.null())?;
    }
    if args.dump.manage_cgroups_mode != CgroupsMode::Ignore {
        let hierarchies = hierarchies::hierarchies(subject)?;
        let yard = subject.dir.make_criu_directory()?;
        subject.dir.link_cgroups(&hierarchies)?;
        options.cgroup_yard = yard.to_str().map(str::to_owned);
    }
    if !args.pre_dump {
        note_descriptors(subject, images)?;
    }
    Ok(options)
}

fn options(
    subject: &Subject<'_>,
    args: &CheckpointArgs,
    images: &Images,
) -> Result<CriuOptions, Error> {
    let mut options = images.options(&args.dump, &subject.record.annotations);
    options.pid = Some(subject.pid);
    options.root = subject.record.rootfs.to_str().map(str::to_owned);
    options.leave_running = Some(args.leave_running);
    options.tcp_skip_in_flight = Some(args.tcp_skip_in_flight);
    options.link_remap = Some(args.link_remap);
    options.track_mem = args.pre_dump.then_some(true);
    if let Some(parent) = &args.parent_path {
        let what = || format!("invalid --parent-path {}", parent.display());
        let parent_fd = crate::sys::open_at(&images.directory, parent, DIRECTORY, Mode::empty());
        parent_fd.map_err(failed("open", what))?;
        let parent = parent.to_str().ok_or(Errno::EILSEQ);
        options.parent_img = Some(parent.map_err(failed("open", what))?.to_owned());
        options.track_mem = Some(true);
    }
    options.page_server = args.page_server.as_ref().map(|(address, port)| PageServer {
        address: Some(address.clone()),
        port: Some((*port).into()),
    });
    options.freeze_cgroup = subject
        .cgroup
        .and_then(|cgroup| cgroup.path().to_str().map(str::to_owned));
    options.external = external_namespaces(subject)?;
    if !args.pre_dump {
        options.ext_mnt = mounts::external(subject)?;
    }
    Ok(options)
}

/// Returns the namespaces that the container has joined, which CRIU doesn't dump.
fn external_namespaces(subject: &Subject<'_>) -> Result<Vec<String>, Error> {
    let mut external = Vec::new();
    for (kind, name, key) in EXTERNAL {
        if subject.plan.namespaces.joins(kind) {
            let link = format!("{}/ns/{name}", subject.pid);
            let what = || format!("look at /proc/{link}");
            let (_, inode) = subject
                .host
                .proc
                .namespace(&link)
                .map_err(failed("stat", what))?;
            external.push(format!("{name}[{inode}]:{key}"));
        }
    }
    Ok(external)
}

/// Writes the names of init's standard input, output and error into descriptors.json.
fn note_descriptors(subject: &Subject<'_>, images: &Images) -> Result<(), Error> {
    let what = || "write descriptors.json (--image-path)".to_owned();
    let name = |number: i32| {
        let link = subject
            .host
            .proc
            .link(&format!("{}/fd/{number}", subject.pid));
        link.map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let names: Vec<String> = (0..3).map(name).collect();
    let text = serde_json::to_vec(&names).unwrap_or_default();
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
    let file = path::open_child(images.directory.as_fd(), DESCRIPTORS, flags, 0o600);
    let file = file.map_err(failed("open", what))?;
    let written = std::fs::File::from(file).write_all(&text);
    Ok(written.map_err(|e| failed("write", what)(errno_of(&e)))?)
}

/// Runs CRIU for a dump.
fn dump(
    options: CriuOptions,
    args: &CheckpointArgs,
    mut status: Option<OwnedFd>,
    images: &Images,
) -> Result<(), Error> {
    let (kind, verb) = match args.pre_dump {
        true => (request_type::PRE_DUMP, "write the memory of the container"),
        false => (request_type::DUMP, "checkpoint the container"),
    };
    let request = Request {
        kind,
        options: Some(Box::new(options)),
        ..Request::default()
    };
    let start = WorkerSetup {
        namespaces: CloneFlags::empty(),
        cgroup: None,
        null: Some(images.null()),
        inherited: Vec::new(),
    };
    let worker = images.criu.start_worker(&start, || Ok(()))?;
    let answer = |notice: CriuNotice| -> Result<(), Error> {
        if notice.script == "status-ready"
            // The reader of --status-fd waits for this byte, and then for end of file.
            && let Some(status) = status.take()
        {
            let written = retry(|| nix::unistd::write(&status, b"\0"));
            written.map_err(failed("write", || "write to --status-fd".into()))?;
        }
        Ok(())
    };
    let response = match worker.let_execute() {
        Ok(()) => worker.ask_criu(&request, answer),
        Err(error) => Err(error.into()),
    };
    let exit = worker.close_and_reap()?;
    match response {
        Ok(response) if !response.success => {
            Err(criu::refusal_error(verb, &response, &images.log).into())
        }
        // After a pre-dump, CRIU waits for another request, which doesn't come. So its exit code
        // has no meaning.
        Ok(_) if exit.code() == 0 || args.pre_dump => Ok(()),
        Ok(_) | Err(Error::Criu(criu::Error::Silent)) => {
            Err(criu::exit_error(verb, exit, &images.log).into())
        }
        Err(error) => Err(error),
    }
}
