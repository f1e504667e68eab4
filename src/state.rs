//! The state of a container between commands: its directory, record and lock, and the status.

mod criu;
mod found;
mod init;
pub(crate) mod record;

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::dir::Dir as Listing;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Failed, failed};
use crate::sys::procfs::errno_of;
use crate::sys::{Errno, lock, path};
pub(crate) use found::FoundContainer;
pub(crate) use init::{InitState, init, read_start_time};
use record::Record;

/// The socket at which init waits for `start`. `start` removes it.
pub(crate) const START_SOCKET_NAME: &std::ffi::CStr = c"start.sock";
/// The directory that the container sees as /run/notify, and the socket in it.
pub(crate) const NOTIFY_DIRECTORY: &std::ffi::CStr = c"notify";
pub(crate) const NOTIFY_SOCKET: &std::ffi::CStr = c"notify/notify.sock";
/// A directory for CRIU, with links in it to the mounts of cgroup hierarchies.
const CRIU_DIRECTORY: &std::ffi::CStr = c"criu";
const RECORD_FILE: &std::ffi::CStr = c"state.json";
/// The record while the container is being made. Renaming it to `RECORD_FILE` marks the container
/// as made. On file systems like ext4, that is thirty times faster than replacing a file.
const UNFINISHED_RECORD: &std::ffi::CStr = c"creating.json";
const NEW_RECORD: &std::ffi::CStr = c".state.json.new";
/// A symbolic link to the container's cgroup. It is separate from the record, so that a container
/// with a damaged record can still be killed.
const CGROUP_LINK: &std::ffi::CStr = c"cgroup";
/// Like `CGROUP_LINK`, but for a cgroup that may be in use by processes outside the container.
const CLAIM_LINK: &std::ffi::CStr = c"cgroup.claim";
/// The largest record that is read. A record has a few KiB, and more with annotations.
const MAX_RECORD_BYTES: u64 = 16 << 20;
/// How long a command waits for the container's lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the state of a container can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("container does not exist")]
    Absent,
    #[error("container with given ID already exists")]
    Exists,
    #[error("container is busy: another command has held its lock for {} s", LOCK_TIMEOUT.as_secs())]
    Busy,
    #[error("read {path}: {problem}")]
    Corrupt { path: PathBuf, problem: String },
    #[error("the container is one of {0}'s, whose records orlop does not read")]
    Foreign(&'static str),
    #[error("--root {0}: writable by others than its owner, or not owned by the caller")]
    Untrusted(PathBuf),
    #[error("{0}: writable by others than its owner, or not owned by the caller")]
    UntrustedContainer(PathBuf),
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error(transparent)]
    Host(#[from] crate::plan::host::Error),
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::Error),
}

/// The lock of a container, held until this is dropped.
pub(crate) struct Lock {
    _held: lock::Lock,
}

/// The directory `--root`, which holds the state of all containers.
pub(crate) struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

/// The state directory of one container.
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// The statuses of the runtime-spec, and `paused`, which all runtimes add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// Returns the word for the state JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

const DIRECTORY_FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NOFOLLOW);

/// True if the file's owner is neither the caller nor root.
fn is_owned_by_others(stat: &nix::sys::stat::FileStat) -> bool {
    stat.st_uid != crate::sys::process::effective_uid() && stat.st_uid != 0
}

fn c_string(id: &str) -> Result<CString, Error> {
    CString::new(id).map_err(|_| Error::Absent)
}

impl Root {
    /// Opens the directory, or makes it with mode 0700 if it is missing. `sticky` sets the sticky
    /// bit, which protects the directory from cleaners of $XDG_RUNTIME_DIR.
    pub(crate) fn open_or_make(root: &Path, sticky: bool) -> Result<Root, Error> {
        match Root::open(root)? {
            Some(root) => Ok(root),
            None => {
                use std::os::unix::fs::DirBuilderExt;
                let made = std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(if sticky { 0o1700 } else { 0o700 })
                    .create(root);
                made.map_err(|e| {
                    failed("mkdir", || format!("make --root {}", root.display()))(errno_of(&e))
                })?;
                Root::open(root)?.ok_or_else(|| {
                    failed("open", || format!("open --root {}", root.display()))(Errno::ENOENT)
                        .into()
                })
            }
        }
    }

    /// Opens the directory. Returns `None` if it doesn't exist.
    pub(crate) fn open(root: &Path) -> Result<Option<Root>, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = match crate::sys::open(root, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => {
                return Err(
                    failed("open", || format!("open --root {}", root.display()))(errno).into(),
                );
            }
        };
        let stat = nix::sys::stat::fstat(&fd).map_err(failed("fstat", || {
            format!("look at --root {}", root.display())
        }))?;
        // Anyone who can write to --root could plant a record with another process's pid.
        let (others_write, sticky) = (stat.st_mode & 0o022 != 0, stat.st_mode & 0o1000 != 0);
        if is_owned_by_others(&stat) || others_write && !sticky {
            return Err(Error::Untrusted(root.to_owned()));
        }
        Ok(Some(Root {
            fd,
            path: root.to_owned(),
        }))
    }

    /// Makes the directory of a new container, which reserves the id. Takes its lock, and records
    /// the path of the cgroup, if known. Leaves nothing behind after an error.
    pub(crate) fn create(&self, id: &str, cgroup: Option<&Path>) -> Result<(Dir, Lock), Error> {
        let name = c_string(id)?;
        // Other users may search the directory but not list it, so that processes in a user
        // namespace can reach the sockets.
        match nix::sys::stat::mkdirat(&self.fd, name.as_c_str(), Mode::from_bits_truncate(0o711)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Err(Error::Exists),
            Err(errno) => {
                let what = || format!("make {}", self.path.join(id).display());
                return Err(failed("mkdir", what)(errno).into());
            }
        }
        let made = self.container(id).and_then(|dir| {
            let lock = dir.lock()?;
            if let Some(cgroup) = cgroup {
                dir.record_cgroup_claim(cgroup)?;
            }
            Ok((dir, lock))
        });
        if made.is_err() {
            let _ = unlinkat(&self.fd, name.as_c_str(), UnlinkatFlags::RemoveDir);
        }
        made
    }

    /// Opens the directory of a container.
    pub(crate) fn container(&self, id: &str) -> Result<Dir, Error> {
        let path = self.path.join(id);
        match crate::sys::open_at(
            &self.fd,
            c_string(id)?.as_c_str(),
            DIRECTORY_FLAGS,
            Mode::empty(),
        ) {
            Ok(fd) => {
                // In a --root like /tmp, other users can make directories. A forged one could make
                // `delete` kill any cgroup or pid.
                let what = || format!("look at {}", path.display());
                let stat = nix::sys::stat::fstat(&fd).map_err(failed("fstat", what))?;
                if is_owned_by_others(&stat) || stat.st_mode & 0o022 != 0 {
                    return Err(Error::UntrustedContainer(path));
                }
                Ok(Dir { fd, path })
            }
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Err(Error::Absent),
            Err(errno) => Err(failed("open", || format!("open {}", path.display()))(errno).into()),
        }
    }

    /// Returns the sorted ids of all containers.
    pub(crate) fn ids(&self) -> Result<Vec<String>, Error> {
        let read = || format!("list {}", self.path.display());
        let mut listing = Listing::openat(&self.fd, c".", DIRECTORY_FLAGS, Mode::empty())
            .map_err(failed("open", read))?;
        let mut ids = Vec::new();
        for entry in listing.iter() {
            let entry = entry.map_err(failed("getdents64", read))?;
            let directory =
                !matches!(entry.file_type(), Some(kind) if kind != nix::dir::Type::Directory);
            match entry.file_name().to_str() {
                Ok(name) if directory && name != "." && name != ".." => ids.push(name.to_owned()),
                _ => {}
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Removes a container's directory, whose lock the caller holds. Removes the record before the
    /// cgroup's link. If the command is killed in between, a container that can be deleted is left.
    pub(crate) fn remove_container_dir(&self, dir: &Dir) -> Result<(), Error> {
        let what = || format!("remove {}", dir.path.display());
        for name in [RECORD_FILE, CGROUP_LINK] {
            match unlinkat(&dir.fd, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(failed("unlink", what)(errno).into()),
            }
        }
        let id = dir.path.file_name().unwrap_or_default();
        let name = CString::new(id.as_bytes()).map_err(|_| Error::Absent)?;
        match unlinkat(&self.fd, name.as_c_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::ENOTEMPTY) => {}
            Err(errno) => return Err(failed("rmdir", what)(errno).into()),
        }
        dir.remove_criu_directory()?;
        for (name, kind) in [
            (NOTIFY_SOCKET, UnlinkatFlags::NoRemoveDir),
            (NOTIFY_DIRECTORY, UnlinkatFlags::RemoveDir),
        ] {
            match unlinkat(&dir.fd, name, kind) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(failed("unlink", what)(errno).into()),
            }
        }
        // Remove leftovers of a killed create or start, and files of newer versions.
        let mut listing = Listing::openat(&dir.fd, c".", DIRECTORY_FLAGS, Mode::empty())
            .map_err(failed("open", what))?;
        for entry in listing.iter() {
            let entry = entry.map_err(failed("getdents64", what))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                unlinkat(&dir.fd, entry.file_name(), UnlinkatFlags::NoRemoveDir)
                    .map_err(failed("unlink", what))?;
            }
        }
        unlinkat(&self.fd, name.as_c_str(), UnlinkatFlags::RemoveDir)
            .map_err(failed("rmdir", what))
            .map_err(Error::from)
    }
}

impl Dir {
    /// Returns the descriptor of the directory, through which its sockets are addressed.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes the lock. Returns `Busy` if another command holds it for too long.
    pub(crate) fn lock(&self) -> Result<Lock, Error> {
        let what = || format!("lock {}", self.path.display());
        // The lock belongs to an open file description, so open another one than that of `fd`.
        let mut fd = crate::sys::open_at(&self.fd, c".", DIRECTORY_FLAGS, Mode::empty())
            .map_err(failed("open", what))?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match lock::Lock::try_take(fd) {
                Ok(lock) => return self.check_not_removed(Lock { _held: lock }),
                Err((_, errno)) if errno != Errno::EWOULDBLOCK => {
                    return Err(failed("flock", what)(errno).into());
                }
                Err(_) if Instant::now() >= deadline => return Err(Error::Busy),
                Err((back, _)) => fd = back,
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Fails if the directory was removed during the wait. Its name may now be a new directory's.
    fn check_not_removed(&self, lock: Lock) -> Result<Lock, Error> {
        let what = || format!("look at {}", self.path.display());
        let stat = nix::sys::stat::fstat(&self.fd).map_err(failed("fstat", what))?;
        if stat.st_nlink == 0 {
            Err(Error::Absent)
        } else {
            Ok(lock)
        }
    }

    /// True if another command holds the lock right now.
    fn is_locked(&self) -> bool {
        let Ok(fd) = crate::sys::open_at(&self.fd, c".", DIRECTORY_FLAGS, Mode::empty()) else {
            return false;
        };
        matches!(lock::Lock::try_take(fd), Err((_, Errno::EWOULDBLOCK)))
    }

    /// Writes the record of a container that is being made.
    pub(crate) fn write_unfinished_record(&self, record: &Record) -> Result<(), Error> {
        self.write_record(record, UNFINISHED_RECORD)
    }

    /// Marks the container as made.
    pub(crate) fn finish_record(&self, record: &mut Record) -> Result<(), Error> {
        let what = || format!("write {}/state.json", self.path.display());
        nix::fcntl::renameat(&self.fd, UNFINISHED_RECORD, &self.fd, RECORD_FILE)
            .map_err(failed("rename", what))?;
        record.creating = false;
        Ok(())
    }

    /// Replaces the record atomically, so that a reader sees either the old one or the new one.
    pub(crate) fn replace_record(&self, record: &Record) -> Result<(), Error> {
        let name = match record.creating {
            true => UNFINISHED_RECORD,
            false => RECORD_FILE,
        };
        self.write_record(record, name)
    }

    fn write_record(&self, record: &Record, name: &std::ffi::CStr) -> Result<(), Error> {
        let file = || self.path.join(name.to_string_lossy().as_ref());
        let what = || format!("write {}", file().display());
        let text = serde_json::to_vec(record).map_err(|e| Error::Corrupt {
            path: file(),
            problem: e.to_string(),
        })?;
        let flags = OFlag::O_WRONLY
            | OFlag::O_CREAT
            | OFlag::O_TRUNC
            | OFlag::O_CLOEXEC
            | OFlag::O_NOFOLLOW;
        let fd = crate::sys::open_at(&self.fd, NEW_RECORD, flags, Mode::from_bits_truncate(0o600))
            .map_err(failed("open", what))?;
        std::fs::File::from(fd)
            .write_all(&text)
            .map_err(|e| failed("write", what)(errno_of(&e)))?;
        nix::fcntl::renameat(&self.fd, NEW_RECORD, &self.fd, name)
            .map_err(failed("rename", what))?;
        Ok(())
    }

    /// Reads the record. Returns `None` if a create was killed before it wrote the record.
    pub(crate) fn read_record(&self) -> Result<Option<Record>, Error> {
        // A create may rename the file between the first two reads.
        for name in [RECORD_FILE, UNFINISHED_RECORD, RECORD_FILE] {
            if let Some(mut record) = self.read_record_file(name)? {
                record.creating |= name == UNFINISHED_RECORD;
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Reads a record from a file. Returns `None` if the file doesn't exist.
    fn read_record_file(&self, name: &std::ffi::CStr) -> Result<Option<Record>, Error> {
        let file = self.path.join(name.to_string_lossy().as_ref());
        let what = || format!("read {}", file.display());
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let fd = match path::open_child(self.fd.as_fd(), name, flags, 0) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(failed("open", what)(errno).into()),
        };
        let mut text = Vec::new();
        std::fs::File::from(fd)
            .take(MAX_RECORD_BYTES)
            .read_to_end(&mut text)
            .map_err(|e| failed("read", what)(errno_of(&e)))?;
        let corrupt = |problem| Error::Corrupt {
            path: file.clone(),
            problem,
        };
        let record: Record = serde_json::from_slice(&text).map_err(|e| corrupt(e.to_string()))?;
        record.check_values().map_err(corrupt)?;
        Ok(Some(record))
    }

    /// Records the path of the cgroup before the cgroup is made.
    fn record_cgroup_claim(&self, cgroup: &Path) -> Result<(), Error> {
        let what = || format!("write {}/cgroup.claim", self.path.display());
        nix::unistd::symlinkat(cgroup, &self.fd, CLAIM_LINK).map_err(failed("symlinkat", what))?;
        Ok(())
    }

    /// Records that the container will have no cgroup.
    pub(crate) fn remove_cgroup_claim(&self) -> Result<(), Error> {
        let what = || format!("remove {}/cgroup.claim", self.path.display());
        unlinkat(&self.fd, CLAIM_LINK, UnlinkatFlags::NoRemoveDir)
            .map_err(failed("unlink", what))?;
        Ok(())
    }

    /// Records that the cgroup belongs to the container, because it was new or not in use.
    pub(crate) fn record_cgroup(&self) -> Result<(), Error> {
        let what = || format!("write {}/cgroup", self.path.display());
        nix::fcntl::renameat(&self.fd, CLAIM_LINK, &self.fd, CGROUP_LINK)
            .map_err(failed("rename", what))?;
        Ok(())
    }

    /// Does the same as `record_cgroup` for a cgroup whose path wasn't known before.
    pub(crate) fn record_cgroup_at(&self, cgroup: &Path) -> Result<(), Error> {
        let what = || format!("write {}/cgroup", self.path.display());
        nix::unistd::symlinkat(cgroup, &self.fd, CGROUP_LINK).map_err(failed("symlinkat", what))?;
        Ok(())
    }

    /// Returns the directory of the container's cgroup, or `None` if it has no cgroup yet.
    pub(crate) fn cgroup_path(&self) -> Result<Option<PathBuf>, Error> {
        self.read_cgroup_link(CGROUP_LINK)
    }

    /// Returns the directory of the cgroup that a killed create meant to use.
    pub(crate) fn claimed_cgroup_path(&self) -> Result<Option<PathBuf>, Error> {
        self.read_cgroup_link(CLAIM_LINK)
    }

    fn read_cgroup_link(&self, name: &std::ffi::CStr) -> Result<Option<PathBuf>, Error> {
        let what = || format!("read {}/{}", self.path.display(), name.to_string_lossy());
        match nix::fcntl::readlinkat(&self.fd, name) {
            Ok(path) => Ok(Some(PathBuf::from(path))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(failed("readlinkat", what)(errno).into()),
        }
    }

    /// True while the start socket exists.
    pub(crate) fn waits_for_start(&self) -> bool {
        nix::sys::stat::fstatat(
            &self.fd,
            START_SOCKET_NAME,
            nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .is_ok()
    }

    /// Removes the start socket, which marks the container as started.
    pub(crate) fn remove_start_socket(&self) -> Result<(), Error> {
        let what = || format!("remove {}/start.sock", self.path.display());
        unlinkat(&self.fd, START_SOCKET_NAME, UnlinkatFlags::NoRemoveDir)
            .map_err(failed("unlink", what))?;
        Ok(())
    }

    /// Returns the current status. `frozen` returns whether the container's cgroup is frozen.
    pub(crate) fn status(
        &self,
        record: Option<&Record>,
        init: &InitState,
        frozen: impl FnOnce() -> bool,
    ) -> Status {
        match (record, init) {
            (Some(record), InitState::Alive { .. }) if record.creating => Status::Creating,
            (Some(_), InitState::Alive { .. }) if frozen() => Status::Paused,
            (Some(_), InitState::Alive { .. }) if self.waits_for_start() => Status::Created,
            (Some(_), InitState::Alive { .. }) => Status::Running,
            (None, _) | (Some(Record { pid: None, .. }), _) if self.is_locked() => Status::Creating,
            _ => Status::Stopped,
        }
    }
}
