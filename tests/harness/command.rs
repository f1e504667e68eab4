//! Runs a command with a deadline. Output goes to files, so a leftover process blocks no reader.
//! Knows nothing of the command's purpose.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a command may take. Only a failure waits that long, so it suits an emulated machine
/// under load.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The result of a command: its exit code and two files. Each method reads its file anew, since a
/// detached process may still write to it.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// The exit code, or 128 plus the signal.
    pub(crate) code: i32,
    line: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Output {
    /// Standard output so far.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout_bytes()).into_owned()
    }

    /// Standard output so far, as raw bytes.
    pub(crate) fn stdout_bytes(&self) -> Vec<u8> {
        fs::read(&self.stdout).unwrap()
    }

    /// Standard error so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap()).into_owned()
    }

    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub(crate) fn ok(&self) -> &Self {
        self.exits(0)
    }

    /// Fails the test unless the command exited with this code.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Self {
        assert!(
            self.code == code,
            "{}: exit code {} instead of {code}\nstdout: {}\nstderr: {}",
            self.line,
            self.code,
            self.stdout(),
            self.stderr()
        );
        self
    }

    /// Fails the test unless standard error contains the text.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        let stderr = self.stderr();
        assert!(
            stderr.contains(text),
            "{}: no {text:?} in stderr: {stderr}",
            self.line
        );
        self
    }

    /// Fails the test unless standard error is one line. Warnings before an error don't count.
    #[track_caller]
    pub(crate) fn one_line(&self) -> &Self {
        let stderr = self.stderr();
        let is_warning =
            |line: &&str| line.starts_with("time=") && line.contains(" level=warning ");
        let lines = match self.code {
            0 => stderr.lines().count(),
            _ => stderr.lines().skip_while(is_warning).count(),
        };
        assert!(lines == 1, "{}: not one line: {stderr:?}", self.line);
        self
    }
}

/// Runs a command until it exits, with its output in files of a directory. Panics past the
/// deadline.
#[track_caller]
pub(crate) fn finish(command: Command, dir: &Path) -> Output {
    try_finish(command, dir).unwrap_or_else(|message| panic!("{message}"))
}

/// A running command whose output goes to files.
pub(crate) struct Started {
    pub(crate) child: Child,
    line: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Started {
    /// Starts a command whose output goes to files of a directory.
    pub(crate) fn spawn(mut command: Command, dir: &Path) -> Result<Self, String> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let line = format!("{command:?}");
        let stdout = dir.join(format!("stdout.{number}"));
        let stderr = dir.join(format!("stderr.{number}"));
        command.stdout(File::create(&stdout).unwrap());
        command.stderr(File::create(&stderr).unwrap());
        let child = command.spawn().map_err(|e| format!("{line}: {e}"))?;
        Ok(Self {
            child,
            line,
            stdout,
            stderr,
        })
    }

    /// The result of the command, which has exited with this code, or 128 plus its signal.
    pub(crate) fn ended(self, code: i32) -> Output {
        let Self {
            child: _,
            line,
            stdout,
            stderr,
        } = self;
        Output {
            code,
            line,
            stdout,
            stderr,
        }
    }
}

/// Like `finish`, but returns an error message instead of panicking.
pub(crate) fn try_finish(command: Command, dir: &Path) -> Result<Output, String> {
    let mut started = Started::spawn(command, dir)?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = started.child.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > DEADLINE {
            started.child.kill().unwrap();
            started.child.wait().unwrap();
            return Err(format!(
                "{}: still running after {DEADLINE:?}\nstdout: {}\nstderr: {}",
                started.line,
                fs::read_to_string(&started.stdout).unwrap_or_default(),
                fs::read_to_string(&started.stderr).unwrap_or_default()
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    use std::os::unix::process::ExitStatusExt;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(started.ended(code))
}

/// Waits until a condition holds. Panics with the condition's name past the deadline.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < DEADLINE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
