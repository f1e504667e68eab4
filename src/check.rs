//! Everything that can be said of a bundle without running it: the findings of the file's rules and
//! of the planners, and what only a look at the bundle and at the host tells.
//! `cmd::check` prints it. No rule of config.json is here: those are in `spec` and `plan`.

mod files;
mod mounts;
mod other_host;

use std::os::fd::OwnedFd;
use std::path::Path;

use oci_spec::runtime::Spec;

use crate::cgroup;
use crate::diagnosis::Code;
use crate::doctor::report::Report;
use crate::error::{Failed, Violation};
use crate::invocation::{CgroupDriver, RootlessMode};
use crate::launch;
use crate::plan::host::{self, Host};
use crate::plan::namespaces::UserNamespace;
use crate::plan::{CreateOptions, InheritedFds, Plan};
use crate::spec::{self, Examined};

/// What to look at.
pub(crate) struct Request<'a> {
    /// The bundle's absolute path.
    pub(crate) bundle: &'a Path,
    pub(crate) config: &'a Path,
    pub(crate) cgroup_driver: CgroupDriver,
    pub(crate) rootless: RootlessMode,
    /// The host on which the container would run; `None` for this one.
    pub(crate) other_host: Option<&'a Report>,
}

/// What is wrong. The variants are the errors of the modules whose words these are.
pub(crate) enum Problem {
    Violation(Violation),
    Failed(Failed),
    Launch(launch::Error),
    Cgroup(cgroup::Error),
    Host(host::Error),
    /// A lack of another host, with that host's hint.
    OtherHost(Violation, Option<String>),
}

/// A problem, and whether the container could run in spite of it.
pub(crate) struct Found {
    pub(crate) problem: Problem,
    pub(crate) is_warning: bool,
}

/// All that was found.
#[derive(Default)]
pub(super) struct All(Vec<Found>);

impl All {
    fn error(&mut self, problem: Problem) {
        self.0.push(Found {
            problem,
            is_warning: false,
        });
    }

    fn warning(&mut self, problem: Problem) {
        self.0.push(Found {
            problem,
            is_warning: true,
        });
    }

    fn refuse(&mut self, code: Code, field: impl Into<String>, problem: impl Into<String>) {
        self.error(Problem::Violation(Violation::of(code, field, problem)));
    }

    fn warn(&mut self, code: Code, field: impl Into<String>, problem: impl Into<String>) {
        self.warning(Problem::Violation(Violation::of(code, field, problem)));
    }
}

/// The id that plans have: it is no container's.
const NOBODY: &str = "orlop-check";

/// Examines a bundle. An error means that its config.json is no JSON.
pub(crate) fn examine(request: &Request<'_>) -> Result<(Examined, Vec<Found>), spec::Error> {
    let mut examined = spec::examine(request.config)?;
    let mut all = All::default();
    let values = std::mem::take(&mut examined.refused).into_iter();
    values.for_each(|violation| all.error(Problem::Violation(violation)));
    let values = std::mem::take(&mut examined.warnings).into_iter();
    values.for_each(|violation| all.warning(Problem::Violation(violation)));
    let Some(spec) = &examined.spec else {
        return Ok((examined, all.0));
    };
    if spec.process().is_none() {
        let problem = "is missing; the container can be created but not run";
        all.warn(Code::NoProcess, "process", problem);
    }
    files::check_hooks(spec, &mut all);
    match Host::read_host() {
        Ok(host) => with_host(request, spec, &host, &mut all),
        Err(error) => {
            files::check_root(spec, request.bundle, &mut all);
            all.error(Problem::Host(error));
        }
    }
    Ok((examined, all.0))
}

/// Plans the container for this host, and looks at what the plan names.
fn with_host(request: &Request<'_>, spec: &Spec, host: &Host, all: &mut All) {
    let options = CreateOptions {
        id: NOBODY,
        bundle: request.bundle,
        cgroup_driver: request.cgroup_driver,
        rootless: request.rootless,
        no_pivot: false,
        no_new_keyring: false,
        passed: InheritedFds::default(),
        notify: None,
        runs: false,
    };
    let (plan, refused, warnings) = Plan::examine(spec, host, &options);
    // Another host decides about its own modules.
    let is_local =
        |violation: &Violation| request.other_host.is_some() && violation.code == Code::ModuleOff;
    for violation in refused.iter().filter(|violation| !is_local(violation)) {
        all.error(Problem::Violation(violation.clone()));
    }
    for violation in warnings {
        all.warning(Problem::Violation(violation));
    }
    warn_of_systemd_path(request, spec, all);
    // A value that was refused mustn't hide what is wrong with the others.
    let plan = plan.or_else(|| {
        let usable = without(spec, &refused);
        Plan::examine(&usable, host, &options).0
    });
    let root = files::check_root(spec, request.bundle, all);
    if let Some(plan) = plan {
        look_at_what_is_planned(request, host, &plan, root.as_ref(), all);
        match request.other_host {
            Some(report) => other_host::check(spec, &plan, report, all),
            None => cgroup::missing_controllers(&host.hierarchy, &plan.limits)
                .into_iter()
                .for_each(|error| all.error(Problem::Cgroup(error))),
        }
    }
}

/// Looks at the objects of the host and of the bundle that a plan names.
fn look_at_what_is_planned(
    request: &Request<'_>,
    host: &Host,
    plan: &Plan,
    root: Option<&OwnedFd>,
    all: &mut All,
) {
    if let Some(filter) = &plan.process.seccomp {
        for violation in filter.warnings.iter().cloned() {
            all.warning(Problem::Violation(violation));
        }
    }
    mounts::check(plan, all);
    if let Some(root) = root {
        files::check_program(plan, root, host, request.other_host, all);
    }
    let user = match &plan.namespaces.user {
        Some(UserNamespace::Joined(user, _)) => Some(user),
        _ => None,
    };
    for namespace in plan.namespaces.joined.iter().chain(user) {
        if let Err(error) = launch::open_namespace(plan, namespace, &host.proc) {
            all.error(Problem::Launch(error));
        }
    }
}

/// Warns of a path for systemd where this program makes the cgroup. The path would be taken as it
/// is written.
fn warn_of_systemd_path(request: &Request<'_>, spec: &Spec, all: &mut All) {
    let linux = spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().as_ref());
    let path = path.map(|path| path.to_string_lossy());
    let is_systemds =
        path.is_some_and(|path| !path.contains('/') && path.matches(':').count() == 2);
    if is_systemds && request.cgroup_driver == CgroupDriver::Cgroupfs {
        let problem = "has the form of the systemd driver, but --systemd-cgroup is not given: the path is taken literally";
        all.warn(Code::SystemdCgroupPath, "linux.cgroupsPath", problem);
    }
}

/// The configuration without the values that kept a plan from being made.
fn without(spec: &Spec, refused: &[Violation]) -> Spec {
    let mut spec = spec.clone();
    let is_refused = |field: &str| {
        refused.iter().any(|violation| {
            let at = violation.origin.config_field();
            at.is_some_and(|at| at == field || at.starts_with(&format!("{field}.")))
        })
    };
    let mut mounts = spec.mounts().clone();
    for (index, mount) in mounts.iter_mut().flatten().enumerate() {
        if is_refused(&format!("mounts[{index}]")) {
            mount
                .set_typ(Some("tmpfs".into()))
                .set_source(None)
                .set_options(None)
                .set_uid_mappings(None)
                .set_gid_mappings(None);
        }
    }
    spec.set_mounts(mounts);
    let mut linux = spec.linux().clone();
    if let Some(linux) = &mut linux {
        linux.set_cgroups_path(None);
        linux.set_resources(None);
    }
    spec.set_linux(linux);
    spec.set_annotations(None);
    spec
}
