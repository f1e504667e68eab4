//! Finds the limit that kept a process from starting, using the kernel's counters, and describes it
//! in a sentence.
//! `launch::shortage` uses it after a failure.

use std::ffi::CStr;
use std::path::Path;

use super::{Cgroup, tree};

/// The resource that a process lacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NeededResource {
    Memory,
    /// Memory. The kernel killed the process because memory ran out.
    Survival,
    Processes,
    HugePages,
    /// Permission to make more cgroups below a cgroup.
    Cgroups,
    /// A CPU and a memory node to run on.
    Cpuset,
}

/// A limit that was too low.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// The file of the limit if this cgroup has the limit; `None` if a cgroup above has it.
    pub(crate) own_file: Option<String>,
    /// The whole message, except for the field of the configuration that set the limit.
    pub(crate) sentence: String,
}

impl Cgroup {
    /// Opens the nearest existing cgroup above a path.
    pub(crate) fn nearest_existing(path: &Path) -> Option<Cgroup> {
        let mut ancestors = path.ancestors().skip(1);
        ancestors.find_map(|path| Cgroup::open(path).ok()?)
    }

    /// Searches this cgroup and the cgroups above it for a limit that was reached. Returns `None`
    /// if there is none.
    pub(crate) fn find_shortage(&self, need: NeededResource) -> Option<Shortage> {
        if need == NeededResource::Survival
            && self.read_counter(c"memory.events.local", "oom_kill") == 0
        {
            return None;
        }
        if let Some((file, problem)) = self.reached_limit(need) {
            return Some(Shortage {
                sentence: format!("{file} of {} {problem}", self.path.display()),
                own_file: Some(file),
            });
        }
        self.path.ancestors().skip(1).find_map(|path| {
            let (file, problem) = Cgroup::open(path).ok()??.reached_limit(need)?;
            Some(Shortage {
                sentence: format!("{file} of {} {problem}", path.display()),
                own_file: None,
            })
        })
    }

    /// Returns the file of a limit that was reached in this cgroup, and the problem with the limit.
    fn reached_limit(&self, need: NeededResource) -> Option<(String, String)> {
        let number = |file: &CStr| self.read_file(file).ok()?.trim().parse::<u64>().ok();
        match need {
            NeededResource::Memory | NeededResource::Survival => {
                let limit = number(c"memory.max")?;
                let events = |key| self.read_counter(c"memory.events.local", key);
                if events("max") + events("oom") == 0 {
                    return None;
                }
                // memory.peak exists since Linux 5.19. It doesn't include memory that was refused.
                let peak = number(c"memory.peak").unwrap_or_default();
                let (taken, unit) = (peak.max(limit), "bytes");
                Some(("memory.max".into(), describe_too_low(limit, taken, unit)))
            }
            NeededResource::Processes => {
                let limit = number(c"pids.max")?;
                let refused = self.read_counter(c"pids.events", "max");
                let present = number(c"pids.current").unwrap_or_default();
                if refused == 0 && present < limit {
                    return None;
                }
                Some((
                    "pids.max".into(),
                    describe_too_low(limit, limit, "processes and threads"),
                ))
            }
            NeededResource::HugePages => self.reached_hugetlb_limit(),
            NeededResource::Cgroups => {
                let limit = number(c"cgroup.max.descendants")?;
                let file = "cgroup.max.descendants".to_owned();
                (self.read_counter(c"cgroup.stat", "nr_descendants") >= limit)
                    .then(|| (file, describe_too_low(limit, limit, "cgroups")))
            }
            NeededResource::Cpuset => {
                let empty = |file: &CStr| {
                    self.read_file(file)
                        .is_ok_and(|text| text.trim().is_empty())
                };
                let problem = "leaves no CPU or memory node to run on: its .effective is empty";
                if empty(c"cpuset.cpus.effective") {
                    return Some(("cpuset.cpus".into(), problem.into()));
                }
                empty(c"cpuset.mems.effective").then(|| ("cpuset.mems".into(), problem.into()))
            }
        }
    }

    fn read_counter(&self, file: &CStr, key: &str) -> u64 {
        let text = self.read_file(file).unwrap_or_default();
        tree::find_keyed_number(&text, key).unwrap_or_default()
    }

    fn reached_hugetlb_limit(&self) -> Option<(String, String)> {
        self.huge_page_sizes().ok()?.into_iter().find_map(|size| {
            ["", ".rsvd"].into_iter().find_map(|kind| {
                let read = |file: &str| {
                    let file = format!("hugetlb.{size}{kind}.{file}");
                    self.read_if_exists(&file).ok()?
                };
                let limit = read("max")?.trim().parse().ok()?;
                let events = read("events.local").or_else(|| read("events"));
                let refused = tree::find_keyed_number(&events?, "max").filter(|count| *count > 0);
                refused?;
                let file = format!("hugetlb.{size}{kind}.max");
                Some((file, describe_too_low(limit, limit, "bytes")))
            })
        })
    }
}

fn describe_too_low(limit: u64, taken: u64, unit: &str) -> String {
    format!("is too low at {limit}: more than {taken} {unit} were needed")
}
