//! The parts that the error types of all modules share.
//! Each module has its own error type; `cmd::Error` covers them all.

use std::borrow::Cow;
use std::fmt;

use crate::diagnosis::{self, Code};
use crate::origin::{Origin, config};
use crate::sys::Errno;

/// A failed operation: the operation and its object, the system call, and the reason.
///
/// Reads like `mount /dev/mqueue (config.json: mounts[3]): fsmount: EPERM (operation not
/// permitted)`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Failed {
    /// The operation and its object, with the origin of the value that asked for it.
    pub(crate) what: Box<str>,
    /// The name of the system call; empty if `what` says everything.
    pub(crate) call: Cow<'static, str>,
    pub(crate) errno: Errno,
    /// The kernel's message besides the errno; empty if there is none.
    pub(crate) detail: Box<str>,
    /// The kind of the failure, if neither the place nor the errno tell it.
    pub(crate) code: Option<Code>,
}

impl Failed {
    /// A failed system call.
    pub(crate) fn new(what: impl Into<Box<str>>, call: &'static str, errno: Errno) -> Failed {
        Failed {
            what: what.into(),
            call: call.into(),
            errno,
            detail: Box::default(),
            code: None,
        }
    }

    /// A failure described by a sentence instead of a system call.
    pub(crate) fn from_sentence(what: impl Into<Box<str>>) -> Failed {
        Failed::new(what, "", Errno::UnknownErrno)
    }

    /// The same failure with a code of its own.
    pub(crate) fn coded(mut self, code: Code) -> Failed {
        self.code = Some(code);
        self
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.call.is_empty() {
            write!(f, ": {}: {}", self.call, ErrnoText(self.errno))?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// Returns a closure for `map_err` that names the failed operation:
/// `open(..).map_err(failed("open", || format!("read {path}")))`.
pub(crate) fn failed(
    call: &'static str,
    what: impl FnOnce() -> String,
) -> impl FnOnce(Errno) -> Failed {
    move |errno| Failed::new(what(), call, errno)
}

/// An errno by name and in words, as engines search for it: `ENOENT (no such file or directory)`.
pub(crate) struct ErrnoText(pub(crate) Errno);

impl fmt::Display for ErrnoText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.0, self.0.desc().to_lowercase())
    }
}

/// A value in the configuration or on the command line that is refused or left out.
///
/// Reads like `config.json: linux.namespaces[2].type: unknown namespace "foo"`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {problem}")]
pub(crate) struct Violation {
    pub(crate) origin: Origin,
    /// The problem there, in lower case, without a final dot.
    pub(crate) problem: String,
    pub(crate) code: Code,
}

impl Violation {
    /// A violation at a field of config.json.
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Violation {
        Violation::at(config(field.into()), problem)
    }

    /// A violation at any origin.
    pub(crate) fn at(origin: Origin, problem: impl Into<String>) -> Violation {
        let field = origin.config_field();
        Violation {
            code: field.map_or(Code::InvalidValue, diagnosis::invalid),
            origin,
            problem: problem.into(),
        }
    }

    /// A violation at a field of config.json, for a reason that has its own code.
    pub(crate) fn of(
        code: Code,
        field: impl Into<String>,
        problem: impl Into<String>,
    ) -> Violation {
        Violation {
            origin: config(field.into()),
            problem: problem.into(),
            code,
        }
    }

    /// A value of config.json that is left out or changed.
    pub(crate) fn ignored(field: impl Into<String>, problem: impl Into<String>) -> Violation {
        Violation::of(Code::ValueIgnored, field, problem)
    }

    /// The same violation with a code of its own.
    pub(crate) fn coded(mut self, code: Code) -> Violation {
        self.code = code;
        self
    }
}

/// The findings of planners: values that are refused, and values that are left out.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    refused: Vec<Violation>,
    warnings: Vec<Violation>,
}

impl Findings {
    /// Starts with known violations.
    pub(crate) fn with_refused(refused: Vec<Violation>) -> Findings {
        Findings {
            refused,
            warnings: Vec::new(),
        }
    }

    /// Refuses the value of a field of config.json.
    pub(crate) fn refuse(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.refused.push(Violation::new(field, problem));
    }

    /// Refuses the value of a field of config.json, for a reason that has its own code.
    pub(crate) fn refuse_as(
        &mut self,
        code: Code,
        field: impl Into<String>,
        problem: impl Into<String>,
    ) {
        self.refused.push(Violation::of(code, field, problem));
    }

    /// Refuses a value of any origin.
    pub(crate) fn refuse_at(&mut self, origin: Origin, problem: impl Into<String>) {
        self.refused.push(Violation::at(origin, problem));
    }

    /// Adds violations.
    pub(crate) fn refuse_all(&mut self, refused: Vec<Violation>) {
        self.refused.extend(refused);
    }

    /// Warns of a field of config.json. Equal warnings are kept once.
    pub(crate) fn warn(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.warn_as(Code::ValueIgnored, field, problem);
    }

    /// Warns of a field of config.json, for a reason that has its own code.
    pub(crate) fn warn_as(
        &mut self,
        code: Code,
        field: impl Into<String>,
        problem: impl Into<String>,
    ) {
        let warning = Violation::of(code, field, problem);
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Warns of a value of any origin.
    pub(crate) fn warn_at(&mut self, origin: Origin, problem: impl Into<String>) {
        self.warnings
            .push(Violation::at(origin, problem).coded(Code::ValueIgnored));
    }

    /// Adds warnings.
    pub(crate) fn warn_all(&mut self, warnings: Vec<Violation>) {
        self.warnings.extend(warnings);
    }

    /// Unwraps a planner's result, or adds its violations.
    pub(crate) fn take_planned<T>(&mut self, planned: Result<T, Vec<Violation>>) -> Option<T> {
        planned.map_err(|refused| self.refused.extend(refused)).ok()
    }

    /// How many values are refused so far.
    pub(crate) fn refused_count(&self) -> usize {
        self.refused.len()
    }

    /// The refused values so far.
    pub(crate) fn refused_values(&self) -> &[Violation] {
        &self.refused
    }

    /// The refused values and the warnings.
    pub(crate) fn into_parts(self) -> (Vec<Violation>, Vec<Violation>) {
        (self.refused, self.warnings)
    }

    /// The refused values.
    pub(crate) fn into_refused(self) -> Vec<Violation> {
        self.refused
    }

    /// The warnings, if nothing is refused.
    pub(crate) fn into_warnings(self) -> Result<Vec<Violation>, Vec<Violation>> {
        if self.refused.is_empty() {
            Ok(self.warnings)
        } else {
            Err(self.refused)
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
