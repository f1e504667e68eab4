//! How errors read: the pieces that the error enums of all modules are made of.
//! Not the errors themselves: each module has its own, and `cmd` has the one over them.

use std::fmt;

use crate::sys::Errno;

/// A system call that failed: what we were doing and to what, which call it was, and why it failed.
///
/// Reads like `mount /dev/mqueue (config.json: mounts[3]): fsmount: EPERM (operation not permitted)`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {call}: {}", Reason(*.errno))]
pub(crate) struct Failed {
    /// The operation and its object, with the place in config.json that asked for it, if one did.
    pub(crate) what: String,
    /// The name of the system call.
    pub(crate) call: &'static str,
    pub(crate) errno: Errno,
}

/// Gives `map_err` a closure that says what was being done: `open(..).map_err(failed("open", || format!("read {path}")))`.
pub(crate) fn failed(
    call: &'static str,
    what: impl FnOnce() -> String,
) -> impl FnOnce(Errno) -> Failed {
    move |errno| Failed {
        what: what(),
        call,
        errno,
    }
}

/// An errno by name and in words, as engines look for it: `ENOENT (no such file or directory)`.
pub(crate) struct Reason(pub(crate) Errno);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.0, self.0.desc().to_lowercase())
    }
}

/// Something in config.json (or on the command line) that can't be done as it stands.
///
/// Reads like `config.json: linux.namespaces[2].type: unknown namespace "foo"`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config.json: {place}: {problem}")]
pub(crate) struct Violation {
    /// The place: field names joined by dots, indices in brackets.
    pub(crate) place: String,
    /// What is wrong there, lower-case, without a trailing dot.
    pub(crate) problem: String,
}

impl Violation {
    /// A violation at a place.
    pub(crate) fn new(place: impl Into<String>, problem: impl Into<String>) -> Violation {
        Violation {
            place: place.into(),
            problem: problem.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_names_operation_object_call_and_errno() {
        let failed = failed("fsmount", || {
            "mount /dev/mqueue (config.json: mounts[3])".into()
        })(Errno::EPERM);
        assert_eq!(
            failed.to_string(),
            "mount /dev/mqueue (config.json: mounts[3]): fsmount: EPERM (operation not permitted)"
        );
    }
}
