//! What a profile says of each number of a system call: ranges of numbers, each with one decision.
//! Not the program that decides so: that is `program`.

use std::collections::BTreeMap;

use crate::plan::seccomp_arch::{Arch, IPC_CALLS, SOCKET_CALLS, X32_BIT};

/// What the kernel does with a call when the filter answers so: SECCOMP_RET_*, with its data.
pub(super) type Answer = u32;

/// ERRNO with ENOSYS.
pub(super) const NO_SUCH_CALL: Answer = 0x0005_0026;
/// What programs of an architecture that a profile doesn't list are answered, as in libseccomp.
pub(super) const FOREIGN: Answer = 0;

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    NotEqual,
    Less,
    AtMost,
    Equal,
    AtLeast,
    Greater,
    /// Equal after all bits were cleared that this mask hasn't set.
    Masked(u64),
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u32,
    pub(super) op: Op,
    pub(super) value: u64,
}

/// A rule for one call by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) answer: Answer,
    /// All must hold; none on one argument twice.
    pub(super) conditions: Vec<Condition>,
}

/// A profile, its actions resolved.
#[derive(Debug)]
pub(super) struct Profile {
    /// What calls without a matching rule are answered.
    pub(super) default: Answer,
    /// True if calls newer than all that a profile has a rule for are answered ENOSYS: programs take that for an old kernel
    /// and use what was there before, where the profile's own errno would make them fail.
    pub(super) newer_are_unknown: bool,
    /// Every architecture that it is for.
    pub(super) archs: Vec<&'static Arch>,
    /// In the profile's order. Rules that answer as the default are in it: they count for what is newer.
    pub(super) rules: Vec<Rule>,
}

/// The decision on one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Always(Answer),
    /// By the first rule of which all conditions hold, else the profile's default.
    First {
        is_64: bool,
        rules: Vec<(Answer, Vec<Condition>)>,
    },
}

/// The decisions on all numbers, each from a first number up to the next one's.
pub(super) type Ranges = Vec<(u32, Decision)>;

/// The ranges of every architecture that the kernel tells apart: its AUDIT_ARCH_* and its numbers from 0.
pub(super) fn ranges(profile: &Profile) -> Vec<(&'static Arch, Ranges)> {
    let mut all: Vec<(&'static Arch, Ranges)> = Vec::new();
    for arch in &profile.archs {
        if arch.base == X32_BIT {
            continue;
        }
        let mut ranges = numbers(profile, arch);
        if arch.named == oci_spec::runtime::Arch::ScmpArchX86_64 {
            let x32 = profile.archs.iter().find(|other| other.base == X32_BIT);
            match x32 {
                Some(x32) => put(&mut ranges, X32_BIT, numbers(profile, x32)),
                None => {
                    // -1 is what a tracer makes of a call that it wants skipped, seccomp(2).
                    let skipped = Decision::Always(profile.default);
                    let rest = vec![(X32_BIT, Decision::Always(FOREIGN)), (u32::MAX, skipped)];
                    put(&mut ranges, X32_BIT, rest);
                }
            }
        }
        ranges.dedup_by(|next, previous| next.1 == previous.1);
        all.push((arch, ranges));
    }
    all
}

/// Replaces what is said of all numbers from `start` up.
fn put(ranges: &mut Ranges, start: u32, rest: Ranges) {
    ranges.retain(|(first, _)| *first < start);
    ranges.extend(rest);
}

/// What is said of the numbers of one architecture, from its base up.
fn numbers(profile: &Profile, arch: &Arch) -> Ranges {
    let mut calls: BTreeMap<u32, Decision> = BTreeMap::new();
    let mut newest = None;
    for rule in &profile.rules {
        let direct = arch.number(&rule.name);
        newest = newest.max(direct);
        if rule.answer == profile.default {
            continue;
        }
        for (group, table) in [("socketcall", SOCKET_CALLS), ("ipc", IPC_CALLS)] {
            let member = table.iter().find(|(name, _)| *name == rule.name);
            if let Some((_, member)) = member
                && let Some(number) = arch.number(group)
            {
                // The other arguments are behind a pointer, which a filter can't follow.
                let mut conditions: Vec<Condition> = rule
                    .conditions
                    .iter()
                    .filter(|c| c.argument != 0)
                    .copied()
                    .collect();
                conditions.insert(
                    0,
                    Condition {
                        argument: 0,
                        op: Op::Equal,
                        value: *member,
                    },
                );
                add(&mut calls, arch, number, rule.answer, conditions);
            }
        }
        if let Some(number) = direct {
            add(
                &mut calls,
                arch,
                number,
                rule.answer,
                rule.conditions.clone(),
            );
        }
    }
    let default = Decision::Always(profile.default);
    let mut ranges: Ranges = vec![(arch.base, default.clone())];
    for (number, decision) in calls {
        if ranges.last().is_some_and(|(first, _)| *first == number) {
            ranges.pop();
        }
        ranges.push((number, decision));
        ranges.push((number + 1, default.clone()));
    }
    if profile.newer_are_unknown
        && let Some(newest) = newest
    {
        put(
            &mut ranges,
            newest + 1,
            vec![(newest + 1, Decision::Always(NO_SUCH_CALL))],
        );
        // What s390 makes of a call whose number doesn't fit into the instruction and that its kernel doesn't know.
        if arch.big_endian {
            let rest = ranges.split_off(1);
            let first = ranges.pop().map_or(default, |(_, decision)| decision);
            ranges.push((0, Decision::Always(NO_SUCH_CALL)));
            if rest.first().is_none_or(|(number, _)| *number > 1) {
                ranges.push((1, first));
            }
            ranges.extend(rest);
        }
    }
    ranges
}

/// Adds a rule for a number, as libseccomp does: the first without conditions rules alone, whatever else there is.
fn add(
    calls: &mut BTreeMap<u32, Decision>,
    arch: &Arch,
    number: u32,
    answer: Answer,
    conditions: Vec<Condition>,
) {
    let none = Decision::First {
        is_64: arch.is_64,
        rules: Vec::new(),
    };
    let decision = calls.entry(number).or_insert(none);
    let Decision::First { rules, .. } = decision else {
        return;
    };
    if conditions.is_empty() {
        *decision = Decision::Always(answer);
    } else {
        let new = (answer, conditions);
        if !rules.contains(&new) {
            rules.push(new);
        }
    }
}
