//! `update`: sets new resource limits for an existing container, all of them or none.
//! `cgroup/resources` translates the limits for a cgroup.

use std::path::Path;

use oci_spec::runtime::LinuxResources;

use super::{Error, log_warnings, open_container};
use crate::cgroup::{DeviceProgram, plan_update};
use crate::error::Violation;
use crate::intel_rdt;
use crate::invocation::{Globals, ResourcesSource, UpdateArgs};
use crate::launch;
use crate::log::Log;
use crate::origin::{Origin, config, flag};
use crate::spec;
use crate::state::record::Record;
use crate::state::{Dir, FoundContainer, Status};

/// The fields below linux.resources that flags set, with their flags.
const FIELD_FLAGS: [(&str, &str); 16] = [
    ("blockIO.weight", "--blkio-weight"),
    ("cpu.burst", "--cpu-burst"),
    ("cpu.cpus", "--cpuset-cpus"),
    ("cpu.idle", "--cpu-idle"),
    ("cpu.mems", "--cpuset-mems"),
    ("cpu.period", "--cpu-period"),
    ("cpu.quota", "--cpu-quota"),
    ("cpu.realtimePeriod", "--cpu-rt-period"),
    ("cpu.realtimeRuntime", "--cpu-rt-runtime"),
    ("cpu.shares", "--cpu-share"),
    ("memory.kernel", "--kernel-memory"),
    ("memory.kernelTCP", "--kernel-memory-tcp"),
    ("memory.limit", "--memory"),
    ("memory.reservation", "--memory-reservation"),
    ("memory.swap", "--memory-swap"),
    ("pids.limit", "--pids-limit"),
];

/// Sets new limits. After an error all limits are as before.
pub(crate) fn update(globals: &Globals, args: &UpdateArgs, log: &Log) -> Result<(), Error> {
    let dir = open_container(globals, args.id.as_str())?;
    let (mut resources, file) = match &args.resources {
        ResourcesSource::Flags(limits) => (limits.as_ref().clone(), None),
        ResourcesSource::Stdin => (
            spec::load_resources(None)?,
            Some(spec::STDIN_NAME.to_owned()),
        ),
        ResourcesSource::File(path) => {
            let path: &Path = path;
            let file = path.display().to_string();
            (spec::load_resources(Some(path))?, Some(file))
        }
    };
    if resources.pids().is_some_and(|pids| pids.limit() == 0) {
        // ociVersion doesn't tell whether 0 means "no limit" or a limit of 0. runc 1.3 and crun
        // leave the limit as it is.
        let limit = caller_origin(file.as_deref(), &config("linux.resources.pids.limit"));
        log.warn(&format!(
            "{limit}: 0 is ignored, the limit stays as it is (-1 is no limit)"
        ));
        resources.set_pids(None);
    }
    let (l3_cache, mem_bw) = (&args.schemata.l3_cache, &args.schemata.mem_bw);
    let schemata = intel_rdt::SchemataUpdate::plan_update(l3_cache.as_deref(), mem_bw.as_deref())
        .map_err(Error::BadFlag)?;
    // Without the lock, two concurrent updates would overwrite each other's values.
    let _lock = dir.lock()?;
    let mut found = FoundContainer::read_container(&dir)?;
    match found.status(&dir) {
        Status::Created | Status::Running | Status::Paused => {}
        Status::Creating => return Err(Error::UpdateCreating),
        Status::Stopped => return Err(Error::NotRunning),
    }
    let Some(record) = &mut found.record else {
        return Err(Error::NotRunning);
    };
    let Some(schemata) = schemata else {
        return update_cgroup(&dir, record, &resources, file.as_deref(), log);
    };
    let groups = record.rdt.clone().ok_or(Error::NoRdt)?;
    let former = schemata
        .write_schemata(&groups)
        .map_err(launch::Error::Rdt)?;
    if resources == LinuxResources::default() {
        return Ok(());
    }
    update_cgroup(&dir, record, &resources, file.as_deref(), log)
        .inspect_err(|_| former.restore_schemata(&groups))
}

/// Sets new limits of the cgroup. `file` is the file with the limits, or `None` if flags set them.
fn update_cgroup(
    dir: &Dir,
    record: &mut Record,
    resources: &LinuxResources,
    file: Option<&str>,
    log: &Log,
) -> Result<(), Error> {
    let name = |origin: &Origin| caller_origin(file, origin);
    let cgroup = dir
        .open_cgroup(Some(record))?
        .ok_or(match record.cgroup.is_disabled() {
            true => Error::NoCgroup,
            // The cgroup was removed from outside.
            false => Error::NotRunning,
        })?;
    let mut limits = plan_update(resources, cgroup.read_current_values()).map_err(|found| {
        let renamed = |v: Violation| Violation {
            origin: name(&v.origin),
            ..v
        };
        spec::Error::Violations(found.into_iter().map(renamed).collect())
    })?;
    limits.rename_origins(name);
    log_warnings(&limits.warnings, log);
    // Engines repeat the device rules of config.json with each update. Those rules change nothing,
    // and must not replace rules that a tool for GPUs has set since.
    let rules = DeviceProgram::digest_of(limits.devices.as_ref());
    let has_rules = resources
        .devices()
        .as_ref()
        .is_some_and(|rules| !rules.is_empty());
    let new_rules = has_rules && rules != record.device_rules;
    let old_rules = std::mem::replace(&mut record.device_rules, rules);
    if new_rules {
        // Save the record first: on a full disk, the cgroup must not get rules that the record
        // lacks.
        dir.replace_record(record)?;
    }
    let updated = record.cgroup.update_limits(&cgroup, &limits, new_rules);
    if updated.is_err() && new_rules {
        record.device_rules = old_rules;
        dir.replace_record(record)?;
    }
    Ok(updated?)
}

/// Returns the file or flag in which the caller gave a field of linux.resources.
fn caller_origin(file: Option<&str>, origin: &Origin) -> Origin {
    if let Some(file) = file {
        return origin.in_file(file, spec::RESOURCES_PREFIX);
    }
    let field = origin.config_field().unwrap_or_default();
    let field = field.strip_prefix(spec::RESOURCES_PREFIX).unwrap_or(field);
    match FIELD_FLAGS.iter().find(|(of, _)| *of == field) {
        Some((_, name)) => flag(*name),
        None => origin.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_the_caller_wrote() {
        for (file, field, name) in [
            (None, "memory.limit", "--memory"),
            (None, "cpu.shares", "--cpu-share"),
            (Some("stdin"), "memory.limit", "stdin: memory.limit"),
            (Some("/a.json"), "unified[\"x\"]", "/a.json: unified[\"x\"]"),
        ] {
            let origin = config(format!("linux.resources.{field}"));
            assert_eq!(caller_origin(file, &origin).to_string(), name);
        }
    }
}
