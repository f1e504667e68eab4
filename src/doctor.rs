//! Examines what this host offers and lacks for the caller's containers. Each property is tried if
//! the attempt is harmless: in a child, in new namespaces, or in a cgroup that is removed again.
//! The host stays unchanged. `cmd::doctor` prints the report.

pub(crate) mod attempt;
mod cgroups;
mod kernel;
mod programs;
pub(crate) mod report;
mod security;
mod users;

use std::path::{Path, PathBuf};

use caps::Capability;
use nix::sched::CloneFlags;

use crate::error::{Failed, failed};
use crate::sys::{Errno, process};
use report::{Item, Report, Status, VERSION};

/// The user for whom the host is examined.
struct Caller {
    /// Effective user id.
    uid: u32,
    /// True if the caller needs no user namespace.
    privileged: bool,
    /// The new namespaces for attempts that change mounts or the host name.
    apart: CloneFlags,
}

impl Caller {
    fn of_process() -> Caller {
        let uid = process::effective_uid();
        let privileged = uid == 0 && process::has_effective(Capability::CAP_SYS_ADMIN);
        let mut apart = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
        apart.set(CloneFlags::CLONE_NEWUSER, !privileged);
        Caller {
            uid,
            privileged,
            apart,
        }
    }
}

/// Examines the host.
pub(crate) fn examine() -> Result<Report, Failed> {
    let name = nix::sys::utsname::uname()
        .map_err(failed("uname", || "read the kernel's version".into()))?;
    let caller = Caller::of_process();
    let mut items = kernel::items(&caller);
    items.extend(kernel::namespaces(&caller));
    items.extend(kernel::file_systems(&caller));
    items.extend(cgroups::items(&caller));
    items.extend(programs::systemd(&caller));
    items.extend(users::items(&caller));
    items.extend(security::items());
    items.extend(programs::seal());
    items.extend(programs::criu());
    let lacks = |item: &Item| item.needed && item.status == Status::Missing;
    Ok(Report {
        version: VERSION,
        orlop: env!("CARGO_PKG_VERSION").into(),
        kernel: name.release().to_string_lossy().into_owned(),
        architecture: name.machine().to_string_lossy().into_owned(),
        uid: caller.uid,
        containers: !items.iter().any(lacks),
        items,
    })
}

/// Makes an item from the result of an attempt. After an error, the item has `status` and the
/// kernel's reason.
fn tried(id: &str, result: Result<(), Errno>, status: Status, texts: (&str, &str)) -> Item {
    match result {
        Ok(()) => Item::ok(id, ""),
        Err(errno) => Item::lacking(id, status, reason(errno), texts),
    }
}

fn reason(errno: Errno) -> String {
    crate::error::ErrnoText(errno).to_string()
}

/// Returns the first line of a small file of the host, or `None` if the file can't be read.
fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&text);
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// The directories that are searched for programs after PATH.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds a program in an absolute directory of PATH, or where distributions install it.
fn program(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_program = |file: &PathBuf| {
        let stat = std::fs::metadata(file);
        stat.is_ok_and(|stat| stat.is_file() && stat.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&path)
        .chain(std::env::split_paths(USUAL))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(is_program)
}
