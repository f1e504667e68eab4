//! The caller's request: the command line in its final types.
//! Only `cli` knows the syntax of the command line.
//!
//! All paths are absolute unless noted otherwise.

pub(crate) mod console;
mod criu;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use oci_spec::runtime::LinuxResources;

use crate::log;
pub(crate) use criu::{CgroupsMode, CheckpointArgs, DumpOptions, NetworkLock, RestoreArgs};

/// One command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) globals: Globals,
    pub(crate) command: Command,
}

/// The global flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Globals {
    /// The directory that holds the containers' state, never `/`.
    pub(crate) root: PathBuf,
    pub(crate) root_origin: RootOrigin,
    pub(crate) log: log::Settings,
    /// The cgroup driver of a new container. Later commands read the driver from the record.
    pub(crate) cgroup_driver: CgroupDriver,
    pub(crate) rootless: RootlessMode,
}

/// `--rootless`: whether a container may run without a cgroup if the caller can't make one and
/// config.json doesn't ask for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum RootlessMode {
    /// Only if the caller isn't root, or is root of a user namespace.
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
    /// No cgroup is made. The processes stay in the caller's cgroup.
    Disabled,
}

/// The source of the root directory's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootOrigin {
    /// The default directory. If it is missing, there are no containers.
    Default,
    /// A directory in `$XDG_RUNTIME_DIR`. As `Default`, but made with the sticky bit, because the
    /// login manager would otherwise prune it.
    RuntimeDir,
    /// The directory of `--root`. If it is missing, `list` fails.
    Given,
}

/// A container id: 1 to 255 characters of `A-Za-z0-9_+.-`, but not `.` or `..`. These rules make it
/// safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerId(String);

impl ContainerId {
    const MAX_ID_BYTES: usize = 255;

    /// Checks an id. The error is the reason for the refusal.
    pub(crate) fn parse(text: &str) -> Result<ContainerId, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+.-".contains(&byte);
        if text.is_empty() || text == "." || text == ".." || !text.bytes().all(allowed) {
            return Err(
                "invalid container ID format (expected letters, digits, '_', '+', '.' and '-')"
                    .into(),
            );
        }
        if text.len() > Self::MAX_ID_BYTES {
            return Err(format!(
                "invalid container ID format ({} bytes, at most {})",
                text.len(),
                Self::MAX_ID_BYTES
            ));
        }
        Ok(ContainerId(text.to_owned()))
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The command and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Create(CreateArgs),
    Start(StartArgs),
    State(ContainerId),
    Kill(KillArgs),
    Delete(DeleteArgs),
    Run(RunArgs),
    Exec(ExecArgs),
    List(ListArgs),
    Spec(SpecArgs),
    Ps(PsArgs),
    Pause(ContainerId),
    Resume(ContainerId),
    Update(UpdateArgs),
    Mounts(Mounts),
    Events(EventsArgs),
    Features,
    Inspect(InspectArgs),
    Check(CheckArgs),
    Doctor {
        /// Print JSON.
        json: bool,
    },
    Checkpoint(Box<CheckpointArgs>),
    Restore(Box<RestoreArgs>),
    /// Draw this trace.
    Timeline(PathBuf),
}

impl Command {
    /// Returns the id of the container that the command is about, if there is exactly one.
    pub(crate) fn container(&self) -> Option<&str> {
        let id = match self {
            Command::Create(create) => &create.id,
            Command::Run(run) => &run.create.id,
            Command::Start(start) => &start.id,
            Command::State(id) | Command::Pause(id) | Command::Resume(id) => id,
            Command::Kill(kill) => return kill.target.one(),
            Command::Delete(delete) => return delete.target.one(),
            Command::Exec(exec) => &exec.id,
            Command::Ps(ps) => &ps.id,
            Command::Inspect(inspect) => &inspect.id,
            Command::Update(update) => &update.id,
            Command::Mounts(mounts) => &mounts.id,
            Command::Events(events) => &events.id,
            Command::Checkpoint(checkpoint) => &checkpoint.id,
            Command::Restore(restore) => &restore.create.id,
            Command::Check(_)
            | Command::List(_)
            | Command::Spec(_)
            | Command::Features
            | Command::Doctor { .. }
            | Command::Timeline(_) => return None,
        };
        Some(id.as_str())
    }
}

/// `start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartArgs {
    pub(crate) id: ContainerId,
    /// The file for a trace.
    pub(crate) timeline: Option<PathBuf>,
}

/// `create`, and the first half of `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CreateArgs {
    pub(crate) id: ContainerId,
    pub(crate) bundle: PathBuf,
    /// The configuration's path, relative to the bundle; `None` for config.json.
    pub(crate) config: Option<PathBuf>,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pidfd_socket: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    /// Move the rootfs over `/` instead of calling pivot_root(2), which fails on the initramfs.
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    /// How many descriptors after stdio and `$LISTEN_FDS` the container inherits.
    pub(crate) preserve_fds: u32,
    /// The file for a trace.
    pub(crate) timeline: Option<PathBuf>,
}

/// `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunArgs {
    pub(crate) create: CreateArgs,
    pub(crate) detach: bool,
    /// Keep the container after it has exited.
    pub(crate) keep: bool,
    /// Don't adopt and reap orphaned processes of the container.
    pub(crate) no_subreaper: bool,
}

/// The containers that a command acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TargetContainers {
    One(ContainerId),
    /// Every container whose id matches this valid regular expression.
    Matching(String),
}

impl TargetContainers {
    /// Returns the id, if the target is one container.
    fn one(&self) -> Option<&str> {
        match self {
            TargetContainers::One(id) => Some(id.as_str()),
            TargetContainers::Matching(_) => None,
        }
    }
}

/// `kill`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KillArgs {
    pub(crate) target: TargetContainers,
    /// A signal number from 0 (only a check) to 64.
    pub(crate) signal: i32,
    /// Signal every process, and accept a container that isn't running.
    pub(crate) all: bool,
}

/// `delete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeleteArgs {
    pub(crate) target: TargetContainers,
    pub(crate) force: bool,
}

/// `exec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecArgs {
    pub(crate) id: ContainerId,
    pub(crate) process: ExecProcessSource,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pidfd_socket: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) detach: bool,
    /// How many descriptors after stdio and `$LISTEN_FDS` the process inherits.
    pub(crate) preserve_fds: u32,
    /// The path of a cgroup below the container's own: relative, without `..`; empty for its own.
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) ignore_paused: bool,
    /// The file for a trace.
    pub(crate) timeline: Option<PathBuf>,
}

/// The source that describes an exec process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExecProcessSource {
    /// A file in the format of `process` in config.json. `tty` allocates a terminal in any case.
    File { path: PathBuf, tty: bool },
    /// The command line. config.json provides all other values.
    Line(ProcessFlags),
}

/// An exec process described by flags. `None` means the value of config.json.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessFlags {
    /// The program and its arguments, at least one item.
    pub(crate) args: Vec<OsString>,
    /// An absolute path in the container.
    pub(crate) cwd: Option<PathBuf>,
    /// Added to the variables of config.json, each `NAME=value`.
    pub(crate) env: Vec<OsString>,
    pub(crate) tty: bool,
    pub(crate) user: Option<NumericUser>,
    /// Added to the groups of config.json.
    pub(crate) additional_gids: Vec<u32>,
    /// Added to the capabilities of config.json, as the caller wrote them.
    pub(crate) caps: Vec<String>,
    pub(crate) no_new_privs: Option<bool>,
    pub(crate) apparmor: Option<String>,
    pub(crate) process_label: Option<String>,
}

/// A numeric user. Without a gid, the group comes from config.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NumericUser {
    pub(crate) uid: u32,
    pub(crate) gid: Option<u32>,
}

/// `list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListArgs {
    pub(crate) format: OutputFormat,
    /// Print ids only.
    pub(crate) quiet: bool,
    /// Print more columns, in a table only.
    pub(crate) wide: bool,
    /// Print again whenever the containers change. Not possible with JSON.
    pub(crate) watch: bool,
}

/// `inspect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InspectArgs {
    pub(crate) id: ContainerId,
    /// Print JSON.
    pub(crate) json: bool,
}

/// `ps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PsArgs {
    pub(crate) id: ContainerId,
    pub(crate) format: OutputFormat,
    /// The arguments for ps(1); empty for the default.
    pub(crate) options: Vec<OsString>,
}

/// `update`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpdateArgs {
    pub(crate) id: ContainerId,
    pub(crate) resources: ResourcesSource,
    pub(crate) schemata: RdtSchemata,
}

/// New shares of cache and memory bandwidth, as in linux.intelRdt. `None` means unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RdtSchemata {
    pub(crate) l3_cache: Option<String>,
    pub(crate) mem_bw: Option<String>,
}

/// The source of new limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResourcesSource {
    /// A JSON file in the format of linux.resources.
    File(PathBuf),
    /// The same format on stdin.
    Stdin,
    /// The command line. An absent field leaves its limit as it is.
    Flags(Box<LinuxResources>),
}

/// `mounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounts {
    pub(crate) change: Change,
    pub(crate) id: ContainerId,
    /// A file in the format of `mounts` in config.json.
    pub(crate) file: PathBuf,
}

/// Whether `mounts` adds or removes the mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Add,
    Remove,
}

/// `events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventsArgs {
    pub(crate) id: ContainerId,
    /// Print only once.
    pub(crate) stats: bool,
    /// The time between two prints, never zero.
    pub(crate) interval: Duration,
}

/// `spec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpecArgs {
    pub(crate) bundle: PathBuf,
    /// The file's path, relative to the bundle; `None` for config.json.
    pub(crate) config: Option<PathBuf>,
    pub(crate) rootless: bool,
}

/// `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckArgs {
    pub(crate) bundle: PathBuf,
    /// The configuration's path, relative to the bundle; `None` for config.json.
    pub(crate) config: Option<PathBuf>,
    pub(crate) json: bool,
    /// The report of another host's `doctor --json`; `None` to examine this host.
    pub(crate) host: Option<PathBuf>,
}

/// The format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    Table,
    Json,
}
