//! The parts that the error types of all modules share.
//! Each module has its own error type; `cmd::Error` covers them all.

use std::borrow::Cow;
use std::fmt;

use crate::diagnosis::{self, Code};
use crate::origin::{Origin, config};
use crate::sys::Errno;

/// A failed operation: the operation and its object, the system call, and the reason.
///
/// The text is like `mount /dev/mqueue (config.json: mounts[3]): fsmount: EPERM (operation not
/// permitted)`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Failed {
    /// The operation and its object, with the origin of the value that requires it.
    pub(crate) what: Box<str>,
    /// The name of the system call. Empty if `what` is a complete message.
    pub(crate) call: Cow<'static, str>,
    pub(crate) errno: Errno,
    /// A message of the kernel, or a hint, in addition to the errno. Empty if there is none.
    pub(crate) detail: Box<str>,
    /// The kind of the failure, if it can't be derived from the failed operation and the errno.
    pub(crate) code: Option<Code>,
}

impl Failed {
    /// Makes the failure of a system call.
    pub(crate) fn new(what: impl Into<Box<str>>, call: &'static str, errno: Errno) -> Failed {
        Failed {
            what: what.into(),
            call: call.into(),
            errno,
            detail: Box::default(),
            code: None,
        }
    }

    /// Makes a failure that a sentence describes instead of a system call.
    pub(crate) fn from_sentence(what: impl Into<Box<str>>) -> Failed {
        Failed::new(what, "", Errno::UnknownErrno)
    }

    /// Returns the failure with a code of its own.
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

/// Displays an errno by name and in words: `ENOENT (no such file or directory)`. Engines search for
/// the words.
pub(crate) struct ErrnoText(pub(crate) Errno);

impl fmt::Display for ErrnoText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.0, self.0.desc().to_lowercase())
    }
}

/// A value in the configuration or on the command line that is refused or left out.
///
/// The text is like `config.json: linux.namespaces[2].type: unknown namespace "foo"`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {problem}")]
pub(crate) struct Violation {
    pub(crate) origin: Origin,
    /// The problem of the value, in lower case, without a final dot.
    pub(crate) problem: String,
    pub(crate) code: Code,
}

impl Violation {
    /// Makes a violation at a field of config.json.
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Violation {
        Violation::at(config(field.into()), problem)
    }

    /// Makes a violation at any origin.
    pub(crate) fn at(origin: Origin, problem: impl Into<String>) -> Violation {
        let field = origin.config_field();
        Violation {
            code: field.map_or(Code::InvalidValue, diagnosis::invalid),
            origin,
            problem: problem.into(),
        }
    }

    /// Makes a violation at a field of config.json, for a reason that has its own code.
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

    /// Makes a warning about a value of config.json that is left out or changed.
    pub(crate) fn ignored(field: impl Into<String>, problem: impl Into<String>) -> Violation {
        Violation::of(Code::ValueIgnored, field, problem)
    }

    /// Returns the violation with a code of its own.
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

    pub(crate) fn refuse_all(&mut self, refused: Vec<Violation>) {
        self.refused.extend(refused);
    }

    /// Warns about a field of config.json. Equal warnings are kept once.
    pub(crate) fn warn(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.warn_as(Code::ValueIgnored, field, problem);
    }

    /// Warns about a field of config.json, for a reason that has its own code.
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

    /// Warns about a value of any origin.
    pub(crate) fn warn_at(&mut self, origin: Origin, problem: impl Into<String>) {
        self.warnings
            .push(Violation::at(origin, problem).coded(Code::ValueIgnored));
    }

    pub(crate) fn warn_all(&mut self, warnings: Vec<Violation>) {
        self.warnings.extend(warnings);
    }

    /// Unwraps a planner's result, or adds its violations.
    pub(crate) fn take_planned<T>(&mut self, planned: Result<T, Vec<Violation>>) -> Option<T> {
        planned.map_err(|refused| self.refused.extend(refused)).ok()
    }

    /// Returns how many values are refused so far.
    pub(crate) fn refused_count(&self) -> usize {
        self.refused.len()
    }

    /// Returns the values that are refused so far.
    pub(crate) fn refused_values(&self) -> &[Violation] {
        &self.refused
    }

    /// Returns the refused values and the warnings.
    pub(crate) fn into_parts(self) -> (Vec<Violation>, Vec<Violation>) {
        (self.refused, self.warnings)
    }

    pub(crate) fn into_refused(self) -> Vec<Violation> {
        self.refused
    }

    /// Returns the warnings if nothing is refused, or else the refused values.
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
