//! Writing id mappings, and user namespaces that only stand for one: what idmapped mounts are made of.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;

use super::Error;
use crate::error::failed;
use crate::plan::ids::{Mappings, Range, text};
use crate::sys::clone::{Clone, Side, clone3};
use crate::sys::procfs::Procfs;
use crate::sys::wait::reap;
use crate::sys::{path, process, socket};

/// Writes the mappings of a process' new user namespace. It takes CAP_SETUID and CAP_SETGID outside, and for host id 0
/// CAP_SETFCAP: user_namespaces(7).
pub(super) fn write(
    proc: &Procfs,
    pid: i32,
    mappings: &Mappings,
    place: &str,
) -> Result<(), Error> {
    let write = |file: &str, ranges: &[Range], list: &str| {
        let text = text(ranges);
        let what = || {
            format!(
                "write /proc/{pid}/{file} (config.json: {place}.{list}): {:?}",
                text.trim_end()
            )
        };
        let name = path::c_path(format!("{pid}/{file}").as_ref()).map_err(failed("open", what))?;
        proc.write(&name, text.as_bytes())
            .map_err(failed("write", what))
    };
    write("uid_map", &mappings.uids, "uidMappings")?;
    write("gid_map", &mappings.gids, "gidMappings")?;
    Ok(())
}

/// A user namespace with these mappings that nothing runs in.
pub(super) fn user_namespace(
    proc: &Procfs,
    mappings: &Mappings,
    place: &str,
) -> Result<OwnedFd, Error> {
    let what = || format!("make a user namespace for an idmapped mount (config.json: {place})");
    let (ours, childs) = socket::pair().map_err(failed("socketpair", what))?;
    let clone = Clone {
        namespaces: CloneFlags::CLONE_NEWUSER,
        cgroup: None,
        sibling: false,
    };
    let child = match clone3(&clone).map_err(failed("clone3", what))? {
        Side::Child => {
            drop(ours);
            // Until the parent closes its end, or is gone.
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
