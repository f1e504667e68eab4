//! Parses the statistics files of a cgroup. Unknown lines are skipped.
//! The parent module reads the files.

use std::collections::BTreeMap;

use super::super::tree::find_keyed_number;
use super::{BlockIoEntry, CpuUsage, Pressure, StallTimes, Throttling};

const NANOSECONDS_PER_MICROSECOND: u64 = 1000;

/// Parses one number, or `max`.
pub(super) fn parse_number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or_default(),
    }
}

/// Parses lines that each have a key and a number.
pub(super) fn parse_key_numbers(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Parses cpu.stat.
pub(super) fn parse_cpu_stat(text: &str) -> (CpuUsage, Throttling) {
    let nanoseconds = |key| {
        find_keyed_number(text, key)
            .unwrap_or_default()
            .saturating_mul(NANOSECONDS_PER_MICROSECOND)
    };
    let usage = CpuUsage {
        total: nanoseconds("usage_usec"),
        kernel: nanoseconds("system_usec"),
        user: nanoseconds("user_usec"),
    };
    let throttling = Throttling {
        periods: find_keyed_number(text, "nr_periods").unwrap_or_default(),
        throttled_periods: find_keyed_number(text, "nr_throttled").unwrap_or_default(),
        throttled_time: nanoseconds("throttled_usec"),
    };
    (usage, throttling)
}

/// Parses io.stat into bytes and operations.
pub(super) fn parse_io_stat(text: &str) -> (Vec<BlockIoEntry>, Vec<BlockIoEntry>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let device = words.next().and_then(|word| {
            let (major, minor) = word.split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        let Some((major, minor)) = device else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                _ => continue,
            };
            list.push(BlockIoEntry {
                major,
                minor,
                op,
                value: parse_number(value),
            });
        }
    }
    (bytes, operations)
}

/// Parses cpu.pressure, memory.pressure or io.pressure.
pub(super) fn parse_pressure(text: &str) -> Pressure {
    let stall = |name: &str| {
        let mut stall = StallTimes::default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let fields = line.unwrap_or_default().split_whitespace();
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let share = || value.parse().unwrap_or_default();
            match key {
                "avg10" => stall.avg10 = share(),
                "avg60" => stall.avg60 = share(),
                "avg300" => stall.avg300 = share(),
                "total" => stall.total = parse_number(value),
                _ => {}
            }
        }
        stall
    };
    Pressure {
        some: stall("some"),
        full: stall("full"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{HugetlbStats, MemoryStats, MemoryUsage, Stats};
    use super::*;

    const CPU: &str = "usage_usec 52\nuser_usec 20\nsystem_usec 32\nnice_usec 0\ncore_sched.force_idle_usec 0\n\
        nr_periods 9\nnr_throttled 2\nthrottled_usec 7\nnr_bursts 0\nburst_usec 0\n";
    const IO: &str = "8:0 rbytes=90112 wbytes=4096 rios=6 wios=1 dbytes=0 dios=0\n\
        253:16 rbytes=1 wbytes=0 rios=1 wios=0 dbytes=0 dios=0 cost.usage=3\n7:0 \n";
    const PRESSURE: &str = "some avg10=1.50 avg60=0.20 avg300=0.04 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";

    #[test]
    fn recorded_files_become_the_json_of_runc() {
        let mut stats = Stats::default();
        (stats.cpu.usage, stats.cpu.throttling) = parse_cpu_stat(CPU);
        stats.cpu.psi = Some(parse_pressure(PRESSURE));
        let (bytes, operations) = parse_io_stat(IO);
        stats.blkio.io_service_bytes_recursive = bytes;
        stats.blkio.io_serviced_recursive = operations;
        stats.memory = MemoryStats {
            cache: 4096,
            usage: MemoryUsage {
                limit: parse_number("max\n"),
                usage: parse_number("8192\n"),
                max: parse_number("12288\n"),
                failcnt: 0,
            },
            raw: parse_key_numbers("anon 4096\nfile 4096\nodd\n"),
            ..MemoryStats::default()
        };
        let failcnt = find_keyed_number("max 3\n", "max").unwrap();
        stats
            .hugetlb
            .insert("2MB".into(), HugetlbStats { usage: 0, failcnt });
        let expected = concat!(
            r#"{"cpu":{"usage":{"total":52000,"kernel":32000,"user":20000},"#,
            r#""throttling":{"periods":9,"throttledPeriods":2,"throttledTime":7000},"#,
            r#""psi":{"some":{"avg10":1.5,"avg60":0.2,"avg300":0.04,"total":12345}}},"#,
            r#""cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"#,
            r#""memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},"#,
            r#""memory":{"cache":4096,"usage":{"limit":18446744073709551615,"usage":8192,"max":12288,"failcnt":0},"#,
            r#""raw":{"anon":4096,"file":4096}},"pids":{},"#,
            r#""blkio":{"ioServiceBytesRecursive":[{"major":8,"op":"Read","value":90112},{"major":8,"op":"Write","value":4096},"#,
            r#"{"major":253,"minor":16,"op":"Read","value":1},{"major":253,"minor":16,"op":"Write"}],"#,
            r#""ioServicedRecursive":[{"major":8,"op":"Read","value":6},{"major":8,"op":"Write","value":1},"#,
            r#"{"major":253,"minor":16,"op":"Read","value":1},{"major":253,"minor":16,"op":"Write"}]},"#,
            r#""hugetlb":{"2MB":{"failcnt":3}},"intel_rdt":{},"network_interfaces":null}"#,
        );
        assert_eq!(serde_json::to_string(&stats).unwrap(), expected);
    }
}
