//! Parent, and `start`: relays sd_notify(3) messages of a container to the caller's NOTIFY_SOCKET,
//! as in runc.
//! For a container in the foreground, `foreground` waits for the messages.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{AtFlags, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Failed, failed};
use crate::log::Log;
use crate::state::{Dir, NOTIFY_DIRECTORY, NOTIFY_SOCKET};
use crate::sys::{Errno, retry, socket};

/// The path of the socket's directory in the container.
pub(super) const NOTIFY_DIRECTORY_IN_CONTAINER: &str = "/run/notify";

/// How long systemd may take to read all messages. systemd looks up the sender of each message, so
/// this process must not exit before that.
const BARRIER_TIMEOUT_MS: u16 = 30_000;

/// The largest message that is read.
const LARGEST: usize = 4096;

/// The sockets of the container and of the caller.
pub(crate) struct NotifyRelay {
    own: OwnedFd,
    host: OwnedFd,
}

/// Returns the path of the caller's socket, if there is one.
fn host() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())
}

/// True if the caller has a socket.
pub(crate) fn caller_listens() -> bool {
    host().is_some()
}

/// Makes the directory that is mounted in the container. `NotifyRelay::open` makes the socket
/// later.
pub(crate) fn prepare(dir: &Dir) -> Result<(), Failed> {
    let what = || "make the directory of the notify socket".to_owned();
    mkdirat(dir.fd(), NOTIFY_DIRECTORY, Mode::S_IRWXU).map_err(failed("mkdir", what))?;
    // Every user of the container must be able to reach the socket, regardless of our umask.
    let mode = Mode::from_bits_truncate(0o755);
    fchmodat(
        dir.fd(),
        NOTIFY_DIRECTORY,
        mode,
        FchmodatFlags::FollowSymlink,
    )
    .map_err(failed("fchmodat", what))
}

impl NotifyRelay {
    /// Binds the container's socket. Returns `None` if the caller has no socket, if nobody listens
    /// on the caller's socket (with a warning), or if the container was created without a socket.
    pub(crate) fn open(dir: &Dir, log: &Log) -> Result<Option<NotifyRelay>, Failed> {
        let Some(path) = host() else { return Ok(None) };
        let no_links = AtFlags::AT_SYMLINK_NOFOLLOW;
        if fstatat(dir.fd(), NOTIFY_DIRECTORY, no_links) == Err(Errno::ENOENT) {
            return Ok(None);
        }
        let host = match socket::connect_datagrams(&path) {
            Ok(host) => host,
            Err(errno) => {
                // The variable may be stale, or the service manager may be restarting. The
                // container runs anyway.
                let what = || {
                    format!(
                        "not told that it is ready: connect to NOTIFY_SOCKET={}",
                        path.display()
                    )
                };
                log.warn(&failed("connect", what)(errno).to_string());
                return Ok(None);
            }
        };
        let what = || "make the notify socket of the container".to_owned();
        // A killed `start` may have left a socket.
        match unlinkat(dir.fd(), NOTIFY_SOCKET, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(failed("unlink", what)(errno)),
        }
        let own = socket::bind_datagrams(dir.fd(), NOTIFY_SOCKET).map_err(failed("bind", what))?;
        Ok(Some(NotifyRelay { own, host }))
    }

    /// Reads one message, which must have arrived already. If the message is READY, sends it and
    /// the pid of the main process to the caller, and returns true.
    pub(crate) fn step(&self, main_pid: u32) -> Result<bool, Failed> {
        let mut buffer = [0_u8; LARGEST];
        // Descriptors in the message are closed.
        let length = match socket::receive(self.own.as_fd(), &mut buffer) {
            Ok((length, _)) => length,
            Err(Errno::EMSGSIZE) => return Ok(false),
            Err(errno) => {
                return Err(failed("recvmsg", || "receive from the container".into())(
                    errno,
                ));
            }
        };
        let Some(ready) = ready(buffer.get(..length).unwrap_or_default()) else {
            return Ok(false);
        };
        self.tell(&[ready, b"\n"].concat(), None)?;
        self.tell(format!("MAINPID={main_pid}\n").as_bytes(), None)?;
        Ok(true)
    }

    /// Waits until the container is ready or has ended, and until the caller has read the messages.
    /// A failure is only a warning, since the container runs.
    pub(crate) fn wait(&self, main_pid: u32, pidfd: BorrowedFd<'_>, log: &Log) {
        if let Err(error) = self.relay(main_pid, pidfd) {
            log.warn(&error.to_string());
        }
    }

    fn relay(&self, main_pid: u32, pidfd: BorrowedFd<'_>) -> Result<(), Failed> {
        loop {
            let mut fds = [
                PollFd::new(self.own.as_fd(), PollFlags::POLLIN),
                PollFd::new(pidfd, PollFlags::POLLIN),
            ];
            retry(|| poll(&mut fds, PollTimeout::NONE)).map_err(failed("poll", || {
                "wait for the container to be ready".into()
            }))?;
            let [said, ended] = fds.map(|fd| fd.any().unwrap_or(true));
            if said {
                if self.step(main_pid)? {
                    return self.wait_for_barrier();
                }
            } else if ended {
                return Ok(());
            }
        }
    }

    /// Sends a barrier (sd_notify_barrier(3)). The reader closes the pipe once it has read all
    /// earlier messages. With a reader that doesn't know barriers, the wait times out.
    fn wait_for_barrier(&self) -> Result<(), Failed> {
        let what = || "wait for the reader of NOTIFY_SOCKET".to_owned();
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed("pipe2", what))?;
        self.tell(b"BARRIER=1", Some(write.as_fd()))?;
        drop(write);
        let mut fds = [PollFd::new(read.as_fd(), PollFlags::POLLIN)];
        retry(|| poll(&mut fds, PollTimeout::from(BARRIER_TIMEOUT_MS)))
            .map_err(failed("poll", what))?;
        Ok(())
    }

    fn tell(&self, message: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Failed> {
        socket::send(self.host.as_fd(), message, fd).map_err(failed("sendmsg", || {
            "relay to NOTIFY_SOCKET that the container is ready".into()
        }))
    }
}

impl AsFd for NotifyRelay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }
}

/// Returns the line with READY. No other part of a message is forwarded.
fn ready(message: &[u8]) -> Option<&[u8]> {
    message
        .split(|byte| *byte == b'\n')
        .find(|line| line.starts_with(b"READY="))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn of_a_message_only_the_line_with_ready_counts() {
        for (message, line) in [
            ("READY=1", Some("READY=1")),
            ("STATUS=up\nREADY=1\nMAINPID=7\n", Some("READY=1")),
            ("STATUS=READY=1", None),
            ("", None),
        ] {
            assert_eq!(ready(message.as_bytes()), line.map(str::as_bytes));
        }
    }
}
