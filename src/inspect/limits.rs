//! Inspects the cgroup of a container: its path, each limit with its usage, and the device rules.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::path::Path;

use oci_spec::runtime::Linux;

use super::init::InitProcess;
use super::report::Entry;
use crate::cgroup::{Cgroup, DeviceProgram, Hierarchy, Limits, plan_limits};

/// Limit files, each with the content that means "no limit".
const NO_LIMITS: [(&str, &str); 11] = [
    ("cpu.idle", "0"),
    ("cpu.max", "max 100000"),
    ("cpu.max.burst", "0"),
    ("cpu.weight", "100"),
    ("io.max", ""),
    ("memory.high", "max"),
    ("memory.low", "0"),
    ("memory.max", "max"),
    ("memory.min", "0"),
    ("memory.swap.max", "max"),
    ("pids.max", "max"),
];

/// The kernel rounds memory limits down to pages.
const PAGE_BYTES: u64 = 4096;

/// Returns the planned limits, which are empty if linux.resources is missing or refused.
pub(super) fn planned(linux: Option<&Linux>) -> Limits {
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    plan_limits(resources).unwrap_or_default()
}

/// Returns the path of the cgroup, and all limits.
pub(super) fn entries(
    linux: Option<&Linux>,
    limits: &Limits,
    cgroup: Option<&Cgroup>,
    init: Option<&InitProcess<'_>>,
) -> Vec<Entry> {
    let mut entries = vec![path(linux, cgroup, init)];
    let mut seen = BTreeSet::new();
    // A later write replaces an earlier one to the same file, or to the same device's line in it.
    for limit in limits.files.iter().rev() {
        let (mut file, mut value) = (&limit.file, &limit.value);
        let text = |file: &str| read(cgroup?, file);
        if let (None, Some((other, converted))) = (text(file), &limit.or_else) {
            (file, value) = (other, converted);
        }
        for line in value.lines() {
            let device = device_of(line);
            if !seen.insert((file.clone(), device)) {
                continue;
            }
            let actual = text(file).map(|text| part(&text, device).to_owned());
            let differs = cgroup.is_some()
                && match &actual {
                    Some(actual) => !is_same(file, line, actual),
                    None => !limit.no_limit,
                };
            let entry = Entry::of(file.as_str(), Some(line.to_owned()), actual, differs);
            entries.push(with_use(entry, file, cgroup));
        }
    }
    entries.get_mut(1..).unwrap_or_default().reverse();
    for (file, none) in NO_LIMITS {
        let Some(text) = cgroup.and_then(|cgroup| read(cgroup, file)) else {
            continue;
        };
        let is_seen = seen.iter().any(|(seen, _)| seen == file);
        if !is_seen && text != none {
            let entry = Entry::of(file, None, Some(text), linux.is_some());
            entries.push(with_use(entry, file, cgroup));
        }
    }
    entries
}

fn path(linux: Option<&Linux>, cgroup: Option<&Cgroup>, init: Option<&InitProcess<'_>>) -> Entry {
    let asked = linux.and_then(|linux| linux.cgroups_path().as_ref());
    let asked = asked.map(|path| path.to_string_lossy().into_owned());
    let own = init.and_then(|init| init.text("cgroup"));
    let own = own.as_deref().and_then(|text| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix("0::/"))
    });
    let mount = Hierarchy::probe().map(|hierarchy| hierarchy.mount);
    let is_inside = match (cgroup, own, &mount) {
        (Some(cgroup), Some(own), Ok(mount)) => mount.join(own).starts_with(cgroup.path()),
        _ => true,
    };
    let shown = match (cgroup, own) {
        (Some(cgroup), _) if is_inside => Some(cgroup.path().display().to_string()),
        (_, Some(own)) => Some(format!("/{own}")),
        (Some(cgroup), None) => Some(cgroup.path().display().to_string()),
        (None, None) => None,
    };
    let entry = Entry::of("cgroup", asked, shown, !is_inside);
    match (cgroup, init) {
        (None, Some(_)) => {
            entry.note("the container has no cgroup of its own: that of its creator")
        }
        (Some(cgroup), _) if !is_inside => {
            entry.note(format!("init has left {}", cgroup.path().display()))
        }
        _ => entry,
    }
}

/// Reads a file without its last newline. Returns `None` if the file can't be read.
fn read(cgroup: &Cgroup, file: &str) -> Option<String> {
    let file = CString::new(file).ok()?;
    let text = cgroup.read_file(&file).ok()?;
    Some(text.trim_end().to_owned())
}

/// Returns the device at the start of a line like `8:0 rbps=1`.
fn device_of(line: &str) -> Option<&str> {
    let (first, _) = line.split_once(' ')?;
    let is_device = first.contains(':') || first.parse::<u64>().is_err();
    (is_device && first != "max").then_some(first)
}

/// Returns the line about `device` in the text of a file, or the whole text without a device.
fn part<'a>(text: &'a str, device: Option<&str>) -> &'a str {
    let Some(device) = device else { return text };
    let mut lines = text.lines();
    lines
        .find(|line| line.split(' ').next() == Some(device))
        .unwrap_or_default()
}

/// True if a file that holds `actual` has the limit `asked`.
fn is_same(file: &str, asked: &str, actual: &str) -> bool {
    if asked == actual {
        return true;
    }
    if file.starts_with("memory.") || file.starts_with("hugetlb.") {
        let number = |text: &str| text.parse::<u64>().ok();
        let pages = |bytes: Option<u64>| bytes.map(|bytes| bytes / PAGE_BYTES);
        return number(asked).is_some() && pages(number(asked)) == pages(number(actual));
    }
    if file.starts_with("cpuset.") {
        return numbers(asked).is_some() && numbers(asked) == numbers(actual);
    }
    if file == "cpu.max" && !asked.contains(' ') {
        return actual.split(' ').next() == Some(asked);
    }
    if file.ends_with(".weight") {
        return asked.trim_start_matches("default ") == actual.trim_start_matches("default ");
    }
    // `8:0 rbps=1` is part of `8:0 rbps=1 wbps=max`.
    let words: BTreeSet<&str> = actual.split(' ').collect();
    device_of(asked).is_some() && asked.split(' ').all(|word| words.contains(word))
}

/// Parses a list like `0-3,7`.
fn numbers(list: &str) -> Option<BTreeSet<u32>> {
    const MOST: u32 = 1 << 16;
    let mut numbers = BTreeSet::new();
    for range in list.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last > MOST {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Adds a note with the usage that counts against a limit.
fn with_use(entry: Entry, file: &str, cgroup: Option<&Cgroup>) -> Entry {
    let used = cgroup.and_then(|cgroup| {
        let controller = file.split('.').next()?;
        match controller {
            "cpu" => {
                let text = read(cgroup, "cpu.stat")?;
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix("usage_usec "))?;
                Some(format!("{line} us used"))
            }
            "memory" if file.starts_with("memory.swap.") => Some(format!(
                "{} bytes used",
                read(cgroup, "memory.swap.current")?
            )),
            "memory" => Some(format!("{} bytes used", read(cgroup, "memory.current")?)),
            "pids" => Some(format!("{} used", read(cgroup, "pids.current")?)),
            "cpuset" => {
                let effective = read(cgroup, &format!("{file}.effective"))?;
                Some(format!("effective {effective}"))
            }
            "hugetlb" => {
                let current = Path::new(file).with_extension("current");
                Some(format!("{} bytes used", read(cgroup, current.to_str()?)?))
            }
            "rdma" => Some(format!(
                "used: {}",
                read(cgroup, "rdma.current")?.replace('\n', ", ")
            )),
            _ => None,
        }
    });
    match used {
        Some(used) => entry.note(used),
        None => entry,
    }
}

/// Returns the device rules of config.json with the default rules, and whether the kernel applies
/// them. `digest` is the digest of the rules that were set last.
pub(super) fn devices(
    known: bool,
    limits: &Limits,
    digest: Option<u64>,
    cgroup: Option<&Cgroup>,
) -> Vec<Entry> {
    let program = limits.devices.as_ref();
    let allowed = program.and_then(DeviceProgram::systemd_allow_list);
    let asked = match (known, allowed) {
        (false, _) => None,
        (true, Some(list)) => {
            let words = list
                .iter()
                .map(|(device, access)| format!("{device} {access}"));
            Some(words.collect::<Vec<_>>().join(", "))
        }
        (true, None) if program.is_some() => Some("all but those that a rule denies".into()),
        (true, None) => Some("all".into()),
    };
    let attached = cgroup.map(Cgroup::device_programs);
    let is_set = digest.is_some_and(|digest| digest == DeviceProgram::digest_of(program));
    let entry = match attached {
        None => Entry::of("allowed", asked, None, false),
        Some(Err(error)) => Entry::of("allowed", asked, None, false).note(error.to_string()),
        Some(Ok(ids)) => {
            let actual = match (ids.len(), is_set || !known) {
                (0, _) => "all: no program is attached to the cgroup".to_owned(),
                (1, true) => "as asked: 1 program is attached to the cgroup".into(),
                (count, true) => format!("as asked or less: {count} programs are attached"),
                (count, false) => {
                    format!("rules of an update, or of another config.json: {count} programs")
                }
            };
            let differs = known && (ids.is_empty() == program.is_some() || !is_set);
            Entry::of("allowed", asked, Some(actual), differs)
        }
    };
    vec![entry]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_compared_as_the_kernel_keeps_them() {
        for (file, asked, actual, same) in [
            ("memory.max", "10000", "8192", true),
            ("memory.max", "16384", "8192", false),
            ("memory.max", "max", "8192", false),
            ("pids.max", "10", "10", true),
            ("pids.max", "10", "11", false),
            ("cpuset.cpus", "0,1,3", "0-1,3", true),
            ("cpuset.cpus", "0-1", "0", false),
            ("cpu.max", "50000", "50000 100000", true),
            ("cpu.max", "50000 100000", "51000 100000", false),
            ("io.weight", "default 200", "default 200", true),
            (
                "io.max",
                "8:0 rbps=1",
                "8:0 rbps=1 wbps=max riops=max wiops=max",
                true,
            ),
            (
                "io.max",
                "8:0 rbps=1",
                "8:0 rbps=2 wbps=max riops=max wiops=max",
                false,
            ),
            ("io.max", "8:0 rbps=1", "", false),
        ] {
            assert_eq!(
                is_same(file, asked, actual),
                same,
                "{file} {asked} {actual}"
            );
        }
    }

    #[test]
    fn a_line_about_a_device_is_found() {
        assert_eq!(device_of("8:0 rbps=1"), Some("8:0"));
        assert_eq!(device_of("50000 100000"), None);
        assert_eq!(device_of("max 100000"), None);
        assert_eq!(part("8:0 a=1\n8:16 a=2", Some("8:16")), "8:16 a=2");
    }
}
