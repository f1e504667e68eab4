//! orlop: a low-level OCI container runtime. It reads a command line, runs one command and prints
//! at most one error.
//!
//! Read on in `cli`, then `cmd/create`, `plan`, `launch` and `child`.

#![cfg_attr(not(test), no_main)]

mod annotations;
mod cgroup;
mod check;
mod child;
mod cli;
mod cmd;
mod criu;
mod detached;
mod diagnosis;
mod doctor;
mod error;
mod hooks;
mod inspect;
mod intel_rdt;
mod invocation;
mod launch;
mod log;
mod lsm;
mod manual;
mod net_devices;
mod origin;
mod plan;
mod program;
mod protocol;
mod screen;
mod seal;
#[cfg(test)]
mod skipped;
mod spec;
mod state;
mod sys;
mod time;
mod timeline;
mod timens;
mod views;

use std::ffi::OsString;

use diagnosis::{Code, Diagnosis};
use invocation::Command;
use log::Log;
use timeline::Phase;

#[cfg(not(test))]
sys::entry::entry!(start);

#[cfg(not(test))]
#[global_allocator]
static HEAP: sys::heap::Heap = sys::heap::new();

/// The stack that the deepest calls need, with some reserve. With a smaller stack, the kernel kills
/// the process without a message.
const MIN_STACK_BYTES: u64 = 128 << 10;

/// Checks the stack limit and runs the command. Returns the exit code.
#[cfg_attr(test, allow(dead_code, reason = "tests have an entry of their own"))]
fn start() -> i32 {
    match sys::entry::stack_limit() {
        Ok(limit) if limit < MIN_STACK_BYTES => {
            log::print_stderr_line(&format!(
                "the stack limit is {} KiB, but orlop needs {} KiB (ulimit -s)",
                limit >> 10,
                MIN_STACK_BYTES >> 10
            ));
            1
        }
        _ => run_command_line(),
    }
}

/// Runs the command. This is separate from `start`, whose stack frame must stay small.
#[inline(never)]
fn run_command_line() -> i32 {
    let fds = sys::entry::open_standard_fds().and_then(|()| sys::entry::ignore_sigpipe());
    // Without random numbers the standard library's hash tables would panic.
    let random =
        || sys::entry::check_random().map_err(|errno| ("read random numbers: getrandom", errno));
    let begun = fds.map_err(|errno| ("open standard input, output and error", errno));
    if let Err((what, errno)) = begun.and_then(|()| random()) {
        log::print_stderr_line(&format!("{what}: {}", error::ErrnoText(errno)));
        return 1;
    }
    let argv: Vec<OsString> = std::env::args_os().collect();
    if cli::wants_timeline(&argv)
        && let Err(errno) = timeline::start_timeline()
    {
        let reason = error::ErrnoText(errno);
        log::print_stderr_line(&format!("start the timeline: mmap: {reason}"));
        return 1;
    }
    timeline::begin_step(Phase::Seal);
    // Protect the binary before the command line is parsed, because this may execute the binary
    // again.
    let sealed = if cli::may_enter_container(&argv) {
        seal::ensure_sealed()
    } else {
        Ok(())
    };
    timeline::begin_step(Phase::Parse);
    let invocation = match cli::parse_argv(argv) {
        Ok(invocation) => invocation,
        Err(cli::EarlyExit::Text(text)) => return i32::from(log::print_stdout(&text).is_err()),
        Err(cli::EarlyExit::Usage(usage)) => {
            Log::new(usage.log).error(&usage.message, &Diagnosis::new(Code::Usage));
            return usage.code.into();
        }
    };
    let settings = invocation.globals.log.clone();
    let log = Log::new(settings).about(invocation.command.container());
    let (prefix, failure) = match invocation.command {
        Command::Create(_) => ("orlop create failed: ", 1),
        Command::Run(_) => ("orlop run failed: ", 1),
        Command::Exec(_) => ("exec failed: ", 255),
        _ => ("", 1),
    };
    let done = sealed
        .map_err(cmd::Error::from)
        .and_then(|()| cmd::run_command(invocation, &log));
    done.unwrap_or_else(|error| {
        log.error(&format!("{prefix}{error}"), &error.diagnose());
        // The exit code that a shell reports for a process killed by a signal.
        error
            .interrupting_signal()
            .map_or(failure, |signal| 128 + signal)
    })
}
