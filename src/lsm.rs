//! Linux security modules: which are on, and the labels that config.json gives to a process and its files.
//! Not how they are set: the child does that, in `child::labels`.

use std::ffi::CString;
use std::os::fd::AsFd;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use oci_spec::runtime::{Linux, Process};

use crate::error::Violation;
use crate::sys::path;

/// SELINUX_MAGIC of linux/magic.h.
const SELINUX_MAGIC: i64 = 0xf97c_ff8c;

/// The profile of a process without one, which asks for nothing where AppArmor is off.
const UNCONFINED: &str = "unconfined";

/// What a process is labelled with from its exec on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    pub(crate) apparmor: Option<CString>,
    pub(crate) selinux: Option<CString>,
}

/// Which of the modules that label processes are on.
#[derive(Clone, Copy)]
pub(crate) struct Modules {
    pub(crate) apparmor: fn() -> bool,
    pub(crate) selinux: fn() -> bool,
}

/// Those of this host; nothing is looked at before something depends on it.
pub(crate) const OF_HOST: Modules = Modules {
    apparmor: apparmor_is_on,
    selinux: selinux_is_on,
};

/// Plans the labels of a process. One whose module is off is refused: a container without it would be less confined than asked.
pub(crate) fn labels(process: &Process, on: Modules) -> Result<Labels, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut label = |field: &str, text: &Option<String>, off: Option<&str>| {
        let text = text.as_deref().filter(|text| !text.is_empty())?;
        let problem = match (CString::new(text), off) {
            (_, Some(problem)) => problem.to_owned(),
            (Ok(label), None) if !text.contains(char::is_control) => return Some(label),
            _ => "holds a control character".to_owned(),
        };
        violations.push(Violation::new(format!("process.{field}"), problem));
        None
    };
    let profile = process.apparmor_profile();
    let wants = |label: &Option<String>| label.as_ref().is_some_and(|label| !label.is_empty());
    let off = wants(profile) && !(on.apparmor)();
    let apparmor = match profile.as_deref() {
        Some(UNCONFINED) if off => None,
        _ => label(
            "apparmorProfile",
            profile,
            off.then_some("AppArmor is off on this host, or not part of its kernel"),
        ),
    };
    let configured = process.selinux_label();
    let off = wants(configured) && !(on.selinux)();
    let selinux = label(
        "selinuxLabel",
        configured,
        off.then_some("SELinux is off on this host, or not part of its kernel"),
    );
    if violations.is_empty() {
        Ok(Labels { apparmor, selinux })
    } else {
        Err(violations)
    }
}

/// Plans the label of the container's file systems; where SELinux is off there is none, and a warning.
pub(crate) fn mount_label(
    linux: Option<&Linux>,
    on: Modules,
    warnings: &mut Vec<String>,
) -> Result<Option<CString>, Violation> {
    let configured = linux.and_then(|linux| linux.mount_label().as_deref());
    let Some(text) = configured.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let place = "linux.mountLabel";
    match CString::new(text) {
        Ok(label) if !text.contains(char::is_control) => {
            if (on.selinux)() {
                return Ok(Some(label));
            }
            warnings.push(format!("{place}: {text:?} is ignored: SELinux is off"));
            Ok(None)
        }
        _ => Err(Violation::new(place, "holds a control character")),
    }
}

fn apparmor_is_on() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with(b"Y"))
}

/// True if its file system is there, whatever the mode.
fn selinux_is_on() -> bool {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    open("/sys/fs/selinux", flags, Mode::empty())
        .is_ok_and(|dir| path::filesystem(dir.as_fd()) == Ok(SELINUX_MAGIC))
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

    fn process(profile: &str, label: &str) -> Process {
        let mut process = Process::default();
        process
            .set_apparmor_profile(Some(profile.into()))
            .set_selinux_label(Some(label.into()));
        process
    }

    fn refused(profile: &str, label: &str, on: Modules) -> Vec<String> {
        let found = labels(&process(profile, label), on).unwrap_err();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_label_is_planned_where_its_module_is_on() {
        let planned = labels(&process("docker-default", "u:r:t:s0:c1,c2"), ON).unwrap();
        assert_eq!(planned.apparmor.as_deref(), Some(c"docker-default"));
        assert_eq!(planned.selinux.as_deref(), Some(c"u:r:t:s0:c1,c2"));
        let planned = labels(&process("unconfined", ""), ON).unwrap();
        assert_eq!(planned.apparmor.as_deref(), Some(c"unconfined"));
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
            assert_eq!(
                labels(&process(profile, ""), OFF).unwrap(),
                Labels::default()
            );
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
        let mut warnings = Vec::new();
        let planned = mount_label(Some(&linux), ON, &mut warnings).unwrap();
        assert_eq!(planned.as_deref(), Some(c"u:r:t"));
        assert!(warnings.is_empty());
        assert_eq!(mount_label(Some(&linux), OFF, &mut warnings).unwrap(), None);
        assert_eq!(
            warnings,
            ["linux.mountLabel: \"u:r:t\" is ignored: SELinux is off"]
        );
    }
}
