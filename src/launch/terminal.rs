//! Parent: finds the caller's terminal, and sends a container's terminal or pidfd to the sockets
//! that the caller names.
//! `sys::tty` makes the pty, and `launch::relay` moves the bytes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, setsockopt, sockopt};
use nix::sys::stat::{Mode, SFlag};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::error::{Failed, failed};
use crate::origin::{Origin, config, flag};
use crate::sys::procfs::errno_of;
use crate::sys::{Errno, path, retry, socket, tty};

/// The longest wait for a connection or a send, in seconds.
const PATIENCE: i64 = 10;

/// The data sent with the master of the pty, as in runc.
const NAME: &[u8] = b"/dev/ptmx";

/// The reason why a container can't have a terminal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Call(#[from] Failed),
}

/// Finds the caller's terminal: stdin, stdout or stderr, else the controlling terminal.
///
/// Without a terminal of the caller, a container's terminal can't be relayed, because the input
/// would be line-buffered and the size unknown. As in runc, any of the four serves. stdin is first
/// because the input comes from it.
pub(crate) fn own_terminal() -> Result<OwnedFd, Error> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for stream in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        if tty::is_terminal(stream) {
            let copy = stream.try_clone_to_owned().map_err(|e| errno_of(&e));
            return Ok(copy.map_err(failed("fcntl", || "copy the own terminal".into()))?);
        }
    }
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let opened = crate::sys::open(c"/dev/tty", flags, Mode::empty());
    Ok(opened.map_err(failed("open", || {
        "find a terminal for that of the process (config.json: process.terminal, or --tty) where stdin, stdout and stderr are none: /dev/tty".into()
    }))?)
}

/// Connects to the socket of --console-socket, before any process is started. The socket's path may
/// have any length.
///
/// The connect and every later send wait no longer than PATIENCE. EAGAIN means that the socket
/// listens, but its queue stayed full for that long.
pub(crate) fn connect_console(path: &Path) -> Result<OwnedFd, Error> {
    connect(path, "the console socket", flag("--console-socket"))
}

/// Connects to the socket for a pidfd of the process, as `connect_console` does.
pub(crate) fn connect_pidfd(path: &Path) -> Result<OwnedFd, Error> {
    connect(path, "the pidfd socket", flag("--pidfd-socket"))
}

/// Connects to the seccomp agent of a container, as `connect_console` does.
pub(super) fn connect_agent(path: &Path) -> Result<OwnedFd, Error> {
    let origin = config("linux.seccomp.listenerPath");
    connect(path, "the seccomp agent", origin)
}

fn connect(path: &Path, name: &str, origin: Origin) -> Result<OwnedFd, Error> {
    let what = || origin.asks_to(format!("connect to {name} {}", path.display()));
    // A socket address holds a path of at most 107 bytes. So connect through /proc/self/fd, whose
    // links are short and which connect(2) follows.
    let file = crate::sys::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(failed("open", what))?;
    let stat = nix::sys::stat::fstat(&file).map_err(failed("fstat", what))?;
    if !path::is_file_type(&stat, SFlag::S_IFSOCK) {
        return Err(failed("connect", what)(Errno::ENOTSOCK).into());
    }
    let address = UnixAddr::new(format!("/proc/self/fd/{}", file.as_raw_fd()).as_str())
        .map_err(failed("connect", what))?;
    let socket = nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(failed("socket", what))?;
    // SO_SNDTIMEO also limits connect when the listener's queue is full, although unix(7) doesn't
    // mention this.
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE))
        .map_err(failed("setsockopt", what))?;
    retry(|| nix::sys::socket::connect(socket.as_raw_fd(), &address))
        .map_err(failed("connect", what))?;
    Ok(socket)
}

/// Sends the master of a pty, without waiting for a reader. The message has a few bytes of data and
/// exactly one descriptor.
pub(crate) fn send_master(socket: BorrowedFd<'_>, master: BorrowedFd<'_>) -> Result<(), Error> {
    let what = || "send the terminal to the console socket (--console-socket)".into();
    Ok(socket::send(socket, NAME, Some(master)).map_err(failed("sendmsg", what))?)
}

/// Sends a pidfd, as `send_master` sends the terminal.
pub(crate) fn send_pidfd(socket: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> Result<(), Error> {
    let what = || "send the pidfd to the pidfd socket (--pidfd-socket)".into();
    Ok(socket::send(socket, b"pidfd", Some(pidfd)).map_err(failed("sendmsg", what))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::sys::tty::pty_of_the_host;

    /// A new directory below the temporary directory. It is removed when it is dropped.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let dir = std::env::temp_dir().join(format!("orlop-{name}-{}", std::process::id()));
            std::fs::create_dir(&dir).unwrap();
            Scratch(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_master_arrives_in_one_message_at_a_path_of_any_length() {
        let scratch = Scratch::new("console");
        let short = scratch.0.join("s");
        let listener = UnixListener::bind(&short).unwrap();
        let deep = scratch.0.join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let long = deep.join("n".repeat(200));
        std::fs::rename(&short, &long).unwrap();

        let socket = connect_console(&long).unwrap();
        let pty = pty_of_the_host();
        // Nobody has accepted the connection yet, because an engine accepts only after create has
        // ended.
        send_master(socket.as_fd(), pty.master.as_fd()).unwrap();
        drop(socket);

        let (receiver, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let (length, fd) = socket::receive(receiver.as_fd(), &mut buffer).unwrap();
        assert_eq!(buffer.get(..length), Some(NAME));
        assert!(tty::is_ptmx(fd.unwrap().as_fd()).unwrap());
        assert_eq!(socket::receive(receiver.as_fd(), &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn a_console_socket_that_is_none_is_named_with_its_flag() {
        let scratch = Scratch::new("no-console");
        let missing = scratch.0.join("missing");
        let error = connect_console(&missing).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "connect to the console socket {} (--console-socket): open: ENOENT (no such file or directory)",
                missing.display()
            )
        );
        let file = scratch.0.join("file");
        std::fs::write(&file, "").unwrap();
        let error = connect_console(&file).unwrap_err().to_string();
        assert!(
            error.ends_with("connect: ENOTSOCK (socket operation on non-socket)"),
            "{error}"
        );
        let dead = scratch.0.join("dead");
        drop(UnixListener::bind(&dead).unwrap());
        let error = connect_console(&dead).unwrap_err().to_string();
        assert!(
            error.ends_with("connect: ECONNREFUSED (connection refused)"),
            "{error}"
        );
    }
}
