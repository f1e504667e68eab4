//! Parent: writes id mappings, and makes user namespaces for idmapped mounts.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;

use super::{Error, id_map_tools};
use crate::error::failed;
use crate::origin::config;
use crate::plan::ids::{Mappings, Range, text};
use crate::plan::namespaces::Namespaces;
use crate::sys::clone::{CloneArgs, Side, clone3};
use crate::sys::procfs::Procfs;
use crate::sys::wait::reap;
use crate::sys::{path, process, socket};

/// Writes the mappings of a process's new user namespace. This requires CAP_SETUID and CAP_SETGID
/// outside the namespace, and CAP_SETFCAP to map host id 0 (user_namespaces(7)).
fn write(proc: &Procfs, pid: i32, mappings: &Mappings, place: &str) -> Result<(), Error> {
    write_one(proc, pid, UIDS, &mappings.uids, place)?;
    write_one(proc, pid, GIDS, &mappings.gids, place)
}

/// Writes the mappings of a container's new user namespace, with the rights of the caller.
pub(super) fn write_for(
    namespaces: &Namespaces,
    proc: &Procfs,
    pid: i32,
    mappings: &Mappings,
) -> Result<(), Error> {
    if namespaces.unprivileged {
        write_as_user(proc, pid, mappings, "linux")
    } else {
        write(proc, pid, mappings, "linux")
    }
}

/// Like `write`, for a caller who isn't root. The caller's user id can be mapped to any id. The
/// caller's group can be mapped once setgroups is denied, because a process could otherwise drop a
/// group that denies access to files. newuidmap(1) and newgidmap(1) map all other ids.
pub(super) fn write_as_user(
    proc: &Procfs,
    pid: i32,
    mappings: &Mappings,
    place: &str,
) -> Result<(), Error> {
    let is_own = |ranges: &[Range], id: u32| matches!(ranges, [range] if range.maps_only(id));
    if is_own(&mappings.uids, process::effective_uid()) {
        write_one(proc, pid, UIDS, &mappings.uids, place)?;
    } else {
        id_map_tools::map(
            "newuidmap",
            pid,
            &mappings.uids,
            &format!("{place}.{}", UIDS.1),
        )?;
    }
    if is_own(&mappings.gids, process::effective_gid()) {
        write_file(
            proc,
            pid,
            "setgroups",
            "deny",
            &format!("{place}.{}", GIDS.1),
        )?;
        write_one(proc, pid, GIDS, &mappings.gids, place)
    } else {
        id_map_tools::map(
            "newgidmap",
            pid,
            &mappings.gids,
            &format!("{place}.{}", GIDS.1),
        )
    }
}

/// The name of a file below /proc/PID, and the list in config.json that it is for.
type List = (&'static str, &'static str);
const UIDS: List = ("uid_map", "uidMappings");
const GIDS: List = ("gid_map", "gidMappings");

fn write_one(
    proc: &Procfs,
    pid: i32,
    (file, list): List,
    ranges: &[Range],
    place: &str,
) -> Result<(), Error> {
    write_file(proc, pid, file, &text(ranges), &format!("{place}.{list}"))
}

fn write_file(proc: &Procfs, pid: i32, file: &str, text: &str, place: &str) -> Result<(), Error> {
    let what = || {
        let text = text.trim_end();
        let asked = config(place.to_owned()).asks_to(format!("write /proc/{pid}/{file}"));
        format!("{asked}: {text:?}")
    };
    let name = path::c_path(format!("{pid}/{file}").as_ref()).map_err(failed("open", what))?;
    proc.write(&name, text.as_bytes())
        .map_err(failed("write", what))
        .map_err(Error::from)
}

/// Makes a user namespace with these mappings. No process is left in it.
pub(super) fn user_namespace(
    proc: &Procfs,
    mappings: &Mappings,
    place: &str,
) -> Result<OwnedFd, Error> {
    let what = || config(place.to_owned()).asks_to("make a user namespace for an idmapped mount");
    let (ours, childs) = socket::pair().map_err(failed("socketpair", what))?;
    let clone = CloneArgs {
        namespaces: CloneFlags::CLONE_NEWUSER,
        cgroup: None,
        sibling: false,
    };
    let child = match clone3(&clone).map_err(failed("clone3", what))? {
        Side::Child => {
            drop(ours);
            // Wait until the parent closes its end of the socket, or ends.
            let _ = socket::receive(childs.as_fd(), &mut [0]);
            process::exit_now(0)
        }
        Side::Parent(child) => child,
    };
    drop(childs);
    let namespace = write(proc, child.pid, mappings, place).and_then(|()| {
        let link = format!("{}/ns/user", child.pid);
        Ok(proc
            .follow(&link, OFlag::O_RDONLY)
            .map_err(failed("open", what))?)
    });
    drop(ours);
    reap(child.pidfd.as_fd()).map_err(failed("waitid", what))?;
    namespace
}
