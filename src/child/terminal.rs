//! The terminal of a process: a pty from the container's own devpts.
//! The child sends the master of the pty to the parent, which passes it on or relays it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;

use super::StepResult;
use crate::error::{Failed, failed};
use crate::plan::process::{Process, Terminal};
use crate::protocol::{Message, send};
use crate::sys::path::{self, Missing};
use crate::sys::{Errno, mount, process, tty, weakened};
use crate::timeline::{self, Phase};

/// Where to bind the terminal of a container's init.
pub(super) struct ConsoleMount<'a> {
    pub(super) root: BorrowedFd<'a>,
    /// True to make /dev/console if it is missing. False for a /dev from outside the container.
    pub(super) is_made: bool,
}

/// Makes a pty and uses it as standard input, output and error. With `console`, also binds it to
/// /dev/console.
pub(super) fn make_terminal(
    terminal: &Terminal,
    plan: &Process,
    link: BorrowedFd<'_>,
    console: Option<ConsoleMount<'_>>,
) -> StepResult {
    timeline::begin_step(Phase::Terminal);
    let what = || "make the terminal".to_owned();
    let (ptmx, name) = open_ptmx()?;
    let pty = tty::open_pty(ptmx).map_err(failed("ioctl", || {
        format!("make a terminal from the container's {name}")
    }))?;
    if let Some(size) = terminal.size {
        tty::set_size(pty.master.as_fd(), size).map_err(failed("ioctl", what))?;
    }
    let owner = nix::unistd::Uid::from_raw(plan.uid);
    nix::unistd::fchown(&pty.slave, Some(owner), None).map_err(failed("fchown", || {
        format!("give the terminal to user {owner}")
    }))?;
    if let Some(console) = console {
        bind_console(&console, pty.slave.as_fd())?;
    }
    for number in 0..3 {
        process::dup_onto(pty.slave.as_fd(), number).map_err(failed("dup3", what))?;
    }
    send(link, &Message::Console(pty.master)).map_err(failed("sendmsg", || {
        "send the terminal to the parent".into()
    }))
}

/// Opens the ptmx of the container's devpts, and returns it with its name. Its mode is 000 by
/// default, as on the host. If it can't be opened, opens /dev/ptmx, for which the kernel makes the
/// pty on the devpts at /dev/pts. An image can replace both files, so each opened file is checked.
fn open_ptmx() -> StepResult<(OwnedFd, &'static str)> {
    let first = path::open_device(c"/dev/pts/ptmx", |fd| {
        Ok(tty::is_on_devpts(fd)? && tty::is_ptmx(fd)?)
    });
    let errno = match first {
        Ok(ptmx) => return Ok((ptmx, "/dev/pts/ptmx")),
        Err(errno) => errno,
    };
    match path::open_device(c"/dev/ptmx", tty::is_ptmx) {
        Ok(ptmx) => Ok((ptmx, "/dev/ptmx")),
        Err(_) => {
            let what = "open the container's /dev/pts/ptmx";
            Err(Failed::new(what, "open", errno))
        }
    }
}

/// Makes the terminal at standard input the controlling terminal of this session.
pub(super) fn take_controlling_terminal() -> StepResult {
    let [input, ..] = process::standard_fds();
    tty::make_controlling(input).map_err(failed("ioctl", || {
        "make the terminal the controlling terminal".into()
    }))
}

/// Binds the terminal to /dev/console, which is made below a descriptor of /dev, and never through
/// a link (CVE-2025-52565, CVE-2026-88264).
fn bind_console(console: &ConsoleMount<'_>, slave: BorrowedFd<'_>) -> StepResult {
    let what = || "bind the terminal to /dev/console".to_owned();
    let dev = path::open_or_make(
        console.root,
        std::path::Path::new("/dev"),
        Missing::Directory,
    )
    .map_err(failed("openat2", what))?;
    if weakened::lacks("console") {
        let at = std::path::Path::new("/dev/console");
        return path::open_or_make(console.root, at, Missing::File)
            .map(drop)
            .map_err(failed("openat2", what));
    }
    if console.is_made {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDONLY;
        match path::open_child(dev.as_fd(), c"console", flags, 0o666) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Failed::new(what(), "openat2", errno)),
        }
    }
    let target = match path::open_child(dev.as_fd(), c"console", OFlag::O_PATH, 0) {
        Err(Errno::ENOENT) if !console.is_made => return Ok(()),
        target => target.map_err(failed("openat2", what))?,
    };
    let stat = nix::sys::stat::fstat(&target).map_err(failed("fstat", what))?;
    if path::is_file_type(&stat, nix::sys::stat::SFlag::S_IFLNK) {
        return Err(Failed::from_sentence(format!(
            "{}: a symbolic link is there",
            what()
        )));
    }
    let tree = mount::open_tree(slave, c"", false).map_err(failed("open_tree", what))?;
    mount::move_mount(tree.as_fd(), target.as_fd()).map_err(failed("move_mount", what))
}
