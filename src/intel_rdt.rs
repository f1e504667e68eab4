//! linux.intelRdt: limits a container's use of cache and memory bandwidth with a group of the
//! resctrl file system.
//! `cgroup` sets all other limits.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use oci_spec::runtime::Linux;
use serde::{Deserialize, Serialize};

use crate::error::{Failed, Violation, failed};
use crate::origin::config;
use crate::sys::path;
use crate::sys::procfs::errno_of;

pub(crate) use update::SchemataUpdate;

/// The conventional mount point of resctrl. Its magic number is in linux/magic.h.
const RESCTRL_MOUNT: &str = "/sys/fs/resctrl";
const RDTGROUP_SUPER_MAGIC: i64 = 0x0765_5821;

/// The planned group of a container.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RdtPlan {
    pub(crate) groups: ResctrlGroups,
    /// True if the group belongs to this container alone.
    own: bool,
    /// The lines to write to schemata.
    schemata: Vec<String>,
}

/// The resctrl directories of a container, as the record stores them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResctrlGroups {
    /// The group whose tasks are the container's processes.
    group: PathBuf,
    /// True if the group is removed together with the container.
    removed: bool,
    /// The monitoring group, which measures this container alone.
    monitor: Option<PathBuf>,
}

/// Why a container could not be put into its group.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error(
        "{}: the group does not exist, and config.json has no schemata to make it",
        config("linux.intelRdt.closID").asks_to(.0)
    )]
    Absent(String),
    #[error("{what}: the schemata of the group differ from {1:?}", what = config("linux.intelRdt").asks_to(.0))]
    Differs(String, String),
    #[error("{0}: the container has no group of its own, and this one is shared by all processes")]
    Shared(String),
    #[error("{0}{1}")]
    Refused(#[source] Failed, String),
}

/// Plans linux.intelRdt for the container with this id.
pub(crate) fn plan_rdt(linux: &Linux, id: &str) -> Result<Option<RdtPlan>, Vec<Violation>> {
    let planned = plan_rdt_below(linux, id, Path::new(RESCTRL_MOUNT))?;
    if planned.is_some() && !is_resctrl_mounted() {
        let problem = format!("no resctrl file system is mounted at {RESCTRL_MOUNT}");
        return Err(vec![Violation::new("linux.intelRdt", problem)]);
    }
    Ok(planned)
}

#[allow(
    deprecated,
    reason = "what writers of runtime-spec before 1.3 ask for is monitoring too"
)]
fn plan_rdt_below(
    linux: &Linux,
    id: &str,
    mount: &Path,
) -> Result<Option<RdtPlan>, Vec<Violation>> {
    let Some(rdt) = linux.intel_rdt() else {
        return Ok(None);
    };
    let mut violations = Vec::new();
    let mut refuse = |field: &str, problem: &str| {
        violations.push(Violation::new(format!("linux.intelRdt.{field}"), problem));
    };
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (l3, bandwidth) = (rdt.l3_cache_schema(), rdt.mem_bw_schema());
    let mut schemata = self::schemata_lines(l3.as_deref(), bandwidth.as_deref());
    let more = rdt.schemata().iter().flatten();
    schemata.extend(more.filter(|line| !line.is_empty()).cloned());
    for line in &schemata {
        if split_schemata_line(line).is_none() {
            refuse(
                "schemata",
                &format!("{line:?} is not RESOURCE:DOMAIN=VALUE;..."),
            );
        }
    }
    let wanted = [rdt.enable_monitoring(), rdt.enable_cmt(), rdt.enable_mbm()];
    let monitored = wanted.iter().any(|wanted| **wanted == Some(true));
    let named = said(rdt.clos_id());
    let group = match named.as_deref() {
        None => mount.join(id),
        Some("/") => mount.to_owned(),
        Some(name) => {
            if !is_group_name(name) {
                refuse("closID", &format!("{name:?} is not the name of a group"));
            }
            mount.join(name)
        }
    };
    if !violations.is_empty() {
        return Err(violations);
    }
    if named.is_none() && schemata.is_empty() && !monitored {
        return Ok(None);
    }
    // A container that is only monitored needs no group of its own.
    let own = named.is_none() && !schemata.is_empty();
    let group = match named.is_none() && !own {
        true => mount.to_owned(),
        false => group,
    };
    let monitor = monitored.then(|| group.join("mon_groups").join(id));
    let groups = ResctrlGroups {
        group,
        removed: own,
        monitor,
    };
    Ok(Some(RdtPlan {
        groups,
        own,
        schemata,
    }))
}

/// True if a group may have this name. The names of other resctrl files are reserved.
fn is_group_name(name: &str) -> bool {
    let reserved = matches!(name, "." | ".." | "info" | "mon_groups" | "mon_data");
    !reserved && !name.contains(['/', '\0', '\n'])
}

/// Returns the lines of a text, without empty ones.
fn non_empty_lines(text: Option<&str>) -> impl Iterator<Item = String> {
    let lines = text.into_iter().flat_map(str::lines).map(str::trim);
    lines.filter(|line| !line.is_empty()).map(str::to_owned)
}

/// Returns the schemata lines that l3CacheSchema and memBwSchema request.
fn schemata_lines(l3_cache: Option<&str>, mem_bw: Option<&str>) -> Vec<String> {
    let mut schemata: Vec<String> = non_empty_lines(l3_cache).collect();
    if mem_bw.is_some_and(|text| !text.is_empty()) {
        // In the runtime-spec, memBwSchema overrides a line about bandwidth in l3CacheSchema.
        schemata.retain(|line| !line.starts_with("MB:"));
    }
    schemata.extend(non_empty_lines(mem_bw));
    schemata
}

fn is_resctrl_mounted() -> bool {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    open(RESCTRL_MOUNT, flags, Mode::empty())
        .is_ok_and(|dir| path::filesystem(dir.as_fd()) == Ok(RDTGROUP_SUPER_MAGIC))
}

/// Splits `L3:0=ff;1=f` into the resource and its settings. Drops leading zeros, which the kernel
/// may print.
fn split_schemata_line(line: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let (resource, list) = line.split_once(':')?;
    let setting = |text| -> Option<(&str, &str)> {
        let (domain, value): (&str, &str) = str::split_once(text, '=')?;
        let value = value.trim();
        let short = value.trim_start_matches('0');
        Some((domain.trim(), if short.is_empty() { value } else { short }))
    };
    let list: Option<Vec<_>> = list.split(';').map(setting).collect();
    Some((resource.trim(), list?))
}

/// True if a group's schemata contain the settings of a line.
fn schemata_contain(schemata: &str, line: &str) -> bool {
    let Some((resource, wanted)) = split_schemata_line(line) else {
        return false;
    };
    let lines = schemata.lines().filter_map(split_schemata_line);
    let mut same = lines.filter(|(name, _)| *name == resource);
    same.any(|(_, there)| wanted.iter().all(|setting| there.contains(setting)))
}

impl RdtPlan {
    /// Puts a process into the group, and makes the group if it is missing. All processes that this
    /// process starts are in the group too.
    pub(crate) fn join_group(&self, pid: i32) -> Result<(), Error> {
        let group = &self.groups.group;
        let what = || config("linux.intelRdt").asks_to(format!("{}", group.display()));
        if self.own || !self.schemata.is_empty() {
            let made = make_dir(group).map_err(|e| failed("mkdir", what)(errno_of(&e)))?;
            if made || self.own {
                let text: String = self
                    .schemata
                    .iter()
                    .map(|line| format!("{line}\n"))
                    .collect();
                fs::write(group.join("schemata"), text).map_err(|e| {
                    failed("write", || format!("{}: schemata", what()))(errno_of(&e))
                })?;
            } else {
                self.check_schemata()?;
            }
        } else if !group.is_dir() {
            return Err(Error::Absent(group.display().to_string()));
        }
        if let Some(monitor) = &self.groups.monitor {
            make_dir(monitor).map_err(|e| {
                let what = || {
                    config("linux.intelRdt.enableMonitoring")
                        .asks_to(format!("{}", monitor.display()))
                };
                failed("mkdir", what)(errno_of(&e))
            })?;
        }
        self.groups.add_process(pid)
    }

    /// Checks the schemata of an existing group that the configuration names. Never changes the
    /// group, because other processes may be in it too.
    fn check_schemata(&self) -> Result<(), Error> {
        let file = self.groups.group.join("schemata");
        let what = || config("linux.intelRdt").asks_to(format!("{}", file.display()));
        let text = fs::read_to_string(&file).map_err(|e| failed("read", what)(errno_of(&e)))?;
        match self
            .schemata
            .iter()
            .find(|line| !schemata_contain(&text, line))
        {
            Some(line) => Err(Error::Differs(
                self.groups.group.display().to_string(),
                line.clone(),
            )),
            None => Ok(()),
        }
    }
}

/// Makes a directory. Returns false if it already exists.
fn make_dir(dir: &Path) -> Result<bool, std::io::Error> {
    match fs::create_dir(dir) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        other => other.map(|()| true),
    }
}

impl ResctrlGroups {
    /// Puts a process into the container's groups.
    pub(crate) fn add_process(&self, pid: i32) -> Result<(), Error> {
        for dir in [Some(&self.group), self.monitor.as_ref()]
            .into_iter()
            .flatten()
        {
            let file = dir.join("tasks");
            let what = || {
                config("linux.intelRdt")
                    .asks_to(format!("put process {pid} into {}", file.display()))
            };
            fs::write(&file, pid.to_string()).map_err(|e| failed("write", what)(errno_of(&e)))?;
        }
        Ok(())
    }

    /// Removes the directories that were made for the container. Its processes must be gone.
    pub(crate) fn remove_dirs(&self) -> Result<(), Error> {
        let own = self.removed.then_some(&self.group);
        for dir in [self.monitor.as_ref(), own].into_iter().flatten() {
            match fs::remove_dir(dir) {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                other => other
                    .map_err(|e| failed("rmdir", || dir.display().to_string())(errno_of(&e)))?,
            }
        }
        Ok(())
    }
}

mod update;

#[cfg(test)]
mod tests;
