//! Seccomp profiles. The kernel checks each program, and an interpreter of the kernel's language
//! runs it on calls near all values of the profile. The answer must be that of a rule that holds, if
//! the rules are read one by one.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use oci_spec::runtime::{
    Arch as Named, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};
use serde_json::{Value, json};

use super::{CONFIGS, Target, a_line, file, fill, refusals};
use crate::plan::seccomp;
use crate::plan::seccomp_arch::{Arch, SystemCall, X32_BIT, native};
use crate::sys::seccomp::Instruction;
use crate::{Random, mutation, spec};

/// The number of calls for which each program is run.
const CALLS: usize = 400;

/// The data that a filter reads, as bytes: struct seccomp_data.
struct Data {
    number: u32,
    audit: u32,
    arguments: [u64; 6],
}

impl Data {
    /// Returns the word at an offset.
    fn word(&self, offset: u32) -> Option<u32> {
        let mut bytes = self.number.to_ne_bytes().to_vec();
        bytes.extend(self.audit.to_ne_bytes());
        // The address of the instruction, which no profile can name.
        bytes.extend(0x5555_u64.to_ne_bytes());
        self.arguments
            .iter()
            .for_each(|argument| bytes.extend(argument.to_ne_bytes()));
        let offset = offset as usize;
        let word = bytes.get(offset..offset + 4)?;
        (offset % 4 == 0).then(|| u32::from_ne_bytes(word.try_into().unwrap_or_default()))
    }
}

/// Runs a program as Documentation/networking/filter.rst says. `Err` says why the kernel would
/// refuse the program.
fn run(program: &[Instruction], data: &Data) -> Result<u32, String> {
    let (mut accumulator, mut at) = (0_u32, 0_usize);
    while let Some(instruction) = program.get(at) {
        at += 1;
        let (code, k) = (u32::from(instruction.code), instruction.k);
        let class = code & 7;
        match class {
            libc::BPF_LD if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                accumulator = data.word(k).ok_or(format!("a load from {k}"))?;
            }
            libc::BPF_ALU if code == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => {
                accumulator &= k;
            }
            libc::BPF_RET if code == libc::BPF_RET | libc::BPF_K => return Ok(k),
            libc::BPF_JMP if code == libc::BPF_JMP | libc::BPF_JA => at += k as usize,
            libc::BPF_JMP => {
                let holds = match code & 0xf8 {
                    libc::BPF_JEQ => accumulator == k,
                    libc::BPF_JGT => accumulator > k,
                    libc::BPF_JGE => accumulator >= k,
                    libc::BPF_JSET => accumulator & k != 0,
                    _ => return Err(format!("code {code:#x}")),
                };
                at += usize::from(if holds {
                    instruction.jt
                } else {
                    instruction.jf
                });
            }
            _ => return Err(format!("code {code:#x}")),
        }
    }
    Err("no return".to_owned())
}

/// Has the kernel check a program, as a filter of a socket: each jump stays inside the program, and
/// each way ends in a return.
fn check(socket: &OwnedFd, program: &[Instruction]) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut().cast(),
    };
    attach(socket.as_raw_fd(), &program)
}

#[allow(unsafe_code)]
fn attach(socket: i32, program: &libc::sock_fprog) -> Result<(), Errno> {
    let size = size_of::<libc::sock_fprog>() as u32;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: the program and what it points to outlive the call.
    let result = unsafe {
        libc::setsockopt(
            socket,
            level,
            option,
            std::ptr::from_ref(program).cast(),
            size,
        )
    };
    Errno::result(result).map(drop)
}

/// Returns the number that the kernel defines for an action; `None` if it can't be.
fn answer(action: Action, errno: Option<u32>) -> Option<u32> {
    let number = errno.unwrap_or(libc::EPERM as u32);
    Some(match action {
        Action::ScmpActErrno if number < 4096 => 0x5_0000 | number,
        Action::ScmpActTrace if number < 0x1_0000 => 0x7ff0_0000 | number,
        Action::ScmpActErrno | Action::ScmpActTrace => return None,
        _ if errno.is_some() => return None,
        Action::ScmpActKill | Action::ScmpActKillThread => 0,
        Action::ScmpActKillProcess => 0x8000_0000,
        Action::ScmpActTrap => 0x3_0000,
        Action::ScmpActNotify => 0x7fc0_0000,
        Action::ScmpActLog => 0x7ffc_0000,
        Action::ScmpActAllow => 0x7fff_0000,
    })
}

const KILL_THREAD: u32 = 0;
const ENOSYS: u32 = 0x5_0000 | libc::ENOSYS as u32;

/// True if a condition holds for a call.
fn holds(arg: &LinuxSeccompArg, call: &Data, width: u64) -> bool {
    let given = call.arguments[arg.index()] & width;
    let value = arg.value() & width;
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

/// Returns the lists of conditions of an entry. Two conditions on one argument make all of them
/// alternatives, as in runc.
fn alternatives(entry: &LinuxSyscall) -> Vec<Vec<LinuxSeccompArg>> {
    let args = entry.args().clone().unwrap_or_default();
    let is_repeated = |index| args.iter().filter(|arg| arg.index() == index).count() > 1;
    match (0..6).any(is_repeated) {
        true => args.into_iter().map(|arg| vec![arg]).collect(),
        false => vec![args],
    }
}

/// A profile, with the numbers of its calls on one architecture.
struct Reading<'a> {
    profile: &'a LinuxSeccomp,
    arch: &'static Arch,
    is_listed: bool,
    /// Entries with the number of a call, and the first argument if the number is that of a
    /// multiplexer.
    rules: Vec<(&'a LinuxSyscall, u32, Option<u64>)>,
    newest: Option<u32>,
}

impl<'a> Reading<'a> {
    fn new(profile: &'a LinuxSeccomp, arch: &'static Arch, own: bool) -> Reading<'a> {
        let listed = profile.architectures().as_deref().unwrap_or_default();
        let mut rules = Vec::new();
        let mut newest = None;
        for entry in profile.syscalls().iter().flatten() {
            for call in entry
                .names()
                .iter()
                .filter_map(|name| SystemCall::by_name(name))
            {
                let number = arch.call_number(call);
                newest = newest.max(number);
                rules.extend(number.map(|number| (entry, number, None)));
                let group = call.multiplexer();
                let group =
                    group.and_then(|(group, first)| Some((arch.call_number(group)?, first)));
                rules.extend(group.map(|(number, first)| (entry, number, Some(first))));
            }
        }
        let is_listed = own || listed.contains(&arch.named);
        Reading {
            profile,
            arch,
            is_listed,
            rules,
            newest,
        }
    }

    /// Returns the answers that the profile allows for a call. If several rules hold, which of them
    /// counts is up to libseccomp.
    fn answers(&self, call: &Data, default: u32) -> Vec<u32> {
        let is_x32 = self.arch.base == X32_BIT;
        if !self.is_listed {
            // With -1 a tracer skips a call.
            return vec![if is_x32 && call.number == u32::MAX {
                default
            } else {
                KILL_THREAD
            }];
        }
        let default_action = self.profile.default_action();
        let is_lenient = matches!(
            default_action,
            Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace
        );
        if !is_lenient && self.newest.is_some_and(|newest| call.number > newest) {
            return vec![ENOSYS];
        }
        let lists_x32 = self
            .profile
            .architectures()
            .iter()
            .flatten()
            .any(|of| *of == Named::ScmpArchX32);
        if self.arch.named == Named::ScmpArchX86_64 && call.number >= X32_BIT && !lists_x32 {
            return vec![KILL_THREAD];
        }
        let width = if self.arch.is_64 {
            u64::MAX
        } else {
            u32::MAX.into()
        };
        let mut answers = Vec::new();
        for (entry, number, first) in &self.rules {
            let answer = answer(entry.action(), entry.errno_ret()).unwrap_or_default();
            if *number != call.number || answer == default {
                continue;
            }
            for conditions in alternatives(entry) {
                let always = |arg: &LinuxSeccompArg| {
                    arg.op() == Operator::ScmpCmpMaskedEq && arg.value() & width == 0
                };
                // The first rule without a condition rules alone.
                if first.is_none() && conditions.iter().all(always) {
                    return vec![answer];
                }
                let hold = |arg: &LinuxSeccompArg| match first {
                    // The other arguments are behind a pointer, but are compared all the same.
                    Some(_) => arg.index() == 0 || holds(arg, call, width),
                    None => holds(arg, call, width),
                };
                let member = first.is_none_or(|first| call.arguments[0] & width == first);
                if member && conditions.iter().all(hold) {
                    answers.push(answer);
                }
            }
        }
        if answers.is_empty() {
            answers.push(default);
        }
        answers
    }
}

/// Makes a call near the values of a profile.
fn call(profile: &LinuxSeccomp, readings: &[Reading<'_>], random: &mut Random) -> Data {
    let audit = match random.below(12) {
        0 => random.next() as u32,
        _ => random.of(readings).arch.audit,
    };
    let numbers = random.of(readings);
    let number = match random.below(8) {
        0 => *random.of(&[
            0,
            X32_BIT - 1,
            X32_BIT,
            1 << 31,
            3 << 30,
            u32::MAX - 1,
            u32::MAX,
        ]),
        1 => random.below(600) as u32,
        2 => (random.below(600) as u32) | X32_BIT,
        _ if numbers.rules.is_empty() => 59,
        _ => random
            .of(&numbers.rules)
            .1
            .wrapping_add(*random.of(&[0, 0, 0, 0, 1, u32::MAX])),
    };
    let entries = profile.syscalls().as_deref().unwrap_or_default();
    let arguments = [(); 6].map(|()| {
        let plain = *random.of(&[0, 1, u64::MAX, u32::MAX.into(), 1 << 32, 1 << 63]);
        let args = match entries.is_empty() {
            true => None,
            false => random.of(entries).args().clone(),
        };
        let args = args.unwrap_or_default();
        if args.is_empty() || random.below(8) == 0 {
            return plain;
        }
        let arg = random.of(&args);
        let value = *random.of(&[arg.value(), arg.value_two().unwrap_or_default()]);
        match random.below(7) {
            0 => value.wrapping_sub(1),
            1 => value.wrapping_add(1),
            2 => value ^ (1 << 32),
            3 => !value,
            _ => value,
        }
    });
    Data {
        number,
        audit,
        arguments,
    }
}

const NAMES: [&str; 16] = [
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
    "execve",
    "setuid32",
    "unknown_call",
];

const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_NOTIFY",
];

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

const ARCHS: [&str; 5] = [
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_NATIVE",
    "SCMP_ARCH_ARM",
];

/// Makes an entry. Only a few names and values are used, so that rules meet.
fn new_entry(random: &mut Random) -> Value {
    let names: Vec<&str> = (0..=random.below(2)).map(|_| *random.of(&NAMES)).collect();
    let mut entry = json!({"names": names, "action": random.of(&ACTIONS)});
    if random.below(6) == 0 {
        entry["errnoRet"] = json!(random.of(&[0, 2, 38, 4095, 4096, 65_535, 65_536]));
    }
    let args: Vec<Value> = (0..random.below(4))
        .map(|_| {
            let value = random.of(&[0, 1, 5, 0x7fff_ffff, 0xffff_ffff, 1 << 32, 0x1_0000_0005, u64::MAX]);
            let two = random.of(&[0, 1, 5, 0x1_0000_0000_u64]);
            json!({"index": random.below(3), "op": random.of(&OPERATORS), "value": value, "valueTwo": two})
        })
        .collect();
    if !args.is_empty() {
        entry["args"] = json!(args);
    }
    entry
}

/// Changes an entry, the architectures or the default of a profile.
fn vary(profile: &mut Value, random: &mut Random) {
    match random.below(8) {
        0 => {
            let list: Vec<&&str> = ARCHS.iter().filter(|_| random.below(2) == 0).collect();
            profile["architectures"] = json!(list);
        }
        1 => profile["defaultAction"] = json!(random.of(&ACTIONS)),
        _ => {
            let mut entries = profile["syscalls"].as_array().cloned().unwrap_or_default();
            let at = random.below(entries.len() + 1);
            match random.below(4) {
                0 if at < entries.len() => drop(entries.remove(at)),
                1 if at < entries.len() => entries[at] = new_entry(random),
                2 if entries.get(at).is_some_and(Value::is_object) => {
                    entries[at]["action"] = json!(random.of(&ACTIONS));
                }
                _ => entries.insert(at, new_entry(random)),
            }
            profile["syscalls"] = json!(entries);
        }
    }
}

pub(super) struct Profiles {
    base: Value,
    socket: OwnedFd,
}

impl Profiles {
    pub(super) fn new() -> Profiles {
        let (socket, _) = crate::sys::socket::pair().expect("a socket");
        Profiles {
            base: serde_json::from_str(CONFIGS[4]).expect("a configuration"),
            socket,
        }
    }

    /// Compares the decisions of a program with the profile.
    fn compare(
        &self,
        profile: &LinuxSeccomp,
        program: &[Instruction],
        random: &mut Random,
    ) -> Result<(), String> {
        match check(&self.socket, program) {
            // The socket may not hold so large a program.
            Ok(()) | Err(Errno::ENOMEM) => {}
            Err(errno) => return Err(format!("the kernel refuses the program: {errno}")),
        }
        let family = native().ok_or("no table of calls")?;
        let of = |(index, arch): (usize, &&'static Arch)| Reading::new(profile, arch, index == 0);
        let readings: Vec<_> = family.iter().enumerate().map(of).collect();
        let default = answer(profile.default_action(), profile.default_errno_ret());
        let default = default.ok_or("a default that cannot be is accepted")?;
        for _ in 0..CALLS {
            let call = call(profile, &readings, random);
            let of = readings.iter().find(|reading| {
                let is_x32 = reading.arch.base == X32_BIT;
                let shares = family
                    .iter()
                    .any(|arch| arch.base == X32_BIT && arch.audit == call.audit);
                reading.arch.audit == call.audit
                    && (!shares || is_x32 == (call.number & X32_BIT != 0))
            });
            let possible = of.map_or(vec![KILL_THREAD], |reading| reading.answers(&call, default));
            let got = run(program, &call)?;
            if !possible.contains(&got) {
                return Err(format!(
                    "{got:#x} for {} of {:#x} with {:x?}, not one of {possible:x?}",
                    call.number, call.audit, call.arguments
                ));
            }
        }
        Ok(())
    }
}

/// True if no two rules can contradict each other.
fn is_of_one_action(profile: &LinuxSeccomp) -> bool {
    let mut entries = profile.syscalls().iter().flatten();
    let of = |entry: &LinuxSyscall| answer(entry.action(), entry.errno_ret());
    let first = entries.next().and_then(of);
    first.is_some() && entries.all(|entry| of(entry) == first)
}

impl Target for Profiles {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let of = |text: &&str| {
            let config: Value = serde_json::from_str(text).expect("a configuration");
            config["linux"]["seccomp"].to_string().into_bytes()
        };
        let small = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}]});
        let open = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"],
            "action": "SCMP_ACT_NOTIFY"}], "listenerPath": "/a", "listenerMetadata": "b",
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]});
        let own = [small, open].map(|profile| profile.to_string().into_bytes());
        own.into_iter().chain(CONFIGS.iter().map(of)).collect()
    }

    fn mutate(&self, base: Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
        match serde_json::from_slice::<Value>(&base) {
            Ok(mut profile) if profile.is_object() && random.below(3) > 0 => {
                (0..=random.below(4)).for_each(|_| vary(&mut profile, random));
                profile.to_string().into_bytes()
            }
            _ => mutation::mutate(base, random.of(corpus).clone().as_slice(), random),
        }
    }

    fn run(&mut self, input: &[u8]) -> Result<bool, String> {
        let Ok(profile) = serde_json::from_slice::<Value>(input) else {
            return Ok(false);
        };
        let mut config = self.base.clone();
        fill(&mut config, json!({"linux": {"seccomp": profile}}));
        let path = file("config");
        fs::write(&path, config.to_string()).map_err(|error| error.to_string())?;
        let loaded = match spec::load_config(&path) {
            Ok(loaded) => loaded,
            Err(error) => return a_line("an error", &error.to_string()).map(|()| false),
        };
        let linux = loaded.spec.linux().as_ref();
        let Some(profile) = linux.and_then(|linux| linux.seccomp().as_ref()) else {
            return Ok(false);
        };
        match seccomp::plan(profile) {
            Ok(filter) => {
                self.compare(profile, &filter.program, &mut Random::of_input(input))?;
                Ok(true)
            }
            Err(violations) => {
                let contradicts = |text: &str| text.contains("has another action");
                let is_wrong = violations
                    .iter()
                    .all(|found| contradicts(&found.to_string()));
                if is_wrong && is_of_one_action(profile) {
                    return Err("rules of one action contradict each other".to_owned());
                }
                refusals(&violations)
            }
        }
    }
}
