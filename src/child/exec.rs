//! The last steps, which init and exec processes share: identity, the program, the start socket,
//! exec.

use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::AccessFlags;

use super::start_socket::StartSocket;
use super::{StepResult, filter, identity, labels, terminal};
use crate::diagnosis::Code;
use crate::error::{Failed, failed};
use crate::origin::config;
use crate::plan::process::{Process, is_set_after_parent_exit, is_set_before_exec};
use crate::plan::seccomp::SeccompFilter;
use crate::program;
use crate::protocol::{CLONE_CALL, Message, receive, send};
use crate::sys::clone::{Side, clone_sibling};
use crate::sys::process::{CStringArray, Rlimit};
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, path, process, sched, signal, weakened};
use crate::timeline::{self, Phase};

/// The input of the last steps.
pub(super) struct LastStepsInput<'a> {
    pub(super) plan: &'a Process,
    /// The signals to reset to their defaults.
    pub(super) ignored_signals: &'a [i32],
    /// The number of descriptors from 3 up that the program inherits.
    pub(super) preserve_fds: u32,
    /// A procfs that shows this process. It is set if this process can't mount a procfs itself.
    pub(super) proc: Option<Procfs>,
}

/// The values that depend on the final identity of the process.
struct ResolvedProgram {
    /// The environment, if it differs from the plan's.
    env: Option<CStringArray>,
    /// `None` if config.json has no process.
    program: Option<CString>,
}

/// Runs the last steps in the first process of a pid namespace, where no other process sees it.
/// Calls `started` with the program's environment, after the Go message and before execve. Returns
/// only with an error.
pub(super) fn become_process(
    input: LastStepsInput<'_>,
    link: &mut OwnedFd,
    start_socket: Option<StartSocket>,
    started: impl FnOnce(&CStringArray, Option<&SeccompFilter>) -> StepResult,
) -> StepResult {
    blame_filter(
        input.plan,
        run_last_steps(input, link, start_socket, started),
    )
}

/// Runs the last steps for a process in a pid namespace with other processes. Those see a process
/// as soon as it is cloned, and with CAP_SYS_PTRACE they can control it. So this process, which
/// they don't see, takes the identity of the program and drops everything else. Then it clones the
/// process that becomes the program. If `born_filtered`, it sets the filter before the clone.
pub(super) fn clone_and_become_process(
    input: LastStepsInput<'_>,
    born_filtered: bool,
    link: &mut OwnedFd,
    start_socket: Option<StartSocket>,
    started: impl FnOnce(&CStringArray, Option<&SeccompFilter>) -> StepResult,
) -> StepResult {
    blame_filter(
        input.plan,
        clone_last_process(input, born_filtered, link, start_socket, started),
    )
}

/// Adds to an error that the filter may be the cause.
fn blame_filter(plan: &Process, done: StepResult) -> StepResult {
    done.map_err(|mut failure| {
        let suspicious = matches!(failure.errno, Errno::EPERM | Errno::ENOSYS);
        if plan.seccomp.is_some() && suspicious && failure.detail.is_empty() {
            failure.detail = config("linux.seccomp")
                .asks_to("perhaps the filter does not allow it")
                .into();
        }
        failure
    })
}

fn run_last_steps(
    mut input: LastStepsInput<'_>,
    link: &mut OwnedFd,
    start_socket: Option<StartSocket>,
    started: impl FnOnce(&CStringArray, Option<&SeccompFilter>) -> StepResult,
) -> StepResult {
    let plan = input.plan;
    timeline::begin_step(Phase::Identity);
    let settled = take_final_identity(&mut input, link)?;
    // Set the filter as late as possible, so that a profile need not allow the runtime's own calls.
    // A filter with a listener is set before Ready, because the parent must receive the listener.
    let (listened, late) = match &plan.seccomp {
        Some(filter) if filter.listener.is_some() => (Some(filter), None),
        late => (None, late.as_ref()),
    };
    if let Some(filter) = listened {
        timeline::begin_step(Phase::Seccomp);
        filter::set_filter(plan, filter, link)?;
    }
    close_other_descriptors(&input, link, start_socket.as_ref())?;
    set_rlimits(plan, |limit| !is_set_before_exec(limit))?;
    process::set_dies_with_parent(false)
        .map_err(failed("prctl", || "clear the parent death signal".into()))?;
    send(link.as_fd(), &Message::Ready).map_err(failed("sendmsg", || "tell the parent".into()))?;
    timeline::begin_step(Phase::AwaitGo);
    match start_socket {
        Some(start_socket) => *link = start_socket.wait_for_start()?,
        None => wait_for_go(link),
    }
    reset_signals(&input)?;
    run_program(plan, settled, link, late, started)
}

fn clone_last_process(
    mut input: LastStepsInput<'_>,
    born_filtered: bool,
    link: &mut OwnedFd,
    start_socket: Option<StartSocket>,
    started: impl FnOnce(&CStringArray, Option<&SeccompFilter>) -> StepResult,
) -> StepResult {
    let plan = input.plan;
    timeline::begin_step(Phase::Identity);
    let settled = take_final_identity(&mut input, link)?;
    close_other_descriptors(&input, link, start_socket.as_ref())?;
    set_rlimits(plan, |limit| {
        !is_set_before_exec(limit) && !is_set_after_parent_exit(limit)
    })?;
    reset_signals(&input)?;
    let (early, late) = match &plan.seccomp {
        Some(filter) if born_filtered => (Some(filter), None),
        late => (None, late.as_ref()),
    };
    if let Some(filter) = early {
        timeline::begin_step(Phase::Seccomp);
        filter::set_filter(plan, filter, link)?;
    }
    timeline::begin_step(Phase::Born);
    // The container must not see the environment of the engine.
    process::erase_environment();
    match clone_sibling() {
        Ok(Side::Child) => timeline::become_side(timeline::Side::Born),
        Ok(Side::Parent(child)) => {
            let told = send(link.as_fd(), &Message::Born(child));
            process::exit_now(i32::from(told.is_err()))
        }
        Err(errno) => {
            let what = "clone the container's process".to_owned();
            return Err(Failed::new(what, CLONE_CALL, errno));
        }
    }
    timeline::begin_step(Phase::AwaitGo);
    // Send nothing before the parent knows of the clone. The wait also detects a parent that has
    // ended.
    wait_for_go(link);
    set_rlimits(plan, is_set_after_parent_exit)?;
    nix::unistd::setsid().map_err(failed("setsid", || "start a session".into()))?;
    if plan.terminal.is_some() {
        terminal::take_controlling_terminal()?;
    }
    if let Some(start_socket) = start_socket {
        send(link.as_fd(), &Message::Ready)
            .map_err(failed("sendmsg", || "tell the parent".into()))?;
        *link = start_socket.wait_for_start()?;
    }
    run_program(plan, settled, link, late, started)
}

/// Does everything that requires the runtime's rights and its view of the host, then takes the
/// identity of the plan.
fn take_final_identity(
    input: &mut LastStepsInput<'_>,
    link: &OwnedFd,
) -> StepResult<ResolvedProgram> {
    let plan = input.plan;
    let env = plan.wants_home.then(|| env_with_home(plan));
    set_execution_domain(plan)?;
    set_memory_policy(plan)?;
    let origins = (&plan.origins.apparmor, &plan.origins.selinux);
    // Take the procfs out of `input`, so that it is closed here and not by
    // `close_other_descriptors`.
    labels::set_labels(&plan.labels, origins, input.proc.take().as_ref())?;
    identity::take_identity(plan, link)?;
    let program = plan.has_program().then(|| find_program(plan)).transpose()?;
    Ok(ResolvedProgram { env, program })
}

/// Closes all descriptors but the link, the start socket, and those that the program inherits.
fn close_other_descriptors(
    input: &LastStepsInput<'_>,
    link: &OwnedFd,
    start_socket: Option<&StartSocket>,
) -> StepResult {
    let mut keep: Vec<i32> = vec![link.as_raw_fd()];
    keep.extend(start_socket.into_iter().flat_map(StartSocket::raw_fds));
    if weakened::lacks("descriptors") {
        return Ok(());
    }
    process::close_all_but(3 + input.preserve_fds, &mut keep)
        .map_err(failed("close_range", || "close all descriptors".into()))
}

/// Waits for the parent's Go message. Exits if the parent is gone.
fn wait_for_go(link: &OwnedFd) {
    if !matches!(receive(link.as_fd()), Ok(Some(Message::Go))) {
        process::exit_now(1)
    }
}

fn reset_signals(input: &LastStepsInput<'_>) -> StepResult {
    for signal in input.ignored_signals {
        process::reset_signal(*signal)
            .map_err(failed("sigaction", || format!("reset signal {signal}")))?;
    }
    Ok(())
}

/// Runs the program. Sets the filter `late` as the last step.
fn run_program(
    plan: &Process,
    settled: ResolvedProgram,
    link: &OwnedFd,
    late: Option<&SeccompFilter>,
    started: impl FnOnce(&CStringArray, Option<&SeccompFilter>) -> StepResult,
) -> StepResult {
    let Some(program) = settled.program else {
        process::exit_now(0)
    };
    let env = settled.env.as_ref().unwrap_or(&plan.env);
    timeline::begin_step(Phase::ChildHooks);
    started(env, late)?;
    timeline::begin_step(Phase::Exec);
    set_rlimits(plan, is_set_before_exec)?;
    signal::unblock_all().map_err(failed("sigprocmask", || "unblock the signals".into()))?;
    send(link.as_fd(), &Message::Exec).map_err(failed("sendmsg", || {
        "report that the program starts".into()
    }))?;
    if let Some(filter) = late {
        let _span = timeline::begin_span(Phase::Seccomp, 0);
        filter::set_filter(plan, filter, link)?;
    }
    let errno = process::execve(&program, &plan.argv, env);
    Err(execve_failure(plan, &program, errno))
}

/// Describes why execve failed. The program itself exists, so ENOENT is about its interpreter. The
/// text has runc's words, because engines search for them.
fn execve_failure(plan: &Process, program: &CStr, errno: Errno) -> Failed {
    let (because, code) = match (seen_problem(plan, program, errno), errno) {
        (Some(problem), _) => (format!("; {problem}"), problem.code()),
        (None, Errno::ENOENT) => (
            "; the file is there, but the interpreter that it names is not".to_owned(),
            Code::InterpreterMissing,
        ),
        (None, Errno::ENOEXEC) => (
            "; it is no program for this machine, and names no interpreter".to_owned(),
            Code::NotAProgram,
        ),
        (None, Errno::EACCES | Errno::EPERM) => (String::new(), Code::ProgramDenied),
        (None, _) => (String::new(), Code::ExecFailed),
    };
    let (program, reason) = (
        path::as_path(program).display(),
        errno.desc().to_lowercase(),
    );
    let text = format!("exec {program}: {reason} (execve: {errno:?}{because})");
    let mut failure = Failed::from_sentence(text).coded(code);
    failure.errno = errno;
    failure
}

/// Reads the program to find out why execve failed, unless the filter could kill this process for
/// reading files.
fn seen_problem(plan: &Process, program: &CStr, errno: Errno) -> Option<program::Problem> {
    let filter = plan.seccomp.as_ref();
    let may_look = filter.is_none_or(SeccompFilter::allows_reading_files);
    if !may_look || !matches!(errno, Errno::ENOENT | Errno::ENOEXEC | Errno::EACCES) {
        return None;
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let program = path::getcwd().ok()??.join(path::as_path(program));
    let program = path::c_path(program.as_os_str()).ok()?;
    let root = crate::sys::open(c"/", flags, Mode::empty()).ok()?;
    let root = program::Root {
        root: root.as_fd(),
        proc: None,
    };
    root.problem(&program)
}

/// Sets linux.memoryPolicy.
fn set_memory_policy(plan: &Process) -> StepResult {
    let Some(policy) = &plan.memory_policy else {
        return Ok(());
    };
    sched::set_memory_policy(policy.mode, &policy.nodes).map_err(failed("set_mempolicy", || {
        config("linux.memoryPolicy").asks_to("set the memory policy")
    }))
}

/// Sets linux.personality.
fn set_execution_domain(plan: &Process) -> StepResult {
    let Some(domain) = plan.personality else {
        return Ok(());
    };
    process::set_personality(domain).map_err(failed("personality", || {
        config("linux.personality").asks_to("set the execution domain")
    }))
}

/// Sets the limits for which `wanted` returns true.
fn set_rlimits(plan: &Process, wanted: fn(&Rlimit) -> bool) -> StepResult {
    for (index, limit) in plan
        .rlimits
        .iter()
        .enumerate()
        .filter(|(_, limit)| wanted(limit))
    {
        process::set_rlimit(limit)
            .map_err(failed("prlimit", || plan.describe_limit(index, limit)))?;
    }
    Ok(())
}

/// Finds the first candidate that this user may execute. The error messages are runc's, because
/// engines search for them.
fn find_program(plan: &Process) -> StepResult<CString> {
    let name = plan
        .argv
        .as_slice()
        .first()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let has_slash = name.contains('/');
    let mut denied = false;
    for candidate in &plan.candidates {
        match check_executable(candidate) {
            Ok(()) => return Ok(candidate.clone()),
            Err(Errno::ENOENT | Errno::ENOTDIR) if !has_slash => {}
            Err(Errno::EACCES | Errno::EISDIR) if !has_slash => denied = true,
            Err(errno @ (Errno::EACCES | Errno::EISDIR)) => {
                return Err(
                    Failed::from_sentence(program::denied(&name, errno)).coded(Code::ProgramDenied)
                );
            }
            Err(errno) => {
                let code = match errno {
                    Errno::ENOENT | Errno::ENOTDIR => Code::ProgramMissing,
                    _ => Code::ExecFailed,
                };
                return Err(Failed::from_sentence(program::unreachable(&name, errno)).coded(code));
            }
        }
    }
    let (text, code) = if denied {
        (program::denied(&name, Errno::EACCES), Code::ProgramDenied)
    } else {
        (program::not_in_path(&name), Code::ProgramMissing)
    };
    Err(Failed::from_sentence(text).coded(code))
}

fn check_executable(file: &CStr) -> Result<(), Errno> {
    let stat = nix::sys::stat::stat(file)?;
    if path::is_file_type(&stat, SFlag::S_IFDIR) {
        return Err(Errno::EISDIR);
    }
    nix::unistd::faccessat(
        nix::fcntl::AT_FDCWD,
        file,
        AccessFlags::X_OK,
        AtFlags::AT_EACCESS,
    )
}

/// Returns the environment with HOME from the container's /etc/passwd, or `/` if the user isn't
/// listed, as in runc.
fn env_with_home(plan: &Process) -> CStringArray {
    let home = read_home(plan.uid).unwrap_or_else(|| "/".into());
    let entry = CString::new(format!("HOME={home}")).unwrap_or_default();
    let keep = plan
        .env
        .as_slice()
        .iter()
        .filter(|entry| !entry.to_bytes().starts_with(b"HOME="));
    CStringArray::new(keep.cloned().chain([entry]).collect())
}

fn read_home(uid: u32) -> Option<String> {
    const MAX_PASSWD_BYTES: u64 = 1 << 20;
    // The image may have any kind of file at this path. A FIFO must not block this process. A
    // device is never opened, because opening a device can have side effects.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let is_file = |stat| path::is_file_type(&stat, SFlag::S_IFREG);
    if !nix::sys::stat::stat(c"/etc/passwd").is_ok_and(is_file) {
        return None;
    }
    let fd = crate::sys::open(c"/etc/passwd", flags, Mode::empty()).ok()?;
    if !nix::sys::stat::fstat(&fd).is_ok_and(is_file) {
        return None;
    }
    let mut text = Vec::new();
    std::fs::File::from(fd)
        .take(MAX_PASSWD_BYTES)
        .read_to_end(&mut text)
        .ok()?;
    find_home(&String::from_utf8_lossy(&text), uid)
}

/// Finds the home directory of a user in the text of a passwd(5) file, on the first line that has
/// one. As in runc and crun, numbers may have leading zeros, and a line may lack fields.
fn find_home(passwd: &str, uid: u32) -> Option<String> {
    let mut homes = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let is_users = fields.nth(2)?.parse() == Ok(uid);
        fields
            .nth(5 - 3)
            .filter(|home| is_users && !home.is_empty())
    });
    homes.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_found_by_number_and_never_by_name() {
        let passwd = "1000:x:0:0::/root:/bin/sh\nroot:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:\nbad line\n";
        assert_eq!(find_home(passwd, 1000).as_deref(), Some("/home/user"));
        assert_eq!(find_home(passwd, 5), None);
        let short = "a:x:5\nb:x:5:5::\nc:x:0005:5::/home/c";
        assert_eq!(find_home(short, 5).as_deref(), Some("/home/c"));
    }
}
