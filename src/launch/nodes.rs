//! Parent: makes device nodes for a container with a user namespace, whose root can't make any.
//! The nodes are made on a file system of the host's root and bind-mounted from there, because
//! devices on a file system of a user namespace can't be opened (SB_I_NODEV).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::stat::{Mode, mknodat, umask};

use super::Error;
use crate::detached::DetachedMount;
use crate::error::failed;
use crate::plan::Plan;
use crate::plan::devices::DeviceNode;
use crate::plan::ids::{Mappings, Range, outside_id};
use crate::sys::mount::{self, Context, NOEXEC, NOSUID};
use crate::sys::{Errno, path};

/// Makes a detached file system with the nodes, named by their numbers in the plan. Returns `None`
/// if the caller can't make nodes either, as in a container.
pub(super) fn make(plan: &Plan, mappings: &Mappings) -> Result<Option<OwnedFd>, Error> {
    let what = || "make a file system for device nodes".to_owned();
    let context = Context::open(c"tmpfs").map_err(failed("fsopen", what))?;
    let configure = || {
        context.set_string(c"source", c"devices")?;
        context.set_string(c"mode", c"755")?;
        if let Some(label) = &plan.rootfs.label {
            context.set_string(c"context", label)?;
        }
        context.create()
    };
    configure().map_err(failed("fsconfig", what))?;
    let mounted = context.mount(NOSUID | NOEXEC);
    let fd = mounted.map_err(failed("fsmount", what))?;
    let umasked = umask(Mode::empty());
    let made = plan
        .devices
        .iter()
        .enumerate()
        .try_for_each(|(number, node)| {
            if node.is_privileged() {
                node_in(fd.as_fd(), number, node, mappings)
            } else {
                Ok(())
            }
        });
    umask(umasked);
    match made {
        Err(Error::Failed(failed)) if failed.errno == Errno::EPERM => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(Some(fd)),
    }
}

/// Clones the nodes of the file system `made`. It must be attached, because before Linux 6.15 a
/// detached mount can't be cloned.
pub(super) fn trees(plan: &Plan, made: BorrowedFd<'_>) -> Result<Vec<DetachedMount>, Error> {
    let mut trees = Vec::with_capacity(plan.devices.len());
    for (number, node) in plan.devices.iter().enumerate() {
        if node.is_privileged() {
            let fd = path::c_path(number.to_string().as_ref())
                .and_then(|name| mount::open_tree(made, &name, false))
                .map_err(failed("open_tree", || {
                    format!("bind {}", node.describe_device())
                }))?;
            trees.push(DetachedMount {
                fd,
                is_directory: false,
            });
        }
    }
    Ok(trees)
}

/// Clones the host's nodes, for a caller who can't make nodes.
pub(super) fn of_host(plan: &Plan) -> Result<Vec<DetachedMount>, Error> {
    let nodes = plan.devices.iter().filter(|node| node.is_privileged());
    let open = |node: &DeviceNode| {
        DetachedMount::open_device(&node.path, node.kind, node.device_number())
            .map_err(failed("open_tree", || node.describe_opening()))
            .map_err(Error::from)
    };
    nodes.map(open).collect()
}

/// Makes one node. The host ids of its uid and gid in the container become its owner and group.
fn node_in(
    dir: BorrowedFd<'_>,
    number: usize,
    node: &DeviceNode,
    mappings: &Mappings,
) -> Result<(), Error> {
    let what = || format!("make {}", node.describe_device());
    let name = path::c_path(number.to_string().as_ref()).map_err(failed("mknodat", what))?;
    let mode = Mode::from_bits_truncate(node.mode);
    mknodat(dir, name.as_c_str(), node.kind, mode, node.device_number())
        .map_err(failed("mknodat", what))?;
    let (uid, gid) = (
        owner("user", &mappings.uids, node.uid, node)?,
        owner("group", &mappings.gids, node.gid, node)?,
    );
    nix::unistd::fchownat(
        dir,
        name.as_c_str(),
        uid.map(nix::unistd::Uid::from_raw),
        gid.map(nix::unistd::Gid::from_raw),
        nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
    )
    .map_err(failed("fchownat", what))
    .map_err(Error::from)
}

/// Returns the host's id for an id in the container. `None` means that the namespace doesn't map
/// root, and that the node stays owned by the host's root.
fn owner(kind: &str, ranges: &[Range], id: u32, node: &DeviceNode) -> Result<Option<u32>, Error> {
    match outside_id(ranges, id) {
        None if id != 0 => {
            let what = || {
                format!(
                    "give {} to {kind} {id}, which has no mapping",
                    node.describe_device()
                )
            };
            Err(failed("fchownat", what)(Errno::EINVAL).into())
        }
        found => Ok(found),
    }
}
