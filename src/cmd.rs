//! The commands, one file each, and the error over all modules.
//! A command speaks to the user in the words of runc where engines look for them.

mod create;
mod delete;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod spec;
mod start;
mod state;

use std::io::Write;

use crate::cgroup::{self, Cgroup};
use crate::error::{Failed, failed};
use crate::invocation::{Command, Globals, Invocation};
use crate::launch::{self, descriptors, terminal};
use crate::log::Log;
use crate::plan::host;
use crate::state::record::Record;
use crate::state::{Dir, Init, Root, Status};
use crate::sys::procfs::{Procfs, errno_of};

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
    Terminal(#[from] terminal::Error),
    #[error(transparent)]
    Descriptors(#[from] descriptors::Error),
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    #[error(transparent)]
    SpecCommand(#[from] spec::Error),
    #[error(transparent)]
    Failed(#[from] Failed),
    /// A planner refused without saying why: a mistake of ours.
    #[error("internal error: the configuration was refused without a reason")]
    NothingWrong,
    #[error("container not running")]
    NotRunning,
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
    #[error("cannot pause a container in the {0} state")]
    PauseOther(&'static str),
    #[error("{0}")]
    BadFlag(String),
    #[error("--root {0} does not exist")]
    NoRoot(std::path::PathBuf),
    #[error("run ps: {0}")]
    Ps(String),
}

/// Runs a command; answers with the exit code.
pub(crate) fn run(invocation: Invocation, log: &Log) -> Result<i32, Error> {
    let Invocation { globals, command } = invocation;
    match command {
        Command::Create(args) => create::create(&globals, &args, log),
        Command::Run(args) => create::run(&globals, &args, log),
        Command::Exec(args) => exec::exec(&globals, &args, log),
        Command::Start(id) => start::start(&globals, id.as_str()).map(|()| 0),
        Command::State(id) => state::state(&globals, id.as_str()).map(|()| 0),
        Command::Kill(args) => kill::kill(&globals, &args).map(|()| 0),
        Command::Delete(args) => delete::delete(&globals, &args).map(|()| 0),
        Command::List(args) => list::list(&globals, &args).map(|()| 0),
        Command::Spec(args) => Ok(spec::run(&args).map(|()| 0)?),
        Command::Ps(args) => ps::ps(&globals, &args).map(|()| 0),
        Command::Pause(id) => pause::pause(&globals, id.as_str()).map(|()| 0),
        Command::Features => features::features().map(|()| 0),
        Command::Resume(id) => pause::resume(&globals, id.as_str()).map(|()| 0),
    }
}

/// A container as a command finds it.
struct Found {
    root: Root,
    dir: Dir,
    proc: Procfs,
    record: Option<Record>,
    init: Init,
}

impl Found {
    /// Looks a container up; changes nothing.
    fn open(globals: &Globals, id: &str) -> Result<Found, Error> {
        let root = Root::open(&globals.root)?.ok_or(crate::state::Error::Absent)?;
        Found::in_root(root, id)
    }

    fn in_root(root: Root, id: &str) -> Result<Found, Error> {
        let dir = root.container(id)?;
        let proc = host::open_proc()?;
        let record = dir.load()?;
        let init = match &record {
            Some(record) => crate::state::init(record, &proc, &host::boot_id(&proc)?),
            None => Init::Gone,
        };
        Ok(Found {
            root,
            dir,
            proc,
            record,
            init,
        })
    }

    fn status(&self) -> Status {
        let frozen = || {
            self.cgroup()
                .ok()
                .flatten()
                .is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false))
        };
        self.dir.status(self.record.as_ref(), &self.init, frozen)
    }

    /// The container's cgroup; `None` if it is gone or was never made.
    fn cgroup(&self) -> Result<Option<Cgroup>, Error> {
        match &self.record {
            Some(record) => Ok(Cgroup::open(&record.cgroup)?),
            None => Ok(None),
        }
    }
}

/// Writes to stdout in one piece. A reader that is gone is an error like any other.
fn print(text: &str) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|e| failed("write", || "write to stdout".into())(errno_of(&e)).into())
}
