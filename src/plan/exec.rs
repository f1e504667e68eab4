//! The plan of an exec, an additional process in a container.
//! `process` plans the properties that an exec has in common with init.

use std::ffi::CString;

use oci_spec::runtime::Spec;

use super::caps::AvailableCapabilities;
use super::description::{ExecDescription, ProcessDescription};
use super::process::{self, Process};
use super::route::{self, Route};
use super::{InheritedFds, keyring_name};
use crate::error::{Failed, Findings, Violation};
use crate::origin::flag;
use crate::sys::procfs::Procfs;

/// The plan for the child of an exec.
pub(crate) struct ExecPlan {
    pub(crate) process: Process,
    /// True if the seccomp filter is set before the process is cloned.
    pub(crate) born_filtered: bool,
    pub(crate) route: Route,
    /// The session keyring to join.
    pub(crate) keyring: Option<CString>,
    /// The number of descriptors, from 3 up, that the process inherits.
    pub(crate) preserve_fds: u32,
    /// Warnings about ignored values.
    pub(crate) warnings: Vec<Violation>,
}

/// The container that the process joins.
pub(crate) struct ExecContainer<'a> {
    pub(crate) id: &'a str,
    pub(crate) proc: &'a Procfs,
    /// The pid of the container's init, which is alive.
    pub(crate) init: i32,
    /// True if init waits for `start`.
    pub(crate) waits: bool,
    /// True if the container has a session keyring of its own.
    pub(crate) keyring: bool,
}

/// The reason why planning failed.
#[derive(Debug)]
pub(crate) enum Error {
    Refused(Vec<Violation>),
    Route(route::Error),
    Failed(Failed),
}

impl ExecPlan {
    /// Plans the process that the request and the container's config.json describe together.
    pub(crate) fn plan_exec(
        spec: &Spec,
        request: &ExecDescription<'_>,
        container: &ExecContainer<'_>,
        passed: InheritedFds,
    ) -> Result<ExecPlan, Error> {
        let mut findings = Findings::default();
        if let ExecDescription::Flags(line) = request
            && line.args.first().is_none_or(|name| name.is_empty())
        {
            findings.refuse_at(flag("the command"), "is empty");
        }
        let mut description = ProcessDescription::for_exec(spec.process().as_ref(), request);
        description.listen_fds = passed.listen;
        let available = container.available_capabilities().map_err(Error::Failed)?;
        let process = process::plan(&description, spec, available, &mut findings);
        let warnings = findings.into_warnings().map_err(Error::Refused)?;
        let process = process.ok_or(Error::Refused(Vec::new()))?;
        let ExecContainer {
            id,
            proc,
            init,
            waits,
            keyring,
        } = *container;
        Ok(ExecPlan {
            born_filtered: process.is_cloned_filtered(),
            process,
            route: Route::for_exec(proc, init, waits).map_err(Error::Route)?,
            keyring: keyring.then(|| keyring_name(id)).flatten(),
            preserve_fds: passed.count(),
            warnings,
        })
    }
}

impl ExecContainer<'_> {
    /// Returns the capabilities that a process in the container can get. A process that joins
    /// another user namespace can get all capabilities.
    fn available_capabilities(&self) -> Result<AvailableCapabilities, Failed> {
        let user = |pid: &str| self.proc.namespace(&format!("{pid}/ns/user"));
        match (user("self"), user(&self.init.to_string())) {
            (Ok(own), Ok(joined)) if own == joined => AvailableCapabilities::probe(self.proc),
            _ => Ok(AvailableCapabilities::ALL),
        }
    }
}
