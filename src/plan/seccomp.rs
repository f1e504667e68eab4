//! Compiles linux.seccomp into the program that the kernel runs at every system call, with the
//! semantics of libseccomp and runc.
//! The child installs the program.
//!
//! The crate seccompiler is not used, because it supports only one action and one architecture per
//! filter. libseccomp is not used either, because it is C code and takes five times as long.

mod allowed;
mod annotated;
mod emit;
mod program;
mod raw;
mod rules;
mod tree;
mod verdict;

use std::path::PathBuf;

use nix::errno::Errno;
use oci_spec::runtime::{
    Arch as SpecArch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompFilterFlag as Flag, LinuxSeccompOperator as Operator, LinuxSyscall,
};

use super::seccomp_arch::{Arch, ArchFamily, FAMILIES, SystemCall, native};
use crate::diagnosis::Code;
use crate::error::Violation;
use crate::sys::seccomp::{
    BpfProgram, FILTER_FLAG_NEW_LISTENER, FILTER_FLAG_SPEC_ALLOW, FILTER_FLAG_WAIT_KILLABLE_RECV,
    LOG, LONGEST, SECCOMP_RET_ACTION_FULL, SECCOMP_RET_DATA, SECCOMP_RET_KILL_PROCESS,
    SECCOMP_RET_USER_NOTIF, SeccompAction, kernel_has_flag,
};
pub(crate) use annotated::plan_with;
use rules::{
    CallDecision, Condition, ConditionOperator, DecisionRanges, Error, FilterReturn, Profile,
    ProfileEntry,
};

/// A compiled filter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SeccompFilter {
    pub(crate) program: BpfProgram,
    /// Flags of seccomp(2).
    pub(crate) flags: u32,
    /// The seccomp agent, if there is one.
    pub(crate) listener: Option<AgentSocket>,
    /// Warnings about parts of the profile that have no effect here.
    pub(crate) warnings: Vec<Violation>,
}

/// A seccomp agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentSocket {
    /// The UNIX socket on which the agent listens.
    pub(crate) path: PathBuf,
    pub(crate) metadata: Option<String>,
}

/// The actions that profiles may use.
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

/// The operators that profiles may use.
pub(crate) const OPERATORS: [Operator; 7] = [
    Operator::ScmpCmpEq,
    Operator::ScmpCmpGe,
    Operator::ScmpCmpGt,
    Operator::ScmpCmpLe,
    Operator::ScmpCmpLt,
    Operator::ScmpCmpMaskedEq,
    Operator::ScmpCmpNe,
];

/// The flags that profiles may use, with their bits for seccomp(2). TSYNC has no effect on a
/// process with one thread.
pub(crate) const FLAGS: [(Flag, u32); 4] = [
    (Flag::SeccompFilterFlagLog, LOG),
    (Flag::SeccompFilterFlagSpecAllow, FILTER_FLAG_SPEC_ALLOW),
    (Flag::SeccompFilterFlagTsync, 0),
    (
        Flag::SeccompFilterFlagWaitKillableRecv,
        FILTER_FLAG_WAIT_KILLABLE_RECV,
    ),
];

/// The flags that this kernel supports.
pub(crate) fn supported_flags() -> impl Iterator<Item = Flag> {
    let supported = FLAGS.into_iter().filter(|(_, bit)| kernel_has_flag(*bit));
    supported.map(|(flag, _)| flag)
}

/// Returns the architectures of all known machines, as profiles name them.
pub(crate) fn archs() -> impl Iterator<Item = SpecArch> {
    FAMILIES.iter().copied().flatten().map(|arch| arch.named)
}

/// The largest errno that the kernel returns to a program.
const MAX_ERRNO: u32 = 4095;
/// The specification's default errno.
const DEFAULT_ERRNO: u32 = Errno::EPERM as u32;

/// The calls that send the listener to the agent. Before they succeed, nobody could answer a
/// notification about them.
const LISTENER_CALLS: [&str; 2] = ["sendmsg", "write"];

/// Compiles a profile for the architecture of this binary.
pub(crate) fn plan(configured: &LinuxSeccomp) -> Result<SeccompFilter, Vec<Violation>> {
    match native() {
        Some(family) => compile_for_family(configured, family),
        None => {
            let problem = "there is no table of system calls for the architecture of this machine";
            Err(vec![Violation::new(SECCOMP_FIELD, problem)])
        }
    }
}

const SECCOMP_FIELD: &str = "linux.seccomp";

fn compile_for_family(
    configured: &LinuxSeccomp,
    family: ArchFamily,
) -> Result<SeccompFilter, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut warnings = Vec::new();
    let default = configured.default_action();
    let default_answer = filter_return_value(default, configured.default_errno_ret(), || {
        format!("{SECCOMP_FIELD}.defaultErrnoRet")
    });
    let default_answer = default_answer.unwrap_or_else(|violation| {
        violations.push(violation);
        0
    });
    if default == Action::ScmpActNotify {
        let problem =
            "SCMP_ACT_NOTIFY cannot be the default: handing over the listener would need the agent";
        violations.push(Violation::new(
            format!("{SECCOMP_FIELD}.defaultAction"),
            problem,
        ));
    }
    let mut entries = Vec::new();
    for (index, configured) in configured.syscalls().iter().flatten().enumerate() {
        match resolve_entry(configured, index, &mut warnings) {
            // An entry without known calls makes no rules.
            Ok(entry) if entry.calls.is_empty() => {}
            Ok(entry) => entries.push(entry),
            Err(found) => violations.extend(found),
        }
    }
    let notifies = |call: &LinuxSyscall| call.action() == Action::ScmpActNotify;
    let has_listener = configured.syscalls().iter().flatten().any(notifies);
    let listener =
        plan_agent_socket(configured, has_listener).map_err(|found| violations.push(found));
    let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
    if !has_listener && configured.listener_path().as_ref().is_some_and(is_set) {
        warnings.push(Violation::ignored(
            format!("{SECCOMP_FIELD}.listenerPath"),
            "is ignored: there is no SCMP_ACT_NOTIFY",
        ));
    }
    let profile = Profile {
        default: default_answer,
        newer_are_unknown: !matches!(
            default,
            Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace
        ),
        archs: chosen_archs(configured.architectures().as_deref(), family, &mut warnings),
        entries,
    };
    let ranges = rules::decision_ranges(&profile);
    if let Ok(ranges) = &ranges
        && violations.is_empty()
    {
        violations.extend(refuse_without_execve(&profile, ranges));
    }
    let program = ranges
        .and_then(|ranges| program::assemble_program(&profile, &ranges).map_err(Error::TooLong));
    let program = program.map_err(|problem| violations.push(to_violation(problem)));
    match (program, listener) {
        (Ok(program), Ok(listener)) if violations.is_empty() => {
            let listed = configured.flags().as_deref();
            Ok(SeccompFilter {
                program,
                flags: flags(listed, listener.is_some(), &mut warnings),
                listener,
                warnings,
            })
        }
        _ => Err(violations),
    }
}

fn to_violation(problem: Error) -> Violation {
    match problem {
        Error::Contradiction { entry, call } => Violation::new(
            format!("{SECCOMP_FIELD}.syscalls[{entry}]"),
            format!(
                "{} has another action for the same arguments in an earlier rule",
                call.name()
            ),
        ),
        Error::TooLong(length) => Violation::new(
            format!("{SECCOMP_FIELD}.syscalls"),
            format!(
                "makes a program of {length} instructions, and the kernel takes {LONGEST} at most"
            ),
        ),
    }
}

/// Returns the listed architectures that this machine can run, and always the machine's own.
fn chosen_archs(
    listed: Option<&[SpecArch]>,
    family: ArchFamily,
    warnings: &mut Vec<Violation>,
) -> Vec<&'static Arch> {
    let listed = listed.unwrap_or_default();
    for (index, named) in listed.iter().enumerate() {
        let possible =
            *named == SpecArch::ScmpArchNative || family.iter().any(|arch| arch.named == *named);
        if !possible {
            warnings.push(Violation::ignored(
                format!("{SECCOMP_FIELD}.architectures[{index}]"),
                format!("{named} is ignored: this machine cannot run its programs"),
            ));
        }
    }
    let own = family.first().map(|arch| arch.named);
    let wanted = |arch: &&&Arch| Some(arch.named) == own || listed.contains(&arch.named);
    family.iter().filter(wanted).copied().collect()
}

/// Returns the flags for seccomp(2). Like runc, uses SPEC_ALLOW if the profile has no list of
/// flags.
fn flags(listed: Option<&[Flag]>, listener: bool, warnings: &mut Vec<Violation>) -> u32 {
    let wanted = listed.unwrap_or(&[Flag::SeccompFilterFlagSpecAllow]);
    let known = FLAGS.iter().filter(|(flag, _)| wanted.contains(flag));
    let mut flags = known.fold(0, |flags, (_, bit)| flags | bit);
    if listener {
        flags |= FILTER_FLAG_NEW_LISTENER;
    } else if flags & FILTER_FLAG_WAIT_KILLABLE_RECV != 0 {
        // Without a listener the kernel refuses this flag.
        flags &= !FILTER_FLAG_WAIT_KILLABLE_RECV;
        let flag = Flag::SeccompFilterFlagWaitKillableRecv;
        warnings.push(Violation::ignored(
            format!("{SECCOMP_FIELD}.flags"),
            format!("{flag} is ignored: there is no SCMP_ACT_NOTIFY"),
        ));
    }
    flags
}

fn plan_agent_socket(
    configured: &LinuxSeccomp,
    wanted: bool,
) -> Result<Option<AgentSocket>, Violation> {
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
            format!("{SECCOMP_FIELD}.listenerPath"),
            "missing; it is needed for SCMP_ACT_NOTIFY",
        )),
        (None, false) if metadata.is_some() => Err(Violation::new(
            format!("{SECCOMP_FIELD}.listenerMetadata"),
            "must not be set without listenerPath",
        )),
        (Some(path), true) => Ok(Some(AgentSocket {
            path: path.clone(),
            metadata,
        })),
        (_, false) => Ok(None),
    }
}

/// Returns a violation if the filter refuses execve. Such a profile can only be a mistake, and the
/// kernel would kill the container without a message.
fn refuse_without_execve(
    profile: &Profile,
    ranges: &[(&Arch, DecisionRanges)],
) -> Option<Violation> {
    // SECCOMP_RET_ERRNO and all lower values refuse the call. So does SECCOMP_RET_KILL_PROCESS, the
    // highest value.
    let runs = |answer: FilterReturn| {
        let action = answer & SECCOMP_RET_ACTION_FULL;
        action >= SECCOMP_RET_USER_NOTIF && action != SECCOMP_RET_KILL_PROCESS
    };
    let own = profile.archs.first()?;
    let number = own.call_number(SystemCall::by_name("execve")?)?;
    let (_, ranges) = ranges.first()?;
    let (_, decision) = ranges.iter().rev().find(|(first, _)| *first <= number)?;
    match decision {
        CallDecision::Always(answer) if !runs(*answer) => Some(Violation::new(
            SECCOMP_FIELD,
            "does not allow execve: no program could be run",
        )),
        _ => None,
    }
}

/// Resolves an entry of `syscalls`.
fn resolve_entry(
    configured: &LinuxSyscall,
    entry: usize,
    warnings: &mut Vec<Violation>,
) -> Result<ProfileEntry, Vec<Violation>> {
    let place = || format!("{SECCOMP_FIELD}.syscalls[{entry}]");
    let mut violations = Vec::new();
    if configured.names().is_empty() {
        violations.push(Violation::new(
            format!("{}.names", place()),
            "must not be empty",
        ));
    }
    let mut calls = Vec::with_capacity(configured.names().len());
    for (index, name) in configured.names().iter().enumerate() {
        let name_place = || format!("{}.names[{index}]", place());
        if name.is_empty() {
            violations.push(Violation::new(name_place(), "must not be empty"));
        } else if configured.action() == Action::ScmpActNotify
            && LISTENER_CALLS.contains(&name.as_str())
        {
            let problem = format!(
                "SCMP_ACT_NOTIFY cannot be used for {name}, which hands the listener to the agent"
            );
            violations.push(Violation::new(name_place(), problem));
        } else if let Some(call) = SystemCall::by_name(name) {
            calls.push(call);
        } else {
            let problem = format!("unknown system call {name:?}, ignored");
            warnings.push(Violation::of(Code::UnknownSyscall, name_place(), problem));
        }
    }
    let answer = filter_return_value(configured.action(), configured.errno_ret(), || {
        format!("{}.errnoRet", place())
    });
    let answer = answer.unwrap_or_else(|violation| {
        violations.push(violation);
        0
    });
    let mut conditions: Vec<Condition> = Vec::new();
    let mut repeated = false;
    for (index, arg) in configured.args().iter().flatten().enumerate() {
        let Some(condition) = convert_condition(arg) else {
            violations.push(Violation::new(
                format!("{}.args[{index}].index", place()),
                format!(
                    "{} is not the index of an argument: they are 0 to 5",
                    arg.index()
                ),
            ));
            continue;
        };
        repeated |= conditions
            .iter()
            .any(|other| other.argument == condition.argument);
        conditions.push(condition);
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    // As in runc, two conditions on the same argument make all conditions of the entry
    // alternatives. Older profiles rely on this.
    let alternatives = if repeated {
        conditions.into_iter().map(|one| vec![one]).collect()
    } else {
        vec![conditions]
    };
    Ok(ProfileEntry {
        index: entry,
        calls,
        answer,
        alternatives,
    })
}

fn convert_condition(arg: &LinuxSeccompArg) -> Option<Condition> {
    let argument = u32::try_from(arg.index()).ok().filter(|index| *index < 6)?;
    let value = arg.value();
    let (op, value) = match arg.op() {
        Operator::ScmpCmpNe => (ConditionOperator::NotEqual, value),
        Operator::ScmpCmpLt => (ConditionOperator::Less, value),
        Operator::ScmpCmpLe => (ConditionOperator::AtMost, value),
        Operator::ScmpCmpEq => (ConditionOperator::Equal, value),
        Operator::ScmpCmpGe => (ConditionOperator::AtLeast, value),
        Operator::ScmpCmpGt => (ConditionOperator::Greater, value),
        Operator::ScmpCmpMaskedEq => (
            ConditionOperator::Masked(value),
            arg.value_two().unwrap_or(0),
        ),
    };
    Some(Condition {
        argument,
        op,
        value,
    })
}

/// Returns the value that a filter returns for an action.
fn filter_return_value(
    action: Action,
    errno: Option<u32>,
    place: impl Fn() -> String,
) -> Result<FilterReturn, Violation> {
    let largest = match action {
        Action::ScmpActErrno => MAX_ERRNO,
        Action::ScmpActTrace => SECCOMP_RET_DATA,
        other if errno.is_some() => {
            return Err(Violation::new(place(), format!("{other} has no errno")));
        }
        _ => u32::MAX,
    };
    let errno = errno.unwrap_or(DEFAULT_ERRNO);
    if errno > largest {
        let problem = format!("{errno} is more than {largest}");
        return Err(Violation::new(place(), problem));
    }
    let action = match action {
        Action::ScmpActErrno => SeccompAction::Errno(errno),
        Action::ScmpActTrace => SeccompAction::Trace(errno),
        Action::ScmpActKill | Action::ScmpActKillThread => SeccompAction::KillThread,
        Action::ScmpActKillProcess => SeccompAction::KillProcess,
        Action::ScmpActTrap => SeccompAction::Trap,
        Action::ScmpActLog => SeccompAction::Log,
        Action::ScmpActAllow => SeccompAction::Allow,
        // seccompiler does not know this action.
        Action::ScmpActNotify => return Ok(SECCOMP_RET_USER_NOTIF),
    };
    Ok(action.into())
}

#[cfg(test)]
mod tests;
