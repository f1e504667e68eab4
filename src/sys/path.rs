//! Path resolution that never leaves a root: openat2(2) with RESOLVE_IN_ROOT, and functions built
//! on it.
//! Callers decide what to make or mount.
//!
//! The crate pathrs (0.2.6) is not used, because it would make the binary 123 KB larger. Its first
//! mkdir_all makes 97 system calls instead of 9, for fallbacks that the oldest supported kernel
//! doesn't need.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{FileStat, Mode, SFlag};
use rustix::fs::XattrFlags;

use super::{Errno, Result, check, errno, retry, weakened};

/// How many times to repeat a resolution that a rename or a mount disturbed. Each attempt is
/// harmless, but without this limit a container that keeps renaming could keep the runtime busy for
/// ever.
const MAX_RACE_RETRIES: usize = 512;

fn openat2(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlag,
    mode: u32,
    resolve: ResolveFlag,
) -> Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(Mode::from_bits_truncate(mode))
        .resolve(resolve);
    let mut races = 0;
    loop {
        match nix::fcntl::openat2(dir, path, how) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if races < MAX_RACE_RETRIES => races += 1,
            result => return result,
        }
    }
}

/// Opens `path` as a process with the root `root` would. Absolute links and `..` can't leave the
/// root. Refuses a magic link (ELOOP).
pub(crate) fn open_in_root(root: BorrowedFd<'_>, path: &CStr, flags: OFlag) -> Result<OwnedFd> {
    if weakened::lacks("in-root") {
        let resolve = ResolveFlag::empty();
        return openat2(root, weakened::relative(path), flags, 0, resolve);
    }
    openat2(
        root,
        path,
        flags,
        0,
        ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    )
}

/// Like `open_in_root`, but fails with EXDEV if the path crosses into another mount.
pub(crate) fn open_in_mount(root: BorrowedFd<'_>, path: &CStr, flags: OFlag) -> Result<OwnedFd> {
    let stays = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_XDEV;
    openat2(
        root,
        path,
        flags,
        0,
        stays | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    )
}

/// Opens `path` below `dir`. Every component must be a real entry of the same mount: no links, no
/// `..` that leaves `dir`, no mount points.
pub(crate) fn open_beneath(dir: BorrowedFd<'_>, path: &CStr, flags: OFlag) -> Result<OwnedFd> {
    if weakened::lacks("procfs") {
        return openat2(dir, path, flags, 0, ResolveFlag::empty());
    }
    openat2(
        dir,
        path,
        flags,
        0,
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_XDEV
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_SYMLINKS,
    )
}

/// Opens `path` inside `root`. No component may be a link. The path may cross mount points.
pub(crate) fn open_without_links(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlag,
) -> Result<OwnedFd> {
    openat2(
        root,
        path,
        flags,
        0,
        ResolveFlag::RESOLVE_IN_ROOT
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_SYMLINKS,
    )
}

/// Opens the entry `name` of `dir` without following a link.
pub(crate) fn open_child(
    dir: BorrowedFd<'_>,
    name: &CStr,
    flags: OFlag,
    mode: u32,
) -> Result<OwnedFd> {
    openat2(
        dir,
        name,
        flags | OFlag::O_NOFOLLOW,
        mode,
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    )
}

/// The kind of file to make at the end of a path if nothing is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Directory,
    File,
}

/// Opens `path` in `root` with O_PATH and makes missing components: directories with mode 0755, a
/// file at the end with mode 0644. For a dangling link, makes the target, inside the root.
///
/// Usually one openat2 is enough. Otherwise each component is resolved again in the root, so that
/// a component that is replaced in the meantime can only lead to another file inside the root.
pub(crate) fn open_or_make(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> Result<OwnedFd> {
    match open_in_root(root, &c_path(path.as_os_str())?, OFlag::O_PATH) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    match make_last_component(root, path, missing) {
        // The name is in use, perhaps by a dangling link, or more than the last component is
        // missing.
        Err(Errno::ENOENT | Errno::EEXIST) => make(root, path, missing),
        other => other,
    }
}

/// Like `open_or_make`, but opens a link at the end of the path instead of following it.
pub(crate) fn open_or_make_nofollow(
    root: BorrowedFd<'_>,
    path: &Path,
    missing: Missing,
) -> Result<OwnedFd> {
    let (dir, name) = parent(root, path)?;
    match open_child(dir.as_fd(), &name, OFlag::O_PATH, 0) {
        Err(Errno::ENOENT) => make_last_component(root, path, missing),
        other => other,
    }
}

/// Makes a symbolic link at `path` in `root`. Succeeds if the same link already exists. Fails with
/// EEXIST if another file is at the path.
pub(crate) fn make_link(root: BorrowedFd<'_>, path: &Path, goal: &CStr) -> Result<()> {
    let (dir, name) = parent(root, path)?;
    match nix::unistd::symlinkat(goal, &dir, name.as_c_str()) {
        Err(Errno::EEXIST) => {
            let there = open_child(dir.as_fd(), &name, OFlag::O_PATH, 0)?;
            if link_target(there.as_fd()).as_deref() == Some(goal) {
                Ok(())
            } else {
                Err(Errno::EEXIST)
            }
        }
        other => other,
    }
}

/// Returns the target of a link, or `None` if the descriptor is not of a link.
pub(crate) fn link_target(fd: BorrowedFd<'_>) -> Option<CString> {
    let goal = nix::fcntl::readlinkat(fd, c"").ok()?;
    c_path(&goal).ok()
}

/// Opens the directory of a path in `root`, making it if it is missing. Also returns the name of
/// the last component.
fn parent(root: BorrowedFd<'_>, path: &Path) -> Result<(OwnedFd, CString)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::ENOENT);
    };
    Ok((
        open_or_make(root, parent, Missing::Directory)?,
        c_path(name)?,
    ))
}

/// Makes only the last component of a path, which is the usual case.
fn make_last_component(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> Result<OwnedFd> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::ENOENT);
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let dir = open_in_root(root, &c_path(parent.as_os_str())?, flags)?;
    let name = c_path(name)?;
    match missing {
        Missing::Directory => make_directory(dir.as_fd(), &name)?,
        Missing::File => make_file(dir.as_fd(), &name)?,
    }
    let made = open_child(dir.as_fd(), &name, OFlag::O_PATH, 0)?;
    // The new entry may have been replaced by a link, on which nothing may be mounted.
    if is_file_type(&nix::sys::stat::fstat(&made)?, SFlag::S_IFLNK) {
        return Err(Errno::EEXIST);
    }
    Ok(made)
}

/// Makes a directory, unless the entries of the file system are objects of the kernel.
fn make_directory(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    refuse_kernel_objects(dir)?;
    nix::sys::stat::mkdirat(dir, name, MODE)
}

/// Makes an empty file, unless the entries of the file system are objects of the kernel.
fn make_file(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    refuse_kernel_objects(dir)?;
    open_child(dir, name, NEW_FILE_FLAGS, 0o644).map(drop)
}

/// Fails with EPERM if the entries of the file system are objects of the kernel.
fn refuse_kernel_objects(dir: BorrowedFd<'_>) -> Result<()> {
    match has_kernel_objects(dir)? {
        true => Err(Errno::EPERM),
        false => Ok(()),
    }
}

/// True on a file system whose entries are objects of the kernel or the firmware, such as cgroups,
/// message queues and tracing instances. Making an entry there changes the host.
pub(crate) fn has_kernel_objects(fd: BorrowedFd<'_>) -> Result<bool> {
    // libc lacks these constants. The values are from statfs(2) and linux/magic.h.
    const CONFIGFS_MAGIC: i64 = 0x6265_6570;
    const EFIVARFS_MAGIC: i64 = 0xde5e_81e4;
    const MQUEUE_MAGIC: i64 = 0x1980_0202;
    Ok(matches!(
        filesystem(fd)?,
        libc::CGROUP_SUPER_MAGIC
            | libc::CGROUP2_SUPER_MAGIC
            | libc::RDTGROUP_SUPER_MAGIC
            | libc::TRACEFS_MAGIC
            | CONFIGFS_MAGIC
            | EFIVARFS_MAGIC
            | MQUEUE_MAGIC
    ))
}

const MODE: Mode = Mode::from_bits_truncate(0o755);
const NEW_FILE_FLAGS: OFlag = OFlag::O_CREAT.union(OFlag::O_EXCL).union(OFlag::O_RDONLY);

fn make(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> Result<OwnedFd> {
    let mut links = 0;
    let mut todo: Vec<OsString> = reversed(path);
    // A path relative to the root, without links, `.` and `..`.
    let mut done = PathBuf::from(".");
    while let Some(name) = todo.pop() {
        if name == ".." {
            if done.as_os_str() != "." {
                done.pop();
            }
            continue;
        }
        let dir = open_in_root(
            root,
            &c_path(done.as_os_str())?,
            OFlag::O_PATH | OFlag::O_DIRECTORY,
        )?;
        let c_name = c_path(&name)?;
        match open_child(dir.as_fd(), &c_name, OFlag::O_PATH, 0) {
            Ok(entry) if is_file_type(&nix::sys::stat::fstat(&entry)?, SFlag::S_IFLNK) => {
                links += 1;
                if links > 40 {
                    return Err(Errno::ELOOP);
                }
                let target = read_link(entry.as_fd())?;
                if target.is_absolute() {
                    done = PathBuf::from(".");
                }
                todo.extend(reversed(&target));
                continue;
            }
            Ok(_) => {}
            Err(Errno::ENOENT) if todo.is_empty() && missing == Missing::File => {
                match make_file(dir.as_fd(), &c_name) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno),
                }
            }
            Err(Errno::ENOENT) => match make_directory(dir.as_fd(), &c_name) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            },
            Err(errno) => return Err(errno),
        }
        done.push(name);
    }
    open_in_root(root, &c_path(done.as_os_str())?, OFlag::O_PATH)
}

/// Returns the components of a path, without root and `.`, last first.
fn reversed(path: &Path) -> Vec<OsString> {
    let keep = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    let mut components: Vec<OsString> = path.components().filter_map(keep).collect();
    components.reverse();
    components
}

/// Returns the target of a link, given by a descriptor of the link itself (O_PATH, O_NOFOLLOW).
pub(crate) fn read_link(link: BorrowedFd<'_>) -> Result<PathBuf> {
    nix::fcntl::readlinkat(link, c"").map(PathBuf::from)
}

/// Opens a device in this process' root for reading and writing, without blocking. `is_meant` first
/// checks an O_PATH descriptor of the file, since opening another device may have side effects or
/// block for ever. Then `is_meant` also checks the opened device. If the container replaces the
/// file in between, only a device that the container itself can open is opened. Fails with ENODEV
/// if the path is another file.
pub(crate) fn open_device(
    path: &CStr,
    is_meant: impl Fn(BorrowedFd<'_>) -> Result<bool>,
) -> Result<OwnedFd> {
    let open = |flags| {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = crate::sys::open(path, flags, Mode::empty())?;
        match is_meant(fd.as_fd())? {
            true => Ok(fd),
            false => Err(Errno::ENODEV),
        }
    };
    drop(open(OFlag::O_PATH)?);
    open(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK)
}

/// True if a file has this type.
pub(crate) fn is_file_type(stat: &FileStat, kind: SFlag) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

/// True for the character device 1:3.
pub(crate) fn is_null_device(stat: &FileStat) -> bool {
    is_file_type(stat, SFlag::S_IFCHR) && stat.st_rdev == nix::sys::stat::makedev(1, 3)
}

/// Returns the id of the mount that `fd` is on, as in mountinfo, and whether `fd` is its root. The
/// id is 0 on kernels before 5.8.
pub(crate) fn mount_of(fd: BorrowedFd<'_>) -> Result<(u64, bool)> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    let id = StatxFlags::MNT_ID;
    let stat = statx(fd, c"", AtFlags::EMPTY_PATH, id).map_err(errno)?;
    let is_root = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    Ok((stat.stx_mnt_id, is_root))
}

/// fstatfs(2): returns the magic number of the file system of a descriptor.
pub(crate) fn filesystem(fd: BorrowedFd<'_>) -> Result<i64> {
    let stat = retry(|| nix::sys::statfs::fstatfs(fd))?;
    Ok(stat.filesystem_type().0)
}

/// fchmodat2(2), since Linux 6.6: sets the permissions of the file behind a descriptor, even an
/// O_PATH one.
pub(crate) fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    // This number is the same on all architectures.
    const SYS_FCHMODAT2: libc::c_long = 452;
    let (raw, path) = (fd.as_raw_fd(), c"".as_ptr());
    // SAFETY: the path is an empty C string.
    check(unsafe { libc::syscall(SYS_FCHMODAT2, raw, path, mode, libc::AT_EMPTY_PATH) }).map(drop)
}

/// Sets the owner of the file behind a descriptor, even an O_PATH one.
pub(crate) fn set_owner(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (
        nix::unistd::Uid::from_raw(uid),
        nix::unistd::Gid::from_raw(gid),
    );
    nix::unistd::fchownat(fd, c"", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)
}

/// Sets the SELinux label of the root of a mount.
pub(crate) fn set_label(mount: BorrowedFd<'_>, label: &CStr) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = crate::sys::open_at(mount, c".", flags, Mode::empty())?;
    let value = label.to_bytes_with_nul();
    rustix::fs::fsetxattr(root, c"security.selinux", value, XattrFlags::empty()).map_err(errno)
}

/// Converts a path for the kernel. Fails with EINVAL if it contains a NUL byte.
pub(crate) fn c_path(path: &OsStr) -> Result<CString> {
    CString::new(path.as_bytes()).map_err(|_| Errno::EINVAL)
}

/// Converts a C string to a path, for messages.
pub(crate) fn as_path(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}

/// Returns the working directory, or `None` if it is outside this process' root.
pub(crate) fn getcwd() -> Result<Option<PathBuf>> {
    let buffer = Vec::with_capacity(libc::PATH_MAX as usize);
    let path = rustix::process::getcwd(buffer).map_err(errno)?.into_bytes();
    // For a directory outside the root the kernel does not fail but returns "(unreachable)" and a
    // path (getcwd(2), CVE-2024-21626).
    let is_reachable = path.starts_with(b"/");
    Ok(is_reachable.then(|| PathBuf::from(OsString::from_vec(path))))
}
