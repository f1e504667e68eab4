//! The flags of `update` and `events`, and the syntax of their values: sizes, microseconds, Go
//! durations.
//! `cgroup/resources` knows which values a cgroup accepts.

use std::ffi::OsString;
use std::time::Duration;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::resolve::CallerEnvironment;
use crate::invocation::{ContainerId, EventsArgs, RdtSchemata, ResourcesSource, UpdateArgs};

#[derive(clap::Args)]
pub(super) struct UpdateFlags {
    #[arg(value_name = "CONTAINER-ID", value_parser = ContainerId::parse)]
    id: ContainerId,
    /// JSON file with linux.resources, or - for stdin
    #[arg(long, short, value_name = "FILE")]
    resources: Option<OsString>,
    /// weight for block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT", value_parser = parse_optional::<u16>)]
    blkio_weight: Option<EmptyOr<u16>>,
    /// period for --cpu-quota in microseconds
    #[arg(long, value_name = "US", value_parser = parse_optional::<u64>)]
    cpu_period: Option<EmptyOr<u64>>,
    /// CPU time in each period in microseconds; -1: no limit
    #[arg(long, value_name = "US", value_parser = parse_optional::<i64>)]
    cpu_quota: Option<EmptyOr<i64>>,
    /// CPU time saved up from earlier periods in microseconds
    #[arg(long, value_name = "US", value_parser = parse_optional::<u64>)]
    cpu_burst: Option<EmptyOr<u64>>,
    /// CPU shares, 2 to 262144, relative to other containers
    #[arg(long, value_name = "SHARES", value_parser = parse_optional::<u64>)]
    cpu_share: Option<EmptyOr<u64>>,
    /// exists in cgroup v1 only: any value but 0 is refused
    #[arg(long, value_name = "US", value_parser = parse_optional::<u64>)]
    cpu_rt_period: Option<EmptyOr<u64>>,
    /// exists in cgroup v1 only: any value but 0 is refused
    #[arg(long, value_name = "US", value_parser = parse_optional::<i64>)]
    cpu_rt_runtime: Option<EmptyOr<i64>>,
    /// CPUs to use, like 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// memory nodes to use, like 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// 1: run only when no other process wants the CPU; 0: normal
    #[arg(long, value_name = "0|1", value_parser = parse_optional::<i64>)]
    cpu_idle: Option<EmptyOr<i64>>,
    /// no effect: the kernel no longer has this limit
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    kernel_memory: Option<EmptyOr<i64>>,
    /// no effect: the kernel no longer has this limit
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    kernel_memory_tcp: Option<EmptyOr<i64>>,
    /// memory limit, like 64M; -1: none
    #[arg(long, short, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<EmptyOr<i64>>,
    /// memory that the container keeps when others need some
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory_reservation: Option<EmptyOr<i64>>,
    /// limit of memory and swap together; -1: no limit of swap
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory_swap: Option<EmptyOr<i64>>,
    /// number of processes and threads; -1: no limit
    #[arg(long, value_name = "N", value_parser = parse_optional::<i64>)]
    pids_limit: Option<EmptyOr<i64>>,
    /// lines for the L3 cache in resctrl, like L3:0=f;1=f
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// lines for memory bandwidth in resctrl, like MB:0=20;1=70
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
}

#[derive(clap::Args)]
pub(super) struct EventsFlags {
    #[arg(value_name = "CONTAINER-ID", value_parser = ContainerId::parse)]
    id: ContainerId,
    /// print what the container uses once and exit
    #[arg(long)]
    stats: bool,
    /// time between two prints, like 5s or 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_interval)]
    interval: Duration,
}

/// A value that counts as absent if it is empty, as in runc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EmptyOr<T>(Option<T>);

fn flatten_empty<T>(given: Option<EmptyOr<T>>) -> Option<T> {
    given.and_then(|value| value.0)
}

impl UpdateFlags {
    pub(super) fn resolve(self, caller: &CallerEnvironment) -> Result<UpdateArgs, String> {
        let limits = self.to_linux_resources();
        let file = self.resources.as_ref().filter(|file| !file.is_empty());
        let resources = match file {
            None => ResourcesSource::Flags(Box::new(limits)),
            // runc ignores the other flags in this case, but a caller who gives both expects both
            // to apply. The flags of the schemata are allowed, because the file can't have
            // schemata.
            Some(_) if limits != LinuxResources::default() => {
                return Err("--resources excludes the flags of single limits".into());
            }
            Some(file) if file == "-" => ResourcesSource::Stdin,
            Some(file) => ResourcesSource::File(caller.absolute_path("--resources", file)?),
        };
        let (l3_cache, mem_bw) = (
            non_empty_text(&self.l3_cache_schema),
            non_empty_text(&self.mem_bw_schema),
        );
        Ok(UpdateArgs {
            id: self.id,
            resources,
            schemata: RdtSchemata { l3_cache, mem_bw },
        })
    }
}

impl UpdateFlags {
    /// Converts the limits to linux.resources. A section without limits is absent.
    fn to_linux_resources(&self) -> LinuxResources {
        let mut block_io = LinuxBlockIo::default();
        block_io.set_weight(flatten_empty(self.blkio_weight));
        let mut cpu = LinuxCpu::default();
        cpu.set_period(flatten_empty(self.cpu_period))
            .set_quota(flatten_empty(self.cpu_quota))
            .set_burst(flatten_empty(self.cpu_burst))
            .set_shares(flatten_empty(self.cpu_share))
            .set_realtime_period(flatten_empty(self.cpu_rt_period))
            .set_realtime_runtime(flatten_empty(self.cpu_rt_runtime))
            .set_cpus(non_empty_text(&self.cpuset_cpus))
            .set_mems(non_empty_text(&self.cpuset_mems))
            .set_idle(flatten_empty(self.cpu_idle));
        let mut memory = LinuxMemory::default();
        memory
            .set_kernel(flatten_empty(self.kernel_memory))
            .set_kernel_tcp(flatten_empty(self.kernel_memory_tcp))
            .set_limit(flatten_empty(self.memory))
            .set_reservation(flatten_empty(self.memory_reservation))
            .set_swap(flatten_empty(self.memory_swap));
        let pids = flatten_empty(self.pids_limit).map(|limit| {
            let mut pids = LinuxPids::default();
            pids.set_limit(limit);
            pids
        });
        let mut resources = LinuxResources::default();
        resources
            .set_block_io(section_if_set(block_io))
            .set_cpu(section_if_set(cpu))
            .set_memory(section_if_set(memory))
            .set_pids(pids);
        resources
    }
}

/// Returns a section, or `None` if it sets nothing.
fn section_if_set<T: Default + PartialEq>(section: T) -> Option<T> {
    (section != T::default()).then_some(section)
}

fn non_empty_text(list: &Option<String>) -> Option<String> {
    list.clone().filter(|list| !list.is_empty())
}

impl EventsFlags {
    pub(super) fn resolve(self) -> EventsArgs {
        EventsArgs {
            id: self.id,
            stats: self.stats,
            interval: self.interval,
        }
    }
}

fn parse_optional<T: std::str::FromStr>(text: &str) -> Result<EmptyOr<T>, String> {
    if text.is_empty() {
        return Ok(EmptyOr(None));
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = (digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten();
    let number = number.ok_or("expected a whole number in its range")?;
    Ok(EmptyOr(Some(number)))
}

/// Parses a number of bytes: `64M`, `64m`, `64MB`, `64MiB`, `1.5G` (powers of 1024), or -1.
fn parse_size(text: &str) -> Result<EmptyOr<i64>, String> {
    if text.is_empty() {
        return Ok(EmptyOr(None));
    }
    if text == "-1" {
        return Ok(EmptyOr(Some(-1)));
    }
    let bytes = parse_bytes(text).ok_or("expected a size like 67108864, 64M or 1.5G, or -1")?;
    Ok(EmptyOr(Some(bytes)))
}

fn parse_bytes(text: &str) -> Option<i64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.')? + 1;
    let (number, unit) = text.split_at_checked(end)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(&unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if number == "." || !digits(whole) || !digits(fraction) || fraction.len() > 18 {
        return None;
    }
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let of_one = |text: &str| -> Option<i128> {
        let scale = 10_i128.checked_pow(u32::try_from(text.len()).ok()?)?;
        let value: i128 = if text.is_empty() {
            0
        } else {
            text.parse().ok()?
        };
        Some((value << shift) / scale)
    };
    whole
        .checked_mul(1 << shift)?
        .checked_add(i64::try_from(of_one(fraction)?).ok()?)
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_go_duration(text) {
        None => Err("expected a duration like 5s, 100ms or 1m30s".into()),
        Some(Duration::ZERO) => Err("duration interval must be greater than 0".into()),
        Some(duration) => Ok(duration),
    }
}

/// Parses a duration in Go's syntax. A negative duration counts as zero. humantime, which parses
/// the number, accepts more units, but no sign and no number like `.5`.
fn parse_go_duration(text: &str) -> Option<Duration> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut units = text
        .split(|c: char| c.is_ascii_digit() || c == '.')
        .filter(|unit| !unit.is_empty());
    if !units.all(|unit| matches!(unit, "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h")) {
        return None;
    }
    // Unicode has two characters for micro. Replace one by the other.
    let mut text = text.replace('μ', "µ");
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    let duration = humantime::parse_duration(&text).ok()?;
    // Go counts nanoseconds in an i64.
    i64::try_from(duration.as_nanos()).ok()?;
    Some(if negative { Duration::ZERO } else { duration })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_go_units() {
        for (text, expected) in [
            ("0", 0),
            ("67108864", 67_108_864),
            ("50M", 50 << 20),
            ("50m", 50 << 20),
            ("50mb", 50 << 20),
            ("50MiB", 50 << 20),
            ("50 MB", 50 << 20),
            ("1.5k", 1536),
            (".5g", 1 << 29),
            ("3b", 3),
            ("2T", 2 << 40),
            ("-1", -1),
        ] {
            assert_eq!(parse_size(text), Ok(EmptyOr(Some(expected))), "{text:?}");
        }
        assert_eq!(parse_size(""), Ok(EmptyOr(None)));
        for text in [
            "-2",
            "-5M",
            "M",
            "x",
            "5X",
            "1e3",
            "1.2.3",
            ".",
            "+5",
            " 5",
            "99999999P",
            "5 M M",
        ] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("100ms", 100),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1.5s", 1500),
            (".5s", 500),
            ("+2s", 2000),
            ("3000000ns", 3),
            ("2500µs", 2),
        ] {
            let found = parse_interval(text).map(|duration| duration.as_millis());
            assert_eq!(found, Ok(milliseconds), "{text:?}");
        }
        for text in ["0", "0s", "-5s", "-0"] {
            let error = parse_interval(text).err().unwrap_or_default();
            assert!(
                error.contains("must be greater than 0"),
                "{text:?}: {error}"
            );
        }
        for text in [
            "",
            "5",
            "s",
            "5x",
            "5 s",
            ".s",
            "1.2.3s",
            "-",
            "9999999999h",
            "5s3",
        ] {
            let error = parse_interval(text).err().unwrap_or_default();
            assert!(error.contains("expected a duration"), "{text:?}: {error}");
        }
    }

    #[test]
    fn numbers_have_no_plus_and_an_empty_one_is_none() {
        assert_eq!(parse_optional::<i64>("-1"), Ok(EmptyOr(Some(-1))));
        assert_eq!(parse_optional::<u64>(""), Ok(EmptyOr(None)));
        for text in ["+1", "-1", "x", "1.5", " 1", "99999999999999999999"] {
            assert!(parse_optional::<u64>(text).is_err(), "{text:?}");
        }
    }
}
