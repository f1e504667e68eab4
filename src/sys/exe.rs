//! The file that a process executes: its seals, its mount, its file system.
//! `seal` decides what follows from these properties.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{AtFlags, Statx, StatxAttributes, StatxFlags, statx};

use super::{Errno, Result, check, errno, mount};

pub(crate) use nix::fcntl::SealFlag;

/// The seals of a memfd.
pub(crate) struct Seals(SealFlag);

impl Seals {
    pub(crate) const WRITE: SealFlag = SealFlag::F_SEAL_WRITE;
    pub(crate) const GROW: SealFlag = SealFlag::F_SEAL_GROW;
    pub(crate) const SHRINK: SealFlag = SealFlag::F_SEAL_SHRINK;
    pub(crate) const SEAL: SealFlag = SealFlag::F_SEAL_SEAL;

    /// True if all of these seals are set. Other seals may be set too: vm.memfd_noexec adds
    /// F_SEAL_EXEC.
    pub(crate) fn contains(&self, seals: SealFlag) -> bool {
        self.0.contains(seals)
    }
}

/// The memfd_create(2) flag for executable memfds, since Linux 6.3.
pub(crate) const MFD_EXEC: libc::c_uint = libc::MFD_EXEC;

/// Returns the seals of a file, or `None` if files of its kind can't be sealed.
pub(crate) fn seals(fd: BorrowedFd<'_>) -> Result<Option<Seals>> {
    match fcntl(fd, FcntlArg::F_GET_SEALS) {
        Ok(bits) => Ok(Some(Seals(SealFlag::from_bits_retain(bits)))),
        Err(Errno::EINVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Adds the seals that make a memfd immutable.
pub(crate) fn add_seals(fd: BorrowedFd<'_>) -> Result<()> {
    let seals = Seals::WRITE | Seals::GROW | Seals::SHRINK | Seals::SEAL;
    fcntl(fd, FcntlArg::F_ADD_SEALS(seals)).map(drop)
}

/// True if the mount of the file, or its file system, is read-only.
pub(crate) fn is_on_read_only_mount(fd: BorrowedFd<'_>) -> Result<bool> {
    let flags = nix::sys::statvfs::fstatvfs(fd)?.flags();
    Ok(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
}

/// True if the file's mount belongs to no mount namespace any more: a detached mount whose
/// descriptors are closed. Nothing can change such a mount. It is recognisable because the kernel
/// refuses to clone it.
pub(crate) fn is_on_dissolved_mount(fd: BorrowedFd<'_>) -> Result<bool> {
    // A mount of a single file shows the file as its root, `/`. A file on a mount in another
    // namespace has a longer path.
    let name = nix::fcntl::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str())?;
    Ok(name == "/" && matches!(mount::open_tree(fd, c"", false), Err(Errno::EINVAL)))
}

#[repr(C)]
struct MountIdRequest {
    size: u32,
    spare: u32,
    mount: u64,
    param: u64,
}

/// The first fields of statmount(2)'s result.
#[repr(C)]
struct Statmount {
    size: u32,
    options: u32,
    mask: u64,
    device_major: u32,
    device_minor: u32,
    magic: u64,
    superblock_flags: u32,
    rest: [u8; 476],
}

/// True if the file system itself is read-only, not only the mount. False if the kernel can't tell
/// (before Linux 6.8).
pub(crate) fn is_on_read_only_superblock(fd: BorrowedFd<'_>) -> Result<bool> {
    let unique_id = StatxFlags::from_bits_retain(libc::STATX_MNT_ID_UNIQUE);
    let stat = stat(fd, unique_id)?;
    if !StatxFlags::from_bits_retain(stat.stx_mask).contains(unique_id) {
        return Ok(false);
    }
    let read_only = superblock_flags(stat.stx_mnt_id);
    Ok(read_only.is_ok_and(|flags| libc::c_ulong::from(flags) & libc::MS_RDONLY != 0))
}

/// Calls statmount(2) and returns the flags of a mount's file system. `mount` is the unique id.
fn superblock_flags(mount: u64) -> Result<u32> {
    const STATMOUNT_SB_BASIC: u64 = 1;
    const SYS_STATMOUNT: libc::c_long = 457;
    let request = MountIdRequest {
        size: size_of::<MountIdRequest>() as u32,
        spare: 0,
        mount,
        param: STATMOUNT_SB_BASIC,
    };
    let mut answer = Statmount {
        size: 0,
        options: 0,
        mask: 0,
        device_major: 0,
        device_minor: 0,
        magic: 0,
        superblock_flags: 0,
        rest: [0; 476],
    };
    // SAFETY: request and answer outlive the call and the answer's size is given.
    check(unsafe {
        libc::syscall(
            SYS_STATMOUNT,
            &raw const request,
            &raw mut answer,
            size_of::<Statmount>(),
            0,
        )
    })?;
    if answer.mask & STATMOUNT_SB_BASIC == 0 {
        return Err(Errno::ENODATA);
    }
    Ok(answer.superblock_flags)
}

/// True if fs-verity guarantees that the file's content never changes.
pub(crate) fn is_verity(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = stat(fd, StatxFlags::empty())?;
    Ok(stat.stx_attributes.contains(StatxAttributes::VERITY))
}

/// True if a process gains capabilities by executing the file: capabilities(7), "File
/// capabilities".
pub(crate) fn has_file_capabilities(file: &std::path::Path) -> bool {
    // The attribute has 24 bytes at most.
    let mut value = [0_u8; 64];
    rustix::fs::getxattr(file, c"security.capability", &mut value).is_ok_and(|length| length > 0)
}

fn stat(fd: BorrowedFd<'_>, mask: StatxFlags) -> Result<Statx> {
    statx(fd, c"", AtFlags::EMPTY_PATH, mask).map_err(errno)
}
