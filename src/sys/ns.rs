//! Namespaces: entering, comparing, and what belongs to one (host name, loopback).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sched::CloneFlags;

use super::{Result, check};

/// setns(2) into the namespace behind `fd`, or with a pidfd into all of `kinds` of that process at once.
pub(crate) fn setns(fd: BorrowedFd<'_>, kinds: CloneFlags) -> Result<()> {
    nix::sched::setns(fd, kinds)
}

/// The flag of time namespaces, which nix lacks.
pub(crate) const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

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
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the request takes no argument.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) };
    Ok(CloneFlags::from_bits_retain(check(kind.into())? as i32))
}

/// The user namespace that owns the namespace behind `fd`, as device and inode. EPERM: it is not
/// this process' user namespace nor one below.
pub(crate) fn owner(fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the request takes no argument.
    let owner = check(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_USERNS as _) }.into())?;
    // SAFETY: the kernel has just made this descriptor for us.
    let owner = unsafe { OwnedFd::from_raw_fd(owner as i32) };
    let stat = nix::sys::stat::fstat(&owner)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// sethostname(2).
pub(crate) fn set_hostname(name: &[u8]) -> Result<()> {
    // SAFETY: pointer and length are of one slice.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into())?;
    Ok(())
}

/// setdomainname(2).
pub(crate) fn set_domainname(name: &[u8]) -> Result<()> {
    // SAFETY: pointer and length are of one slice.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into())?;
    Ok(())
}

/// Brings up the loopback interface of the network namespace that this process is in.
pub(crate) fn bring_up_loopback() -> Result<()> {
    // SAFETY: integers only.
    let fd = check(
        unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into(),
    )?;
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // SAFETY: ifreq is plain data, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: request outlives the call and is of the type that SIOCSIFFLAGS takes.
    let done = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request) };
    check(done.into())?;
    Ok(())
}
