//! `features`: prints what this runtime supports, in the format of the runtime-spec's features.md.
//! The values come from the tables that the other modules use. Unsupported features are listed as
//! unsupported.

use serde_json::json;

use super::{Error, print_stdout};
use crate::annotations;
use crate::hooks::HookKind;
use crate::plan::{caps, mount_options, namespaces, scheduling, seccomp};
use crate::state::record::OCI_VERSION;

/// Prints the features JSON.
pub(crate) fn features() -> Result<(), Error> {
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": HookKind::ALL.map(HookKind::as_str),
        "mountOptions": mount_options::supported(),
        "linux": {
            "namespaces": namespaces::SUPPORTED,
            "capabilities": caps::names(),
            "cgroup": { "v1": false, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": to_names(seccomp::ACTIONS),
                "operators": to_names(seccomp::OPERATORS),
                "archs": to_names(seccomp::archs()),
                "knownFlags": to_names(seccomp::FLAGS.map(|(flag, _)| flag)),
                "supportedFlags": to_names(seccomp::supported_flags()),
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "memoryPolicy": {
                "modes": scheduling::MEMORY_POLICY_MODES.map(|(mode, _)| mode.to_string()),
                "flags": scheduling::MEMORY_POLICY_FLAGS.map(|(flag, _)| flag.to_string()),
            },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true },
        },
        "potentiallyUnsafeConfigAnnotations": ["org.criu.config", "org.systemd.property.", annotations::PREFIX],
        "annotations": { "org.opencontainers.runc.checkpoint.enabled": "true" },
    });
    print_stdout(&(serde_json::to_string_pretty(&features).unwrap_or_default() + "\n"))
}

/// Returns the names in config.json's spelling.
fn to_names(list: impl IntoIterator<Item: ToString>) -> Vec<String> {
    list.into_iter().map(|item| item.to_string()).collect()
}
