//! Finds the problems of a bundle without running it: violations of the rules for config.json,
//! errors of the planners, and problems that show only in the bundle's files and on the host.
//! `cmd::check` prints the findings. The rules for config.json are in `spec` and `plan`.

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

/// The bundle to check, and the options of the check.
pub(crate) struct Request<'a> {
    /// The bundle's absolute path.
    pub(crate) bundle: &'a Path,
    pub(crate) config: &'a Path,
    pub(crate) cgroup_driver: CgroupDriver,
    pub(crate) rootless: RootlessMode,
    /// The host that would run the container; `None` for this host.
    pub(crate) other_host: Option<&'a Report>,
}

/// A problem. Each variant wraps the error type of the module that words the message.
pub(crate) enum Problem {
    Violation(Violation),
    Failed(Failed),
    Launch(launch::Error),
    Cgroup(cgroup::Error),
    Host(host::Error),
    /// A property that the other host lacks, and the hint from that host's report.
    OtherHost(Violation, Option<String>),
}

/// A problem, and whether the container could run in spite of it.
pub(crate) struct Found {
    pub(crate) problem: Problem,
    pub(crate) is_warning: bool,
}

/// The findings so far.
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

/// The container id for plans. A plan needs an id, although a check makes no container.
const NOBODY: &str = "orlop-check";

/// Checks a bundle. Returns an error if config.json can't be read or isn't a JSON object.
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

/// Plans the container for this host, and checks the files, mounts and namespaces that the plan
/// names.
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
    // `ModuleOff` is about the security modules of this host. `other_host` checks those of the
    // other host.
    let is_local =
        |violation: &Violation| request.other_host.is_some() && violation.code == Code::ModuleOff;
    for violation in refused.iter().filter(|violation| !is_local(violation)) {
        all.error(Problem::Violation(violation.clone()));
    }
    for violation in warnings {
        all.warning(Problem::Violation(violation));
    }
    warn_of_systemd_path(request, spec, all);
    // Plan again without the refused values, so that they don't hide problems of other values.
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

/// Checks the objects of the host and of the bundle that a plan names.
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

/// Warns of a cgroups path in the form of the systemd driver if the cgroupfs driver is used,
/// because that driver takes the path literally.
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

/// Returns the configuration without values that can keep a plan from being made. A refused mount
/// becomes a plain tmpfs, so that the indices of the other mounts stay the same.
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
