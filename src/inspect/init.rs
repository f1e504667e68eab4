//! Reads /proc/PID of a container's init. The directory is opened once, and reads are bounded.
//! The callers interpret the texts.

use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;

use crate::doctor::attempt::attempt;
use crate::error::{Failed, failed};
use crate::sys::Errno;
use crate::sys::clone::pidfd_wait;
use crate::sys::mount::holder;
use crate::sys::path::{c_path, is_null_device, mount_of, open_in_root};
use crate::sys::procfs::{Procfs, errno_of};

/// The maximum number of bytes to read from a file in /proc. The mountinfo of 100,000 mounts has 20
/// MB.
const LARGEST_FILE: u64 = 64 << 20;

/// The init of a container, which was alive when it was opened.
pub(crate) struct InitProcess<'a> {
    pub(crate) pid: i32,
    pidfd: BorrowedFd<'a>,
    /// /proc/PID. Once the process is gone, reads give ESRCH, even if another process has the pid.
    dir: Procfs,
}

/// The mount at a path in the container, and properties of the file there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The id of the mount, as in mountinfo.
    pub(crate) mount: u64,
    /// True if the path is the root of that mount.
    pub(crate) is_mount_root: bool,
    pub(crate) is_null_device: bool,
    /// The mount id that the kernel never reuses, as `mounts add` records it.
    pub(crate) lasting_id: u64,
}

impl<'a> InitProcess<'a> {
    /// Opens /proc/PID of the process of a pidfd. Returns ESRCH if the process is gone.
    pub(crate) fn open(
        proc: &Procfs,
        pid: i32,
        pidfd: BorrowedFd<'a>,
    ) -> Result<InitProcess<'a>, Failed> {
        let what = || format!("look at init, process {pid}");
        let dir = proc.process(pid).map_err(failed("open", what))?;
        let process = InitProcess { pid, pidfd, dir };
        process.check()?;
        Ok(process)
    }

    /// Checks that the process still lives. Then everything that was read by its pid is about this
    /// process.
    pub(crate) fn check(&self) -> Result<(), Failed> {
        let what = || format!("look at init, process {}: it ended meanwhile", self.pid);
        match pidfd_wait(self.pidfd, 0).map_err(failed("poll", what))? {
            false => Ok(()),
            true => Err(failed("poll", what)(Errno::ESRCH)),
        }
    }

    /// Reads a file below /proc/PID.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let name = c_path(name.as_ref())?;
        let file = self.dir.file(&name, OFlag::O_RDONLY)?;
        let mut bytes = Vec::new();
        let read = file.take(LARGEST_FILE).read_to_end(&mut bytes);
        read.map_err(|error| errno_of(&error))?;
        Ok(bytes)
    }

    /// Reads a file as text; `None` if it can't be read.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let bytes = self.read(name).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns the device and inode of a namespace.
    pub(crate) fn namespace(&self, kind: &str) -> Result<(u64, u64), Errno> {
        self.dir.namespace(&format!("ns/{kind}"))
    }

    /// Looks at a path in the container's root. Does this in a child, for a bounded time, because a
    /// file system of the container may never answer. Returns ENOENT if the path doesn't exist.
    pub(crate) fn look_at(&self, path: &Path) -> Result<Place, Errno> {
        let root = self
            .dir
            .follow("root", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let path = c_path(path.as_os_str())?;
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        attempt(CloneFlags::empty(), || {
            let place = place_of(&root, &path)?;
            let flags = [
                u8::from(place.is_mount_root),
                u8::from(place.is_null_device),
            ];
            let ids = [place.mount, place.lasting_id].map(u64::to_ne_bytes);
            let answer = [ids.concat(), flags.to_vec()].concat();
            nix::unistd::write(&write, &answer).map(drop)
        })?;
        let mut answer = [0; 18];
        let length = nix::unistd::read(&read, &mut answer)?;
        let ([mount, lasting_id], flags) = answer.as_chunks::<8>() else {
            return Err(Errno::EBADMSG);
        };
        if length != answer.len() {
            return Err(Errno::EBADMSG);
        }
        Ok(Place {
            mount: u64::from_ne_bytes(*mount),
            is_mount_root: flags.first() == Some(&1),
            is_null_device: flags.last() == Some(&1),
            lasting_id: u64::from_ne_bytes(*lasting_id),
        })
    }
}

fn place_of(root: &OwnedFd, path: &std::ffi::CStr) -> Result<Place, Errno> {
    let fd = open_in_root(root.as_fd(), path, OFlag::O_PATH)?;
    let (mount, is_mount_root) = mount_of(fd.as_fd())?;
    Ok(Place {
        mount,
        is_mount_root,
        is_null_device: is_null_device(&nix::sys::stat::fstat(&fd)?),
        lasting_id: holder(fd.as_fd())?.id,
    })
}
