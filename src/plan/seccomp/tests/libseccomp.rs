//! Compares filters with those of Debian's libseccomp, and with runc's treatment of newer calls.
//! Skipped where libseccomp-dev or a C compiler is missing.
//!
//! All verdicts must be the same, with five exceptions: calls that this libseccomp does not know,
//! `is_knot`, `is_dropped`, `is_older` and `ambiguous_loads`. The test checks each difference. Even
//! then, our verdict must be the answer of a matching rule, or the default if no rule matches.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;
use crate::sys::seccomp::{AND, JUMP, LOAD, RETURN};

/// Compiles the oracle; `None` if that is not possible.
pub(super) fn oracle(test: &str) -> Option<PathBuf> {
    let program = std::env::temp_dir().join(format!("orlop-{test}-{}", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan/seccomp/oracle.c");
    let compiled = Command::new("cc")
        .arg("-o")
        .arg(&program)
        .arg(source)
        .arg("-l:libseccomp.a")
        .stderr(Stdio::null())
        .status();
    compiled
        .is_ok_and(|status| status.success())
        .then_some(program)
}

/// The result of libseccomp for a profile.
struct Theirs {
    /// `None` if libseccomp finds a contradiction or never returns.
    program: Option<Vec<Instruction>>,
    /// The names of calls that libseccomp does not know, each with an architecture that has the
    /// call.
    unknown: Vec<(String, u32)>,
}

/// Writes a profile in the format that the oracle reads.
pub(super) fn as_numbers(profile: &LinuxSeccomp) -> String {
    let of = |action, errno| filter_return_value(action, errno, String::new).unwrap();
    let archs = profile.architectures().clone().unwrap_or_default();
    let default = of(profile.default_action(), profile.default_errno_ret());
    let mut text = format!("{default} {}", archs.len());
    for arch in archs {
        write!(text, " {}", arch as u32).unwrap();
    }
    for (index, call) in profile.syscalls().iter().flatten().enumerate() {
        let entry = resolve_entry(call, index, &mut Vec::new()).unwrap();
        let rules = call
            .names()
            .iter()
            .flat_map(|name| entry.alternatives.iter().map(move |c| (name, c)));
        for (name, conditions) in rules {
            write!(text, "\n{name} {} {}", entry.answer, conditions.len()).unwrap();
            for Condition {
                argument,
                op,
                value,
            } in conditions
            {
                let (op, a, b) = match op {
                    ConditionOperator::NotEqual => (1, *value, 0),
                    ConditionOperator::Less => (2, *value, 0),
                    ConditionOperator::AtMost => (3, *value, 0),
                    ConditionOperator::Equal => (4, *value, 0),
                    ConditionOperator::AtLeast => (5, *value, 0),
                    ConditionOperator::Greater => (6, *value, 0),
                    ConditionOperator::Masked(mask) => (7, *mask, *value),
                };
                write!(text, " {argument} {op} {a} {b}").unwrap();
            }
        }
    }
    text
}

fn theirs(oracle: &Path, profile: &LinuxSeccomp) -> Theirs {
    let text = as_numbers(profile);
    let mut child = Command::new(oracle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let instruction = |bytes: &[u8]| Instruction {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes(bytes[4..8].try_into().unwrap()),
    };
    let unknown = String::from_utf8(output.stderr).unwrap();
    Theirs {
        program: match output.status.code() {
            Some(0) => Some(output.stdout.chunks_exact(8).map(instruction).collect()),
            Some(3) => None,
            // libseccomp did not return, and the oracle was killed.
            None => None,
            other => panic!("the oracle ends with {other:?} at {text}"),
        },
        unknown: unknown
            .lines()
            .map(|line| {
                let (name, arch) = line.split_once(' ').unwrap();
                (name.to_owned(), arch.parse().unwrap())
            })
            .collect(),
    }
}

/// The result of comparing.
#[derive(Debug, Default)]
struct Outcome {
    profiles: usize,
    /// The number of calls that were compared.
    compared: usize,
    /// Profiles with contradicting rules that both implementations refuse.
    refused: usize,
    /// Profiles that only one implementation refuses, or for which libseccomp never returns.
    refused_by_one: usize,
    /// Calls for which libseccomp applies a rule that does not match, or the default although a
    /// rule matches.
    unsound: usize,
    /// Calls for which the two implementations pick different matching rules.
    reordered: usize,
}

impl Outcome {
    fn tell(&self, of: &str) {
        // Written past the capture of the test runner, because the number of cases is a result.
        writeln!(std::io::stderr(), "{of}, against libseccomp: {self:?}").unwrap();
    }
}

/// True if a rule branches before its last argument. Either half can decide a 64-bit comparison
/// other than equality, and the next condition of the rule follows in both cases. libseccomp stores
/// that condition only once. A rule that it then adds to one case appears in the other too. Such a
/// rule is applied without all its conditions, moved in front of others, lost, refused, or turned
/// into a loop. Our tree has no such knots, so the verdicts may differ for these rules, and only
/// for these.
fn is_knot(rule: &Numbered<'_>, arch: &Arch) -> bool {
    let branches = |arg: &LinuxSeccompArg| {
        !matches!(arg.op(), Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq)
    };
    let chains = chains(rule, arch);
    let before_last = chains.iter().filter_map(|chain| chain.split_last());
    arch.is_64 && before_last.flat_map(|(_, before)| before).any(branches)
}

/// Returns the comparison of a condition, and whether the condition holds if the comparison holds.
/// For example, `!=` is `==` that must not hold.
fn comparison(arg: &LinuxSeccompArg, arch: &Arch) -> ((usize, u32, u64, u64), bool) {
    let width = if arch.is_64 {
        u64::MAX
    } else {
        u32::MAX.into()
    };
    let (op, sense) = match arg.op() {
        Operator::ScmpCmpEq => (0, true),
        Operator::ScmpCmpNe => (0, false),
        Operator::ScmpCmpGt => (1, true),
        Operator::ScmpCmpLe => (1, false),
        Operator::ScmpCmpGe => (2, true),
        Operator::ScmpCmpLt => (2, false),
        Operator::ScmpCmpMaskedEq => (3, true),
    };
    let value = arg.value() & width;
    let two = arg.value_two().unwrap_or(0) & value;
    let two = if op == 3 { two } else { 0 };
    ((arg.index(), op, value, two), sense)
}

/// True if a later condition of a rule is the opposite of the first condition of another rule.
/// libseccomp considers only the comparisons. It mistakes the longer rule for a part of the shorter
/// one, and drops the longer rule if it comes later.
fn is_dropped(
    rule: &Numbered<'_>,
    others: &[(&Numbered<'_>, &Arch)],
    arch: &Arch,
    number: u32,
) -> bool {
    let in_group = rule.group.is_some_and(|(group, _)| group == number);
    let later = chains(rule, arch).into_iter().flat_map(|mut chain| {
        if in_group {
            // The first comparison is for the multiplexer.
            chain.retain(|arg| arg.index() != 0);
        } else if !chain.is_empty() {
            chain.remove(0);
        }
        chain
    });
    let asked: Vec<_> = later.map(|arg| comparison(&arg, arch)).collect();
    let others = others.iter().filter(|(_, of)| of == &arch);
    let firsts = others.flat_map(|(other, _)| chains(other, arch));
    let firsts = firsts.filter_map(|chain| Some(comparison(chain.first()?, arch)));
    firsts
        .into_iter()
        .any(|(comparison, sense)| asked.contains(&(comparison, !sense)))
}

/// True if two rules with different actions both hold for every value whose upper half differs from
/// theirs. The action of the narrower rule counts, but libseccomp before 2.6 used the first action.
fn is_older(rules: &[(&Numbered<'_>, &Arch)]) -> bool {
    let mut open = Vec::new();
    for (rule, arch) in rules.iter().filter(|(_, arch)| arch.is_64) {
        for arg in chains(rule, arch).into_iter().flatten() {
            let by_else = [
                Operator::ScmpCmpNe,
                Operator::ScmpCmpLt,
                Operator::ScmpCmpLe,
            ];
            if by_else.contains(&arg.op()) {
                let errno = rule.entry.errno_ret();
                open.push((
                    (arg.index(), arg.value() >> 32),
                    (rule.entry.action(), errno),
                ));
            }
        }
    }
    open.iter()
        .any(|(of, action)| open.iter().any(|(by, other)| of == by && action != other))
}

/// Returns the conditions of each rule that an entry makes for a call. They are sorted by argument;
/// those that always hold are left out.
fn chains(rule: &Numbered<'_>, arch: &Arch) -> Vec<Vec<LinuxSeccompArg>> {
    let args = rule.entry.args().clone().unwrap_or_default();
    let repeated = (0..6).any(|index| args.iter().filter(|a| a.index() == index).count() > 1);
    let mut chains: Vec<Vec<LinuxSeccompArg>> = if repeated {
        args.into_iter().map(|arg| vec![arg]).collect()
    } else {
        vec![args]
    };
    for chain in &mut chains {
        chain.retain(|arg| !is_always(arg, arch));
        chain.sort_by_key(LinuxSeccompArg::index);
    }
    chains
}

/// Finds comparisons that are reached with different words in the accumulator.
///
/// libseccomp loads a word once for consecutive rules and forgets that one of these rules may load
/// other words before it fails to match. Our programs load the word again.
fn ambiguous_loads(program: &[Instruction]) -> Vec<bool> {
    // For each instruction, the loads and masks that may have set the accumulator.
    let mut states: Vec<Vec<(u32, u32)>> = vec![Vec::new(); program.len()];
    states[0].push((u32::MAX, u32::MAX));
    for at in 0..program.len() {
        let before = states[at].clone();
        let Instruction { code, jt, jf, k } = program[at];
        let (next, after): (Vec<usize>, Vec<(u32, u32)>) = match code {
            LOAD => (vec![0], vec![(k, u32::MAX)]),
            AND => {
                let mask = |(word, mask): &(u32, u32)| (*word, mask & k);
                (vec![0], before.iter().map(mask).collect())
            }
            JUMP => (vec![k as usize], before),
            RETURN => continue,
            _ => (vec![jt.into(), jf.into()], before),
        };
        for skip in next {
            let target = &mut states[at + 1 + skip];
            target.extend(&after);
            target.sort_unstable();
            target.dedup();
        }
    }
    let compares = |code: u16| code & 7 == 5 && code != 5;
    let several = states.iter().zip(program);
    several
        .map(|(words, instruction)| words.len() > 1 && compares(instruction.code))
        .collect()
}

/// True if perhaps only one implementation finds a contradiction. The possible reasons are those
/// that make verdicts differ, and several rules for a call that the architecture does not have. We
/// ignore such rules.
fn may_be_refused_by_one(family: ArchFamily, all: &[Vec<Numbered<'_>>]) -> bool {
    family.iter().zip(all).any(|(arch, rules)| {
        rules.iter().any(|rule| {
            let same = rules.iter().filter(|other| other.name == rule.name);
            let same: Vec<_> = same.map(|other| (other, *arch)).collect();
            let is_absent = rule.number.is_none() && rule.group.is_none();
            let number = rule.number.unwrap_or_default();
            is_knot(rule, arch)
                || is_dropped(rule, &same, arch, number)
                || is_absent && same.len() > 1
        })
    })
}

/// True for calls that are newer than all calls of the profile. runc answers them in front of its
/// filter.
fn is_newer(profile: &LinuxSeccomp, all: &[Vec<Numbered<'_>>], call: &SeccompData) -> bool {
    let lenient = matches!(
        profile.default_action(),
        Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace
    );
    let listed = profile.architectures().clone().unwrap_or_default();
    let family = FAMILIES[0];
    family.iter().zip(all).any(|(arch, numbered)| {
        let is_listed = arch == &family[0] || listed.contains(&arch.named);
        let is_x32 = arch == &family[1] || (call.number & X32_BIT != 0) == (arch.base == X32_BIT);
        let newest = numbered.iter().filter_map(|call| call.number).max();
        !lenient
            && is_listed
            && arch.audit == call.audit
            && is_x32
            && newest.is_some_and(|newest| call.number > newest)
    })
}

/// Returns all numbers of the tables, some more, and those around the limits of x32.
fn numbers() -> Vec<u32> {
    let near = (0..480).chain(510..560).chain(0xeffff..0xf0008);
    let limits = [X32_BIT - 1, 1 << 31, 3 << 30, u32::MAX, u32::MAX - 1];
    near.clone()
        .chain(near.map(|n| n | X32_BIT))
        .chain(limits)
        .collect()
}

/// Compares the two filters of a profile for every architecture and every number. Numbers with
/// conditions are tried with `tries` tuples of boundary values.
fn compare_with(
    oracle: &Path,
    profile: &LinuxSeccomp,
    tries: usize,
    random: &mut Random,
    outcome: &mut Outcome,
) {
    let family = FAMILIES[0];
    let text = || serde_json::to_string(profile).unwrap();
    let all: Vec<_> = family.iter().map(|arch| numbered(profile, arch)).collect();
    let theirs = theirs(oracle, profile);
    outcome.profiles += 1;
    let (ours, their_program) = match (compile_for_family(profile, family), theirs.program) {
        (Ok(ours), Some(theirs)) => (ours.program, theirs),
        (Err(violations), _) if !is_contradiction(&violations) => {
            panic!("{violations:?}: {}", text())
        }
        (Err(_), None) => {
            outcome.refused += 1;
            return;
        }
        (ours, _) => {
            let ours = ours.map(|_| "taken");
            assert!(
                may_be_refused_by_one(family, &all),
                "ours is {ours:?}, libseccomp's isn't so: {}",
                text()
            );
            outcome.refused_by_one += 1;
            return;
        }
    };
    let ambiguous_loads = ambiguous_loads(&their_program);
    let values = boundaries(profile);
    let numbers = numbers();
    for audit in FAMILIES.iter().copied().flatten().map(|arch| arch.audit) {
        let mine: Vec<_> = family
            .iter()
            .zip(&all)
            .filter(|(arch, _)| arch.audit == audit)
            .collect();
        // All numbers of a foreign architecture are treated alike.
        let step = if mine.is_empty() { 50 } else { 1 };
        for number in numbers.iter().step_by(step) {
            let rules = || {
                let rules = mine
                    .iter()
                    .flat_map(|(arch, all)| all.iter().map(move |rule| (rule, arch)));
                rules.filter(|(rule, _)| {
                    let group = rule.group.map(|(group, _)| group);
                    rule.number == Some(*number) || group == Some(*number)
                })
            };
            let is_unknown = |(rule, arch): (&Numbered<'_>, &&&Arch)| {
                let mut unknown = theirs.unknown.iter();
                unknown.any(|(name, of)| name == rule.name && *of == arch.named as u32)
            };
            if rules().any(is_unknown) {
                continue;
            }
            let conditional = rules().any(|(rule, _)| {
                rule.group.is_some() || rule.entry.args().iter().flatten().next().is_some()
            });
            for _ in 0..if conditional { tries } else { 1 } {
                let call = SeccompData {
                    number: *number,
                    audit,
                    arguments: [(); 6].map(|()| values[random.below(values.len())]),
                    big_endian: false,
                };
                outcome.compared += 1;
                let ours = run(&ours, &call);
                let theirs = if is_newer(profile, &all, &call) {
                    ENOSYS
                } else {
                    run(&their_program, &call)
                };
                if ours == theirs {
                    continue;
                }
                let possible = naive(profile, family, &all, &call);
                let mut is_ambiguous = false;
                follow(&their_program, &call, |at| {
                    is_ambiguous |= ambiguous_loads[at]
                });
                let all_rules: Vec<(&Numbered<'_>, &Arch)> =
                    rules().map(|(rule, arch)| (rule, **arch)).collect();
                let has_reason = is_ambiguous
                    || is_older(&all_rules)
                    || all_rules.iter().any(|(rule, arch)| {
                        is_knot(rule, arch) || is_dropped(rule, &all_rules, arch, *number)
                    });
                assert!(
                    possible.contains(&ours) && has_reason,
                    "{call:x?}: {ours:#x}, libseccomp {theirs:#x} of {possible:x?}: {}",
                    text()
                );
                if possible.contains(&theirs) {
                    outcome.reordered += 1;
                } else {
                    outcome.unsound += 1;
                }
            }
        }
    }
}

/// Compiles the oracle, or prints why the test is skipped.
fn oracle_for(test: &str) -> Option<PathBuf> {
    let oracle = oracle(test);
    if oracle.is_none() {
        writeln!(
            std::io::stderr(),
            "SKIPPED {test}: no cc with libseccomp-dev here"
        )
        .unwrap();
    }
    oracle
}

#[test]
fn random_filters_answer_as_those_of_libseccomp() {
    let Some(oracle) = oracle_for("random_filters_answer_as_those_of_libseccomp") else {
        return;
    };
    let mut random = Random(5);
    let mut outcome = Outcome::default();
    for index in 0..600 {
        let mut profile = random_profile(&mut random, index % 4 != 0);
        let mut listed = profile.architectures().clone().unwrap_or_default();
        // libseccomp would spend instructions on the architectures of other machines.
        listed.retain(|arch| FAMILIES[0].iter().any(|known| known.named == *arch));
        profile.set_architectures(Some(listed));
        compare_with(&oracle, &profile, 12, &mut random, &mut outcome);
    }
    std::fs::remove_file(oracle).unwrap();
    outcome.tell("random profiles");
    let Outcome {
        profiles,
        compared,
        refused,
        refused_by_one,
        unsound,
        reordered,
    } = outcome;
    assert!(profiles - refused - refused_by_one >= 500 && compared > 1_000_000);
    assert!(refused_by_one < profiles / 50 && unsound + reordered < compared / 5_000);
}

#[test]
fn the_filters_of_engines_answer_as_those_of_libseccomp() {
    let Some(oracle) = oracle_for("the_filters_of_engines_answer_as_those_of_libseccomp") else {
        return;
    };
    for (engine, profile) in engines() {
        let mut outcome = Outcome::default();
        compare_with(&oracle, &profile, 5_000, &mut Random(6), &mut outcome);
        outcome.tell(engine);
        assert!(outcome.compared > 100_000);
        assert_eq!((outcome.refused, outcome.refused_by_one), (0, 0));
        assert_eq!((outcome.unsound, outcome.reordered), (0, 0));
    }
    std::fs::remove_file(oracle).unwrap();
}
