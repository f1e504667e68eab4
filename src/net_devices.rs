//! linux.netDevices: moves network devices with their addresses from the caller's network namespace
//! to the container's.
//! The engine configures the rest of a container's network.

use std::os::fd::BorrowedFd;

use oci_spec::runtime::{Linux, LinuxNamespaceType};

use crate::error::{Failed, Violation, failed};
use crate::origin::config;
use crate::sys::Errno;
use crate::sys::netlink::{Address, Link, RtnetlinkSocket};

/// IFNAMSIZ without the NUL.
const MAX_NAME_BYTES: usize = 15;

/// A network device to move.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NetDevice {
    /// The device's name on the host.
    name: String,
    /// The device's name in the container. The kernel replaces `%d` with a number.
    new_name: String,
}

/// Why a device could not be moved into the container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error(
        "{}: there is no such device", describe_move(.0)
    )]
    Absent(String),
    #[error(
        "{what}: the container has a device {1} already", what = describe_move(.0)
    )]
    Exists(String, String),
}

/// Plans linux.netDevices, sorted by name.
pub(crate) fn plan(linux: &Linux, unprivileged: bool) -> Result<Vec<NetDevice>, Vec<Violation>> {
    let Some(configured) = linux.net_devices().as_ref().filter(|map| !map.is_empty()) else {
        return Ok(Vec::new());
    };
    let mut violations = Vec::new();
    let mut refuse = |place: &str, problem: &str| {
        violations.push(Violation::new(format!("linux.netDevices{place}"), problem));
    };
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    if !namespaces
        .iter()
        .any(|n| n.typ() == LinuxNamespaceType::Network)
    {
        refuse("", "needs a network namespace in linux.namespaces");
    }
    if unprivileged {
        refuse("", "requires the privileges of root");
    }
    let mut devices: Vec<NetDevice> = Vec::with_capacity(configured.len());
    for (name, device) in configured {
        let new_name = device.name().clone().filter(|name| !name.is_empty());
        devices.push(NetDevice {
            new_name: new_name.unwrap_or_else(|| name.clone()),
            name: name.clone(),
        });
    }
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    for (index, device) in devices.iter().enumerate() {
        let place = format!(".{}", device.name);
        if !is_name(&device.name) || device.name.contains('%') {
            refuse(&place, "is not the name of a network device");
        }
        if !is_name(&device.new_name.replacen("%d", "0", 1)) {
            refuse(
                &format!("{place}.name"),
                "is not the name of a network device",
            );
        }
        let same = |other: &&NetDevice| other.new_name == device.new_name;
        let earlier = devices.iter().take(index).find(same);
        if let Some(earlier) = earlier.filter(|_| !device.new_name.contains("%d")) {
            let problem = format!("is also the name of linux.netDevices.{}", earlier.name);
            refuse(&format!("{place}.name"), &problem);
        }
    }
    if violations.is_empty() {
        Ok(devices)
    } else {
        Err(violations)
    }
}

/// True if the kernel accepts the name (dev_valid_name).
fn is_name(name: &str) -> bool {
    let forbidden =
        |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control();
    !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME_BYTES && !name.contains(forbidden)
}

/// A transfer of devices from one network namespace to another.
pub(crate) struct DeviceTransfer<'a> {
    /// A socket in the namespace where the devices are.
    pub(crate) from: &'a RtnetlinkSocket,
    /// A socket in the namespace to which the devices move.
    pub(crate) to: &'a RtnetlinkSocket,
    /// The namespace to which the devices move.
    pub(crate) namespace: BorrowedFd<'a>,
}

fn describe_move(name: &str) -> String {
    let origin = config(format!("linux.netDevices.{name}"));
    origin.asks_to(format!("move the network device {name}"))
}

impl DeviceTransfer<'_> {
    /// Moves the devices and brings them up. Finds all devices before moving the first, so that a
    /// missing device is an error before anything has changed.
    pub(crate) fn give(&self, devices: &[NetDevice]) -> Result<(), Error> {
        let links = self
            .from
            .links()
            .map_err(failed("RTM_GETLINK", || "list the network devices".into()))?;
        let mut found = Vec::with_capacity(devices.len());
        for device in devices {
            let link = links.iter().find(|link| link.name == device.name);
            let link = link.ok_or_else(|| Error::Absent(device.name.clone()))?;
            let what = || format!("list the addresses of the network device {}", device.name);
            let addresses = self.from.addresses(link.index);
            let addresses = addresses.map_err(failed("RTM_GETADDR", what))?;
            found.push((device, link.index, addresses));
        }
        found
            .iter()
            .try_for_each(|(device, index, addresses)| self.move_device(device, *index, addresses))
    }

    fn move_device(
        &self,
        device: &NetDevice,
        index: u32,
        addresses: &[Address],
    ) -> Result<(), Error> {
        let NetDevice { name, new_name } = device;
        let what = || describe_move(name);
        let there = || self.to.links().map_err(failed("RTM_GETLINK", what));
        let before = there()?;
        if before.iter().any(|link| link.name == *new_name) {
            return Err(Error::Exists(name.clone(), new_name.clone()));
        }
        match self.from.move_link(index, self.namespace, new_name) {
            Err(Errno::EEXIST) => return Err(Error::Exists(name.clone(), new_name.clone())),
            other => other.map_err(failed("RTM_NEWLINK", what))?,
        }
        // The kernel may change the index and the name during the move. The moved device is the one
        // that was not in the namespace before.
        let is_new = |link: &&Link| !before.contains(link);
        let moved = there()?.iter().find(is_new).map(|link| link.index);
        let moved = moved.ok_or_else(|| failed("RTM_GETLINK", what)(Errno::ENODEV))?;
        for address in addresses {
            self.to
                .add_address(moved, address)
                .map_err(failed("RTM_NEWADDR", what))?;
        }
        self.to
            .bring_up_link(moved)
            .map_err(failed("RTM_NEWLINK", what))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn planned(devices: serde_json::Value, kinds: &[&str]) -> Result<Vec<NetDevice>, Vec<String>> {
        let namespaces: Vec<_> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
        let linux = json!({"namespaces": namespaces, "netDevices": devices});
        let linux: Linux = serde_json::from_value(linux).unwrap();
        plan(&linux, false).map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_device_keeps_its_name_unless_told_otherwise() {
        let devices = json!({"eth1": {"name": "web%d"}, "eth0": {}});
        let device = |name: &str, new_name: &str| NetDevice {
            name: name.into(),
            new_name: new_name.into(),
        };
        let expected = vec![device("eth0", "eth0"), device("eth1", "web%d")];
        assert_eq!(planned(devices, &["network"]), Ok(expected));
        assert_eq!(planned(json!({}), &[]), Ok(Vec::new()));
    }

    #[test]
    fn names_that_the_kernel_would_not_take_are_refused() {
        for name in [
            "a/b",
            "a b",
            "a:b",
            "..",
            "sixteen-letters-",
            "a%s",
            "a%d%d",
        ] {
            let refused = planned(json!({"eth0": {"name": name}}), &["network"]);
            assert_eq!(
                refused,
                Err(vec![
                    "config.json: linux.netDevices.eth0.name: is not the name of a network device"
                        .into()
                ]),
                "{name}"
            );
        }
        let refused = planned(json!({"eth%d": {}}), &["network"]).unwrap_err();
        assert!(refused.contains(
            &"config.json: linux.netDevices.eth%d: is not the name of a network device".into()
        ));
    }

    #[test]
    fn devices_need_a_namespace_and_names_of_their_own() {
        assert_eq!(
            planned(json!({"eth0": {}, "eth1": {"name": "eth0"}}), &["pid"]),
            Err(vec![
                "config.json: linux.netDevices: needs a network namespace in linux.namespaces"
                    .into(),
                "config.json: linux.netDevices.eth1.name: is also the name of linux.netDevices.eth0"
                    .into(),
            ])
        );
    }
}
