//! Follows a command and its children by ptrace(2), counts their system calls, and lets one fault happen at one of them.
//! What a command must do then is `sweep`'s business.

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

/// How long a command may take with a fault in it. A long run shares the machine with others, and what hangs does so for ever.
fn longest() -> Duration {
    let long = std::env::var_os("ORLOP_TEST_FAULTS").is_some();
    Duration::from_secs(if long { 60 } else { 10 })
}

/// What happens to a process instead of a system call.
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

/// Calls of the heap, which fail for want of memory alone.
const OF_MEMORY: [i64; 6] = [
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
];

/// Calls of the C library before `main`.
const OF_LIBRARY: [i64; 4] = [
    libc::SYS_arch_prctl,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
];

/// True if the failure of a call ends a program that can't say why: its heap and its C library do so.
pub(crate) fn is_fatal(number: u64) -> bool {
    OF_MEMORY.contains(&(number as i64)) || OF_LIBRARY.contains(&(number as i64))
}

impl Fault {
    /// False for an errno that no kernel answers a call with.
    pub(crate) fn can_happen(self, number: u64) -> bool {
        let Fault::Errno(errno) = self else {
            return true;
        };
        match number as i64 {
            number if INFALLIBLE.contains(&number) => false,
            number if OF_MEMORY.contains(&number) => errno == Errno::ENOMEM,
            libc::SYS_getrandom => [Errno::EINTR, Errno::ENOSYS, Errno::EPERM].contains(&errno),
            // The standard library does without it if the first one says so, and panics if a later one does.
            libc::SYS_sendfile => ![Errno::ENOSYS, Errno::EPERM].contains(&errno),
            _ => true,
        }
    }
}

/// One of the system calls of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// Counted from 0.
    Nth(usize),
    /// The first one of this number.
    First(i64),
}

/// Where a fault happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim {
    /// 0 is the command, the others are its descendants in the order of their births.
    pub(crate) process: usize,
    pub(crate) at: At,
    pub(crate) fault: Fault,
}

/// A command that has ended.
pub(crate) struct Traced {
    pub(crate) output: Output,
    /// The numbers of the system calls that were seen, of each process. Programs other than the runtime are not followed.
    pub(crate) calls: Vec<Vec<u64>>,
    /// All processes that were seen.
    pub(crate) pids: Vec<Pid>,
    /// The call that the fault happened at.
    pub(crate) hit: Option<u64>,
    /// True if the first child ran another program by then.
    pub(crate) ran: bool,
    pub(crate) hung: bool,
}

struct Tracee {
    index: usize,
    inside: bool,
    /// What the call that it is in will return.
    result: Option<Errno>,
    /// The program that is judged runs.
    counted: bool,
}

struct Tracer {
    root: Pid,
    aim: Option<Aim>,
    tracees: HashMap<Pid, Tracee>,
    /// The same, for who ends them all when it takes too long.
    living: Arc<Mutex<Vec<Pid>>>,
    calls: Vec<Vec<u64>>,
    pids: Vec<Pid>,
    hit: Option<u64>,
    ran: bool,
    /// All that is wanted has happened: whoever stops is let go.
    leaving: bool,
    ended: Option<i32>,
}

/// Runs a command that stops itself before it executes the runtime. Its output goes to files in `dir`.
pub(crate) fn trace(command: Command, dir: &Path, aim: Option<Aim>) -> Traced {
    let started = Started::spawn(command, dir).unwrap();
    let root = Pid::from_raw(started.child.id() as i32);
    waitpid(root, Some(WaitPidFlag::WUNTRACED)).unwrap();
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(root, options).unwrap();
    let living = Arc::new(Mutex::new(Vec::new()));
    let mut tracer = Tracer {
        root,
        aim,
        tracees: HashMap::new(),
        living: Arc::clone(&living),
        calls: Vec::new(),
        pids: Vec::new(),
        hit: None,
        ran: false,
        leaving: false,
        ended: None,
    };
    tracer.know(root, false);
    kill(root, Signal::SIGCONT).unwrap();
    let (done, end) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let hung = end.recv_timeout(longest()) == Err(mpsc::RecvTimeoutError::Timeout);
        if hung {
            let _ = kill(root, Signal::SIGKILL);
            for pid in living.lock().unwrap().iter() {
                let _ = kill(*pid, Signal::SIGKILL);
            }
        }
        hung
    });
    tracer.follow();
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

    /// Waits for the command's end, and lets go of everybody else then.
    fn follow(&mut self) {
        // Only what this thread has begun: other tests have children too.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        while self.ended.is_none() || !self.tracees.is_empty() {
            match waitpid(Pid::from_raw(-1), Some(flags)) {
                Ok(status) => self.happened(status),
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break,
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

    /// Has everybody stop who is still followed.
    fn leave(&mut self) {
        self.leaving = true;
        for pid in self.tracees.keys() {
            let _ = ptrace::interrupt(*pid);
        }
    }

    fn go_on(&mut self, pid: Pid, signal: Option<Signal>) {
        // Whoever was killed meanwhile is waited for.
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
                    // It is a hook, a tool or the container's program now.
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
            At::First(number) => registers.orig_rax == number as u64,
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
                        // The kernel lets go of a descriptor whatever it says of it.
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
