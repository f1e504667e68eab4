//! Runs one process `criu swrk` and exchanges messages with it: a request, CRIU's notifications,
//! and the response.
//! The process waits before it executes CRIU, so that it can be moved to a cgroup first.
//! `criu` and its callers make the requests.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use prost::Message as _;

use super::Error;
use super::message::{Request, Response, request_type};
use crate::error::{Failed, failed};
use crate::sys::clone::{Child, CloneArgs, Exit, Side, clone3, pidfd_send_signal};
use crate::sys::process::{self, CStringArray};
use crate::sys::{Errno, retry, signal, socket, wait};

/// The maximum size of a response. A response has a few hundred bytes, most of them in an error
/// text.
const MAX_RESPONSE_BYTES: usize = 64 << 10;
/// How often to check for a signal that asks us to terminate, in ms.
const SIGNAL_CHECK_MS: i64 = 100;
/// The message that the child waits for.
const GO_MESSAGE: &[u8] = b"\0";
/// The child's message when it is about to execute CRIU. Any other message is an error.
const READY_MESSAGE: &[u8] = b"\0";

/// The environment of a new CRIU process: its namespaces, cgroup and descriptors.
pub(crate) struct WorkerSetup<'a> {
    pub(crate) namespaces: CloneFlags,
    /// The cgroup that CRIU starts in; `None` means the caller's.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// CRIU's standard input, output and error; `None` means those of this process.
    pub(crate) null: Option<BorrowedFd<'a>>,
    /// Descriptors that CRIU inherits. Their numbers stay the same.
    pub(crate) inherited: Vec<BorrowedFd<'a>>,
}

/// A CRIU process that has no request yet, or is working on one.
pub(crate) struct CriuWorker {
    child: Child,
    link: OwnedFd,
}

/// A notification that CRIU sends while it works on a request. CRIU waits for a reply.
pub(crate) struct CriuNotice {
    /// The name of the event, such as `setup-namespaces`.
    pub(crate) script: String,
    /// The pid of the container's init, or 0 if CRIU doesn't report it.
    pub(crate) pid: i32,
    pub(crate) fd: Option<OwnedFd>,
}

impl CriuWorker {
    /// Clones the process, which waits for `let_execute`. Then the process runs `prepare` in its
    /// namespaces and executes CRIU.
    pub(super) fn start_process(
        program: &CString,
        start: &WorkerSetup<'_>,
        prepare: impl FnOnce() -> Result<(), Failed>,
    ) -> Result<CriuWorker, Error> {
        let what = || format!("run {}", program.to_string_lossy());
        let (link, theirs) = socket::pair().map_err(failed("socketpair", what))?;
        let number = theirs.as_raw_fd().to_string();
        let argv = [c"criu".into(), c"swrk".into(), c_string(&number)];
        let (argv, env) = (
            CStringArray::new(argv.into()),
            CStringArray::own_environment(),
        );
        let clone = CloneArgs {
            namespaces: start.namespaces,
            cgroup: start.cgroup,
            sibling: false,
        };
        let child = match clone3(&clone).map_err(failed("clone3", what))? {
            Side::Child => {
                // Close the child's copy of the parent's end. Otherwise the child would not notice
                // that the parent has closed that end.
                drop(link);
                if !matches!(socket::receive(theirs.as_fd(), &mut [0; 8]), Ok((1, _))) {
                    process::exit_now(127)
                }
                let ready = prepare().and_then(|()| set_up_child(start, &theirs));
                if let Err(error) = ready {
                    let _ = socket::send(theirs.as_fd(), error.to_string().as_bytes(), None);
                    process::exit_now(127)
                }
                let _ = socket::send(theirs.as_fd(), READY_MESSAGE, None);
                let errno = process::execve(program, &argv, &env);
                let error = failed("execve", what)(errno);
                let _ = socket::send(theirs.as_fd(), error.to_string().as_bytes(), None);
                process::exit_now(127)
            }
            Side::Parent(child) => child,
        };
        drop(theirs);
        Ok(CriuWorker { child, link })
    }

    /// Lets the process execute CRIU.
    pub(crate) fn let_execute(&self) -> Result<(), Error> {
        let what = || "start CRIU".to_owned();
        socket::send(self.link.as_fd(), GO_MESSAGE, None).map_err(failed("sendmsg", what))?;
        let mut buffer = vec![0; MAX_RESPONSE_BYTES];
        match socket::receive(self.link.as_fd(), &mut buffer).map_err(failed("recvmsg", what))? {
            (0, _) => Err(Error::Silent),
            (1, _) if buffer.starts_with(READY_MESSAGE) => Ok(()),
            (length, _) => {
                let text = buffer.get(..length).unwrap_or_default();
                let text = String::from_utf8_lossy(text).into_owned();
                Err(Error::Unprepared(text))
            }
        }
    }

    /// The pid of the process.
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Sends a request and returns the response. Calls `answer` for each notification in between.
    /// If `answer` fails, CRIU undoes its work, and the error of `answer` is returned.
    pub(crate) fn ask_criu<E: From<Error>>(
        &self,
        request: &Request,
        mut answer: impl FnMut(CriuNotice) -> Result<(), E>,
    ) -> Result<Response, E> {
        self.send_request(request)?;
        let mut failure = None;
        loop {
            let (response, fd) = match self.receive_response() {
                Ok(received) => received,
                Err(error) => return Err(failure.unwrap_or_else(|| error.into())),
            };
            if response.kind != request_type::NOTIFY {
                return match failure {
                    Some(failure) => Err(failure),
                    None => Ok(response),
                };
            }
            let notify = response.notify.unwrap_or_default();
            let notice = CriuNotice {
                script: notify.script.unwrap_or_default(),
                pid: notify.pid.unwrap_or(0),
                fd,
            };
            let answered = match failure {
                None => answer(notice),
                Some(_) => Ok(()),
            };
            let success = answered.is_ok() && failure.is_none();
            failure = failure.or(answered.err());
            self.send_request(&Request {
                kind: request_type::NOTIFY,
                notify_success: Some(success),
                ..Request::default()
            })?;
        }
    }

    fn send_request(&self, request: &Request) -> Result<(), Error> {
        let what = || "ask CRIU".to_owned();
        let bytes = request.encode_to_vec();
        match socket::send(self.link.as_fd(), &bytes, None) {
            // CRIU has exited. `receive_response` reports this.
            Ok(()) | Err(Errno::EPIPE) => Ok(()),
            Err(errno) => Err(failed("sendmsg", what)(errno).into()),
        }
    }

    fn receive_response(&self) -> Result<(Response, Option<OwnedFd>), Error> {
        let what = || "receive CRIU's response".to_owned();
        socket::set_receive_timeout(self.link.as_fd(), SIGNAL_CHECK_MS)
            .map_err(failed("setsockopt", what))?;
        let mut buffer = vec![0; MAX_RESPONSE_BYTES];
        loop {
            match socket::receive(self.link.as_fd(), &mut buffer) {
                Ok((0, _)) => return Err(Error::Silent),
                // CRIU exited without reading all of a request. Its earlier messages can still be
                // read.
                Err(Errno::ECONNRESET) => {}
                Ok((length, fd)) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    // A process that failed to execute CRIU sends a text.
                    return match Response::decode(bytes) {
                        Ok(response) => Ok((response, fd)),
                        Err(_) => Err(Error::Unreadable(
                            String::from_utf8_lossy(bytes).into_owned(),
                        )),
                    };
                }
                Err(Errno::EAGAIN) => {
                    if let Some(signal) = signal::pending_termination() {
                        return Err(Error::Interrupted(signal));
                    }
                }
                Err(errno) => return Err(failed("recvmsg", what)(errno).into()),
            }
        }
    }

    /// Closes the connection, which makes CRIU exit. Waits for the exit.
    pub(crate) fn close_and_reap(self) -> Result<Exit, Error> {
        drop(self.link);
        let what = || "wait for CRIU".to_owned();
        Ok(wait::reap(self.child.pidfd.as_fd()).map_err(failed("waitid", what))?)
    }

    /// Kills CRIU and reaps it.
    pub(crate) fn kill_and_reap(self) {
        let _ = pidfd_send_signal(self.child.pidfd.as_fd(), Signal::SIGKILL as i32);
        let _ = self.close_and_reap();
    }
}

/// Sets up the child's descriptors and signals for CRIU.
fn set_up_child(start: &WorkerSetup<'_>, link: &OwnedFd) -> Result<(), Failed> {
    let what = || "prepare the process of CRIU".to_owned();
    if let Some(null) = start.null {
        // Start a new session, so that signals from the terminal don't reach CRIU while it controls
        // other processes.
        nix::unistd::setsid().map_err(failed("setsid", what))?;
        for number in 0..3 {
            process::dup_onto(null, number).map_err(failed("dup3", what))?;
        }
    }
    let mut keep: Vec<RawFd> = Vec::new();
    for fd in start.inherited.iter().copied().chain([link.as_fd()]) {
        retry(|| fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))).map_err(failed("fcntl", what))?;
        keep.push(fd.as_raw_fd());
    }
    process::close_all_but(3, &mut keep).map_err(failed("close_range", what))?;
    signal::reset_all().map_err(failed("sigaction", what))?;
    signal::unblock_all().map_err(failed("sigprocmask", what))
}

fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}
