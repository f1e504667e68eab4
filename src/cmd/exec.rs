//! `exec`: runs a further process in a container, described by a file or by flags.
//! `plan::description` takes everything else from the container's config.json.

use std::path::Path;

use super::create::log_filter;
use super::terminal::{ProcessEndpoints, wait_in_foreground};
use super::{Error, log_warnings, open_container};
use crate::cgroup::Cgroup;
use crate::child;
use crate::invocation::{ExecArgs, ExecProcessSource, Globals};
use crate::launch::signals::{self, Signals};
use crate::launch::trace::Trace;
use crate::launch::{self, descriptors};
use crate::log::Log;
use crate::origin::flag;
use crate::plan::InheritedFds;
use crate::plan::description::ExecDescription;
use crate::plan::exec::{ExecContainer, ExecPlan};
use crate::protocol::Inherited;
use crate::spec;
use crate::state::record::Record;
use crate::state::{Dir, FoundContainer, InitState, Status};
use crate::timeline::{self, Phase};

/// Runs a process and returns its exit code, or 0 if it is detached.
pub(crate) fn exec(globals: &Globals, args: &ExecArgs, log: &Log) -> Result<i32, Error> {
    // Read the file before the caller's descriptors are closed, because /dev/fd/N may be its path.
    let described = read_description(&args.process, log)?;
    let passed = InheritedFds {
        listen: descriptors::take(args.preserve_fds)?,
        preserve: args.preserve_fds,
    };
    signals::block()?;
    let trace = Trace::open(args.timeline.as_deref(), "exec", args.id.as_str())?;
    timeline::begin_step(Phase::Record);
    let dir = open_container(globals, args.id.as_str())?;
    let found = FoundContainer::read_container(&dir)?;
    let status = found.status(&dir);
    match status {
        Status::Created | Status::Running => {}
        Status::Paused if args.ignore_paused => {}
        Status::Paused => return Err(Error::ExecPaused),
        Status::Creating => return Err(Error::ExecCreating),
        Status::Stopped => return Err(Error::ExecStopped),
    }
    let (Some(record), InitState::Alive { pid, pidfd }) = (&found.record, &found.init) else {
        return Err(Error::ExecStopped);
    };
    timeline::begin_step(Phase::Config);
    let loaded = spec::load_config(&record.config_path())?;
    timeline::begin_step(Phase::Plan);
    spec::Error::error_if_any(loaded.violations)?;
    let container = ExecContainer {
        id: &record.id,
        proc: found.proc(),
        init: *pid,
        waits: status == Status::Created,
        keyring: record.keyring,
    };
    let plan = ExecPlan::plan_exec(&loaded.spec, &described, &container, passed)?;
    // A smaller heap makes the clone cheaper.
    drop(loaded.spec);
    log_exec_plan(&plan, *pid, log);
    let endpoints = ProcessEndpoints::open(
        plan.process.terminal.is_some(),
        args.detach,
        args.console_socket.as_deref(),
        args.pidfd_socket.as_deref(),
    )?;
    let cgroup = process_cgroup(&dir, args, &found, record, *pid)?;
    let below = args.cgroup.as_deref().unwrap_or(Path::new(""));
    let below = below.to_string_lossy().into_owned();
    let request = launch::exec::ExecRequest {
        process: &plan.process,
        state: record.state(status.as_str(), *pid),
        proc: found.proc(),
        init: (*pid, pidfd),
        route: plan.route,
        dir: &dir,
        chroot: record.chroot,
        rdt: record.rdt.as_ref(),
        cgroup: cgroup.as_ref(),
        // If the container's cgroup is gone, a unit with its name belongs to another container.
        driver: match record.cgroup.can_attach() && dir.open_cgroup(Some(record))?.is_some() {
            true => Some(&record.cgroup),
            false => None,
        },
        below: &below,
        exact_cgroup: args.cgroup.is_some(),
        ignore_paused: args.ignore_paused,
        console_socket: endpoints.console_socket.as_ref(),
        own_terminal: endpoints.terminal.as_ref(),
        pidfd_socket: endpoints.pidfd_socket.as_ref(),
        pid_file: args.pid_file.as_deref(),
    };
    let ignored_signals = signals::ignored(found.proc())?;
    // Set up signals before the clone, because a later failure would leave a process behind.
    let signals = (!args.detach).then(Signals::new).transpose()?;
    let launched = launch::exec::exec(&request, |inherited: Inherited| {
        child::become_exec(&plan, &ignored_signals, inherited)
    });
    if let Some(trace) = trace {
        trace.write(Some((found.proc(), *pid)), &[], log);
    }
    let flag = flag(format!("--cgroup {below}"));
    let asked = cgroup.as_ref().filter(|_| args.cgroup.is_some());
    let launched = launched.map_err(|error| launch::name_cgroup_in_error(error, asked, &flag))?;
    match signals {
        None => Ok(0),
        Some(signals) => wait_in_foreground(launched, endpoints.terminal, &signals, false, None),
    }
}

/// Returns the description of the process: the flags, or the file that the command line names.
fn read_description<'a>(
    process: &'a ExecProcessSource,
    log: &Log,
) -> Result<ExecDescription<'a>, Error> {
    match process {
        ExecProcessSource::Line(line) => Ok(ExecDescription::Flags(line)),
        ExecProcessSource::File { path, tty } => {
            let (process, warnings) = spec::load_process(path)?;
            log_warnings(&warnings, log);
            Ok(ExecDescription::File {
                file: path.display().to_string(),
                process: Box::new(process),
                tty: *tty,
            })
        }
    }
}

fn log_exec_plan(plan: &ExecPlan, init: i32, log: &Log) {
    log_warnings(&plan.warnings, log);
    log.debug(&format!("init is process {init}"));
    log.debug(&format!("route: {}", plan.route));
    log_filter(plan.process.seccomp.as_ref(), log);
}

/// Returns the cgroup for the process: the one below the container's that --cgroup names, or else
/// the container's. If the container's cgroup is gone, returns the cgroup that init is in now.
/// `launch::exec` also uses init's cgroup if the container's accepts no processes. Returns `None`
/// if the container has no cgroup.
fn process_cgroup(
    dir: &Dir,
    args: &ExecArgs,
    found: &FoundContainer,
    record: &Record,
    init: i32,
) -> Result<Option<Cgroup>, Error> {
    let disabled = record.cgroup.is_disabled();
    match args
        .cgroup
        .as_ref()
        .filter(|path| !path.as_os_str().is_empty())
    {
        Some(_) if disabled => Err(Error::NoCgroup),
        None if disabled => Ok(None),
        Some(below) => {
            let own = dir.open_cgroup(Some(record))?.ok_or(Error::ExecStopped)?;
            let path = own.path().join(below);
            let absent = || {
                format!(
                    "--cgroup {}: open cgroup {}: no such file or directory",
                    below.display(),
                    path.display()
                )
            };
            let cgroup = Cgroup::open(&path)?;
            cgroup.map(Some).ok_or_else(|| Error::BadFlag(absent()))
        }
        None => match dir.open_cgroup(Some(record))? {
            Some(cgroup) => Ok(Some(cgroup)),
            None => Ok(Some(launch::exec::current_cgroup(found.proc(), init)?)),
        },
    }
}
