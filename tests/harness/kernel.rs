//! The kernel's records: mountinfo, status, limits, namespaces, cgroup files, environments.
//! Nothing here runs the runtime.

use std::fs;
use std::path::{Path, PathBuf};

/// One line of mountinfo, proc(5), with the octal escapes undone.
#[derive(Debug, Clone)]
pub(crate) struct Mount {
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) root: String,
    pub(crate) target: String,
    pub(crate) options: Vec<String>,
    pub(crate) optional: Vec<String>,
    pub(crate) fstype: String,
    pub(crate) source: String,
    pub(crate) super_options: Vec<String>,
    pub(crate) line: String,
}

impl Mount {
    /// Whether the mount or its superblock has the option.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// Whether the superblock has the option.
    pub(crate) fn super_has(&self, option: &str) -> bool {
        self.super_options.iter().any(|o| o == option)
    }
}

fn unescaped(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

/// The mounts in a mountinfo text, in the kernel's order.
pub(crate) fn parse_mountinfo(text: &str) -> Vec<Mount> {
    text.lines()
        .map(|line| {
            let (left, right) = line.split_once(" - ").unwrap();
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let list = |s: &str| s.split(',').map(str::to_owned).collect();
            Mount {
                id: left[0].to_owned(),
                parent: left[1].to_owned(),
                root: unescaped(left[3]),
                target: unescaped(left[4]),
                options: list(left[5]),
                optional: left[6..].iter().map(|s| (*s).to_owned()).collect(),
                fstype: right[0].to_owned(),
                source: unescaped(right[1]),
                super_options: list(right.get(2).copied().unwrap_or("")),
                line: line.to_owned(),
            }
        })
        .collect()
}

/// The mounts that a process sees.
pub(crate) fn mounts(pid: i32) -> Vec<Mount> {
    parse_mountinfo(&fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap())
}

/// The topmost mount at a path of a process.
pub(crate) fn mount_at(pid: i32, target: &str) -> Option<Mount> {
    mounts(pid).into_iter().rfind(|m| m.target == target)
}

/// The mount that holds a path of this process.
pub(crate) fn mount_of(path: &Path) -> Option<Mount> {
    parse_mountinfo(&host_mountinfo())
        .into_iter()
        .filter(|m| path.starts_with(&m.target))
        .max_by_key(|m| m.target.len())
}

/// The host's own mountinfo text.
pub(crate) fn host_mountinfo() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// The mount point of the v2 hierarchy, if it is mounted.
pub(crate) fn cgroup2_mount() -> Option<PathBuf> {
    parse_mountinfo(&host_mountinfo())
        .into_iter()
        .find(|m| m.fstype == "cgroup2")
        .map(|m| PathBuf::from(m.target))
}

/// A field of /proc/PID/status, trimmed. Panics if the field is missing.
pub(crate) fn status(pid: i32, field: &str) -> String {
    status_field(
        &fs::read_to_string(format!("/proc/{pid}/status")).unwrap(),
        field,
    )
}

/// A field, trimmed, of a text in the format of /proc/PID/status.
pub(crate) fn status_field(text: &str, field: &str) -> String {
    text.lines()
        .find_map(|l| l.strip_prefix(field)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {field} in {text}"))
        .trim()
        .to_owned()
}

/// The identity of a namespace: the link text of /proc/PID/ns/NAME.
pub(crate) fn namespace(pid: i32, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{name}"))
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

/// The v2 cgroup of a process as a path from the root of the hierarchy.
pub(crate) fn cgroup_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .unwrap()
        .lines()
        .find_map(|l| l.strip_prefix("0::"))
        .expect("a v2 entry")
        .to_owned()
}

/// The open descriptors of a process with their targets, in order.
pub(crate) fn descriptors(pid: i32) -> Vec<(i32, String)> {
    let mut all: Vec<(i32, String)> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|e| {
            let e = e.ok()?;
            let target = fs::read_link(e.path()).ok()?;
            let number = e.file_name().to_str()?.parse().ok()?;
            Some((number, target.to_string_lossy().into_owned()))
        })
        .collect();
    all.sort();
    all
}

/// The soft and the hard value of a line of /proc/PID/limits, as the kernel writes them.
pub(crate) fn limit(pid: i32, name: &str) -> (String, String) {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let rest = text
        .lines()
        .find_map(|l| l.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name} in {text}"));
    let mut fields = rest.split_whitespace().map(str::to_owned);
    (fields.next().unwrap(), fields.next().unwrap())
}

/// Whether the v2 hierarchy has all of these controllers. Counts the test as skipped if one is
/// missing.
pub(crate) fn has_controllers(names: &[&str]) -> bool {
    let file = cgroup2_mount().unwrap().join("cgroup.controllers");
    let has = fs::read_to_string(file).unwrap();
    match names
        .iter()
        .find(|name| !has.split_whitespace().any(|n| n == **name))
    {
        Some(name) => {
            super::skipped(&format!("the {name} controller is not in cgroup v2 here"));
            false
        }
        None => true,
    }
}

/// The first line of a file of a cgroup, trimmed. Panics if the file is missing.
pub(crate) fn cgroup_value(dir: &Path, file: &str) -> String {
    let path = dir.join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// The pids in a cgroup directory, without those in cgroups below.
pub(crate) fn procs(dir: &Path) -> Vec<i32> {
    fs::read_to_string(dir.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|l| l.parse().ok())
        .collect()
}

/// The cgroups below a directory, deepest first.
pub(crate) fn cgroups_below(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            all.extend(cgroups_below(&entry.path()));
            all.push(entry.path());
        }
    }
    all
}

/// The state letter of a process, or None if the process is gone.
pub(crate) fn process_state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether a process is alive; a zombie isn't.
pub(crate) fn alive(pid: i32) -> bool {
    !matches!(process_state(pid), None | Some('Z' | 'X'))
}

/// The living processes whose environment has an entry, with their command lines.
pub(crate) fn processes_with_environment(entry: &str) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for dir in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = dir.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        let environment = fs::read(dir.path().join("environ")).unwrap_or_default();
        if alive(pid)
            && environment
                .split(|b| *b == 0)
                .any(|e| e == entry.as_bytes())
        {
            let line = fs::read(dir.path().join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}
