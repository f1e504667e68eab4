//! rtnetlink(7): network devices and their addresses, as far as moving a device to another
//! namespace needs them.
//! `net_devices` decides which devices are moved.
//!
//! The crate neli is not used, because it would make the binary 220 KB larger.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use libc::{
    IFA_ADDRESS, IFA_BROADCAST, IFA_F_NODAD, IFA_F_NOPREFIXROUTE, IFA_F_PERMANENT, IFA_FLAGS,
    IFA_LOCAL, IFLA_IFNAME, IFLA_NET_NS_FD, RTM_GETADDR, RTM_GETLINK, RTM_NEWADDR, RTM_NEWLINK,
};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::{Errno, Result, retry};

const NLM_F_REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const NLM_F_ACK: u16 = libc::NLM_F_ACK as u16;
const NLM_F_EXCL: u16 = libc::NLM_F_EXCL as u16;
const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;
const NLM_F_DUMP: u16 = libc::NLM_F_DUMP as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;

/// From linux/if_addr.h; libc has no constant for it.
const IFA_RT_PRIORITY: u16 = 9;
/// The attributes of an address that are set again in the new namespace. The label is not set
/// again, because it contains the old device name.
const KEPT_ADDRESS_ATTRIBUTES: [u16; 4] = [IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_RT_PRIORITY];

/// The flags of an address that are set again, because users set them. The kernel sets the others.
const KEPT_ADDRESS_FLAGS: u32 = IFA_F_NODAD | IFA_F_NOPREFIXROUTE;

const IFF_UP: u32 = libc::IFF_UP as u32;

/// The lengths of nlmsghdr, ifinfomsg, ifaddrmsg and rtattr.
const HEADER: usize = 16;
const IFINFOMSG_BYTES: usize = 16;
const IFADDRMSG_BYTES: usize = 8;
const ATTRIBUTE: usize = 4;

/// The longest message that the kernel sends (netlink(7): 32 KiB since Linux 4.9).
const MAX_MESSAGE_BYTES: usize = 32 << 10;

/// An rtnetlink socket for the network namespace in which it was opened.
pub(crate) struct RtnetlinkSocket(OwnedFd);

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
}

/// An address of a device that must be set again after the device has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl RtnetlinkSocket {
    /// Opens a socket in the network namespace of this process.
    pub(crate) fn open() -> Result<RtnetlinkSocket> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::NetlinkRoute;
        socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).map(RtnetlinkSocket)
    }

    /// Returns all devices.
    pub(crate) fn links(&self) -> Result<Vec<Link>> {
        let answers = self.ask(RTM_GETLINK, NLM_F_DUMP, &[0; IFINFOMSG_BYTES])?;
        Ok(answers.iter().filter_map(|body| link(body)).collect())
    }

    /// Returns the permanent addresses of a device that have global scope.
    pub(crate) fn addresses(&self, index: u32) -> Result<Vec<Address>> {
        let answers = self.ask(RTM_GETADDR, NLM_F_DUMP, &[0; IFADDRMSG_BYTES])?;
        let of_device = answers.iter().filter_map(|body| address(body, index));
        Ok(of_device.collect())
    }

    /// Moves a device to another network namespace and renames it. The kernel replaces `%d` in the
    /// name with a free number.
    pub(crate) fn move_link(
        &self,
        index: u32,
        namespace: BorrowedFd<'_>,
        name: &str,
    ) -> Result<()> {
        let mut body = encode_ifinfomsg(index, 0);
        let fd = namespace.as_raw_fd().to_ne_bytes();
        push(&mut body, IFLA_NET_NS_FD, &fd);
        push(&mut body, IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat());
        self.ask(RTM_NEWLINK, NLM_F_ACK, &body).map(drop)
    }

    /// Brings a device up.
    pub(crate) fn bring_up_link(&self, index: u32) -> Result<()> {
        self.ask(RTM_NEWLINK, NLM_F_ACK, &encode_ifinfomsg(index, IFF_UP))
            .map(drop)
    }

    /// Adds an address to a device; succeeds if the device has it already.
    pub(crate) fn add_address(&self, index: u32, address: &Address) -> Result<()> {
        let mut body = vec![address.family, address.prefix, 0, 0];
        body.extend(index.to_ne_bytes());
        for (kind, value) in &address.attributes {
            push(&mut body, *kind, value);
        }
        let flags = address.flags & KEPT_ADDRESS_FLAGS;
        push(&mut body, IFA_FLAGS, &flags.to_ne_bytes());
        match self.ask(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &body) {
            Ok(_) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Sends a request and returns the bodies of all replies.
    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<Vec<u8>>> {
        let length = u32::try_from(HEADER + body.len()).map_err(|_| Errno::EMSGSIZE)?;
        let mut request = length.to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        // The sequence number and the port may be 0, since nobody else uses this socket.
        request.extend([0; 8]);
        request.extend(body);
        retry(|| nix::unistd::write(&self.0, &request))?;
        let mut bodies = Vec::new();
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        loop {
            let length = retry(|| nix::unistd::read(&self.0, &mut buffer))?;
            let mut rest = buffer.get(..length).ok_or(Errno::EBADMSG)?;
            while let Some((kind, body, next)) = message(rest) {
                rest = next;
                match kind {
                    NLMSG_DONE => return Ok(bodies),
                    NLMSG_ERROR => {
                        return match number(body, 0).map(u32::cast_signed) {
                            Some(0) => Ok(bodies),
                            Some(error) => Err(Errno::from_raw(error.wrapping_neg())),
                            None => Err(Errno::EBADMSG),
                        };
                    }
                    _ => bodies.push(body.to_vec()),
                }
            }
        }
    }
}

/// Makes an ifinfomsg that sets these flags of a device.
fn encode_ifinfomsg(index: u32, flags: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body
}

/// Appends an rtattr, padded to a multiple of four bytes.
fn push(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Splits off the first message. Returns its type, its body and the remaining bytes.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(number(bytes, 0)?).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, next))
}

/// Iterates over the attributes that follow the fixed part of a body.
fn attributes(body: &[u8], fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(fixed..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(ATTRIBUTE..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn link(body: &[u8]) -> Option<Link> {
    let index = number(body, 4)?;
    let (_, name) = attributes(body, IFINFOMSG_BYTES).find(|(kind, _)| *kind == IFLA_IFNAME)?;
    let name = name.strip_suffix(b"\0").unwrap_or(name);
    let name = String::from_utf8_lossy(name).into_owned();
    Some(Link { index, name })
}

/// Parses an address. Returns it if it belongs to the device, is permanent and has global scope.
fn address(body: &[u8], index: u32) -> Option<Address> {
    let [family, prefix, flags, scope, ..] = *body else {
        return None;
    };
    let wide = attributes(body, IFADDRMSG_BYTES).find(|(kind, _)| *kind == IFA_FLAGS);
    let flags = wide
        .and_then(|(_, value)| number(value, 0))
        .unwrap_or(u32::from(flags));
    let lasts = scope == 0 && flags & IFA_F_PERMANENT != 0;
    if !lasts || number(body, 4) != Some(index) {
        return None;
    }
    let kept = attributes(body, IFADDRMSG_BYTES)
        .filter(|(kind, _)| KEPT_ADDRESS_ATTRIBUTES.contains(kind));
    Some(Address {
        family,
        prefix,
        flags,
        attributes: kept.map(|(kind, value)| (kind, value.to_vec())).collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_devices_of_this_namespace_are_told_with_their_names() {
        let links = RtnetlinkSocket::open().unwrap().links().unwrap();
        assert!(links.iter().any(|link| link.name == "lo"), "{links:?}");
    }

    #[test]
    fn only_permanent_addresses_of_global_scope_last() {
        let body = |flags: u32, scope: u8| {
            let mut body = vec![2, 24, flags.to_ne_bytes()[0], scope];
            body.extend(7_u32.to_ne_bytes());
            push(&mut body, IFA_LOCAL, &[10, 0, 0, 1]);
            push(&mut body, 3, b"eth0\0");
            push(&mut body, IFA_FLAGS, &flags.to_ne_bytes());
            body
        };
        let found = address(&body(IFA_F_PERMANENT | IFA_F_NOPREFIXROUTE, 0), 7).unwrap();
        assert_eq!(found.attributes, [(IFA_LOCAL, vec![10, 0, 0, 1])]);
        assert_eq!((found.family, found.prefix), (2, 24));
        assert_eq!(address(&body(IFA_F_PERMANENT, 253), 7), None);
        assert_eq!(address(&body(0, 0), 7), None);
        assert_eq!(address(&body(IFA_F_PERMANENT, 0), 8), None);
        assert_eq!(address(&[2, 24], 7), None);
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        assert_eq!(message(&[20, 0, 0, 0, 3, 0]), None);
        assert_eq!(attributes(&[8, 0, 1, 0, 1], 0).count(), 0);
    }
}
