//! Plans the device nodes of a container: the default devices of the runtime-spec, and
//! linux.devices.
//! The cgroup decides which devices may be used.

use std::path::{Path, PathBuf};

use nix::sys::stat::{SFlag, makedev};
use oci_spec::runtime::{LinuxDeviceType, Spec};

use crate::origin::config;
use crate::spec::paths::clean;

/// One device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceNode {
    /// The absolute path in the container.
    pub(crate) path: PathBuf,
    pub(crate) kind: SFlag,
    pub(crate) major: u64,
    pub(crate) minor: u64,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The index in linux.devices; `None` for a default device.
    pub(crate) index: Option<usize>,
}

impl DeviceNode {
    /// Returns the device number.
    pub(crate) fn device_number(&self) -> u64 {
        makedev(self.major, self.minor)
    }

    /// True if root of a user namespace can't make the node. The node is then bind-mounted from a
    /// file system of the host.
    pub(crate) fn is_privileged(&self) -> bool {
        self.kind != SFlag::S_IFIFO
    }

    /// Describes the opening for messages: `open the host's /dev/x for the device /dev/x
    /// (config.json: linux.devices[0])`.
    pub(crate) fn describe_opening(&self) -> String {
        format!(
            "open the host's {} for {}",
            self.path.display(),
            self.describe_device()
        )
    }

    /// Describes the device and its origin for messages: `the device /dev/x (config.json:
    /// linux.devices[0])`.
    pub(crate) fn describe_device(&self) -> String {
        match self.index {
            Some(index) => config(format!("linux.devices[{index}]"))
                .asks_to(format!("the device {}", self.path.display())),
            None => format!("the device {}", self.path.display()),
        }
    }
}

/// The runtime-spec's "Default Devices", except /dev/console and /dev/ptmx.
const DEFAULT_DEVICES: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The symbolic links of /dev and their targets: runtime-spec, "Default filesystems".
pub(crate) const DEV_LINKS: [(&std::ffi::CStr, &std::ffi::CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];

/// Returns the default devices, followed by the configured devices. A configured path replaces the
/// default device at that path.
pub(crate) fn plan(spec: &Spec) -> Vec<DeviceNode> {
    let configured = spec.linux().as_ref().and_then(|l| l.devices().as_ref());
    let configured: Vec<DeviceNode> = configured
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, device)| DeviceNode {
            path: clean(device.path()),
            kind: match device.typ() {
                LinuxDeviceType::B => SFlag::S_IFBLK,
                LinuxDeviceType::P => SFlag::S_IFIFO,
                LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::A => SFlag::S_IFCHR,
            },
            major: device.major().try_into().unwrap_or(0),
            minor: device.minor().try_into().unwrap_or(0),
            mode: device.file_mode().unwrap_or(0o666) & 0o777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
            index: Some(index),
        })
        // Leave out /dev/ptmx, which the runtime-spec makes a link to the container's own devpts.
        .filter(|node| node.path != Path::new("/dev/ptmx"))
        .collect();
    let default = |&(path, major, minor): &(&str, u64, u64)| DeviceNode {
        path: path.into(),
        kind: SFlag::S_IFCHR,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
        index: None,
    };
    let mut nodes: Vec<DeviceNode> = DEFAULT_DEVICES
        .iter()
        .map(default)
        .filter(|node| configured.iter().all(|c| c.path != node.path))
        .collect();
    nodes.extend(configured);
    nodes
}
