//! A container's record on disk, and the state JSON that is made from the record.
//! `state` stores the record, and locks it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::Driver;
use crate::hooks::Hook;
use crate::intel_rdt::ResctrlGroups;

/// The version of the format. Newer versions are refused.
pub(crate) const RECORD_VERSION: u32 = 1;

/// The version of runtime-spec that the state JSON follows.
pub(crate) const OCI_VERSION: &str = "1.3.0";

/// The stored facts about a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    /// The configuration, if it isn't the bundle's config.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<PathBuf>,
    pub(crate) rootfs: PathBuf,
    /// RFC 3339 with nanoseconds, UTC.
    pub(crate) created: String,
    /// The uid of the user who created the container.
    pub(crate) owner: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// True until the container can be started. Stored in the file's name; older versions stored it
    /// in the file.
    #[serde(default, skip_serializing)]
    pub(crate) creating: bool,
    /// Init's pid, once it is cloned.
    pub(crate) pid: Option<i32>,
    /// Field 22 of /proc/PID/stat. Together with `boot_id` it identifies the process of `pid`.
    pub(crate) start_time: Option<u64>,
    pub(crate) boot_id: String,
    /// True if the container has only a chroot in a mount namespace that isn't its own.
    pub(crate) chroot: bool,
    /// True if the container has a pid namespace that ends with its init.
    pub(crate) own_pids: bool,
    /// True if the container has its own session keyring.
    pub(crate) keyring: bool,
    /// The driver that makes the cgroup. Older records lack this field.
    #[serde(default)]
    pub(crate) cgroup: Driver,
    /// The kernel's id of the cgroup, once the cgroup is made. A cgroup with another id isn't the
    /// container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup_id: Option<u64>,
    /// The container's resctrl groups for linux.intelRdt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rdt: Option<ResctrlGroups>,
    /// The SELinux label of new file systems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mount_label: Option<String>,
    /// The kernel's ids of the mounts that `mounts add` made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) added_mounts: Vec<u64>,
    /// True if config.json has no process: the container can't be started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) without_process: bool,
    /// The digest of the current device rules; 0 if all devices are allowed.
    #[serde(default)]
    pub(crate) device_rules: u64,
    /// The hooks that later commands run. Those commands don't read config.json.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) poststart: Vec<Hook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) poststop: Vec<Hook>,
}

impl Record {
    /// True if the record may be from this boot. An empty boot id means unknown.
    pub(crate) fn is_of_boot(&self, boot_id: &str) -> bool {
        self.boot_id == boot_id || self.boot_id.is_empty() || boot_id.is_empty()
    }

    /// The path of the container's configuration.
    pub(crate) fn config_path(&self) -> PathBuf {
        let usual = || self.bundle.join(crate::spec::FILE);
        self.config.clone().unwrap_or_else(usual)
    }

    /// Returns the container's state with this status and this pid of init.
    pub(crate) fn state(&self, status: &'static str, pid: i32) -> State<'_> {
        State {
            oci_version: OCI_VERSION,
            id: &self.id,
            pid,
            status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            annotations: &self.annotations,
            owner: String::new(),
        }
    }

    /// Refuses a record with a newer version or with impossible values.
    pub(crate) fn check_values(&self) -> Result<(), String> {
        if self.version > RECORD_VERSION {
            return Err(format!(
                "written by a newer orlop (version {} of the record, this one reads {RECORD_VERSION})",
                self.version
            ));
        }
        if self.pid.is_some_and(|pid| pid <= 0) {
            return Err("pid is not positive".into());
        }
        Ok(())
    }
}

/// The state as JSON: the runtime-spec's "State" with runc's additions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State<'a> {
    pub(crate) oci_version: &'static str,
    pub(crate) id: &'a str,
    /// 0 once the container has stopped.
    pub(crate) pid: i32,
    pub(crate) status: &'static str,
    pub(crate) bundle: &'a std::path::Path,
    pub(crate) rootfs: &'a std::path::Path,
    pub(crate) created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: &'a BTreeMap<String, String>,
    /// The owner's name, only in `list`.
    pub(crate) owner: String,
}
