//! What the kernel tells of the file that a process runs from: seals, its mount, its superblock.
//! What follows from it is decided in `seal`.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Errno, Result, check, mount};

pub(crate) use nix::fcntl::SealFlag;

/// Seals of a memfd.
pub(crate) struct Seals(SealFlag);

impl Seals {
    pub(crate) const WRITE: SealFlag = SealFlag::F_SEAL_WRITE;
    pub(crate) const GROW: SealFlag = SealFlag::F_SEAL_GROW;
    pub(crate) const SHRINK: SealFlag = SealFlag::F_SEAL_SHRINK;
    pub(crate) const SEAL: SealFlag = SealFlag::F_SEAL_SEAL;

    /// True if all of these are set; more may be (vm.memfd_noexec adds F_SEAL_EXEC).
    pub(crate) fn contains(&self, seals: SealFlag) -> bool {
        self.0.contains(seals)
    }
}

/// The memfd_create(2) flag of Linux 6.3.
pub(crate) const MFD_EXEC: libc::c_uint = 0x10;

/// The seals of a file; `None` if it is of a kind that has none.
pub(crate) fn seals(fd: BorrowedFd<'_>) -> Result<Option<Seals>> {
    // SAFETY: integers only.
    match check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) }.into()) {
        Ok(bits) => Ok(Some(Seals(SealFlag::from_bits_retain(bits as i32)))),
        Err(Errno::EINVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sets the seals that make a memfd unchangeable.
pub(crate) fn add_seals(fd: BorrowedFd<'_>) -> Result<()> {
    let seals = Seals::WRITE | Seals::GROW | Seals::SHRINK | Seals::SEAL;
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_ADD_SEALS(seals)).map(drop)
}

/// True if the mount of the file, or its file system, is read-only.
pub(crate) fn is_on_read_only_mount(fd: BorrowedFd<'_>) -> Result<bool> {
    let flags = nix::sys::statvfs::fstatvfs(fd)?.flags();
    Ok(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
}

/// True if the file's mount is in no mount namespace any more: a detached one whose descriptors are closed. Nothing can
/// change such a mount; the kernel tells it by refusing to clone it.
pub(crate) fn is_on_dissolved_mount(fd: BorrowedFd<'_>) -> Result<bool> {
    // The mount of a single file shows it as its own root; a file of a mount in another namespace has a longer path.
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

/// statmount(2)'s answer, as far as it is asked for here.
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

/// True if the file system itself is read-only, not only its mount. False where the kernel can't tell (before Linux 6.8).
pub(crate) fn is_on_read_only_superblock(fd: BorrowedFd<'_>) -> Result<bool> {
    const STATX_MNT_ID_UNIQUE: libc::c_uint = 0x4000;
    const STATMOUNT_SB_BASIC: u64 = 1;
    const SYS_STATMOUNT: libc::c_long = 457;
    const SB_RDONLY: u32 = 1;
    let stat = statx(fd, STATX_MNT_ID_UNIQUE)?;
    if stat.stx_mask & STATX_MNT_ID_UNIQUE == 0 {
        return Ok(false);
    }
    let request = MountIdRequest {
        size: size_of::<MountIdRequest>() as u32,
        spare: 0,
        mount: stat.stx_mnt_id,
        param: STATMOUNT_SB_BASIC,
    };
    // SAFETY: Statmount is plain integers, for which all zeros is a valid value.
    let mut answer: Statmount = unsafe { std::mem::zeroed() };
    // SAFETY: request and answer outlive the call and the answer's size is given.
    let done = check(unsafe {
        libc::syscall(
            SYS_STATMOUNT,
            &raw const request,
            &raw mut answer,
            size_of::<Statmount>(),
            0,
        )
    });
    match done {
        Ok(_) => {
            Ok(answer.mask & STATMOUNT_SB_BASIC != 0 && answer.superblock_flags & SB_RDONLY != 0)
        }
        Err(_) => Ok(false),
    }
}

/// True if the file's content is fixed by fs-verity, for ever.
pub(crate) fn is_verity(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = statx(fd, 0)?;
    Ok(stat.stx_attributes & libc::STATX_ATTR_VERITY as u64 != 0)
}

fn statx(fd: BorrowedFd<'_>, mask: libc::c_uint) -> Result<libc::statx> {
    // SAFETY: statx is plain integers, for which all zeros is a valid value.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let (raw, path) = (fd.as_raw_fd(), c"".as_ptr());
    // SAFETY: the path is an empty C string and stat outlives the call.
    let done = unsafe { libc::statx(raw, path, libc::AT_EMPTY_PATH, mask, &raw mut stat) };
    check(done.into())?;
    Ok(stat)
}
