//! tmpcopyup: copies the contents of a directory into the new tmpfs that will cover it.
//! Each name is opened relative to a directory descriptor, so that a process that changes the
//! directory can't redirect the copy.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir as Listing;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid};

use crate::sys::mount::{self, Attributes, NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::path::{is_file_type, open_child, read_link};
use crate::sys::procfs::errno_of;
use crate::sys::{Errno, Result as Called};

/// The maximum depth of a copied tree, because each level holds three descriptors and a buffer. A
/// deeper tree gives ELOOP.
const MAX_DEPTH_LEVELS: usize = 256;

const OPEN_DIRECTORY_FLAGS: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY);

/// The file at which a copy failed, and the reason.
pub(super) struct CopyFailure {
    /// Relative to the copied directory.
    pub(super) path: PathBuf,
    pub(super) call: &'static str,
    pub(super) errno: Errno,
}

type CopyResult<T = ()> = Result<T, CopyFailure>;

/// Returns a closure for `map_err` that records which call failed.
fn copy_failure(call: &'static str) -> impl FnOnce(Errno) -> CopyFailure {
    move |errno| CopyFailure {
        path: PathBuf::new(),
        call,
        errno,
    }
}

/// Copies the visible contents of the directory `covered` into the empty file system `tmpfs`.
///
/// Types, owners, permissions and times are kept; extended attributes and hard links are not, as in
/// runc.
pub(super) fn copy_contents(covered: BorrowedFd<'_>, tmpfs: BorrowedFd<'_>) -> CopyResult {
    // Clone the mount read-only and without devices. Then no device node can be opened, not even
    // one that replaces a file during the copy.
    let view = mount::open_tree(covered, c"", true).map_err(copy_failure("open_tree"))?;
    let inert = Attributes {
        set: RDONLY | NODEV | NOSUID | NOEXEC,
        propagation: mount::PRIVATE,
        ..Attributes::default()
    };
    mount::mount_setattr(view.as_fd(), true, inert).map_err(copy_failure("mount_setattr"))?;
    let from =
        open_child(view.as_fd(), c".", OPEN_DIRECTORY_FLAGS, 0).map_err(copy_failure("openat2"))?;
    copy_entries(&from, tmpfs, MAX_DEPTH_LEVELS)
}

/// Copies all entries of a directory.
fn copy_entries(from: &OwnedFd, to: BorrowedFd<'_>, levels: usize) -> CopyResult {
    let copy = from
        .try_clone()
        .map_err(|e| copy_failure("fcntl")(errno_of(&e)))?;
    let mut listing = Listing::from_fd(copy).map_err(copy_failure("getdents64"))?;
    for listed in listing.iter() {
        let listed = listed.map_err(copy_failure("getdents64"))?;
        let name = listed.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        copy_entry(from.as_fd(), to, name, levels).map_err(|found| CopyFailure {
            path: prepend_name(name, &found.path),
            ..found
        })?;
    }
    Ok(())
}

fn prepend_name(name: &CStr, path: &Path) -> PathBuf {
    let name = Path::new(OsStr::from_bytes(name.to_bytes()));
    if path.as_os_str().is_empty() {
        name.to_owned()
    } else {
        name.join(path)
    }
}

/// Copies one entry. Skips an entry that is gone by now or has changed its type.
fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, levels: usize) -> CopyResult {
    let source = match open_child(from, name, OFlag::O_PATH, 0) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other.map_err(copy_failure("openat2"))?,
    };
    let stat = fstat(&source).map_err(copy_failure("fstat"))?;
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => copy_directory(&source, to, name, &stat, levels),
        SFlag::S_IFREG => copy_file(from, to, name, &stat),
        SFlag::S_IFLNK => {
            let target = read_link(source.as_fd()).map_err(copy_failure("readlinkat"))?;
            nix::unistd::symlinkat(&target, to, name).map_err(copy_failure("symlinkat"))?;
            copy_entry_metadata(to, name, &stat)
        }
        kind => {
            let made = nix::sys::stat::mknodat(to, name, kind, permissions_of(&stat), stat.st_rdev);
            match made {
                Ok(()) => copy_entry_metadata(to, name, &stat),
                // Skip device nodes in a user namespace, where mknod fails.
                Err(Errno::EPERM) => Ok(()),
                Err(errno) => Err(copy_failure("mknodat")(errno)),
            }
        }
    }
}

fn copy_directory(
    source: &OwnedFd,
    to: BorrowedFd<'_>,
    name: &CStr,
    stat: &FileStat,
    levels: usize,
) -> CopyResult {
    let levels = levels
        .checked_sub(1)
        .ok_or_else(|| copy_failure("openat2")(Errno::ELOOP))?;
    let from = open_child(source.as_fd(), c".", OPEN_DIRECTORY_FLAGS, 0)
        .map_err(copy_failure("openat2"))?;
    nix::sys::stat::mkdirat(to, name, Mode::S_IRWXU).map_err(copy_failure("mkdirat"))?;
    let made = open_child(to, name, OPEN_DIRECTORY_FLAGS, 0).map_err(copy_failure("openat2"))?;
    copy_entries(&from, made.as_fd(), levels)?;
    // Set the times last, because each new entry changes those of the directory.
    copy_metadata(made.as_fd(), stat)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> CopyResult {
    // Don't block if a FIFO has replaced the file.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let source = match open_child(from, name, flags, 0) {
        Err(Errno::ENOENT | Errno::ELOOP | Errno::EACCES | Errno::ENXIO) => return Ok(()),
        other => other.map_err(copy_failure("openat2"))?,
    };
    let now = fstat(&source).map_err(copy_failure("fstat"))?;
    if !is_file_type(&now, SFlag::S_IFREG) {
        return Ok(());
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let made = open_child(to, name, flags, 0o600).map_err(copy_failure("openat2"))?;
    let (mut source, mut made) = (File::from(source), File::from(made));
    std::io::copy(&mut source, &mut made).map_err(|e| copy_failure("write")(errno_of(&e)))?;
    copy_metadata(made.as_fd(), stat)
}

fn permissions_of(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode & 0o7777)
}

fn owner_ids(stat: &FileStat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

fn access_and_modify_times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (
        TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    )
}

/// Ignores EINVAL, which means that the owner has no id in this user namespace. The copy then
/// belongs to the user of this process.
fn ignore_unmapped_owner(chowned: Called<()>) -> Called<()> {
    match chowned {
        Err(Errno::EINVAL) => Ok(()),
        other => other,
    }
}

/// Gives a file or directory the owner, permissions and times of another file.
fn copy_metadata(made: BorrowedFd<'_>, stat: &FileStat) -> CopyResult {
    let (uid, gid) = owner_ids(stat);
    ignore_unmapped_owner(nix::unistd::fchown(made, uid, gid)).map_err(copy_failure("fchown"))?;
    // Set the mode after the owner, because chown clears set-user-ID.
    fchmod(made, permissions_of(stat)).map_err(copy_failure("fchmod"))?;
    let (accessed, modified) = access_and_modify_times(stat);
    futimens(made, &accessed, &modified).map_err(copy_failure("futimens"))
}

/// Like `copy_metadata`, for a file that can't be opened. Its permissions were set when it was
/// made.
fn copy_entry_metadata(to: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> CopyResult {
    let (uid, gid) = owner_ids(stat);
    let chowned = nix::unistd::fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW);
    ignore_unmapped_owner(chowned).map_err(copy_failure("fchownat"))?;
    let (accessed, modified) = access_and_modify_times(stat);
    let flags = UtimensatFlags::NoFollowSymlink;
    nix::sys::stat::utimensat(to, name, &accessed, &modified, flags)
        .map_err(copy_failure("utimensat"))
}
