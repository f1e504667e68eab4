//! The table of crun's annotations in config.json, which help, the README and `features` list.
//! The planner of each subject applies its annotations. The annotations of systemd and CRIU are not
//! in this table.
//!
//! Annotations are as powerful as the rest of config.json, because some name files and sockets of
//! the host. Engines let their users set annotations (podman --annotation).

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;

use crate::diagnosis::Code;
use crate::error::Findings;

pub(crate) const DELEGATE_CGROUP: &str = "run.oci.delegate-cgroup";
pub(crate) const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
pub(crate) const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
pub(crate) const KEEP_ORIGINAL_GROUPS: &str = "run.oci.keep_original_groups";
pub(crate) const MOUNT_CONTEXT_TYPE: &str = "run.oci.mount_context_type";
pub(crate) const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";
pub(crate) const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";
pub(crate) const SECCOMP_BPF_DATA: &str = "run.oci.seccomp_bpf_data";
pub(crate) const SECCOMP_FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";
pub(crate) const SYSTEMD_SUBGROUP: &str = "run.oci.systemd.subgroup";

/// The prefix of all names in the table, for `features`.
pub(crate) const PREFIX: &str = "run.oci.";

/// One annotation.
pub(crate) struct Annotation {
    pub(crate) name: &'static str,
    /// The placeholder for the value in help.
    pub(crate) value: &'static str,
    /// The effect, or the reason why the annotation is refused.
    pub(crate) about: &'static str,
    pub(crate) is_refused: bool,
}

const fn works(name: &'static str, value: &'static str, about: &'static str) -> Annotation {
    Annotation {
        name,
        value,
        about,
        is_refused: false,
    }
}

const fn refused(name: &'static str, value: &'static str, about: &'static str) -> Annotation {
    Annotation {
        name,
        value,
        about,
        is_refused: true,
    }
}

/// All annotations of crun's manual.
pub(crate) const TABLE: [Annotation; 13] = [
    works(
        DELEGATE_CGROUP,
        "PATH",
        "start the process in this cgroup below the container's, which keeps the limits",
    ),
    refused(
        "run.oci.handler",
        "NAME",
        "there are no handlers for virtual machines and wasm",
    ),
    works(
        HOOKS_STDERR,
        "FILE",
        "append what hooks of the host write to standard error",
    ),
    works(
        HOOKS_STDOUT,
        "FILE",
        "append what hooks of the host write to standard output",
    ),
    works(
        KEEP_ORIGINAL_GROUPS,
        "1",
        "leave the additional groups of the caller to the process",
    ),
    works(
        MOUNT_CONTEXT_TYPE,
        "TYPE",
        "the mount option of linux.mountLabel: context, fscontext, defcontext or rootcontext",
    ),
    works(PIDFD_RECEIVER, "SOCKET", "as --pidfd-socket, which wins"),
    refused("run.oci.seccomp.plugins", "FILES", "there are no plugins"),
    works(
        SECCOMP_RECEIVER,
        "SOCKET",
        "as linux.seccomp.listenerPath, which wins",
    ),
    works(
        SECCOMP_BPF_DATA,
        "BASE64",
        "a seccomp filter in the kernel's form, in place of linux.seccomp",
    ),
    works(
        SECCOMP_FAIL_UNKNOWN,
        "1",
        "refuse a profile with an unknown system call",
    ),
    refused(
        "run.oci.systemd.force_cgroup_v1",
        "PATH",
        "cgroup v1 is not supported",
    ),
    works(
        SYSTEMD_SUBGROUP,
        "NAME",
        "must be empty with systemd: the process is in the scope itself",
    ),
];

/// The open files to which annotations direct the output of hooks. A stream without a file goes to
/// a pipe.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// The annotations of config.json or of a record.
pub(crate) trait Annotations {
    /// Returns the value of an annotation, or `None` if it is absent or empty.
    fn text(&self, name: &str) -> Option<&str>;

    /// Returns true if a switch is on. As in crun, every value except 0 turns it on.
    fn is_on(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| value != "0")
    }
}

impl Annotations for Option<HashMap<String, String>> {
    fn text(&self, name: &str) -> Option<&str> {
        let value = self.as_ref()?.get(name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }
}

impl Annotations for BTreeMap<String, String> {
    fn text(&self, name: &str) -> Option<&str> {
        let value = self.get(name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }
}

/// Returns the field of an annotation in config.json, for messages.
pub(crate) fn place(name: &str) -> String {
    format!("annotations[{name:?}]")
}

/// Refuses annotations that this program doesn't support.
pub(crate) fn check(annotations: &impl Annotations, findings: &mut Findings) {
    let given = |row: &&Annotation| row.is_refused && annotations.text(row.name).is_some();
    for row in TABLE.iter().filter(given) {
        let problem = format!("is not supported: {}", row.about);
        findings.refuse_as(Code::InvalidAnnotation, place(row.name), problem);
    }
}
