//! A stand-in for a program that calls the runtime: its global flags, its environment, and pipes of
//! its own for the runtime's output. It dies with a signal to the runtime, as engines arrange.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::{Container, wait_for};

/// What conmon reads of the runtime's standard error: one read of this many bytes.
pub(super) const CONMON_READS: usize = 8191;

/// A program that calls the runtime.
pub(super) struct Caller<'a> {
    container: &'a Container,
    globals: Vec<String>,
    /// The whole environment of the runtime; `None` passes the test's own on.
    environment: Option<Vec<(String, String)>>,
}

/// What a caller has of the runtime after it exited. Processes of the container may hold the same
/// pipes, so that nobody waits for their end.
#[derive(Debug)]
pub(super) struct Answer {
    /// The exit code.
    pub(super) code: i32,
    /// Standard output, by one read.
    pub(super) stdout: String,
    /// Standard error, by one read of `CONMON_READS` bytes.
    pub(super) stderr: String,
}

impl Answer {
    /// Fails the test unless the runtime succeeded without a word on standard error.
    #[track_caller]
    pub(super) fn ok(self) -> Self {
        assert!(self.code == 0 && self.stderr.is_empty(), "{self:?}");
        self
    }

    /// Fails the test unless the runtime failed with this code and this text on one line of
    /// standard error.
    #[track_caller]
    pub(super) fn fails(self, code: i32, text: &str) -> Self {
        assert!(self.code == code && self.stderr.contains(text), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl<'a> Caller<'a> {
    /// A caller with the container's --root, and more global flags.
    pub(super) fn new(container: &'a Container, globals: &[&str]) -> Self {
        let root = container.root().to_str().unwrap().to_owned();
        let mut all = vec!["--root".to_owned(), root];
        all.extend(globals.iter().map(|flag| (*flag).to_owned()));
        Self::exactly(container, all)
    }

    /// A caller with these global flags only.
    pub(super) fn exactly(container: &'a Container, globals: Vec<String>) -> Self {
        Self {
            container,
            globals,
            environment: None,
        }
    }

    /// Gives the runtime this environment instead of the test's own.
    pub(super) fn environment(mut self, entries: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.environment = Some(entries.iter().map(owned).collect());
        self
    }

    /// The command that starts the runtime. The kernel kills the runtime when the caller dies.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(self.container.program());
        command.args(&self.globals).args(args).stdin(Stdio::null());
        if let Some(entries) = &self.environment {
            command.env_clear();
            command.envs(entries.iter().map(|(name, value)| (name, value)));
        }
        command
    }

    /// Runs the runtime with standard input empty.
    #[track_caller]
    pub(super) fn call(&self, args: &[&str]) -> Answer {
        answer(self.command(args))
    }

    /// Runs the runtime with a file as its standard input.
    #[track_caller]
    pub(super) fn call_with_input(&self, args: &[&str], input: &[u8]) -> Answer {
        let file = self.container.scratch().join("input");
        std::fs::write(&file, input).unwrap();
        let mut command = self.command(args);
        command.stdin(File::open(file).unwrap());
        answer(command)
    }

    /// Runs the runtime with one pipe for both streams, and returns its exit code and the output.
    #[track_caller]
    pub(super) fn call_combined(&self, args: &[&str]) -> (i32, String) {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = self.command(args);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let code = exit_code(command);
        (code, at_once(reader, 1 << 16))
    }
}

/// Runs a command with a pipe for each stream.
#[track_caller]
pub(super) fn answer(mut command: Command) -> Answer {
    let (stdout, writer) = std::io::pipe().unwrap();
    command.stdout(writer);
    let (stderr, writer) = std::io::pipe().unwrap();
    command.stderr(writer);
    let code = exit_code(command);
    Answer {
        code,
        stdout: at_once(stdout, 1 << 16),
        stderr: at_once(stderr, CONMON_READS),
    }
}

/// Runs a command and drops it with its ends of the pipes.
#[track_caller]
fn exit_code(mut command: Command) -> i32 {
    let mut child = command.spawn().unwrap();
    drop(command);
    wait_for(&mut child).code().expect("no signal ended it")
}

/// Reads what a pipe holds, with one call.
fn at_once(mut pipe: impl Read + AsFd, most: usize) -> String {
    fcntl(pipe.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut bytes = vec![0; most];
    let length = pipe.read(&mut bytes).unwrap_or(0);
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

/// The pid in a pid file, read as Go's `strconv.Atoi` and Rust's `parse` do: digits and nothing
/// else.
#[track_caller]
pub(super) fn pid_in(file: &Path) -> i32 {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.bytes().all(|byte| byte.is_ascii_digit()), "{text:?}");
    text.parse().unwrap()
}

/// Reaps a process that the kernel gave to this caller, its subreaper. Returns the exit code, or
/// 128 plus the signal.
#[track_caller]
pub(super) fn reap(pid: i32) -> i32 {
    match waitpid(Pid::from_raw(pid), None).unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    }
}

/// A file with a whole process, as engines write it for exec.
pub(super) fn process_file(container: &Container, script: &str, terminal: bool) -> String {
    let mut process = container.config()["process"].clone();
    process["args"] = json!(["/bin/sh", "-c", script]);
    process["terminal"] = json!(terminal);
    let file = container.scratch().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// The messages of the error records in a log, decoded as go-runc does: one JSON object after
/// another, with strings for level and msg, and a time by RFC 3339.
#[track_caller]
pub(super) fn errors_in(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let records = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let mut errors = Vec::new();
    for record in records {
        let record = record.unwrap_or_else(|e| panic!("{e}: {text}"));
        let time = record["time"].as_str().unwrap();
        humantime::parse_rfc3339(time).unwrap_or_else(|e| panic!("{time}: {e}"));
        let message = record["msg"].as_str().unwrap().to_owned();
        if record["level"].as_str().unwrap() == "error" {
            errors.push(message);
        }
    }
    errors
}
