//! The files and directories of cgroupfs: reads, writes, waits, and walks over nested cgroups.
//! `cgroup` knows the meaning of each file for a container.
//!
//! A container with a writable cgroup mount can nest cgroups to any depth. So no function of this
//! module recurses, and the number of open descriptors doesn't grow with the depth.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;

use crate::sys::{Result, retry};

/// The contents of cgroup.events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CgroupEvents {
    /// True if the cgroup or a nested one has a process.
    pub(super) populated: bool,
    /// True if all processes are frozen by the freezer of this cgroup or of a cgroup above it.
    pub(super) frozen: bool,
}

impl CgroupEvents {
    pub(super) fn parse(text: &str) -> CgroupEvents {
        CgroupEvents {
            populated: find_keyed_number(text, "populated") == Some(1),
            frozen: find_keyed_number(text, "frozen") == Some(1),
        }
    }
}

/// Finds the number after a key, in a text with one key and one number per line.
pub(super) fn find_keyed_number(text: &str, key: &str) -> Option<u64> {
    let mut values = text
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    values.next()?.trim().parse().ok()
}

pub(super) fn open_file(dir: BorrowedFd<'_>, name: &CStr, flags: OFlag) -> Result<OwnedFd> {
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    crate::sys::open_at(dir, name, flags, Mode::empty())
}

pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    open_file(dir, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

/// Opens a file and reads all of it.
pub(super) fn read_file(dir: BorrowedFd<'_>, name: &CStr) -> Result<String> {
    let file = open_file(dir, name, OFlag::O_RDONLY)?;
    read_from_start(&file)
}

/// Reads all of an open file from its start.
pub(super) fn read_from_start(file: &OwnedFd) -> Result<String> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let offset = i64::try_from(text.len()).map_err(|_| Errno::EFBIG)?;
        let length = retry(|| nix::sys::uio::pread(file, &mut buffer, offset))?;
        text.extend_from_slice(buffer.get(..length).unwrap_or_default());
        // The kernel fills the buffer with whole lines. A read that fills less than half of the
        // buffer has reached the end of the file.
        if length < buffer.len() / 2 {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
    }
}

/// Writes a value with a single write(2).
pub(super) fn write_file(dir: BorrowedFd<'_>, name: &CStr, value: &str) -> Result<()> {
    let file = open_file(dir, name, OFlag::O_WRONLY)?;
    retry(|| nix::unistd::write(&file, value.as_bytes())).map(drop)
}

pub(super) fn read_events(dir: BorrowedFd<'_>) -> Result<CgroupEvents> {
    read_file(dir, c"cgroup.events").map(|text| CgroupEvents::parse(&text))
}

/// How often to check the events without a notification. The kernel sends no notification when a
/// cgroup is removed.
const REMOVAL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Waits until `wanted` accepts the events of a cgroup. Returns false if the deadline passes first.
/// ENODEV and ENOENT mean that the cgroup no longer exists.
pub(super) fn wait_for_events(
    dir: BorrowedFd<'_>,
    wanted: impl Fn(CgroupEvents) -> bool,
    deadline: Instant,
) -> Result<bool> {
    let file = open_file(dir, c"cgroup.events", OFlag::O_RDONLY)?;
    loop {
        // Reading the file arms poll(2), which then reports any later change of the file.
        if wanted(CgroupEvents::parse(&read_from_start(&file)?)) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout =
            PollTimeout::try_from(left.min(REMOVAL_CHECK_INTERVAL)).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        match nix::poll::poll(&mut fds, timeout) {
            // poll(2) can't wait for less than a millisecond.
            Ok(0) if left.as_millis() == 0 => return Ok(false),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Parses a file with one number per line.
pub(super) fn read_numbers(dir: BorrowedFd<'_>, name: &CStr) -> Result<Vec<i32>> {
    let text = read_file(dir, name)?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Removes a cgroup. EBUSY means that the cgroup has processes or nested cgroups.
pub(super) fn remove_dir(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    nix::unistd::unlinkat(dir, name, UnlinkatFlags::RemoveDir)
}

/// True if the name exists.
pub(super) fn exists(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    nix::sys::stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
}

/// Visits all cgroups below `top`. Calls `enter` with a cgroup before it visits those below that
/// cgroup. Calls `leave` after that, with the parent and the name of the cgroup.
pub(super) fn walk_nested(
    top: BorrowedFd<'_>,
    mut enter: impl FnMut(BorrowedFd<'_>) -> Result<()>,
    mut leave: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<()>,
) -> Result<()> {
    let mut here = open_dir(top, c".")?;
    // Each level has the name of its cgroup, and the names of the nested cgroups that are still to
    // be visited.
    let mut levels: Vec<(Option<CString>, Vec<CString>)> = vec![(None, child_names(&here)?)];
    while let Some((_, names)) = levels.last_mut() {
        if let Some(name) = names.pop() {
            match open_dir(here.as_fd(), &name) {
                Ok(child) => {
                    enter(child.as_fd())?;
                    let below = child_names(&child)?;
                    here = child;
                    levels.push((Some(name), below));
                }
                // A process in the container removed this cgroup in the meantime.
                Err(Errno::ENOENT | Errno::ENODEV) => {}
                Err(errno) => return Err(errno),
            }
        } else if let Some((Some(name), _)) = levels.pop() {
            here = open_dir(here.as_fd(), c"..")?;
            leave(here.as_fd(), &name)?;
        }
    }
    Ok(())
}

fn child_names(dir: &OwnedFd) -> Result<Vec<CString>> {
    entry_names(dir.as_fd(), |kind| kind == Some(Type::Directory))
}

/// Returns the names of the regular files in a directory.
pub(super) fn file_names(dir: BorrowedFd<'_>) -> Result<Vec<String>> {
    let names = entry_names(dir, |kind| kind == Some(Type::File))?;
    let text = |name: CString| name.into_string().ok();
    Ok(names.into_iter().filter_map(text).collect())
}

fn entry_names(dir: BorrowedFd<'_>, wanted: impl Fn(Option<Type>) -> bool) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    let mut dir = match Dir::openat(
        dir,
        c".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    ) {
        Err(Errno::ENOENT | Errno::ENODEV) => return Ok(names),
        other => other?,
    };
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if wanted(entry.file_type()) && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_by_their_names() {
        let parsed = CgroupEvents::parse("populated 1\nfrozen 0\n");
        assert_eq!((parsed.populated, parsed.frozen), (true, false));
        let parsed = CgroupEvents::parse("frozen 1\npopulated 0\nnew 1\n");
        assert_eq!(find_keyed_number("max_events 4\nmax 3\n", "max"), Some(3));
        assert_eq!(
            find_keyed_number("oom 1\noom_kill 2\noom_group_kill 0\n", "oom_kill"),
            Some(2)
        );
        assert_eq!(find_keyed_number("", "max"), None);
        assert_eq!((parsed.populated, parsed.frozen), (false, true));
    }
}
