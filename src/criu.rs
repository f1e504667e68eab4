//! Runs `criu`, which writes a container's processes to files and restores them, and talks to it
//! through its RPC.
//! `launch::checkpoint` and `launch::restore` decide what a dump contains and how a restore
//! proceeds.

mod log;
pub(crate) mod message;
mod worker;

use std::ffi::{CString, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use nix::sys::signal::Signal;

use crate::error::{ErrnoText, Failed};
use crate::sys::clone::Exit;
use crate::sys::{Errno, path};
use message::{CriuFeatures, CriuVersion, Request, Response, request_type};
pub(crate) use worker::{CriuNotice, CriuWorker, WorkerSetup};

/// Why a request to CRIU failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("criu is not installed: no directory of PATH has it ({0})")]
    Absent(String),
    #[error("{0} is CRIU {1}, which is too old for {2}: {3} or newer is needed")]
    TooOld(String, VersionNumber, &'static str, VersionNumber),
    #[error("{0} does not support {1} on this kernel")]
    Unsupported(String, &'static str),
    #[error("{0}")]
    Unprepared(String),
    #[error("criu was {0} before it could be asked")]
    Died(String),
    #[error("criu ended without an answer")]
    Silent,
    #[error("the answer of criu can't be read: {0:?}")]
    Unreadable(String),
    /// The requested operation, and the end of the message: the reason and the path of CRIU's log.
    #[error("criu failed to {0}{1}")]
    Failed(&'static str, String),
    #[error("interrupted by signal {0} ({name})", name = Signal::try_from(*.0).map_or("unknown", Signal::as_str))]
    Interrupted(i32),
    #[error(transparent)]
    Call(#[from] Failed),
}

/// A version of CRIU, which can be compared with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VersionNumber(i32, i32, i32);

impl std::fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let VersionNumber(major, minor, sublevel) = self;
        match sublevel {
            0 => write!(f, "{major}.{minor}"),
            _ => write!(f, "{major}.{minor}.{sublevel}"),
        }
    }
}

impl From<CriuVersion> for VersionNumber {
    fn from(version: CriuVersion) -> VersionNumber {
        let sublevel = version.sublevel.unwrap_or(0);
        VersionNumber(version.major, version.minor, sublevel)
    }
}

/// The oldest supported version. It can freeze a cgroup v2, join all kinds of namespaces and apply
/// another LSM profile.
const OLDEST_VERSION: VersionNumber = VersionNumber(3, 16, 0);
/// The first version in which the caller chooses how the network is blocked during a dump.
pub(crate) const NETWORK_LOCK_VERSION: VersionNumber = VersionNumber(3, 17, 0);
/// The directories to search for `criu` if the caller has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The installed CRIU.
pub(crate) struct Criu {
    program: CString,
    version: VersionNumber,
}

impl Criu {
    /// Finds the program and asks for its version. `null` is the null device.
    pub(crate) fn find(null: BorrowedFd<'_>) -> Result<Criu, Error> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        let program = find_program(&path);
        let program = program.ok_or_else(|| Error::Absent(path.to_string_lossy().into_owned()))?;
        let program = path::c_path(program.as_os_str()).unwrap_or_default();
        let request = Request {
            kind: request_type::VERSION,
            ..Request::default()
        };
        let mut criu = Criu {
            program,
            version: VersionNumber(0, 0, 0),
        };
        // A CRIU that doesn't know this request is from 2017 or older.
        let response = criu.ask_once(&request, null)?;
        criu.version = response.version.unwrap_or_default().into();
        criu.require_version(OLDEST_VERSION, "this program")?;
        Ok(criu)
    }

    /// Returns CRIU's version, for the log.
    pub(crate) fn version(&self) -> VersionNumber {
        self.version
    }

    /// Returns an error if CRIU is too old for `purpose`.
    pub(crate) fn require_version(
        &self,
        version: VersionNumber,
        purpose: &'static str,
    ) -> Result<(), Error> {
        if self.version >= version {
            return Ok(());
        }
        Err(Error::TooOld(
            self.describe_program(),
            self.version,
            purpose,
            version,
        ))
    }

    /// Returns an error if CRIU or this kernel lacks a needed feature. `mem_track` shows which
    /// memory was written since a dump. `lazy_pages` restores memory when it is first used.
    pub(crate) fn require_features(
        &self,
        mem_track: bool,
        lazy_pages: bool,
        null: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let asked = |wanted: bool| wanted.then_some(true);
        let request = Request {
            kind: request_type::FEATURE_CHECK,
            features: Some(CriuFeatures {
                mem_track: asked(mem_track),
                lazy_pages: asked(lazy_pages),
            }),
            ..Request::default()
        };
        let has = self.ask_once(&request, null)?.features.unwrap_or_default();
        if mem_track && has.mem_track != Some(true) {
            let what = "tracking of memory, which --pre-dump and --parent-path take,";
            return Err(Error::Unsupported(self.describe_program(), what));
        }
        if lazy_pages && has.lazy_pages != Some(true) {
            return Err(Error::Unsupported(self.describe_program(), "--lazy-pages"));
        }
        Ok(())
    }

    /// Clones a process that executes CRIU after `CriuWorker::let_execute`.
    pub(crate) fn start_worker(
        &self,
        start: &WorkerSetup<'_>,
        prepare: impl FnOnce() -> Result<(), Failed>,
    ) -> Result<CriuWorker, Error> {
        CriuWorker::start_process(&self.program, start, prepare)
    }

    /// Starts a CRIU process for one request that changes nothing, and returns the response.
    fn ask_once(&self, request: &Request, null: BorrowedFd<'_>) -> Result<Response, Error> {
        let start = WorkerSetup {
            namespaces: CloneFlags::empty(),
            cgroup: None,
            null: Some(null),
            inherited: Vec::new(),
        };
        let worker = self.start_worker(&start, || Ok(()))?;
        let answer = |_: CriuNotice| Ok::<(), Error>(());
        let response = worker
            .let_execute()
            .and_then(|()| worker.ask_criu(request, answer));
        match (response, worker.close_and_reap()) {
            (Err(Error::Silent), Ok(exit)) => Err(Error::Died(describe_exit(exit))),
            (response, _) => response,
        }
    }

    fn describe_program(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }
}

/// Makes the error for a response that reports a failure.
pub(crate) fn refusal_error(verb: &'static str, response: &Response, log: &Path) -> Error {
    let errno = match response.errno {
        Some(errno) => format!(" ({})", ErrnoText(Errno::from_raw(errno))),
        None => String::new(),
    };
    let mut why = log::quote_last_error(log);
    if let (false, Some(error)) = (why.contains("Error ("), &response.error) {
        why = format!(": {}{why}", error.trim());
    }
    Error::Failed(verb, format!("{errno}{why}"))
}

/// Makes the error for a CRIU process that exited before it sent a response.
pub(crate) fn exit_error(verb: &'static str, exit: Exit, log: &Path) -> Error {
    Error::Failed(
        verb,
        format!(
            ": it was {}{}",
            describe_exit(exit),
            log::quote_last_error(log)
        ),
    )
}

fn describe_exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with code {code}"),
        Exit::Signal(signal) => {
            let name = Signal::try_from(signal).map_or("unknown", Signal::as_str);
            format!("killed by signal {signal} ({name})")
        }
    }
}

/// Finds `criu` in the directories of a PATH. Skips relative directories, because root must not run
/// programs from them.
fn find_program(path: &OsStr) -> Option<PathBuf> {
    let runs = |file: &PathBuf| {
        let stat = std::fs::metadata(file);
        stat.is_ok_and(|stat| stat.is_file() && stat.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("criu"))
        .find(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(VersionNumber(3, 17, 1) > VersionNumber(3, 17, 0));
        assert!(VersionNumber(4, 0, 0) > VersionNumber(3, 19, 9));
        assert!(VersionNumber(3, 9, 0) < OLDEST_VERSION);
        assert_eq!(VersionNumber(4, 1, 0).to_string(), "4.1");
        assert_eq!(VersionNumber(3, 17, 1).to_string(), "3.17.1");
    }

    #[test]
    fn a_message_has_the_bytes_that_protobuf_gives_it() {
        use prost::Message as _;
        let request = Request {
            kind: request_type::NOTIFY,
            notify_success: Some(true),
            ..Request::default()
        };
        assert_eq!(request.encode_to_vec(), [0x08, 6, 0x18, 1]);
        // The decoder skips a field that `Response` doesn't have (dump, 3).
        let bytes = [0x08, 2, 0x10, 1, 0x1a, 2, 0x08, 1, 0x22, 2, 0x08, 42];
        let response = Response::decode(bytes.as_slice()).unwrap_or_default();
        assert!(response.success);
        assert_eq!(response.restore.map(|restored| restored.pid), Some(42));
    }
}
