//! Namespaces: entering and comparing them, and setting their host name and loopback device.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sched::CloneFlags;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{Result, check, errno, new_fd};

/// setns(2): enters the namespace of `fd`. If `fd` is a pidfd, enters all namespaces of these kinds
/// of that process at once.
pub(crate) fn setns(fd: BorrowedFd<'_>, kinds: CloneFlags) -> Result<()> {
    nix::sched::setns(fd, kinds)
}

/// The flag of time namespaces; nix has no constant for it.
pub(crate) const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// unshare(2).
pub(crate) fn unshare(kinds: CloneFlags) -> Result<()> {
    nix::sched::unshare(kinds)
}

/// Returns the name of a kind of namespace in /proc/PID/ns.
pub(crate) fn link(kind: CloneFlags) -> &'static str {
    LINKS
        .iter()
        .find(|(_, flag)| *flag == kind)
        .map_or("?", |(name, _)| name)
}

/// The links in /proc/PID/ns.
pub(crate) const LINKS: [(&str, CloneFlags); 8] = [
    ("user", CloneFlags::CLONE_NEWUSER),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("time", CLONE_NEWTIME),
];

/// Returns the kind of the namespace behind an nsfs descriptor. Fails with ENOTTY if the descriptor
/// is of another file.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> Result<CloneFlags> {
    let kind = check(ask(fd, libc::NS_GET_NSTYPE))?;
    Ok(CloneFlags::from_bits_retain(kind as i32))
}

/// Returns the device and inode of the user namespace that owns a namespace. Fails with EPERM if
/// the owner is neither this process' user namespace nor one below it.
pub(crate) fn owner(fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let owner = new_fd(ask(fd, libc::NS_GET_USERNS))?;
    let stat = nix::sys::stat::fstat(&owner)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// ioctl_nsfs(2) with a request that takes no argument.
fn ask(fd: BorrowedFd<'_>, request: libc::Ioctl) -> libc::c_long {
    // SAFETY: nsfs ignores the argument, and another file could not write through a null pointer.
    unsafe { libc::ioctl(fd.as_raw_fd(), request, 0) }.into()
}

/// sethostname(2).
pub(crate) fn set_hostname(name: &[u8]) -> Result<()> {
    rustix::system::sethostname(name).map_err(errno)
}

/// setdomainname(2).
pub(crate) fn set_domainname(name: &[u8]) -> Result<()> {
    rustix::system::setdomainname(name).map_err(errno)
}

/// Brings up the loopback device of this process' network namespace.
pub(crate) fn bring_up_loopback() -> Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    let ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    let request = libc::ifreq {
        ifr_name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags },
    };
    let socket = socket.as_raw_fd();
    // SAFETY: request outlives the call and is of the type that SIOCSIFFLAGS expects.
    let done = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) };
    check(done.into()).map(drop)
}
