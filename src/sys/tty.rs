//! Terminals: pty pairs, window sizes, raw mode and the controlling terminal.
//! `launch::relay` moves the bytes.

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat, major, minor};
use nix::sys::termios::{self, OutputFlags, SetArg};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use super::{Errno, Result, errno, path};

pub(crate) use nix::sys::termios::Termios;

/// Both ends of a pseudo-terminal.
pub(crate) struct Pty {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// Makes a pty from the opened `ptmx`. The caller opens `ptmx` with O_RDWR, O_NOCTTY, O_CLOEXEC,
/// and O_NONBLOCK in case it is a FIFO. Fails with ENODEV if the file is not a ptmx.
///
/// The slave is opened through the master (TIOCGPTPEER) and not by its path, because the container
/// can replace the file at that path (CVE-2025-52565). The master becomes blocking, as the engines
/// that receive it expect.
pub(crate) fn open_pty(ptmx: OwnedFd) -> Result<Pty> {
    if !is_ptmx(ptmx.as_fd())? {
        return Err(Errno::ENODEV);
    }
    set_nonblocking(ptmx.as_fd(), false)?;
    pair(ptmx)
}

/// Makes a pty from a master, which need not be on a devpts.
fn pair(master: OwnedFd) -> Result<Pty> {
    unlockpt(&master).map_err(errno)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).map_err(errno)?;
    Ok(Pty { master, slave })
}

/// True if `fd` is on a devpts.
pub(crate) fn is_on_devpts(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(path::filesystem(fd)? == libc::DEVPTS_SUPER_MAGIC)
}

/// True if `fd` is a ptmx device. Each open of a ptmx device makes a new pty.
pub(crate) fn is_ptmx(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = fstat(fd)?;
    // 5:2 is /dev/ptmx, also on a devpts (Documentation/admin-guide/devices.txt).
    Ok(path::is_file_type(&stat, SFlag::S_IFCHR)
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (5, 2))
}

/// True if `fd` is a terminal.
pub(crate) fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    fd.is_terminal()
}

/// Makes `slave` the controlling terminal of this process. The process must be a session leader
/// without a controlling terminal.
pub(crate) fn make_controlling(slave: BorrowedFd<'_>) -> Result<()> {
    // With the argument 0 the terminal is not stolen from another session.
    rustix::process::ioctl_tiocsctty(slave).map_err(errno)
}

/// Returns the window size of a terminal.
pub(crate) fn size(fd: BorrowedFd<'_>) -> Result<Size> {
    let size = tcgetwinsize(fd).map_err(errno)?;
    Ok(Size {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// Sets the window size. If it changes, the kernel sends SIGWINCH to the foreground processes of
/// the terminal.
pub(crate) fn set_size(fd: BorrowedFd<'_>, size: Size) -> Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(fd, size).map_err(errno)
}

/// Stops a pty from writing `\n` as `\r\n`. Works on either end.
pub(crate) fn clear_onlcr(pty: BorrowedFd<'_>) -> Result<()> {
    let mut attributes = termios::tcgetattr(pty)?;
    attributes.output_flags.remove(OutputFlags::ONLCR);
    termios::tcsetattr(pty, SetArg::TCSANOW, &attributes)
}

/// Puts a terminal into raw mode. Returns the attributes that `restore` needs.
///
/// Output processing stays on. The container's pty has ONLCR cleared, so that only this terminal
/// turns `\n` into `\r\n`. In a background process group this function raises SIGTTOU, unless the
/// signal is blocked.
pub(crate) fn make_raw(terminal: BorrowedFd<'_>) -> Result<Termios> {
    let saved = termios::tcgetattr(terminal)?;
    let mut raw = saved.clone();
    termios::cfmakeraw(&mut raw);
    raw.output_flags = saved.output_flags;
    set_attributes(terminal, &raw)?;
    Ok(saved)
}

/// Restores the attributes of a terminal.
pub(crate) fn restore(terminal: BorrowedFd<'_>, saved: &Termios) -> Result<()> {
    set_attributes(terminal, saved)
}

/// Sets the attributes at once. Waiting for the output to drain could take for ever if nobody reads
/// the output.
fn set_attributes(terminal: BorrowedFd<'_>, attributes: &Termios) -> Result<()> {
    super::retry(|| termios::tcsetattr(terminal, SetArg::TCSANOW, attributes))
}

/// Sets or clears O_NONBLOCK of the open file description, which all copies of the descriptor
/// share.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, nonblocking);
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// Returns the path of a terminal, for tests.
#[cfg(test)]
pub(crate) fn name(terminal: &OwnedFd) -> String {
    use std::os::fd::AsRawFd as _;
    let link = format!("/proc/self/fd/{}", terminal.as_raw_fd());
    std::fs::read_link(link).map_or_else(|_| String::new(), |path| path.display().to_string())
}

/// Makes a pty of the machine on which the tests run.
#[cfg(test)]
pub(crate) fn pty_of_the_host() -> Pty {
    #![allow(clippy::unwrap_used)]
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    pair(crate::sys::open(c"/dev/ptmx", flags, nix::sys::stat::Mode::empty()).unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::{File, OpenOptions};
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_ptmx_that_is_none_is_refused() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(open_pty(null.into()).err(), Some(Errno::ENODEV));
        // A slave is on a devpts as well.
        let slave = pty_of_the_host().slave;
        assert_eq!(open_pty(slave).err(), Some(Errno::ENODEV));
    }

    #[test]
    fn the_ptmx_of_a_devpts_gives_both_sides_and_the_number() {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
        let ptmx = match options.open("/dev/pts/ptmx") {
            Ok(ptmx) => ptmx,
            // Most hosts mount their devpts with ptmxmode=000.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return,
            Err(e) => unreachable!("{e}"),
        };
        let pty = open_pty(ptmx.into()).unwrap();
        assert!(name(&pty.slave).starts_with("/dev/pts/"));
        let flags = fcntl(&pty.master, FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    }

    #[test]
    fn a_pty_without_onlcr_keeps_newlines() {
        let pty = pty_of_the_host();
        clear_onlcr(pty.master.as_fd()).unwrap();
        File::from(pty.slave).write_all(b"a\nb").unwrap();
        let mut buffer = [0; 16];
        let length = File::from(pty.master).read(&mut buffer).unwrap();
        assert_eq!(buffer.get(..length), Some(&b"a\nb"[..]));
    }

    #[test]
    fn the_size_set_on_one_side_is_seen_on_the_other() {
        let pty = pty_of_the_host();
        let wanted = Size {
            rows: 33,
            columns: 111,
        };
        set_size(pty.master.as_fd(), wanted).unwrap();
        assert_eq!(size(pty.slave.as_fd()), Ok(wanted));
    }

    #[test]
    fn raw_mode_keeps_output_processing_and_is_undone() {
        let pty = pty_of_the_host();
        let terminal = pty.slave.as_fd();
        let before = termios::tcgetattr(terminal).unwrap();
        let saved = make_raw(terminal).unwrap();
        let raw = termios::tcgetattr(terminal).unwrap();
        assert!(
            !raw.local_flags
                .intersects(termios::LocalFlags::ICANON | termios::LocalFlags::ISIG)
        );
        assert!(
            raw.output_flags
                .contains(OutputFlags::OPOST | OutputFlags::ONLCR)
        );
        restore(terminal, &saved).unwrap();
        assert_eq!(termios::tcgetattr(terminal).unwrap(), before);
    }
}
