//! `exec`: a further process in a container, described by a file or by flags.
//! What is not said there comes from the container's config.json.

use std::path::Path;

use oci_spec::runtime::{LinuxCapabilities, Process};

use super::create::{Consoles, attend, log_filter};
use super::{Error, Found, cgroup_of, open};
use crate::cgroup::Cgroup;
use crate::child;
use crate::error::Violation;
use crate::invocation::{Exec, ExecLine, ExecProcess, Globals};
use crate::launch::signals::{self, Signals};
use crate::launch::{self, descriptors};
use crate::log::Log;
use crate::origin::flag;
use crate::plan::host::Procfs;
use crate::plan::process::{OF_CONFIG, Places};
use crate::plan::route::Route;
use crate::plan::words::Words;
use crate::plan::{caps, process};
use crate::protocol::Inherited;
use crate::spec;
use crate::state::record::Record;
use crate::state::{Dir, Init, Status};

/// The description of the process, as far as the command line has it.
enum Given<'a> {
    Whole(Box<Process>),
    Line(&'a ExecLine),
}

impl Given<'_> {
    fn read<'a>(process: &'a ExecProcess, log: &Log) -> Result<Given<'a>, Error> {
        match process {
            ExecProcess::Line(line) => Ok(Given::Line(line)),
            ExecProcess::File { path, tty } => {
                let (mut process, warnings) = spec::load_process(path)?;
                warnings.iter().for_each(|warning| log.warn(warning));
                if *tty {
                    process.set_terminal(Some(true));
                }
                Ok(Given::Whole(Box::new(process)))
            }
        }
    }
}

/// Runs a process; answers with its exit code, or 0 if it was detached.
pub(crate) fn exec(globals: &Globals, args: &Exec, log: &Log) -> Result<i32, Error> {
    // Before the caller's descriptors are closed: it may be one of them that /dev/fd/N names.
    let given = Given::read(&args.process, log)?;
    let listen_fds = descriptors::take(args.preserve_fds)?;
    signals::block()?;
    let dir = open(globals, args.id.as_str())?;
    let found = Found::read(&dir)?;
    let status = found.status(&dir);
    match status {
        Status::Created | Status::Running => {}
        Status::Paused if args.ignore_paused => {}
        Status::Paused => return Err(Error::ExecPaused),
        Status::Creating => return Err(Error::ExecCreating),
        Status::Stopped => return Err(Error::ExecStopped),
    }
    let (Some(record), Init::Alive { pid, pidfd }) = (&found.record, &found.init) else {
        return Err(Error::ExecStopped);
    };
    let loaded = spec::load(&record.config())?;
    spec::Error::if_any(loaded.violations)?;
    let spec = loaded.spec;
    let configured = spec.process().clone().unwrap_or_else(process::nothing);
    let described = match given {
        Given::Whole(process) => inherit(*process, &configured),
        Given::Line(line) => from_line(configured, line, log),
    };
    let line = match &args.process {
        ExecProcess::Line(line) => Some(line),
        ExecProcess::File { .. } => None,
    };
    let words = Words::of(&described, listen_fds);
    let words = match line {
        Some(line) => words.with(&line.args, &line.env),
        None => words,
    };
    let mut plan = match process::plan(&described, spec.linux().as_ref(), &words) {
        Ok(plan) => plan,
        Err(mut found) => {
            line.iter().for_each(|line| name_flags(line, &mut found));
            spec::Error::if_any(found)?;
            return Err(Error::NothingWrong);
        }
    };
    plan = plan.with_annotations(&spec);
    plan = plan.granted(available(&found.proc, *pid)?);
    plan.warnings.iter().for_each(|warning| log.warn(warning));
    plan.places = places(line);
    // As in a create: a small heap makes the clone cheaper.
    drop(spec);
    let route = route(&found.proc, *pid, status == Status::Created, log)?;
    log_filter(plan.seccomp.as_ref(), log);
    let consoles = Consoles::open(
        plan.terminal.is_some(),
        args.detach,
        args.console_socket.as_deref(),
        args.pidfd_socket.as_deref(),
    )?;
    let cgroup = cgroup(&dir, args, record, &found.proc, *pid)?;
    let below = args.cgroup.as_deref().unwrap_or(Path::new(""));
    let below = below.to_string_lossy().into_owned();
    let exec = child::Exec {
        born_filtered: plan.is_born_filtered(),
        process: plan,
        keyring: record
            .keyring
            .then(|| crate::plan::keyring_name(&record.id))
            .flatten(),
        preserve_fds: listen_fds + args.preserve_fds,
    };
    let request = launch::exec::Request {
        process: &exec.process,
        state: record.state(status.as_str(), *pid),
        proc: &found.proc,
        init: (*pid, pidfd),
        route,
        dir: &dir,
        chroot: record.chroot,
        rdt: record.rdt.as_ref(),
        cgroup: cgroup.as_ref(),
        // Without the container's cgroup, a unit of that name is another's.
        driver: match record.cgroup.can_attach() && cgroup_of(&dir, Some(record))?.is_some() {
            true => Some(&record.cgroup),
            false => None,
        },
        below: &below,
        exact_cgroup: args.cgroup.is_some(),
        console_socket: consoles.console_socket.as_ref(),
        own_terminal: consoles.own.as_ref(),
        pidfd_socket: consoles.pidfd_socket.as_ref(),
        pid_file: args.pid_file.as_deref(),
    };
    let ignored_signals = signals::ignored(&found.proc)?;
    // Before there is a process that would be left behind.
    let signals = (!args.detach).then(Signals::new).transpose()?;
    let launched = launch::exec::exec(&request, |inherited: Inherited| {
        child::exec(&exec, &ignored_signals, inherited)
    });
    let flag = flag(format!("--cgroup {below}"));
    let asked = cgroup.as_ref().filter(|_| args.cgroup.is_some());
    let launched = launched.map_err(|error| launch::naming(error, asked, &flag))?;
    match signals {
        None => Ok(0),
        Some(signals) => attend(launched, consoles.own, &signals, false, None),
    }
}

/// The way into the namespaces of an init, which `waits` for its start or not.
fn route(proc: &Procfs, init: i32, waits: bool, log: &Log) -> Result<Route, Error> {
    log.debug(&format!("init is process {init}"));
    let route = Route::for_exec(proc, init, waits).map_err(launch::Error::from)?;
    log.debug(&format!("route: {route}"));
    Ok(route)
}

/// The container's cgroup or one below it; where that is gone, or can't take processes, the one that init is in now.
/// `None`: the container has none.
fn cgroup(
    dir: &Dir,
    args: &Exec,
    record: &Record,
    proc: &Procfs,
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
            let own = cgroup_of(dir, Some(record))?.ok_or(Error::ExecStopped)?;
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
        None => match cgroup_of(dir, Some(record))? {
            Some(cgroup) => Ok(Some(cgroup)),
            None => Ok(Some(launch::exec::current_cgroup(proc, init)?)),
        },
    }
}

/// Where it was said what the process is like: in a file, or on a line that leaves something to config.json.
fn places(line: Option<&ExecLine>) -> Places {
    let Some(line) = line else {
        return Places {
            cwd: "--process: cwd",
            uid: "--process: user.uid",
            gid: "--process: user.gid",
            groups: "--process: user.additionalGids",
            rlimits: "--process or config.json: process.rlimits",
            apparmor: "--process or config.json: process.apparmorProfile",
            selinux: "--process or config.json: process.selinuxLabel",
        };
    };
    let place = |flag, said, field| if said { flag } else { field };
    let gid = line.user.is_some_and(|user| user.gid.is_some());
    Places {
        cwd: place("--cwd", line.cwd.is_some(), OF_CONFIG.cwd),
        uid: place("--user", line.user.is_some(), OF_CONFIG.uid),
        gid: place("--user", gid, OF_CONFIG.gid),
        groups: place(
            "--additional-gids and config.json: process.user.additionalGids",
            !line.additional_gids.is_empty(),
            OF_CONFIG.groups,
        ),
        rlimits: OF_CONFIG.rlimits,
        apparmor: place("--apparmor", line.apparmor.is_some(), OF_CONFIG.apparmor),
        selinux: place(
            "--process-label",
            line.process_label.is_some(),
            OF_CONFIG.selinux,
        ),
    }
}

/// Calls what the line is to blame for by its flags.
fn name_flags(line: &ExecLine, violations: &mut [Violation]) {
    for violation in violations {
        let name = match violation.origin.config_field() {
            Some("process.apparmorProfile") if line.apparmor.is_some() => "--apparmor",
            Some("process.selinuxLabel") if line.process_label.is_some() => "--process-label",
            _ => continue,
        };
        violation.origin = flag(name);
    }
}

/// What a process file doesn't say.
fn inherit(mut process: Process, configured: &Process) -> Process {
    if process.capabilities().is_none() {
        process.set_capabilities(configured.capabilities().clone());
    }
    if process.rlimits().as_ref().is_none_or(Vec::is_empty) {
        process.set_rlimits(configured.rlimits().clone());
    }
    if process.no_new_privileges().is_none() {
        process.set_no_new_privileges(configured.no_new_privileges());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(configured.oom_score_adj());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(configured.scheduler().clone());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(*configured.io_priority());
    }
    if process.exec_cpu_affinity().is_none() {
        process.set_exec_cpu_affinity(configured.exec_cpu_affinity().clone());
    }
    let is_empty = |label: &Option<String>| label.as_ref().is_none_or(String::is_empty);
    if is_empty(process.apparmor_profile()) {
        process.set_apparmor_profile(configured.apparmor_profile().clone());
    }
    if is_empty(process.selinux_label()) {
        process.set_selinux_label(configured.selinux_label().clone());
    }
    if process.user().umask().is_none() {
        let umask = configured.user().umask();
        process.user_mut().set_umask(umask);
    }
    process
}

/// What a process in the container of an init has to give of: whoever joins its user namespace has all.
fn available(proc: &Procfs, init: i32) -> Result<caps::Available, Error> {
    let user = |pid: &str| proc.namespace(&format!("{pid}/ns/user"));
    match (user("self"), user(&init.to_string())) {
        (Ok(own), Ok(its)) if own == its => Ok(caps::Available::probe(proc)?),
        _ => Ok(caps::Available::ALL),
    }
}

/// The configured process with what the command line says, but for its words.
fn from_line(mut process: Process, line: &ExecLine, log: &Log) -> Process {
    // A terminal is only what the line asks for, as in runc.
    process.set_terminal(Some(line.tty));
    process.set_console_size(None);
    if let Some(cwd) = &line.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some(user) = line.user {
        process.user_mut().set_uid(user.uid);
        if let Some(gid) = user.gid {
            process.user_mut().set_gid(gid);
        }
    }
    if !line.additional_gids.is_empty() {
        let mut gids = process.user().additional_gids().clone().unwrap_or_default();
        gids.extend(&line.additional_gids);
        process.user_mut().set_additional_gids(Some(gids));
    }
    if let Some(no_new_privs) = line.no_new_privs {
        process.set_no_new_privileges(Some(no_new_privs));
    }
    if line.apparmor.is_some() {
        process.set_apparmor_profile(line.apparmor.clone());
    }
    if line.process_label.is_some() {
        process.set_selinux_label(line.process_label.clone());
    }
    add_caps(&mut process, &line.caps, log);
    process
}

/// --cap adds to what the process may use, never to what it may inherit (CVE-2022-29162, CVE-2022-27650); what config.json lets
/// it inherit becomes ambient too, as in runc. One that isn't known is a warning, as in config.json.
fn add_caps(process: &mut Process, names: &[String], log: &Log) {
    if names.is_empty() {
        return;
    }
    let mut sets = process.capabilities().clone().unwrap_or_else(none);
    for name in names {
        let Some(capability) = caps::parse(name) else {
            log.warn(&format!("--cap: unknown capability {name:?}, ignored"));
            continue;
        };
        let with = |set: &Option<oci_spec::runtime::Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective, permitted) = (
            with(sets.bounding()),
            with(sets.effective()),
            with(sets.permitted()),
        );
        sets.set_bounding(bounding);
        sets.set_effective(effective);
        sets.set_permitted(permitted);
        let inheritable = sets.inheritable().as_ref();
        if inheritable.is_some_and(|set| set.contains(&capability)) {
            let ambient = with(sets.ambient());
            sets.set_ambient(ambient);
        }
    }
    process.set_capabilities(Some(sets));
}

/// No capability in any set; the type's own default has some.
fn none() -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(None)
        .set_effective(None)
        .set_inheritable(None)
        .set_permitted(None)
        .set_ambient(None);
    sets
}
