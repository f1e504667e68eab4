//! Parent: the parent's end of the link to a child, or to an init that waits at its start socket.
//! `protocol` defines the messages and their order.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::ending::{SIGSYS, describe_exit, filtered_out};
use super::{Error, terminal};
use crate::cgroup::Cgroup;
use crate::error::{Failed, failed};
use crate::protocol::{self, CLONE_CALL, FILTERING_NAME, Message};
use crate::sys::clone::{Child, Exit, pidfd_open, pidfd_wait};
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, signal, socket, wait};
use crate::timeline::{self, Phase};

/// How often a wait for the child checks for a termination signal of this process, in ms. All
/// signals are blocked while a child is set up.
const SIGNAL_CHECK_MS: i32 = 100;

/// How long a child may be frozen before the parent gives up.
const FROZEN_PATIENCE: Duration = Duration::from_secs(10);

/// The parent's end of a link.
pub(super) struct Link {
    socket: OwnedFd,
    /// Converts a failure that the child reports into an error.
    reported: fn(Failed) -> Error,
    /// The child's cgroup. If it is set, a wait for the child fails once the cgroup has been frozen
    /// for `FROZEN_PATIENCE`.
    cgroup: Option<PathBuf>,
}

/// What a child has handed over by the time it is ready.
pub(super) struct Ready {
    /// The master of the child's terminal, unless it was sent to a console socket.
    pub(super) master: Option<OwnedFd>,
    /// The process that the child has cloned to replace itself.
    pub(super) born: Option<Child>,
}

impl Link {
    /// Makes a link; the second value is the child's end.
    pub(super) fn make(reported: fn(Failed) -> Error) -> Result<(Link, OwnedFd), Error> {
        let what = || "make the link to the child".to_owned();
        let (socket, other) = socket::pair().map_err(failed("socketpair", what))?;
        socket::set_receive_timeout(socket.as_fd(), SIGNAL_CHECK_MS.into())
            .map_err(failed("setsockopt", what))?;
        Ok((Link::over(socket, reported), other))
    }

    /// Makes a link from a connected socket.
    pub(super) fn over(socket: OwnedFd, reported: fn(Failed) -> Error) -> Link {
        Link {
            socket,
            reported,
            cgroup: None,
        }
    }

    /// Makes later waits for the child fail once this cgroup has been frozen for `FROZEN_PATIENCE`.
    pub(super) fn give_up_if_frozen(&mut self, cgroup: &Path) {
        self.cgroup = Some(cgroup.to_owned());
    }

    /// Returns the child's cgroup if it stops processes that enter it.
    fn frozen_cgroup(&self) -> Option<&Path> {
        let path = self.cgroup.as_deref()?;
        let cgroup = Cgroup::open(path).ok().flatten()?;
        cgroup.stops_processes().then_some(path)
    }

    /// Sends a message. If the child is gone, the error is the failure that it reported, or else
    /// `Gone`.
    pub(super) fn send(&self, message: &Message) -> Result<(), Error> {
        match protocol::send(self.socket.as_fd(), message) {
            Err(Errno::EPIPE | Errno::ECONNRESET) => loop {
                self.receive()?;
            },
            sent => {
                let what = || "send to the container's process".to_owned();
                Ok(sent.map_err(failed("sendmsg", what))?)
            }
        }
    }

    /// Receives a message. Returns an error if the child reports a failure, if the link is closed,
    /// or if a signal asks this process to terminate.
    pub(super) fn receive(&self) -> Result<Message, Error> {
        self.receive_while(|| Ok(true))
    }

    /// Like `receive`, but the link also counts as closed if no message comes and `lives` returns
    /// false. A process that the child has cloned may hold the child's end open and wait for this
    /// process.
    fn receive_while(&self, lives: impl Fn() -> Result<bool, Error>) -> Result<Message, Error> {
        let what = || "receive from the container's process".to_owned();
        let mut frozen_since = None;
        loop {
            match protocol::receive(self.socket.as_fd()) {
                Err(Errno::EAGAIN) => {
                    match self.frozen_cgroup() {
                        None => frozen_since = None,
                        Some(path) => {
                            let since = *frozen_since.get_or_insert_with(Instant::now);
                            if since.elapsed() >= FROZEN_PATIENCE {
                                return Err(Error::Frozen(path.to_owned()));
                            }
                        }
                    }
                    if let Some(signal) = signal::pending_termination() {
                        return Err(Error::Interrupted(signal));
                    }
                    let waiting = || socket::has_message(self.socket.as_fd());
                    if !lives()? && !waiting().map_err(failed("poll", what))? {
                        return Err(Error::Gone);
                    }
                }
                // ENOMEM means that the init of the pid namespace is gone. The kernel starts no new
                // process in such a namespace.
                Ok(Some(Message::Failed(failure)))
                    if failure.call == CLONE_CALL && failure.errno == Errno::ENOMEM =>
                {
                    return Err(Error::NotRunning);
                }
                Ok(Some(Message::Failed(failure))) => return Err((self.reported)(failure)),
                Ok(Some(message)) => return Ok(message),
                Ok(None) => return Err(Error::Gone),
                Err(errno) => return Err(failed("recvmsg", what)(errno).into()),
            }
        }
    }

    /// Receives a message. `wanted` returns `None` for every message that is not allowed now.
    pub(super) fn expect<T>(&self, wanted: impl FnOnce(Message) -> Option<T>) -> Result<T, Error> {
        wanted(self.receive()?).ok_or_else(out_of_order_error)
    }

    /// Handles the messages of a child until the child is ready. `listened` passes a seccomp
    /// listener on.
    pub(super) fn serve(
        &self,
        child: &Child,
        console_socket: Option<&OwnedFd>,
        mut listened: impl FnMut(OwnedFd) -> Result<(), Error>,
    ) -> Result<Ready, Error> {
        let mut master = None;
        let mut has_console = false;
        let what = || "check whether the container's process is alive".to_owned();
        let ended = || pidfd_wait(child.pidfd.as_fd(), 0).map_err(failed("poll", what));
        loop {
            match self.receive_while(|| Ok(!ended()?))? {
                // Accept only one terminal. The child sends it before it clones a process, and
                // other processes may forge messages of that process.
                Message::Console(_) if has_console => return Err(out_of_order_error()),
                Message::Console(fd) => {
                    has_console = true;
                    match console_socket {
                        Some(socket) => terminal::send_master(socket.as_fd(), fd.as_fd())?,
                        None => master = Some(fd),
                    }
                }
                Message::Listener(listener) => listened(listener)?,
                Message::Ready => return Ok(Ready { master, born: None }),
                Message::Born(process) => {
                    let born = Some(own(process.pid)?);
                    return Ok(Ready { master, born });
                }
                _ => return Err(out_of_order_error()),
            }
        }
    }

    /// Sends Go, and waits until the program runs. `listened` passes on the listener of a filter
    /// that is set as the last step.
    pub(super) fn go(
        &self,
        mut listened: impl FnMut(OwnedFd) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.send(&Message::Go)?;
        timeline::begin_step(Phase::AwaitExec);
        self.expect(|message| matches!(message, Message::Exec).then_some(()))?;
        timeline::begin_step(Phase::Exec);
        loop {
            match self.receive() {
                Ok(Message::Listener(listener)) => listened(listener)?,
                Ok(_) => return Err(out_of_order_error()),
                // execve has closed the link.
                Err(Error::Gone) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets a process that was born last continue to its start socket, and waits until it is there.
    pub(super) fn release_to_start_socket(&self) -> Result<(), Error> {
        self.send(&Message::Go)?;
        self.expect(|message| matches!(message, Message::Ready).then_some(()))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Opens the process that a child claims to have cloned. Other processes that see the cloned
/// process can use its link and send any pid. So this function accepts only a child of this
/// process, and opens the pidfd itself.
fn own(pid: i32) -> Result<Child, Error> {
    if !wait::is_child(pid) {
        return Err(out_of_order_error());
    }
    // A child that isn't reaped keeps its pid.
    let what = || format!("open process {pid}");
    let pidfd = pidfd_open(pid).map_err(failed("pidfd_open", what))?;
    Ok(Child { pid, pidfd })
}

/// Refuses a listener from a process that has none left to hand over.
pub(super) fn refuse_listener(_: OwnedFd) -> Result<(), Error> {
    Err(out_of_order_error())
}

pub(super) fn out_of_order_error() -> Error {
    failed("recvmsg", || {
        "receive from the container's process: a message out of order".into()
    })(Errno::EPROTO)
    .into()
}

/// Reaps a child that has sent its last message. A termination signal for this process ends the
/// wait with an error, because processes in the container's cgroup can freeze the child.
pub(super) fn reap(child: &Child) -> Result<(), Error> {
    let what = || "wait for the end of the intermediate process".to_owned();
    while !pidfd_wait(child.pidfd.as_fd(), SIGNAL_CHECK_MS).map_err(failed("poll", what))? {
        if let Some(signal) = signal::pending_termination() {
            return Err(Error::Interrupted(signal));
        }
    }
    wait::reap(child.pidfd.as_fd()).map_err(failed("waitid", what))?;
    Ok(())
}

/// How long to wait, in ms, until an execve or a death shows after the link is closed. The limit is
/// for programs that themselves have the name FILTERING_NAME.
const CONFIRM_TIMEOUT_MS: u32 = 1000;

/// Returns an error if a seccomp filter has killed the child before it became the program. Such a
/// child still has the name FILTERING_NAME.
pub(super) fn confirm(proc: &Procfs, pid: i32, pidfd: &OwnedFd) -> Result<(), Error> {
    let name = format!("({})", FILTERING_NAME.to_string_lossy());
    let unchanged = || {
        proc.read(&format!("{pid}/stat"))
            .is_ok_and(|stat| stat.contains(&name))
    };
    // An execve or a death closes the link first. The name or the pidfd changes a moment later.
    for _ in 0..CONFIRM_TIMEOUT_MS {
        if !unchanged() {
            break;
        }
        let what = || "check whether the container's process is alive".to_owned();
        if pidfd_wait(pidfd.as_fd(), 1).map_err(failed("poll", what))? && unchanged() {
            return Err(Error::Died(
                describe_exit(Exit::Signal(SIGSYS)),
                filtered_out(),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Returns a link to a child that has sent these messages and ended.
    fn link(messages: &[Message]) -> Link {
        let (ours, theirs) = socket::pair().unwrap();
        for message in messages {
            protocol::send(theirs.as_fd(), message).unwrap();
        }
        Link::over(ours, Error::Exec)
    }

    fn served(messages: &[Message]) -> Result<Ready, Error> {
        let pid = std::process::id().cast_signed();
        let pidfd = pidfd_open(pid).unwrap();
        link(messages).serve(&Child { pid, pidfd }, None, refuse_listener)
    }

    fn born(pid: i32) -> Message {
        let pidfd = pidfd_open(std::process::id().cast_signed()).unwrap();
        Message::Born(Child { pid, pidfd })
    }

    #[test]
    fn a_birth_is_believed_of_an_own_child_only() {
        let mut sleep = std::process::Command::new("sleep");
        let mut child = sleep.arg("1000").spawn().unwrap();
        let pid = child.id().cast_signed();
        let found = served(&[born(pid)]).unwrap().born.unwrap();
        assert_eq!(found.pid, pid);
        // The pidfd is the child's own, not the one that was sent.
        assert!(!pidfd_wait(found.pidfd.as_fd(), 0).unwrap());
        child.kill().unwrap();
        assert!(pidfd_wait(found.pidfd.as_fd(), 5000).unwrap());
        child.wait().unwrap();
        for other in [1, pid, 0, -1, std::process::id().cast_signed()] {
            assert!(served(&[born(other)]).is_err(), "{other}");
        }
    }

    #[test]
    fn a_second_terminal_is_refused() {
        let console = || Message::Console(socket::pair().unwrap().0);
        assert!(
            served(&[console(), Message::Ready])
                .unwrap()
                .master
                .is_some()
        );
        assert!(served(&[console(), console(), Message::Ready]).is_err());
    }

    #[test]
    fn who_sends_to_a_child_that_is_gone_learns_why() {
        let failure = Failed::from_sentence("no such thing");
        let gone = link(&[Message::Entered, Message::Failed(failure.clone())]);
        let reported = gone.send(&Message::IdsMapped).unwrap_err();
        assert_eq!(reported.to_string(), Error::Exec(failure).to_string());
        assert!(matches!(link(&[]).send(&Message::Go), Err(Error::Gone)));
    }

    #[test]
    fn a_program_runs_when_the_link_closes_after_the_last_step_only() {
        let go = |messages: &[Message]| {
            let (ours, theirs) = socket::pair().unwrap();
            let link = Link::over(ours, Error::Exec);
            for message in messages {
                protocol::send(theirs.as_fd(), message).unwrap();
            }
            // The other end closes only after it has received Go.
            let end = std::thread::spawn(move || {
                protocol::receive(theirs.as_fd()).unwrap();
            });
            let gone = link.go(refuse_listener);
            end.join().unwrap();
            gone
        };
        assert!(go(&[Message::Exec]).is_ok());
        assert!(matches!(go(&[]), Err(Error::Gone)));
        assert!(matches!(go(&[Message::Ready]), Err(Error::Failed(_))));
        assert!(go(&[Message::Exec, Message::Exec]).is_err());
    }
}
