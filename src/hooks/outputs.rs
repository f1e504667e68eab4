//! The files for the output of hooks, if annotations name such files.
//! Without such files, `run` keeps only the end of the output, for error messages.

use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;

use crate::annotations::{self, Annotations, HOOKS_STDERR, HOOKS_STDOUT, Outputs};
use crate::diagnosis::Code;
use crate::error::{Failed, Findings, failed};
use crate::origin::config;

/// The paths of the files.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct OutputPaths {
    stdout: Option<PathBuf>,
    stderr: Option<PathBuf>,
}

impl OutputPaths {
    /// Takes the paths from the annotations of a container.
    pub(crate) fn of(annotations: &impl Annotations) -> OutputPaths {
        OutputPaths {
            stdout: annotations.text(HOOKS_STDOUT).map(PathBuf::from),
            stderr: annotations.text(HOOKS_STDERR).map(PathBuf::from),
        }
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let stdout = self.stdout.iter().map(|path| (HOOKS_STDOUT, path));
        stdout.chain(self.stderr.iter().map(|path| (HOOKS_STDERR, path)))
    }

    /// Refuses relative paths, because each command would resolve them in its own working
    /// directory.
    pub(crate) fn check(&self, findings: &mut Findings) {
        for (name, path) in self.named().filter(|(_, path)| !path.is_absolute()) {
            let problem = format!("{path:?} is not an absolute path");
            findings.refuse_as(Code::InvalidAnnotation, annotations::place(name), problem);
        }
    }

    /// Opens the files for appending, and makes them if they are missing.
    pub(crate) fn open(&self) -> Result<Outputs, Failed> {
        let mut outputs = Outputs::default();
        for (name, path) in self.named() {
            let what = || {
                let place = annotations::place(name);
                config(place).asks_to(format!("open {} for hooks", path.display()))
            };
            // With O_NONBLOCK, opening a FIFO without a reader fails instead of blocking.
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_CLOEXEC;
            let flags = flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
            let file =
                open(path, flags, Mode::from_bits_truncate(0o600)).map_err(failed("open", what))?;
            fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND)).map_err(failed("fcntl", what))?;
            match name {
                HOOKS_STDOUT => outputs.stdout = Some(file),
                _ => outputs.stderr = Some(file),
            }
        }
        Ok(outputs)
    }
}
