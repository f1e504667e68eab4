//! The fields that the runtime-spec requires but for which the types of oci-spec have a default. If
//! such a field is missing, a container would get a limit of 0, or device 0:0, that nobody set.
//! Values aren't checked here. `normalise` fills in the fields that engines leave out.

use serde_json::{Map, Value};

use super::normalise::value_at;
use crate::diagnosis::Code;
use crate::error::Violation;

/// The objects and lists of objects with required fields. In `linux.devices`, fifos have no device
/// numbers.
pub(crate) const REQUIRED_FIELDS: &[(&str, &[&str])] = &[
    ("root", &["path"]),
    ("process.consoleSize", &["height", "width"]),
    ("process.rlimits", &["type", "soft", "hard"]),
    ("mounts", &["destination"]),
    ("hooks.prestart", &["path"]),
    ("hooks.createRuntime", &["path"]),
    ("hooks.createContainer", &["path"]),
    ("hooks.startContainer", &["path"]),
    ("hooks.poststart", &["path"]),
    ("hooks.poststop", &["path"]),
    ("linux.namespaces", &["type"]),
    ("linux.uidMappings", &["containerID", "hostID", "size"]),
    ("linux.gidMappings", &["containerID", "hostID", "size"]),
    ("linux.devices", &["type", "path"]),
    ("linux.seccomp", &["defaultAction"]),
    ("linux.seccomp.syscalls", &["names", "action"]),
    ("linux.resources.devices", &["allow"]),
    ("linux.resources.hugepageLimits", &["pageSize", "limit"]),
    ("linux.resources.network.priorities", &["name", "priority"]),
    ("linux.resources.blockIO.weightDevice", &["major", "minor"]),
    (
        "linux.resources.blockIO.throttleReadBpsDevice",
        &["major", "minor", "rate"],
    ),
    (
        "linux.resources.blockIO.throttleWriteBpsDevice",
        &["major", "minor", "rate"],
    ),
    (
        "linux.resources.blockIO.throttleReadIOPSDevice",
        &["major", "minor", "rate"],
    ),
    (
        "linux.resources.blockIO.throttleWriteIOPSDevice",
        &["major", "minor", "rate"],
    ),
];

/// Returns the required fields that are missing from a normalised tree.
pub(super) fn missing_fields(tree: &mut Value) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut check = |place: &str, object: &Map<String, Value>, fields: &[&str]| {
        let missing = fields.iter().filter(|field| !object.contains_key(**field));
        let missing = missing.map(|field| Violation::new(format!("{place}.{field}"), "is missing"));
        found.extend(missing.map(|violation| violation.coded(Code::MissingField)));
    };
    for (place, fields) in REQUIRED_FIELDS {
        match value_at(tree, place) {
            Some(Value::Object(object)) => check(place, object, fields),
            Some(Value::Array(list)) => {
                for (index, object) in indexed_objects(list) {
                    check(&format!("{place}[{index}]"), object, fields);
                }
            }
            _ => {}
        }
    }
    if let Some(Value::Array(devices)) = value_at(tree, "linux.devices") {
        for (index, device) in indexed_objects(devices) {
            if device.get("type").and_then(Value::as_str) != Some("p") {
                check(
                    &format!("linux.devices[{index}]"),
                    device,
                    &["major", "minor"],
                );
            }
        }
    }
    if let Some(Value::Array(syscalls)) = value_at(tree, "linux.seccomp.syscalls") {
        for (rule, syscall) in indexed_objects(syscalls) {
            let args = syscall.get("args").and_then(Value::as_array);
            for (index, arg) in indexed_objects(args.map_or(&[][..], Vec::as_slice)) {
                let place = format!("linux.seccomp.syscalls[{rule}].args[{index}]");
                check(&place, arg, &["index", "value", "op"]);
            }
        }
    }
    found
}

fn indexed_objects(list: &[Value]) -> impl Iterator<Item = (usize, &Map<String, Value>)> {
    let objects = list.iter().map(Value::as_object).enumerate();
    objects.filter_map(|(index, object)| Some((index, object?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn missed(mut tree: Value) -> Vec<String> {
        let texts = |v: &Violation| v.to_string();
        missing_fields(&mut tree).iter().map(texts).collect()
    }

    #[test]
    fn a_required_field_that_is_missing_is_named() {
        let tree = json!({
            "process": {"rlimits": [{"type": "RLIMIT_CPU", "hard": 1}, {"type": "x", "soft": 1}]},
            "linux": {
                "devices": [
                    {"type": "c", "path": "/dev/a", "major": 1},
                    {"type": "u", "path": "/dev/b", "minor": 1},
                    {"type": "p", "path": "/dev/c"},
                ],
                "resources": {
                    "hugepageLimits": [{"pageSize": "2MB"}],
                    "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0}]},
                },
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["a"], "action": "x", "args": [{"index": 0, "op": "y"}]}],
                },
            },
        });
        assert_eq!(
            missed(tree),
            [
                "config.json: process.rlimits[0].soft: is missing",
                "config.json: process.rlimits[1].hard: is missing",
                "config.json: linux.resources.hugepageLimits[0].limit: is missing",
                "config.json: linux.resources.blockIO.throttleReadBpsDevice[0].rate: is missing",
                "config.json: linux.devices[0].minor: is missing",
                "config.json: linux.devices[1].major: is missing",
                "config.json: linux.seccomp.syscalls[0].args[0].value: is missing",
            ]
        );
    }
}
