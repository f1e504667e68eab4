//! procfs that is known to be procfs: the host's /proc checked once, or a private mount of it.
//! Every file below is opened without links and without crossing a mount, so an overmounted /proc/self can't redirect it.

use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;

use super::{Errno, Result, mount, path, retry, weakened};

const PROC_ROOT_INO: u64 = 1;

/// A descriptor of the root of a procfs.
pub(crate) struct Procfs(OwnedFd);

impl Procfs {
    /// The /proc of this process; ENOTSUP if what is there is not the root of a procfs.
    pub(crate) fn open() -> Result<Procfs> {
        let fd = nix::fcntl::open(
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

    /// A procfs mount that nobody else can see, of the pid namespace of this process.
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

    /// Opens a file below, given without a leading slash.
    pub(crate) fn file(&self, name: &CStr, flags: OFlag) -> Result<std::fs::File> {
        path::open_beneath(self.0.as_fd(), name, flags).map(std::fs::File::from)
    }

    /// Tells one namespace from another: device and inode of a link like `self/ns/net`.
    pub(crate) fn namespace(&self, link: &str) -> Result<(u64, u64)> {
        let stat = nix::sys::stat::fstatat(&self.0, link, nix::fcntl::AtFlags::empty())?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Opens what a magic link like `42/root` or `self/ns/pid` stands for.
    pub(crate) fn follow(&self, link: &str, flags: OFlag) -> Result<OwnedFd> {
        nix::fcntl::openat(
            &self.0,
            link,
            flags | OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        )
    }

    /// All of a file of a process, or of another small one.
    pub(crate) fn read(&self, name: &str) -> Result<String> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let fd = path::open_beneath(self.0.as_fd(), &name, OFlag::O_RDONLY)?;
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = retry(|| nix::unistd::read(&fd, &mut buffer))?;
            text.extend_from_slice(buffer.get(..length).unwrap_or_default());
            // The kernel fills the buffer as far as whole records fit: stat and cgroup of a process are one each, read to its end
            // however long, and those of id maps are short lines. So there is no more.
            if length < buffer.len() / 2 {
                break;
            }
        }
        String::from_utf8(text).map_err(|_| Errno::EILSEQ)
    }

    /// Sets the permissions of what a descriptor of this process is of, as `path::set_mode`, where
    /// the kernel is older than that call.
    pub(crate) fn set_mode(&self, fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
        use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
        let link = format!("self/fd/{}", fd.as_raw_fd());
        let (mode, follow) = (Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink);
        fchmodat(&self.0, link.as_str(), mode, follow)
    }

    /// Writes a file with one write(2), as sysctls and attributes want it.
    pub(crate) fn write(&self, name: &CStr, value: &[u8]) -> Result<()> {
        let mut file = self.file(name, OFlag::O_WRONLY)?;
        match file.write(value) {
            Ok(length) if length == value.len() => Ok(()),
            Ok(_) => Err(Errno::EIO),
            Err(e) => Err(errno_of(&e)),
        }
    }
}

/// True if this is the root of a procfs.
pub(crate) fn is_procfs(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(is_in_procfs(fd)? && nix::sys::stat::fstat(fd)?.st_ino == PROC_ROOT_INO)
}

/// True if this is anything in a procfs.
pub(crate) fn is_in_procfs(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(path::filesystem(fd)? == libc::PROC_SUPER_MAGIC)
}

/// Tells one namespace from another: device and inode of what a path leads to.
pub(crate) fn namespace_at(path: &std::path::Path) -> Result<(u64, u64)> {
    let stat = nix::sys::stat::stat(path)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The errno inside an error of the standard library.
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
        let fd = nix::fcntl::open(&file, flags, nix::sys::stat::Mode::empty()).unwrap();
        let mode = || nix::sys::stat::fstat(&fd).unwrap().st_mode & 0o7777;
        Procfs::open().unwrap().set_mode(fd.as_fd(), 0o641).unwrap();
        assert_eq!(mode(), 0o641);
        match path::set_mode(fd.as_fd(), 0o604) {
            Ok(()) => assert_eq!(mode(), 0o604),
            Err(errno) => assert_eq!(errno, Errno::ENOSYS),
        }
        std::fs::remove_file(&file).unwrap();
    }
}
