//! The mount API with file descriptors: open_tree, move_mount, mount_setattr, fsopen, pivot_root.
//! Most functions take descriptors instead of paths, because a container could redirect a path by
//! replacing a part of it.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::mount::{
    self, FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags,
};

use super::{Result, check, errno};

/// Attributes of a mount: the `MOUNT_ATTR_` bits of mount_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Bits to set.
    pub(crate) set: u64,
    /// Bits to clear. To change the access-time mode, clear `ATIME_MASK` and set the new mode.
    pub(crate) clear: u64,
    /// Propagation (`MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`); 0 keeps the current
    /// propagation.
    pub(crate) propagation: u64,
}

pub(crate) const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
pub(crate) const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
pub(crate) const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
pub(crate) const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
pub(crate) const RELATIME: u64 = libc::MOUNT_ATTR_RELATIME;
pub(crate) const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
pub(crate) const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
pub(crate) const ATIME_MASK: u64 = libc::MOUNT_ATTR__ATIME;
pub(crate) const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
pub(crate) const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;

pub(crate) const SHARED: u64 = libc::MS_SHARED;
pub(crate) const SLAVE: u64 = libc::MS_SLAVE;
pub(crate) const PRIVATE: u64 = libc::MS_PRIVATE;
pub(crate) const UNBINDABLE: u64 = libc::MS_UNBINDABLE;

/// Makes a detached copy of the mount at `path` below `dir`, with its submounts if `recursive`. An
/// empty path means `dir` itself.
pub(crate) fn open_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let flags = if path.is_empty() {
        OpenTreeFlags::AT_EMPTY_PATH
    } else {
        OpenTreeFlags::empty()
    };
    clone_tree(dir, path, recursive, flags)
}

fn clone_tree(
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    flags: OpenTreeFlags,
) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | flags;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    mount::open_tree(dir, path, flags).map_err(errno)
}

/// Makes a detached copy of the mount at a path of the host, relative to the working directory.
pub(crate) fn open_tree_at(path: &CStr, recursive: bool) -> Result<OwnedFd> {
    open_tree(CWD, path, recursive)
}

/// Like `open_tree_at`, but copies a symbolic link at the end of the path instead of following it.
pub(crate) fn open_tree_nofollow(path: &CStr, recursive: bool) -> Result<OwnedFd> {
    clone_tree(CWD, path, recursive, OpenTreeFlags::AT_SYMLINK_NOFOLLOW)
}

/// Attaches a detached mount to the file or directory `target`.
pub(crate) fn move_mount(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    mount::move_mount(tree, c"", target, c"", flags).map_err(errno)
}

/// Attaches a mount tree, detached or not, to a path. `/` means the root of this process, not a
/// mount on top of it.
pub(crate) fn move_mount_to(tree: BorrowedFd<'_>, target: &CStr) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    mount::move_mount(tree, c"", CWD, target, flags).map_err(errno)
}

/// Calls mount_setattr(2) for the mount at `path`, or for `dir` itself if `path` is empty. Also
/// changes all mounts below it if `recursive`.
fn setattr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    attributes: &libc::mount_attr,
) -> Result<()> {
    let mut flags = 0;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the attributes outlive the call and their size is given; path is a C string.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const *attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Changes the attributes of the mount whose root is `mount`, and of all mounts below it if
/// `recursive`.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: Attributes,
) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    setattr(mount, c"", recursive, &attributes)
}

/// Makes a detached mount id-mapped, with the mappings of the user namespace `namespace`. Also maps
/// all mounts below it if `recursive`.
pub(crate) fn set_idmap(
    mount: BorrowedFd<'_>,
    recursive: bool,
    namespace: BorrowedFd<'_>,
) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd() as u64,
    };
    setattr(mount, c"", recursive, &attributes)
}

/// The hint for EINVAL from a change of the mount at `/`.
pub(crate) const NOT_A_MOUNT_POINT_HINT: &str = "/ is not a mount point, as in a plain chroot, and the root of \
     a container can only replace a mount: bind-mount the directory onto itself before the chroot";

/// Sets the propagation of the mount at `/`, and of all mounts below it if `recursive`. Fails with
/// EINVAL if `/` is not a mount point.
pub(crate) fn set_root_propagation(propagation: u64, recursive: bool) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: 0,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    setattr(CWD, c"/", recursive, &attributes)
}

/// The mount that holds a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The kernel's id of the mount. Since Linux 6.8, the id isn't reused before the next boot.
    pub(crate) id: u64,
    /// True if the file is the root of the mount.
    pub(crate) is_its_root: bool,
}

/// Returns the mount that holds the file behind a descriptor.
pub(crate) fn holder(file: BorrowedFd<'_>) -> Result<Holder> {
    // STATX_MNT_ID_UNIQUE, a flag that rustix doesn't have. Older kernels ignore the flag.
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let wanted = UNIQUE | StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, wanted).map_err(errno)?;
    Ok(Holder {
        id: stat.stx_mnt_id,
        is_its_root: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
    })
}

/// A file system that is being configured.
pub(crate) struct Context(OwnedFd);

/// Wraps a context that another process opened.
impl From<OwnedFd> for Context {
    fn from(fd: OwnedFd) -> Context {
        Context(fd)
    }
}

impl From<Context> for OwnedFd {
    fn from(context: Context) -> OwnedFd {
        context.0
    }
}

impl Context {
    /// Calls fsopen(2). Fails with ENODEV if the kernel has no file system of this type.
    pub(crate) fn open(fstype: &CStr) -> Result<Context> {
        mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
            .map(Context)
            .map_err(errno)
    }

    /// Sets an option that has no value.
    pub(crate) fn set_flag(&self, key: &CStr) -> Result<()> {
        mount::fsconfig_set_flag(&self.0, key).map_err(errno)
    }

    /// Sets an option to a value.
    pub(crate) fn set_string(&self, key: &CStr, value: &CStr) -> Result<()> {
        mount::fsconfig_set_string(&self.0, key, value).map_err(errno)
    }

    /// Sets an option to a descriptor.
    pub(crate) fn set_fd(&self, key: &CStr, fd: BorrowedFd<'_>) -> Result<()> {
        mount::fsconfig_set_fd(&self.0, key, fd).map_err(errno)
    }

    /// Makes the superblock.
    pub(crate) fn create(&self) -> Result<()> {
        mount::fsconfig_create(&self.0).map_err(errno)
    }

    /// Makes a detached mount of the superblock (fsmount(2)).
    pub(crate) fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
        mount::fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(errno)
    }

    /// Returns the kernel's next message about an option, without its severity letter. The message
    /// is empty if there is none.
    pub(crate) fn message<'a>(&self, buffer: &'a mut [u8]) -> &'a [u8] {
        match nix::unistd::read(self.0.as_fd(), buffer) {
            Ok(length) => {
                let line = buffer.get(..length).unwrap_or_default();
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                line.get(2..)
                    .filter(|_| line.get(1) == Some(&b' '))
                    .unwrap_or(line)
            }
            Err(_) => &[],
        }
    }
}

/// Makes a detached mount of an empty read-only directory, which can cover other directories.
pub(crate) fn mount_empty_directory(label: Option<&CStr>) -> Result<OwnedFd> {
    let context = Context::open(c"tmpfs")?;
    context.set_string(c"source", c"tmpfs")?;
    context.set_string(c"nr_blocks", c"1")?;
    // The root directory needs two inodes on kernels before 5.9, and on the kernel of Ubuntu 20.04.
    context.set_string(c"nr_inodes", c"2")?;
    if let Some(label) = label {
        context.set_string(c"context", label)?;
    }
    context.create()?;
    context.mount(RDONLY | NOSUID | NODEV | NOEXEC)
}

/// Makes the working directory the root with pivot_root(".", "."). The old root is then mounted on
/// top of the new one.
pub(crate) fn pivot_root_to_working_directory() -> Result<()> {
    nix::unistd::pivot_root(c".", c".")
}

/// Detaches the mount on the working directory.
pub(crate) fn detach_working_directory() -> Result<()> {
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)
}
