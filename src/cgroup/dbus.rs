//! A D-Bus client for the few calls of the systemd driver. It uses no threads, and one deadline
//! covers the whole connection.
//! The contents of the calls are decided in `systemd`.
//!
//! The D-Bus crates either connect and authenticate without a deadline or start threads. zbus would
//! also make the binary 800 KB larger. This client connects to systemd's own socket or to a bus.

mod value;
mod wire;

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::MsgFlags;

pub(crate) use value::Value;
pub(crate) use wire::MessageBody;
use wire::{Message, MethodCall};

use crate::error::{ErrnoText, Failed, failed};
use crate::sys::{Errno, retry, signal, socket};

/// The name for calls to the bus itself.
const BUS_NAME: &str = "org.freedesktop.DBus";
/// The longest line accepted during authentication, in bytes.
const MAX_LINE_BYTES: usize = 4096;
/// The largest number of signals kept while the client waits for a reply.
const MAX_QUEUED_SIGNALS: usize = 1024;
/// The pause before connecting again to a peer whose connection queue is full.
const CONNECT_RETRY_PAUSE: Duration = Duration::from_millis(20);
/// The interval between checks for a termination signal. All signals are blocked while a container
/// is created.
const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0:?} is not a bus address that can be used (expected unix:path= or unix:abstract=)")]
    Address(String),
    #[error("connect to {0}")]
    Connect(String),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the connection was closed")]
    Closed,
    /// A termination signal arrived.
    #[error("interrupted by signal {0}")]
    Interrupted(i32),
    #[error("the bus refused the authentication: {0:?}")]
    Rejected(String),
    #[error("the answer is not valid D-Bus: {0}")]
    Malformed(&'static str),
    /// An error that the peer returned: its message, and the name of the error, like
    /// `org.freedesktop.systemd1.UnitExists`.
    #[error("{text} ({name})")]
    Refused { name: String, text: String },
    #[error(transparent)]
    Call(#[from] Failed),
}

impl Error {
    /// True if the peer returned the error with this name, given without its prefix.
    pub(crate) fn is_named(&self, short: &str) -> bool {
        matches!(self, Error::Refused { name, .. } if name.rsplit('.').next() == Some(short))
    }
}

/// The address of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerAddress {
    /// A path, or `@` and an abstract name.
    pub(crate) socket: OsString,
    /// True if the peer itself listens on the socket; false if a bus does.
    pub(crate) direct: bool,
}

/// Parses the address of a bus, like `unix:path=/run/dbus/system_bus_socket,guid=...`. Semicolons
/// separate multiple addresses.
pub(crate) fn parse_addresses(address: &str) -> Result<Vec<PeerAddress>, Error> {
    let mut peers = Vec::new();
    for one in address.split(';').filter(|one| !one.is_empty()) {
        // Skip other transports. `unixexec:` would even start a program.
        for pair in one.strip_prefix("unix:").unwrap_or_default().split(',') {
            let socket = match pair.split_once('=') {
                Some(("path", path)) => decode_percent(path),
                Some(("abstract", name)) => decode_percent(name).map(|mut name| {
                    name.insert(0, b'@');
                    name
                }),
                _ => continue,
            };
            let socket = socket.ok_or_else(|| Error::Address(address.into()))?;
            peers.push(PeerAddress {
                socket: OsString::from_vec(socket),
                direct: false,
            });
        }
    }
    if peers.is_empty() {
        return Err(Error::Address(address.into()));
    }
    Ok(peers)
}

/// Decodes `%20` and the like.
fn decode_percent(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    Some(bytes)
}

/// A connection to a peer, with a deadline for everything done on it.
pub(crate) struct Connection {
    socket: OwnedFd,
    /// The name of the peer on the bus; `None` without a bus.
    name: Option<&'static str>,
    serial: u32,
    /// Bytes that were read but don't form a whole message yet.
    unread: Vec<u8>,
    /// Signals that arrived before a reply, oldest first.
    signals: Vec<(String, String, MessageBody)>,
    patience: Duration,
    deadline: Instant,
    /// True until a termination signal was reported. Afterwards, the calls that undo changes must
    /// not be interrupted again.
    interruptible: bool,
}

impl Connection {
    /// Connects to the first of these peers that exists, and authenticates. `name` is the peer's
    /// name on a bus.
    pub(crate) fn open(
        peers: &[PeerAddress],
        name: &'static str,
        patience: Duration,
    ) -> Result<Connection, Error> {
        let deadline = Instant::now() + patience;
        let mut reasons = Vec::new();
        for peer in peers {
            match connect_socket(peer, deadline) {
                Ok(socket) => {
                    let mut connection = Connection {
                        socket,
                        name: (!peer.direct).then_some(name),
                        serial: 0,
                        unread: Vec::new(),
                        signals: Vec::new(),
                        patience,
                        deadline,
                        interruptible: true,
                    };
                    connection.authenticate()?;
                    if !peer.direct {
                        connection.ask_bus("Hello", &[])?;
                    }
                    return Ok(connection);
                }
                Err(Errno::ETIMEDOUT) => return Err(Error::Timeout(patience)),
                Err(errno) => {
                    let socket = peer.socket.to_string_lossy();
                    reasons.push(format!("{socket}: {}", ErrnoText(errno)));
                }
            }
        }
        Err(Error::Connect(reasons.join(", ")))
    }

    /// Authenticates with the uid that the kernel reports for the socket. As in sd-bus, all lines
    /// are sent at once and the replies are read afterwards.
    fn authenticate(&mut self) -> Result<(), Error> {
        self.send_bytes(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for expected in ["DATA", "OK "] {
            let line = self.read_line()?;
            if !line.starts_with(expected) {
                return Err(Error::Rejected(line));
            }
        }
        Ok(())
    }

    fn read_line(&mut self) -> Result<String, Error> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                let line = line.get(..end).unwrap_or_default();
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            if self.unread.len() > MAX_LINE_BYTES {
                return Err(Error::Malformed("an endless line"));
            }
            self.read_more()?;
        }
    }

    /// Asks the bus for the peer's signals with this interface, member and argument. Without a bus,
    /// all signals arrive without a request.
    pub(crate) fn subscribe(
        &mut self,
        interface: &str,
        member: &str,
        argument: (u8, &str),
    ) -> Result<(), Error> {
        let Some(name) = self.name else { return Ok(()) };
        let (index, value) = argument;
        let rule = format!(
            "type='signal',sender='{name}',interface='{interface}',member='{member}',arg{index}='{value}'"
        );
        self.ask_bus("AddMatch", &[Value::from_text(rule)])
            .map(drop)
    }

    fn ask_bus(&mut self, member: &str, arguments: &[Value]) -> Result<MessageBody, Error> {
        self.send_and_await_reply(&MethodCall {
            destination: Some(BUS_NAME),
            path: "/org/freedesktop/DBus",
            interface: BUS_NAME,
            member,
            arguments,
            no_reply: false,
        })
    }

    /// Calls a method and waits for the reply.
    pub(crate) fn call(
        &mut self,
        path: &str,
        interface: &str,
        member: &str,
        arguments: &[Value],
    ) -> Result<MessageBody, Error> {
        self.send_and_await_reply(&MethodCall {
            destination: self.name,
            path,
            interface,
            member,
            arguments,
            no_reply: false,
        })
    }

    /// Calls a method without waiting for a reply.
    pub(crate) fn call_without_reply(
        &mut self,
        path: &str,
        interface: &str,
        member: &str,
        arguments: &[Value],
    ) -> Result<(), Error> {
        self.serial += 1;
        let call = MethodCall {
            destination: self.name,
            path,
            interface,
            member,
            arguments,
            no_reply: true,
        };
        self.send_bytes(&wire::encode_call(&call, self.serial))
    }

    fn send_and_await_reply(&mut self, call: &MethodCall<'_>) -> Result<MessageBody, Error> {
        self.serial += 1;
        let serial = self.serial;
        self.send_bytes(&wire::encode_call(call, serial))?;
        loop {
            match self.receive_message()? {
                Message::Return { to, body } if to == serial => return Ok(body),
                Message::Error { to, name, body } if to == serial => {
                    let text = body.leading_texts().into_iter().next().unwrap_or_default();
                    return Err(Error::Refused { name, text });
                }
                Message::Signal {
                    interface,
                    member,
                    body,
                } => {
                    if self.signals.len() == MAX_QUEUED_SIGNALS {
                        self.signals.remove(0);
                    }
                    self.signals.push((interface, member, body));
                }
                Message::Return { .. } | Message::Error { .. } | Message::Other => {}
            }
        }
    }

    /// Waits for a signal whose text arguments `wanted` accepts. Signals that arrived earlier are
    /// tried first.
    pub(crate) fn wait_for_signal<T>(
        &mut self,
        interface: &str,
        member: &str,
        mut wanted: impl FnMut(&[String]) -> Option<T>,
    ) -> Result<T, Error> {
        let mut look = |i: &str, m: &str, body: &MessageBody| {
            (i == interface && m == member)
                .then(|| wanted(&body.leading_texts()))
                .flatten()
        };
        for (interface, member, body) in self.signals.drain(..) {
            if let Some(found) = look(&interface, &member, &body) {
                return Ok(found);
            }
        }
        loop {
            if let Message::Signal {
                interface,
                member,
                body,
            } = self.receive_message()?
                && let Some(found) = look(&interface, &member, &body)
            {
                return Ok(found);
            }
        }
    }

    fn receive_message(&mut self) -> Result<Message, Error> {
        loop {
            if let Some(size) = wire::message_size(&self.unread).map_err(Error::Malformed)?
                && size <= self.unread.len()
            {
                let bytes: Vec<u8> = self.unread.drain(..size).collect();
                return wire::decode_message(&bytes).ok_or(Error::Malformed("a broken message"));
            }
            self.read_more()?;
        }
    }

    /// Reads the available bytes. If there are none, waits for some.
    fn read_more(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 4096];
        loop {
            // With read(2), unlike recvmsg, the kernel drops any descriptors that the peer sends.
            match retry(|| nix::unistd::read(&self.socket, &mut buffer)) {
                Ok(0) | Err(Errno::ECONNRESET) => return Err(Error::Closed),
                Ok(length) => {
                    self.unread.extend(buffer.iter().take(length));
                    return Ok(());
                }
                Err(Errno::EAGAIN) => self.wait_for_socket(PollFlags::POLLIN)?,
                Err(errno) => {
                    return Err(failed("read", || "read from the bus".into())(errno).into());
                }
            }
        }
    }

    fn send_bytes(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        use std::os::fd::AsRawFd;
        while !bytes.is_empty() {
            let flags = MsgFlags::MSG_NOSIGNAL;
            match retry(|| nix::sys::socket::send(self.socket.as_raw_fd(), bytes, flags)) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::EAGAIN) => self.wait_for_socket(PollFlags::POLLOUT)?,
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(Error::Closed),
                Err(errno) => {
                    return Err(failed("send", || "write to the bus".into())(errno).into());
                }
            }
        }
        Ok(())
    }

    fn wait_for_socket(&mut self, events: PollFlags) -> Result<(), Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Timeout(self.patience));
        }
        if self.interruptible
            && let Some(signal) = signal::pending_termination()
        {
            self.interruptible = false;
            return Err(Error::Interrupted(signal));
        }
        // Round up: with a timeout below one millisecond, poll would not wait at all.
        let timeout =
            PollTimeout::try_from(left.min(SIGNAL_CHECK_INTERVAL) + Duration::from_millis(1));
        let mut fds = [PollFd::new(self.socket.as_fd(), events)];
        let waited = retry(|| nix::poll::poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX)));
        waited.map_err(failed("poll", || "wait for the bus".into()))?;
        Ok(())
    }
}

/// Connects. EAGAIN means that the connection queue is full. In that case, tries again until the
/// deadline.
fn connect_socket(peer: &PeerAddress, deadline: Instant) -> Result<OwnedFd, Errno> {
    loop {
        match socket::connect_stream(&peer.socket) {
            Err(Errno::EAGAIN) if Instant::now() >= deadline => return Err(Errno::ETIMEDOUT),
            Err(Errno::EAGAIN) => std::thread::sleep(CONNECT_RETRY_PAUSE),
            other => return other,
        }
    }
}

#[cfg(test)]
mod witness;

#[cfg(test)]
mod tests;
