//! The hooks of a container: what config.json says of them, what they are told, and the order in which they run.
//! Not when they run: `launch`, `child` and `cmd` decide that. How one runs is in `hooks::run`.
//!
//! The parent runs those of the runtime namespace, the child those of the container; so this imports nothing that the child
//! may not have.

mod run;
mod tail;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::Path;

use oci_spec::runtime::{Hook as Configured, Spec};
use serde::{Deserialize, Serialize};

use crate::sys::Errno;
use crate::sys::process::Strings;

/// The six kinds, in the order of a container's life.
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
    /// All of them.
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

    /// The status of the container that these hooks are told.
    fn status(self) -> &'static str {
        match self {
            Kind::CreateRuntime | Kind::CreateContainer => "creating",
            // For prestart that is what the validation suite of OCI runtime-tools wants, and crun says.
            Kind::Prestart | Kind::StartContainer => "created",
            Kind::Poststart => "running",
            Kind::Poststop => "stopped",
        }
    }
}

/// One hook, as the record keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    /// Absolute.
    path: String,
    /// With the name first; empty: the path is the name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    args: Vec<String>,
    /// All of its environment; `None`: that of its scene.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<Vec<String>>,
    /// Seconds.
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
    /// The hooks of a configuration that was found valid.
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

    /// True if a hook runs between the mounts and the change of root: it looks for the mounts below root.path.
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

/// What hooks are told of their container, but for what changes: status and pid.
#[derive(Debug, Clone)]
pub(crate) struct About(String);

impl About {
    /// Of a container whose bundle is at an absolute path.
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

    /// The state JSON; a pid of 0 is none.
    fn state(&self, status: &str, pid: i32) -> String {
        let rest = self.0.strip_prefix('{').unwrap_or_default();
        format!("{{\"status\":\"{status}\",\"pid\":{pid},{rest}")
    }
}

/// Where hooks run, and what they are told.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) about: &'a About,
    /// The container's init as these hooks see it; 0: there is none any more.
    pub(crate) pid: i32,
    /// The environment of hooks for which config.json has none; `None`: this process' own. The container's is only for programs
    /// that it confines: a hook that has the host in hand would load what LD_PRELOAD names (CVE-2025-23266).
    pub(crate) env: Option<&'a Strings>,
    /// Their working directory, or `/` if that is gone; `None`: the caller's.
    pub(crate) cwd: Option<&'a Path>,
    /// A process without which the hook makes no sense: when it ends, the hook is ended.
    pub(crate) only_while: Option<BorrowedFd<'a>>,
    /// True: a signal that asks this process to end, and is held back, ends the hook.
    pub(crate) interruptible: bool,
}

/// A hook that failed. Reads like `error running createRuntime hook #1: hooks.createRuntime[1] (/x): timed out after 1s`: runc's
/// words, which are looked for, and the place in config.json.
#[derive(Debug, thiserror::Error)]
#[error("error running {0} hook #{index}: hooks.{0}[{index}] ({path}): {problem}", kind.as_str())]
pub(crate) struct Error {
    kind: Kind,
    index: usize,
    path: String,
    problem: run::Problem,
}

impl Error {
    /// The signal by which this process was asked to end meanwhile, if that was the reason.
    pub(crate) fn signal(&self) -> Option<i32> {
        match &self.problem {
            run::Problem::Interrupted { signal, .. } => Some(*signal),
            _ => None,
        }
    }

    /// True if there could be no process for it.
    pub(crate) fn is_no_process(&self) -> bool {
        matches!(self.problem, run::Problem::NoProcess)
    }
}

/// Runs the hooks of one kind in their order, up to the first that fails.
pub(crate) fn run(kind: Kind, hooks: &[Hook], scene: Scene<'_>) -> Result<(), Error> {
    run_confined(kind, hooks, scene, || Ok(()))
}

/// The same, where each hook's process does `confine` as its last step before it executes the hook.
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

/// Runs the hooks of one kind in their order, also after one that failed; answers with those that did.
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
