//! Resource usage of a cgroup, in the JSON format that go-runc decodes. The member names are those
//! of runc's types/events.go.
//! `cmd/events` decides when to print the usage, and `stats/files` parses the kernel's files.
//!
//! Members that runc omits when they are empty are omitted too, so that callers get the same text
//! from both runtimes. The members of a missing controller are empty.

mod files;

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Cgroup, Error, tree};
use crate::error::failed;
use crate::sys::{Errno, path};

#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Stats {
    cpu: CpuStats,
    cpuset: CpusetStats,
    memory: MemoryStats,
    pids: PidsStats,
    blkio: BlockIoStats,
    hugetlb: BTreeMap<String, HugetlbStats>,
    intel_rdt: IntelRdtStats,
    /// Always null. runc once reported the network interfaces that it had made, but it no longer
    /// makes any.
    network_interfaces: Option<()>,
}

/// True for values that Go's omitempty and omitzero omit.
fn is_default_value<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct CpuStats {
    #[serde(skip_serializing_if = "is_default_value")]
    usage: CpuUsage,
    #[serde(skip_serializing_if = "is_default_value")]
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

/// CPU times in nanoseconds.
#[derive(Debug, Default, PartialEq, Serialize)]
struct CpuUsage {
    #[serde(skip_serializing_if = "is_default_value")]
    total: u64,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "is_default_value")]
    periods: u64,
    #[serde(skip_serializing_if = "is_default_value")]
    throttled_periods: u64,
    /// In nanoseconds.
    #[serde(skip_serializing_if = "is_default_value")]
    throttled_time: u64,
}

/// How long tasks waited for a resource (PSI).
#[derive(Debug, Default, PartialEq, Serialize)]
struct Pressure {
    #[serde(skip_serializing_if = "is_default_value")]
    some: StallTimes,
    #[serde(skip_serializing_if = "is_default_value")]
    full: StallTimes,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct StallTimes {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    /// In microseconds.
    total: u64,
}

/// Settings that only cgroup v1 has. Here they are always 0, but runc prints them too.
#[derive(Debug, Default, PartialEq, Serialize)]
struct CpusetStats {
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

/// Memory usage in bytes.
#[derive(Debug, Default, PartialEq, Serialize)]
struct MemoryStats {
    #[serde(skip_serializing_if = "is_default_value")]
    cache: u64,
    #[serde(skip_serializing_if = "is_default_value")]
    usage: MemoryUsage,
    /// The sum of memory and swap, as in cgroup v1.
    #[serde(skip_serializing_if = "is_default_value")]
    swap: MemoryUsage,
    /// The numbers in memory.stat.
    #[serde(skip_serializing_if = "is_default_value")]
    raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct MemoryUsage {
    /// `u64::MAX` means that there is no limit.
    limit: u64,
    #[serde(skip_serializing_if = "is_default_value")]
    usage: u64,
    #[serde(skip_serializing_if = "is_default_value")]
    max: u64,
    /// Always 0, because cgroup v2 has no such counter.
    failcnt: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct PidsStats {
    #[serde(skip_serializing_if = "is_default_value")]
    current: u64,
    /// 0 means that there is no limit.
    #[serde(skip_serializing_if = "is_default_value")]
    limit: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockIoStats {
    #[serde(skip_serializing_if = "is_default_value")]
    io_service_bytes_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "is_default_value")]
    io_serviced_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct BlockIoEntry {
    #[serde(skip_serializing_if = "is_default_value")]
    major: u64,
    #[serde(skip_serializing_if = "is_default_value")]
    minor: u64,
    op: &'static str,
    #[serde(skip_serializing_if = "is_default_value")]
    value: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct HugetlbStats {
    #[serde(skip_serializing_if = "is_default_value")]
    usage: u64,
    failcnt: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct IntelRdtStats {}

impl Cgroup {
    /// Reads the resource usage of the cgroup, which includes all nested cgroups.
    pub(crate) fn read_stats(&self) -> Result<Stats, Error> {
        let mut stats = Stats {
            pids: self.read_pids_stats()?,
            memory: self.read_memory_stats()?,
            ..Stats::default()
        };
        if let Some(text) = self.read_if_exists("cpu.stat")? {
            (stats.cpu.usage, stats.cpu.throttling) = files::parse_cpu_stat(&text);
        }
        if let Some(text) = self.read_if_exists("io.stat")? {
            let (bytes, operations) = files::parse_io_stat(&text);
            stats.blkio.io_service_bytes_recursive = bytes;
            stats.blkio.io_serviced_recursive = operations;
        }
        stats.cpu.psi = self.read_pressure("cpu.pressure")?;
        stats.blkio.psi = self.read_pressure("io.pressure")?;
        for size in self.huge_page_sizes()? {
            let number = |file: &str| self.read_number(&format!("hugetlb.{size}.{file}"));
            // If the kernel counts reservations, runc reports the reserved pages. They include the
            // used pages.
            let usage = match number("rsvd.current")? {
                Some(usage) => usage,
                None => number("current")?.unwrap_or_default(),
            };
            let events = self.read_if_exists(&format!("hugetlb.{size}.events"))?;
            let failcnt =
                tree::find_keyed_number(&events.unwrap_or_default(), "max").unwrap_or_default();
            stats.hugetlb.insert(size, HugetlbStats { usage, failcnt });
        }
        Ok(stats)
    }

    fn read_memory_stats(&self) -> Result<MemoryStats, Error> {
        let mut memory = MemoryStats::default();
        if let Some(text) = self.read_if_exists("memory.stat")? {
            memory.raw = files::parse_key_numbers(&text);
            memory.cache = memory.raw.get("file").copied().unwrap_or_default();
            memory.usage = self.read_memory_usage("memory")?;
            let swap = self.read_memory_usage("memory.swap")?;
            memory.swap = MemoryUsage {
                limit: swap.limit.saturating_add(memory.usage.limit),
                usage: swap.usage.saturating_add(memory.usage.usage),
                ..MemoryUsage::default()
            };
        }
        memory.psi = self.read_pressure("memory.pressure")?;
        Ok(memory)
    }

    fn read_memory_usage(&self, prefix: &str) -> Result<MemoryUsage, Error> {
        let number = |file: &str| {
            let number = self.read_number(&format!("{prefix}.{file}"));
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

    fn read_pids_stats(&self) -> Result<PidsStats, Error> {
        Ok(match self.read_number("pids.current")? {
            Some(current) => PidsStats {
                current,
                limit: self
                    .read_number("pids.max")?
                    .filter(|max| *max != u64::MAX)
                    .unwrap_or_default(),
            },
            None => PidsStats {
                current: self.pids()?.len() as u64,
                limit: 0,
            },
        })
    }

    fn read_pressure(&self, file: &str) -> Result<Option<Pressure>, Error> {
        Ok(self
            .read_if_exists(file)?
            .map(|text| files::parse_pressure(&text)))
    }

    /// Returns the page sizes that have hugetlb files, like `2MB`.
    pub(super) fn huge_page_sizes(&self) -> Result<Vec<String>, Error> {
        let names = tree::file_names(self.dir_fd()).map_err(failed("getdents64", || {
            format!("list {}", self.path.display())
        }))?;
        let size = |name: &String| {
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(".current")?;
            (!size.ends_with(".rsvd")).then(|| size.to_owned())
        };
        Ok(names.iter().filter_map(size).collect())
    }

    fn read_number(&self, file: &str) -> Result<Option<u64>, Error> {
        Ok(self
            .read_if_exists(file)?
            .map(|text| files::parse_number(&text)))
    }

    /// Reads the whole text of a file. Returns `None` if the file doesn't exist or the kernel can't
    /// provide its contents.
    pub(super) fn read_if_exists(&self, file: &str) -> Result<Option<String>, Error> {
        let what = || format!("read {}/{file}", self.path.display());
        let name = path::c_path(file.as_ref()).map_err(failed("open", what))?;
        match tree::read_file(self.dir_fd(), &name) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(failed("read", what)(errno).into()),
        }
    }
}
