//! Parent: brings up init and exec processes, and kills them.
//! The child's part is in `child`. `protocol` defines the messages between parent and child.

mod agent;
mod bring_up;
pub(crate) mod checkpoint;
mod clone;
pub(crate) mod descriptors;
mod ending;
pub(crate) mod exec;
pub(crate) mod foreground;
mod id_map_tools;
mod ids;
pub(crate) mod images;
pub(crate) mod init;
mod intermediate;
mod link;
pub(crate) mod mounts;
mod network;
mod nodes;
pub(crate) mod notify;
mod pid_file;
mod placement;
mod prepare;
pub(crate) mod processes;
mod relay;
pub(crate) mod restore;
mod rlimits;
mod scheduling;
mod shortage;
pub(crate) mod signals;
mod sources;
mod start;
pub(crate) mod terminal;
pub(crate) mod trace;
mod uncovered;

use std::os::fd::OwnedFd;

use nix::sys::signal::Signal;

use crate::cgroup;
use crate::criu;
use crate::error::Failed;
use crate::hooks;
use crate::origin::Origin;
use crate::plan::route;
use crate::protocol::HOOK_FAILURE_ERRNO;
use crate::state;
use crate::sys::Errno;
use crate::sys::clone::Child;
use crate::sys::process;
pub(crate) use ending::{DEADLINE, end, kill};
pub(crate) use placement::name_cgroup_in_error;
pub(crate) use prepare::{open_namespace, root_is_no_directory};
pub(crate) use shortage::{explained, killed_for_memory};
pub(crate) use start::start;

/// The reason why a process could not be brought up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    #[error(transparent)]
    State(#[from] state::Error),
    #[error(transparent)]
    Terminal(#[from] terminal::Error),
    #[error(transparent)]
    Hook(#[from] hooks::Error),
    #[error(transparent)]
    NetDevice(#[from] crate::net_devices::Error),
    #[error(transparent)]
    Rdt(#[from] crate::intel_rdt::Error),
    #[error(transparent)]
    Criu(#[from] criu::Error),
    /// A feature that checkpoint and restore don't support, and the setting that asks for it.
    #[error("not supported by checkpoint and restore: {}", .1.asks_to(.0))]
    NoCheckpoint(String, Origin),
    #[error("not supported: checkpoint and restore by a caller who isn't root of the host")]
    NotRoot,
    /// An object of the host that config.json names, and that can't be used for its purpose.
    #[error("{what}: {2}", what = .1.asks_to(.0))]
    Unusable(String, Origin, String),
    /// A failure that the child reported.
    #[error("unable to start container process: error during container init: {0}")]
    Init(Failed),
    #[error("unable to start container process: {0}")]
    Exec(Failed),
    /// The child has closed the link. Once the child is reaped, this becomes `Died`.
    #[error("unable to start container process: it was gone before it could run the program")]
    Gone,
    #[error("unable to start container process: it was {0} before it could run the program{1}")]
    Died(String, String),
    /// An error, and the limit that was too low and caused it.
    #[error("{0}: {1}")]
    Limit(Box<Error>, String),
    #[error("{}: {problem}", .origin.asks_to(format_args!("map ids by {tool}")))]
    IdMapTool {
        tool: String,
        origin: Origin,
        problem: String,
    },
    #[error(
        "only root can enter the container: it was not started yet, or its user may not read its program"
    )]
    Closed,
    #[error("the process that changes the mounts was {0}")]
    NoMounts(String),
    #[error("container not running")]
    NotRunning,
    #[error(
        "process {0} does not end {1} s after it was killed: it is in an uninterruptible sleep, or the init of a pid namespace in which nobody reaps another process"
    )]
    Undying(i32, u64),
    #[error("unable to start container process: {} has been frozen for 10 s", .0.display())]
    Frozen(std::path::PathBuf),
    #[error("the start socket of the container is gone")]
    NoStartSocket,
    #[error("interrupted by signal {0} ({name})", name = Signal::try_from(*.0).map_or("unknown", Signal::as_str))]
    Interrupted(i32),
}

impl From<route::Error> for Error {
    fn from(error: route::Error) -> Error {
        match error {
            route::Error::Hidden => Error::Closed,
            route::Error::Ended => Error::NotRunning,
            route::Error::Failed(failed) => Error::Failed(failed),
        }
    }
}

impl Error {
    /// True if a hook that the container's init runs has failed.
    pub(crate) fn is_of_hook(&self) -> bool {
        match self {
            Error::Init(failed) => {
                failed.call.is_empty() && matches!(failed.errno, HOOK_FAILURE_ERRNO | Errno::EAGAIN)
            }
            Error::Limit(error, _) => error.is_of_hook(),
            _ => false,
        }
    }

    /// Returns the signal that interrupted the command, if a signal was the reason.
    pub(crate) fn interrupting_signal(&self) -> Option<i32> {
        match self {
            Error::Interrupted(signal) | Error::Criu(criu::Error::Interrupted(signal)) => {
                Some(*signal)
            }
            Error::Cgroup(error) => error.interrupting_signal(),
            Error::Hook(error) => error.interrupting_signal(),
            _ => None,
        }
    }
}

/// A process that waits for `start`, or runs its program.
pub(crate) struct Launched {
    pub(crate) child: Child,
    /// The master of the process's terminal, unless it was sent to a console socket.
    pub(crate) master: Option<OwnedFd>,
    /// Notes about steps that were skipped because the host does not allow them.
    pub(crate) notes: Vec<String>,
}

/// Returns the uid of the user who makes containers.
pub(crate) fn owner() -> u32 {
    process::effective_uid()
}
