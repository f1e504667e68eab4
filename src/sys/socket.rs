//! UNIX sockets: pairs, listening and connecting, messages, and passing descriptors.

use std::ffi::{CStr, OsStr};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr,
};
use nix::sys::stat::Mode;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketFlags, accept_with,
    recvmsg,
};

use super::{Errno, Result, errno, retry};

/// Makes a connected pair of SEQPACKET sockets.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    nix::sys::socket::socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
}

/// Sets a receive timeout. When the timeout expires, `receive` returns EAGAIN.
pub(crate) fn set_receive_timeout(socket: BorrowedFd<'_>, milliseconds: i64) -> Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
    use nix::sys::time::{TimeVal, TimeValLike};
    setsockopt(
        &socket,
        ReceiveTimeout,
        &TimeVal::milliseconds(milliseconds),
    )
}

/// Returns the address of `name` in the directory `dir`. The address goes through /proc/self/fd,
/// because the path of the directory may be longer than an address allows.
fn address(dir: BorrowedFd<'_>, name: &CStr) -> Result<UnixAddr> {
    UnixAddr::new(
        format!(
            "/proc/self/fd/{}/{}",
            dir.as_raw_fd(),
            name.to_string_lossy()
        )
        .as_str(),
    )
}

/// Makes a listening SEQPACKET socket at `name` in `dir`.
pub(crate) fn listen(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let socket = nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    nix::sys::socket::bind(socket.as_raw_fd(), &address(dir, name)?)?;
    nix::sys::socket::listen(&socket, Backlog::new(1)?)?;
    Ok(socket)
}

/// Connects to the socket `name` in `dir`. ECONNREFUSED means that nobody listens any more.
pub(crate) fn connect(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let socket = nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let address = address(dir, name)?;
    retry(|| nix::sys::socket::connect(socket.as_raw_fd(), &address))?;
    Ok(socket)
}

fn datagrams() -> Result<OwnedFd> {
    nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
}

/// Makes a datagram socket at `name` in `dir`.
pub(crate) fn bind_datagrams(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let (socket, address) = (datagrams()?, address(dir, name)?);
    // Clear the umask instead of a later chmod, which would follow a symbolic link that had
    // replaced the socket.
    let umask = nix::sys::stat::umask(Mode::empty());
    let bound = nix::sys::socket::bind(socket.as_raw_fd(), &address);
    nix::sys::stat::umask(umask);
    bound.map(|()| socket)
}

/// Returns the address for a path, or for `@` and an abstract name (unix(7)).
fn path_or_abstract(address: &OsStr) -> Result<UnixAddr> {
    match address.as_bytes().split_first() {
        Some((b'@', name)) => UnixAddr::new_abstract(name),
        _ => UnixAddr::new(address),
    }
}

/// Connects a stream socket to `address`: a path, or `@` and an abstract name. The socket doesn't
/// block. EAGAIN means that the queue of the listener is full.
pub(crate) fn connect_stream(address: &OsStr) -> Result<OwnedFd> {
    let socket = nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    let address = path_or_abstract(address)?;
    retry(|| nix::sys::socket::connect(socket.as_raw_fd(), &address))?;
    Ok(socket)
}

/// Makes a datagram socket that sends to `address`: a path, or `@` and an abstract name (unix(7)).
pub(crate) fn connect_datagrams(address: &OsStr) -> Result<OwnedFd> {
    let socket = datagrams()?;
    let address = path_or_abstract(address)?;
    retry(|| nix::sys::socket::connect(socket.as_raw_fd(), &address))?;
    Ok(socket)
}

/// Waits for one connection.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    retry(|| accept_with(listener, SocketFlags::CLOEXEC).map_err(errno))
}

/// Sends a message, with a descriptor if one is given. If the peer is gone, fails with EPIPE and
/// never raises a signal.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let fds: [RawFd; 1] = [fd.map_or(-1, |fd| fd.as_raw_fd())];
    let control = [ControlMessage::ScmRights(&fds)];
    let control = if fd.is_some() {
        control.as_slice()
    } else {
        &[]
    };
    let sent = retry(|| {
        nix::sys::socket::sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(message)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
    })?;
    if sent == message.len() {
        Ok(())
    } else {
        Err(Errno::EMSGSIZE)
    }
}

/// Receives a message and at most one descriptor. The length is 0 when the peer has closed the
/// connection.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<(usize, Option<OwnedFd>)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let message = retry(|| recvmsg(socket, &mut parts, &mut control, flags).map_err(errno))?;
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::ENOBUFS);
    }
    let mut received = None;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = part {
            received = fds.last().or(received);
        }
    }
    Ok((message.bytes, received))
}

/// True if `receive` would return at once, with a message or because the connection is closed.
pub(crate) fn has_message(socket: BorrowedFd<'_>) -> Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout};
    let mut fds = [PollFd::new(socket, PollFlags::POLLIN)];
    Ok(retry(|| nix::poll::poll(&mut fds, PollTimeout::ZERO))? > 0)
}

/// True if the peer has closed the connection.
pub(crate) fn is_hung_up(socket: BorrowedFd<'_>) -> Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout};
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let ready = retry(|| nix::poll::poll(&mut fds, PollTimeout::ZERO))?;
    Ok(ready > 0
        && fds
            .first()
            .and_then(PollFd::revents)
            .is_some_and(|e| e.contains(PollFlags::POLLHUP)))
}
