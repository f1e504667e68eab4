//! The hooks of a container: their configuration, the state they get, and the order in which they
//! run.
//! `launch`, `child` and `cmd` decide when hooks run. `hooks::run` runs one hook.
//!
//! The parent runs the hooks of the runtime namespace, and the child runs those of the container
//! namespace. So this module may import only modules that the child may import.

mod run;
mod tail;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::Path;

use oci_spec::runtime::{Hook as Configured, Spec};
use serde::{Deserialize, Serialize};

use crate::diagnosis::Code;
use crate::origin::{Origin, config};
use crate::sys::Errno;
use crate::sys::process::Strings;

/// The six kinds of hooks, in the order in which they run in a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Kind; 6] = [
        Kind::Prestart,
        Kind::CreateRuntime,
        Kind::CreateContainer,
        Kind::StartContainer,
        Kind::Poststart,
        Kind::Poststop,
    ];

    /// The name in config.json.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Prestart => "prestart",
            Kind::CreateRuntime => "createRuntime",
            Kind::CreateContainer => "createContainer",
            Kind::StartContainer => "startContainer",
            Kind::Poststart => "poststart",
            Kind::Poststop => "poststop",
        }
    }

    /// The status of the container in the state that these hooks get.
    fn status(self) -> &'static str {
        match self {
            Kind::CreateRuntime | Kind::CreateContainer => "creating",
            // For prestart, the validation suite of OCI runtime-tools expects this status, and crun
            // uses it too.
            Kind::Prestart | Kind::StartContainer => "created",
            Kind::Poststart => "running",
            Kind::Poststop => "stopped",
        }
    }
}

/// One hook, as the record stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    /// An absolute path.
    path: String,
    /// The arguments, starting with the name. If they are empty, the path is the name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    args: Vec<String>,
    /// The whole environment. `None` means the environment of the scene.
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
}

impl Hooks {
    /// Takes the hooks from a validated configuration.
    #[allow(deprecated, reason = "prestart is what docker's networks are made by")]
    pub(crate) fn of(spec: &Spec) -> Hooks {
        let Some(hooks) = spec.hooks() else {
            return Hooks::default();
        };
        Hooks {
            prestart: list(hooks.prestart()),
            create_runtime: list(hooks.create_runtime()),
            create_container: list(hooks.create_container()),
            start_container: list(hooks.start_container()),
            poststart: list(hooks.poststart()),
            poststop: list(hooks.poststop()),
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

fn list(hooks: &Option<Vec<Configured>>) -> Vec<Hook> {
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

/// The constant part of the state that hooks get: all but the status and the pid.
#[derive(Debug, Clone)]
pub(crate) struct About(String);

impl About {
    /// Describes a container. `bundle` is absolute.
    pub(crate) fn new(
        oci_version: &str,
        id: &str,
        bundle: &Path,
        annotations: &BTreeMap<String, String>,
    ) -> About {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Constant<'a> {
            oci_version: &'a str,
            id: &'a str,
            bundle: std::borrow::Cow<'a, str>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            annotations: &'a BTreeMap<String, String>,
        }
        let constant = Constant {
            oci_version,
            id,
            bundle: bundle.to_string_lossy(),
            annotations,
        };
        About(serde_json::to_string(&constant).unwrap_or_default())
    }

    /// Returns the state JSON. A pid of 0 means that there is no process.
    fn state(&self, status: &str, pid: i32) -> String {
        let rest = self.0.strip_prefix('{').unwrap_or_default();
        format!("{{\"status\":\"{status}\",\"pid\":{pid},{rest}")
    }
}

/// The surroundings in which hooks run.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) about: &'a About,
    /// The pid of the container's init in the hooks' pid namespace; 0 if init is gone.
    pub(crate) pid: i32,
    /// The environment for hooks that configure none. `None` means this process's own. Only hooks
    /// that are confined to the container get the container's environment. On the host, a hook
    /// would load the libraries that LD_PRELOAD names (CVE-2025-23266).
    pub(crate) env: Option<&'a Strings>,
    /// The working directory, or `/` if the directory is gone. `None` means the caller's.
    pub(crate) cwd: Option<&'a Path>,
    /// A process that the hook depends on. When the process exits, the hook is killed.
    pub(crate) only_while: Option<BorrowedFd<'a>>,
    /// True if a blocked signal that asks this process to terminate also kills the hook.
    pub(crate) interruptible: bool,
}

/// A hook that failed, like `error running createRuntime hook #1: hooks.createRuntime[1] (/x):
/// timed out after 1s`. The first part is runc's wording, for which engines search. The place in
/// config.json follows.
#[derive(Debug, thiserror::Error)]
#[error("error running {0} hook #{index}: hooks.{0}[{index}] ({path}): {problem}", kind.as_str())]
pub(crate) struct Error {
    kind: Kind,
    index: usize,
    path: String,
    problem: run::Problem,
}

impl Error {
    /// Returns the signal that asked this process to terminate, if the hook was killed for this
    /// reason.
    pub(crate) fn interrupting_signal(&self) -> Option<i32> {
        match &self.problem {
            run::Problem::Interrupted { signal, .. } => Some(*signal),
            _ => None,
        }
    }

    /// The kind of the failure.
    pub(crate) fn code(&self) -> Code {
        match self.problem {
            run::Problem::TimedOut { .. } => Code::HookTimeout,
            run::Problem::NoProcess => Code::ProcessLimit,
            run::Problem::Interrupted { .. } => Code::Interrupted,
            _ => Code::HookFailed,
        }
    }

    /// The hook's place in config.json.
    pub(crate) fn origin(&self) -> Origin {
        config(format!("hooks.{}[{}]", self.kind.as_str(), self.index))
    }

    /// True if the kernel refused to make a process for the hook.
    pub(crate) fn is_no_process(&self) -> bool {
        matches!(self.problem, run::Problem::NoProcess)
    }
}

/// Finds the place of a hook in the text of its failure, which is all that arrives from a child.
pub(crate) fn origin_in(text: &str) -> Option<Origin> {
    let (_, rest) = text.strip_prefix("error running ")?.split_once(": ")?;
    let (field, _) = rest.split_once(" (")?;
    Some(config(field.to_owned()))
}

/// Runs the hooks of one kind in order. Stops at the first hook that fails.
pub(crate) fn run(kind: Kind, hooks: &[Hook], scene: Scene<'_>) -> Result<(), Error> {
    run_confined(kind, hooks, scene, || Ok(()))
}

/// Runs hooks like `run`. Each hook's process calls `confine` as the last step before it executes
/// the hook.
pub(crate) fn run_confined(
    kind: Kind,
    hooks: &[Hook],
    scene: Scene<'_>,
    confine: impl Fn() -> Result<(), (&'static str, Errno)>,
) -> Result<(), Error> {
    hooks
        .iter()
        .enumerate()
        .try_for_each(|(index, hook)| run_one(kind, index, hook, scene, &confine))
}

/// Runs all hooks of one kind in order, even if some fail. Returns the failures.
pub(crate) fn run_all(kind: Kind, hooks: &[Hook], scene: Scene<'_>) -> Vec<Error> {
    hooks
        .iter()
        .enumerate()
        .filter_map(|(index, hook)| run_one(kind, index, hook, scene, || Ok(())).err())
        .collect()
}

fn run_one(
    kind: Kind,
    index: usize,
    hook: &Hook,
    scene: Scene<'_>,
    confine: impl Fn() -> Result<(), (&'static str, Errno)>,
) -> Result<(), Error> {
    let state = scene.about.state(kind.status(), scene.pid);
    run::run(hook, state.as_bytes(), scene, confine).map_err(|problem| Error {
        kind,
        index,
        path: hook.path.clone(),
        problem,
    })
}

#[cfg(test)]
mod tests;
