//! Rules for `process` in config.json, and for the process file of an exec.
//! Paths, users and programs are looked up later, in the container.

use oci_spec::runtime::{PosixRlimit, Process, User};

use super::{check_absolute, quote_value, scheduling};
use crate::error::{Findings, Violation};

/// MAX_ARG_STRLEN (32 pages) without the NUL. Pages are certain to have 4 KiB only on x86_64. On
/// other architectures, execve fails with E2BIG if a string is too long.
const MAX_STRING_BYTES: usize = if cfg!(target_arch = "x86_64") {
    131_071
} else {
    usize::MAX
};

/// NGROUPS_MAX.
const MAX_GROUPS: usize = 65_536;

/// (uid_t)-1 and (gid_t)-1, which mean "unchanged" to the kernel.
const UNCHANGED_ID: u32 = u32::MAX;

/// Checks a process. `place` is the name of its field (`process`).
pub(crate) fn check_process(process: &Process, place: &str) -> Vec<Violation> {
    let mut found = Findings::default();
    let mut refuse = |field: String, problem: String| {
        found.refuse(format!("{place}.{field}"), problem);
    };
    check_arguments(process, &mut refuse);
    check_environment(process, &mut refuse);
    check_user(process.user(), &mut refuse);
    check_rlimits(
        process.rlimits().as_deref().unwrap_or_default(),
        &mut refuse,
    );
    if let Some(score) = process.oom_score_adj()
        && !(-1000..=1000).contains(&score)
    {
        refuse(
            "oomScoreAdj".into(),
            format!("{score} is not between -1000 and 1000"),
        );
    }
    if let Some(scheduler) = process.scheduler() {
        scheduling::check_scheduler(scheduler, &mut refuse);
    }
    if let Some(priority) = process.io_priority() {
        scheduling::check_io_priority(priority, &mut refuse);
    }
    if let Some(affinity) = process.exec_cpu_affinity() {
        scheduling::check_affinity(affinity, &mut refuse);
    }
    if let Some(size) = process.console_size() {
        for (side, value) in [("height", size.height()), ("width", size.width())] {
            if value > u64::from(u16::MAX) {
                refuse(
                    format!("consoleSize.{side}"),
                    format!("{value} is more than {}", u16::MAX),
                );
            }
        }
    }
    check_absolute(&format!("{place}.cwd"), process.cwd(), &mut found);
    found.into_refused()
}

fn check_arguments(process: &Process, refuse: &mut impl FnMut(String, String)) {
    let Some(args) = process.args().as_ref().filter(|args| !args.is_empty()) else {
        refuse("args".into(), "is empty".into());
        return;
    };
    if args.first().is_some_and(String::is_empty) {
        refuse("args[0]".into(), "is empty".into());
    }
    for (index, arg) in args.iter().enumerate() {
        if let Some(problem) = reason_if_not_passable(arg) {
            refuse(format!("args[{index}]"), problem);
        }
    }
}

fn check_environment(process: &Process, refuse: &mut impl FnMut(String, String)) {
    for (index, variable) in process.env().iter().flatten().enumerate() {
        if let Some(problem) = reason_if_not_variable(variable) {
            refuse(format!("env[{index}]"), problem);
        }
    }
}

/// Returns the reason if a string isn't a `NAME=VALUE` for execve.
pub(super) fn reason_if_not_variable(variable: &str) -> Option<String> {
    match variable.find('=') {
        None => Some(format!("{} has no =", quote_value(variable))),
        Some(0) => Some(format!(
            "{} has no name before the =",
            quote_value(variable)
        )),
        Some(_) => reason_if_not_passable(variable),
    }
}

/// Returns the reason if execve can't accept a string.
pub(super) fn reason_if_not_passable(text: &str) -> Option<String> {
    if text.contains('\0') {
        return Some("contains a NUL".into());
    }
    (text.len() > MAX_STRING_BYTES)
        .then(|| format!("is longer than {MAX_STRING_BYTES} bytes, the most the kernel takes"))
}

fn check_user(user: &User, refuse: &mut impl FnMut(String, String)) {
    let not_an_id = || format!("{UNCHANGED_ID} is not an id (it is -1 to the kernel)");
    for (field, id) in [("uid", user.uid()), ("gid", user.gid())] {
        if id == UNCHANGED_ID {
            refuse(format!("user.{field}"), not_an_id());
        }
    }
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    for (index, _) in groups
        .iter()
        .enumerate()
        .filter(|(_, id)| **id == UNCHANGED_ID)
    {
        refuse(format!("user.additionalGids[{index}]"), not_an_id());
    }
    if groups.len() > MAX_GROUPS {
        refuse(
            "user.additionalGids".into(),
            format!("has more than {MAX_GROUPS} groups"),
        );
    }
    if let Some(umask) = user.umask().filter(|umask| *umask > 0o777) {
        refuse(
            "user.umask".into(),
            format!("{umask} is more than 511 (octal 777)"),
        );
    }
}

fn check_rlimits(limits: &[PosixRlimit], refuse: &mut impl FnMut(String, String)) {
    for (index, limit) in limits.iter().enumerate() {
        let (soft, hard) = (limit.soft(), limit.hard());
        if soft > hard {
            refuse(
                format!("rlimits[{index}].soft"),
                format!("{soft} is more than hard, {hard}"),
            );
        }
        let same = |other: &PosixRlimit| other.typ() == limit.typ();
        if let Some(first) = limits.iter().take(index).position(same) {
            refuse(
                format!("rlimits[{index}].type"),
                format!("{} again, as in rlimits[{first}]", limit.typ()),
            );
        }
    }
}
