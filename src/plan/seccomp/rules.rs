//! What a profile says of each number of a system call: ranges of numbers, each with one decision.
//! Not the program that decides so: that is `program`.

use nix::errno::Errno;

use super::tree::{Contradiction, Tree};
use crate::plan::seccomp_arch::{Arch, Call, X32_BIT};
use crate::sys::seccomp::{LONGEST, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_THREAD};

/// What the kernel does with a call when the filter answers so: SECCOMP_RET_*, with its data.
pub(super) type Answer = u32;

/// SECCOMP_RET_ERRNO with ENOSYS.
pub(super) const NO_SUCH_CALL: Answer = SECCOMP_RET_ERRNO | Errno::ENOSYS as u32;
/// What programs of an architecture that a profile doesn't list are answered, as in libseccomp.
pub(super) const FOREIGN: Answer = SECCOMP_RET_KILL_THREAD;

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    NotEqual,
    Less,
    AtMost,
    Equal,
    AtLeast,
    Greater,
    /// Equal in all bits that this mask has set.
    Masked(u64),
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u32,
    pub(super) op: Op,
    pub(super) value: u64,
}

/// An entry of a profile's list: rules with one answer for some calls.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where it stands in the list.
    pub(super) index: usize,
    pub(super) calls: Vec<Call>,
    pub(super) answer: Answer,
    /// A rule for each call is made of each: conditions that must all hold, none on one argument twice.
    pub(super) alternatives: Vec<Vec<Condition>>,
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
    /// In the profile's order. Entries that answer as the default are in it: they count for what is newer.
    pub(super) entries: Vec<Entry>,
}

/// The decision on one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Always(Answer),
    ByArguments(Tree),
}

/// The decisions on all numbers, each from a first number up to the next one's.
pub(super) type Ranges = Vec<(u32, Decision)>;

/// Why there are none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// A rule of the entry wants another answer than an earlier one for the same arguments.
    Contradiction { entry: usize, call: Call },
    /// The kernel takes no program of so many instructions.
    TooLong(usize),
}

/// The ranges of every architecture that the kernel tells apart: its AUDIT_ARCH_* and its numbers from 0.
pub(super) fn ranges(profile: &Profile) -> Result<Vec<(&'static Arch, Ranges)>, Error> {
    let mut all: Vec<(&'static Arch, Ranges)> = Vec::new();
    for arch in &profile.archs {
        if arch.base == X32_BIT {
            continue;
        }
        let mut ranges = numbers(profile, arch)?;
        if arch.named == oci_spec::runtime::Arch::ScmpArchX86_64 {
            let x32 = profile.archs.iter().find(|other| other.base == X32_BIT);
            let rest = match x32 {
                Some(x32) => numbers(profile, x32)?,
                None => without_x32(profile, &ranges),
            };
            put(&mut ranges, X32_BIT, rest);
        }
        ranges.dedup_by(|next, previous| next.1 == previous.1);
        all.push((arch, ranges));
    }
    Ok(all)
}

/// What is said of numbers from x32's up when x32 is not in the profile.
fn without_x32(profile: &Profile, ranges: &Ranges) -> Ranges {
    // -1 is what a tracer makes of a call that it wants skipped, seccomp(2).
    let skipped = (u32::MAX, Decision::Always(profile.default));
    let mut rest = vec![(X32_BIT, Decision::Always(FOREIGN))];
    // Numbers without x32's bit are no x32 calls, whatever is set above it.
    if ranges.last().map(|(_, decision)| decision) == Some(&Decision::Always(NO_SUCH_CALL)) {
        rest.push((2 * X32_BIT, Decision::Always(NO_SUCH_CALL)));
        rest.push((3 * X32_BIT, Decision::Always(FOREIGN)));
    }
    rest.push(skipped);
    rest
}

/// Replaces what is said of all numbers from `start` up.
fn put(ranges: &mut Ranges, start: u32, rest: Ranges) {
    ranges.retain(|(first, _)| *first < start);
    ranges.extend(rest);
}

/// What is said of the numbers of one architecture, from its base up.
fn numbers(profile: &Profile, arch: &Arch) -> Result<Ranges, Error> {
    let (rules, newest) = numbered(profile, arch);
    let default = Decision::Always(profile.default);
    let mut ranges: Ranges = Vec::with_capacity(rules.len() + 4);
    ranges.push((arch.base, default.clone()));
    for rules in rules.chunk_by(|(one, _), (other, _)| one == other) {
        let decision = decision(arch, rules.iter().map(|(_, rule)| rule))?;
        let Some((number, _)) = rules.first() else {
            continue;
        };
        match ranges.last() {
            Some((first, _)) if first == number => {
                ranges.pop();
            }
            _ => {}
        }
        match ranges.last() {
            Some((_, last)) if *last == decision => {}
            _ => ranges.push((*number, decision)),
        }
        ranges.push((number + 1, default.clone()));
    }
    if profile.newer_are_unknown
        && let Some(newest) = newest
    {
        let unknown = Decision::Always(NO_SUCH_CALL);
        put(&mut ranges, newest + 1, vec![(newest + 1, unknown.clone())]);
        // What s390 makes of a call whose number doesn't fit into the instruction and that its kernel doesn't know.
        if arch.big_endian {
            let rest = ranges.split_off(1);
            let first = ranges.pop().map_or(default, |(_, decision)| decision);
            ranges.push((0, unknown));
            if rest.first().is_none_or(|(number, _)| *number > 1) {
                ranges.push((1, first));
            }
            ranges.extend(rest);
        }
    }
    Ok(ranges)
}

/// A rule for one number.
#[derive(Clone, Copy)]
struct Rule<'a> {
    entry: &'a Entry,
    call: Call,
    conditions: &'a [Condition],
    /// The call is a group's, which does this one if its first argument is so.
    member: Option<u64>,
}

/// The rules that count on an architecture, by number and then in the profile's order, and the newest number that any has.
fn numbered<'a>(profile: &'a Profile, arch: &Arch) -> (Vec<(u32, Rule<'a>)>, Option<u32>) {
    let mut rules = Vec::new();
    let mut newest = None;
    for entry in &profile.entries {
        for call in &entry.calls {
            let number = arch.number(*call);
            newest = newest.max(number);
            if entry.answer == profile.default {
                continue;
            }
            let group = call.group().and_then(|(group, member)| {
                let number = arch.number(group)?;
                Some((number, Some(member)))
            });
            let numbers = group.into_iter().chain(number.map(|number| (number, None)));
            for (number, member) in numbers {
                rules.extend(entry.alternatives.iter().map(|conditions| {
                    let rule = Rule {
                        entry,
                        call: *call,
                        conditions,
                        member,
                    };
                    (number, rule)
                }));
            }
        }
    }
    rules.sort_by_key(|(number, _)| *number);
    (rules, newest)
}

/// What rules for one number decide, as in libseccomp: the first without conditions rules alone, whatever else there is.
fn decision<'a>(arch: &Arch, rules: impl Iterator<Item = &'a Rule<'a>>) -> Result<Decision, Error> {
    let mut tree = Tree::default();
    for rule in rules {
        let answer = rule.entry.answer;
        let added = match rule.member {
            None if rule.conditions.is_empty() => None,
            None => tree.add(rule.conditions, arch.is_64, answer),
            Some(member) => {
                // The other arguments are behind a pointer, which a filter can't follow.
                let others = rule.conditions.iter().filter(|c| c.argument != 0);
                let mut conditions: Vec<Condition> = others.copied().collect();
                conditions.push(Condition {
                    argument: 0,
                    op: Op::Equal,
                    value: member,
                });
                tree.add(&conditions, arch.is_64, answer)
            }
        };
        match added {
            None => return Ok(Decision::Always(answer)),
            Some(Ok(())) if tree.width() > LONGEST => return Err(Error::TooLong(tree.width())),
            Some(Ok(())) => {}
            Some(Err(Contradiction)) => {
                return Err(Error::Contradiction {
                    entry: rule.entry.index,
                    call: rule.call,
                });
            }
        }
    }
    Ok(Decision::ByArguments(tree))
}
