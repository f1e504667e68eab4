//! Resource usage of a cgroup, in the format that go-runc decodes: the names are those of runc's
//! types/events.go.
//! `cmd/events` decides when to print it, and `stats/files` parses the kernel's files.
//!
//! A member that Go omits when empty is omitted here too, so that callers get the same text from
//! both runtimes. The members of a missing controller are empty.

mod files;

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Cgroup, Error, tree};
use crate::error::failed;
use crate::sys::{Errno, path};

#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Stats {
    cpu: Cpu,
    cpuset: Cpuset,
    memory: Memory,
    pids: Pids,
    blkio: BlockIo,
    hugetlb: BTreeMap<String, Hugetlb>,
    intel_rdt: IntelRdt,
    /// runc once reported the network interfaces that it had made. It no longer makes any.
    network_interfaces: Option<()>,
}

/// True for values that Go's omitempty and omitzero omit.
fn is_empty<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Cpu {
    #[serde(skip_serializing_if = "is_empty")]
    usage: CpuUsage,
    #[serde(skip_serializing_if = "is_empty")]
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

/// Nanoseconds.
#[derive(Debug, Default, PartialEq, Serialize)]
struct CpuUsage {
    #[serde(skip_serializing_if = "is_empty")]
    total: u64,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "is_empty")]
    periods: u64,
    #[serde(skip_serializing_if = "is_empty")]
    throttled_periods: u64,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_empty")]
    throttled_time: u64,
}

/// How long tasks waited for a resource (PSI).
#[derive(Debug, Default, PartialEq, Serialize)]
struct Pressure {
    #[serde(skip_serializing_if = "is_empty")]
    some: Stall,
    #[serde(skip_serializing_if = "is_empty")]
    full: Stall,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Stall {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    /// Microseconds.
    total: u64,
}

/// Flags that only cgroup v1 has. Go always prints them.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Cpuset {
    cpu_exclusive: u64,
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

/// Bytes.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Memory {
    #[serde(skip_serializing_if = "is_empty")]
    cache: u64,
    #[serde(skip_serializing_if = "is_empty")]
    usage: MemoryUsage,
    /// The sum of memory and swap, as in cgroup v1.
    #[serde(skip_serializing_if = "is_empty")]
    swap: MemoryUsage,
    /// The numbers in memory.stat.
    #[serde(skip_serializing_if = "is_empty")]
    raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct MemoryUsage {
    /// `u64::MAX` means that there is no limit.
    limit: u64,
    #[serde(skip_serializing_if = "is_empty")]
    usage: u64,
    #[serde(skip_serializing_if = "is_empty")]
    max: u64,
    /// Always 0: cgroup v2 doesn't count this.
    failcnt: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "is_empty")]
    current: u64,
    /// 0 means that there is no limit.
    #[serde(skip_serializing_if = "is_empty")]
    limit: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockIo {
    #[serde(skip_serializing_if = "is_empty")]
    io_service_bytes_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "is_empty")]
    io_serviced_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct BlockIoEntry {
    #[serde(skip_serializing_if = "is_empty")]
    major: u64,
    #[serde(skip_serializing_if = "is_empty")]
    minor: u64,
    op: &'static str,
    #[serde(skip_serializing_if = "is_empty")]
    value: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Hugetlb {
    #[serde(skip_serializing_if = "is_empty")]
    usage: u64,
    failcnt: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct IntelRdt {}

impl Cgroup {
    /// Reads the resource usage of the cgroup, which includes all nested cgroups.
    pub(crate) fn stats(&self) -> Result<Stats, Error> {
        let mut stats = Stats {
            pids: self.pids_stats()?,
            memory: self.memory_stats()?,
            ..Stats::default()
        };
        if let Some(text) = self.read_if_there("cpu.stat")? {
            (stats.cpu.usage, stats.cpu.throttling) = files::cpu(&text);
        }
        if let Some(text) = self.read_if_there("io.stat")? {
            let (bytes, operations) = files::block_io(&text);
            stats.blkio.io_service_bytes_recursive = bytes;
            stats.blkio.io_serviced_recursive = operations;
        }
        stats.cpu.psi = self.pressure("cpu.pressure")?;
        stats.blkio.psi = self.pressure("io.pressure")?;
        for size in self.huge_page_sizes()? {
            let number = |file: &str| self.number(&format!("hugetlb.{size}.{file}"));
            // If the kernel counts reservations, runc reports the reserved pages. They include the
            // used pages.
            let usage = match number("rsvd.current")? {
                Some(usage) => usage,
                None => number("current")?.unwrap_or_default(),
            };
            let events = self.read_if_there(&format!("hugetlb.{size}.events"))?;
            let failcnt = tree::keyed(&events.unwrap_or_default(), "max").unwrap_or_default();
            stats.hugetlb.insert(size, Hugetlb { usage, failcnt });
        }
        Ok(stats)
    }

    fn memory_stats(&self) -> Result<Memory, Error> {
        let mut memory = Memory::default();
        if let Some(text) = self.read_if_there("memory.stat")? {
            memory.raw = files::map(&text);
            memory.cache = memory.raw.get("file").copied().unwrap_or_default();
            memory.usage = self.memory_usage("memory")?;
            let swap = self.memory_usage("memory.swap")?;
            memory.swap = MemoryUsage {
                limit: swap.limit.saturating_add(memory.usage.limit),
                usage: swap.usage.saturating_add(memory.usage.usage),
                ..MemoryUsage::default()
            };
        }
        memory.psi = self.pressure("memory.pressure")?;
        Ok(memory)
    }

    fn memory_usage(&self, prefix: &str) -> Result<MemoryUsage, Error> {
        let number = |file: &str| {
            let number = self.number(&format!("{prefix}.{file}"));
            number.map(Option::unwrap_or_default)
        };
        Ok(MemoryUsage {
            limit: number("max")?,
            usage: number("current")?,
            // memory.peak exists since Linux 5.19, memory.swap.peak since 6.5.
            max: number("peak")?,
            failcnt: 0,
        })
    }

    fn pids_stats(&self) -> Result<Pids, Error> {
        Ok(match self.number("pids.current")? {
            Some(current) => Pids {
                current,
                limit: self
                    .number("pids.max")?
                    .filter(|max| *max != u64::MAX)
                    .unwrap_or_default(),
            },
            None => Pids {
                current: self.pids()?.len() as u64,
                limit: 0,
            },
        })
    }

    fn pressure(&self, file: &str) -> Result<Option<Pressure>, Error> {
        Ok(self.read_if_there(file)?.map(|text| files::pressure(&text)))
    }

    /// Returns the page sizes that have hugetlb files, like `2MB`.
    pub(super) fn huge_page_sizes(&self) -> Result<Vec<String>, Error> {
        let names = tree::files(self.dir()).map_err(failed("getdents64", || {
            format!("list {}", self.path.display())
        }))?;
        let size = |name: &String| {
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(".current")?;
            (!size.ends_with(".rsvd")).then(|| size.to_owned())
        };
        Ok(names.iter().filter_map(size).collect())
    }

    fn number(&self, file: &str) -> Result<Option<u64>, Error> {
        Ok(self.read_if_there(file)?.map(|text| files::number(&text)))
    }

    /// Reads the whole text of a file; `None` if the file doesn't exist or the kernel can't provide
    /// its contents.
    pub(super) fn read_if_there(&self, file: &str) -> Result<Option<String>, Error> {
        let what = || format!("read {}/{file}", self.path.display());
        let name = path::c_path(file.as_ref()).map_err(failed("open", what))?;
        match tree::read(self.dir(), &name) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(failed("read", what)(errno).into()),
        }
    }
}
