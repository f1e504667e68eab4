//! The mount API by file descriptors: open_tree, move_mount, mount_setattr, fsopen, pivot_root.
//! Nothing here takes a path that a container could have exchanged, but for the source of `open_tree`.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{Result, check};

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

pub(crate) const RDONLY: u64 = 0x1;
pub(crate) const NOSUID: u64 = 0x2;
pub(crate) const NODEV: u64 = 0x4;
pub(crate) const NOEXEC: u64 = 0x8;
pub(crate) const RELATIME: u64 = 0x0;
pub(crate) const NOATIME: u64 = 0x10;
pub(crate) const STRICTATIME: u64 = 0x20;
pub(crate) const ATIME_MASK: u64 = 0x70;
pub(crate) const NODIRATIME: u64 = 0x80;
pub(crate) const NOSYMFOLLOW: u64 = 0x20_0000;

pub(crate) const SHARED: u64 = libc::MS_SHARED;
pub(crate) const SLAVE: u64 = libc::MS_SLAVE;
pub(crate) const PRIVATE: u64 = libc::MS_PRIVATE;
pub(crate) const UNBINDABLE: u64 = libc::MS_UNBINDABLE;

const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
const MOVE_MOUNT_T_SYMLINKS: libc::c_uint = 0x10;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_SET_FD: libc::c_uint = 5;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: only called with a descriptor that the kernel has just made for us.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// A detached copy of the mount at `path` below `dir`, with its submounts if `recursive`.
pub(crate) fn open_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let flags = if path.is_empty() {
        libc::AT_EMPTY_PATH
    } else {
        0
    };
    clone_tree(dir, path, recursive, flags)
}

fn clone_tree(
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    flags: libc::c_int,
) -> Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags as libc::c_uint;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: the path is a C string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
        .map(owned)
}

/// A detached copy of the mount at a path of the host, relative to the working directory.
pub(crate) fn open_tree_at(path: &CStr, recursive: bool) -> Result<OwnedFd> {
    open_tree(nix::fcntl::AT_FDCWD, path, recursive)
}

/// As `open_tree_at`, but where the path ends in a link, the copy is of that link.
pub(crate) fn open_tree_itself(path: &CStr, recursive: bool) -> Result<OwnedFd> {
    clone_tree(
        nix::fcntl::AT_FDCWD,
        path,
        recursive,
        libc::AT_SYMLINK_NOFOLLOW,
    )
}

/// Attaches a detached mount onto the file or directory `target`.
pub(crate) fn move_mount(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are empty C strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    })?;
    Ok(())
}

/// Attaches a tree, detached or not, onto what a path of this process leads to; `/` is the root that it has, not what covers it.
pub(crate) fn move_mount_to(tree: BorrowedFd<'_>, target: &CStr) -> Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS;
    // SAFETY: both paths are C strings that outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            flags,
        )
    })?;
    Ok(())
}

fn setattr(dir: i32, path: &CStr, flags: libc::c_uint, attributes: Attributes) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    // SAFETY: attr outlives the call and its size is given; path is a C string.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// Changes the attributes of the mount that `mount` is the root of, and of all below it if `recursive`.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: Attributes,
) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | if recursive { AT_RECURSIVE } else { 0 };
    setattr(mount.as_raw_fd(), c"", flags, attributes)
}

/// Maps the ids of a detached mount, and of all below it if `recursive`, as the user namespace `namespace` does.
pub(crate) fn set_idmap(
    mount: BorrowedFd<'_>,
    recursive: bool,
    namespace: BorrowedFd<'_>,
) -> Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    let attr = libc::mount_attr {
        attr_set: MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd() as u64,
    };
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | if recursive { AT_RECURSIVE } else { 0 };
    let (fd, path) = (mount.as_raw_fd(), c"".as_ptr());
    // SAFETY: attr outlives the call and its size is given; the path is an empty C string.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            path,
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// Why changing the mount at `/` is EINVAL.
pub(crate) const NOT_MOUNTED: &str = "/ is no mount point, as in a plain chroot, and a container's root can take the place of a mount only: bind the directory onto itself before the chroot";

/// Makes `/` of this process and all mounts below it propagate as said. EINVAL: `/` is no mount point.
pub(crate) fn set_root_propagation(propagation: u64, recursive: bool) -> Result<()> {
    let flags = if recursive { AT_RECURSIVE } else { 0 };
    setattr(
        libc::AT_FDCWD,
        c"/",
        flags,
        Attributes {
            propagation,
            ..Attributes::default()
        },
    )
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
        // SAFETY: the name is a C string.
        check(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) })
            .map(|fd| Context(owned(fd)))
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: *const libc::c_char,
        value: *const libc::c_char,
        number: RawFd,
    ) -> Result<()> {
        // SAFETY: key and value are null or C strings that outlive the call, as the command asks.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                key,
                value,
                number,
            )
        })?;
        Ok(())
    }

    /// Sets an option that has no value.
    pub(crate) fn set_flag(&self, key: &CStr) -> Result<()> {
        self.config(FSCONFIG_SET_FLAG, key.as_ptr(), std::ptr::null(), 0)
    }

    /// Sets an option to a value.
    pub(crate) fn set_string(&self, key: &CStr, value: &CStr) -> Result<()> {
        self.config(FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr(), 0)
    }

    /// Sets an option to what a descriptor stands for.
    pub(crate) fn set_fd(&self, key: &CStr, fd: BorrowedFd<'_>) -> Result<()> {
        let no_value = std::ptr::null();
        self.config(FSCONFIG_SET_FD, key.as_ptr(), no_value, fd.as_raw_fd())
    }

    /// Makes the superblock.
    pub(crate) fn create(&self) -> Result<()> {
        self.config(FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null(), 0)
    }

    /// fsmount(2): a detached mount of the superblock.
    pub(crate) fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        // SAFETY: integers only.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attributes,
            )
        })
        .map(owned)
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

/// pivot_root(".", "."): the working directory becomes the root, and the old root lies over it.
pub(crate) fn pivot_root_here() -> Result<()> {
    // SAFETY: both paths are C strings.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    Ok(())
}

/// Detaches what is mounted at the working directory.
pub(crate) fn detach_here() -> Result<()> {
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)
}
