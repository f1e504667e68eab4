//! The record of a container on disk, and the state JSON that is made from it.
//! Neither where it lies nor how it is locked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::Driver;
use crate::hooks::Hook;
use crate::intel_rdt::Groups;

/// The version of the record that this program writes; it reads no newer one.
pub(crate) const VERSION: u32 = 1;

/// The version of runtime-spec that the state JSON follows.
pub(crate) const OCI_VERSION: &str = "1.3.0";

/// What is kept of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    /// The configuration, where it is not the bundle's config.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<PathBuf>,
    pub(crate) rootfs: PathBuf,
    /// RFC 3339 with nanoseconds, UTC.
    pub(crate) created: String,
    /// The user that made it.
    pub(crate) owner: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// True until the container is ready to be started. The name of the file says so; an older orlop wrote it.
    #[serde(default, skip_serializing)]
    pub(crate) creating: bool,
    /// Its init, once cloned.
    pub(crate) pid: Option<i32>,
    /// Field 22 of /proc/PID/stat: with the boot id it tells whether `pid` is still the same process.
    pub(crate) start_time: Option<u64>,
    pub(crate) boot_id: String,
    /// True if the container only has a chroot in somebody else's mount namespace.
    pub(crate) chroot: bool,
    /// True if the container has a pid namespace that ends with its init.
    pub(crate) own_pids: bool,
    /// True if it has a session keyring of its own.
    pub(crate) keyring: bool,
    /// Who keeps its cgroup; a record without it is older than the choice.
    #[serde(default)]
    pub(crate) cgroup: Driver,
    /// The number that the kernel gave the cgroup, once it was made: another one at the same path is not the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup_id: Option<u64>,
    /// Its groups of linux.intelRdt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rdt: Option<Groups>,
    /// True if config.json has no process: the container can't be started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) without_process: bool,
    /// The digest of the device rules that were set last; 0: all devices are allowed.
    #[serde(default)]
    pub(crate) device_rules: u64,
    /// The hooks of later commands: config.json is not read again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) poststart: Vec<Hook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) poststop: Vec<Hook>,
}

impl Record {
    /// True if it may be of this boot: where nothing shows its id, that is empty.
    pub(crate) fn is_of_boot(&self, boot_id: &str) -> bool {
        self.boot_id == boot_id || self.boot_id.is_empty() || boot_id.is_empty()
    }

    /// The path of its configuration.
    pub(crate) fn config(&self) -> PathBuf {
        let usual = || self.bundle.join(crate::spec::FILE);
        self.config.clone().unwrap_or_else(usual)
    }

    /// The state of the container while its init is `pid`.
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

    /// Refuses a record of a newer program, and one whose values can't be.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.version > VERSION {
            return Err(format!(
                "written by a newer orlop (version {} of the record, this one reads {VERSION})",
                self.version
            ));
        }
        if self.pid.is_some_and(|pid| pid <= 0) {
            return Err("pid is not positive".into());
        }
        Ok(())
    }
}

/// The state JSON: runtime-spec, "State", with the members that runc adds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State<'a> {
    pub(crate) oci_version: &'static str,
    pub(crate) id: &'a str,
    /// 0 once stopped.
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
