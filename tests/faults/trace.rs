//! Traces a command and its children by ptrace(2), counts their system calls, and injects a fault.
//! `sweep` decides what the command must do then.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::harness::{Output, Started};

/// How long a command with a fault may take. A long run shares the machine with other work, and a
/// command that hangs does so for ever.
fn longest() -> Duration {
    let long = std::env::var_os("ORLOP_TEST_FAULTS").is_some();
    Duration::from_secs(if long { 300 } else { 10 })
}

/// The fault that a process gets instead of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    Errno(Errno),
}

/// Calls that the kernel has no errno for.
const INFALLIBLE: [i64; 12] = [
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_umask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
];

/// Calls of the heap allocator, which fail only for lack of memory.
const OF_MEMORY: [i64; 6] = [
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
];

/// Calls that the C library makes before `main`.
const OF_LIBRARY: [i64; 4] = [
    libc::SYS_arch_prctl,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
];

/// Whether a failure of the call kills a program without a message, as it happens in the heap or
/// the C library.
pub(crate) fn is_fatal(number: u64) -> bool {
    OF_MEMORY.contains(&(number as i64)) || OF_LIBRARY.contains(&(number as i64))
}

impl Fault {
    /// False if no kernel returns this errno for the call.
    pub(crate) fn can_happen(self, number: u64) -> bool {
        let Fault::Errno(errno) = self else {
            return true;
        };
        match number as i64 {
            number if INFALLIBLE.contains(&number) => false,
            number if OF_MEMORY.contains(&number) => errno == Errno::ENOMEM,
            libc::SYS_getrandom => [Errno::EINTR, Errno::ENOSYS, Errno::EPERM].contains(&errno),
            // The standard library has a fallback if the first call returns one of these. It panics
            // if a later call does.
            libc::SYS_sendfile => ![Errno::ENOSYS, Errno::EPERM].contains(&errno),
            _ => true,
        }
    }
}

/// A system call of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// Counted from 0.
    Nth(usize),
    /// One of the calls with this number, counted from 0. The heap makes a call more or less now and
    /// then, so the same call hasn't always the same place among all.
    Of(i64, usize),
}

/// A fault and its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim {
    /// 0 is the command. Its descendants follow in order of birth.
    pub(crate) process: usize,
    pub(crate) at: At,
    pub(crate) fault: Fault,
}

/// A command that has exited.
pub(crate) struct Traced {
    pub(crate) output: Output,
    /// The numbers of the traced system calls of each process. Only the runtime's program is
    /// traced.
    pub(crate) calls: Vec<Vec<u64>>,
    /// All processes that were traced.
    pub(crate) pids: Vec<Pid>,
    /// The number of the call at which the fault happened.
    pub(crate) hit: Option<u64>,
    /// Whether the first child had executed another program before the fault.
    pub(crate) ran: bool,
    pub(crate) hung: bool,
}

struct Tracee {
    index: usize,
    inside: bool,
    /// The errno that the current call will return.
    result: Option<Errno>,
    /// The runtime's program runs, so that its calls count.
    counted: bool,
}

struct Tracer {
    root: Pid,
    aim: Option<Aim>,
    tracees: HashMap<Pid, Tracee>,
    /// The pids of the tracees, for the thread that kills them all after the time limit.
    living: Arc<Mutex<Vec<Pid>>>,
    calls: Vec<Vec<u64>>,
    pids: Vec<Pid>,
    hit: Option<u64>,
    ran: bool,
    /// The trace is complete: each tracee is detached as soon as it stops.
    leaving: bool,
    ended: Option<i32>,
}

/// Traces a command that stops itself before it executes the runtime. Its output goes to files in
/// `dir`.
pub(crate) fn trace(command: Command, dir: &Path, aim: Option<Aim>) -> Traced {
    // On a thread of its own, the tracer can wait for the command and for tracees, and nothing else.
    std::thread::scope(|scope| {
        let tracer = scope.spawn(|| trace_here(command, dir, aim));
        tracer.join().unwrap()
    })
}

fn trace_here(command: Command, dir: &Path, aim: Option<Aim>) -> Traced {
    let started = Started::spawn(command, dir).unwrap();
    let root = Pid::from_raw(started.child.id() as i32);
    waitpid(root, Some(WaitPidFlag::WUNTRACED)).unwrap();
    let living = Arc::new(Mutex::new(Vec::new()));
    let (done, end) = mpsc::channel::<()>();
    let others = Arc::clone(&living);
    let watchdog = std::thread::spawn(move || {
        let hung = end.recv_timeout(longest()) == Err(mpsc::RecvTimeoutError::Timeout);
        if hung {
            let _ = kill(root, Signal::SIGKILL);
            for pid in others.lock().unwrap().iter() {
                let _ = kill(*pid, Signal::SIGKILL);
            }
        }
        hung
    });
    let tracer = Tracer::attach(root, aim, living).follow();
    drop(done);
    let hung = watchdog.join().unwrap();
    Traced {
        output: started.ended(tracer.ended.unwrap_or(-1)),
        calls: tracer.calls,
        pids: tracer.pids,
        hit: tracer.hit,
        ran: tracer.ran,
        hung,
    }
}

impl Tracer {
    /// Attaches to a stopped process and lets it go on.
    fn attach(root: Pid, aim: Option<Aim>, living: Arc<Mutex<Vec<Pid>>>) -> Tracer {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(root, options).unwrap();
        let mut tracer = Tracer {
            root,
            aim,
            tracees: HashMap::new(),
            living,
            calls: Vec::new(),
            pids: Vec::new(),
            hit: None,
            ran: false,
            leaving: false,
            ended: None,
        };
        tracer.know(root, false);
        kill(root, Signal::SIGCONT).unwrap();
        tracer
    }

    fn know(&mut self, pid: Pid, counted: bool) {
        if self.tracees.contains_key(&pid) {
            return;
        }
        let tracee = Tracee {
            index: self.calls.len(),
            inside: false,
            result: None,
            counted,
        };
        self.calls.push(Vec::new());
        self.pids.push(pid);
        self.tracees.insert(pid, tracee);
        self.living.lock().unwrap().push(pid);
    }

    fn forget(&mut self, pid: Pid) {
        self.tracees.remove(&pid);
        self.living.lock().unwrap().retain(|known| *known != pid);
    }

    /// Waits until the command exits, and detaches from all other processes. Waits for those too that
    /// no event has told of, because their parent was killed at their birth.
    fn follow(mut self) -> Tracer {
        // Wait only for tracees of this thread, as other tests have children too.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(Pid::from_raw(-1), Some(flags)) {
                Ok(status) => self.happened(status),
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return self,
                Err(errno) => panic!("waitpid: {errno}"),
            }
        }
    }

    fn happened(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::Exited(pid, code) => self.gone(pid, code),
            WaitStatus::Signaled(pid, signal, _) => self.gone(pid, 128 + signal as i32),
            WaitStatus::PtraceSyscall(pid) => self.call(pid),
            WaitStatus::PtraceEvent(pid, _, event) => self.event(pid, event),
            WaitStatus::Stopped(pid, signal) => {
                self.know(pid, true);
                self.go_on(pid, Some(signal));
            }
            other => panic!("{other:?}"),
        }
    }

    fn gone(&mut self, pid: Pid, code: i32) {
        self.forget(pid);
        if pid == self.root {
            self.ended = Some(code);
            self.leave();
        }
    }

    /// Interrupts all remaining tracees, so that they can be detached.
    fn leave(&mut self) {
        self.leaving = true;
        for pid in self.tracees.keys() {
            let _ = ptrace::interrupt(*pid);
        }
    }

    fn go_on(&mut self, pid: Pid, signal: Option<Signal>) {
        // A tracee that has been killed in the meantime can't be detached (ESRCH), so wait for it.
        let pending = self.tracees.get(&pid).is_some_and(|t| t.result.is_some());
        if self.leaving && !pending {
            if ptrace::detach(pid, signal) != Err(Errno::ESRCH) {
                self.forget(pid);
            }
        } else {
            let _ = ptrace::syscall(pid, signal);
        }
    }

    fn event(&mut self, pid: Pid, event: i32) {
        self.know(pid, true);
        match event {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                let born = Pid::from_raw(ptrace::getevent(pid).unwrap_or(0) as i32);
                if born.as_raw() > 0 {
                    self.know(born, true);
                }
            }
            libc::PTRACE_EVENT_EXEC => {
                if pid != self.root {
                    // The process now runs a hook, a tool or the container's program.
                    let first = self.tracees.get(&pid).is_some_and(|t| t.index == 1);
                    self.ran |= first && self.hit.is_none();
                    let _ = ptrace::detach(pid, None);
                    self.forget(pid);
                    return;
                }
                if let Some(tracee) = self.tracees.get_mut(&pid) {
                    tracee.counted = true;
                }
            }
            _ => {}
        }
        self.go_on(pid, None);
    }

    fn call(&mut self, pid: Pid) {
        let tracee = self.tracees.get_mut(&pid).unwrap();
        tracee.inside = !tracee.inside;
        let index = tracee.index;
        if !tracee.counted {
            return self.go_on(pid, None);
        }
        if !tracee.inside {
            if let Some(errno) = tracee.result.take() {
                if let Ok(mut registers) = ptrace::getregs(pid) {
                    registers.rax = -(errno as i64) as u64;
                    let _ = ptrace::setregs(pid, registers);
                }
                self.leave();
            }
            return self.go_on(pid, None);
        }
        let Ok(mut registers) = ptrace::getregs(pid) else {
            return self.go_on(pid, None);
        };
        let calls = &mut self.calls[index];
        calls.push(registers.orig_rax);
        let nth = calls.len() - 1;
        let is_there = |at| match at {
            At::Nth(wanted) => wanted == nth,
            At::Of(number, wanted) => {
                let number = number as u64;
                let before = calls[..nth].iter().filter(|call| **call == number).count();
                registers.orig_rax == number && before == wanted
            }
        };
        match self.aim {
            Some(aim)
                if self.hit.is_none()
                    && aim.process == index
                    && is_there(aim.at)
                    && aim.fault.can_happen(registers.orig_rax) =>
            {
                self.hit = Some(registers.orig_rax);
                match aim.fault {
                    Fault::Kill => {
                        let _ = kill(pid, Signal::SIGKILL);
                        self.leave();
                    }
                    Fault::Errno(errno) => {
                        // The kernel closes the descriptor even if close(2) fails, so let the call
                        // run.
                        if registers.orig_rax != libc::SYS_close as u64 {
                            registers.orig_rax = u64::MAX;
                            let _ = ptrace::setregs(pid, registers);
                        }
                        tracee_of(&mut self.tracees, pid).result = Some(errno);
                    }
                }
            }
            _ => {}
        }
        self.go_on(pid, None);
    }
}

fn tracee_of(tracees: &mut HashMap<Pid, Tracee>, pid: Pid) -> &mut Tracee {
    tracees.get_mut(&pid).unwrap()
}

/// The kernel attaches the tracer to each newborn. If the parent is killed at this moment, no event
/// tells of the birth, and the newborn stays stopped unless the tracer waits for it.
#[test]
fn no_newborn_stays_stopped_when_its_parent_is_killed() {
    let c = container!();
    let with_cookie = c.command(&[]);
    for round in 0..200 {
        let script = format!(
            "kill -STOP $$
            /bin/sh -c 'while [ $1 -gt 0 ]; do set -- $(($1 - 1)); done; kill -KILL $0' $$ {} &
            while :; do : & done",
            round * 20
        );
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]);
        command.envs(
            with_cookie
                .get_envs()
                .map(|(key, value)| (key, value.unwrap())),
        );
        let traced = trace(command, c.own_dir(), None);
        assert!(!traced.hung, "round {round}");
        let leaks = c.lasting_leaks();
        assert!(leaks.is_empty(), "round {round}: {leaks:?}");
    }
}
