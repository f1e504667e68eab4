//! The command lines of `checkpoint` and `restore` in their final types.

use std::path::PathBuf;

use super::{ContainerId, CreateArgs};

/// The options that both commands pass to CRIU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DumpOptions {
    /// The directory of the image files.
    pub(crate) image_path: PathBuf,
    /// The directory for CRIU's log. `None` means the directory of the image files.
    pub(crate) work_path: Option<PathBuf>,
    pub(crate) tcp_established: bool,
    /// True if TCP connections are closed after a restore.
    pub(crate) tcp_close: bool,
    pub(crate) ext_unix_sk: bool,
    pub(crate) shell_job: bool,
    pub(crate) file_locks: bool,
    pub(crate) auto_dedup: bool,
    pub(crate) lazy_pages: bool,
    pub(crate) manage_cgroups_mode: CgroupsMode,
    pub(crate) network_lock: Option<NetworkLock>,
}

/// `--manage-cgroups-mode`, with the numbers of `criu_cg_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum CgroupsMode {
    Ignore = 0,
    Soft = 3,
    Full = 4,
    Strict = 5,
    /// CRIU's own default, which is soft.
    #[default]
    Default = 6,
}

/// `--network-lock`, with the numbers of `criu_network_lock_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetworkLock {
    Iptables = 1,
    Nftables = 2,
    Skip = 3,
}

/// The arguments of `checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckpointArgs {
    pub(crate) id: ContainerId,
    pub(crate) dump: DumpOptions,
    /// The path of an earlier dump's image files, relative to the directory of the new ones.
    pub(crate) parent_path: Option<PathBuf>,
    pub(crate) leave_running: bool,
    /// True if only the memory is dumped and the container runs on.
    pub(crate) pre_dump: bool,
    pub(crate) tcp_skip_in_flight: bool,
    pub(crate) link_remap: bool,
    /// The caller's descriptor, to which a zero byte is written once pages can be requested.
    pub(crate) status_fd: Option<i32>,
    /// The address and port to send pages to, or to request them from.
    pub(crate) page_server: Option<(String, u16)>,
}

/// The arguments of `restore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestoreArgs {
    pub(crate) create: CreateArgs,
    pub(crate) dump: DumpOptions,
    pub(crate) detach: bool,
    /// True if the container is kept after it has exited.
    pub(crate) keep: bool,
    /// True if this program doesn't adopt and reap orphaned processes of the container.
    pub(crate) no_subreaper: bool,
    /// `TYPE:NAME`. It replaces the profile or label that the processes had.
    pub(crate) lsm_profile: Option<String>,
    pub(crate) lsm_mount_context: Option<String>,
}
