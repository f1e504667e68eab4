//! Filters compared with those that Debian's libseccomp makes of the same profile.
//! Skipped where libseccomp-dev or a C compiler isn't installed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;

/// Compiles the oracle; `None` where that can't be done.
fn oracle() -> Option<PathBuf> {
    let program = std::env::temp_dir().join(format!("orlop-oracle-{}", std::process::id()));
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

/// What libseccomp makes of a profile; `None` if rules contradict each other for it.
fn filter(oracle: &Path, profile: &LinuxSeccomp) -> Option<Vec<Instruction>> {
    let of = |action, errno| answer(action, errno, String::new).unwrap();
    let archs = profile.architectures().clone().unwrap_or_default();
    let default = of(profile.default_action(), profile.default_errno_ret());
    let mut text = format!("{default} {}", archs.len());
    for arch in archs {
        write!(text, " {}", arch as u32).unwrap();
    }
    for (index, call) in profile.syscalls().iter().flatten().enumerate() {
        for rule in rules(call, &index.to_string(), &mut Vec::new()).unwrap() {
            write!(
                text,
                "\n{} {} {}",
                rule.name,
                rule.answer,
                rule.conditions.len()
            )
            .unwrap();
            for Condition {
                argument,
                op,
                value,
            } in rule.conditions
            {
                let (op, a, b) = match op {
                    Op::NotEqual => (1, value, 0),
                    Op::Less => (2, value, 0),
                    Op::AtMost => (3, value, 0),
                    Op::Equal => (4, value, 0),
                    Op::AtLeast => (5, value, 0),
                    Op::Greater => (6, value, 0),
                    Op::Masked(mask) => (7, mask, value),
                };
                write!(text, " {argument} {op} {a} {b}").unwrap();
            }
        }
    }
    let mut child = Command::new(oracle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
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
        yes: bytes[2],
        no: bytes[3],
        operand: u32::from_ne_bytes(bytes[4..8].try_into().unwrap()),
    };
    match output.status.code() {
        Some(0) => Some(output.stdout.chunks_exact(8).map(instruction).collect()),
        Some(3) => None,
        other => panic!("the oracle ends with {other:?} at {text}"),
    }
}

/// Compares over the calls that both know; answers how many answers there were.
fn differences(oracle: &Path, profile: &LinuxSeccomp, random: &mut Random) -> Option<usize> {
    let family = FAMILIES[0];
    let theirs = filter(oracle, profile)?;
    let ours = for_family(profile, family).unwrap().program;
    let values = boundaries(profile);
    let mut compared = 0;
    for arch in family {
        // Above are calls that runc answers before libseccomp's filter is asked.
        let newest = numbered(profile, arch)
            .iter()
            .filter_map(|(.., n)| *n)
            .max();
        let newest = newest.map_or(arch.base, |n| n.min(arch.base + 440));
        for number in arch.base..=newest {
            for _ in 0..20 {
                let arguments = [(); 6].map(|()| values[random.below(values.len())]);
                let call = Call {
                    number,
                    audit: arch.audit,
                    arguments,
                    big_endian: false,
                };
                compared += 1;
                let (ours, theirs) = (run(&ours, &call), run(&theirs, &call));
                if ours != theirs {
                    let profile = serde_json::to_string(profile).unwrap();
                    panic!("{call:x?}: {ours:#x}, libseccomp {theirs:#x}: {profile}");
                }
            }
        }
    }
    Some(compared)
}

/// Makes a profile one of those that libseccomp 2.5 is right about: it walks a tree of conditions, and when one rule of a call
/// has matched half, as a 64-bit comparison may, it looks at no other rule of that call. So either each rule is one comparison
/// for equality, or each call has one rule.
fn simplified(profile: &mut LinuxSeccomp, single: bool) {
    let mut calls = profile.syscalls().clone().unwrap_or_default();
    let mut seen: Vec<String> = Vec::new();
    for call in &mut calls {
        let mut args = call.args().clone().unwrap_or_default();
        if single {
            args.truncate(1);
            for arg in &mut args {
                let (index, value) = (arg.index(), arg.value());
                let equal = json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
                *arg = serde_json::from_value(equal).unwrap();
            }
        } else {
            args.sort_by_key(LinuxSeccompArg::index);
            args.dedup_by_key(|arg| arg.index());
            let mut names = call.names().clone();
            names.sort_unstable();
            names.dedup();
            names.retain(|name| {
                !seen.contains(name) && !name.starts_with("socketcall") && name != "ipc"
            });
            for (table, whole) in [(SOCKET, "socketcall"), (IPC, "ipc")] {
                if names.iter().any(|name| member(table, name).is_some()) {
                    seen.push(whole.into());
                }
            }
            seen.extend(names.clone());
            call.set_names(names);
        }
        call.set_args(Some(args));
    }
    calls.retain(|call| !call.names().is_empty());
    profile.set_syscalls(Some(calls));
}

#[test]
fn filters_answer_as_those_of_libseccomp() {
    let Some(oracle) = oracle() else {
        return crate::skipped::because("no cc with libseccomp-dev here");
    };
    let mut random = Random(5);
    let (mut compared, mut contradicting) = (0, 0);
    for index in 0..300 {
        let mut profile = random_profile(&mut random, false);
        simplified(&mut profile, index % 2 == 0);
        let mut listed = profile.architectures().clone().unwrap_or_default();
        listed.retain(|arch| *arch != Named::ScmpArchS390);
        profile.set_architectures(Some(listed));
        match differences(&oracle, &profile, &mut random) {
            Some(count) => compared += count,
            None => contradicting += 1,
        }
    }
    std::fs::remove_file(oracle).unwrap();
    assert!(compared > 1_000_000, "{compared}");
    assert!(contradicting < 30, "{contradicting}");
}
