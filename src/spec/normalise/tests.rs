//! Tests of the normalisation of config.json.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use std::collections::BTreeSet;

use super::*;
use oci_spec::runtime::Spec;
use serde_json::json;

/// Returns the paths of a shape that the tables must have. These paths belong to this platform and
/// aren't below the items of a list or a map.
fn listed(places: BTreeSet<String>) -> BTreeSet<String> {
    let is_listed = |place: &String| {
        let top = place.split('.').next().unwrap();
        !place.is_empty() && !place.contains(['[', '*']) && !FOREIGN_PROPERTIES.contains(&top)
    };
    places.into_iter().filter(is_listed).collect()
}

fn set(table: &[&str]) -> BTreeSet<String> {
    table.iter().map(|place| (*place).to_owned()).collect()
}

#[test]
fn the_tables_are_those_of_the_types() {
    let shape = shape::shape_of::<Spec>();
    assert_eq!(listed(shape.objects), set(OBJECT_FIELDS));
    assert_eq!(listed(shape.lists), set(OBJECT_LIST_FIELDS));
    let maps = listed(shape.maps);
    let names = maps.iter().map(|place| place.rsplit('.').next().unwrap());
    assert_eq!(
        names.map(str::to_owned).collect::<BTreeSet<_>>(),
        set(MAP_FIELDS)
    );
    let below = "linux.resources.";
    let resources = shape
        .fields
        .iter()
        .filter_map(|place| place.strip_prefix(below));
    let names = resources.filter_map(|place| place.rsplit('.').next());
    assert_eq!(
        names.map(str::to_owned).collect::<BTreeSet<_>>(),
        set(RESOURCES_FIELD_NAMES)
    );
    let known = shape.fields.iter().filter(|place| !place.contains('.'));
    let known: BTreeSet<String> = known.cloned().collect();
    assert!(set(FOREIGN_PROPERTIES).is_subset(&known), "{known:?}");
    for (parent, field) in EMPTY_MEANS_ABSENT {
        assert!(shape.fields.contains(&format!("{parent}.{field}")));
    }
}

fn mended(mut tree: Value) -> (Value, Vec<String>) {
    let mut findings = Findings::default();
    normalise(&mut tree, &mut findings);
    let warnings = findings.into_warnings().unwrap();
    let texts = |warning: &crate::error::Violation| {
        let text = warning.to_string();
        text.strip_prefix("config.json: ").unwrap().to_owned()
    };
    (tree, warnings.iter().map(texts).collect())
}

#[test]
fn null_members_are_as_absent_but_not_in_maps() {
    let (tree, warnings) = mended(json!({
        "root": {"path": "r", "readonly": null},
        "hooks": null,
        "annotations": {"a": null},
        "linux": {"seccomp": null, "sysctl": {"net.x": null}, "devices": [{"uid": null, "type": "c"}]},
    }));
    assert_eq!(
        tree,
        json!({
            "root": {"path": "r"},
            "annotations": {"a": null},
            "linux": {"sysctl": {"net.x": null}, "devices": [{"type": "c"}]},
        })
    );
    assert!(warnings.is_empty());
}

#[test]
fn other_platforms_are_unknown_properties() {
    let (tree, _) = mended(json!({
        "windows": 5, "solaris": [], "vm": {}, "zos": "x", "uidMappings": 1,
        "process": {"commandLine": 7, "user": {}},
    }));
    assert_eq!(tree, json!({"process": {"user": {}}}));
}

#[test]
fn a_list_for_an_object_is_refused() {
    let mut tree = json!({
        "root": ["rootfs"],
        "process": {"user": [0, 0], "rlimits": [["RLIMIT_CPU", 1, 1]]},
        "mounts": {"destination": "/x"},
        "linux": {"namespaces": ["pid"]},
    });
    let mut findings = Findings::default();
    normalise(&mut tree, &mut findings);
    let refused = findings.into_refused();
    let places: Vec<_> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(
        places,
        [
            "config.json: root: is not an object",
            "config.json: process.user: is not an object",
            "config.json: mounts: is not a list",
            "config.json: process.rlimits[0]: is not an object",
            "config.json: linux.namespaces[0]: is not an object",
        ]
    );
}

#[test]
fn unknown_capabilities_are_warned_of_once_and_removed() {
    let (tree, warnings) = mended(json!({"process": {"capabilities": {
        "bounding": ["CAP_KILL", "CAP_NO\nSUCH", "cap_chown", "SYS_ADMIN"],
        "effective": ["CAP_NO\nSUCH"],
    }}}));
    assert_eq!(
        tree["process"]["capabilities"],
        json!({"bounding": ["CAP_KILL", "cap_chown", "SYS_ADMIN"], "effective": []})
    );
    assert_eq!(
        warnings,
        [r#"process.capabilities: unknown capability "CAP_NO\nSUCH", ignored"#]
    );
}

#[test]
fn ambient_capabilities_that_the_kernel_would_refuse_are_warned_of_and_removed() {
    let (tree, warnings) = mended(json!({"process": {"capabilities": {
        "permitted": ["CAP_KILL", "cap_chown"],
        "inheritable": ["CAP_CHOWN", "CAP_SYS_ADMIN"],
        "ambient": ["CAP_KILL", "CHOWN", "CAP_SYS_ADMIN"],
    }}}));
    let ambient = &tree["process"]["capabilities"]["ambient"];
    assert_eq!(*ambient, json!(["CHOWN"]));
    assert_eq!(
        warnings,
        [
            r#"process.capabilities.ambient: "CAP_KILL", "CAP_SYS_ADMIN" ignored, not both permitted and inheritable"#
        ]
    );
}

#[test]
fn every_capability_of_the_kernel_is_known() {
    for capability in caps::all() {
        assert!(is_capability(&capability.to_string()), "{capability}");
    }
}

#[test]
fn an_absent_user_is_root() {
    let (tree, _) = mended(json!({"process": {"cwd": "/"}}));
    assert_eq!(tree, json!({"process": {"cwd": "/", "user": {}}}));
}

#[test]
fn a_relative_destination_becomes_absolute_with_a_warning() {
    let (tree, warnings) = mended(json!({"mounts": [{"destination": "/a"}, {"destination": "b"}]}));
    assert_eq!(tree["mounts"][1]["destination"], json!("/b"));
    assert_eq!(
        warnings,
        [r#"mounts[1].destination: "b" is relative, taken as relative to /"#]
    );
}

#[test]
fn flags_of_a_personality_are_dropped_with_a_warning() {
    let with =
        |flags: Value| json!({"linux": {"personality": {"domain": "LINUX", "flags": flags}}});
    for (flags, warned) in [(json!([]), 0), (json!(["X"]), 1)] {
        let (tree, warnings) = mended(with(flags));
        assert_eq!(tree["linux"]["personality"], json!({"domain": "LINUX"}));
        assert_eq!(warnings.len(), warned);
    }
}

#[test]
fn empty_objects_and_strings_mean_absence() {
    let (tree, _) = mended(json!({
        "process": {"user": {}, "scheduler": {}, "ioPriority": {}, "execCPUAffinity": {}},
        "linux": {
            "seccomp": {}, "intelRdt": {}, "personality": {},
            "namespaces": [{"type": "pid", "path": ""}],
            "resources": {"pids": {}, "devices": [{"type": "", "access": ""}]},
        },
    }));
    assert_eq!(
        tree,
        json!({
            "process": {"user": {}},
            "linux": {
                "namespaces": [{"type": "pid"}],
                "resources": {"devices": [{"access": ""}]},
            },
        })
    );
    let (tree, _) = mended(json!({"linux": {"resources": {"pids": {"limit": null}}}}));
    assert_eq!(tree, json!({"linux": {"resources": {}}}));
    let (tree, _) = mended(json!({"linux": {"resources": {"pids": {"limit": 0}}}}));
    assert_eq!(tree["linux"]["resources"]["pids"], json!({"limit": 0}));
}

#[test]
fn values_that_the_types_refuse_are_brought_into_their_range() {
    let (tree, _) = mended(json!({
        "process": {
            "cwd": "/",
            "execCPUAffinity": {"initial": "0-3, 7", "final": ""},
            "scheduler": {"policy": "SCHED_FIFO", "flags": [
                "SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN",
                "SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS",
                "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX",
            ]},
        },
        "linux": {
            "netDevices": {"eth0": null, "eth1": {"name": null}},
            "intelRdt": {"enableCMT": true, "enableMBM": false},
            "devices": [{"path": "/dev/x", "type": "c", "fileMode": 0o20_666}],
            "resources": {"hugepageLimits": [{"pageSize": "2MB", "limit": u64::MAX}]},
        },
    }));
    let spec: Spec = serde_json::from_value(tree).unwrap();
    let process = spec.process().as_ref().unwrap();
    let affinity = process.exec_cpu_affinity().as_ref().unwrap();
    assert_eq!(affinity.initial().as_deref(), Some("0-3,7"));
    assert_eq!(affinity.cpu_affinity_final().as_deref(), None);
    let scheduler = process.scheduler().as_ref().unwrap();
    assert_eq!(scheduler.flags().as_ref().unwrap().len(), 7);
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.net_devices().as_ref().unwrap().len(), 2);
    #[allow(deprecated)]
    let monitored = linux
        .intel_rdt()
        .as_ref()
        .map(|rdt| (*rdt.enable_cmt(), *rdt.enable_mbm()));
    assert_eq!(monitored, Some((Some(true), Some(false))));
    let device = &linux.devices().as_ref().unwrap()[0];
    assert_eq!(device.file_mode(), Some(0o666));
    let resources = linux.resources().as_ref().unwrap();
    let hugepages = &resources.hugepage_limits().as_ref().unwrap()[0];
    assert_eq!(hugepages.limit(), i64::MAX);
}
