//! Linux security modules: finds out which are on, and plans the labels of a process and of its
//! files.
//! The child sets the labels, in `child::labels`.

use std::ffi::CString;
use std::os::fd::AsFd;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use oci_spec::runtime::Linux;

use crate::diagnosis::Code;
use crate::error::{Findings, Violation};
use crate::plan::description::WithOrigin;
use crate::sys::path;

/// SELINUX_MAGIC in linux/magic.h.
const SELINUXFS_MAGIC: i64 = 0xf97c_ff8c;

/// The AppArmor profile of an unconfined process. If AppArmor is off, it is accepted and not set.
const UNCONFINED: &str = "unconfined";

/// The labels that a process gets at its execve.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    pub(crate) apparmor: Option<CString>,
    pub(crate) selinux: Option<CString>,
}

/// Functions that return whether a security module is on.
#[derive(Clone, Copy)]
pub(crate) struct Modules {
    pub(crate) apparmor: fn() -> bool,
    pub(crate) selinux: fn() -> bool,
}

/// The modules of this host. A module is checked only when a label depends on it.
pub(crate) const HOST_MODULES: Modules = Modules {
    apparmor: apparmor_is_on,
    selinux: selinux_is_on,
};

/// Plans the labels of a process. A label whose module is off is refused, because the process would
/// be less confined than it should be.
pub(crate) fn labels(
    apparmor: &WithOrigin<Option<&str>>,
    selinux: &WithOrigin<Option<&str>>,
    on: Modules,
    findings: &mut Findings,
) -> Labels {
    let apparmor_is_off = apparmor.value.is_some() && !(on.apparmor)();
    let selinux_is_off = selinux.value.is_some() && !(on.selinux)();
    Labels {
        apparmor: match apparmor.value {
            Some(UNCONFINED) if apparmor_is_off => None,
            _ => label(apparmor, apparmor_is_off.then_some("AppArmor"), findings),
        },
        selinux: label(selinux, selinux_is_off.then_some("SELinux"), findings),
    }
}

/// Reads a label. `off` is the name of its module if the module is off.
fn label(
    given: &WithOrigin<Option<&str>>,
    off: Option<&str>,
    findings: &mut Findings,
) -> Option<CString> {
    let text = given.value?;
    let origin = given.origin.clone();
    match (CString::new(text), off) {
        (_, Some(module)) => {
            let problem = format!("{module} is off on this host, or not part of its kernel");
            findings.refuse_all(vec![Violation::at(origin, problem).coded(Code::ModuleOff)]);
        }
        (Ok(label), None) if !text.contains(char::is_control) => return Some(label),
        _ => findings.refuse_at(origin, "contains a control character"),
    }
    None
}

/// Plans the label of the container's file systems. If SELinux is off, the label is ignored with a
/// warning.
pub(crate) fn plan_mount_label(
    linux: Option<&Linux>,
    on: Modules,
    findings: &mut Findings,
) -> Option<CString> {
    const FIELD: &str = "linux.mountLabel";
    let configured = linux.and_then(|linux| linux.mount_label().as_deref());
    let text = configured.filter(|text| !text.is_empty())?;
    match CString::new(text) {
        Ok(label) if !text.contains(char::is_control) => {
            if (on.selinux)() {
                return Some(label);
            }
            findings.warn(FIELD, format!("{text:?} is ignored: SELinux is off"));
        }
        _ => findings.refuse(FIELD, "contains a control character"),
    }
    None
}

fn apparmor_is_on() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with(b"Y"))
}

/// True if selinuxfs is mounted, even if SELinux is in permissive mode.
fn selinux_is_on() -> bool {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    open("/sys/fs/selinux", flags, Mode::empty())
        .is_ok_and(|dir| path::filesystem(dir.as_fd()) == Ok(SELINUXFS_MAGIC))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ON: Modules = Modules {
        apparmor: || true,
        selinux: || true,
    };
    const OFF: Modules = Modules {
        apparmor: || false,
        selinux: || false,
    };

    fn planned(profile: &str, label: &str, on: Modules) -> Result<Labels, Vec<String>> {
        let given = |text, field| WithOrigin {
            value: Some(text).filter(|text: &&str| !text.is_empty()),
            origin: crate::origin::config(field),
        };
        let mut findings = Findings::default();
        let profile = given(profile, "process.apparmorProfile");
        let label = given(label, "process.selinuxLabel");
        let labels = labels(&profile, &label, on, &mut findings);
        let texts = |found: Vec<Violation>| found.iter().map(ToString::to_string).collect();
        findings.into_warnings().map(|_| labels).map_err(texts)
    }

    fn refused(profile: &str, label: &str, on: Modules) -> Vec<String> {
        planned(profile, label, on).unwrap_err()
    }

    #[test]
    fn a_label_is_planned_where_its_module_is_on() {
        let labels = planned("docker-default", "u:r:t:s0:c1,c2", ON).unwrap();
        assert_eq!(labels.apparmor.as_deref(), Some(c"docker-default"));
        assert_eq!(labels.selinux.as_deref(), Some(c"u:r:t:s0:c1,c2"));
        let labels = planned("unconfined", "", ON).unwrap();
        assert_eq!(labels.apparmor.as_deref(), Some(c"unconfined"));
    }

    #[test]
    fn a_label_is_refused_where_its_module_is_off() {
        assert_eq!(
            refused("p", "l", OFF),
            [
                "config.json: process.apparmorProfile: AppArmor is off on this host, or not part of its kernel",
                "config.json: process.selinuxLabel: SELinux is off on this host, or not part of its kernel"
            ]
        );
        assert_eq!(refused("unconfined_foo", "", OFF).len(), 1);
    }

    #[test]
    fn nothing_and_unconfined_are_no_labels_where_no_module_is_on() {
        for profile in ["", "unconfined"] {
            assert_eq!(planned(profile, "", OFF).unwrap(), Labels::default());
        }
    }

    #[test]
    fn a_label_is_one_line() {
        for text in ["a\nb", "a\0b"] {
            assert_eq!(refused(text, text, ON).len(), 2);
        }
    }

    #[test]
    fn a_mount_label_is_ignored_with_a_warning_where_selinux_is_off() {
        let mut linux = Linux::default();
        linux.set_mount_label(Some("u:r:t".into()));
        let mut findings = Findings::default();
        let planned = plan_mount_label(Some(&linux), ON, &mut findings);
        assert_eq!(planned.as_deref(), Some(c"u:r:t"));
        assert!(findings.into_warnings().unwrap().is_empty());
        let mut findings = Findings::default();
        assert_eq!(plan_mount_label(Some(&linux), OFF, &mut findings), None);
        let warnings = findings.into_warnings().unwrap();
        assert_eq!(
            warnings.first().unwrap().to_string(),
            "config.json: linux.mountLabel: \"u:r:t\" is ignored: SELinux is off"
        );
    }
}
