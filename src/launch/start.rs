//! Later commands: connect to the start socket of a created container.
//! `child::start_socket` is the other end.

use std::os::fd::OwnedFd;

use super::Error;
use super::link::{Link, confirm, refuse_listener};
use crate::error::failed;
use crate::state::{Dir, START_SOCKET_NAME};
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, socket};
use crate::timeline::{self, Phase};

/// Connects to an init that waits for `start`.
pub(super) fn connect(dir: &Dir) -> Result<OwnedFd, Error> {
    socket::connect(dir.fd(), START_SOCKET_NAME).map_err(|errno| match errno {
        Errno::ECONNREFUSED => Error::NotRunning,
        Errno::ENOENT => Error::NoStartSocket,
        errno => failed("connect", || "connect to the start socket".into())(errno).into(),
    })
}

/// Starts the program of a created container. The program runs when this function returns.
pub(crate) fn start(dir: &Dir, proc: &Procfs, pid: i32, pidfd: &OwnedFd) -> Result<(), Error> {
    timeline::begin_step(Phase::Connect);
    let socket = connect(dir)?;
    // Remove the socket before Go is sent. If this process is killed in between, the child sees the
    // connection close and exits.
    dir.remove_start_socket()?;
    Link::over(socket, Error::Init).go(refuse_listener)?;
    timeline::begin_step(Phase::Finish);
    confirm(proc, pid, pidfd)
}
