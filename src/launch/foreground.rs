//! Parent: supervises a container in the foreground until its process ends, in one loop over
//! poll(2).
//! `launch::relay` moves the bytes of the container's terminal.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::error::{Failed, failed};
use crate::launch::notify::NotifyRelay;
use crate::launch::relay::{Output, Read, TerminalRelay};
use crate::launch::signals::{Action, Signals};
use crate::sys::clone::{Child, Exit, pidfd_send_signal};
use crate::sys::tty::{self, Size};
use crate::sys::{Errno, process, retry, wait};

/// The most output to relay after the container's process has ended. A pty holds at most 68 KiB, so
/// any output beyond that is from other processes.
const LEFTOVERS: usize = 128 * 1024;

/// Signals that end the wait for a stdout that doesn't accept the last output.
const ENDING: [i32; 4] = [
    Signal::SIGHUP as i32,
    Signal::SIGINT as i32,
    Signal::SIGQUIT as i32,
    Signal::SIGTERM as i32,
];

/// The master of a container's terminal, and the caller's streams to which it is relayed.
pub(crate) struct Console<'a> {
    pub(crate) master: OwnedFd,
    /// The caller's terminal. It is in raw mode while it is relayed, and its window size is copied
    /// to the container's terminal.
    pub(crate) terminal: BorrowedFd<'a>,
    pub(crate) input: BorrowedFd<'a>,
    pub(crate) output: BorrowedFd<'a>,
}

/// How a container is supervised.
#[derive(Clone, Copy)]
pub(crate) struct Settings<'a> {
    /// The socket where the container reports that it is ready.
    pub(crate) notify: Option<&'a NotifyRelay>,
    /// True if this process adopts the container's orphans and reaps them.
    pub(crate) subreaper: bool,
    /// How long to wait for a stdout that accepts no output, after the container's process has
    /// ended.
    pub(crate) patience: Duration,
}

/// Makes this process the parent of the container's orphans. `supervise` reaps them.
pub(crate) fn become_subreaper() -> Result<(), Failed> {
    process::set_child_subreaper().map_err(failed("prctl", || "adopt orphans".into()))
}

/// Sets the size of the container's terminal, and makes `\n` the end of its lines. Must be
/// called before the container's process runs. Otherwise the process would see the old size and
/// write `\r\n`.
pub(crate) fn prepare(
    master: BorrowedFd<'_>,
    terminal: BorrowedFd<'_>,
    size: Option<Size>,
) -> Result<(), Failed> {
    let what = || "prepare the terminal of the container".into();
    tty::clear_onlcr(master).map_err(failed("tcsetattr", what))?;
    match size {
        Some(size) => tty::set_size(master, size).map_err(failed("ioctl", what)),
        None => {
            resize(master, terminal);
            Ok(())
        }
    }
}

/// Forwards signals to `child`, and relays its terminal if it has one. Waits for its end and reaps
/// it.
///
/// `prepare` must have been called for the master. All signals must be blocked, and SIGCHLD not
/// ignored. On an error, the child may still be alive, but the caller's terminal is restored. If
/// the reader of stdout goes away, the container's terminal is hung up, as when a window is closed.
pub(crate) fn supervise(
    child: &Child,
    console: Option<Console<'_>>,
    signals: &Signals,
    settings: Settings<'_>,
) -> Result<Exit, Failed> {
    let Some(Console {
        master,
        terminal,
        input,
        output,
    }) = console
    else {
        return watch(child, None, signals, settings);
    };
    let relay = TerminalRelay::new(master, input, output).map_err(failed("fcntl", || {
        "relay the terminal of the container".into()
    }))?;
    let saved = tty::make_raw(terminal).map_err(failed("tcsetattr", || {
        "put the own terminal into raw mode".into()
    }))?;
    let ended = watch(child, Some((relay, terminal)), signals, settings);
    // This fails only if the terminal is gone.
    let _ = tty::restore(terminal, &saved);
    ended
}

/// Copies the window size of the caller's terminal to the master. A failure is ignored, because the
/// terminal may be gone.
fn resize(master: BorrowedFd<'_>, terminal: BorrowedFd<'_>) {
    let _ = tty::size(terminal).and_then(|size| tty::set_size(master, size));
}

fn watch(
    child: &Child,
    mut console: Option<(TerminalRelay, BorrowedFd<'_>)>,
    signals: &Signals,
    settings: Settings<'_>,
) -> Result<Exit, Failed> {
    let mut notify = settings.notify;
    loop {
        let mut fds = vec![
            PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        let relay = console.as_ref().map(|(relay, _)| relay);
        fds.extend(relay.into_iter().flat_map(TerminalRelay::poll_fds));
        fds.extend(notify.map(|notify| PollFd::new(notify.as_fd(), PollFlags::POLLIN)));
        let ready = wait_for(&mut fds, relay.and_then(TerminalRelay::next_due))?;

        while let Some(action) = signals.next()? {
            match action {
                Action::Reap if settings.subreaper => wait::reap_all_except(child.pid)
                    .map_err(failed("waitid", || "reap orphans of the container".into()))?,
                Action::Reap => {}
                Action::Resize => {
                    if let Some((relay, terminal)) = &console {
                        resize(relay.master(), *terminal);
                    }
                }
                Action::Forward(signal) => forward(child, signal)?,
            }
        }
        if let Some(socket) = notify
            && ready
                .iter()
                .any(|(number, _)| *number == socket.as_fd().as_raw_fd())
            // The caller watches this process. As in runc, a failure to notify the caller is no
            // error. A barrier isn't needed, because this process keeps running.
            && socket.step(std::process::id()).unwrap_or(true)
        {
            notify = None;
        }
        if let Some((relay, _)) = &mut console
            && relay.step(&ready) == Output::Closed
        {
            console = None;
        }
        if ready
            .iter()
            .any(|(number, _)| *number == child.pidfd.as_raw_fd())
        {
            break;
        }
    }
    let exit = wait::reap(child.pidfd.as_fd()).map_err(failed("waitid", || {
        format!("wait for process {}", child.pid)
    }))?;
    if let Some((relay, _)) = console {
        // Ignore a failure, because the exit code is returned even if the last output is lost.
        let _ = finish(relay, signals, settings.patience);
    }
    Ok(exit)
}

/// Waits for one of `fds`, until `due` at the latest. Returns the ready descriptors with their
/// events.
fn wait_for(fds: &mut [PollFd<'_>], due: Option<Instant>) -> Result<Vec<(i32, PollFlags)>, Failed> {
    retry(|| {
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        // Round up: otherwise the last part of a millisecond would be a busy loop.
        let left = left.map(|left| left.saturating_add(Duration::from_micros(999)));
        let timeout = match left {
            Some(left) => PollTimeout::try_from(left).map_err(|_| Errno::EINVAL)?,
            None => PollTimeout::NONE,
        };
        poll(fds, timeout)
    })
    .map_err(failed("poll", || "wait for the container".into()))?;
    let events = |fd: &PollFd<'_>| {
        let events = fd.revents().unwrap_or(PollFlags::POLLERR);
        (fd.as_fd().as_raw_fd(), events)
    };
    Ok(fds
        .iter()
        .map(events)
        .filter(|(_, events)| !events.is_empty())
        .collect())
}

/// Forwards a signal. ESRCH isn't an error, because the pidfd reports the end of the child.
fn forward(child: &Child, signal: i32) -> Result<(), Failed> {
    match pidfd_send_signal(child.pidfd.as_fd(), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => {
            let what = || format!("forward signal {signal} to process {}", child.pid);
            Err(failed("pidfd_send_signal", what)(errno))
        }
    }
}

/// Writes the terminal's remaining output, until stdout accepts nothing for `patience` or a signal
/// ends the wait.
fn finish(mut relay: TerminalRelay, signals: &Signals, patience: Duration) -> Result<(), Failed> {
    let mut taken = 0;
    let mut deadline = Instant::now() + patience;
    loop {
        if !relay.has_output() {
            match relay.read_master() {
                Read::Bytes(length) if taken < LEFTOVERS => taken += length,
                Read::Bytes(_) | Read::Empty | Read::HungUp => return Ok(()),
            }
        }
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(relay.stdout_fd(), PollFlags::POLLOUT),
        ];
        let ready = wait_for(&mut fds, Some(deadline))?;
        let writable = ready
            .iter()
            .any(|(number, _)| *number == relay.stdout_fd().as_raw_fd());
        while let Some(action) = signals.next()? {
            if let Action::Forward(signal) = action
                && ENDING.contains(&signal)
            {
                return Ok(());
            }
        }
        if writable {
            match relay.write_output() {
                Ok(0) => {}
                Ok(_) => deadline = Instant::now() + patience,
                Err(_) => return Ok(()),
            }
        }
        if Instant::now() >= deadline {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
