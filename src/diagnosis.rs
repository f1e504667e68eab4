//! What callers get about an error besides its text: a code, the phase, a pointer into config.json,
//! the errno and a hint.
//! The texts are in the error types. `cmd::diagnose` covers the error types of all modules.

mod codes;
mod places;
mod user_namespaces;

use std::borrow::Cow;

use crate::error::{Failed, Violation};
use crate::origin::{self, Origin};
use crate::sys::Errno;

pub(crate) use codes::{Code, Phase};
pub(crate) use places::invalid;

/// The diagnosis of one error or warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    pub(crate) code: Code,
    pub(crate) phase: Phase,
    /// A JSON pointer (RFC 6901) into config.json.
    pub(crate) pointer: Option<String>,
    pub(crate) errno: Option<String>,
    /// What the user can do: run a command or change a file.
    pub(crate) hint: Option<Cow<'static, str>>,
}

impl Diagnosis {
    /// Makes a diagnosis with the phase and the hint of a code.
    pub(crate) fn new(code: Code) -> Diagnosis {
        Diagnosis {
            code,
            phase: code.row().phase,
            pointer: None,
            errno: None,
            hint: code.hint().map(Cow::Borrowed),
        }
    }

    /// Adds the pointer to the value that an origin names.
    pub(crate) fn at(mut self, origin: &Origin) -> Diagnosis {
        self.pointer = origin.pointer();
        self
    }

    /// Adds the errno of a failed call, unless the failure has none.
    pub(crate) fn with_errno(mut self, errno: Errno) -> Diagnosis {
        if errno != Errno::UnknownErrno {
            self.errno = Some(format!("{errno:?}"));
        }
        self
    }

    /// Diagnoses a refused or ignored value.
    pub(crate) fn of_violation(violation: &Violation) -> Diagnosis {
        Diagnosis::new(violation.code).at(&violation.origin)
    }

    /// Diagnoses a failed operation. If a value of config.json asks for the operation, the code
    /// depends on the field of that value. Otherwise the code depends on the errno, and `phase`
    /// applies unless the code has a more specific phase.
    pub(crate) fn of_failed(failed: &Failed, phase: Phase) -> Diagnosis {
        let field = origin::field_in(&failed.what);
        let place = field.and_then(places::failed);
        let of_reason = place.and_then(|place| with_reason(place, field, failed.errno));
        let code = failed.code.or(of_reason).or(place);
        let mut found = match code {
            Some(code) => Diagnosis::new(code),
            None => {
                let mut found = Diagnosis::new(of_errno(failed.errno, phase));
                // Codes with these phases stand for errnos that can occur in every phase.
                if matches!(found.phase, Phase::Host | Phase::Run) {
                    found.phase = phase;
                }
                found
            }
        };
        found.pointer = field.and_then(|field| origin::config(field.to_owned()).pointer());
        if let Some(hint) = denied_to_user(&found, failed.errno) {
            found.hint = Some(hint.into());
        }
        found.with_errno(failed.errno)
    }
}

/// Returns a code that is more specific than `place` for a failure with this errno, if there is
/// one.
fn with_reason(place: Code, field: Option<&str>, errno: Errno) -> Option<Code> {
    let is_source = field.is_some_and(|field| field.ends_with(".source"));
    Some(match (place, errno) {
        (Code::RootFailed, Errno::ENOENT) => Code::RootMissing,
        (Code::MountFailed, Errno::ENOENT) if is_source => Code::MountSourceMissing,
        (Code::MountFailed, Errno::EPERM | Errno::EACCES) => Code::MountDenied,
        (Code::CgroupFailed | Code::LimitRefused, Errno::EPERM | Errno::EACCES) => {
            Code::CgroupDenied
        }
        (_, Errno::ENOMEM) => Code::OutOfMemory,
        (_, Errno::EMFILE | Errno::ENFILE) => Code::OutOfDescriptors,
        (_, Errno::ENOSYS) => Code::KernelLacks,
        _ => return None,
    })
}

/// Returns the code of a failure of which only the errno and the phase are known.
fn of_errno(errno: Errno, phase: Phase) -> Code {
    match (phase, errno) {
        (Phase::Cgroup, Errno::EPERM | Errno::EACCES | Errno::EROFS) => Code::CgroupDenied,
        (Phase::Clone, Errno::ENOSPC) => Code::UserNamespaceDenied,
        (Phase::Clone, Errno::EAGAIN) => Code::ProcessLimit,
        (_, Errno::EPERM | Errno::EACCES) => Code::NotPermitted,
        (_, Errno::ENOMEM) => Code::OutOfMemory,
        (_, Errno::ENOSPC | Errno::EDQUOT) => Code::OutOfSpace,
        (_, Errno::EMFILE | Errno::ENFILE) => Code::OutOfDescriptors,
        (_, Errno::EROFS) => Code::ReadOnly,
        (_, Errno::ENOSYS) => Code::KernelLacks,
        (Phase::State, _) => Code::StateFailed,
        (Phase::Cgroup, _) => Code::CgroupFailed,
        (Phase::Clone, _) => Code::CloneFailed,
        (Phase::Namespaces, _) => Code::NamespaceFailed,
        (Phase::Mount, _) => Code::MountFailed,
        (Phase::Seccomp, _) => Code::SeccompFailed,
        (Phase::Exec, _) => Code::ExecFailed,
        (Phase::Terminal, _) => Code::TerminalFailed,
        (Phase::Network, _) => Code::NetDeviceFailed,
        (Phase::Checkpoint, _) => Code::CriuFailed,
        (Phase::Process, _) => Code::ProcessFailed,
        _ => Code::CallFailed,
    }
}

/// Returns the hint if a setting of the host may be why the kernel refused the call.
fn denied_to_user(found: &Diagnosis, errno: Errno) -> Option<&'static str> {
    let is_of_namespaces = matches!(
        found.phase,
        Phase::Clone | Phase::Ids | Phase::Namespaces | Phase::Mount | Phase::Process
    );
    let is_denied = matches!(errno, Errno::EPERM | Errno::EACCES | Errno::ENOSPC);
    (is_of_namespaces && is_denied)
        .then(user_namespaces::restriction)
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_code_of_its_place_and_reason() {
        let of = |what: &str, errno, phase| {
            let found = Diagnosis::of_failed(&Failed::new(what, "open", errno), phase);
            (found.code, found.pointer, found.phase)
        };
        let root = "open the root file system /r (config.json: root.path)";
        assert_eq!(
            of(root, Errno::ENOENT, Phase::Run),
            (Code::RootMissing, Some("/root/path".into()), Phase::Mount)
        );
        assert_eq!(of(root, Errno::EIO, Phase::Run).0, Code::RootFailed);
        let source = "open /s for /d (config.json: mounts[3].source)";
        assert_eq!(
            of(source, Errno::ENOENT, Phase::Run),
            (
                Code::MountSourceMissing,
                Some("/mounts/3/source".into()),
                Phase::Mount
            )
        );
        assert_eq!(
            of("clone", Errno::EAGAIN, Phase::Clone),
            (Code::ProcessLimit, None, Phase::Clone)
        );
        assert_eq!(
            of("open the state", Errno::EROFS, Phase::State),
            (Code::ReadOnly, None, Phase::State)
        );
    }
}
