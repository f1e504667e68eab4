//! The commands, one file each, and the error type that covers all modules.
//! Error messages that engines search for use runc's words.

mod check;
mod checkpoint;
mod create;
mod delete;
mod diagnose;
mod doctor;
mod events;
mod exec;
mod features;
mod hooks;
mod inspect;
mod kill;
mod list;
mod mounts;
mod pause;
mod ps;
mod restore;
mod spec;
mod start;
mod state;
mod target;
mod terminal;
mod timeline;
mod update;

use crate::cgroup;
use crate::error::{Failed, Violation};
use crate::invocation::{Command, Globals, Invocation, console};
use crate::launch::processes::ContainerProcesses;
use crate::launch::{self, descriptors};
use crate::log::Log;
use crate::plan::exec as exec_plan;
use crate::plan::host;
use crate::state::{Dir, FoundContainer, InitState, Root};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Seal(#[from] crate::seal::Error),
    #[error(transparent)]
    Spec(#[from] crate::spec::Error),
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    State(#[from] crate::state::Error),
    #[error(transparent)]
    Launch(#[from] launch::Error),
    #[error(transparent)]
    Terminal(#[from] launch::terminal::Error),
    #[error(transparent)]
    Console(#[from] console::Error),
    #[error(transparent)]
    Descriptors(#[from] descriptors::Error),
    #[error(transparent)]
    Hook(#[from] crate::hooks::Error),
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    #[error(transparent)]
    SpecCommand(#[from] spec::Error),
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error("container not running")]
    NotRunning,
    #[error(
        "the container has no cgroup: it was made with --cgroup-manager disabled, or by a user who may not make one"
    )]
    NoCgroup,
    #[error("the container has no resctrl group: linux.intelRdt asks for none")]
    NoRdt,
    #[error("container with id {0} is not running")]
    IdNotRunning(String),
    #[error("cannot update a container in the creating state")]
    UpdateCreating,
    #[error("container not paused")]
    NotPaused,
    #[error("cannot delete container {0} that is not stopped: {1}")]
    NotStopped(String, &'static str),
    #[error("cannot start a container that has stopped")]
    StartStopped,
    #[error("cannot start an already running container")]
    StartRunning,
    #[error("cannot start a container in the {0} state")]
    StartOther(&'static str),
    #[error("cannot exec in a stopped container")]
    ExecStopped,
    #[error("cannot exec in a paused container (use --ignore-paused to override)")]
    ExecPaused,
    #[error("cannot exec in a container in the creating state")]
    ExecCreating,
    #[error("container cannot be checkpointed in {0} state")]
    CheckpointOther(&'static str),
    #[error(
        "not supported by checkpoint and restore: mounts that mounts add has made; mounts remove takes them away"
    )]
    CheckpointAdded,
    #[error("cannot change the mounts of a container in the {0} state")]
    MountsOther(&'static str),
    #[error(
        "the container has no mount namespace of its own (linux.namespaces): nothing can be mounted in it later"
    )]
    NoOwnMounts,
    #[error("cannot pause a container in the {0} state")]
    PauseOther(&'static str),
    #[error("{0}")]
    BadFlag(String),
    #[error("open --root {}: open: ENOENT (no such file or directory)", .0.display())]
    NoRoot(std::path::PathBuf),
    #[error("create has not written a record yet, or ended before it could")]
    NoRecord,
    /// The errors of several containers, joined.
    #[error("{0}")]
    Several(String),
    #[error("run ps: {0}")]
    Ps(String),
}

impl From<exec_plan::Error> for Error {
    fn from(error: exec_plan::Error) -> Error {
        match error {
            exec_plan::Error::Refused(violations) => {
                Error::Spec(crate::spec::Error::Violations(violations))
            }
            exec_plan::Error::Route(error) => Error::Launch(error.into()),
            exec_plan::Error::Failed(failed) => Error::Failed(failed),
        }
    }
}

impl Error {
    /// Returns the signal that asked the command to terminate, if the command failed for that
    /// reason.
    pub(crate) fn interrupting_signal(&self) -> Option<i32> {
        match self {
            Error::Launch(error) => error.interrupting_signal(),
            Error::Hook(error) => error.interrupting_signal(),
            _ => None,
        }
    }
}

/// Runs a command and returns the exit code.
pub(crate) fn run_command(invocation: Invocation, log: &Log) -> Result<i32, Error> {
    let Invocation { globals, command } = invocation;
    match command {
        Command::Create(args) => create::create(&globals, &args, log),
        Command::Run(args) => create::run(&globals, &args, log),
        Command::Exec(args) => exec::exec(&globals, &args, log),
        Command::Start(args) => start::start(&globals, &args, log).map(|()| 0),
        Command::Timeline(file) => timeline::draw_trace(&file).map(|()| 0),
        Command::State(id) => state::state(&globals, id.as_str()).map(|()| 0),
        Command::Kill(args) => kill::kill(&globals, &args).map(|()| 0),
        Command::Delete(args) => delete::delete(&globals, &args, log).map(|()| 0),
        Command::List(args) => list::list(&globals, &args).map(|()| 0),
        Command::Spec(args) => Ok(spec::write_config(&args).map(|()| 0)?),
        Command::Ps(args) => ps::ps(&globals, &args).map(|()| 0),
        Command::Pause(id) => pause::pause(&globals, id.as_str()).map(|()| 0),
        Command::Update(args) => update::update(&globals, &args, log).map(|()| 0),
        Command::Mounts(args) => mounts::mounts(&globals, &args, log).map(|()| 0),
        Command::Events(args) => events::events(&globals, &args, log).map(|()| 0),
        Command::Inspect(args) => inspect::inspect(&globals, &args).map(|()| 0),
        Command::Check(args) => check::check(&globals, &args),
        Command::Doctor { json } => doctor::doctor(json),
        Command::Features => features::features().map(|()| 0),
        Command::Checkpoint(args) => checkpoint::checkpoint(&globals, &args, log).map(|()| 0),
        Command::Restore(args) => restore::restore(&globals, &args, log),
        Command::Resume(id) => pause::resume(&globals, id.as_str()).map(|()| 0),
    }
}

/// Opens the state directory of a container.
fn open_container(globals: &Globals, id: &str) -> Result<Dir, Error> {
    let root = Root::open(&globals.root)?.ok_or(crate::state::Error::Absent)?;
    Ok(root.container(id)?)
}

/// Returns the processes of a container that was made without a cgroup. Returns `None` if the
/// container has a cgroup, or if its init is gone.
fn cgroupless_processes(found: &FoundContainer) -> Option<ContainerProcesses<'_>> {
    match (&found.record, &found.init) {
        (Some(record), InitState::Alive { pid, .. }) if record.cgroup.is_disabled() => {
            Some(ContainerProcesses {
                proc: found.proc(),
                init: *pid,
                own_pids: record.own_pids,
            })
        }
        _ => None,
    }
}

/// Logs a planner's warnings about ignored values.
fn log_warnings(warnings: &[Violation], log: &Log) {
    for warning in warnings {
        log.warn_of(warning);
    }
}

/// Writes text to stdout with one call.
fn print_stdout(text: &str) -> Result<(), Error> {
    Ok(crate::log::print_stdout(text)?)
}
