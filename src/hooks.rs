//! The hooks of a container: their configuration, the state they get, and the order in which they
//! run.
//! `launch`, `child` and `cmd` decide when hooks run. `hooks::run` runs one hook.
//!
//! The parent runs the hooks of the runtime namespace, and the child runs those of the container
//! namespace. So this module may import only modules that the child may import.

mod outputs;
mod run;
mod tail;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::Path;

use oci_spec::runtime::{Hook as Configured, Spec};
use serde::{Deserialize, Serialize};

pub(crate) use crate::annotations::Outputs;
use crate::diagnosis::Code;
use crate::origin::{Origin, config};
use crate::sys::Errno;
use crate::sys::process::CStringArray;
use crate::timeline::{self, Phase};
pub(crate) use outputs::OutputPaths;

/// The six kinds of hooks, in the order in which they run in a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookKind {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl HookKind {
    /// All kinds.
    pub(crate) const ALL: [HookKind; 6] = [
        HookKind::Prestart,
        HookKind::CreateRuntime,
        HookKind::CreateContainer,
        HookKind::StartContainer,
        HookKind::Poststart,
        HookKind::Poststop,
    ];

    /// The name in config.json.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            HookKind::Prestart => "prestart",
            HookKind::CreateRuntime => "createRuntime",
            HookKind::CreateContainer => "createContainer",
            HookKind::StartContainer => "startContainer",
            HookKind::Poststart => "poststart",
            HookKind::Poststop => "poststop",
        }
    }

    /// The container status in the state that these hooks get.
    fn container_status(self) -> &'static str {
        match self {
            HookKind::CreateRuntime | HookKind::CreateContainer => "creating",
            // For prestart, the validation suite of OCI runtime-tools expects this status, and crun
            // uses it too.
            HookKind::Prestart | HookKind::StartContainer => "created",
            HookKind::Poststart => "running",
            HookKind::Poststop => "stopped",
        }
    }
}

/// One hook, as the record stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    /// An absolute path.
    path: String,
    /// The arguments, starting with the program's name. If they are empty, the path is the name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    args: Vec<String>,
    /// The whole environment. `None` means the environment of the `HookContext`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<Vec<String>>,
    /// The timeout in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
}

/// All hooks of a container.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    pub(crate) prestart: Vec<Hook>,
    pub(crate) create_runtime: Vec<Hook>,
    pub(crate) create_container: Vec<Hook>,
    pub(crate) start_container: Vec<Hook>,
    pub(crate) poststart: Vec<Hook>,
    pub(crate) poststop: Vec<Hook>,
    /// The files to which the hooks write.
    pub(crate) outputs: OutputPaths,
}

impl Hooks {
    /// Takes the hooks from a validated configuration.
    #[allow(deprecated, reason = "prestart is what docker's networks are made by")]
    pub(crate) fn from_spec(spec: &Spec) -> Hooks {
        let Some(hooks) = spec.hooks() else {
            return Hooks {
                outputs: OutputPaths::of(spec.annotations()),
                ..Hooks::default()
            };
        };
        Hooks {
            prestart: convert_hooks(hooks.prestart()),
            create_runtime: convert_hooks(hooks.create_runtime()),
            create_container: convert_hooks(hooks.create_container()),
            start_container: convert_hooks(hooks.start_container()),
            poststart: convert_hooks(hooks.poststart()),
            poststop: convert_hooks(hooks.poststop()),
            outputs: OutputPaths::of(spec.annotations()),
        }
    }

    /// True if the child has to wait for hooks of the parent before it enters its root.
    pub(crate) fn hold_up_create(&self) -> bool {
        !(self.prestart.is_empty() && self.create_runtime.is_empty())
    }

    /// True if a hook runs between the mounts and the change of root. Such a hook expects the
    /// mounts below root.path.
    pub(crate) fn look_into_root(&self) -> bool {
        self.hold_up_create() || !self.create_container.is_empty()
    }
}

fn convert_hooks(hooks: &Option<Vec<Configured>>) -> Vec<Hook> {
    let hook = |hook: &Configured| Hook {
        path: hook.path().to_string_lossy().into_owned(),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone(),
        timeout: hook
            .timeout()
            .and_then(|seconds| u64::try_from(seconds).ok()),
    };
    hooks.iter().flatten().map(hook).collect()
}

/// The number of hooks of one kind that a timeline can distinguish.
const NUMBERED: usize = 1000;

/// Returns the number of a hook in a timeline.
fn number_of(kind: HookKind, index: usize) -> usize {
    kind as usize * NUMBERED + index.min(NUMBERED - 1)
}

/// Returns the kind and the index of the hook with this number in a timeline.
pub(crate) fn hook_of_number(number: usize) -> (Option<HookKind>, usize) {
    let kind = HookKind::ALL.get(number / NUMBERED).copied();
    (kind, number % NUMBERED)
}

/// The constant part of the state that hooks get: all but the status and the pid.
#[derive(Debug, Clone)]
pub(crate) struct StateTemplate(String);

impl StateTemplate {
    /// Makes the state of a container. `bundle` is an absolute path.
    pub(crate) fn new(
        oci_version: &str,
        id: &str,
        bundle: &Path,
        annotations: &BTreeMap<String, String>,
    ) -> StateTemplate {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct ConstantState<'a> {
            oci_version: &'a str,
            id: &'a str,
            bundle: std::borrow::Cow<'a, str>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            annotations: &'a BTreeMap<String, String>,
        }
        let constant = ConstantState {
            oci_version,
            id,
            bundle: bundle.to_string_lossy(),
            annotations,
        };
        StateTemplate(serde_json::to_string(&constant).unwrap_or_default())
    }

    /// Returns the state JSON. A pid of 0 means that there is no process.
    fn state_json(&self, status: &str, pid: i32) -> String {
        let rest = self.0.strip_prefix('{').unwrap_or_default();
        format!("{{\"status\":\"{status}\",\"pid\":{pid},{rest}")
    }
}

/// The surroundings in which hooks run.
#[derive(Clone, Copy)]
pub(crate) struct HookContext<'a> {
    pub(crate) about: &'a StateTemplate,
    /// The pid of the container's init in the hooks' pid namespace; 0 if init is gone.
    pub(crate) pid: i32,
    /// The environment for hooks that configure none. `None` means this process's own environment.
    /// Only hooks that are confined to the container get the container's environment. A hook on the
    /// host would load the libraries that the container's LD_PRELOAD names (CVE-2025-23266).
    pub(crate) env: Option<&'a CStringArray>,
    /// The working directory. If it is gone, hooks run in `/`. `None` means the caller's directory.
    pub(crate) cwd: Option<&'a Path>,
    /// A process that the hook depends on. When the process exits, the hook is killed.
    pub(crate) only_while: Option<BorrowedFd<'a>>,
    /// The files to which the hooks write. If this is `None`, errors quote the output of the hook.
    pub(crate) outputs: Option<&'a Outputs>,
    /// True if a blocked signal that asks this process to terminate also kills the hook.
    pub(crate) interruptible: bool,
}

/// The failure of a hook, like `error running createRuntime hook #1: hooks.createRuntime[1] (/x):
/// timed out after 1s`. The message starts with runc's wording, because engines search for it. Then
/// follows the hook's field in config.json.
#[derive(Debug, thiserror::Error)]
#[error("error running {0} hook #{index}: hooks.{0}[{index}] ({path}): {problem}", kind.as_str())]
pub(crate) struct Error {
    kind: HookKind,
    index: usize,
    path: String,
    problem: run::HookProblem,
}

impl Error {
    /// Returns the signal that asked this process to terminate, if the hook was killed for this
    /// reason.
    pub(crate) fn interrupting_signal(&self) -> Option<i32> {
        match &self.problem {
            run::HookProblem::Interrupted { signal, .. } => Some(*signal),
            _ => None,
        }
    }

    /// The diagnosis code of the failure.
    pub(crate) fn code(&self) -> Code {
        match self.problem {
            run::HookProblem::TimedOut { .. } => Code::HookTimeout,
            run::HookProblem::NoProcess => Code::ProcessLimit,
            run::HookProblem::Interrupted { .. } => Code::Interrupted,
            _ => Code::HookFailed,
        }
    }

    /// The hook's field in config.json.
    pub(crate) fn origin(&self) -> Origin {
        config(format!("hooks.{}[{}]", self.kind.as_str(), self.index))
    }

    /// True if the kernel refused to make a process for the hook.
    pub(crate) fn lacked_process(&self) -> bool {
        matches!(self.problem, run::HookProblem::NoProcess)
    }
}

/// Finds the config.json field of a failed hook in the error message. The message is all that the
/// child reports.
pub(crate) fn origin_in(text: &str) -> Option<Origin> {
    let (_, rest) = text.strip_prefix("error running ")?.split_once(": ")?;
    let (field, _) = rest.split_once(" (")?;
    Some(config(field.to_owned()))
}

/// Runs the hooks of one kind in order. Stops at the first hook that fails.
pub(crate) fn run_hooks(
    kind: HookKind,
    hooks: &[Hook],
    context: HookContext<'_>,
) -> Result<(), Error> {
    run_hooks_confined(kind, hooks, context, || Ok(()))
}

/// Runs hooks like `run_hooks`. Each hook's process calls `confine` as the last step before it
/// executes the hook.
pub(crate) fn run_hooks_confined(
    kind: HookKind,
    hooks: &[Hook],
    context: HookContext<'_>,
    confine: impl Fn() -> Result<(), (&'static str, Errno)>,
) -> Result<(), Error> {
    hooks
        .iter()
        .enumerate()
        .try_for_each(|(index, hook)| run_hook(kind, index, hook, context, &confine))
}

/// Runs all hooks of one kind in order, even if some fail. Returns the failures.
pub(crate) fn run_all_hooks(
    kind: HookKind,
    hooks: &[Hook],
    context: HookContext<'_>,
) -> Vec<Error> {
    hooks
        .iter()
        .enumerate()
        .filter_map(|(index, hook)| run_hook(kind, index, hook, context, || Ok(())).err())
        .collect()
}

fn run_hook(
    kind: HookKind,
    index: usize,
    hook: &Hook,
    context: HookContext<'_>,
    confine: impl Fn() -> Result<(), (&'static str, Errno)>,
) -> Result<(), Error> {
    let _span = timeline::begin_span(Phase::Hook, number_of(kind, index));
    let state = context
        .about
        .state_json(kind.container_status(), context.pid);
    run::run_program(hook, state.as_bytes(), context, confine).map_err(|problem| Error {
        kind,
        index,
        path: hook.path.clone(),
        problem,
    })
}

#[cfg(test)]
mod tests;
