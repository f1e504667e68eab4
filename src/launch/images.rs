//! The common part of `checkpoint` and `restore`: CRIU, its directories, and shared options.
//! The caller names the directories, which are opened once. CRIU writes and reads the files in
//! them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, SFlag};

use super::Error;
use crate::criu::message::CriuOptions;
use crate::criu::{Criu, NETWORK_LOCK_VERSION};
use crate::error::failed;
use crate::invocation::DumpOptions;
use crate::origin::config;
use crate::plan::Plan;
use crate::plan::host::Host;
use crate::plan::namespaces::{JoinedNamespace, UserNamespace};
use crate::plan::rootfs::{MountOp, MountSource, RootEntry};
use crate::sys::procfs::errno_of;
use crate::sys::{Errno, path};

/// The annotation that names a file with options for CRIU. These options override those of the
/// command line. If the annotation is empty, there is no such file.
pub(crate) const CONFIG: &str = "org.criu.config";
/// The files with options for containers without the annotation. The first file that exists is
/// used.
const CONFIGS: [&str; 3] = [
    "/etc/criu/orlop.conf",
    "/etc/criu/crun.conf",
    "/etc/criu/runc.conf",
];
/// The file with the names of the standard descriptors at the time of the dump. A restore uses it
/// to find the pipes among them.
pub(super) const DESCRIPTORS: &std::ffi::CStr = c"descriptors.json";
/// The level at which CRIU logs all messages.
const LOG_LEVEL: i32 = 4;

pub(super) const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// CRIU and its directories.
pub(crate) struct Images {
    pub(super) criu: Criu,
    pub(super) directory: OwnedFd,
    work: Option<OwnedFd>,
    null: OwnedFd,
    /// The path of CRIU's log, unless a file with options sets another path.
    pub(super) log: PathBuf,
    log_file: &'static str,
}

impl Images {
    /// Finds CRIU and opens the directories. If `make` is true, makes missing directories.
    pub(super) fn open(
        dump: &DumpOptions,
        make: bool,
        log_file: &'static str,
    ) -> Result<Images, Error> {
        let null = null()?;
        let criu = Criu::find(null.as_fd())?;
        if dump.network_lock.is_some() {
            criu.require_version(NETWORK_LOCK_VERSION, "--network-lock")?;
        }
        if dump.lazy_pages {
            criu.require_features(false, true, null.as_fd())?;
        }
        let directory = directory_at(&dump.image_path, "--image-path", make)?;
        // CRIU always writes a log, so make the directory of the log in any case.
        let work = dump.work_path.as_deref();
        let work_fd = work.map(|path| directory_at(path, "--work-path", true));
        let log = work.unwrap_or(&dump.image_path).join(log_file);
        Ok(Images {
            criu,
            directory,
            work: work_fd.transpose()?,
            null,
            log,
            log_file,
        })
    }

    /// Returns the null device.
    pub(super) fn null(&self) -> BorrowedFd<'_> {
        self.null.as_fd()
    }

    /// Returns the options that a dump and a restore share.
    pub(super) fn options(
        &self,
        dump: &DumpOptions,
        annotations: &BTreeMap<String, String>,
    ) -> CriuOptions {
        CriuOptions {
            images_dir_fd: self.directory.as_raw_fd(),
            work_dir_fd: self.work.as_ref().map(AsRawFd::as_raw_fd),
            log_level: Some(LOG_LEVEL),
            log_file: Some(self.log_file.into()),
            notify_scripts: Some(true),
            orphan_pts_master: Some(true),
            // Leave out the contents of network namespaces, as runc does, because engines set them
            // up.
            empty_ns: Some(CloneFlags::CLONE_NEWNET.bits().cast_unsigned()),
            config_file: config_file(annotations),
            tcp_established: Some(dump.tcp_established),
            tcp_close: dump.tcp_close.then_some(true),
            ext_unix_sk: Some(dump.ext_unix_sk),
            shell_job: Some(dump.shell_job),
            file_locks: Some(dump.file_locks),
            auto_dedup: Some(dump.auto_dedup),
            lazy_pages: Some(dump.lazy_pages),
            manage_cgroups_mode: Some(dump.manage_cgroups_mode as i32),
            network_lock: dump.network_lock.map(|method| method as i32),
            ..CriuOptions::default()
        }
    }
}

fn config_file(annotations: &BTreeMap<String, String>) -> Option<String> {
    match annotations.get(CONFIG) {
        Some(file) => Some(file.clone()).filter(|file| !file.is_empty()),
        None => {
            let found = CONFIGS.iter().find(|file| Path::new(file).exists());
            found.map(|file| (*file).to_owned())
        }
    }
}

fn directory_at(path: &Path, flag: &str, make: bool) -> Result<OwnedFd, Error> {
    if make {
        let mut builder = std::fs::DirBuilder::new();
        // Only root may read the files. But root of a restored user namespace looks some of them
        // up, which requires search permission.
        let made = builder.recursive(true).mode(0o711).create(path);
        let what = || format!("make {} ({flag})", path.display());
        made.map_err(|e| failed("mkdir", what)(errno_of(&e)))?;
    }
    let what = || format!("open {} ({flag})", path.display());
    Ok(crate::sys::open(path, DIRECTORY, Mode::empty()).map_err(failed("open", what))?)
}

fn null() -> Result<OwnedFd, Error> {
    let what = || "open /dev/null".to_owned();
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let null =
        crate::sys::open(c"/dev/null", flags, Mode::empty()).map_err(failed("open", what))?;
    let stat = nix::sys::stat::fstat(&null).map_err(failed("fstat", what))?;
    match path::is_null_device(&stat) {
        true => Ok(null),
        false => Err(failed("open", what)(Errno::ENODEV).into()),
    }
}

/// Refuses features that a dump or a restore can't handle. The error names their field in
/// config.json.
pub(super) fn refuse_unsupported(plan: &Plan, host: &Host) -> Result<(), Error> {
    let refuse = |what: &str, field: String| Err(Error::NoCheckpoint(what.into(), config(field)));
    if host.is_unprivileged() || host.is_in_user_namespace() {
        return Err(Error::NotRoot);
    }
    let namespaces = &plan.namespaces;
    if !namespaces.has_new_mount() || plan.rootfs.entry != RootEntry::Pivot {
        let what = "a container without a mount namespace of its own, entered by pivot_root";
        return refuse(what, "linux.namespaces".into());
    }
    for (kind, name) in [
        (CloneFlags::CLONE_NEWCGROUP, "cgroup"),
        (CloneFlags::CLONE_NEWUSER, "user"),
    ] {
        let user = matches!(namespaces.user, Some(UserNamespace::Joined(..)));
        if namespaces.joins(kind) || kind == CloneFlags::CLONE_NEWUSER && user {
            let what = format!("a {name} namespace that is joined");
            return refuse(&what, "linux.namespaces".into());
        }
    }
    let listens = |filter: &crate::plan::seccomp::SeccompFilter| filter.listener.is_some();
    if plan.process.seccomp.as_ref().is_some_and(listens) {
        return refuse("SCMP_ACT_NOTIFY", "linux.seccomp".into());
    }
    for op in &plan.rootfs.mounts {
        if let Some(what) = unsupported_mount(op) {
            return refuse(what, format!("mounts[{}]", op.index));
        }
    }
    Ok(())
}

/// Refuses a pid namespace that is joined, unless it is the caller's own. Other processes in that
/// namespace would see CRIU's processes, which have CRIU's capabilities and descriptors.
/// `namespace` returns the pid namespace of the container.
pub(super) fn refuse_foreign_pids(
    plan: &Plan,
    host: &Host,
    namespace: impl FnOnce(&JoinedNamespace) -> Result<(u64, u64), Errno>,
) -> Result<(), Error> {
    let mut all = plan.namespaces.joined.iter();
    let Some(joined) = all.find(|joined| joined.kind == CloneFlags::CLONE_NEWPID) else {
        return Ok(());
    };
    let origin = config(format!("linux.namespaces[{}].path", joined.index));
    let what = || origin.asks_to(format!("look at {}", joined.path.display()));
    let its = namespace(joined).map_err(failed("stat", what))?;
    let own = host.proc.namespace("self/ns/pid");
    if own.map_err(failed("stat", || "look at /proc/self/ns/pid".into()))? == its {
        return Ok(());
    }
    let what = "a pid namespace that is joined and isn't the caller's";
    Err(Error::NoCheckpoint(what.into(), origin))
}

/// Returns the reason why a mount isn't supported. CRIU restores external mounts only as plain
/// binds.
fn unsupported_mount(op: &MountOp) -> Option<&'static str> {
    if op.idmap.is_some() {
        Some("a mount that maps ids")
    } else if op.mounts_link_itself() {
        Some("a mount of a symbolic link, or a copy of one")
    } else {
        None
    }
}

/// True for a path in a file system that is made for the container. CRIU or the kernel restores the
/// files there.
pub(super) fn is_in_own_filesystem(path: &Path, mounts: &[MountOp]) -> bool {
    mounts.iter().any(|op| {
        matches!(op.source, MountSource::Filesystem(_))
            && path != op.destination
            && path.starts_with(&op.destination)
    })
}

/// True if the open file is a directory.
pub(super) fn is_directory(fd: BorrowedFd<'_>) -> bool {
    nix::sys::stat::fstat(fd).is_ok_and(|stat| path::is_file_type(&stat, SFlag::S_IFDIR))
}
