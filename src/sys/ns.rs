//! Namespaces: entering, comparing, and what belongs to one (host name, loopback).

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sched::CloneFlags;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{Result, check, errno, new_fd};

/// setns(2) into the namespace behind `fd`, or with a pidfd into all of `kinds` of that process at once.
pub(crate) fn setns(fd: BorrowedFd<'_>, kinds: CloneFlags) -> Result<()> {
    nix::sched::setns(fd, kinds)
}

/// The flag of time namespaces, which nix lacks.
pub(crate) const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// unshare(2).
pub(crate) fn unshare(kinds: CloneFlags) -> Result<()> {
    nix::sched::unshare(kinds)
}

/// The name in /proc/PID/ns of what a child is put into.
pub(crate) fn link(kind: CloneFlags) -> &'static str {
    LINKS
        .iter()
        .find(|(_, flag)| *flag == kind)
        .map_or("?", |(name, _)| name)
}

/// The links of /proc/PID/ns.
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

/// The kind of namespace that a descriptor of an nsfs file stands for; ENOTTY if it is another file.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> Result<CloneFlags> {
    let kind = check(ask(fd, libc::NS_GET_NSTYPE))?;
    Ok(CloneFlags::from_bits_retain(kind as i32))
}

/// The user namespace that owns the namespace behind `fd`, as device and inode. EPERM: it is not
/// this process' user namespace nor one below.
pub(crate) fn owner(fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let owner = new_fd(ask(fd, libc::NS_GET_USERNS))?;
    let stat = nix::sys::stat::fstat(&owner)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// One of the requests of ioctl_nsfs(2) that take no argument.
fn ask(fd: BorrowedFd<'_>, request: libc::Ioctl) -> libc::c_long {
    // SAFETY: nsfs reads no argument; a null pointer is nothing that another file could write to.
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

/// Brings up the loopback interface of the network namespace that this process is in.
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
    // SAFETY: request outlives the call and is of the type that SIOCSIFFLAGS takes.
    let done = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) };
    check(done.into()).map(drop)
}
