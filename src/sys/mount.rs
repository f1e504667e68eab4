//! The mount API by file descriptors: open_tree, move_mount, mount_setattr, fsopen, pivot_root.
//! Nothing here takes a path that a container could have exchanged, but for the source of `open_tree`.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
use rustix::mount::{
    self, FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags,
};

use super::{Result, check, errno};

/// Attributes of a mount: the `MOUNT_ATTR_` bits of mount_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Bits to set.
    pub(crate) set: u64,
    /// Bits to clear; an access-time mode is replaced by clearing `ATIME_MASK` and setting the new one.
    pub(crate) clear: u64,
    /// Propagation (`MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`), or 0 to leave it.
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

/// A detached copy of the mount at `path` below `dir`, with its submounts if `recursive`.
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

/// A detached copy of the mount at a path of the host, relative to the working directory.
pub(crate) fn open_tree_at(path: &CStr, recursive: bool) -> Result<OwnedFd> {
    open_tree(CWD, path, recursive)
}

/// As `open_tree_at`, but where the path ends in a link, the copy is of that link.
pub(crate) fn open_tree_itself(path: &CStr, recursive: bool) -> Result<OwnedFd> {
    clone_tree(CWD, path, recursive, OpenTreeFlags::AT_SYMLINK_NOFOLLOW)
}

/// Attaches a detached mount onto the file or directory `target`.
pub(crate) fn move_mount(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    mount::move_mount(tree, c"", target, c"", flags).map_err(errno)
}

/// Attaches a tree, detached or not, onto what a path of this process leads to; `/` is the root that it has, not what covers it.
pub(crate) fn move_mount_to(tree: BorrowedFd<'_>, target: &CStr) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    mount::move_mount(tree, c"", CWD, target, flags).map_err(errno)
}

/// mount_setattr(2) of the mount at `path`, or of `dir` itself if the path is empty, and of all below it if `recursive`.
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

/// Changes the attributes of the mount that `mount` is the root of, and of all below it if `recursive`.
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

/// Maps the ids of a detached mount, and of all below it if `recursive`, as the user namespace `namespace` does.
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

/// Why changing the mount at `/` is EINVAL.
pub(crate) const NOT_MOUNTED: &str = "/ is no mount point, as in a plain chroot, and a container's root can take the place of a mount only: bind the directory onto itself before the chroot";

/// Makes `/` of this process and all mounts below it propagate as said. EINVAL: `/` is no mount point.
pub(crate) fn set_root_propagation(propagation: u64, recursive: bool) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: 0,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    setattr(CWD, c"/", recursive, &attributes)
}

/// A file system being configured.
pub(crate) struct Context(OwnedFd);

/// One that another process has opened.
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
    /// fsopen(2). ENODEV: the kernel does not know this type.
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

    /// Sets an option to what a descriptor stands for.
    pub(crate) fn set_fd(&self, key: &CStr, fd: BorrowedFd<'_>) -> Result<()> {
        mount::fsconfig_set_fd(&self.0, key, fd).map_err(errno)
    }

    /// Makes the superblock.
    pub(crate) fn create(&self) -> Result<()> {
        mount::fsconfig_create(&self.0).map_err(errno)
    }

    /// fsmount(2): a detached mount of the superblock.
    pub(crate) fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
        mount::fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(errno)
    }

    /// The kernel's last message about what was wrong with an option, without its severity letter; empty if there is none.
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

/// An empty read-only directory to cover others with.
pub(crate) fn empty_directory(label: Option<&CStr>) -> Result<OwnedFd> {
    let context = Context::open(c"tmpfs")?;
    context.set_string(c"source", c"tmpfs")?;
    context.set_string(c"nr_blocks", c"1")?;
    // One inode is not enough for the root directory of kernels before 5.9's accounting, as Ubuntu 20.04 carried on.
    context.set_string(c"nr_inodes", c"2")?;
    if let Some(label) = label {
        context.set_string(c"context", label)?;
    }
    context.create()?;
    context.mount(RDONLY | NOSUID | NODEV | NOEXEC)
}

/// pivot_root(".", "."): the working directory becomes the root, and the old root lies over it.
pub(crate) fn pivot_root_here() -> Result<()> {
    nix::unistd::pivot_root(c".", c".")
}

/// Detaches what is mounted at the working directory.
pub(crate) fn detach_here() -> Result<()> {
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)
}
