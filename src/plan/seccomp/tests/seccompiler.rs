//! Compares filters with those of the crate seccompiler, for profiles that it can express: one
//! 64-bit architecture, and one action besides the default. All verdicts must be the same, since
//! with one action it does not matter which rule matches.

use std::collections::BTreeMap;

use ::seccompiler::{
    SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::*;
use crate::plan::seccomp_arch::{AARCH64, RISCV64};

const ARCHS: [(&Arch, TargetArch); 3] = [
    (&X86_64, TargetArch::x86_64),
    (&AARCH64, TargetArch::aarch64),
    (&RISCV64, TargetArch::riscv64),
];

/// Converts an action.
fn action(action: Action, errno: Option<u32>) -> SeccompAction {
    let errno = errno.unwrap_or(DEFAULT_ERRNO);
    match action {
        Action::ScmpActAllow => SeccompAction::Allow,
        Action::ScmpActErrno => SeccompAction::Errno(errno),
        Action::ScmpActKill | Action::ScmpActKillThread => SeccompAction::KillThread,
        Action::ScmpActKillProcess => SeccompAction::KillProcess,
        Action::ScmpActLog => SeccompAction::Log,
        Action::ScmpActTrace => SeccompAction::Trace(errno),
        Action::ScmpActTrap => SeccompAction::Trap,
        Action::ScmpActNotify => panic!("not in these profiles"),
    }
}

fn condition(arg: &LinuxSeccompArg) -> SeccompCondition {
    let (op, value) = match arg.op() {
        Operator::ScmpCmpNe => (SeccompCmpOp::Ne, arg.value()),
        Operator::ScmpCmpLt => (SeccompCmpOp::Lt, arg.value()),
        Operator::ScmpCmpLe => (SeccompCmpOp::Le, arg.value()),
        Operator::ScmpCmpEq => (SeccompCmpOp::Eq, arg.value()),
        Operator::ScmpCmpGe => (SeccompCmpOp::Ge, arg.value()),
        Operator::ScmpCmpGt => (SeccompCmpOp::Gt, arg.value()),
        Operator::ScmpCmpMaskedEq => {
            let value = arg.value_two().unwrap_or(0);
            (SeccompCmpOp::MaskedEq(arg.value()), value)
        }
    };
    let index = u8::try_from(arg.index()).unwrap();
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, op, value).unwrap()
}

/// Converts an entry: one rule with all conditions, or a rule for each condition if two are on the
/// same argument.
fn rules(entry: &LinuxSyscall) -> Vec<SeccompRule> {
    let args = entry.args().clone().unwrap_or_default();
    let repeated = (0..6).any(|index| args.iter().filter(|a| a.index() == index).count() > 1);
    let conditions: Vec<_> = args.iter().map(condition).collect();
    let rules: Vec<Vec<_>> = if repeated {
        conditions.into_iter().map(|one| vec![one]).collect()
    } else {
        vec![conditions]
    };
    let rules = rules.into_iter().map(SeccompRule::new);
    rules.collect::<Result<_, _>>().unwrap()
}

/// Compiles a profile with seccompiler; `answer` is the answer of all its entries.
fn theirs(
    profile: &LinuxSeccomp,
    arch: &Arch,
    target: TargetArch,
    answer: SeccompAction,
) -> Vec<Instruction> {
    // For seccompiler a call with an empty list of rules always matches.
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut always = Vec::new();
    for rule in numbered(profile, arch) {
        let Some(number) = rule.number.map(i64::from) else {
            continue;
        };
        match rule.entry.args().iter().flatten().next() {
            None => always.push(number),
            Some(_) => calls.entry(number).or_default().extend(rules(rule.entry)),
        }
    }
    calls.extend(always.into_iter().map(|number| (number, Vec::new())));
    let default = action(profile.default_action(), profile.default_errno_ret());
    let filter = SeccompFilter::new(calls, default, answer, target).unwrap();
    filter.try_into().unwrap()
}

/// Makes a random profile with one action besides the default.
fn profile_with_one_action(random: &mut Random) -> (LinuxSeccomp, SeccompAction) {
    loop {
        let mut profile = random_profile(random, false);
        profile.set_architectures(None);
        let default = action(profile.default_action(), profile.default_errno_ret());
        let entries = profile.syscalls().clone().unwrap_or_default();
        let Some(last) = entries.last() else { continue };
        let (last, errno) = (last.action(), last.errno_ret());
        if action(last, errno) == default {
            continue;
        }
        let entries = entries.into_iter().map(|mut entry| {
            entry.set_action(last);
            entry.set_errno_ret(errno);
            entry
        });
        profile.set_syscalls(Some(entries.collect()));
        return (profile, action(last, errno));
    }
}

#[test]
fn random_filters_with_one_action_answer_as_those_of_seccompiler() {
    let mut random = Random(7);
    let (mut compared, mut matched) = (0, 0);
    for index in 0..900 {
        let (arch, target) = ARCHS[index % ARCHS.len()];
        let (profile, match_action) = profile_with_one_action(&mut random);
        let family = FAMILIES.iter().find(|family| family[0] == arch).unwrap();
        let ours = match compile_for_family(&profile, family) {
            Ok(filter) => filter.program,
            // Our compiler refuses this profile.
            Err(violations) if violations[0].to_string().contains("execve") => continue,
            Err(violations) => panic!("{violations:?}"),
        };
        let theirs = theirs(&profile, arch, target, match_action.clone());
        let rules = numbered(&profile, arch);
        // Leave out newer calls, which our filter answers with ENOSYS whatever the profile says.
        let newest = rules.iter().filter_map(|rule| rule.number).max().unwrap();
        let values = boundaries(&profile);
        for number in 0..=newest {
            for _ in 0..8 {
                let call = SeccompData {
                    number,
                    audit: arch.audit,
                    arguments: [(); 6].map(|()| values[random.below(values.len())]),
                    big_endian: false,
                };
                let (ours, theirs) = (run(&ours, &call), run(&theirs, &call));
                assert_eq!(
                    ours,
                    theirs,
                    "{call:x?}: {ours:#x}, seccompiler {theirs:#x}: {}",
                    serde_json::to_string(&profile).unwrap()
                );
                compared += 1;
                matched += usize::from(ours == u32::from(match_action.clone()));
            }
        }
    }
    assert!(
        compared > 1_000_000 && matched > 10_000,
        "{compared} {matched}"
    );
}

#[test]
fn an_engines_list_of_allowed_calls_is_answered_as_by_seccompiler() {
    for (engine, mut profile) in engines() {
        // seccompiler can't express entries with a different action.
        let entries = profile.syscalls().clone().unwrap_or_default();
        let allowed = |entry: &LinuxSyscall| entry.action() == Action::ScmpActAllow;
        profile.set_syscalls(Some(entries.into_iter().filter(allowed).collect()));
        profile.set_architectures(None);
        let ours = compile_for_family(&profile, FAMILIES[0]).unwrap().program;
        let theirs = theirs(&profile, &X86_64, TargetArch::x86_64, SeccompAction::Allow);
        assert!(ours.len() < theirs.len() / 2, "{engine}");
        let values = boundaries(&profile);
        let mut random = Random(8);
        let rules = numbered(&profile, &X86_64);
        let newest = rules.iter().filter_map(|rule| rule.number).max().unwrap();
        for number in 0..=newest {
            for _ in 0..100 {
                let call = SeccompData {
                    number,
                    audit: X86_64.audit,
                    arguments: [(); 6].map(|()| values[random.below(values.len())]),
                    big_endian: false,
                };
                let (ours, theirs) = (run(&ours, &call), run(&theirs, &call));
                assert_eq!(ours, theirs, "{engine}: {call:x?}");
            }
        }
    }
}
