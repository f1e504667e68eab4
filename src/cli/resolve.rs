//! Turns flags into an `Invocation`: makes paths absolute, fills in defaults, and refuses flags
//! that contradict each other.
//! Nothing here needs the container or its config.json.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::answers::Name;
use super::{
    AllFlags, CommandFlags, CreateFlags, ExecFlags, GlobalFlags, ListFlags, RunFlags, values,
};
use crate::error::ErrnoText;
use crate::invocation::{
    CgroupDriver, CheckArgs, Command, ContainerId, CreateArgs, DeleteArgs, ExecArgs,
    ExecProcessSource, Globals, InspectArgs, Invocation, KillArgs, ListArgs, Mounts, OutputFormat,
    ProcessFlags, PsArgs, RootOrigin, RunArgs, SpecArgs, StartArgs, TargetContainers, console,
};
use crate::log;
use crate::spec::paths::is_root;
use crate::sys::{self, path, process};

const STATE_ROOTS: &str = "/run";
/// /proc/self/uid_map of the initial user namespace.
const INITIAL_UID_MAP: [&str; 3] = ["0", "0", "4294967295"];

/// The caller's environment, as far as the command line depends on it. The expensive parts are
/// functions, called on demand.
pub(super) struct CallerEnvironment {
    /// The current directory; `None` if it can't be reached from the root directory.
    pub(super) cwd: fn() -> sys::Result<Option<PathBuf>>,
    /// True if `$XDG_RUNTIME_DIR` belongs to the user. For root this is false, except for root of a
    /// user namespace.
    pub(super) honours_runtime_dir: fn() -> bool,
    pub(super) runtime_dir: Option<OsString>,
    /// The name that the program is called by, which names the default state root.
    pub(super) name: Name,
}

impl CallerEnvironment {
    /// Reads the environment of this process, which was called by this name.
    pub(super) fn probe(name: Name) -> CallerEnvironment {
        CallerEnvironment {
            cwd: path::getcwd,
            honours_runtime_dir: owns_runtime_dir,
            runtime_dir: std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()),
            name,
        }
    }

    fn current_directory(&self) -> Result<PathBuf, String> {
        match (self.cwd)() {
            Ok(Some(directory)) => Ok(directory),
            Ok(None) => Err("the current directory is out of reach".into()),
            Err(errno) => Err(format!(
                "the current directory: getcwd: {}",
                ErrnoText(errno)
            )),
        }
    }

    /// Makes the path that a flag names absolute. Leaves symbolic links and `..` to the kernel.
    pub(super) fn absolute_path(&self, flag: &str, path: &OsStr) -> Result<PathBuf, String> {
        let path = Path::new(path);
        let whole = if path.is_absolute() {
            path.to_owned()
        } else {
            let directory = self.current_directory();
            let directory = directory.map_err(|reason| format!("{flag} {path:?}: {reason}"))?;
            directory.join(path)
        };
        Ok(whole.components().collect())
    }

    /// As `absolute_path`, for an optional flag. An empty value counts as absent, as in runc.
    pub(super) fn optional_path(
        &self,
        flag: &str,
        path: Option<OsString>,
    ) -> Result<Option<PathBuf>, String> {
        path.filter(|path| !path.is_empty())
            .map(|path| self.absolute_path(flag, &path))
            .transpose()
    }

    pub(super) fn bundle_path(&self, path: Option<OsString>) -> Result<PathBuf, String> {
        match self.optional_path("--bundle", path)? {
            Some(bundle) => Ok(bundle),
            None => self
                .current_directory()
                .map_err(|reason| format!("--bundle is not given, and {reason}")),
        }
    }
}

fn owns_runtime_dir() -> bool {
    if process::effective_uid() != 0 {
        return true;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(INITIAL_UID_MAP)
        && std::env::var_os("USER").is_none_or(|user| user != "root")
}

/// Makes an invocation from the flags. `log` was read from the command line before.
pub(super) fn resolve_invocation(
    flags: AllFlags,
    log: log::Settings,
    caller: &CallerEnvironment,
) -> Result<Invocation, String> {
    let AllFlags { globals, command } = flags;
    Ok(Invocation {
        globals: resolve_globals(globals, log, caller)?,
        command: resolve_command(command, caller)?,
    })
}

fn resolve_globals(
    flags: GlobalFlags,
    log: log::Settings,
    caller: &CallerEnvironment,
) -> Result<Globals, String> {
    let GlobalFlags {
        root,
        log: _,
        log_format: _,
        log_level: _,
        debug: _,
        systemd_cgroup,
        cgroup_manager,
        rootless,
    } = flags;
    let cgroup_driver = match (systemd_cgroup, cgroup_manager) {
        (true, None | Some(CgroupDriver::Systemd)) => CgroupDriver::Systemd,
        (true, Some(_)) => {
            return Err("--systemd-cgroup and --cgroup-manager exclude each other".into());
        }
        (false, driver) => driver.unwrap_or_default(),
    };
    let (root, root_origin) = match (root, &caller.runtime_dir) {
        (Some(root), _) => {
            let absolute = if root.is_empty() {
                return Err("--root \"\": expected a directory".into());
            } else {
                caller.absolute_path("--root", &root)?
            };
            if is_root(&absolute) {
                return Err(format!("--root {root:?}: must not be /"));
            }
            (absolute, RootOrigin::Given)
        }
        (None, Some(dir)) if (caller.honours_runtime_dir)() => {
            let dir = Path::new(dir);
            if !dir.is_absolute() {
                return Err(format!(
                    "XDG_RUNTIME_DIR {dir:?}: expected an absolute path"
                ));
            }
            (dir.join(caller.name.as_str()), RootOrigin::RuntimeDir)
        }
        (None, _) => (
            Path::new(STATE_ROOTS).join(caller.name.as_str()),
            RootOrigin::Default,
        ),
    };
    Ok(Globals {
        root,
        root_origin,
        log,
        cgroup_driver,
        rootless: rootless.unwrap_or_default(),
    })
}

fn resolve_command(flags: CommandFlags, caller: &CallerEnvironment) -> Result<Command, String> {
    Ok(match flags {
        CommandFlags::Create(flags) => Command::Create(resolve_create(flags, caller)?),
        CommandFlags::Run(flags) => Command::Run(resolve_run(flags, caller)?),
        CommandFlags::Exec(flags) => Command::Exec(resolve_exec(flags, caller)?),
        CommandFlags::Start(flags) => Command::Start(StartArgs {
            id: flags.id,
            timeline: caller.optional_path("--timeline", flags.timeline)?,
        }),
        CommandFlags::State(flags) => Command::State(flags.id),
        CommandFlags::Pause(flags) => Command::Pause(flags.id),
        CommandFlags::Resume(flags) => Command::Resume(flags.id),
        CommandFlags::Kill(flags) => Command::Kill(KillArgs {
            target: parse_target(flags.id, flags.regex)?,
            signal: flags.signal,
            all: flags.all,
        }),
        CommandFlags::Delete(flags) => Command::Delete(DeleteArgs {
            target: parse_target(flags.id, flags.regex)?,
            force: flags.force,
        }),
        CommandFlags::List(flags) => Command::List(resolve_list(flags)?),
        CommandFlags::Ps(flags) => Command::Ps(PsArgs {
            id: flags.id,
            format: flags.format,
            options: flags.options,
        }),
        CommandFlags::Spec(flags) => Command::Spec(SpecArgs {
            bundle: caller.bundle_path(flags.bundle)?,
            config: config_file(flags.config),
            rootless: flags.rootless,
        }),
        CommandFlags::Mounts(flags) => Command::Mounts(Mounts {
            change: flags.change,
            id: flags.id,
            file: caller.absolute_path("FILE", &flags.file)?,
        }),
        CommandFlags::Update(flags) => Command::Update(flags.resolve(caller)?),
        CommandFlags::Events(flags) => Command::Events(flags.resolve()),
        CommandFlags::Features => Command::Features,
        CommandFlags::Timeline(flags) => {
            Command::Timeline(caller.absolute_path("FILE", &flags.file)?)
        }
        CommandFlags::Inspect(flags) => Command::Inspect(InspectArgs {
            id: flags.id,
            json: flags.json,
        }),
        CommandFlags::Check(flags) => Command::Check(CheckArgs {
            bundle: caller.bundle_path(flags.bundle)?,
            config: config_file(flags.config),
            json: flags.json,
            host: caller.optional_path("--host", flags.host)?,
        }),
        CommandFlags::Doctor(flags) => Command::Doctor { json: flags.json },
        CommandFlags::Checkpoint(flags) => Command::Checkpoint(Box::new(flags.resolve(caller)?)),
        CommandFlags::Restore(flags) => Command::Restore(Box::new(flags.resolve(caller)?)),
    })
}

fn resolve_create(flags: CreateFlags, caller: &CallerEnvironment) -> Result<CreateArgs, String> {
    Ok(CreateArgs {
        id: flags.id,
        bundle: caller.bundle_path(flags.bundle)?,
        config: config_file(flags.config),
        console_socket: caller.optional_path("--console-socket", flags.console_socket)?,
        pidfd_socket: caller.optional_path("--pidfd-socket", flags.pidfd_socket)?,
        pid_file: caller.optional_path("--pid-file", flags.pid_file)?,
        no_pivot: flags.no_pivot,
        no_new_keyring: flags.no_new_keyring,
        preserve_fds: flags.preserve_fds.unwrap_or_default(),
        timeline: caller.optional_path("--timeline", flags.timeline)?,
    })
}

fn resolve_run(flags: RunFlags, caller: &CallerEnvironment) -> Result<RunArgs, String> {
    let create = resolve_create(flags.create, caller)?;
    check_console_flags(create.console_socket.is_some(), flags.detach, None)?;
    Ok(RunArgs {
        create,
        detach: flags.detach,
        keep: flags.keep,
        no_subreaper: flags.no_subreaper,
    })
}

fn resolve_exec(flags: ExecFlags, caller: &CallerEnvironment) -> Result<ExecArgs, String> {
    let console_socket = caller.optional_path("--console-socket", flags.console_socket)?;
    let said = |label: Option<String>| label.filter(|label| !label.is_empty());
    let (apparmor, process_label) = (said(flags.apparmor), said(flags.process_label));
    let description = [
        ("--cwd", flags.cwd.is_some()),
        ("--env", !flags.env.is_empty()),
        ("--user", flags.user.is_some()),
        ("--additional-gids", !flags.additional_gids.is_empty()),
        ("--cap", !flags.cap.is_empty()),
        ("--no-new-privs", flags.no_new_privs.is_some()),
        ("--apparmor", apparmor.is_some()),
        ("--process-label", process_label.is_some()),
        ("a command", !flags.args.is_empty()),
    ];
    let process = if let Some(path) = caller.optional_path("--process", flags.process)? {
        if let Some((name, _)) = description.iter().find(|(_, given)| *given) {
            return Err(format!("--process and {name} exclude each other"));
        }
        let tty = flags.tty.then_some(true);
        check_console_flags(console_socket.is_some(), flags.detach, tty)?;
        ExecProcessSource::File {
            path,
            tty: flags.tty,
        }
    } else {
        if flags.args.is_empty() {
            return Err("exec args cannot be empty: expected a command, or --process".into());
        }
        for entry in &flags.env {
            values::check_env_entry(entry)
                .map_err(|reason| format!("--env {entry:?}: {reason}"))?;
        }
        check_console_flags(console_socket.is_some(), flags.detach, Some(flags.tty))?;
        ExecProcessSource::Line(ProcessFlags {
            args: flags.args,
            cwd: check_container_cwd(flags.cwd)?,
            env: flags.env,
            tty: flags.tty,
            user: flags.user,
            additional_gids: flags.additional_gids,
            caps: flags.cap,
            no_new_privs: flags.no_new_privs,
            apparmor,
            process_label,
        })
    };
    let cgroup = flags.cgroup.map(|path| {
        values::parse_cgroup_path(&path).map_err(|reason| format!("--cgroup {path:?}: {reason}"))
    });
    Ok(ExecArgs {
        id: flags.id,
        process,
        console_socket,
        pidfd_socket: caller.optional_path("--pidfd-socket", flags.pidfd_socket)?,
        pid_file: caller.optional_path("--pid-file", flags.pid_file)?,
        detach: flags.detach,
        preserve_fds: flags.preserve_fds.unwrap_or_default(),
        cgroup: cgroup.transpose()?,
        ignore_paused: flags.ignore_paused,
        timeline: caller.optional_path("--timeline", flags.timeline)?,
    })
}

/// Refuses flags for output that people read together with flags for output that programs read.
fn resolve_list(flags: ListFlags) -> Result<ListArgs, String> {
    let ListFlags {
        format,
        quiet,
        wide,
        watch,
    } = flags;
    let json = format == OutputFormat::Json;
    for (name, given, other, excluded) in [
        ("--wide", wide, "--quiet", quiet),
        ("--wide", wide, "--format json", json),
        ("--watch", watch, "--format json", json),
    ] {
        if given && excluded {
            return Err(format!("{name} and {other} exclude each other"));
        }
    }
    Ok(ListArgs {
        format,
        quiet,
        wide,
        watch,
    })
}

/// Returns the path of --config. An empty one counts as not given.
fn config_file(flag: Option<OsString>) -> Option<PathBuf> {
    flag.filter(|file| !file.is_empty()).map(PathBuf::from)
}

/// Parses a target: the id of a container or, with `regex`, an expression for ids.
fn parse_target(text: String, regex: bool) -> Result<TargetContainers, String> {
    if !regex {
        let id = ContainerId::parse(&text)
            .map_err(|reason| format!("<CONTAINER-ID> {text:?}: {reason}"))?;
        return Ok(TargetContainers::One(id));
    }
    match regex::Regex::new(&text) {
        Ok(_) => Ok(TargetContainers::Matching(text)),
        Err(regex::Error::CompiledTooBig(_)) => Err(format!("--regex {text:?}: too large")),
        Err(_) => Err(format!("--regex {text:?}: not a regular expression")),
    }
}

/// Checks a working directory in the container.
fn check_container_cwd(path: Option<OsString>) -> Result<Option<PathBuf>, String> {
    match path.filter(|path| !path.is_empty()).map(PathBuf::from) {
        Some(path) if !path.is_absolute() => {
            Err(format!("--cwd {path:?}: expected an absolute path"))
        }
        other => Ok(other),
    }
}

/// Checks the flags for terminals and says how to correct them. `terminal` is `None` if only a file
/// shows whether the process gets a terminal.
pub(super) fn check_console_flags(
    socket: bool,
    detach: bool,
    terminal: Option<bool>,
) -> Result<(), String> {
    console::check_terminal_flags(terminal, detach, socket).map_err(|error| match error {
        console::Error::NeedlessSocket => {
            format!("--console-socket: {error} (use it with --detach and a terminal)")
        }
        console::Error::NoSocket => {
            format!("--tty: {error} (use --console-socket with --detach)")
        }
    })
}
