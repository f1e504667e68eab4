//! orlop: a low-level OCI container runtime. A command line comes in, one command runs, one error is printed at most.
//!
//! Read on in `cli`, then `cmd/create`, `plan`, `launch` and `child`.

mod cgroup;
mod child;
mod cli;
mod cmd;
mod error;
mod invocation;
mod launch;
mod log;
mod plan;
mod protocol;
mod seal;
mod spec;
mod state;
mod sys;
mod time;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use invocation::Command;
use log::Log;

/// The commands whose child enters a container's namespaces while it still runs this binary.
const SEALED: [&str; 3] = ["create", "run", "exec"];

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    // Before the command line is read, which would be done twice: a word that only looks like one of these costs half a
    // millisecond, nothing else.
    let sealed = if argv
        .iter()
        .any(|word| SEALED.iter().any(|command| word == command))
    {
        seal::ensure()
    } else {
        Ok(())
    };
    let invocation = match cli::parse(argv) {
        Ok(invocation) => invocation,
        Err(cli::Early::Text(text)) => {
            let written = std::io::stdout().write_all(text.as_bytes());
            return if written.is_ok() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
        Err(cli::Early::Usage(usage)) => {
            Log::new(usage.log).error(&usage.message);
            return ExitCode::from(usage.code);
        }
    };
    let log = Log::new(invocation.globals.log.clone());
    let (prefix, failure) = match invocation.command {
        Command::Create(_) => ("orlop create failed: ", 1),
        Command::Run(_) => ("orlop run failed: ", 1),
        Command::Exec(_) => ("exec failed: ", 255),
        _ => ("", 1),
    };
    let done = sealed
        .map_err(cmd::Error::from)
        .and_then(|()| cmd::run(invocation, &log));
    match done {
        // The low eight bits are what the caller's wait sees, as with any exit code.
        Ok(code) => ExitCode::from(code.to_le_bytes().first().copied().unwrap_or(u8::MAX)),
        Err(error) => {
            log.error(&format!("{prefix}{error}"));
            ExitCode::from(failure)
        }
    }
}
