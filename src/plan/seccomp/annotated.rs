//! Applies crun's annotations for filters, which set another agent, replace the filter, or refuse
//! unknown system calls.
//! `crate::annotations` defines the annotations.

use std::borrow::Cow;
use std::path::PathBuf;

use oci_spec::runtime::LinuxSeccomp;

use super::{SeccompFilter, plan, raw};
use crate::annotations::{
    self, Annotations, SECCOMP_BPF_DATA, SECCOMP_FAIL_UNKNOWN, SECCOMP_RECEIVER,
};
use crate::diagnosis::Code;
use crate::error::Violation;

/// Compiles a profile as the annotations ask, or takes a whole filter from an annotation. Returns
/// `None` if the process gets no filter.
pub(crate) fn plan_with(
    configured: Option<&LinuxSeccomp>,
    annotations: &impl Annotations,
) -> Option<Result<SeccompFilter, Vec<Violation>>> {
    if let Some(data) = annotations.text(SECCOMP_BPF_DATA) {
        return Some(raw::filter(data, configured).map_err(|problem| {
            let place = annotations::place(SECCOMP_BPF_DATA);
            vec![Violation::of(Code::InvalidAnnotation, place, problem)]
        }));
    }
    let configured = match receiver(configured?, annotations) {
        Ok(receiver) => with_receiver(configured?, receiver),
        Err(violation) => return Some(Err(vec![violation])),
    };
    let mut planned = plan(&configured);
    if let Ok(filter) = &mut planned
        && annotations.is_on(SECCOMP_FAIL_UNKNOWN)
    {
        let is_unknown = |warning: &Violation| warning.code == Code::UnknownSyscall;
        let unknown: Vec<_> = filter
            .warnings
            .extract_if(.., |one| is_unknown(one))
            .collect();
        if !unknown.is_empty() {
            return Some(Err(unknown.into_iter().map(as_refused).collect()));
        }
    }
    Some(planned)
}

/// Returns the seccomp agent's socket that an annotation or the environment names, unless the
/// profile names one.
fn receiver(
    configured: &LinuxSeccomp,
    annotations: &impl Annotations,
) -> Result<Option<PathBuf>, Violation> {
    let own = configured.listener_path().as_ref();
    if own.is_some_and(|path| !path.as_os_str().is_empty()) {
        return Ok(None);
    }
    let receiver = annotations.text(SECCOMP_RECEIVER).map(PathBuf::from);
    let receiver = receiver.or_else(|| std::env::var_os(RECEIVER_VARIABLE).map(PathBuf::from));
    match receiver.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) if !path.is_absolute() => {
            let place = annotations::place(SECCOMP_RECEIVER);
            let problem = format!("{path:?} is not an absolute path");
            Err(Violation::of(Code::InvalidAnnotation, place, problem))
        }
        receiver => Ok(receiver),
    }
}

fn with_receiver(configured: &LinuxSeccomp, receiver: Option<PathBuf>) -> Cow<'_, LinuxSeccomp> {
    let Some(path) = receiver else {
        return Cow::Borrowed(configured);
    };
    let mut configured = configured.clone();
    configured.set_listener_path(Some(path));
    Cow::Owned(configured)
}

/// crun's environment variable, which is used if the annotation for the agent's socket is missing.
const RECEIVER_VARIABLE: &str = "RUN_OCI_SECCOMP_RECEIVER";

/// Converts a warning about an unknown system call to the reason for a refusal.
fn as_refused(mut warning: Violation) -> Violation {
    let asked = format!(", and {SECCOMP_FAIL_UNKNOWN} is set");
    warning.problem = warning.problem.replace(", ignored", &asked);
    warning
}
