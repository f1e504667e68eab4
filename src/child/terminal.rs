//! The terminal of a process: a pty from the container's own devpts, its master sent to the parent.
//! Where the master goes from there is the parent's business.

use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::{Step, because};
use crate::plan::process::{Process, Terminal};
use crate::protocol::{Failure, Message, send};
use crate::sys::path::{self, Missing};
use crate::sys::{mount, process, tty};

/// Makes a pty standard input, output and error; with `console`, the container's root, it is bound
/// to /dev/console as well.
pub(super) fn take(
    terminal: &Terminal,
    plan: &Process,
    link: BorrowedFd<'_>,
    console: Option<BorrowedFd<'_>>,
) -> Step {
    let what = || "make the terminal".to_owned();
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    // Not /dev/ptmx, which an image can make into anything; that this is one of devpts is checked on the descriptor.
    let ptmx = nix::fcntl::open(c"/dev/pts/ptmx", flags, Mode::empty())
        .map_err(because("open", || {
            "open the container's /dev/pts/ptmx".into()
        }))?;
    let pty = tty::open_pty(ptmx).map_err(because("ioctl", || {
        "make a terminal from the container's /dev/pts/ptmx".into()
    }))?;
    if let Some(size) = terminal.size {
        tty::set_size(pty.master.as_fd(), size).map_err(because("ioctl", what))?;
    }
    let owner = nix::unistd::Uid::from_raw(plan.uid);
    nix::unistd::fchown(&pty.slave, Some(owner), None).map_err(because("fchown", || {
        format!("give the terminal to user {owner}")
    }))?;
    if let Some(root) = console {
        bind_console(root, pty.slave.as_fd())?;
    }
    for number in 0..3 {
        process::dup_onto(pty.slave.as_fd(), number).map_err(because("dup3", what))?;
    }
    send(link, &Message::Console(pty.master)).map_err(because("sendmsg", || {
        "send the terminal to the parent".into()
    }))
}

/// Makes standard input, a terminal, the controlling one of the session that this process leads.
pub(super) fn control() -> Step {
    let [input, ..] = process::standard_fds();
    tty::make_controlling(input).map_err(because("ioctl", || {
        "take the terminal as the controlling one".into()
    }))
}

/// Binds the terminal to /dev/console, which is made below a descriptor of /dev and never through a link (CVE-2025-52565,
/// CVE-2026-88264).
fn bind_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Step {
    let what = || "bind the terminal to /dev/console".to_owned();
    let dev = path::open_or_make(root, std::path::Path::new("/dev"), Missing::Directory)
        .map_err(because("openat2", what))?;
    match path::open_child(
        dev.as_fd(),
        c"console",
        OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDONLY,
        0o666,
    ) {
        Ok(_) | Err(crate::sys::Errno::EEXIST) => {}
        Err(errno) => return Err(Failure::new(what(), "openat2", errno)),
    }
    let target = path::open_child(dev.as_fd(), c"console", OFlag::O_PATH, 0)
        .map_err(because("openat2", what))?;
    let stat = nix::sys::stat::fstat(&target).map_err(because("fstat", what))?;
    if path::is_kind(&stat, nix::sys::stat::SFlag::S_IFLNK) {
        return Err(Failure::told(format!(
            "{}: a symbolic link is there",
            what()
        )));
    }
    let tree = mount::open_tree(slave, c"", false).map_err(because("open_tree", what))?;
    mount::move_mount(tree.as_fd(), target.as_fd()).map_err(because("move_mount", what))
}
