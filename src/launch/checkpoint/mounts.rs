//! The external mounts of a container. CRIU stores a name for each mount, and a restore maps the
//! name to a source.
//!
//! The name is the destination in config.json, so that a restore doesn't depend on the container's
//! files. But the path at which the mount is found now does depend on them, because the container
//! may have replaced a symbolic link since the mount was made. So the mount found there must have
//! at least the flags of config.json (read-only, nodev and so on). Otherwise a restore could use
//! the source for another mount, through which the container may write.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::Subject;
use crate::criu::message::ExternalMount;
use crate::error::failed;
use crate::launch::{Error, notify};
use crate::origin::config;
use crate::plan::Plan;
use crate::plan::rootfs::{MountOp, MountSource};
use crate::sys::mount::{NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::procfs::{Procfs, errno_of};
use crate::sys::{Errno, path};

/// The name of the mounts that cover masked files. runc uses the same name.
pub(in crate::launch) const MASK_MOUNT_NAME: &str = "/dev/null";
/// Mount flags that a container can't clear, with their words in mountinfo.
const LOCKED_FLAGS: [(u64, &str); 4] = [
    (RDONLY, "ro"),
    (NOSUID, "nosuid"),
    (NODEV, "nodev"),
    (NOEXEC, "noexec"),
];

/// Returns all external mounts, each with its path in the container and its name.
pub(super) fn external(subject: &Subject<'_>) -> Result<Vec<ExternalMount>, Error> {
    let plan = subject.plan;
    let mounts = Mounts::read(subject)?;
    let mut names: HashMap<PathBuf, usize> = HashMap::new();
    let mut external = Vec::new();
    for op in &plan.rootfs.mounts {
        if !matches!(op.source, MountSource::Bind { .. }) {
            continue;
        }
        let place = format!("mounts[{}]", op.index);
        let Some(found) = mounts.at(&op.destination, &place)? else {
            continue;
        };
        let all_locks = LOCKED_FLAGS.iter().fold(0, |all, (bit, _)| all | bit);
        let locks = (op.top.set | op.recursive.set) & all_locks;
        if found.locks & locks != locks {
            return Err(refused("a mount that has other flags by now", &place));
        }
        if let Some(other) = names.insert(found.target.clone(), op.index) {
            let what = format!("a mount where that of mounts[{other}] is as well");
            return Err(refused(&what, &place));
        }
        external.push(entry(&found.target, &op.destination)?);
    }
    let own_dev = mounts.own_dev_filesystem(plan);
    for (index, target) in &plan.rootfs.masked_paths {
        let place = format!("linux.maskedPaths[{index}]");
        // The device that covers the file is nearly always on the container's own /dev, and CRIU
        // restores such a mount itself.
        let is_hosts = |found: &Found| found.is_null && Some(&found.device) != own_dev.as_ref();
        if let Some(found) = mounts.at(target, &place)?.filter(is_hosts) {
            external.push(entry(&found.target, Path::new(MASK_MOUNT_NAME))?);
        }
    }
    for node in &plan.devices {
        if let Some(found) = mounts.at(&node.path, "linux.devices")? {
            external.push(entry(&found.target, &node.path)?);
        }
    }
    if let Some(found) = mounts.at(
        Path::new(notify::NOTIFY_DIRECTORY_IN_CONTAINER),
        "NOTIFY_SOCKET",
    )? {
        external.push(entry(
            &found.target,
            Path::new(notify::NOTIFY_DIRECTORY_IN_CONTAINER),
        )?);
    }
    let mut seen = std::collections::HashSet::new();
    external.retain(|mount| seen.insert(mount.key.clone()));
    Ok(external)
}

fn refused(what: &str, place: &str) -> Error {
    Error::NoCheckpoint(what.into(), config(place.to_owned()))
}

fn entry(target: &Path, name: &Path) -> Result<ExternalMount, Error> {
    let text = |path: &Path| {
        let what = || format!("name the mount {}", path.display());
        let text = path.to_str().ok_or(Errno::EILSEQ);
        text.map(str::to_owned).map_err(failed("sendmsg", what))
    };
    Ok(ExternalMount {
        key: text(target)?,
        value: text(name)?,
    })
}

/// A mount of the container.
struct Found {
    target: PathBuf,
    locks: u64,
    /// The device numbers of the mount's file system.
    device: Vec<u8>,
    /// True if the mount shows the null device.
    is_null: bool,
}

/// The fields of one mount in mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    device: Vec<u8>,
    locks: u64,
}

/// The mounts of a container, by path.
struct Mounts<'a> {
    proc: &'a Procfs,
    root: std::os::fd::OwnedFd,
    /// The topmost mount at each path.
    all: HashMap<PathBuf, Line>,
}

impl Mounts<'_> {
    fn read<'a>(subject: &Subject<'a>) -> Result<Mounts<'a>, Error> {
        let (proc, pid) = (&subject.host.proc, subject.pid);
        let what = || format!("open /proc/{pid}/root");
        let root = proc.follow(&format!("{pid}/root"), OFlag::O_PATH);
        let what_of = || format!("read /proc/{pid}/mountinfo");
        let name = path::c_path(format!("{pid}/mountinfo").as_ref());
        let file = name.and_then(|name| proc.file(&name, OFlag::O_RDONLY));
        let mut text = Vec::new();
        file.map_err(failed("open", what_of))?
            .read_to_end(&mut text)
            .map_err(|e| failed("read", what_of)(errno_of(&e)))?;
        Ok(Mounts {
            proc,
            root: root.map_err(failed("open", what))?,
            all: text
                .split(|byte| *byte == b'\n')
                .filter_map(parse)
                .collect(),
        })
    }

    /// Returns the mount at a path of the container, or `None` if nothing is mounted there or the
    /// path no longer exists.
    fn at(&self, target: &Path, place: &str) -> Result<Option<Found>, Error> {
        let what = || config(place.to_owned()).asks_to(format!("look at {}", target.display()));
        let name = path::c_path(target.as_os_str()).map_err(failed("openat2", what))?;
        let fd = match path::open_in_root(self.root.as_fd(), &name, OFlag::O_PATH) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            Err(errno) => return Err(failed("openat2", what)(errno).into()),
        };
        let target = self
            .path_of_fd(fd.as_fd())
            .map_err(failed("readlink", what))?;
        let stat = nix::sys::stat::fstat(&fd).map_err(failed("fstat", what))?;
        Ok(self.all.get(&target).map(|line| Found {
            locks: line.locks,
            device: line.device.clone(),
            is_null: path::is_null_device(&stat),
            target,
        }))
    }

    /// Returns the device numbers of the file system at /dev, if it was made for the container.
    fn own_dev_filesystem(&self, plan: &Plan) -> Option<Vec<u8>> {
        let dev = Path::new("/dev");
        let makes = |op: &MountOp| match &op.source {
            MountSource::Filesystem(made) => op.destination == dev && !made.is_hosts_filesystem(),
            MountSource::Bind { .. } | MountSource::Inside { .. } => false,
        };
        let line = self.all.get(dev)?;
        let made = plan.rootfs.mounts.iter().any(makes);
        made.then(|| line.device.clone())
    }

    fn path_of_fd(&self, fd: BorrowedFd<'_>) -> Result<PathBuf, Errno> {
        let link = format!("{}/fd/{}", std::process::id(), fd.as_raw_fd());
        self.proc.link(&link).map(PathBuf::from)
    }
}

/// Parses the device, mount point and locked flags in a line of mountinfo: fields 3, 5 and 6 of
/// proc_pid_mountinfo(5).
fn parse(line: &[u8]) -> Option<(PathBuf, Line)> {
    let mut fields = line.split(|byte| *byte == b' ').skip(2);
    let (device, _, target, options) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    let has = |word: &str| {
        options
            .split(|byte| *byte == b',')
            .any(|o| o == word.as_bytes())
    };
    let locks = LOCKED_FLAGS
        .iter()
        .filter(|(_, word)| has(word))
        .fold(0, |all, (bit, _)| all | bit);
    let device = device.to_vec();
    Some((decode_octal(target), Line { device, locks }))
}

/// Decodes a path of mountinfo, in which blanks, tabs, line ends and backslashes are octal escapes.
fn decode_octal(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_and_locks_of_a_mount_are_read() {
        let line =
            b"36 35 98:0 /mnt1 /a\\040b\\134c ro,noexec,relatime master:1 - ext3 /dev/root rw";
        let read = Line {
            device: b"98:0".into(),
            locks: RDONLY | NOEXEC,
        };
        let expected = (PathBuf::from("/a b\\c"), read);
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b""), None);
    }
}
