//! linux.seccomp as the program that the kernel runs at every system call, with the meaning that libseccomp and runc give it.
//! Setting it is the child's, when its identity says so.

mod emit;
mod program;
mod rules;

use std::path::PathBuf;

use oci_spec::runtime::{
    Arch as Named, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompFilterFlag as Flag, LinuxSeccompOperator as Operator, LinuxSyscall,
};

use super::seccomp_arch::{Arch, FAMILIES, Family, is_known, native};
use crate::error::Violation;
use crate::sys::seccomp::{
    Instruction, LOG, LONGEST, NEW_LISTENER, SPEC_ALLOW, WAIT_KILLABLE_RECV,
};
use rules::{Answer, Condition, Decision, Op, Profile, Ranges, Rule};

/// A filter, ready to be set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) program: Vec<Instruction>,
    /// Of seccomp(2).
    pub(crate) flags: u32,
    /// Who answers calls in the place of the kernel.
    pub(crate) listener: Option<Listener>,
    /// What the profile asks for in vain.
    pub(crate) warnings: Vec<String>,
}

/// A seccomp agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Where it listens: a UNIX socket.
    pub(crate) path: PathBuf,
    pub(crate) metadata: Option<String>,
}

/// The actions that a profile may name.
pub(crate) const ACTIONS: [Action; 9] = [
    Action::ScmpActAllow,
    Action::ScmpActErrno,
    Action::ScmpActKill,
    Action::ScmpActKillProcess,
    Action::ScmpActKillThread,
    Action::ScmpActLog,
    Action::ScmpActNotify,
    Action::ScmpActTrace,
    Action::ScmpActTrap,
];

/// The operators that it may name.
pub(crate) const OPERATORS: [Operator; 7] = [
    Operator::ScmpCmpEq,
    Operator::ScmpCmpGe,
    Operator::ScmpCmpGt,
    Operator::ScmpCmpLe,
    Operator::ScmpCmpLt,
    Operator::ScmpCmpMaskedEq,
    Operator::ScmpCmpNe,
];

/// The flags that it may name, and what they are to the kernel. TSYNC means nothing to a process of one thread.
pub(crate) const FLAGS: [(Flag, u32); 4] = [
    (Flag::SeccompFilterFlagLog, LOG),
    (Flag::SeccompFilterFlagSpecAllow, SPEC_ALLOW),
    (Flag::SeccompFilterFlagTsync, 0),
    (Flag::SeccompFilterFlagWaitKillableRecv, WAIT_KILLABLE_RECV),
];

/// The architectures that it may name with an effect on some machine.
pub(crate) fn archs() -> impl Iterator<Item = Named> {
    FAMILIES.iter().copied().flatten().map(|arch| arch.named)
}

/// The largest errno that the kernel hands to a program.
const LARGEST_ERRNO: u32 = 4095;
/// EPERM, the default of the specification.
const DEFAULT_ERRNO: u32 = 1;

/// The calls by which a listener is handed on; nobody could answer them yet.
const HANDING_ON: [&str; 2] = ["sendmsg", "write"];

/// Plans the filter of a profile, for the machine that this program was built for.
pub(crate) fn plan(configured: &LinuxSeccomp) -> Result<Filter, Vec<Violation>> {
    match native() {
        Some(family) => for_family(configured, family),
        None => {
            let problem = "the system calls of this machine's architecture are not known";
            Err(vec![Violation::new(PLACE, problem)])
        }
    }
}

const PLACE: &str = "linux.seccomp";

fn for_family(configured: &LinuxSeccomp, family: Family) -> Result<Filter, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut warnings = Vec::new();
    let default = configured.default_action();
    let default_answer = answer(default, configured.default_errno_ret(), || {
        format!("{PLACE}.defaultErrnoRet")
    });
    let default_answer = default_answer.unwrap_or_else(|violation| {
        violations.push(violation);
        0
    });
    if default == Action::ScmpActNotify {
        let problem =
            "SCMP_ACT_NOTIFY cannot be the default: the agent could not be told of itself";
        violations.push(Violation::new(format!("{PLACE}.defaultAction"), problem));
    }
    let mut rules = Vec::new();
    for (index, call) in configured.syscalls().iter().flatten().enumerate() {
        let place = format!("{PLACE}.syscalls[{index}]");
        match self::rules(call, &place, &mut warnings) {
            Ok(more) => rules.extend(more),
            Err(found) => violations.extend(found),
        }
    }
    let notifies = |call: &LinuxSyscall| call.action() == Action::ScmpActNotify;
    let has_listener = configured.syscalls().iter().flatten().any(notifies);
    let listener = listener(configured, has_listener).map_err(|found| violations.push(found));
    let profile = Profile {
        default: default_answer,
        newer_are_unknown: !matches!(
            default,
            Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace
        ),
        archs: chosen(configured.architectures().as_deref(), family, &mut warnings),
        rules,
    };
    let ranges = rules::ranges(&profile);
    if violations.is_empty() {
        violations.extend(starts_nothing(&profile, &ranges));
    }
    let program = program::assemble(&profile, &ranges).map_err(|length| {
        let problem = format!(
            "makes a program of {length} instructions, and the kernel takes {LONGEST} at most"
        );
        violations.push(Violation::new(format!("{PLACE}.syscalls"), problem));
    });
    match (program, listener) {
        (Ok(program), Ok(listener)) if violations.is_empty() => Ok(Filter {
            program,
            flags: flags(configured.flags().as_deref(), listener.is_some()),
            listener,
            warnings,
        }),
        _ => Err(violations),
    }
}

/// The listed architectures that this machine can have, and always its own.
fn chosen(
    listed: Option<&[Named]>,
    family: Family,
    warnings: &mut Vec<String>,
) -> Vec<&'static Arch> {
    let listed = listed.unwrap_or_default();
    for (index, named) in listed.iter().enumerate() {
        let possible =
            *named == Named::ScmpArchNative || family.iter().any(|arch| arch.named == *named);
        if !possible {
            warnings.push(format!("{PLACE}.architectures[{index}]: {named} is ignored: this machine's kernel has no such programs"));
        }
    }
    let own = family.first().map(|arch| arch.named);
    let wanted = |arch: &&&Arch| Some(arch.named) == own || listed.contains(&arch.named);
    family.iter().filter(wanted).copied().collect()
}

/// The flags of seccomp(2). A profile without a list of them has SPEC_ALLOW, as in runc.
fn flags(listed: Option<&[Flag]>, listener: bool) -> u32 {
    let wanted = listed.unwrap_or(&[Flag::SeccompFilterFlagSpecAllow]);
    let known = FLAGS.iter().filter(|(flag, _)| wanted.contains(flag));
    let mut flags = known.fold(0, |flags, (_, bit)| flags | bit);
    if listener {
        flags |= NEW_LISTENER;
    } else {
        // The kernel refuses it where nobody receives anything.
        flags &= !WAIT_KILLABLE_RECV;
    }
    flags
}

fn listener(configured: &LinuxSeccomp, wanted: bool) -> Result<Option<Listener>, Violation> {
    let path = configured
        .listener_path()
        .as_ref()
        .filter(|path| !path.as_os_str().is_empty());
    let metadata = configured
        .listener_metadata()
        .clone()
        .filter(|text| !text.is_empty());
    match (path, wanted) {
        (None, true) => Err(Violation::new(
            format!("{PLACE}.listenerPath"),
            "missing; it is needed for SCMP_ACT_NOTIFY",
        )),
        (None, false) if metadata.is_some() => Err(Violation::new(
            format!("{PLACE}.listenerMetadata"),
            "must not be set without listenerPath",
        )),
        (Some(path), true) => Ok(Some(Listener {
            path: path.clone(),
            metadata,
        })),
        (_, false) => Ok(None),
    }
}

/// A filter that stops the program from being run can only be a mistake; the kernel would end the container without a word.
fn starts_nothing(profile: &Profile, ranges: &[(&Arch, Ranges)]) -> Option<Violation> {
    const ACTION: u32 = 0xffff_0000;
    let runs = |answer: Answer| (answer & ACTION) >= 0x7fc0_0000 && answer & ACTION != 0x8000_0000;
    let own = profile.archs.first()?;
    let number = own.number("execve")?;
    let (_, ranges) = ranges.first()?;
    let (_, decision) = ranges.iter().rev().find(|(first, _)| *first <= number)?;
    match decision {
        Decision::Always(answer) if !runs(*answer) => Some(Violation::new(
            PLACE,
            "does not allow execve: no program could be run",
        )),
        _ => None,
    }
}

/// The rules of one entry of syscalls.
fn rules(
    call: &LinuxSyscall,
    place: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<Rule>, Vec<Violation>> {
    let mut violations = Vec::new();
    if call.names().is_empty() {
        violations.push(Violation::new(
            format!("{place}.names"),
            "must not be empty",
        ));
    }
    for (index, name) in call.names().iter().enumerate() {
        let place = || format!("{place}.names[{index}]");
        if name.is_empty() {
            violations.push(Violation::new(place(), "must not be empty"));
        } else if call.action() == Action::ScmpActNotify && HANDING_ON.contains(&name.as_str()) {
            let problem = format!(
                "SCMP_ACT_NOTIFY cannot be used for {name}, by which the agent is told of the container"
            );
            violations.push(Violation::new(place(), problem));
        } else if !is_known(name) {
            let place = place();
            warnings.push(format!("{place}: unknown system call {name:?}, ignored"));
        }
    }
    let answer = answer(call.action(), call.errno_ret(), || {
        format!("{place}.errnoRet")
    });
    let mut conditions = Vec::new();
    for (index, arg) in call.args().iter().flatten().enumerate() {
        match condition(arg) {
            Some(condition) => conditions.push(condition),
            None => violations.push(Violation::new(
                format!("{place}.args[{index}].index"),
                format!(
                    "{} is no argument of a system call: they are 0 to 5",
                    arg.index()
                ),
            )),
        }
    }
    let answer = match answer {
        Ok(answer) if violations.is_empty() => answer,
        Ok(_) => return Err(violations),
        Err(violation) => {
            violations.push(violation);
            return Err(violations);
        }
    };
    // Two conditions on one argument are alternatives, as they were before profiles could have several arguments; so runc.
    let repeated = conditions.iter().enumerate().any(|(index, condition)| {
        conditions
            .iter()
            .take(index)
            .any(|other| other.argument == condition.argument)
    });
    let alternatives: Vec<Vec<Condition>> = if repeated {
        conditions
            .into_iter()
            .map(|condition| vec![condition])
            .collect()
    } else {
        vec![conditions]
    };
    let rule = |name: &String| {
        let name = name.clone();
        alternatives.iter().map(move |conditions| Rule {
            name: name.clone(),
            answer,
            conditions: conditions.clone(),
        })
    };
    Ok(call.names().iter().flat_map(rule).collect())
}

fn condition(arg: &LinuxSeccompArg) -> Option<Condition> {
    let argument = u32::try_from(arg.index()).ok().filter(|index| *index < 6)?;
    let value = arg.value();
    let (op, value) = match arg.op() {
        Operator::ScmpCmpNe => (Op::NotEqual, value),
        Operator::ScmpCmpLt => (Op::Less, value),
        Operator::ScmpCmpLe => (Op::AtMost, value),
        Operator::ScmpCmpEq => (Op::Equal, value),
        Operator::ScmpCmpGe => (Op::AtLeast, value),
        Operator::ScmpCmpGt => (Op::Greater, value),
        Operator::ScmpCmpMaskedEq => (Op::Masked(value), arg.value_two().unwrap_or(0)),
    };
    Some(Condition {
        argument,
        op,
        value,
    })
}

/// What an action is to the kernel, linux/seccomp.h.
fn answer(
    action: Action,
    errno: Option<u32>,
    place: impl Fn() -> String,
) -> Result<Answer, Violation> {
    let (value, largest) = match action {
        Action::ScmpActErrno => (0x0005_0000, LARGEST_ERRNO),
        Action::ScmpActTrace => (0x7ff0_0000, 0xffff),
        other if errno.is_some() => {
            return Err(Violation::new(place(), format!("{other} has no errno")));
        }
        Action::ScmpActKill | Action::ScmpActKillThread => return Ok(0),
        Action::ScmpActKillProcess => return Ok(0x8000_0000),
        Action::ScmpActTrap => return Ok(0x0003_0000),
        Action::ScmpActNotify => return Ok(0x7fc0_0000),
        Action::ScmpActLog => return Ok(0x7ffc_0000),
        Action::ScmpActAllow => return Ok(0x7fff_0000),
    };
    let errno = errno.unwrap_or(DEFAULT_ERRNO);
    if errno > largest {
        return Err(Violation::new(
            place(),
            format!("{errno} is more than {largest}"),
        ));
    }
    Ok(value | errno)
}

#[cfg(test)]
mod tests;
