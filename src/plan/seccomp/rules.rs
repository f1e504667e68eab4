//! Turns a profile into ranges of call numbers, each with one decision.
//! `program` writes the program for these ranges.

use nix::errno::Errno;

use super::tree::{Contradiction, Tree};
use crate::plan::seccomp_arch::{Arch, SystemCall, X32_BIT};
use crate::sys::seccomp::{LONGEST, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_THREAD};

/// The return value of a filter: SECCOMP_RET_* with its data.
pub(super) type FilterReturn = u32;

/// SECCOMP_RET_ERRNO with ENOSYS.
pub(super) const RETURN_ENOSYS: FilterReturn = SECCOMP_RET_ERRNO | Errno::ENOSYS as u32;
/// The answer for programs of an architecture that the profile does not list, as in libseccomp.
pub(super) const RETURN_FOREIGN_ARCH: FilterReturn = SECCOMP_RET_KILL_THREAD;

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ConditionOperator {
    NotEqual,
    Less,
    AtMost,
    Equal,
    AtLeast,
    Greater,
    /// Equality in the bits of this mask.
    Masked(u64),
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Condition {
    /// The number of the argument, 0 to 5.
    pub(super) argument: u32,
    pub(super) op: ConditionOperator,
    pub(super) value: u64,
}

/// An entry of a profile: rules for some calls, all with the same answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProfileEntry {
    /// The index of the entry in the profile.
    pub(super) index: usize,
    pub(super) calls: Vec<SystemCall>,
    pub(super) answer: FilterReturn,
    /// Each list makes one rule for each call. All conditions of the list must hold, and no two are
    /// on the same argument.
    pub(super) alternatives: Vec<Vec<Condition>>,
}

/// A profile with resolved actions.
#[derive(Debug)]
pub(super) struct Profile {
    /// The answer for calls that no rule matches.
    pub(super) default: FilterReturn,
    /// True if calls that are newer than all calls of the profile fail with ENOSYS. Programs then
    /// assume an older kernel and use an older call. With the profile's own errno, they would fail.
    pub(super) newer_are_unknown: bool,
    /// The architectures that the profile is for.
    pub(super) archs: Vec<&'static Arch>,
    /// The entries in the order of the profile, including those with the default answer, which
    /// count when the newest call is determined.
    pub(super) entries: Vec<ProfileEntry>,
}

/// The decision about one call number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallDecision {
    Always(FilterReturn),
    ByArguments(Tree),
}

/// The decisions about all call numbers. Each decision applies from its number up to the number of
/// the next decision.
pub(super) type DecisionRanges = Vec<(u32, CallDecision)>;

/// Why a profile cannot be compiled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// A rule of this entry has another answer than an earlier rule for the same arguments.
    Contradiction { entry: usize, call: SystemCall },
    /// The program would be longer than the kernel allows.
    TooLong(usize),
}

/// Returns the ranges for each AUDIT_ARCH_* value that the kernel reports.
pub(super) fn decision_ranges(
    profile: &Profile,
) -> Result<Vec<(&'static Arch, DecisionRanges)>, Error> {
    let mut all: Vec<(&'static Arch, DecisionRanges)> = Vec::new();
    for arch in &profile.archs {
        if arch.base == X32_BIT {
            continue;
        }
        let mut ranges = arch_ranges(profile, arch)?;
        if arch.named == oci_spec::runtime::Arch::ScmpArchX86_64 {
            let x32 = profile.archs.iter().find(|other| other.base == X32_BIT);
            let rest = match x32 {
                Some(x32) => arch_ranges(profile, x32)?,
                None => ranges_without_x32(profile, &ranges),
            };
            replace_from(&mut ranges, X32_BIT, rest);
        }
        ranges.dedup_by(|next, previous| next.1 == previous.1);
        all.push((arch, ranges));
    }
    Ok(all)
}

/// Returns the decisions about the numbers of x32 if the profile does not list x32.
fn ranges_without_x32(profile: &Profile, ranges: &DecisionRanges) -> DecisionRanges {
    // A tracer sets the number to -1 to skip a call (seccomp(2)).
    let skipped = (u32::MAX, CallDecision::Always(profile.default));
    let mut rest = vec![(X32_BIT, CallDecision::Always(RETURN_FOREIGN_ARCH))];
    // Numbers without the x32 bit are not x32 calls, whatever their higher bits.
    if ranges.last().map(|(_, decision)| decision) == Some(&CallDecision::Always(RETURN_ENOSYS)) {
        rest.push((2 * X32_BIT, CallDecision::Always(RETURN_ENOSYS)));
        rest.push((3 * X32_BIT, CallDecision::Always(RETURN_FOREIGN_ARCH)));
    }
    rest.push(skipped);
    rest
}

/// Replaces the decisions about all numbers from `start` on.
fn replace_from(ranges: &mut DecisionRanges, start: u32, rest: DecisionRanges) {
    ranges.retain(|(first, _)| *first < start);
    ranges.extend(rest);
}

/// Returns the decisions about the numbers of one architecture, from its base on.
fn arch_ranges(profile: &Profile, arch: &Arch) -> Result<DecisionRanges, Error> {
    let (rules, newest) = rules_by_number(profile, arch);
    let default = CallDecision::Always(profile.default);
    let mut ranges: DecisionRanges = Vec::with_capacity(rules.len() + 4);
    ranges.push((arch.base, default.clone()));
    for rules in rules.chunk_by(|(one, _), (other, _)| one == other) {
        let decision = combine_rules(arch, rules.iter().map(|(_, rule)| rule))?;
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
        let unknown = CallDecision::Always(RETURN_ENOSYS);
        replace_from(&mut ranges, newest + 1, vec![(newest + 1, unknown.clone())]);
        // On s390 the kernel reports number 0 for a number that it does not know and that does not
        // fit into the instruction.
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
    entry: &'a ProfileEntry,
    call: SystemCall,
    conditions: &'a [Condition],
    /// Set if the number belongs to a multiplexer like socketcall. The value is the multiplexer's
    /// first argument that selects this call.
    member: Option<u64>,
}

/// Returns the rules for an architecture, sorted by number and then in the order of the profile.
/// Also returns the newest number of the profile.
fn rules_by_number<'a>(profile: &'a Profile, arch: &Arch) -> (Vec<(u32, Rule<'a>)>, Option<u32>) {
    let mut rules = Vec::new();
    let mut newest = None;
    for entry in &profile.entries {
        for call in &entry.calls {
            let number = arch.call_number(*call);
            newest = newest.max(number);
            if entry.answer == profile.default {
                continue;
            }
            let group = call.multiplexer().and_then(|(group, member)| {
                let number = arch.call_number(group)?;
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

/// Combines the rules for one number as libseccomp does: the first rule without conditions
/// overrides all others.
fn combine_rules<'a>(
    arch: &Arch,
    rules: impl Iterator<Item = &'a Rule<'a>>,
) -> Result<CallDecision, Error> {
    let mut tree = Tree::default();
    for rule in rules {
        let answer = rule.entry.answer;
        let added = match rule.member {
            None if rule.conditions.is_empty() => None,
            None => tree.add_rule(rule.conditions, arch.is_64, answer),
            Some(member) => {
                // The filter cannot read the other arguments, which are behind a pointer.
                let others = rule.conditions.iter().filter(|c| c.argument != 0);
                let mut conditions: Vec<Condition> = others.copied().collect();
                conditions.push(Condition {
                    argument: 0,
                    op: ConditionOperator::Equal,
                    value: member,
                });
                tree.add_rule(&conditions, arch.is_64, answer)
            }
        };
        match added {
            None => return Ok(CallDecision::Always(answer)),
            Some(Ok(())) if tree.min_comparisons() > LONGEST => {
                return Err(Error::TooLong(tree.min_comparisons()));
            }
            Some(Ok(())) => {}
            Some(Err(Contradiction)) => {
                return Err(Error::Contradiction {
                    entry: rule.entry.index,
                    call: rule.call,
                });
            }
        }
    }
    Ok(CallDecision::ByArguments(tree))
}
