//! A D-Bus client for the few calls of the systemd driver: no thread, and a deadline for all of a conversation.
//! Not what is said in it: that is `systemd`.
//!
//! The clients that there are connect and authenticate without a deadline, or start threads. This one speaks to systemd's own
//! socket, or by way of a bus.

mod value;
mod wire;

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::MsgFlags;

pub(crate) use value::Value;
pub(crate) use wire::Body;
use wire::{Call, Message};

use crate::error::{Failed, Reason, failed};
use crate::sys::{Errno, retry, signal, socket};

/// The bus itself, as the peer of calls.
const BUS: &str = "org.freedesktop.DBus";
/// The longest line of the authentication that is taken.
const LONGEST_LINE: usize = 4096;
/// So many signals are kept while an answer is waited for.
const MOST_SIGNALS: usize = 1024;
/// The pause before a full queue of connections is tried again.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a signal that asks us to end may wait for our look at it: they are held back while a container is set up.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "{0:?} is no address of a bus that can be used (expected unix:path= or unix:abstract=)"
    )]
    Address(String),
    #[error("connect to {0}")]
    Connect(String),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the connection was closed")]
    Closed,
    /// A signal that asks this process to end came meanwhile.
    #[error("interrupted by signal {0}")]
    Interrupted(i32),
    #[error("the bus did not let us in: {0:?}")]
    Rejected(String),
    #[error("the answer is not one of D-Bus: {0}")]
    Malformed(&'static str),
    /// The peer's own words, under a name like `org.freedesktop.systemd1.UnitExists`.
    #[error("{text} ({name})")]
    Refused { name: String, text: String },
    #[error(transparent)]
    Call(#[from] Failed),
}

impl Error {
    /// True if it is the peer's error of this name, which is given without its prefix.
    pub(crate) fn is(&self, short: &str) -> bool {
        matches!(self, Error::Refused { name, .. } if name.rsplit('.').next() == Some(short))
    }
}

/// Where a peer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// A path, or `@` and an abstract name.
    pub(crate) socket: OsString,
    /// True if it is the peer itself, without a bus in between.
    pub(crate) direct: bool,
}

/// The buses of an address like `unix:path=/run/dbus/system_bus_socket,guid=...`; several are separated by semicolons.
pub(crate) fn parse_address(address: &str) -> Result<Vec<Peer>, Error> {
    let mut peers = Vec::new();
    for one in address.split(';').filter(|one| !one.is_empty()) {
        // Other transports exist, and one of them starts programs.
        for pair in one.strip_prefix("unix:").unwrap_or_default().split(',') {
            let socket = match pair.split_once('=') {
                Some(("path", path)) => unescape(path),
                Some(("abstract", name)) => unescape(name).map(|mut name| {
                    name.insert(0, b'@');
                    name
                }),
                _ => continue,
            };
            let socket = socket.ok_or_else(|| Error::Address(address.into()))?;
            peers.push(Peer {
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

/// `%20` and the like.
fn unescape(text: &str) -> Option<Vec<u8>> {
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

/// A conversation with a peer; it ends at its deadline.
pub(crate) struct Connection {
    socket: OwnedFd,
    /// The name of the peer on the bus; `None` without a bus.
    name: Option<&'static str>,
    serial: u32,
    /// What was read and is not yet a whole message.
    unread: Vec<u8>,
    /// Signals that came before an answer, oldest first.
    signals: Vec<(String, String, Body)>,
    patience: Duration,
    deadline: Instant,
    /// True until a signal that asks us to end was told; what is still to be undone is not to be kept from it.
    interruptible: bool,
}

impl Connection {
    /// Connects to the first of these that is there, and goes through the formalities. `name` is the peer's on a bus.
    pub(crate) fn open(
        peers: &[Peer],
        name: &'static str,
        patience: Duration,
    ) -> Result<Connection, Error> {
        let deadline = Instant::now() + patience;
        let mut reasons = Vec::new();
        for peer in peers {
            match connect(peer, deadline) {
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
                    reasons.push(format!("{socket}: {}", Reason(errno)));
                }
            }
        }
        Err(Error::Connect(reasons.join(", ")))
    }

    /// Says who we are by what the kernel knows of us. All is sent at once, as sd-bus does; the answers are read after.
    fn authenticate(&mut self) -> Result<(), Error> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for expected in ["DATA", "OK "] {
            let line = self.line()?;
            if !line.starts_with(expected) {
                return Err(Error::Rejected(line));
            }
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String, Error> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                let line = line.get(..end).unwrap_or_default();
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            if self.unread.len() > LONGEST_LINE {
                return Err(Error::Malformed("an endless line"));
            }
            self.fill()?;
        }
    }

    /// Asks the bus to pass on the signals of the peer that are of this interface and member and whose argument is as given.
    /// Without a bus all of them come.
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
        self.ask_bus("AddMatch", &[Value::text(rule)]).map(drop)
    }

    fn ask_bus(&mut self, member: &str, arguments: &[Value]) -> Result<Body, Error> {
        self.exchange(&Call {
            destination: Some(BUS),
            path: "/org/freedesktop/DBus",
            interface: BUS,
            member,
            arguments,
            no_reply: false,
        })
    }

    /// Calls a method of the peer and waits for its answer.
    pub(crate) fn call(
        &mut self,
        path: &str,
        interface: &str,
        member: &str,
        arguments: &[Value],
    ) -> Result<Body, Error> {
        self.exchange(&Call {
            destination: self.name,
            path,
            interface,
            member,
            arguments,
            no_reply: false,
        })
    }

    /// Calls a method of the peer and waits for nothing.
    pub(crate) fn tell(
        &mut self,
        path: &str,
        interface: &str,
        member: &str,
        arguments: &[Value],
    ) -> Result<(), Error> {
        self.serial += 1;
        let call = Call {
            destination: self.name,
            path,
            interface,
            member,
            arguments,
            no_reply: true,
        };
        self.send(&wire::call(&call, self.serial))
    }

    fn exchange(&mut self, call: &Call<'_>) -> Result<Body, Error> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&wire::call(call, serial))?;
        loop {
            match self.receive()? {
                Message::Return { to, body } if to == serial => return Ok(body),
                Message::Error { to, name, body } if to == serial => {
                    let text = body.texts().into_iter().next().unwrap_or_default();
                    return Err(Error::Refused { name, text });
                }
                Message::Signal {
                    interface,
                    member,
                    body,
                } => {
                    if self.signals.len() == MOST_SIGNALS {
                        self.signals.remove(0);
                    }
                    self.signals.push((interface, member, body));
                }
                Message::Return { .. } | Message::Error { .. } | Message::Other => {}
            }
        }
    }

    /// Waits for a signal with texts among its arguments that `wanted` takes, one that has come already included.
    pub(crate) fn wait_signal<T>(
        &mut self,
        interface: &str,
        member: &str,
        mut wanted: impl FnMut(&[String]) -> Option<T>,
    ) -> Result<T, Error> {
        let mut look = |i: &str, m: &str, body: &Body| {
            (i == interface && m == member)
                .then(|| wanted(&body.texts()))
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
            } = self.receive()?
                && let Some(found) = look(&interface, &member, &body)
            {
                return Ok(found);
            }
        }
    }

    fn receive(&mut self) -> Result<Message, Error> {
        loop {
            if let Some(size) = wire::size(&self.unread).map_err(Error::Malformed)?
                && size <= self.unread.len()
            {
                let bytes: Vec<u8> = self.unread.drain(..size).collect();
                return wire::message(&bytes).ok_or(Error::Malformed("a broken message"));
            }
            self.fill()?;
        }
    }

    /// Reads what there is, or waits for it.
    fn fill(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 4096];
        loop {
            // read(2), not recvmsg: descriptors that are sent along are dropped by the kernel.
            match retry(|| nix::unistd::read(&self.socket, &mut buffer)) {
                Ok(0) | Err(Errno::ECONNRESET) => return Err(Error::Closed),
                Ok(length) => {
                    self.unread.extend(buffer.iter().take(length));
                    return Ok(());
                }
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN)?,
                Err(errno) => {
                    return Err(failed("read", || "hear from the bus".into())(errno).into());
                }
            }
        }
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        use std::os::fd::AsRawFd;
        while !bytes.is_empty() {
            let flags = MsgFlags::MSG_NOSIGNAL;
            match retry(|| nix::sys::socket::send(self.socket.as_raw_fd(), bytes, flags)) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT)?,
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(Error::Closed),
                Err(errno) => {
                    return Err(failed("send", || "speak to the bus".into())(errno).into());
                }
            }
        }
        Ok(())
    }

    fn wait(&mut self, events: PollFlags) -> Result<(), Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Timeout(self.patience));
        }
        if self.interruptible
            && let Some(signal) = signal::pending_end()
        {
            self.interruptible = false;
            return Err(Error::Interrupted(signal));
        }
        // Rounded up: a poll of less than a millisecond would not wait.
        let timeout = PollTimeout::try_from(left.min(LOOK) + Duration::from_millis(1));
        let mut fds = [PollFd::new(self.socket.as_fd(), events)];
        let waited = retry(|| nix::poll::poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX)));
        waited.map_err(failed("poll", || "wait for the bus".into()))?;
        Ok(())
    }
}

/// Connects; EAGAIN is a queue that is full, which is waited for until ETIMEDOUT.
fn connect(peer: &Peer, deadline: Instant) -> Result<OwnedFd, Errno> {
    loop {
        match socket::connect_stream(&peer.socket) {
            Err(Errno::EAGAIN) if Instant::now() >= deadline => return Err(Errno::ETIMEDOUT),
            Err(Errno::EAGAIN) => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
}

#[cfg(test)]
mod witness;

#[cfg(test)]
mod tests;
