//! Access to a verified procfs: the host's /proc, checked when it is opened, or a private mount.
//! Files are opened without following links or crossing mounts, so that a mount over /proc/self
//! can't redirect them.

use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;

use super::{Errno, Result, mount, path, retry, weakened};

const PROC_ROOT_INO: u64 = 1;

/// A descriptor of the root directory of a procfs.
pub(crate) struct Procfs(OwnedFd);

impl Procfs {
    /// Opens /proc. Fails with ENOTSUP if it is not the root of a procfs.
    pub(crate) fn open() -> Result<Procfs> {
        let fd = crate::sys::open(
            c"/proc",
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        )?;
        if is_procfs(fd.as_fd())? || weakened::lacks("procfs") {
            Ok(Procfs(fd))
        } else {
            Err(Errno::ENOTSUP)
        }
    }

    /// Mounts a procfs of this process' pid namespace. Nobody else can see the mount.
    pub(crate) fn private() -> Result<Procfs> {
        if weakened::lacks("procfs") {
            return Procfs::open();
        }
        let context = mount::Context::open(c"proc")?;
        context.create()?;
        context
            .mount(mount::NOSUID | mount::NODEV | mount::NOEXEC)
            .map(Procfs)
    }

    /// Opens a file. `name` has no leading slash.
    pub(crate) fn file(&self, name: &CStr, flags: OFlag) -> Result<std::fs::File> {
        path::open_beneath(self.0.as_fd(), name, flags).map(std::fs::File::from)
    }

    /// Opens the directory of a process, in which files have names without the pid, like `status`.
    pub(crate) fn process(&self, pid: i32) -> Result<Procfs> {
        let name = CString::new(pid.to_string()).map_err(|_| Errno::EINVAL)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        path::open_beneath(self.0.as_fd(), &name, flags).map(Procfs)
    }

    /// Returns the device and inode of a link like `self/ns/net`, which identify the namespace.
    pub(crate) fn namespace(&self, link: &str) -> Result<(u64, u64)> {
        let stat = nix::sys::stat::fstatat(&self.0, link, nix::fcntl::AtFlags::empty())?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Opens the target of a magic link like `42/root` or `self/ns/pid`.
    pub(crate) fn follow(&self, link: &str, flags: OFlag) -> Result<OwnedFd> {
        crate::sys::open_at(
            &self.0,
            link,
            flags | OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        )
    }

    /// Returns the target of a link like `42/fd/1`, as the kernel writes it.
    pub(crate) fn link(&self, name: &str) -> Result<std::ffi::OsString> {
        nix::fcntl::readlinkat(&self.0, name)
    }

    /// Reads a whole file of a process, or another small file.
    pub(crate) fn read(&self, name: &str) -> Result<String> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let fd = path::open_beneath(self.0.as_fd(), &name, OFlag::O_RDONLY)?;
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = retry(|| nix::unistd::read(&fd, &mut buffer))?;
            text.extend_from_slice(buffer.get(..length).unwrap_or_default());
            // The kernel returns as many whole records as fit. The files stat and cgroup are one
            // record each, and the lines of id maps are short. A half-empty buffer therefore means
            // the end of the file.
            if length < buffer.len() / 2 {
                break;
            }
        }
        String::from_utf8(text).map_err(|_| Errno::EILSEQ)
    }

    /// Sets the permissions of the file behind a descriptor of this process, on kernels that lack
    /// the system call of `path::set_mode`.
    pub(crate) fn set_mode(&self, fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
        use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
        let link = format!("self/fd/{}", fd.as_raw_fd());
        let (mode, follow) = (Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink);
        fchmodat(&self.0, link.as_str(), mode, follow)
    }

    /// Lazily unmounts (MNT_DETACH) the mount whose root is `mount`, and all mounts on and below it.
    ///
    /// The link of the descriptor leads to this mount even if its path was exchanged. umount2 then
    /// follows the link up to the last mount on top of it, so each call may remove such a cover.
    /// The mount itself is gone when umount2 returns EINVAL.
    /// Changes the working directory. Returns EINVAL if the mount is locked or belongs to another
    /// mount namespace, and EBUSY if covers appear faster than they are removed.
    pub(crate) fn detach(&self, mount: BorrowedFd<'_>) -> Result<()> {
        const MAX_COVERS: usize = 1000;
        nix::unistd::fchdir(&self.0)?;
        let link = format!("self/fd/{}", mount.as_raw_fd());
        for removed in 0..=MAX_COVERS {
            match nix::mount::umount2(link.as_str(), nix::mount::MntFlags::MNT_DETACH) {
                Ok(()) => {}
                Err(Errno::EINVAL) if removed > 0 => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EBUSY)
    }

    /// Writes a file with a single write(2), as sysctls and attributes require.
    pub(crate) fn write(&self, name: &CStr, value: &[u8]) -> Result<()> {
        let mut file = self.file(name, OFlag::O_WRONLY)?;
        match file.write(value) {
            Ok(length) if length == value.len() => Ok(()),
            Ok(_) => Err(Errno::EIO),
            Err(e) => Err(errno_of(&e)),
        }
    }
}

/// True if `fd` is the root directory of a procfs.
pub(crate) fn is_procfs(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(is_in_procfs(fd)? && nix::sys::stat::fstat(fd)?.st_ino == PROC_ROOT_INO)
}

/// True if `fd` is a file in a procfs.
pub(crate) fn is_in_procfs(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(path::filesystem(fd)? == libc::PROC_SUPER_MAGIC)
}

/// Returns the device and inode of the file at a path, which identify a namespace.
pub(crate) fn namespace_at(path: &std::path::Path) -> Result<(u64, u64)> {
    let stat = nix::sys::stat::stat(path)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Returns the errno of an error of the standard library.
pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn permissions_are_set_by_a_descriptor_with_and_without_the_newer_call() {
        let file = std::env::temp_dir().join(format!("orlop-mode-{}", std::process::id()));
        std::fs::write(&file, "").unwrap();
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = crate::sys::open(&file, flags, nix::sys::stat::Mode::empty()).unwrap();
        let mode = || nix::sys::stat::fstat(&fd).unwrap().st_mode & 0o7777;
        Procfs::open().unwrap().set_mode(fd.as_fd(), 0o641).unwrap();
        assert_eq!(mode(), 0o641);
        match path::set_mode(fd.as_fd(), 0o604) {
            Ok(()) => assert_eq!(mode(), 0o604),
            Err(errno) => assert_eq!(errno, Errno::ENOSYS),
        }
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_mount_is_detached_with_all_that_covers_it() {
        use nix::mount::{MsFlags, mount};
        use std::process;

        let dir = std::env::temp_dir().join(format!("orlop-detach-{}", process::id()));
        std::fs::create_dir(&dir).unwrap();
        let place = dir.clone();
        // The mount namespace is that of one thread.
        let left = std::thread::spawn(move || {
            let unshared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS);
            if unshared.is_err() {
                return None; // needs root
            }
            let none: Option<&str> = None;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(none, "/", none, private, none).unwrap();
            let tmpfs = || mount(none, &place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
            tmpfs();
            let lowest = std::fs::File::open(&place).unwrap();
            tmpfs();
            tmpfs();
            Procfs::open().unwrap().detach(lowest.as_fd()).unwrap();
            let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            Some(mounts.matches(place.to_str().unwrap()).count())
        });
        let left = left.join().unwrap();
        std::fs::remove_dir(&dir).unwrap();
        assert!(left.is_none_or(|left| left == 0), "{left:?} are left");
    }
}
