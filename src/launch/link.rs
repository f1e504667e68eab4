//! The parent's end of the link to a child: made, and heard from.
//! What is said, and when, is `protocol`'s and `launch`'s business.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::ending::{FILTERED, SIGSYS, how};
use super::{Error, terminal};
use crate::error::{Failed, failed};
use crate::protocol::{self, CLONE, FILTERING, Message};
use crate::sys::clone::{Child, Exit, pidfd_open, pidfd_wait};
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, signal, socket, wait};

/// How long a signal that asks us to end may wait for our look at it, in ms: all are held back while a child is set up.
const LOOK: i32 = 100;

/// The link between parent and child; of the two ends the first is the parent's.
pub(super) fn make() -> Result<(OwnedFd, OwnedFd), Error> {
    let what = || "make the link to the child".to_owned();
    let (ours, childs) = socket::pair().map_err(failed("socketpair", what))?;
    socket::set_patience(ours.as_fd(), LOOK.into()).map_err(failed("setsockopt", what))?;
    Ok((ours, childs))
}

/// Hears from the child; `None` is the end of it. A signal that asks this process to end is an error.
pub(super) fn receive(link: BorrowedFd<'_>) -> Result<Option<Message>, Error> {
    let what = || "hear from the container's process".to_owned();
    loop {
        match protocol::receive(link) {
            Err(Errno::EAGAIN) => {
                if let Some(signal) = signal::pending_end() {
                    return Err(Error::Interrupted(signal));
                }
            }
            other => return Ok(other.map_err(failed("recvmsg", what))?),
        }
    }
}

/// Answers the child until it is ready; answers with the master of its terminal, and with the
/// process that it has borne in its own place. `listened` passes a seccomp listener on; `told`
/// makes an error of what the child says.
pub(super) fn serve(
    link: BorrowedFd<'_>,
    console_socket: Option<&OwnedFd>,
    mut listened: impl FnMut(OwnedFd) -> Result<(), Error>,
    told: fn(Failed) -> Error,
) -> Result<(Option<OwnedFd>, Option<Child>), Error> {
    let mut master = None;
    let mut has_console = false;
    loop {
        match receive(link)? {
            // A child has said it before it bears a process, in whose place others may speak.
            Some(Message::Console(_)) if has_console => return Err(out_of_order()),
            Some(Message::Console(fd)) => {
                has_console = true;
                match console_socket {
                    Some(socket) => terminal::send_master(socket.as_fd(), fd.as_fd())?,
                    None => master = Some(fd),
                }
            }
            Some(Message::Listener(listener)) => listened(listener)?,
            Some(Message::Ready) => return Ok((master, None)),
            Some(Message::Born(process)) => return Ok((master, Some(own(process.pid)?))),
            // The init of the pid namespace is gone; the kernel starts nothing in it any more.
            Some(Message::Failed(failure))
                if failure.call == CLONE && failure.errno == Errno::ENOMEM =>
            {
                return Err(Error::NotRunning);
            }
            Some(Message::Failed(failure)) => return Err(told(failure)),
            Some(_) => return Err(out_of_order()),
            None => return Err(Error::Died("gone".into(), String::new())),
        }
    }
}

/// The process that a child says it has borne. Whoever sees that process has its link, and could name
/// any other: it is believed only of a child of this process, and looked up here.
fn own(pid: i32) -> Result<Child, Error> {
    if !wait::is_child(pid) {
        return Err(out_of_order());
    }
    // Not reaped yet, it keeps its pid.
    let what = || format!("open process {pid}");
    let pidfd = pidfd_open(pid).map_err(failed("pidfd_open", what))?;
    Ok(Child { pid, pidfd })
}

/// Says go, and waits until the program runs. `listened` passes on the listener of a filter that is
/// set as the last step.
pub(super) fn run(
    link: BorrowedFd<'_>,
    mut listened: impl FnMut(OwnedFd) -> Result<(), Error>,
    told: fn(Failed) -> Error,
) -> Result<(), Error> {
    let gone = || Error::Died("gone".into(), String::new());
    protocol::send(link, &Message::Go).map_err(|_| gone())?;
    let mut last_step = false;
    loop {
        match receive(link)? {
            Some(Message::Exec) if !last_step => last_step = true,
            Some(Message::Listener(listener)) if last_step => listened(listener)?,
            Some(Message::Failed(failure)) => return Err(told(failure)),
            Some(_) => return Err(out_of_order()),
            // Closed by execve.
            None if last_step => return Ok(()),
            None => return Err(gone()),
        }
    }
}

/// Lets a process that was born last go on to the gate, and waits until it is there.
pub(super) fn let_born_go(link: BorrowedFd<'_>) -> Result<(), Error> {
    let gone = || Error::Died("gone".into(), String::new());
    protocol::send(link, &Message::Go).map_err(|_| gone())?;
    match receive(link)? {
        Some(Message::Ready) => Ok(()),
        Some(Message::Failed(failure)) => Err(Error::Init(failure)),
        Some(_) => Err(out_of_order()),
        None => Err(gone()),
    }
}

/// A process that is set up before the parent may go has handed its listener on already.
pub(super) fn no_listener(_: OwnedFd) -> Result<(), Error> {
    Err(out_of_order())
}

pub(super) fn out_of_order() -> Error {
    failed("recvmsg", || {
        "hear from the container's process, out of order".into()
    })(Errno::EPROTO)
    .into()
}

/// Reaps a child that has said its last word. A signal that asks this process to end is an error:
/// who is in the container's cgroup can freeze the child.
pub(super) fn reap(child: &Child) -> Result<(), Error> {
    let what = || "wait for the end of the intermediate process".to_owned();
    while !pidfd_wait(child.pidfd.as_fd(), LOOK).map_err(failed("poll", what))? {
        if let Some(signal) = signal::pending_end() {
            return Err(Error::Interrupted(signal));
        }
    }
    wait::reap(child.pidfd.as_fd()).map_err(failed("waitid", what))?;
    Ok(())
}

/// How long execve, or a death, may take to have its effect once it has closed the link, in looks of
/// 1 ms. A program may have the name that is looked for.
const LOOKS: u32 = 1000;

/// Finds out whether a filter has killed the child between its last message and the program: by its name it still is what the
/// clone made. After that it is the program that was killed.
pub(super) fn confirm(proc: &Procfs, pid: i32, pidfd: &OwnedFd) -> Result<(), Error> {
    let name = format!("({})", FILTERING.to_string_lossy());
    let unchanged = || {
        proc.read(&format!("{pid}/stat"))
            .is_ok_and(|stat| stat.contains(&name))
    };
    // Both execve and a death close the link first, and have their effect on the name, or on the pidfd, a moment later.
    for _ in 0..LOOKS {
        if !unchanged() {
            break;
        }
        let what = || "look whether the container's process lives".to_owned();
        if pidfd_wait(pidfd.as_fd(), 1).map_err(failed("poll", what))? && unchanged() {
            return Err(Error::Died(how(Exit::Signal(SIGSYS)), FILTERED.into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What the parent makes of messages on the link.
    fn heard(messages: &[Message]) -> Result<(Option<OwnedFd>, Option<Child>), Error> {
        let (ours, childs) = socket::pair().unwrap();
        for message in messages {
            protocol::send(childs.as_fd(), message).unwrap();
        }
        drop(childs);
        serve(ours.as_fd(), None, no_listener, Error::Exec)
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
        let found = heard(&[born(pid)]).unwrap().1.unwrap();
        assert_eq!(found.pid, pid);
        // Its own pidfd, not the one that was sent.
        assert!(!pidfd_wait(found.pidfd.as_fd(), 0).unwrap());
        child.kill().unwrap();
        assert!(pidfd_wait(found.pidfd.as_fd(), 5000).unwrap());
        child.wait().unwrap();
        for other in [1, pid, 0, -1, std::process::id().cast_signed()] {
            assert!(heard(&[born(other)]).is_err(), "{other}");
        }
    }

    #[test]
    fn a_second_terminal_is_refused() {
        let console = || Message::Console(socket::pair().unwrap().0);
        assert!(heard(&[console(), Message::Ready]).unwrap().0.is_some());
        assert!(heard(&[console(), console(), Message::Ready]).is_err());
    }
}
