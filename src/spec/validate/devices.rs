//! Validates linux.devices: the device nodes that are made in the container.
//! This module doesn't check the rules in linux.resources.devices, which apply to the cgroup.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::{check_absolute, quote_value};
use crate::error::Findings;
use crate::spec::paths::{has_parent_component, is_root};

/// The kernel has 12 bits for a major and 20 for a minor number.
const MAX_MAJOR: i64 = (1 << 12) - 1;
const MAX_MINOR: i64 = (1 << 20) - 1;

/// Checks all entries of linux.devices.
pub(super) fn check(devices: &[LinuxDevice], found: &mut Findings) {
    for (index, device) in devices.iter().enumerate() {
        let place = format!("linux.devices[{index}]");
        check_device_path(device, &format!("{place}.path"), found);
        check_device_numbers(device, &place, found);
        let differs =
            |other: &LinuxDevice| other.path() == device.path() && !is_same_node(other, device);
        if let Some(first) = devices.iter().take(index).position(differs) {
            let problem = format!("another device at the same path as linux.devices[{first}]");
            found.refuse(format!("{place}.path"), problem);
        }
    }
}

fn check_device_path(device: &LinuxDevice, place: &str, found: &mut Findings) {
    let before = found.refused_count();
    check_absolute(place, device.path(), found);
    if found.refused_count() > before {
        return;
    }
    let path = device.path().to_string_lossy();
    if has_parent_component(device.path()) {
        found.refuse(place, format!("{} contains ..", quote_value(&path)));
    } else if is_root(device.path()) {
        let problem = format!("{} does not name a file", quote_value(&path));
        found.refuse(place, problem);
    }
}

fn check_device_numbers(device: &LinuxDevice, place: &str, found: &mut Findings) {
    let mut refuse = |field: &str, problem: String| {
        found.refuse(format!("{place}.{field}"), problem);
    };
    match device.typ() {
        LinuxDeviceType::A => refuse(
            "type",
            "\"a\" is for rules only (expected one of c, b, u, p)".into(),
        ),
        // A fifo has no device numbers.
        LinuxDeviceType::P => {}
        LinuxDeviceType::B | LinuxDeviceType::C | LinuxDeviceType::U => {
            for (field, value, largest) in [
                ("major", device.major(), MAX_MAJOR),
                ("minor", device.minor(), MAX_MINOR),
            ] {
                if !(0..=largest).contains(&value) {
                    refuse(field, format!("{value} is not between 0 and {largest}"));
                }
            }
        }
    }
    if let Some(mode) = device.file_mode().filter(|mode| *mode > 0o7777) {
        refuse("fileMode", format!("{mode} is not a file mode"));
    }
    for (field, id) in [("uid", device.uid()), ("gid", device.gid())] {
        if id == Some(u32::MAX) {
            refuse(field, format!("{} is not an id", u32::MAX));
        }
    }
}

/// True if two entries make the same node. Such entries are accepted, because engines repeat
/// entries.
fn is_same_node(one: &LinuxDevice, other: &LinuxDevice) -> bool {
    (one.typ(), one.major(), one.minor()) == (other.typ(), other.major(), other.minor())
}
