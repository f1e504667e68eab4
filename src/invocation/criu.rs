//! What the caller asked of `checkpoint` and `restore`: the command line in its final types.

use std::path::PathBuf;

use super::{Create, Id};

/// What both commands tell CRIU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dump {
    /// The directory of the image files.
    pub(crate) image_path: PathBuf,
    /// The directory of CRIU's log; None: that of the image files.
    pub(crate) work_path: Option<PathBuf>,
    pub(crate) tcp_established: bool,
    /// Connections come back closed.
    pub(crate) tcp_close: bool,
    pub(crate) ext_unix_sk: bool,
    pub(crate) shell_job: bool,
    pub(crate) file_locks: bool,
    pub(crate) auto_dedup: bool,
    pub(crate) lazy_pages: bool,
    pub(crate) manage_cgroups_mode: CgroupsMode,
    pub(crate) network_lock: Option<NetworkLock>,
}

/// `--manage-cgroups-mode`, by the numbers of `criu_cg_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum CgroupsMode {
    Ignore = 0,
    Soft = 3,
    Full = 4,
    Strict = 5,
    /// What CRIU does by itself: soft.
    #[default]
    Default = 6,
}

/// `--network-lock`, by the numbers of `criu_network_lock_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetworkLock {
    Iptables = 1,
    Nftables = 2,
    Skip = 3,
}

/// `checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) id: Id,
    pub(crate) dump: Dump,
    /// The image files of an earlier dump, from the directory of the new ones.
    pub(crate) parent_path: Option<PathBuf>,
    pub(crate) leave_running: bool,
    /// Only the memory, of a container that goes on.
    pub(crate) pre_dump: bool,
    pub(crate) tcp_skip_in_flight: bool,
    pub(crate) link_remap: bool,
    /// A descriptor of the caller's that gets a zero byte when pages can be asked for.
    pub(crate) status_fd: Option<i32>,
    /// Where pages go, or are asked for.
    pub(crate) page_server: Option<(String, u16)>,
}

/// `restore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restore {
    pub(crate) create: Create,
    pub(crate) dump: Dump,
    pub(crate) detach: bool,
    /// Leave the container in place after it has exited.
    pub(crate) keep: bool,
    /// Don't reap what the container's processes leave behind.
    pub(crate) no_subreaper: bool,
    /// `TYPE:NAME` in place of the profile or label that the processes had.
    pub(crate) lsm_profile: Option<String>,
    pub(crate) lsm_mount_context: Option<String>,
}
