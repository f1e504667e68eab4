//! Finds the properties that a container needs and another host lacks, from the report of `orlop
//! doctor --json` on that host.
//! The report explains what the properties mean.

use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;

use super::{All, Found, Problem};
use crate::diagnosis::Code;
use crate::doctor::report::{Item, Report, Status};
use crate::error::Violation;
use crate::plan::Plan;
use crate::plan::namespaces::flag;
use crate::plan::rootfs::MountSource;
use crate::sys::ns::{self, CLONE_NEWTIME};

/// Compares what the container needs with what the host has.
pub(super) fn check(spec: &Spec, plan: &Plan, report: &Report, all: &mut All) {
    for item in report.items.iter().filter(|item| item.needed) {
        lack(item, "linux", all);
    }
    for (id, field) in needs(spec, plan) {
        // A property that isn't in the report has no meaning on that host.
        let item = report.items.iter().find(|item| item.id == id);
        if let Some(item) = item.filter(|item| !item.needed) {
            lack(item, &field, all);
        }
    }
}

/// Adds an error if the host lacks the property, or a warning if the property is limited.
fn lack(item: &Item, field: &str, all: &mut All) {
    let status = match item.status {
        Status::Ok => return,
        Status::Limited => "is limited",
        Status::Missing => "is missing",
    };
    let mut problem = format!("{} {status} on the other host", item.id);
    for text in [Some(&item.found), item.means.as_ref()]
        .into_iter()
        .flatten()
    {
        if !text.is_empty() {
            problem += &format!(": {text}");
        }
    }
    let violation = Violation::of(Code::HostLacks, field, problem);
    all.0.push(Found {
        problem: Problem::OtherHost(violation, item.hint.clone()),
        is_warning: item.status == Status::Limited,
    });
}

/// Returns the properties that a container needs, each with the field that asks for it.
fn needs(spec: &Spec, plan: &Plan) -> Vec<(String, String)> {
    let mut needs = namespaces(spec, plan);
    let mut need = |id: String, field: String| needs.push((id, field));
    for op in &plan.rootfs.mounts {
        if let MountSource::Filesystem(made) = &op.source {
            let kind = made.kind.to_string_lossy();
            need(
                format!("filesystem.{kind}"),
                format!("mounts[{}].type", op.index),
            );
        }
        if op.idmap.is_some() {
            let field = format!("mounts[{}].options", op.index);
            need("kernel.idmapped-mounts".into(), field);
        }
    }
    for limit in plan.limits.files.iter().filter(|limit| !limit.no_limit) {
        let field = limit.origin.config_field().unwrap_or("linux.resources");
        need(format!("cgroup.{}", limit.controller), field.into());
    }
    if plan.limits.devices.is_some() {
        need(
            "cgroup.device-rules".into(),
            "linux.resources.devices".into(),
        );
    }
    if let Some(filter) = &plan.process.seccomp {
        need("seccomp.filter".into(), "linux.seccomp".into());
        if filter.listener.is_some() {
            need("seccomp.notify".into(), "linux.seccomp.listenerPath".into());
        }
    }
    let process = spec.process().as_ref();
    let profile = process.and_then(|process| process.apparmor_profile().as_deref());
    if profile.is_some_and(|profile| !matches!(profile, "" | "unconfined")) {
        need("lsm.apparmor".into(), "process.apparmorProfile".into());
    }
    let label = process.and_then(|process| process.selinux_label().as_deref());
    if label.is_some_and(|label| !label.is_empty()) {
        need("lsm.selinux".into(), "process.selinuxLabel".into());
    }
    if plan.driver.moves_init() {
        need("systemd.system".into(), "linux.cgroupsPath".into());
    }
    needs
}

fn namespaces(spec: &Spec, plan: &Plan) -> Vec<(String, String)> {
    let linux = spec.linux().as_ref();
    let list = linux.and_then(|linux| linux.namespaces().as_ref());
    let place = |kind| {
        let mut all = list.into_iter().flatten();
        let at = all.position(|one| flag(one.typ()) == kind);
        at.map_or("linux.namespaces".into(), |at| {
            format!("linux.namespaces[{at}]")
        })
    };
    let mut needs = Vec::new();
    for kind in plan.namespaces.new.iter() {
        let id = match kind {
            CloneFlags::CLONE_NEWUSER => "user.namespaces".into(),
            kind => format!("namespace.{}", ns::link(kind)),
        };
        needs.push((id, place(kind)));
    }
    if plan.namespaces.time.is_some() {
        needs.push(("namespace.time".into(), place(CLONE_NEWTIME)));
    }
    needs
}
