//! Parent: moves bytes between the terminal of a container and the runtime's stdin and stdout.
//! This module never waits. `launch::foreground` has the poll loop.
//!
//! Each direction has one buffer, which is filled only when it is empty. So while one side doesn't
//! accept output, the other side isn't read. The open file descriptions of stdin and stdout are
//! shared with the caller, so O_NONBLOCK must not be set on them. A pipe or terminal is reopened
//! with O_NONBLOCK. If that fails, a write is no larger than what poll(2) guarantees to fit.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{read, write};

use crate::sys::procfs::errno_of;
use crate::sys::{Errno, Result, path, tty};

/// The size of a buffer, which is larger than what one read from a pty returns.
const BUFFER_BYTES: usize = 16 * 1024;

/// A pipe that polls writable has room for PIPE_BUF (pipe(7)).
const PIPE_WRITE_BYTES: usize = 4096;

/// A pty that polls writable has a free block of 256 bytes. With ONLCR, a byte may become two.
const TERMINAL_WRITE_BYTES: usize = 128;

/// How long to wait after EIO. The other side may become usable again, without an event: a
/// container reopens /dev/console, or a background job comes to the foreground.
const EIO_PAUSE: Duration = Duration::from_millis(200);

/// Whether stdout still has a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Open,
    /// The reader of our stdout is gone.
    Closed,
}

/// The result of reading the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(usize),
    /// There is nothing to read now.
    Empty,
    /// EIO: no process has the slave open.
    HungUp,
}

/// Moves bytes between the master of a container's terminal and two streams.
pub(crate) struct TerminalRelay {
    master: OwnedFd,
    master_rests_until: Option<Instant>,
    /// `None` after end of file or an error.
    input: Option<Stream>,
    input_rests_until: Option<Instant>,
    output: Stream,
    from_container: Buffer,
    to_container: Buffer,
}

impl TerminalRelay {
    /// Takes over the master, of which there must be no other copy. Duplicates `input` and
    /// `output`.
    pub(crate) fn new(
        master: OwnedFd,
        input: BorrowedFd<'_>,
        output: BorrowedFd<'_>,
    ) -> Result<TerminalRelay> {
        tty::set_nonblocking(master.as_fd(), true)?;
        Ok(TerminalRelay {
            master,
            master_rests_until: None,
            input: Some(Stream::open(input, OFlag::O_RDONLY)?),
            input_rests_until: None,
            output: Stream::open(output, OFlag::O_WRONLY)?,
            from_container: Buffer::new(),
            to_container: Buffer::new(),
        })
    }

    pub(crate) fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// Returns the events to poll for. Leaves out descriptors without events, because poll always
    /// reports their hangups, and a hangup would end every wait at once.
    pub(crate) fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let mut interests = Vec::with_capacity(3);
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::POLLIN, self.from_container.is_empty());
        wanted.set(PollFlags::POLLOUT, !self.to_container.is_empty());
        if self.master_rests_until.is_none() && !wanted.is_empty() {
            interests.push(PollFd::new(self.master.as_fd(), wanted));
        }
        if !self.from_container.is_empty() {
            interests.push(PollFd::new(self.output.fd.as_fd(), PollFlags::POLLOUT));
        }
        if let Some(input) = &self.input
            && self.input_rests_until.is_none()
            && self.to_container.is_empty()
        {
            interests.push(PollFd::new(input.fd.as_fd(), PollFlags::POLLIN));
        }
        interests
    }

    /// Returns when `step` is due even if no descriptor is ready.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.master_rests_until
            .into_iter()
            .chain(self.input_rests_until)
            .min()
    }

    /// Moves the bytes that can be moved now. `ready` has the events of poll, by descriptor number.
    pub(crate) fn step(&mut self, ready: &[(i32, PollFlags)]) -> Output {
        let now = Instant::now();
        self.master_rests_until = self.master_rests_until.filter(|&until| until > now);
        self.input_rests_until = self.input_rests_until.filter(|&until| until > now);
        let ready = |fd: BorrowedFd<'_>| {
            let found = ready.iter().find(|(number, _)| *number == fd.as_raw_fd());
            found.map_or(PollFlags::empty(), |&(_, events)| events)
        };
        let master = ready(self.master.as_fd());
        let broken = PollFlags::POLLHUP | PollFlags::POLLERR;

        if !ready(self.output.fd.as_fd()).is_empty() && self.write_output().is_err() {
            return Output::Closed;
        }
        if master.intersects(PollFlags::POLLIN | broken)
            && self.from_container.is_empty()
            && self.read_master() == Read::HungUp
        {
            self.master_rests_until = Some(now + EIO_PAUSE);
        }
        if master.intersects(PollFlags::POLLOUT | broken)
            && self
                .to_container
                .drain(self.master.as_fd(), BUFFER_BYTES)
                .is_err()
        {
            self.master_rests_until = Some(now + EIO_PAUSE);
        }
        if let Some(input) = &self.input
            && !ready(input.fd.as_fd()).is_empty()
        {
            match self.to_container.fill(input.fd.as_fd()) {
                Ok(0) => self.input = None,
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                // This process is a background job of the terminal, and SIGTTIN is blocked. Then
                // the kernel returns EIO (tty_ioctl(4)).
                Err(Errno::EIO) => self.input_rests_until = Some(now + EIO_PAUSE),
                Err(_) => self.input = None,
            }
        }
        Output::Open
    }

    /// Reads the master into the buffer, which must be empty.
    pub(crate) fn read_master(&mut self) -> Read {
        match self.from_container.fill(self.master.as_fd()) {
            Ok(0) | Err(Errno::EAGAIN | Errno::EINTR) => Read::Empty,
            Ok(length) => Read::Bytes(length),
            Err(_) => Read::HungUp,
        }
    }

    /// True if there are bytes to write to stdout.
    pub(crate) fn has_output(&self) -> bool {
        !self.from_container.is_empty()
    }

    /// Returns stdout, to be polled for POLLOUT before `write_output`.
    pub(crate) fn stdout_fd(&self) -> BorrowedFd<'_> {
        self.output.fd.as_fd()
    }

    /// Writes one piece of the output. An error means that nobody will read the rest.
    pub(crate) fn write_output(&mut self) -> Result<usize> {
        self.from_container
            .drain(self.output.fd.as_fd(), self.output.piece)
    }
}

/// One of the runtime's standard streams, and the number of bytes that one write after poll can
/// take without blocking.
struct Stream {
    fd: OwnedFd,
    piece: usize,
}

impl Stream {
    fn open(fd: BorrowedFd<'_>, access: OFlag) -> Result<Stream> {
        let fifo = path::is_file_type(&fstat(fd)?, SFlag::S_IFIFO);
        let terminal = tty::is_terminal(fd);
        // Reopen nothing else: a reopened file would lose its offset, a socket can't be reopened,
        // and a reopened master would be another pty.
        if (fifo || terminal) && !tty::is_ptmx(fd)? {
            let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            // EACCES: the terminal belongs to another user, after su(1). ENXIO: the pipe has no
            // reader.
            if let Ok(own) = crate::sys::open(name.as_str(), flags, Mode::empty()) {
                return Ok(Stream {
                    fd: own,
                    piece: BUFFER_BYTES,
                });
            }
        }
        let copy = fd.try_clone_to_owned().map_err(|e| errno_of(&e))?;
        let piece = if terminal {
            TERMINAL_WRITE_BYTES
        } else {
            PIPE_WRITE_BYTES
        };
        Ok(Stream { fd: copy, piece })
    }
}

/// A buffer that one read fills when it is empty, and that writes drain from the front.
struct Buffer {
    bytes: Box<[u8; BUFFER_BYTES]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new() -> Buffer {
        Buffer {
            bytes: Box::new([0; BUFFER_BYTES]),
            start: 0,
            end: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn fill(&mut self, fd: BorrowedFd<'_>) -> Result<usize> {
        let length = read(fd, self.bytes.as_mut_slice())?;
        (self.start, self.end) = (0, length);
        Ok(length)
    }

    fn drain(&mut self, fd: BorrowedFd<'_>, piece: usize) -> Result<usize> {
        let waiting = self.bytes.get(self.start..self.end).unwrap_or_default();
        let piece = waiting.get(..piece).unwrap_or(waiting);
        if piece.is_empty() {
            return Ok(0);
        }
        match write(fd, piece) {
            Ok(length) => {
                self.start += length;
                Ok(length)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(errno) => Err(errno),
        }
    }
}
