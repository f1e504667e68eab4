//! Compares the credentials, the confinement and the limits of init with config.json: ids,
//! capabilities, no_new_privs, seccomp, labels of security modules, and rlimits.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::runtime::{LinuxSeccomp, PosixRlimit, Process, Spec};

use super::init::InitProcess;
use super::report::Entry;
use crate::plan::caps::{self, CapabilitySets};
use crate::plan::ids::{self, Range};
use crate::sys::procfs::Procfs;

/// The text of /proc/PID/status of init; `None` if it can't be read.
pub(super) struct Status(Option<String>);

impl Status {
    pub(super) fn of(init: Option<&InitProcess<'_>>) -> Status {
        Status(init.and_then(|init| init.text("status")))
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.as_deref()?.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }
}

/// The reason why a value of a created container can't be compared.
const AT_START: &str = "is set when the container starts";

/// Returns entries for the user, the groups and the OOM score.
pub(super) fn ids(
    asked: Option<&Process>,
    status: &Status,
    init: Option<&InitProcess<'_>>,
) -> Vec<Entry> {
    let ranges = |file: &str| ids::parse(&init?.text(file)?);
    let (uids, gids) = (ranges("uid_map"), ranges("gid_map"));
    let user = asked.map(Process::user);
    let id = |field: &str, ranges: Option<&Vec<Range>>| {
        // The effective id is the second of the four ids.
        let outside = status
            .field(field)?
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()?;
        shown_id(outside, ranges)
    };
    let groups = status.field("Groups").map(|text| {
        let all = text.split_whitespace().filter_map(|word| word.parse().ok());
        let shown = all.filter_map(|outside| shown_id(outside, gids.as_ref()));
        shown.collect::<BTreeSet<String>>()
    });
    let asked_groups = user.map(|user| {
        let all = user.additional_gids().iter().flatten();
        all.map(ToString::to_string).collect::<BTreeSet<String>>()
    });
    let joined = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
    let score = init.and_then(|init| init.text("oom_score_adj"));
    vec![
        Entry::compare(
            "uid",
            user.map(|user| user.uid().to_string()),
            id("Uid", uids.as_ref()),
        ),
        Entry::compare(
            "gid",
            user.map(|user| user.gid().to_string()),
            id("Gid", gids.as_ref()),
        ),
        Entry::compare("groups", asked_groups.map(joined), groups.map(joined)),
        Entry::compare(
            "oom_score_adj",
            asked.and_then(|asked| asked.oom_score_adj().map(|score| score.to_string())),
            score.map(|text| text.trim().to_owned()),
        ),
    ]
}

/// Returns init's effective user id, as the container sees it.
pub(super) fn user(status: &Status, init: &InitProcess<'_>) -> Option<String> {
    let ranges = ids::parse(&init.text("uid_map")?)?;
    let outside = status
        .field("Uid")?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()?;
    shown_id(outside, Some(&ranges))
}

/// Returns an id as the container sees it, or `host ID` if the id is not mapped.
fn shown_id(outside: u32, ranges: Option<&Vec<Range>>) -> Option<String> {
    let inside = ids::inside(ranges?, outside);
    Some(inside.map_or_else(|| format!("host {outside}"), |inside| inside.to_string()))
}

/// Returns entries for the five capability sets. `waits` is true before the start of the container.
pub(super) fn capabilities(asked: Option<&Process>, status: &Status, waits: bool) -> Vec<Entry> {
    let sets = asked.map(|asked| caps::plan(asked.capabilities().as_ref()));
    let is_root = asked.is_some_and(|asked| asked.user().uid() == 0);
    let actual = |field: &str| u64::from_str_radix(status.field(field)?, 16).ok();
    let sets = |get: fn(&CapabilitySets) -> u64| sets.as_ref().map(get);
    let rows = [
        ("bounding", sets(|sets| sets.bounding), actual("CapBnd")),
        ("effective", sets(|sets| sets.effective), actual("CapEff")),
        ("permitted", sets(|sets| sets.permitted), actual("CapPrm")),
        (
            "inheritable",
            sets(|sets| sets.inheritable),
            actual("CapInh"),
        ),
        ("ambient", sets(|sets| sets.ambient), actual("CapAmb")),
    ];
    let ambient = sets(|sets| sets.ambient).unwrap_or_default();
    let entry = |(name, asked, actual): (&str, Option<u64>, Option<u64>)| {
        let differs = asked.is_some() && actual.is_some() && asked != actual;
        let entry = Entry::of(name, asked.map(names), actual.map(names), differs);
        if waits {
            return entry.excuse(AT_START);
        }
        // A user other than root keeps only the ambient capabilities at an exec (capabilities(7)).
        match matches!(name, "effective" | "permitted") && !is_root && actual == Some(ambient) {
            true => entry.excuse("a user who is not root keeps the ambient capabilities only"),
            false => entry,
        }
    };
    rows.map(entry).into()
}

fn names(set: u64) -> String {
    let names = caps::names_in_mask(set);
    match names.len() {
        0 => "none".into(),
        all if all == caps::names().len() => format!("all {all}"),
        _ => names.join(" "),
    }
}

/// Returns entries for no_new_privs, the seccomp filters, and the labels of security modules.
pub(super) fn confinement(
    spec: Option<&Spec>,
    status: &Status,
    init: Option<&InitProcess<'_>>,
    (proc, waits): (&Procfs, bool),
) -> Vec<Entry> {
    let asked = spec.and_then(|spec| spec.process().as_ref());
    let no_new_privs = asked.map(|asked| asked.no_new_privileges().unwrap_or(false));
    let has = status.field("NoNewPrivs").map(|value| value == "1");
    let mut entries = vec![Entry::compare(
        "no_new_privs",
        no_new_privs.map(|asked| asked.to_string()),
        has.map(|has| has.to_string()),
    )];
    let late = |entry: Entry| if waits { entry.excuse(AT_START) } else { entry };
    let linux = spec.and_then(|spec| spec.linux().as_ref());
    let profile = linux.and_then(|linux| linux.seccomp().as_ref());
    entries.push(late(seccomp(spec.is_some(), profile, status, proc)));
    entries.extend(labels(asked, init).into_iter().map(late));
    entries
}

fn seccomp(known: bool, profile: Option<&LinuxSeccomp>, status: &Status, proc: &Procfs) -> Entry {
    let asked = match profile {
        Some(profile) => Some(in_short(profile)),
        None => known.then(|| "none".to_owned()),
    };
    let (mode, filters) = (status.number("Seccomp"), status.number("Seccomp_filters"));
    let actual = mode.map(|mode| match (mode, filters) {
        (0, _) => "none".to_owned(),
        (2, Some(1)) => "1 filter".into(),
        (2, Some(filters)) => format!("{filters} filters"),
        (2, None) => "filters".into(),
        (mode, _) => format!("mode {mode}"),
    });
    // The container also inherits the filters of the caller.
    let own = Status(proc.read("self/status").ok())
        .number("Seccomp_filters")
        .unwrap_or(0);
    let added = filters.or(mode).unwrap_or(0) > own;
    let differs = known && mode.is_some() && (profile.is_some() != added);
    let differs = differs && !(profile.is_none() && own > 0);
    Entry::of("seccomp", asked, actual, differs)
}

/// Describes a profile: `SCMP_ACT_ERRNO, but SCMP_ACT_ALLOW for 312 calls`.
fn in_short(profile: &LinuxSeccomp) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for rule in profile.syscalls().iter().flatten() {
        *counts.entry(rule.action().to_string()).or_default() += rule.names().len();
    }
    let mut text = profile.default_action().to_string();
    for (place, (action, count)) in counts.iter().enumerate() {
        let but = if place == 0 { ", but" } else { "," };
        text.push_str(&format!("{but} {action} for {count} calls"));
    }
    text
}

/// Returns entries for the labels of AppArmor and SELinux.
fn labels(asked: Option<&Process>, init: Option<&InitProcess<'_>>) -> Vec<Entry> {
    let said = |label: &Option<String>| label.clone().filter(|label| !label.is_empty());
    let profile = asked.and_then(|asked| said(asked.apparmor_profile()));
    let label = asked.and_then(|asked| said(asked.selinux_label()));
    let read = |files: &[&str]| {
        let text = files.iter().find_map(|file| init?.text(file));
        text.map(|text| text.trim_end_matches(['\0', '\n']).to_owned())
            .filter(|text| !text.is_empty())
    };
    let mut entries = Vec::new();
    let apparmor = read(&["attr/apparmor/current"]);
    if profile.is_some() || apparmor.is_some() {
        // The file has `NAME (enforce)` or `unconfined`.
        let is_it = |actual: &String| {
            let name = actual.strip_suffix(" (enforce)").unwrap_or(actual);
            profile.as_deref().is_none_or(|asked| asked == name)
        };
        let is_asked = profile
            .as_deref()
            .is_some_and(|asked| asked != "unconfined");
        let differs = match &apparmor {
            Some(actual) => !is_it(actual),
            None => init.is_some() && is_asked,
        };
        entries.push(Entry::of("apparmor", profile, apparmor, differs));
    }
    if let Some(label) = label {
        let actual = read(&["attr/selinux/current", "attr/current"]);
        let differs = init.is_some() && actual.as_ref() != Some(&label);
        entries.push(Entry::of("selinux", Some(label), actual, differs));
    }
    entries
}

/// The names of resource limits in /proc/PID/limits.
const LIMITS: [(&str, &str); 16] = [
    ("RLIMIT_CPU", "Max cpu time"),
    ("RLIMIT_FSIZE", "Max file size"),
    ("RLIMIT_DATA", "Max data size"),
    ("RLIMIT_STACK", "Max stack size"),
    ("RLIMIT_CORE", "Max core file size"),
    ("RLIMIT_RSS", "Max resident set"),
    ("RLIMIT_NPROC", "Max processes"),
    ("RLIMIT_NOFILE", "Max open files"),
    ("RLIMIT_MEMLOCK", "Max locked memory"),
    ("RLIMIT_AS", "Max address space"),
    ("RLIMIT_LOCKS", "Max file locks"),
    ("RLIMIT_SIGPENDING", "Max pending signals"),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size"),
    ("RLIMIT_NICE", "Max nice priority"),
    ("RLIMIT_RTPRIO", "Max realtime priority"),
    ("RLIMIT_RTTIME", "Max realtime timeout"),
];

/// Returns entries for process.rlimits and the limits of init, both as `soft hard`.
pub(super) fn rlimits(asked: Option<&Process>, init: Option<&InitProcess<'_>>) -> Vec<Entry> {
    let text = init.and_then(|init| init.text("limits"));
    let actual = |name: &str| {
        let (_, label) = LIMITS.iter().find(|(limit, _)| *limit == name)?;
        let line = text
            .as_deref()?
            .lines()
            .find_map(|line| line.strip_prefix(label))?;
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?))
    };
    let limits = asked
        .and_then(|asked| asked.rlimits().as_deref())
        .unwrap_or_default();
    let entry = |limit: &PosixRlimit| {
        let name = limit.typ().to_string();
        let number = |value: u64| match value {
            u64::MAX => "unlimited".to_owned(),
            value => value.to_string(),
        };
        let asked = format!("{} {}", number(limit.soft()), number(limit.hard()));
        let actual = actual(&name);
        Entry::compare(name, Some(asked), actual)
    };
    limits.iter().map(entry).collect()
}
