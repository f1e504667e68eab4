//! Runs one hook: a process of its own session, the state on its stdin, its output kept for the error, an end to its time.
//! Which hooks and when is not decided here.
//!
//! Nothing waits for the end of a pipe: a process that the hook leaves behind may hold it for ever.

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

use super::tail::Tail;
use super::{Hook, Scene};
use crate::error::Reason;
use crate::sys::clone::{Child, Clone, Exit, Side, clone3, pidfd_send_signal, pidfd_wait};
use crate::sys::process::{self, Strings};
use crate::sys::{Errno, entry, retry, signal, wait};

/// What is read at once.
const CHUNK: usize = 64 << 10;
/// A pipe holds 64 KiB; what comes beyond after the hook's end is another process'.
const LEFTOVERS: usize = 2;
/// How long a hook may take to end once it was killed, in ms.
const DYING: i32 = 10_000;

/// How often is looked for a signal that asks us to end.
const LOOK: Duration = Duration::from_millis(100);

/// Why a hook failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("{name}: {}", Reason(*.errno))]
    Call { name: String, errno: Errno },
    #[error(
        "clone3: EAGAIN (no process more: linux.resources.pids.limit, process.rlimits or a limit of the host)"
    )]
    NoProcess,
    #[error("exited with code {code}{}", .tail.quote())]
    Code { code: i32, tail: Tail },
    #[error("killed by signal {signal} ({}){}", name(*.signal), .tail.quote())]
    Signal { signal: i32, tail: Tail },
    #[error("timed out after {seconds}s{}", .tail.quote())]
    TimedOut { seconds: u64, tail: Tail },
    #[error("stopped, since the container's process has ended{}", .tail.quote())]
    Bereft { tail: Tail },
    #[error("interrupted by signal {signal} ({}){}", name(*.signal), .tail.quote())]
    Interrupted { signal: i32, tail: Tail },
}

fn name(signal: i32) -> &'static str {
    match Signal::try_from(signal) {
        Ok(Signal::SIGSYS) => "SIGSYS, bad system call: linux.seccomp",
        other => other.map_or("unknown", Signal::as_str),
    }
}

fn call(name: &str) -> impl FnOnce(Errno) -> Problem {
    move |errno| Problem::Call {
        name: name.into(),
        errno,
    }
}

/// Why the wait for a hook is over.
enum Over {
    Ended,
    TimedOut(u64),
    Bereft,
    Interrupted(i32),
}

/// Our ends of a hook's pipes.
struct Ends {
    /// Its stdin, until all is written or it doesn't want more.
    input: Option<OwnedFd>,
    /// Its stdout and stderr, until they are closed.
    output: Option<OwnedFd>,
    /// What kept it from being executed.
    failure: OwnedFd,
}

/// The hook's ends.
struct Theirs {
    input: OwnedFd,
    output: OwnedFd,
    failure: OwnedFd,
}

/// Runs a hook to its end.
pub(super) fn run(
    hook: &Hook,
    state: &[u8],
    scene: Scene<'_>,
    confine: impl Fn() -> Result<(), (&'static str, Errno)>,
) -> Result<(), Problem> {
    // An engine that ignores SIGCHLD would take the exit status away from us.
    signal::default_sigchld().map_err(call("sigaction"))?;
    let deadline = hook
        .timeout
        .and_then(|s| Some((s, Instant::now().checked_add(Duration::from_secs(s))?)));
    let (mut ours, theirs) = pipes().map_err(call("pipe2"))?;
    let program = Program::of(hook, scene).map_err(call("execve"))?;
    let clone = Clone {
        namespaces: CloneFlags::empty(),
        cgroup: None,
        sibling: false,
    };
    let runner = getpid();
    let child = match clone3(&clone) {
        Ok(Side::Child) => program.exec(&theirs, runner, confine),
        Ok(Side::Parent(child)) => child,
        Err(Errno::EAGAIN) => return Err(Problem::NoProcess),
        Err(errno) => return Err(call("clone3")(errno)),
    };
    drop(theirs);
    let mut tail = Tail::default();
    let over = attend(&child, &mut ours, state, scene, deadline, &mut tail);
    if !matches!(over, Ok(Over::Ended)) {
        // Its pid is taken until it is reaped, so this can't be another's group.
        let _ = killpg(Pid::from_raw(child.pid), Signal::SIGKILL);
        let _ = pidfd_send_signal(child.pidfd.as_fd(), Signal::SIGKILL as i32);
        // An uninterruptible sleep is not waited out.
        if !pidfd_wait(child.pidfd.as_fd(), DYING).map_err(call("poll"))? {
            return Err(problem(over?, None, tail));
        }
    }
    let exit = wait::reap(child.pidfd.as_fd()).map_err(call("waitid"))?;
    for _ in 0..LEFTOVERS {
        read_output(&mut ours.output, &mut tail);
    }
    match (over?, exit) {
        (Over::Ended, Exit::Code(0)) => Ok(()),
        (over, exit) => match told(&ours.failure) {
            Some(failure) => Err(failure),
            None => Err(problem(over, Some(exit), tail)),
        },
    }
}

fn problem(over: Over, exit: Option<Exit>, tail: Tail) -> Problem {
    match (over, exit) {
        (Over::TimedOut(seconds), _) => Problem::TimedOut { seconds, tail },
        (Over::Interrupted(signal), _) => Problem::Interrupted { signal, tail },
        (Over::Bereft, _) | (Over::Ended, None) => Problem::Bereft { tail },
        (Over::Ended, Some(Exit::Code(code))) => Problem::Code { code, tail },
        (Over::Ended, Some(Exit::Signal(signal))) => Problem::Signal { signal, tail },
    }
}

fn pipes() -> Result<(Ends, Theirs), Errno> {
    let (their_input, input) = pipe2(OFlag::O_CLOEXEC)?;
    let (output, their_output) = pipe2(OFlag::O_CLOEXEC)?;
    let (failure, their_failure) = pipe2(OFlag::O_CLOEXEC)?;
    // The other ends are other open files: they stay as programs expect them.
    for end in [&input, &output, &failure] {
        fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let ours = Ends {
        input: Some(input),
        output: Some(output),
        failure,
    };
    let theirs = Theirs {
        input: their_input,
        output: their_output,
        failure: their_failure,
    };
    Ok((ours, theirs))
}

/// Feeds the hook and reads what it prints until it ends or has to be ended.
fn attend(
    child: &Child,
    ends: &mut Ends,
    mut state: &[u8],
    scene: Scene<'_>,
    deadline: Option<(u64, Instant)>,
    tail: &mut Tail,
) -> Result<Over, Problem> {
    let only_while = scene.only_while;
    let look = if scene.interruptible {
        LOOK
    } else {
        Duration::MAX
    };
    loop {
        let nothing = PollFlags::empty();
        let mut fds = vec![PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
        fds.extend(only_while.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let fixed = fds.len();
        fds.extend(
            ends.output
                .iter()
                .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)),
        );
        let printed = fds.len();
        fds.extend(
            ends.input
                .iter()
                .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLOUT)),
        );
        retry(|| poll(&mut fds, remaining(deadline, look))).map_err(call("poll"))?;
        let ready = |index: usize| {
            let events = fds.get(index).and_then(PollFd::revents);
            events.is_some_and(|events| events != nothing)
        };
        let (ended, bereft) = (ready(0), only_while.is_some() && ready(1));
        let output = printed > fixed && ready(fixed);
        let input = ready(printed);
        if output {
            read_output(&mut ends.output, tail);
        }
        if input {
            write_input(&mut ends.input, &mut state);
        }
        if ended {
            return Ok(Over::Ended);
        }
        if bereft {
            return Ok(Over::Bereft);
        }
        if let Some((seconds, end)) = deadline
            && Instant::now() >= end
        {
            return Ok(Over::TimedOut(seconds));
        }
        if scene.interruptible
            && let Some(signal) = signal::pending_end()
        {
            return Ok(Over::Interrupted(signal));
        }
    }
}

/// What poll(2) may wait, rounded up: the last part of a millisecond would be spent spinning.
fn remaining(deadline: Option<(u64, Instant)>, most: Duration) -> PollTimeout {
    let left = match deadline {
        Some((_, end)) => {
            end.saturating_duration_since(Instant::now()) + Duration::from_micros(999)
        }
        None if most == Duration::MAX => return PollTimeout::NONE,
        None => most,
    };
    PollTimeout::try_from(left.min(most)).unwrap_or(PollTimeout::MAX)
}

/// Reads once; lets go of the pipe at its end.
fn read_output(output: &mut Option<OwnedFd>, tail: &mut Tail) {
    let Some(fd) = output else { return };
    let mut buffer = vec![0_u8; CHUNK];
    match retry(|| read(&*fd, &mut buffer)) {
        Ok(length) if length > 0 => tail.push(buffer.get(..length).unwrap_or_default()),
        Err(Errno::EAGAIN) => {}
        _ => *output = None,
    }
}

/// Writes once; lets go of the pipe when all is written, or the hook has closed it: it needn't read.
fn write_input(input: &mut Option<OwnedFd>, state: &mut &[u8]) {
    let Some(fd) = input else { return };
    match retry(|| write(&*fd, state)) {
        Ok(length) => *state = state.get(length..).unwrap_or_default(),
        Err(Errno::EAGAIN) => return,
        Err(_) => {
            // Ignored, but blocked as well it would stay pending (signal(7)), and kill the child once that unblocks it.
            let _ = entry::ignore_sigpipe();
            *state = &[];
        }
    }
    if state.is_empty() {
        *input = None;
    }
}

/// What a hook said that couldn't be executed: an errno and the name of the call.
fn told(failure: &OwnedFd) -> Option<Problem> {
    let mut buffer = [0_u8; 64];
    let length = retry(|| read(failure, &mut buffer)).ok()?;
    let (errno, name) = buffer.get(..length)?.split_first_chunk::<4>()?;
    let errno = Errno::from_raw(i32::from_ne_bytes(*errno));
    let name = String::from_utf8_lossy(name).into_owned();
    Some(Problem::Call { name, errno })
}

/// What becomes of the clone, made ready before it.
struct Program<'a> {
    path: CString,
    argv: Strings,
    env: Environment<'a>,
    cwd: Option<&'a Path>,
}

enum Environment<'a> {
    Own(Strings),
    OfScene(&'a Strings),
}

impl Environment<'_> {
    fn strings(&self) -> &Strings {
        match self {
            Environment::Own(strings) => strings,
            Environment::OfScene(strings) => strings,
        }
    }
}

impl<'a> Program<'a> {
    fn of(hook: &Hook, scene: Scene<'a>) -> Result<Program<'a>, Errno> {
        let strings = |list: &[String]| {
            let list: Result<Vec<CString>, _> =
                list.iter().map(|s| CString::new(s.as_str())).collect();
            list.map(Strings::new).map_err(|_| Errno::EINVAL)
        };
        let path = CString::new(hook.path.as_str()).map_err(|_| Errno::EINVAL)?;
        Ok(Program {
            argv: if hook.args.is_empty() {
                Strings::new(vec![path.clone()])
            } else {
                strings(&hook.args)?
            },
            path,
            env: match (&hook.env, scene.env) {
                (Some(env), _) => Environment::Own(strings(env)?),
                (None, Some(env)) => Environment::OfScene(env),
                (None, None) => Environment::Own(Strings::of_this_process()),
            },
            cwd: scene.cwd,
        })
    }

    /// In the clone: becomes the hook, or says why not.
    fn exec(
        &self,
        ends: &Theirs,
        runner: Pid,
        confine: impl Fn() -> Result<(), (&'static str, Errno)>,
    ) -> ! {
        let Err((name, errno)) = self.steps(ends, runner, confine);
        let mut message = (errno as i32).to_ne_bytes().to_vec();
        message.extend(name.as_bytes());
        let _ = write(&ends.failure, &message);
        process::exit_now(127)
    }

    fn steps(
        &self,
        ends: &Theirs,
        runner: Pid,
        confine: impl Fn() -> Result<(), (&'static str, Errno)>,
    ) -> Result<Infallible, (&'static str, Errno)> {
        let at = |name| move |errno| (name, errno);
        // It ends with us: nobody would know of it any more. Who ended before this line isn't our parent now.
        process::set_dies_with_parent(true).map_err(at("prctl"))?;
        if getppid() != runner {
            process::exit_now(127);
        }
        // A group of its own can be killed as a whole.
        nix::unistd::setsid().map_err(at("setsid"))?;
        if let Some(cwd) = self.cwd {
            nix::unistd::chdir(cwd)
                .or_else(|_| nix::unistd::chdir("/"))
                .map_err(at("chdir"))?;
        }
        process::dup_onto(ends.input.as_fd(), 0).map_err(at("dup3"))?;
        process::dup_onto(ends.output.as_fd(), 1).map_err(at("dup3"))?;
        process::dup_onto(ends.output.as_fd(), 2).map_err(at("dup3"))?;
        // The link and the caller's descriptors are not for it; ours close at exec, and one of them is still to be used.
        let mut keep = [std::os::fd::AsRawFd::as_raw_fd(&ends.failure)];
        process::close_all_but(3, &mut keep).map_err(at("close_range"))?;
        signal::reset_all().map_err(at("sigaction"))?;
        signal::unblock_all().map_err(at("sigprocmask"))?;
        confine()?;
        Err((
            "execve",
            process::execve(&self.path, &self.argv, self.env.strings()),
        ))
    }
}
