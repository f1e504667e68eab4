//! CRIU, which writes the processes of a container into files and makes them anew: the program `criu`, asked by its RPC.
//! Not what is written and how a container comes back: `launch::checkpoint` and `launch::restore` decide that.

mod log;
pub(crate) mod message;
mod worker;

use std::ffi::{CString, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use nix::sys::signal::Signal;

use crate::error::{Failed, Reason};
use crate::sys::clone::Exit;
use crate::sys::{Errno, path};
use message::{Features, Request, Response, Version, kind};
pub(crate) use worker::{Notice, Start, Worker};

/// Why CRIU can't do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("criu is not installed: no directory of PATH has it ({0})")]
    Absent(String),
    #[error("{0} is CRIU {1}, which is too old for {2}: {3} or newer is needed")]
    TooOld(String, Number, &'static str, Number),
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
    /// What it was to do, why not, and where its log is.
    #[error("criu failed to {0}{1}")]
    Failed(&'static str, String),
    #[error("interrupted by signal {0} ({name})", name = Signal::try_from(*.0).map_or("unknown", Signal::as_str))]
    Interrupted(i32),
    #[error(transparent)]
    Call(#[from] Failed),
}

/// A version of CRIU, to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(i32, i32, i32);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Number(major, minor, sublevel) = self;
        match sublevel {
            0 => write!(f, "{major}.{minor}"),
            _ => write!(f, "{major}.{minor}.{sublevel}"),
        }
    }
}

impl From<Version> for Number {
    fn from(version: Version) -> Number {
        let sublevel = version.sublevel.unwrap_or(0);
        Number(version.major, version.minor, sublevel)
    }
}

/// The oldest CRIU that is asked: it freezes a cgroup of version 2, joins all kinds of namespaces and takes another LSM profile.
const OLDEST: Number = Number(3, 16, 0);
/// The first that can be told how to block the network.
pub(crate) const NETWORK_LOCK: Number = Number(3, 17, 0);
/// Where the program is looked for if the caller has no PATH.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The installed CRIU.
pub(crate) struct Criu {
    program: CString,
    version: Number,
}

impl Criu {
    /// Finds the program and asks for its version. `null` is the null device.
    pub(crate) fn find(null: BorrowedFd<'_>) -> Result<Criu, Error> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| USUAL.into());
        let program = program(&path);
        let program = program.ok_or_else(|| Error::Absent(path.to_string_lossy().into_owned()))?;
        let program = path::c_path(program.as_os_str()).unwrap_or_default();
        let request = Request {
            kind: kind::VERSION,
            ..Request::default()
        };
        let mut criu = Criu {
            program,
            version: Number(0, 0, 0),
        };
        // One that doesn't know the request is of 2017 or older.
        let response = criu.question(&request, null)?;
        criu.version = response.version.unwrap_or_default().into();
        criu.need(OLDEST, "this program")?;
        Ok(criu)
    }

    /// Its version, for the log.
    pub(crate) fn version(&self) -> Number {
        self.version
    }

    /// Refuses one that is too old for something.
    pub(crate) fn need(&self, version: Number, purpose: &'static str) -> Result<(), Error> {
        if self.version >= version {
            return Ok(());
        }
        Err(Error::TooOld(self.name(), self.version, purpose, version))
    }

    /// Refuses what CRIU or this kernel lacks: to see which memory was written since a dump, and to bring memory back when it is used.
    pub(crate) fn need_features(
        &self,
        mem_track: bool,
        lazy_pages: bool,
        null: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let asked = |wanted: bool| wanted.then_some(true);
        let request = Request {
            kind: kind::FEATURE_CHECK,
            features: Some(Features {
                mem_track: asked(mem_track),
                lazy_pages: asked(lazy_pages),
            }),
            ..Request::default()
        };
        let has = self.question(&request, null)?.features.unwrap_or_default();
        if mem_track && has.mem_track != Some(true) {
            let what = "tracking of memory, which --pre-dump and --parent-path take,";
            return Err(Error::Unsupported(self.name(), what));
        }
        if lazy_pages && has.lazy_pages != Some(true) {
            return Err(Error::Unsupported(self.name(), "--lazy-pages"));
        }
        Ok(())
    }

    /// Clones a process of it, which waits for `Worker::go`.
    pub(crate) fn start(
        &self,
        start: &Start<'_>,
        prepare: impl FnOnce() -> Result<(), Failed>,
    ) -> Result<Worker, Error> {
        Worker::start(&self.program, start, prepare)
    }

    /// One request that changes nothing, to a process of its own.
    fn question(&self, request: &Request, null: BorrowedFd<'_>) -> Result<Response, Error> {
        let start = Start {
            namespaces: CloneFlags::empty(),
            cgroup: None,
            null: Some(null),
            inherited: Vec::new(),
        };
        let worker = self.start(&start, || Ok(()))?;
        let answer = |_: Notice| Ok::<(), Error>(());
        let response = worker.go().and_then(|()| worker.ask(request, answer));
        match (response, worker.finish()) {
            (Err(Error::Silent), Ok(exit)) => Err(Error::Died(how(exit))),
            (response, _) => response,
        }
    }

    fn name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }
}

/// The error of an answer that is none.
pub(crate) fn refused(verb: &'static str, response: &Response, log: &Path) -> Error {
    let errno = match response.errno {
        Some(errno) => format!(" ({})", Reason(Errno::from_raw(errno))),
        None => String::new(),
    };
    let mut why = log::quote(log);
    if let (false, Some(error)) = (why.contains("Error ("), &response.error) {
        why = format!(": {}{why}", error.trim());
    }
    Error::Failed(verb, format!("{errno}{why}"))
}

/// The error of a CRIU that ended before it answered.
pub(crate) fn died(verb: &'static str, exit: Exit, log: &Path) -> Error {
    Error::Failed(verb, format!(": it was {}{}", how(exit), log::quote(log)))
}

fn how(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with code {code}"),
        Exit::Signal(signal) => {
            let name = Signal::try_from(signal).map_or("unknown", Signal::as_str);
            format!("killed by signal {signal} ({name})")
        }
    }
}

/// The program in the directories of a PATH; a relative one is none that root runs programs from.
fn program(path: &OsStr) -> Option<PathBuf> {
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
        assert!(Number(3, 17, 1) > Number(3, 17, 0));
        assert!(Number(4, 0, 0) > Number(3, 19, 9));
        assert!(Number(3, 9, 0) < OLDEST);
        assert_eq!(Number(4, 1, 0).to_string(), "4.1");
        assert_eq!(Number(3, 17, 1).to_string(), "3.17.1");
    }

    #[test]
    fn a_message_has_the_bytes_that_protobuf_gives_it() {
        use prost::Message as _;
        let request = Request {
            kind: kind::NOTIFY,
            notify_success: Some(true),
            ..Request::default()
        };
        assert_eq!(request.encode_to_vec(), [0x08, 6, 0x18, 1]);
        // A field that isn't known here (dump, 3) is skipped.
        let bytes = [0x08, 2, 0x10, 1, 0x1a, 2, 0x08, 1, 0x22, 2, 0x08, 42];
        let response = Response::decode(bytes.as_slice()).unwrap_or_default();
        assert!(response.success);
        assert_eq!(response.restore.map(|restored| restored.pid), Some(42));
    }
}
