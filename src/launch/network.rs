//! Parent: moves network devices into the container's network namespace.
//! `net_devices` plans which devices to move.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use super::Error;
use crate::error::failed;
use crate::net_devices::DeviceTransfer;
use crate::plan::Plan;
use crate::sys::netlink::RtnetlinkSocket;
use crate::sys::ns;
use crate::sys::procfs::Procfs;

/// Moves the devices of the plan into the container's network namespace.
pub(super) fn give_devices(plan: &Plan, proc: &Procfs, pid: i32) -> Result<(), Error> {
    if plan.net_devices.is_empty() {
        return Ok(());
    }
    let what = || "visit the container's network namespace".to_owned();
    let here = RtnetlinkSocket::open().map_err(failed("socket", what))?;
    let own = proc
        .follow(&format!("{}/ns/net", std::process::id()), OFlag::O_RDONLY)
        .map_err(failed("open", what))?;
    let namespace = namespace(plan, proc, pid)?;
    ns::setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(failed("setns", what))?;
    let there = RtnetlinkSocket::open();
    ns::setns(own.as_fd(), CloneFlags::CLONE_NEWNET).map_err(failed("setns", what))?;
    let there = there.map_err(failed("socket", what))?;
    let transfer = DeviceTransfer {
        from: &here,
        to: &there,
        namespace: namespace.as_fd(),
    };
    Ok(transfer.give(&plan.net_devices)?)
}

/// Brings up `lo` in the network namespace of a process, unless that is the caller's own namespace.
pub(super) fn bring_up_loopback(proc: &Procfs, pid: i32) -> Result<(), Error> {
    let what = || "bring up lo of the container's network namespace".to_owned();
    let (own, its) = (
        format!("{}/ns/net", std::process::id()),
        format!("{pid}/ns/net"),
    );
    let number = |link: &str| proc.namespace(link).map_err(failed("stat", what));
    if number(&own)? == number(&its)? {
        return Ok(());
    }
    let open = |link: &str| {
        proc.follow(link, OFlag::O_RDONLY)
            .map_err(failed("open", what))
    };
    let (own, its) = (open(&own)?, open(&its)?);
    ns::setns(its.as_fd(), CloneFlags::CLONE_NEWNET).map_err(failed("setns", what))?;
    let done = ns::bring_up_loopback();
    ns::setns(own.as_fd(), CloneFlags::CLONE_NEWNET).map_err(failed("setns", what))?;
    Ok(done.map_err(failed("ioctl", what))?)
}

/// Opens the container's network namespace. A joined namespace is opened by its path, because the
/// child may not be in it yet.
fn namespace(plan: &Plan, proc: &Procfs, pid: i32) -> Result<OwnedFd, Error> {
    let what = || "open the container's network namespace".to_owned();
    let is_network = |kind| kind == CloneFlags::CLONE_NEWNET;
    let mut joined = plan.namespaces.joined.iter();
    let opened = match joined.find(|joined| is_network(joined.kind)) {
        Some(joined) => {
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
            crate::sys::open(&joined.path, flags, Mode::empty())
        }
        None => proc.follow(&format!("{pid}/ns/net"), OFlag::O_RDONLY),
    };
    Ok(opened.map_err(failed("open", what))?)
}
