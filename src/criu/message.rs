//! The messages of CRIU's RPC that this program uses, with the field numbers of images/rpc.proto.
//! `worker` sends and receives them.
//!
//! Fields that this program neither sets nor reads are left out, because protobuf skips unknown
//! fields on both sides.

/// `criu_req_type`.
pub(crate) mod request_type {
    pub(crate) const DUMP: i32 = 1;
    pub(crate) const RESTORE: i32 = 2;
    pub(crate) const PRE_DUMP: i32 = 4;
    pub(crate) const NOTIFY: i32 = 6;
    pub(crate) const FEATURE_CHECK: i32 = 9;
    pub(crate) const VERSION: i32 = 10;
}

/// `criu_req`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Request {
    #[prost(int32, required, tag = "1")]
    pub(crate) kind: i32,
    #[prost(message, optional, boxed, tag = "2")]
    pub(crate) options: Option<Box<CriuOptions>>,
    #[prost(bool, optional, tag = "3")]
    pub(crate) notify_success: Option<bool>,
    #[prost(message, optional, tag = "5")]
    pub(crate) features: Option<CriuFeatures>,
}

/// `criu_opts`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CriuOptions {
    /// The number of a descriptor of this process, like `work_dir_fd`.
    #[prost(int32, required, tag = "1")]
    pub(crate) images_dir_fd: i32,
    #[prost(int32, optional, tag = "2")]
    pub(crate) pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub(crate) leave_running: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(crate) ext_unix_sk: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub(crate) tcp_established: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub(crate) evasive_devices: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub(crate) shell_job: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub(crate) file_locks: Option<bool>,
    #[prost(int32, optional, tag = "9")]
    pub(crate) log_level: Option<i32>,
    #[prost(string, optional, tag = "10")]
    pub(crate) log_file: Option<String>,
    #[prost(message, optional, tag = "11")]
    pub(crate) page_server: Option<PageServer>,
    #[prost(bool, optional, tag = "12")]
    pub(crate) notify_scripts: Option<bool>,
    #[prost(string, optional, tag = "13")]
    pub(crate) root: Option<String>,
    #[prost(string, optional, tag = "14")]
    pub(crate) parent_img: Option<String>,
    #[prost(bool, optional, tag = "15")]
    pub(crate) track_mem: Option<bool>,
    #[prost(bool, optional, tag = "16")]
    pub(crate) auto_dedup: Option<bool>,
    #[prost(int32, optional, tag = "17")]
    pub(crate) work_dir_fd: Option<i32>,
    #[prost(bool, optional, tag = "18")]
    pub(crate) link_remap: Option<bool>,
    #[prost(message, repeated, tag = "23")]
    pub(crate) ext_mnt: Vec<ExternalMount>,
    #[prost(message, repeated, tag = "25")]
    pub(crate) cg_root: Vec<CgroupRoot>,
    #[prost(bool, optional, tag = "26")]
    pub(crate) rst_sibling: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub(crate) inherit_fd: Vec<InheritFd>,
    /// `criu_cg_mode`.
    #[prost(int32, optional, tag = "34")]
    pub(crate) manage_cgroups_mode: Option<i32>,
    #[prost(string, repeated, tag = "37")]
    pub(crate) external: Vec<String>,
    #[prost(uint32, optional, tag = "38")]
    pub(crate) empty_ns: Option<u32>,
    #[prost(message, repeated, tag = "39")]
    pub(crate) join_ns: Vec<JoinNamespace>,
    #[prost(string, optional, tag = "44")]
    pub(crate) freeze_cgroup: Option<String>,
    #[prost(bool, optional, tag = "46")]
    pub(crate) tcp_skip_in_flight: Option<bool>,
    #[prost(bool, optional, tag = "48")]
    pub(crate) lazy_pages: Option<bool>,
    #[prost(bool, optional, tag = "50")]
    pub(crate) orphan_pts_master: Option<bool>,
    #[prost(string, optional, tag = "51")]
    pub(crate) config_file: Option<String>,
    #[prost(bool, optional, tag = "52")]
    pub(crate) tcp_close: Option<bool>,
    #[prost(string, optional, tag = "53")]
    pub(crate) lsm_profile: Option<String>,
    #[prost(string, optional, tag = "60")]
    pub(crate) cgroup_yard: Option<String>,
    #[prost(string, optional, tag = "63")]
    pub(crate) lsm_mount_context: Option<String>,
    /// `criu_network_lock_method`.
    #[prost(int32, optional, tag = "64")]
    pub(crate) network_lock: Option<i32>,
}

/// `criu_page_server_info`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PageServer {
    #[prost(string, optional, tag = "1")]
    pub(crate) address: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) port: Option<i32>,
}

/// `ext_mount_map`. In a dump, the mount at the path `key` gets the name `value`. In a restore, the
/// mount with the name `key` is made from the host's path `value`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExternalMount {
    #[prost(string, required, tag = "1")]
    pub(crate) key: String,
    #[prost(string, required, tag = "2")]
    pub(crate) value: String,
}

/// `cgroup_root`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CgroupRoot {
    #[prost(string, optional, tag = "1")]
    pub(crate) controller: Option<String>,
    #[prost(string, required, tag = "2")]
    pub(crate) path: String,
}

/// `inherit_fd`. The descriptor `fd` of the CRIU process replaces the resource that has the name
/// `key` in the dump.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InheritFd {
    #[prost(string, required, tag = "1")]
    pub(crate) key: String,
    #[prost(int32, required, tag = "2")]
    pub(crate) fd: i32,
}

/// `join_namespace`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JoinNamespace {
    #[prost(string, required, tag = "1")]
    pub(crate) kind: String,
    #[prost(string, required, tag = "2")]
    pub(crate) file: String,
}

/// `criu_features`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct CriuFeatures {
    #[prost(bool, optional, tag = "1")]
    pub(crate) mem_track: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub(crate) lazy_pages: Option<bool>,
}

/// `criu_resp`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Response {
    #[prost(int32, required, tag = "1")]
    pub(crate) kind: i32,
    #[prost(bool, required, tag = "2")]
    pub(crate) success: bool,
    #[prost(message, optional, tag = "4")]
    pub(crate) restore: Option<RestoreResponse>,
    #[prost(message, optional, tag = "5")]
    pub(crate) notify: Option<NotifyMessage>,
    #[prost(int32, optional, tag = "7")]
    pub(crate) errno: Option<i32>,
    #[prost(message, optional, tag = "8")]
    pub(crate) features: Option<CriuFeatures>,
    /// The first error in CRIU's log.
    #[prost(string, optional, tag = "9")]
    pub(crate) error: Option<String>,
    #[prost(message, optional, tag = "10")]
    pub(crate) version: Option<CriuVersion>,
}

/// `criu_restore_resp`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct RestoreResponse {
    #[prost(int32, required, tag = "1")]
    pub(crate) pid: i32,
}

/// `criu_notify`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NotifyMessage {
    #[prost(string, optional, tag = "1")]
    pub(crate) script: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) pid: Option<i32>,
}

/// `criu_version`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct CriuVersion {
    #[prost(int32, required, tag = "1")]
    pub(crate) major: i32,
    #[prost(int32, required, tag = "2")]
    pub(crate) minor: i32,
    #[prost(int32, optional, tag = "4")]
    pub(crate) sublevel: Option<i32>,
}
