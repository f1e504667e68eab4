//! What the caller asked for: the command line in its final types.
//! Not how it was written, which only `cli` knows, nor what a command makes of it.
//!
//! All paths are absolute, taken from the caller's directory, unless said otherwise.

pub(crate) mod console;
mod criu;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use oci_spec::runtime::LinuxResources;

use crate::log;
pub(crate) use criu::{CgroupsMode, Checkpoint, Dump, NetworkLock, Restore};

/// One command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) globals: Globals,
    pub(crate) command: Command,
}

/// What holds for every command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Globals {
    /// The directory that holds the containers' state, never `/`.
    pub(crate) root: PathBuf,
    pub(crate) root_origin: RootOrigin,
    pub(crate) log: log::Options,
    /// Who makes the cgroup of a container that is created. Later commands know it by the container's record.
    pub(crate) cgroup_driver: CgroupDriver,
    pub(crate) rootless: Rootless,
}

/// `--rootless`: whether a container does without a cgroup that the caller may not make, if its config.json asks for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Rootless {
    /// If the caller isn't root, or only root of a user namespace.
    #[default]
    Auto,
    Yes,
    No,
}

/// `--cgroup-manager`, or `--systemd-cgroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum CgroupDriver {
    #[default]
    Cgroupfs,
    /// systemd makes a scope.
    Systemd,
    /// No cgroup is made: the processes stay where the caller is.
    Disabled,
}

/// Who named the root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootOrigin {
    /// Nobody: a missing one has no containers.
    Default,
    /// `$XDG_RUNTIME_DIR`: as Default, and made 0700 with the sticky bit, or the login manager prunes it.
    RuntimeDir,
    /// `--root`: a missing one is an error for `list`.
    Given,
}

/// A container id: 1 to 255 of `A-Za-z0-9_+.-`, not `.` or `..`, so it is safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Id(String);

impl Id {
    const MAX: usize = 255;

    /// The id, or why it is none.
    pub(crate) fn parse(text: &str) -> Result<Id, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+.-".contains(&byte);
        if text.is_empty() || text == "." || text == ".." || !text.bytes().all(allowed) {
            return Err(
                "invalid container ID format (expected letters, digits, '_', '+', '.' and '-')"
                    .into(),
            );
        }
        if text.len() > Self::MAX {
            return Err(format!(
                "invalid container ID format ({} bytes, at most {})",
                text.len(),
                Self::MAX
            ));
        }
        Ok(Id(text.to_owned()))
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The command and what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Create(Create),
    Start(Id),
    State(Id),
    Kill(Kill),
    Delete(Delete),
    Run(Run),
    Exec(Exec),
    List(List),
    Spec(Spec),
    Ps(Ps),
    Pause(Id),
    Resume(Id),
    Update(Update),
    Events(Events),
    Features,
    Checkpoint(Box<Checkpoint>),
    Restore(Box<Restore>),
}

/// `create`, and the first half of `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Create {
    pub(crate) id: Id,
    pub(crate) bundle: PathBuf,
    /// The configuration, from the bundle; None: config.json.
    pub(crate) config: Option<PathBuf>,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pidfd_socket: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    /// Move the rootfs over `/` instead of pivoting: for a root on the initramfs.
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    /// How many descriptors after stdio and `$LISTEN_FDS` the container inherits.
    pub(crate) preserve_fds: u32,
}

/// `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) create: Create,
    pub(crate) detach: bool,
    /// Leave the container in place after it has exited.
    pub(crate) keep: bool,
    /// Don't reap what the container's processes leave behind.
    pub(crate) no_subreaper: bool,
}

/// What a command is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    One(Id),
    /// Every container whose id this regular expression, which compiles, matches somewhere.
    Matching(String),
}

/// `kill`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) target: Target,
    /// A signal's number, 0 (only look) to 64.
    pub(crate) signal: i32,
    /// To every process; and a container that isn't running is no error.
    pub(crate) all: bool,
}

/// `delete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delete {
    pub(crate) target: Target,
    pub(crate) force: bool,
}

/// `exec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exec {
    pub(crate) id: Id,
    pub(crate) process: ExecProcess,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pidfd_socket: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) detach: bool,
    /// How many descriptors after stdio and `$LISTEN_FDS` the process inherits.
    pub(crate) preserve_fds: u32,
    /// A cgroup below the container's own: relative, without `..`, empty for the container's own.
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) ignore_paused: bool,
}

/// Where the description of an exec process comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExecProcess {
    /// A file with the whole of it, as `process` in config.json; `tty`: with a terminal whatever it says.
    File { path: PathBuf, tty: bool },
    /// The command line; what it doesn't say comes from config.json.
    Line(ExecLine),
}

/// The description of an exec process by flags. None means what config.json says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecLine {
    /// At least one.
    pub(crate) args: Vec<OsString>,
    /// Absolute, in the container.
    pub(crate) cwd: Option<PathBuf>,
    /// Additions, each `NAME=value`.
    pub(crate) env: Vec<OsString>,
    pub(crate) tty: bool,
    pub(crate) user: Option<User>,
    /// Additions.
    pub(crate) additional_gids: Vec<u32>,
    /// Additions, as written.
    pub(crate) caps: Vec<String>,
    pub(crate) no_new_privs: Option<bool>,
    pub(crate) apparmor: Option<String>,
    pub(crate) process_label: Option<String>,
}

/// A numeric user; without a gid the group stays what config.json says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: Option<u32>,
}

/// `list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) format: Format,
    /// Ids only.
    pub(crate) quiet: bool,
}

/// `ps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ps {
    pub(crate) id: Id,
    pub(crate) format: Format,
    /// What ps(1) is called with; empty for its default.
    pub(crate) options: Vec<OsString>,
}

/// `update`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) id: Id,
    pub(crate) resources: Resources,
    pub(crate) schemata: Schemata,
}

/// New shares of cache and memory bandwidth, as in linux.intelRdt. None leaves a share as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Schemata {
    pub(crate) l3_cache: Option<String>,
    pub(crate) mem_bw: Option<String>,
}

/// Where new limits come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resources {
    /// A file of JSON, as linux.resources in config.json.
    File(PathBuf),
    /// The same on stdin.
    Stdin,
    /// The command line. An absent field leaves its limit as it is.
    Flags(Box<LinuxResources>),
}

/// `events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Events {
    pub(crate) id: Id,
    /// Only once.
    pub(crate) stats: bool,
    /// The time between two prints, never zero.
    pub(crate) interval: Duration,
}

/// `spec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) bundle: PathBuf,
    /// The file, from the bundle; None: config.json.
    pub(crate) config: Option<PathBuf>,
    pub(crate) rootless: bool,
}

/// The form of an answer on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Json,
}
