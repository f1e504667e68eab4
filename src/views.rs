//! With --no-pivot, hides the host's procfs and sysfs in the container's mount namespace, which
//! keeps the host's mounts. No full view may remain: an uncovered mount of the whole file system.
//!
//! With a full view, a process that makes a user namespace in the container may mount a procfs or
//! sysfs without the container's masks. The kernel looks for a full view in the whole mount
//! namespace, reachable or not (mnt_already_visible).

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;

use crate::error::{Failed, failed};
use crate::sys::procfs::{Procfs, errno_of};
use crate::sys::{Errno, Result, mount};

/// The maximum number of passes. Other users of a shared mount namespace may keep adding views.
const MAX_ROUNDS: usize = 256;

/// The reason why a mount that hides a view can't be unmounted: mount_namespaces(7).
const LOCKED_MOUNT_REASON: &str =
    "another mount hides it, which the kernel locks in a user namespace; unmount one on the host";

/// The flags for opening a mount that may be covered.
const OPEN_PLACE_FLAGS: OFlag = OFlag::O_PATH
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// One line of mountinfo: proc(5).
#[derive(Debug, PartialEq, Eq)]
struct MountinfoLine {
    id: u32,
    parent: u32,
    /// The directory of the file system that the mount shows as its root.
    root: String,
    at: PathBuf,
    kind: String,
}

/// Unmounts all full views outside the container's root, or covers those that can't be unmounted.
/// The container's root must already be attached on `/`, so that the views that it hid at its own
/// path can be reached.
pub(crate) fn close(root: BorrowedFd<'_>) -> std::result::Result<(), Failed> {
    let what = || "look for the host's procfs and sysfs".to_owned();
    let proc = open_own_procfs().map_err(failed("fsmount", what))?;
    let root = mount_id_of(&proc, root).map_err(failed("read", what))?;
    for _ in 0..MAX_ROUNDS {
        let mounts = mounts(&proc).map_err(failed("read", what))?;
        let mut changed = false;
        let mut left = None;
        // Begin with the last mount, because it is on top of earlier ones.
        for view in mounts.iter().rev() {
            if !is_full_view(view, &mounts) || is_inside(view, root, &mounts) {
                continue;
            }
            match close_view(&proc, view, &mounts) {
                Ok(()) => changed = true,
                Err(errno) => left = Some((view, errno)),
            }
        }
        match left {
            // A mount that hid another view may be gone now.
            _ if changed => {}
            None => return Ok(()),
            Some((view, errno)) => {
                let place = view.at.display();
                let what = format!("cover the host's {} at {place} (--no-pivot)", view.kind);
                let mut failure = Failed::new(what, "open", errno);
                if errno == Errno::EINVAL {
                    failure.call = "umount2".into();
                    failure.detail = LOCKED_MOUNT_REASON.into();
                }
                return Err(failure);
            }
        }
    }
    let what = "cover the host's procfs and sysfs (--no-pivot): others mount them again and again";
    Err(Failed::from_sentence(what))
}

/// Covers the full views that root of a user namespace may be unable to reach. This process visits
/// their mount namespace with the host's credentials. Views at /proc and /sys stay for now, because
/// without them the kernel wouldn't let the container mount its own. `close` covers them in the
/// end.
///
/// A view that another mount hides is out of reach for this process too, because the kernel has
/// locked the other mount (mount_namespaces(7)).
pub(crate) fn cover_unreachable_views(proc: &Procfs) -> Result<()> {
    let mounts = mounts(proc)?;
    let is_usual = |at: &Path| at == Path::new("/proc") || at == Path::new("/sys");
    for view in mounts.iter().rev() {
        if !is_full_view(view, &mounts) || is_usual(&view.at) {
            continue;
        }
        if let Ok(found) = crate::sys::open(&view.at, OPEN_PLACE_FLAGS, Mode::empty())
            && mount_id_of(proc, found.as_fd())? == view.id
        {
            cover(&found)?;
        }
    }
    Ok(())
}

/// Returns a procfs in which this process has a pid.
pub(crate) fn open_own_procfs() -> Result<Procfs> {
    match Procfs::private() {
        // Root of a user namespace that doesn't own the pid namespace can't mount a procfs.
        Err(Errno::EPERM) => Procfs::open(),
        made => made,
    }
}

/// True for a procfs or sysfs that shows its whole file system and isn't covered.
fn is_full_view(mount: &MountinfoLine, mounts: &[MountinfoLine]) -> bool {
    let covers = |other: &MountinfoLine| other.parent == mount.id && other.at == mount.at;
    matches!(mount.kind.as_str(), "proc" | "sysfs")
        && mount.root == "/"
        && !mounts.iter().any(covers)
}

/// True for the mount with the id `root` and for all mounts below it.
fn is_inside(mount: &MountinfoLine, root: u32, mounts: &[MountinfoLine]) -> bool {
    let parent = |of: &&MountinfoLine| {
        let id = of.parent;
        mounts.iter().find(|other| other.id == id)
    };
    std::iter::successors(Some(mount), parent)
        // Stop at a loop of parents, which would be a kernel bug.
        .take(mounts.len())
        .any(|mount| mount.id == root)
}

/// Unmounts a view, or the mount that hides it. Covers the view if it can't be unmounted.
fn close_view(proc: &Procfs, view: &MountinfoLine, mounts: &[MountinfoLine]) -> Result<()> {
    let found = crate::sys::open(&view.at, OPEN_PLACE_FLAGS, Mode::empty());
    let (there, why) = match &found {
        Ok(found) => (Some(mount_id_of(proc, found.as_fd())?), Errno::ENOENT),
        Err(errno) => (None, *errno),
    };
    let detach = |at: &PathBuf| umount2(at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    match (found, there) {
        (Ok(found), Some(id)) if id == view.id => match detach(&view.at) {
            // The mount is locked, because it was copied from a mount namespace with more rights.
            Err(Errno::EINVAL | Errno::EPERM) => cover(&found),
            done => done,
        },
        _ => {
            let hides = hiding_mount(view, there, mounts).ok_or(why)?;
            detach(&hides.at)
        }
    }
}

/// Finds the mount that hides a view: the mount to which the view's path leads instead, or else the
/// deepest mount on that path.
fn hiding_mount<'a>(
    view: &MountinfoLine,
    there: Option<u32>,
    mounts: &'a [MountinfoLine],
) -> Option<&'a MountinfoLine> {
    let hides = |other: &&MountinfoLine| {
        let leads_to = there.is_none_or(|id| id == other.id);
        let is_root = other.at.as_os_str() == "/";
        let is_other = other.id != view.id && other.id != view.parent;
        leads_to && is_other && !is_root && view.at.starts_with(&other.at)
    };
    let depth = |other: &&MountinfoLine| other.at.components().count();
    mounts.iter().filter(hides).max_by_key(depth)
}

fn cover(view: &OwnedFd) -> Result<()> {
    let empty = mount::mount_empty_directory(None)?;
    mount::move_mount(empty.as_fd(), view.as_fd())
}

/// Returns the id of the mount that a descriptor is on, as in mountinfo.
fn mount_id_of(proc: &Procfs, fd: BorrowedFd<'_>) -> Result<u32> {
    let text = read(proc, &format!("self/fdinfo/{}", fd.as_raw_fd()))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.and_then(|id| id.trim().parse().ok())
        .ok_or(Errno::EBADMSG)
}

fn mounts(proc: &Procfs) -> Result<Vec<MountinfoLine>> {
    Ok(read(proc, "self/mountinfo")?
        .lines()
        .filter_map(parse_mountinfo_line)
        .collect())
}

fn read(proc: &Procfs, name: &str) -> Result<String> {
    let mut file = std::fs::File::from(proc.follow(name, OFlag::O_RDONLY)?);
    let mut text = Vec::new();
    file.read_to_end(&mut text)
        .map_err(|error| errno_of(&error))?;
    // Paths in mountinfo may contain bytes that aren't UTF-8. A message couldn't show such a path.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn parse_mountinfo_line(line: &str) -> Option<MountinfoLine> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    Some(MountinfoLine {
        id: left.next()?.parse().ok()?,
        parent: left.next()?.parse().ok()?,
        root: left.nth(1)?.to_owned(),
        at: decode_octal(left.next()?),
        kind: right.split(' ').next()?.to_owned(),
    })
}

/// Decodes the octal escapes of a path in mountinfo.
fn decode_octal(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal.filter(|_| first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = "\
20 1 8:1 / / rw - ext4 /dev/vda rw
21 20 0:5 / /proc rw,nosuid shared:3 - proc proc rw
22 20 0:6 / /a\\040b/sys rw - sysfs sysfs rw
23 20 0:5 /sys /only rw - proc proc rw
24 20 0:5 / /twice rw - proc proc rw
25 24 0:5 / /twice rw - proc proc rw
26 25 0:7 / /twice rw - tmpfs t rw
30 20 8:1 /c / rw - ext4 /dev/vda rw
31 30 0:5 / /proc rw - proc proc rw";

    #[test]
    fn a_view_is_full_if_it_is_uncovered_and_outside_the_root() {
        let mounts: Vec<MountinfoLine> = TEXT.lines().filter_map(parse_mountinfo_line).collect();
        assert_eq!(mounts.len(), TEXT.lines().count());
        let open =
            |mount: &&MountinfoLine| is_full_view(mount, &mounts) && !is_inside(mount, 30, &mounts);
        let ids: Vec<u32> = mounts.iter().filter(open).map(|mount| mount.id).collect();
        assert_eq!(ids, [21, 22]);
        let sysfs = mounts.iter().find(|mount| mount.id == 22).unwrap();
        assert_eq!(sysfs.at, PathBuf::from("/a b/sys"));
    }

    #[test]
    fn what_hides_a_mount_is_what_its_path_leads_to() {
        let mounts: Vec<MountinfoLine> = "1 0 8:1 / / rw - ext4 d rw\n2 1 0:5 / /m/proc rw - proc p rw\n3 1 0:6 / /m rw - tmpfs t rw"
            .lines()
            .filter_map(parse_mountinfo_line)
            .collect();
        let view = mounts.iter().find(|mount| mount.id == 2).unwrap();
        assert_eq!(hiding_mount(view, None, &mounts).unwrap().id, 3);
        assert_eq!(hiding_mount(view, Some(3), &mounts).unwrap().id, 3);
    }
}
