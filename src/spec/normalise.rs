//! Normalises the tree of config.json where oci-spec's types are narrower than the specification or
//! than the output of engines.
//! `validate` checks the values.

use oci_spec::runtime::Capability;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as Unknown, StrDeserializer};
use serde_json::{Map, Value};

use super::validate::quote_value;
use crate::diagnosis::Code;
use crate::error::Findings;

/// Top-level properties of other platforms, and two properties that oci-spec invented. All are
/// treated as unknown.
pub(crate) const FOREIGN_PROPERTIES: &[&str] = &[
    "gidMappings",
    "solaris",
    "uidMappings",
    "vm",
    "windows",
    "zos",
];

/// Fields that must be objects, parents before children. The typed reader would also accept a list
/// and fill the object's fields by position.
const OBJECT_FIELDS: &[&str] = &[
    "root",
    "process",
    "process.user",
    "process.consoleSize",
    "process.capabilities",
    "process.scheduler",
    "process.ioPriority",
    "process.execCPUAffinity",
    "hooks",
    "linux",
    "linux.seccomp",
    "linux.intelRdt",
    "linux.memoryPolicy",
    "linux.personality",
    "linux.resources",
    "linux.resources.memory",
    "linux.resources.cpu",
    "linux.resources.pids",
    "linux.resources.blockIO",
    "linux.resources.network",
];

/// Fields that must be lists of objects.
const OBJECT_LIST_FIELDS: &[&str] = &[
    "mounts",
    "process.rlimits",
    "hooks.prestart",
    "hooks.createRuntime",
    "hooks.createContainer",
    "hooks.startContainer",
    "hooks.poststart",
    "hooks.poststop",
    "linux.uidMappings",
    "linux.gidMappings",
    "linux.namespaces",
    "linux.seccomp.syscalls",
    "linux.devices",
    "linux.resources.devices",
    "linux.resources.hugepageLimits",
    "linux.resources.blockIO.weightDevice",
    "linux.resources.blockIO.throttleReadBpsDevice",
    "linux.resources.blockIO.throttleWriteBpsDevice",
    "linux.resources.blockIO.throttleReadIOPSDevice",
    "linux.resources.blockIO.throttleWriteIOPSDevice",
    "linux.resources.network.priorities",
];

/// Maps with arbitrary keys. A null in a map is an invalid value, not an absent field.
const MAP_FIELDS: &[&str] = &[
    "annotations",
    "netDevices",
    "rdma",
    "sysctl",
    "timeOffsets",
    "unified",
];

/// Objects with required fields. To omit such an object, engines write it empty.
const EMPTY_MEANS_ABSENT: &[(&str, &str)] = &[
    ("process", "execCPUAffinity"),
    ("process", "ioPriority"),
    ("process", "scheduler"),
    ("linux", "intelRdt"),
    ("linux", "personality"),
    ("linux", "seccomp"),
];

/// All field names in linux.resources, except in the maps `rdma` and `unified`.
const RESOURCES_FIELD_NAMES: &[&str] = &[
    "access",
    "allow",
    "blockIO",
    "burst",
    "checkBeforeUpdate",
    "classID",
    "cpu",
    "cpus",
    "devices",
    "disableOOMKiller",
    "hcaHandles",
    "hcaObjects",
    "hugepageLimits",
    "idle",
    "kernel",
    "kernelTCP",
    "leafWeight",
    "limit",
    "major",
    "memory",
    "mems",
    "minor",
    "name",
    "network",
    "pageSize",
    "period",
    "pids",
    "priorities",
    "priority",
    "quota",
    "rate",
    "rdma",
    "realtimePeriod",
    "realtimeRuntime",
    "reservation",
    "shares",
    "swap",
    "swappiness",
    "throttleReadBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteBpsDevice",
    "throttleWriteIOPSDevice",
    "type",
    "unified",
    "useHierarchy",
    "weight",
    "weightDevice",
];

/// Normalises the tree in place. Warns of values that it ignores, and refuses values that it can't
/// correct.
pub(super) fn normalise(tree: &mut Value, findings: &mut Findings) {
    if let Value::Object(map) = tree {
        map.retain(|key, _| !FOREIGN_PROPERTIES.contains(&key.as_str()));
    }
    if let Some(resources) = value_at(tree, "linux.resources") {
        fix_name_case(resources);
    }
    drop_nulls(tree, "");
    let before = findings.refused_count();
    refuse_misshapen(tree, findings);
    if findings.refused_count() > before {
        return;
    }
    for (parent, field) in EMPTY_MEANS_ABSENT {
        if let Some(parent) = object_at(tree, parent)
            && parent.get(*field).is_some_and(is_empty_object)
        {
            parent.remove(*field);
        }
    }
    normalise_process(tree, findings);
    normalise_mounts(tree, findings);
    normalise_linux(tree, findings);
}

/// Changes names to the specification's case. runc accepts names in any case, so a limit in another
/// case must not be ignored as unknown.
fn fix_name_case(tree: &mut Value) {
    match tree {
        Value::Object(map) => {
            let is_known = |key: &str| RESOURCES_FIELD_NAMES.contains(&key);
            if !map.keys().all(|key| is_known(key)) {
                let members = std::mem::take(map).into_iter();
                let (known, others): (Vec<_>, Vec<_>) = members.partition(|(key, _)| is_known(key));
                map.extend(known);
                for (key, value) in others {
                    let name = RESOURCES_FIELD_NAMES
                        .iter()
                        .find(|name| name.eq_ignore_ascii_case(&key));
                    let key = name.map_or(key, |name| (*name).to_owned());
                    map.entry(key).or_insert(value);
                }
            }
            for (key, value) in map.iter_mut() {
                if !matches!(key.as_str(), "unified" | "rdma") {
                    fix_name_case(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(fix_name_case),
        _ => {}
    }
}

/// Removes null members, because null means absent.
fn drop_nulls(tree: &mut Value, name: &str) {
    match tree {
        Value::Object(map) => {
            if !MAP_FIELDS.contains(&name) {
                map.retain(|_, value| !value.is_null());
            }
            for (key, value) in map.iter_mut() {
                drop_nulls(value, key);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| drop_nulls(item, "")),
        _ => {}
    }
}

fn refuse_misshapen(tree: &mut Value, findings: &mut Findings) {
    for place in OBJECT_FIELDS {
        if value_at(tree, place).is_some_and(|value| !value.is_object()) {
            findings.refuse_as(Code::WrongType, *place, "is not an object");
        }
    }
    // If one of these fields is missing, oci-spec would use a default of its own.
    for (place, field, may_be_empty) in [
        ("process.ioPriority", "class", true),
        ("linux.memoryPolicy", "mode", false),
    ] {
        if let Some(Value::Object(object)) = value_at(tree, place)
            && !object.contains_key(field)
            && !(object.is_empty() && may_be_empty)
        {
            let field = format!("{place}.{field}");
            findings.refuse_as(Code::MissingField, field, "is missing");
        }
    }
    for place in OBJECT_LIST_FIELDS {
        match value_at(tree, place) {
            None => {}
            Some(Value::Array(list)) => {
                for (index, item) in list.iter().enumerate() {
                    if !item.is_object() {
                        let place = format!("{place}[{index}]");
                        findings.refuse_as(Code::WrongType, place, "is not an object");
                    }
                }
            }
            Some(_) => findings.refuse_as(Code::WrongType, *place, "is not a list"),
        }
    }
}

fn normalise_process(tree: &mut Value, findings: &mut Findings) {
    let Some(process) = object_at(tree, "process") else {
        return;
    };
    // commandLine is a Windows field.
    process.remove("commandLine");
    // All fields of `user` are optional, so `user` is too. An empty `user` means root.
    process
        .entry("user")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Some(Value::Object(sets)) = process.get_mut("capabilities") {
        drop_unknown_capabilities(sets, findings);
        drop_ambient_capabilities(sets, findings);
    }
    if let Some(Value::Object(affinity)) = process.get_mut("execCPUAffinity") {
        for value in affinity.values_mut() {
            if let Value::String(list) = value {
                list.retain(|c| c != ' ');
            }
        }
        affinity.retain(|_, value| value.as_str() != Some(""));
    }
    if let Some(Value::Array(flags)) = process
        .get_mut("scheduler")
        .and_then(|s| s.get_mut("flags"))
    {
        for flag in flags {
            // For these two flags, oci-spec has names that nobody else uses.
            match flag.as_str() {
                Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
                Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
                _ => {}
            }
        }
    }
}

/// Removes unknown capabilities. config.md requires a warning, not an error, for an unknown
/// capability.
fn drop_unknown_capabilities(sets: &mut Map<String, Value>, findings: &mut Findings) {
    for set in sets.values_mut() {
        let Value::Array(names) = set else { continue };
        names.retain(|name| match name.as_str() {
            Some(name) if !is_capability(name) => {
                let problem = format!("unknown capability {}, ignored", quote_value(name));
                findings.warn_as(Code::InvalidCapability, "process.capabilities", problem);
                false
            }
            _ => true,
        });
    }
}

/// Removes ambient capabilities that aren't permitted and inheritable: capabilities(7). Older
/// engines and `runc spec` before 1.2 write such capabilities, and rely on the runtime to ignore
/// them.
fn drop_ambient_capabilities(sets: &mut Map<String, Value>, findings: &mut Findings) {
    let names = |set: &str| -> Vec<String> {
        let names = sets.get(set).and_then(Value::as_array);
        let names = names.into_iter().flatten().filter_map(Value::as_str);
        names.map(bare_capability).collect()
    };
    let (permitted, inheritable) = (names("permitted"), names("inheritable"));
    let Some(Value::Array(ambient)) = sets.get_mut("ambient") else {
        return;
    };
    let mut dropped = Vec::new();
    ambient.retain(|name| {
        let Some(name) = name.as_str() else {
            return true;
        };
        let possible = permitted.contains(&bare_capability(name))
            && inheritable.contains(&bare_capability(name));
        if !possible {
            dropped.push(quote_value(name));
        }
        possible
    });
    if !dropped.is_empty() {
        let dropped = dropped.join(", ");
        findings.warn(
            "process.capabilities.ambient",
            format!("{dropped} ignored, not both permitted and inheritable"),
        );
    }
}

/// Returns a capability's name for comparison: in upper case, without CAP_.
fn bare_capability(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    name.strip_prefix("CAP_").unwrap_or(&name).to_owned()
}

/// True if the typed reader accepts the name. It may be in any case, with or without CAP_.
fn is_capability(name: &str) -> bool {
    let name: StrDeserializer<'_, Unknown> = name.into_deserializer();
    Capability::deserialize(name).is_ok()
}

fn normalise_mounts(tree: &mut Value, findings: &mut Findings) {
    let Some(Value::Array(mounts)) = tree.get_mut("mounts") else {
        return;
    };
    for (index, mount) in mounts.iter_mut().enumerate() {
        if let Some(Value::String(destination)) = mount.get_mut("destination")
            && !destination.is_empty()
            && !destination.starts_with('/')
        {
            // Relative destinations are deprecated. config.md defines their meaning.
            let problem = format!(
                "{} is relative, taken as relative to /",
                quote_value(destination)
            );
            findings.warn(format!("mounts[{index}].destination"), problem);
            destination.insert(0, '/');
        }
    }
}

fn normalise_linux(tree: &mut Value, findings: &mut Findings) {
    if let Some(personality) = object_at(tree, "linux.personality")
        && let Some(Value::Array(flags)) = personality.remove("flags")
        && !flags.is_empty()
    {
        // config-linux.md has the field but defines no value for it. runc warns as well.
        findings.warn("linux.personality.flags", "no flag is known, ignored");
    }
    for namespace in list_at(tree, "linux.namespaces") {
        remove_empty_text(namespace, "path");
    }
    if let Some(resources) = object_at(tree, "linux.resources")
        && resources
            .get("pids")
            .is_some_and(|pids| pids.get("limit").is_none())
    {
        // A missing limit means no limit. oci-spec would read 0, which is a limit.
        resources.remove("pids");
    }
    for rule in list_at(tree, "linux.resources.devices") {
        // Engines write "" to mean all types. The typed reader expects an absent field for this.
        remove_empty_text(rule, "type");
    }
    for device in list_at(tree, "linux.devices") {
        if let Some(mode) = device.get_mut("fileMode")
            && let Some(bits) = mode.as_u64().filter(|bits| *bits <= 0o177_777)
        {
            // Engines pass st_mode unchanged. The field `type` has the file type.
            *mode = (bits & 0o7777).into();
        }
    }
    for hugepages in list_at(tree, "linux.resources.hugepageLimits") {
        if let Some(limit) = hugepages.get_mut("limit")
            && limit.as_u64().is_some_and(|limit| limit > i64::MAX as u64)
        {
            // The kernel counts pages up to LONG_MAX bytes. It also calls this limit "max".
            *limit = i64::MAX.into();
        }
    }
    if let Some(rdt) = object_at(tree, "linux.intelRdt") {
        // oci-spec spells these names in its own way.
        for (name, theirs) in [("enableCMT", "enableCmt"), ("enableMBM", "enableMbm")] {
            if let Some(value) = rdt.remove(name) {
                rdt.insert(theirs.to_owned(), value);
            }
        }
    }
    if let Some(devices) = object_at(tree, "linux.netDevices") {
        for device in devices.values_mut().filter(|device| device.is_null()) {
            *device = Value::Object(Map::new());
        }
    }
}

/// Returns the value at a path of field names joined by dots.
pub(super) fn value_at<'a>(tree: &'a mut Value, place: &str) -> Option<&'a mut Value> {
    place
        .split('.')
        .try_fold(tree, |value, key| value.get_mut(key))
}

fn object_at<'a>(tree: &'a mut Value, place: &str) -> Option<&'a mut Map<String, Value>> {
    value_at(tree, place)?.as_object_mut()
}

fn list_at<'a>(tree: &'a mut Value, place: &str) -> &'a mut [Value] {
    match value_at(tree, place) {
        Some(Value::Array(list)) => list,
        _ => &mut [],
    }
}

fn is_empty_object(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

fn remove_empty_text(value: &mut Value, field: &str) {
    if let Value::Object(map) = value
        && map.get(field).and_then(Value::as_str) == Some("")
    {
        map.remove(field);
    }
}

#[cfg(test)]
mod shape;
#[cfg(test)]
mod tests;
