//! Runs filters in an interpreter of classic BPF and compares the verdicts with a naive reading of
//! the profile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::too_many_lines
)]

mod libseccomp;
mod seccompiler;
mod timing;

use serde_json::{Value, json};

use super::verdict::{SeccompData, run_filter};
use super::*;
use crate::plan::seccomp_arch::{X32_BIT, X86_64};
use crate::sys::seccomp::{
    Instruction, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_THREAD,
};

const ALLOW: u32 = SECCOMP_RET_ALLOW;
const EPERM: u32 = SECCOMP_RET_ERRNO | Errno::EPERM as u32;
const ENOSYS: u32 = SECCOMP_RET_ERRNO | Errno::ENOSYS as u32;
const KILL: u32 = SECCOMP_RET_KILL_THREAD;

/// Returns the answer that the kernel would give to a call.
fn run(program: &[Instruction], call: &SeccompData) -> u32 {
    follow(program, call, |_| {})
}

/// Like `run`, but calls `pass` with the index of each executed instruction.
fn follow(program: &[Instruction], call: &SeccompData, pass: impl FnMut(usize)) -> u32 {
    run_filter(program, call, pass).expect("a program that the kernel takes")
}

/// A name in a profile, with its entry and its number on one architecture.
struct Numbered<'a> {
    name: &'a str,
    entry: &'a LinuxSyscall,
    number: Option<u32>,
    /// The number of the multiplexer that also makes this call, and its first argument.
    group: Option<(u32, u64)>,
}

fn numbered<'a>(profile: &'a LinuxSeccomp, arch: &Arch) -> Vec<Numbered<'a>> {
    let calls = profile.syscalls().iter().flatten();
    let named = calls.flat_map(|entry| entry.names().iter().map(move |name| (name, entry)));
    named
        .map(|(name, entry)| {
            let call = SystemCall::by_name(name);
            Numbered {
                name,
                entry,
                number: call.and_then(|call| arch.call_number(call)),
                group: call
                    .and_then(SystemCall::multiplexer)
                    .and_then(|(group, member)| Some((arch.call_number(group)?, member))),
            }
        })
        .collect()
}

fn holds(arg: &LinuxSeccompArg, call: &SeccompData, arch: &Arch) -> bool {
    let width = if arch.is_64 {
        u64::MAX
    } else {
        u32::MAX.into()
    };
    let (given, value) = (call.arguments[arg.index()] & width, arg.value() & width);
    match arg.op() {
        Operator::ScmpCmpNe => given != value,
        Operator::ScmpCmpLt => given < value,
        Operator::ScmpCmpLe => given <= value,
        Operator::ScmpCmpEq => given == value,
        Operator::ScmpCmpGe => given >= value,
        Operator::ScmpCmpGt => given > value,
        Operator::ScmpCmpMaskedEq => given & value == arg.value_two().unwrap_or(0) & value,
    }
}

fn is_always(arg: &LinuxSeccompArg, arch: &Arch) -> bool {
    let width = if arch.is_64 {
        u64::MAX
    } else {
        u32::MAX.into()
    };
    arg.op() == Operator::ScmpCmpMaskedEq && arg.value() & width == 0
}

/// Returns the answers that a profile allows for a call, if its rules are read one by one as the
/// specification says. There are several answers if several rules match. Which one counts is up to
/// libseccomp.
fn naive(
    profile: &LinuxSeccomp,
    family: ArchFamily,
    numbered: &[Vec<Numbered<'_>>],
    call: &SeccompData,
) -> Vec<u32> {
    let default = filter_return_value(
        profile.default_action(),
        profile.default_errno_ret(),
        String::new,
    )
    .unwrap();
    let x32 = family[0] == &X86_64 && call.audit == X86_64.audit && call.number & X32_BIT != 0;
    let is_it = |arch: &&&Arch| arch.audit == call.audit && (arch.base == X32_BIT) == x32;
    let Some(index) = family.iter().position(|arch| is_it(&arch)) else {
        return vec![KILL];
    };
    let (arch, numbered) = (&family[index], &numbered[index]);
    let listed = profile.architectures().clone().unwrap_or_default();
    if arch != &family[0] && !listed.contains(&arch.named) {
        return if x32 && call.number == u32::MAX {
            vec![default]
        } else {
            vec![KILL]
        };
    }
    let newest = numbered.iter().filter_map(|call| call.number).max();
    let lenient = matches!(
        profile.default_action(),
        Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace
    );
    if let Some(newest) = newest
        && !lenient
        && (call.number > newest || arch.big_endian && call.number == 0)
    {
        return vec![ENOSYS];
    }
    if *arch == &X86_64 && call.number >= X32_BIT && !listed.contains(&SpecArch::ScmpArchX32) {
        return vec![KILL];
    }
    let mut answers = Vec::new();
    for rule in numbered {
        let answer =
            filter_return_value(rule.entry.action(), rule.entry.errno_ret(), String::new).unwrap();
        if answer == default {
            continue;
        }
        let args = rule.entry.args().clone().unwrap_or_default();
        let repeated = (0..6).any(|index| args.iter().filter(|a| a.index() == index).count() > 1);
        let alternatives: Vec<Vec<_>> = if repeated {
            args.iter().map(|arg| vec![arg]).collect()
        } else {
            vec![args.iter().collect()]
        };
        for conditions in alternatives {
            if rule.number == Some(call.number) {
                if conditions.iter().all(|arg| is_always(arg, arch)) {
                    return vec![answer];
                }
                if conditions.iter().all(|arg| holds(arg, call, arch)) {
                    answers.push(answer);
                }
            }
            if let Some((group, member)) = rule.group
                && group == call.number
                && call.arguments[0] & (if arch.is_64 { u64::MAX } else { 0xffff_ffff }) == member
                && conditions
                    .iter()
                    .all(|arg| arg.index() == 0 || holds(arg, call, arch))
            {
                answers.push(answer);
            }
        }
    }
    if answers.is_empty() {
        answers.push(default);
    }
    answers
}

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

fn refused(value: Value) -> Vec<String> {
    let violations = plan(&profile(value)).unwrap_err();
    violations.iter().map(ToString::to_string).collect()
}

/// Returns the values in the conditions of a profile, values that differ from them a little, and
/// extreme values.
fn boundaries(profile: &LinuxSeccomp) -> Vec<u64> {
    let mut all = vec![0, 1, u64::MAX, u32::MAX.into(), 1 << 32, 1 << 63];
    for arg in profile
        .syscalls()
        .iter()
        .flatten()
        .flat_map(|call| call.args().iter().flatten())
    {
        for value in [arg.value(), arg.value_two().unwrap_or(0)] {
            all.extend([
                value,
                value.wrapping_sub(1),
                value.wrapping_add(1),
                value ^ (1 << 32),
                value ^ (1 << 40),
                !value,
            ]);
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Compares a filter with the profile for all system call numbers, with `arguments` tuples of
/// boundary values for each number. Returns the number of compared calls; 0 if the rules contradict
/// each other.
fn compare(
    profile: &LinuxSeccomp,
    family: ArchFamily,
    arguments: usize,
    random: &mut Random,
) -> usize {
    let filter = match compile_for_family(profile, family) {
        Ok(filter) => filter,
        Err(violations) => {
            assert!(is_contradiction(&violations), "{violations:?}");
            return 0;
        }
    };
    let values = boundaries(profile);
    let all: Vec<_> = family.iter().map(|arch| numbered(profile, arch)).collect();
    let big_endian = family[0].big_endian;
    let mut compared = 0;
    for audit in FAMILIES
        .iter()
        .copied()
        .flatten()
        .map(|arch| arch.audit)
        .chain([0, u32::MAX])
    {
        let near = (0..480).chain(510..550).chain(0xeffff..0xf0008);
        let numbers = near.clone().chain(near.map(|n| n | X32_BIT)).chain([
            X32_BIT - 1,
            1 << 31,
            u32::MAX,
            u32::MAX - 1,
        ]);
        for number in numbers {
            for _ in 0..arguments {
                let arguments = [(); 6].map(|()| values[random.below(values.len())]);
                let call = SeccompData {
                    number,
                    audit,
                    arguments,
                    big_endian,
                };
                let got = run(&filter.program, &call);
                let possible = naive(profile, family, &all, &call);
                assert!(
                    possible.contains(&got),
                    "{call:x?}: {got:x} of {possible:x?}: {}",
                    serde_json::to_string(profile).unwrap()
                );
                compared += 1;
            }
        }
    }
    compared
}

/// True if the only violations are rules that libseccomp refuses as well.
fn is_contradiction(violations: &[Violation]) -> bool {
    violations
        .iter()
        .all(|violation| violation.to_string().contains("has another action"))
}

/// A generator that yields the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % end
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }
}

/// Makes a profile like the engines' defaults: a long list of allowed calls, some of them with
/// conditions on arguments.
fn engine_like_profile() -> LinuxSeccomp {
    let allowed: Vec<&str> = crate::plan::seccomp_arch::names()
        .enumerate()
        .filter(|(index, name)| index % 7 != 3 || *name == "execve")
        .map(|(_, name)| name)
        .filter(|name| {
            !["clone", "clone3", "personality", "socket", "ptrace", "bpf"].contains(name)
        })
        .collect();
    let personality = |value: u64| json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]});
    profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": [
            {"names": allowed, "action": "SCMP_ACT_ALLOW"},
            personality(0), personality(8), personality(0x20000), personality(0x20008), personality(0xffff_ffff),
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0x7e02_0000_u32, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["ptrace", "no_such_call"], "action": "SCMP_ACT_LOG"},
        ],
    }))
}

/// Makes a random profile. With `conflicts` its rules have several actions, so that it matters
/// which matching rule counts.
fn random_profile(random: &mut Random, conflicts: bool) -> LinuxSeccomp {
    const ACTIONS: [&str; 7] = [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_LOG",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_KILL",
    ];
    const NAMES: [&str; 20] = [
        "read",
        "write",
        "socket",
        "connect",
        "semop",
        "clone",
        "personality",
        "mmap",
        "mmap2",
        "ioctl",
        "socketcall",
        "ipc",
        "openat2",
        "close_range",
        "set_tls",
        "setuid32",
        "futex_wait",
        "waitpid",
        "s390_pci_mmio_read",
        "unknown_call",
    ];
    const OPS: [&str; 7] = [
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    ];
    let with_errno = |random: &mut Random, action: &str| -> Value {
        if action == "SCMP_ACT_ERRNO" || action == "SCMP_ACT_TRACE" {
            random.of(&[json!(null), json!(2), json!(38), json!(4094)])
        } else {
            json!(null)
        }
    };
    let action = random.of(&ACTIONS);
    let errno = with_errno(random, action);
    let mut syscalls = vec![
        json!({"names": ["execve"], "action": if action == "SCMP_ACT_ALLOW" { "SCMP_ACT_LOG" } else { "SCMP_ACT_ALLOW" }}),
    ];
    // With few calls, arguments and values, the rules interfere with each other.
    let few: Vec<&str> = (0..3).map(|_| random.of(&NAMES)).collect();
    let (few, arguments) = random.of(&[(few, 2), (NAMES.to_vec(), 6)]);
    let only = random.of(&ACTIONS);
    let only_errno = with_errno(random, only);
    for _ in 0..random.below(14) {
        let (action, errno) = if conflicts {
            let action = random.of(&ACTIONS);
            (action, with_errno(random, action))
        } else {
            (only, only_errno.clone())
        };
        let names: Vec<&str> = (0..=random.below(3)).map(|_| random.of(&few)).collect();
        let args: Vec<Value> = (0..random.below(4))
            .map(|_| {
                let value = random.of(&[0, 1, 5, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, 0x1_0000_0005, u64::MAX]);
                let two = random.of(&[0, 1, 5, 0x1_0000_0000_u64]);
                json!({"index": random.below(arguments), "op": random.of(&OPS), "value": value, "valueTwo": two})
            })
            .collect();
        syscalls.push(json!({"names": names, "action": action, "errnoRet": errno, "args": args}));
    }
    let archs: Vec<&str> = [
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_ARM",
        "SCMP_ARCH_S390",
    ]
    .into_iter()
    .filter(|_| random.below(2) == 0)
    .collect();
    profile(
        json!({"defaultAction": action, "defaultErrnoRet": errno, "architectures": archs, "syscalls": syscalls}),
    )
}

#[test]
fn a_profile_like_an_engines_means_what_it_says_on_every_architecture() {
    let mut random = Random(1);
    for family in FAMILIES {
        assert!(compare(&engine_like_profile(), family, 6, &mut random) > 10_000);
    }
}

#[test]
fn random_profiles_mean_what_they_say() {
    let mut random = Random(2);
    let mut contradicting = 0;
    for index in 0..600 {
        let profile = random_profile(&mut random, true);
        let family = if index % 3 == 0 {
            random.of(FAMILIES)
        } else {
            FAMILIES[0]
        };
        if compare(&profile, family, 1, &mut random) == 0 {
            contradicting += 1;
        }
    }
    assert!(contradicting < 100, "{contradicting}");
}

/// Returns the default linux.seccomp of engines, on x86_64 and with their default capabilities.
fn engines() -> [(&'static str, LinuxSeccomp); 2] {
    [("docker's profile", DOCKER), ("podman's profile", PODMAN)].map(|(engine, text)| {
        let mut config: Value = serde_json::from_str(text).unwrap();
        (engine, profile(config["linux"]["seccomp"].take()))
    })
}

const DOCKER: &str = include_str!("../../../tests/configs/docker-26.1.json");
const PODMAN: &str = include_str!("../../../tests/configs/podman-5.4.json");

#[test]
fn the_profiles_of_engines_mean_what_they_say() {
    for (engine, profile) in engines() {
        let filter = compile_for_family(&profile, FAMILIES[0]).unwrap();
        let length = filter.program.len();
        assert!(length < 430, "{engine}: {length}");
        compare(&profile, FAMILIES[0], 20, &mut Random(3));
    }
}

/// Returns the answer of a profile to a call of x86_64 without arguments.
fn on_x86_64(value: Value, number: u32) -> u32 {
    let filter = compile_for_family(&profile(value), FAMILIES[0]).unwrap();
    let call = SeccompData {
        number,
        audit: X86_64.audit,
        arguments: [0; 6],
        big_endian: false,
    };
    run(&filter.program, &call)
}

#[test]
fn calls_newer_than_the_newest_of_the_profile_do_not_exist() {
    // prlimit64 has the number 302, and name_to_handle_at has 303.
    let with = |default: &str| {
        let names = ["execve", "prlimit64"];
        json!({"defaultAction": default, "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]})
    };
    for (default, refused) in [("SCMP_ACT_ERRNO", EPERM), ("SCMP_ACT_KILL", KILL)] {
        assert_eq!(on_x86_64(with(default), 302), ALLOW);
        assert_eq!(on_x86_64(with(default), 301), refused);
        assert_eq!(on_x86_64(with(default), 303), ENOSYS);
    }
    assert_eq!(on_x86_64(with("SCMP_ACT_LOG"), 303), 0x7ffc_0000);
}

#[test]
fn the_first_rule_without_conditions_rules_alone() {
    let by = |op: &str, action: &str| json!({"names": ["kill"], "action": action, "args": [{"index": 0, "op": op, "value": 0}]});
    let all = |action: &str| json!({"names": ["kill"], "action": action});
    let of = |syscalls: &[Value]| {
        on_x86_64(
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls}),
            62,
        )
    };
    let (trap, log, kill) = (0x0003_0000, 0x7ffc_0000, 0x8000_0000);
    let conditional = by("SCMP_CMP_EQ", "SCMP_ACT_TRAP");
    assert_eq!(of(std::slice::from_ref(&conditional)), trap);
    assert_eq!(of(&[conditional.clone(), all("SCMP_ACT_LOG")]), log);
    assert_eq!(of(&[all("SCMP_ACT_LOG"), conditional.clone()]), log);
    assert_eq!(
        of(&[all("SCMP_ACT_LOG"), all("SCMP_ACT_KILL_PROCESS")]),
        log
    );
    assert_eq!(of(&[by("SCMP_CMP_NE", "SCMP_ACT_LOG"), conditional]), trap);
    // Rules with the default answer do not count.
    assert_eq!(
        of(&[all("SCMP_ACT_ALLOW"), all("SCMP_ACT_KILL_PROCESS")]),
        kill
    );
}

#[test]
fn a_filter_too_long_for_the_kernel_is_a_violation() {
    let rule = |value: u64| json!({"names": ["kill"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": value}]});
    let syscalls: Vec<Value> = (0..1025).map(|n| rule(n << 32)).collect();
    let told = refused(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls}));
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("config.json: linux.seccomp.syscalls: makes a program of "),
        "{told:?}"
    );
}

#[test]
fn without_a_list_of_flags_there_is_spec_allow() {
    let flags = |list: Value| {
        let value = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": list});
        compile_for_family(&profile(value), FAMILIES[0])
            .unwrap()
            .flags
    };
    assert_eq!(flags(json!(null)), FILTER_FLAG_SPEC_ALLOW);
    assert_eq!(flags(json!([])), 0);
    assert_eq!(
        flags(json!([
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
        ])),
        LOG
    );
}
