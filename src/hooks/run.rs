//! Runs one hook in a session of its own. Passes the state to its stdin, keeps its output for error
//! messages, and kills the hook at its timeout.
//! Callers decide which hooks run, and when.
//!
//! This code never waits for the end of a pipe, because a process that the hook leaves behind may
//! hold the pipe open for ever.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpid, getppid, pipe2, read, write};

use super::tail::OutputTail;
use super::{Hook, HookContext, Outputs};
use crate::error::ErrnoText;
use crate::sys::clone::{Child, CloneArgs, Exit, Side, clone3, pidfd_send_signal, pidfd_wait};
use crate::sys::process::{self, CStringArray};
use crate::sys::{Errno, entry, retry, signal, wait};

/// The size of one read, in bytes.
const READ_BYTES: usize = 64 << 10;
/// The number of reads after the hook has exited. They empty a pipe, which holds 64 KiB. Any later
/// output is from another process.
const FINAL_READS: usize = 2;
/// The time that a killed hook may take to exit, in ms.
const KILLED_HOOK_TIMEOUT_MS: i32 = 10_000;

/// How often to check for a signal that asks this process to terminate.
const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Why a hook failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookProblem {
    #[error("{name}: {}", ErrnoText(*.errno))]
    Call { name: String, errno: Errno },
    #[error(
        "clone3: EAGAIN (process limit reached: linux.resources.pids.limit, process.rlimits or a limit of the host)"
    )]
    NoProcess,
    #[error("exited with code {code}{}", .tail.quote_lines())]
    Code { code: i32, tail: OutputTail },
    #[error("killed by signal {signal} ({}){}", signal_name(*.signal), .tail.quote_lines())]
    Signal { signal: i32, tail: OutputTail },
    #[error("timed out after {seconds}s{}", .tail.quote_lines())]
    TimedOut { seconds: u64, tail: OutputTail },
    #[error("stopped, since the container's process has ended{}", .tail.quote_lines())]
    ContainerEnded { tail: OutputTail },
    #[error("interrupted by signal {signal} ({}){}", signal_name(*.signal), .tail.quote_lines())]
    Interrupted { signal: i32, tail: OutputTail },
}

fn signal_name(signal: i32) -> &'static str {
    match Signal::try_from(signal) {
        Ok(Signal::SIGSYS) => "SIGSYS, bad system call: linux.seccomp",
        other => other.map_or("unknown", Signal::as_str),
    }
}

fn call_problem(name: &str) -> impl FnOnce(Errno) -> HookProblem {
    move |errno| HookProblem::Call {
        name: name.into(),
        errno,
    }
}

/// Why the wait for a hook ended.
enum WaitOutcome {
    Ended,
    TimedOut(u64),
    ContainerEnded,
    Interrupted(i32),
}

/// The hook's ends of the pipes.
struct HookPipeEnds {
    input: OwnedFd,
    output: OwnedFd,
    failure: OwnedFd,
}

/// This process's ends of the pipes.
struct ParentPipes<'a> {
    /// The hook's stdin. `None` once the state is written or the hook has closed its end.
    input: Option<OwnedFd>,
    /// The part of the container's state that is still to be written.
    state: &'a [u8],
    /// The hook's stdout and stderr. `None` at end of file.
    output: Option<OwnedFd>,
    /// The last bytes of the output that was read.
    tail: OutputTail,
    /// The pipe from which the reason is read if the hook couldn't be executed.
    failure: OwnedFd,
}

/// Runs a hook until it exits.
pub(super) fn run_program(
    hook: &Hook,
    state: &[u8],
    context: HookContext<'_>,
    confine: impl Fn() -> Result<(), (&'static str, Errno)>,
) -> Result<(), HookProblem> {
    // If the engine ignores SIGCHLD, this process inherits that disposition, and the kernel drops
    // the exit status of the hook.
    signal::default_sigchld().map_err(call_problem("sigaction"))?;
    let deadline = hook
        .timeout
        .and_then(|s| Some((s, Instant::now().checked_add(Duration::from_secs(s))?)));
    let (mut pipes, hook_ends) = ParentPipes::make_pipes(state).map_err(call_problem("pipe2"))?;
    let program = HookProgram::prepare(hook, context).map_err(call_problem("execve"))?;
    let clone = CloneArgs {
        namespaces: CloneFlags::empty(),
        cgroup: None,
        sibling: false,
    };
    let runner = getpid();
    let child = match clone3(&clone) {
        Ok(Side::Child) => program.exec_or_report(&hook_ends, runner, confine),
        Ok(Side::Parent(child)) => child,
        Err(Errno::EAGAIN) => return Err(HookProblem::NoProcess),
        Err(errno) => return Err(call_problem("clone3")(errno)),
    };
    drop(hook_ends);
    let outcome = pipes.exchange_until_exit(&child, context, deadline);
    if !matches!(outcome, Ok(WaitOutcome::Ended)) {
        // The hook's pid stays in use until the hook is reaped, so the signal can't reach another
        // process group.
        let _ = killpg(Pid::from_raw(child.pid), Signal::SIGKILL);
        let _ = pidfd_send_signal(child.pidfd.as_fd(), Signal::SIGKILL as i32);
        // Don't wait any longer for a hook in an uninterruptible sleep.
        if !pidfd_wait(child.pidfd.as_fd(), KILLED_HOOK_TIMEOUT_MS).map_err(call_problem("poll"))? {
            return Err(to_problem(outcome?, None, pipes.tail));
        }
    }
    let exit = wait::reap(child.pidfd.as_fd()).map_err(call_problem("waitid"))?;
    for _ in 0..FINAL_READS {
        pipes.read_output();
    }
    match (outcome?, exit) {
        (WaitOutcome::Ended, Exit::Code(0)) => Ok(()),
        (outcome, exit) => match pipes.exec_failure() {
            Some(failure) => Err(failure),
            None => Err(to_problem(outcome, Some(exit), pipes.tail)),
        },
    }
}

fn to_problem(outcome: WaitOutcome, exit: Option<Exit>, tail: OutputTail) -> HookProblem {
    match (outcome, exit) {
        (WaitOutcome::TimedOut(seconds), _) => HookProblem::TimedOut { seconds, tail },
        (WaitOutcome::Interrupted(signal), _) => HookProblem::Interrupted { signal, tail },
        (WaitOutcome::ContainerEnded, _) | (WaitOutcome::Ended, None) => {
            HookProblem::ContainerEnded { tail }
        }
        (WaitOutcome::Ended, Some(Exit::Code(code))) => HookProblem::Code { code, tail },
        (WaitOutcome::Ended, Some(Exit::Signal(signal))) => HookProblem::Signal { signal, tail },
    }
}

impl<'a> ParentPipes<'a> {
    fn make_pipes(state: &'a [u8]) -> Result<(ParentPipes<'a>, HookPipeEnds), Errno> {
        let (hook_input, input) = pipe2(OFlag::O_CLOEXEC)?;
        let (output, hook_output) = pipe2(OFlag::O_CLOEXEC)?;
        let (failure, hook_failure) = pipe2(OFlag::O_CLOEXEC)?;
        // The hook's ends stay blocking, as programs expect. Each end has its own open file
        // description.
        for end in [&input, &output, &failure] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let pipes = ParentPipes {
            input: Some(input),
            state,
            output: Some(output),
            tail: OutputTail::default(),
            failure,
        };
        let hook_ends = HookPipeEnds {
            input: hook_input,
            output: hook_output,
            failure: hook_failure,
        };
        Ok((pipes, hook_ends))
    }

    /// Writes the hook's input and reads its output until the hook exits or must be killed.
    fn exchange_until_exit(
        &mut self,
        child: &Child,
        context: HookContext<'_>,
        deadline: Option<(u64, Instant)>,
    ) -> Result<WaitOutcome, HookProblem> {
        let look = match context.interruptible {
            true => SIGNAL_CHECK_INTERVAL,
            false => Duration::MAX,
        };
        loop {
            let (ended, container_ended) =
                self.wait_and_transfer_once(child, context, deadline, look)?;
            if ended {
                return Ok(WaitOutcome::Ended);
            }
            if container_ended {
                return Ok(WaitOutcome::ContainerEnded);
            }
            if let Some((seconds, end)) = deadline
                && Instant::now() >= end
            {
                return Ok(WaitOutcome::TimedOut(seconds));
            }
            if context.interruptible
                && let Some(signal) = signal::pending_termination()
            {
                return Ok(WaitOutcome::Interrupted(signal));
            }
        }
    }

    /// Waits once, then reads from and writes to the pipes that are ready. Returns whether the hook
    /// has exited, and whether the container's process has exited.
    fn wait_and_transfer_once(
        &mut self,
        child: &Child,
        context: HookContext<'_>,
        deadline: Option<(u64, Instant)>,
        look: Duration,
    ) -> Result<(bool, bool), HookProblem> {
        let mut fds = vec![PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
        fds.extend(
            context
                .only_while
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
        );
        let output_at = fds.len();
        let output = self.output.as_ref();
        fds.extend(output.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let input_at = fds.len();
        let input = self.input.as_ref();
        fds.extend(input.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLOUT)));
        retry(|| poll(&mut fds, remaining_timeout(deadline, look)))
            .map_err(call_problem("poll"))?;
        let ready = |index: usize| {
            let events = fds.get(index).and_then(PollFd::revents);
            events.is_some_and(|events| !events.is_empty())
        };
        let ended = (ready(0), context.only_while.is_some() && ready(1));
        let (has_output, takes_input) = (input_at > output_at && ready(output_at), ready(input_at));
        if has_output {
            self.read_output();
        }
        if takes_input {
            self.write_input();
        }
        Ok(ended)
    }

    /// Reads output once, and closes the pipe at end of file.
    fn read_output(&mut self) {
        let Some(fd) = &self.output else { return };
        let mut buffer = vec![0_u8; READ_BYTES];
        match retry(|| read(fd, &mut buffer)) {
            Ok(length) if length > 0 => self.tail.append(buffer.get(..length).unwrap_or_default()),
            Err(Errno::EAGAIN) => {}
            _ => self.output = None,
        }
    }

    /// Writes input once. Closes the pipe when all is written or the hook has closed its end, since
    /// a hook needn't read its input.
    fn write_input(&mut self) {
        let Some(fd) = &self.input else { return };
        match retry(|| write(fd, self.state)) {
            Ok(length) => self.state = self.state.get(length..).unwrap_or_default(),
            Err(Errno::EAGAIN) => return,
            Err(_) => {
                // SIGPIPE is blocked, so it stays pending unless it is ignored (signal(7)). If the
                // container's child runs the hook, a pending SIGPIPE would kill that process as
                // soon as it unblocks the signal.
                let _ = entry::ignore_sigpipe();
                self.state = &[];
            }
        }
        if self.state.is_empty() {
            self.input = None;
        }
    }

    /// Returns why the hook couldn't be executed, if its process reported an errno and the name of
    /// the call.
    fn exec_failure(&self) -> Option<HookProblem> {
        let mut buffer = [0_u8; 64];
        let length = retry(|| read(&self.failure, &mut buffer)).ok()?;
        let (errno, name) = buffer.get(..length)?.split_first_chunk::<4>()?;
        let errno = Errno::from_raw(i32::from_ne_bytes(*errno));
        let name = String::from_utf8_lossy(name).into_owned();
        Some(HookProblem::Call { name, errno })
    }
}

/// Returns how long poll(2) may wait. Rounds up, since poll would return at once for the last part
/// of a millisecond.
fn remaining_timeout(deadline: Option<(u64, Instant)>, most: Duration) -> PollTimeout {
    let left = match deadline {
        Some((_, end)) => {
            end.saturating_duration_since(Instant::now()) + Duration::from_micros(999)
        }
        None if most == Duration::MAX => return PollTimeout::NONE,
        None => most,
    };
    PollTimeout::try_from(left.min(most)).unwrap_or(PollTimeout::MAX)
}

/// The program of a hook and everything that its execve needs. It is prepared before the clone.
struct HookProgram<'a> {
    path: CString,
    argv: CStringArray,
    env: HookEnvironment<'a>,
    cwd: Option<&'a Path>,
    outputs: Option<&'a Outputs>,
}

enum HookEnvironment<'a> {
    Own(CStringArray),
    OfScene(&'a CStringArray),
}

impl HookEnvironment<'_> {
    fn as_strings(&self) -> &CStringArray {
        match self {
            HookEnvironment::Own(strings) => strings,
            HookEnvironment::OfScene(strings) => strings,
        }
    }
}

impl<'a> HookProgram<'a> {
    fn prepare(hook: &Hook, context: HookContext<'a>) -> Result<HookProgram<'a>, Errno> {
        let strings = |list: &[String]| {
            let list: Result<Vec<CString>, _> =
                list.iter().map(|s| CString::new(s.as_str())).collect();
            list.map(CStringArray::new).map_err(|_| Errno::EINVAL)
        };
        let path = CString::new(hook.path.as_str()).map_err(|_| Errno::EINVAL)?;
        Ok(HookProgram {
            argv: if hook.args.is_empty() {
                CStringArray::new(vec![path.clone()])
            } else {
                strings(&hook.args)?
            },
            path,
            env: match (&hook.env, context.env) {
                (Some(env), _) => HookEnvironment::Own(strings(env)?),
                (None, Some(env)) => HookEnvironment::OfScene(env),
                (None, None) => HookEnvironment::Own(CStringArray::own_environment()),
            },
            cwd: context.cwd,
            outputs: context.outputs,
        })
    }

    /// Executes the hook in the cloned process, or reports why this fails.
    fn exec_or_report(
        &self,
        ends: &HookPipeEnds,
        runner: Pid,
        confine: impl Fn() -> Result<(), (&'static str, Errno)>,
    ) -> ! {
        let Err((name, errno)) = self.set_up_and_exec(ends, runner, confine);
        let mut message = (errno as i32).to_ne_bytes().to_vec();
        message.extend(name.as_bytes());
        let _ = write(&ends.failure, &message);
        process::exit_now(127)
    }

    fn set_up_and_exec(
        &self,
        ends: &HookPipeEnds,
        runner: Pid,
        confine: impl Fn() -> Result<(), (&'static str, Errno)>,
    ) -> Result<Infallible, (&'static str, Errno)> {
        let at = |name| move |errno| (name, errno);
        // The hook must die with the runtime, or nobody would know about the hook. If the runtime
        // has exited before this line, the parent is now another process.
        process::set_dies_with_parent(true).map_err(at("prctl"))?;
        if getppid() != runner {
            process::exit_now(127);
        }
        // In its own process group, the hook can be killed together with the processes that it
        // starts.
        nix::unistd::setsid().map_err(at("setsid"))?;
        if let Some(cwd) = self.cwd {
            nix::unistd::chdir(cwd)
                .or_else(|_| nix::unistd::chdir("/"))
                .map_err(at("chdir"))?;
        }
        process::dup_onto(ends.input.as_fd(), 0).map_err(at("dup3"))?;
        let file =
            |of: fn(&Outputs) -> &Option<OwnedFd>| self.outputs.and_then(|all| of(all).as_ref());
        let stdout = file(|all| &all.stdout).unwrap_or(&ends.output);
        let stderr = file(|all| &all.stderr).unwrap_or(&ends.output);
        process::dup_onto(stdout.as_fd(), 1).map_err(at("dup3"))?;
        process::dup_onto(stderr.as_fd(), 2).map_err(at("dup3"))?;
        // A hook gets neither the link between parent and child nor the caller's descriptors. Keep
        // only the pipe for the failure, which is closed at exec.
        let mut keep = [std::os::fd::AsRawFd::as_raw_fd(&ends.failure)];
        process::close_all_but(3, &mut keep).map_err(at("close_range"))?;
        signal::reset_all().map_err(at("sigaction"))?;
        signal::unblock_all().map_err(at("sigprocmask"))?;
        confine()?;
        Err((
            "execve",
            process::execve(&self.path, &self.argv, self.env.as_strings()),
        ))
    }
}
