//! Tests of the rules that need only the spec.
#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;

/// Returns the violations of a valid configuration that is changed by a merge patch. In the patch,
/// null removes a value, objects are merged, and all other values replace.
fn refused(patch: Value) -> Vec<String> {
    let mut tree = json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"user": {}, "args": ["sh"], "cwd": "/"},
        "linux": {"namespaces": [{"type": "mount"}]},
    });
    merge(&mut tree, patch);
    let config: Spec = serde_json::from_value(tree).unwrap();
    let violations = validate_spec(&config);
    violations
        .iter()
        .map(|v| format!("{}: {}", v.origin.config_field().unwrap(), v.problem))
        .collect()
}

fn merge(tree: &mut Value, patch: Value) {
    match (tree, patch) {
        (Value::Object(map), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    map.remove(&key);
                } else {
                    merge(map.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (tree, patch) => *tree = patch,
    }
}

fn check(table: Vec<(Value, &[&str])>) {
    for (patch, expected) in table {
        let shown = patch.to_string();
        assert_eq!(refused(patch), expected, "{shown:.200}");
    }
}

#[test]
fn a_plain_configuration_is_right() {
    check(vec![(json!({}), &[])]);
}

#[test]
fn what_is_required_is_missed() {
    check(vec![
        (json!({"root": null}), &["root: is missing"]),
        (json!({"root": {"path": ""}}), &["root.path: is empty"]),
        (
            json!({"root": {"path": "a\0b"}}),
            &["root.path: contains a NUL"],
        ),
        (json!({"process": null}), &[]),
        (json!({"linux": null}), &["linux: is missing"]),
        (
            json!({"process": {"args": null}}),
            &["process.args: is empty"],
        ),
        (
            json!({"process": {"args": []}}),
            &["process.args: is empty"],
        ),
    ]);
}

#[test]
fn all_violations_are_found_at_once() {
    assert_eq!(
        refused(
            json!({"root": null, "process": {"args": [""], "cwd": ""}, "hostname": "x", "linux": null})
        ),
        [
            "root: is missing",
            "process.args[0]: is empty",
            "process.cwd: is empty",
            "linux: is missing"
        ]
    );
}

#[test]
fn arguments_and_variables_must_pass_through_execve() {
    check(vec![
        (
            json!({"process": {"args": [""]}}),
            &["process.args[0]: is empty"],
        ),
        (json!({"process": {"args": ["a", ""]}}), &[]),
        (
            json!({"process": {"args": ["a", "b\0"]}}),
            &["process.args[1]: contains a NUL"],
        ),
        (json!({"process": {"args": vec!["x"; 100_000]}}), &[]),
        (
            json!({"process": {"env": ["A=", "B=a=b", "C", "=d", "", "E=\0"]}}),
            &[
                "process.env[2]: \"C\" has no =",
                "process.env[3]: \"=d\" has no name before the =",
                "process.env[4]: \"\" has no =",
                "process.env[5]: contains a NUL",
            ],
        ),
        (json!({"process": {"env": ["A=1", "A=2"]}}), &[]),
    ]);
    if cfg!(target_arch = "x86_64") {
        let (fits, long) = ("x".repeat(131_071), "x".repeat(131_072));
        check(vec![
            (json!({"process": {"args": ["a", fits]}}), &[]),
            (
                json!({"process": {"args": ["a", long]}}),
                &["process.args[1]: is longer than 131071 bytes, the most the kernel takes"],
            ),
        ]);
    }
}

#[test]
fn the_working_directory_is_an_absolute_path() {
    check(vec![
        (json!({"process": {"cwd": "/a/../b"}}), &[]),
        (
            json!({"process": {"cwd": "a"}}),
            &["process.cwd: \"a\" is not an absolute path"],
        ),
        (
            json!({"process": {"cwd": "/\0"}}),
            &["process.cwd: contains a NUL"],
        ),
        (
            json!({"process": {"cwd": "/x".repeat(2048)}}),
            &["process.cwd: is longer than 4095 bytes"],
        ),
    ]);
}

#[test]
fn ids_limits_and_scores_are_in_range() {
    let limit =
        |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
    check(vec![
        (
            json!({"process": {"user": {"uid": u32::MAX, "gid": u32::MAX, "additionalGids": [1, u32::MAX]}}}),
            &[
                "process.user.uid: 4294967295 is not an id (it is -1 to the kernel)",
                "process.user.gid: 4294967295 is not an id (it is -1 to the kernel)",
                "process.user.additionalGids[1]: 4294967295 is not an id (it is -1 to the kernel)",
            ],
        ),
        (
            json!({"process": {"user": {"additionalGids": vec![7; 70_000]}}}),
            &["process.user.additionalGids: has more than 65536 groups"],
        ),
        (
            json!({"process": {"user": {"umask": 512}}}),
            &["process.user.umask: 512 is more than 511 (octal 777)"],
        ),
        (
            json!({"process": {"user": {"umask": 511}, "oomScoreAdj": -1000}}),
            &[],
        ),
        (
            json!({"process": {"oomScoreAdj": 1001}}),
            &["process.oomScoreAdj: 1001 is not between -1000 and 1000"],
        ),
        (
            json!({"process": {"consoleSize": {"height": 65536, "width": 65535}}}),
            &["process.consoleSize.height: 65536 is more than 65535"],
        ),
        (
            json!({"process": {"rlimits": [limit("RLIMIT_CORE", u64::MAX, u64::MAX), limit("RLIMIT_CPU", 2, 1)]}}),
            &["process.rlimits[1].soft: 2 is more than hard, 1"],
        ),
        (
            json!({"process": {"rlimits": [limit("RLIMIT_CORE", 0, 1), limit("RLIMIT_CORE", 0, 1)]}}),
            &["process.rlimits[1].type: RLIMIT_CORE again, as in rlimits[0]"],
        ),
    ]);
}

#[test]
fn the_values_of_a_memory_policy_go_together() {
    let with = |mode: &str, nodes: &str, flags: &[&str]| json!({"linux": {"memoryPolicy": {"mode": mode, "nodes": nodes, "flags": flags}}});
    check(vec![
        (with("MPOL_DEFAULT", "", &[]), &[]),
        (with("MPOL_PREFERRED", "", &[]), &[]),
        (
            with(
                "MPOL_BIND",
                "0-3,7",
                &["MPOL_F_NUMA_BALANCING", "MPOL_F_STATIC_NODES"],
            ),
            &[],
        ),
        (
            with("MPOL_LOCAL", "0", &[]),
            &["linux.memoryPolicy.nodes: MPOL_LOCAL takes none"],
        ),
        (
            with("MPOL_INTERLEAVE", "", &["MPOL_F_NUMA_BALANCING"]),
            &[
                "linux.memoryPolicy.nodes: is empty, and MPOL_INTERLEAVE needs one",
                "linux.memoryPolicy.flags: MPOL_F_NUMA_BALANCING goes with MPOL_BIND and MPOL_PREFERRED_MANY only",
            ],
        ),
        (
            with(
                "MPOL_BIND",
                "0",
                &["MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
            ),
            &[
                "linux.memoryPolicy.flags: MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other",
            ],
        ),
        (
            with("MPOL_BIND", "0x", &[]),
            &["linux.memoryPolicy.nodes: \"0x\" is not a number below 8192"],
        ),
    ]);
}

#[test]
fn an_affinity_is_a_list_of_cpus() {
    let with =
        |list: &str| json!({"process": {"execCPUAffinity": {"initial": "0", "final": list}}});
    check(vec![
        (with("0-3,7"), &[]),
        (
            with("3-1"),
            &["process.execCPUAffinity.final: the range 3-1 runs backwards"],
        ),
        (
            with("99999"),
            &["process.execCPUAffinity.final: \"99999\" is not a number below 8192"],
        ),
    ]);
}

#[test]
fn an_io_priority_has_eight_levels() {
    let with = |level: i64| json!({"process": {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": level}}});
    let refusal =
        |level: i64| format!("process.ioPriority.priority: {level} is not between 0 and 7");
    check(vec![
        (with(0), &[]),
        (with(7), &[]),
        (with(8), &[&refusal(8)]),
        (with(-1), &[&refusal(-1)]),
    ]);
}

#[test]
fn the_values_of_a_scheduler_go_together() {
    let with = |scheduler: Value| json!({"process": {"scheduler": scheduler}});
    check(vec![
        (
            with(json!({"policy": "SCHED_IDLE", "nice": -20, "priority": 0, "period": 0})),
            &[],
        ),
        (with(json!({"policy": "SCHED_RR", "priority": 99})), &[]),
        (
            with(
                json!({"policy": "SCHED_DEADLINE", "nice": 19, "runtime": 1024, "deadline": 1024}),
            ),
            &[],
        ),
        (
            with(json!({"policy": "SCHED_ISO", "nice": 20})),
            &[
                "process.scheduler.policy: no kernel implements SCHED_ISO",
                "process.scheduler.nice: 20 is not between -20 and 19",
            ],
        ),
        (
            with(json!({"policy": "SCHED_FIFO", "runtime": 5})),
            &[
                "process.scheduler.priority: 0 is not between 1 and 99, as SCHED_FIFO needs it",
                "process.scheduler.runtime: SCHED_FIFO has none (SCHED_DEADLINE has)",
            ],
        ),
        (
            with(json!({"policy": "SCHED_BATCH", "priority": 1})),
            &["process.scheduler.priority: SCHED_BATCH has none (SCHED_FIFO and SCHED_RR have)"],
        ),
        (
            with(
                json!({"policy": "SCHED_DEADLINE", "runtime": 1000, "deadline": 900, "period": 800}),
            ),
            &[
                "process.scheduler.runtime: 1000 is less than 1024, the shortest",
                "process.scheduler.deadline: 900 is less than the runtime, 1000",
                "process.scheduler.period: 800 is less than the deadline, 900",
            ],
        ),
    ]);
}

#[test]
fn names_need_a_uts_namespace_and_fit_it() {
    let own = json!([{"type": "mount"}, {"type": "uts"}]);
    let joined = json!([{"type": "mount"}, {"type": "uts", "path": "/proc/9/ns/uts"}]);
    check(vec![
        (json!({"hostname": "", "domainname": ""}), &[]),
        (json!({"hostname": "a", "linux": {"namespaces": own}}), &[]),
        (
            json!({"hostname": "a", "linux": {"namespaces": joined}}),
            &[],
        ),
        (
            json!({"hostname": "a", "domainname": "b"}),
            &[
                "hostname: needs a uts namespace in linux.namespaces",
                "domainname: needs a uts namespace in linux.namespaces",
            ],
        ),
        (
            json!({"hostname": "a".repeat(65), "domainname": "a\0", "linux": {"namespaces": own}}),
            &[
                "hostname: is longer than 64 bytes",
                "domainname: contains a control character",
            ],
        ),
    ]);
}

#[test]
fn time_offsets_need_a_time_namespace_of_their_own_and_its_clocks() {
    let linux = |namespaces: &str, offsets: &str| {
        let text =
            format!(r#"{{"linux": {{"namespaces": [{namespaces}], "timeOffsets": {offsets}}}}}"#);
        serde_json::from_str(&text).unwrap()
    };
    let own = r#"{"type": "mount"}, {"type": "time"}"#;
    let joined = r#"{"type": "mount"}, {"type": "time", "path": "/proc/9/ns/time"}"#;
    let lacking =
        "linux.timeOffsets: needs a time namespace of the container's own in linux.namespaces";
    check(vec![
        (linux(own, r#"{"monotonic": {"nanosecs": 999999999}}"#), &[]),
        (linux(r#"{"type": "mount"}"#, "{}"), &[]),
        (
            linux(r#"{"type": "mount"}"#, r#"{"boottime": {"secs": 1}}"#),
            &[lacking],
        ),
        (linux(joined, r#"{"boottime": {"secs": 1}}"#), &[lacking]),
        (
            linux(own, r#"{"realtime": {"secs": 1}}"#),
            &[
                "linux.timeOffsets.realtime: is not a clock with an offset (expected boottime or monotonic)",
            ],
        ),
        (
            linux(own, r#"{"boottime": {"nanosecs": 1000000000}}"#),
            &["linux.timeOffsets.boottime.nanosecs: is not below 1000000000"],
        ),
    ]);
}

#[test]
fn each_namespace_stands_once_and_is_joined_by_an_absolute_path() {
    check(vec![
        (
            json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "pid", "path": "/x"}]}}),
            &["linux.namespaces[2].type: the same type as linux.namespaces[1]"],
        ),
        (
            json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "pid", "path": "x"}]}}),
            &["linux.namespaces[1].path: \"x\" is not an absolute path"],
        ),
    ]);
}

#[test]
fn root_of_a_user_namespace_mounts_in_a_mount_namespace_of_its_own_only() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let wants = json!({
        "root": {"readonly": true},
        "mounts": [{"destination": "/proc", "type": "proc"}],
        "linux": {
            "namespaces": [{"type": "user"}],
            "uidMappings": map,
            "gidMappings": map,
            "devices": [{"path": "/dev/x", "type": "p"}],
            "maskedPaths": ["/a"],
            "readonlyPaths": ["/b"],
            "rootfsPropagation": "private",
        },
    });
    let places = [
        "root.readonly",
        "mounts",
        "linux.rootfsPropagation",
        "linux.devices",
        "linux.maskedPaths",
        "linux.readonlyPaths",
    ];
    let found = refused(wants.clone());
    let expected = places.map(|place| {
        format!("{place}: in a user namespace this needs a mount namespace in linux.namespaces")
    });
    assert_eq!(found, expected);
    let mut joins = wants.clone();
    merge(
        &mut joins,
        json!({"linux": {"namespaces": [{"type": "user"}, {"type": "mount", "path": "/proc/9/ns/mnt"}]}}),
    );
    let expected = places.map(|place| {
        format!("{place}: in a new user namespace this needs a new mount namespace, but linux.namespaces joins one by path")
    });
    assert_eq!(refused(joins), expected);
    let mut without = wants;
    merge(
        &mut without,
        json!({"linux": {"namespaces": [], "uidMappings": [], "gidMappings": []}}),
    );
    assert_eq!(refused(without), Vec::<String>::new());
}

fn mount(destination: &str) -> Value {
    json!({"mounts": [{"destination": destination, "type": "tmpfs"}]})
}

#[test]
fn nothing_takes_the_place_of_the_root_or_of_proc() {
    for destination in ["/", "//", "//..", "/a/.."] {
        assert_eq!(
            refused(mount(destination)),
            ["mounts[0].destination: is the root itself (root.path says what is mounted there)"]
        );
    }
    for destination in [
        "/proc/self",
        "/proc/self/attr",
        "/proc/sys",
        "/proc/self/../self/attr",
        "/a/../proc//sys/",
        "/proc/cpuinfo/x",
        "/proc/sys/kernel",
    ] {
        assert_eq!(
            refused(mount(destination)),
            [format!(
                "mounts[0].destination: {destination:?} is inside /proc"
            )]
        );
    }
    for destination in [
        "/procx",
        "/a/proc",
        "/proc/cpuinfo",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/crypto/fips_enabled",
    ] {
        assert!(refused(mount(destination)).is_empty(), "{destination}");
    }
    let problem =
        "mounts[0].destination: only a proc mount or a bind mount of /proc can be at \"/proc\"";
    let bind = |source: &str| json!({"mounts": [{"destination": "/proc", "type": "bind", "source": source}]});
    check(vec![
        (mount("/proc"), &[problem]),
        (bind("/tmp"), &[problem]),
        (bind("/proc"), &[]),
        (
            json!({"mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}]}),
            &[],
        ),
        // The type of a bind mount doesn't matter.
        (
            json!({"mounts": [{"destination": "/proc", "type": "proc", "source": "/x", "options": ["rbind"]}]}),
            &[problem],
        ),
    ]);
}

#[test]
fn a_mount_says_what_and_where() {
    check(vec![
        (mount(""), &["mounts[0].destination: is empty"]),
        (mount("/a\0"), &["mounts[0].destination: contains a NUL"]),
        (
            json!({"mounts": [{"destination": "/a"}, {"destination": "/b", "type": ""}]}),
            &[
                "mounts[0].type: is missing (only a bind mount can do without)",
                "mounts[1].type: is missing (only a bind mount can do without)",
            ],
        ),
        (
            json!({"mounts": [{"destination": "/a", "source": "/x", "options": ["rbind", "ro"]}]}),
            &[],
        ),
        (
            json!({"mounts": [{"destination": "/a", "type": "bind"}, {"destination": "/b", "type": "bind", "source": ""}]}),
            &[
                "mounts[0].source: is missing, for a bind mount",
                "mounts[1].source: is empty",
            ],
        ),
        (
            json!({"mounts": [{"destination": "/a", "type": "tmpfs", "source": ""}]}),
            &[],
        ),
    ]);
}

#[test]
fn paths_that_are_masked_or_read_only_are_absolute_and_not_the_root() {
    check(vec![
        (
            json!({"linux": {"maskedPaths": ["/a", "/a", "b", ""], "readonlyPaths": ["/", "/x/.."]}}),
            &[
                "linux.maskedPaths[2]: \"b\" is not an absolute path",
                "linux.maskedPaths[3]: is empty",
                "linux.readonlyPaths[0]: is the root itself (root.readonly makes that read-only)",
                "linux.readonlyPaths[1]: is the root itself (root.readonly makes that read-only)",
            ],
        ),
        (json!({"linux": {"rootfsPropagation": "rslave"}}), &[]),
        (json!({"linux": {"rootfsPropagation": ""}}), &[]),
    ]);
    let found = refused(json!({"linux": {"rootfsPropagation": "sharde"}}));
    assert!(
        found
            .first()
            .unwrap()
            .starts_with("linux.rootfsPropagation: unknown propagation \"sharde\"")
    );
}

#[test]
fn devices_are_nodes_that_the_kernel_can_make() {
    let devices = |list: Value| json!({"linux": {"devices": list}});
    check(vec![
        (
            devices(json!([
                {"path": "/dev/a", "type": "c", "major": 4095, "minor": 1_048_575, "fileMode": 0o7777, "uid": 1},
                {"path": "/x/fifo", "type": "p"},
                {"path": "/dev/a", "type": "c", "major": 4095, "minor": 1_048_575},
            ])),
            &[],
        ),
        (
            devices(json!([
                {"path": "dev/a", "type": "c"}, {"path": "/dev/../a", "type": "c"}, {"path": "/", "type": "c"},
                {"path": "/./", "type": "c"}, {"type": "c"}, {"path": "/dev/a/", "type": "a"},
            ])),
            &[
                "linux.devices[0].path: \"dev/a\" is not an absolute path",
                "linux.devices[1].path: \"/dev/../a\" contains ..",
                "linux.devices[2].path: \"/\" does not name a file",
                "linux.devices[3].path: \"/./\" does not name a file",
                "linux.devices[4].path: is empty",
                "linux.devices[5].type: \"a\" is for rules only (expected one of c, b, u, p)",
            ],
        ),
        (
            devices(json!([
                {"path": "/dev/a", "type": "c", "major": 4096, "minor": -2, "fileMode": 65536, "uid": u32::MAX, "gid": u32::MAX},
                {"path": "/dev/a", "type": "b"},
            ])),
            &[
                "linux.devices[0].major: 4096 is not between 0 and 4095",
                "linux.devices[0].minor: -2 is not between 0 and 1048575",
                "linux.devices[0].fileMode: 65536 is not a file mode",
                "linux.devices[0].uid: 4294967295 is not an id",
                "linux.devices[0].gid: 4294967295 is not an id",
                "linux.devices[1].path: another device at the same path as linux.devices[0]",
            ],
        ),
    ]);
}

#[test]
fn annotations_have_keys_and_sysctl_has_namespaces() {
    check(vec![
        (json!({"annotations": {"a": ""}}), &[]),
        (
            json!({"annotations": {"": "x"}}),
            &["annotations: contains an empty key"],
        ),
        (
            json!({"annotations": {"a\0": "x"}}),
            &["annotations: the key \"a\\0\" contains a NUL"],
        ),
        (
            json!({"linux": {"sysctl": {"kernel.msgmax": "1", "net.ipv4.ip_forward": "1"}}}),
            &[
                "linux.sysctl[\"kernel.msgmax\"]: needs an ipc namespace in linux.namespaces",
                "linux.sysctl[\"net.ipv4.ip_forward\"]: needs a network namespace in linux.namespaces",
            ],
        ),
        (
            json!({"linux": {
                "sysctl": {"kernel.msgmax": "1", "net.ipv4.ip_forward": "1"},
                "namespaces": [{"type": "mount"}, {"type": "ipc"}, {"type": "network", "path": "/n"}],
            }}),
            &[],
        ),
    ]);
}

#[test]
fn a_process_alone_has_its_places_below_the_prefix() {
    let value = json!({"user": {"uid": u32::MAX}, "cwd": "x"});
    let found = check_process(&serde_json::from_value(value).unwrap(), "process");
    let places: Vec<_> = found
        .iter()
        .map(|v| v.origin.config_field().unwrap())
        .collect();
    assert_eq!(places, ["process.args", "process.user.uid", "process.cwd"]);
}

#[test]
fn values_are_quoted_in_one_short_line() {
    assert_eq!(quote_value("a\nb\"\u{1b}"), r#""a\nb\"\u{1b}""#);
    assert_eq!(
        quote_value(&"é".repeat(100)),
        format!("\"{}\"...", "é".repeat(80))
    );
}

#[test]
fn hooks_are_checked_by_their_places() {
    let hook = json!({"path": "/x", "args": ["x", ""], "env": ["A=", "B=c=d"], "timeout": 1});
    check(vec![
        (json!({"hooks": {"prestart": [hook], "poststop": []}}), &[]),
        (
            json!({"hooks": {"prestart": [hook, {"path": "x", "timeout": 0}]}}),
            &[
                "hooks.prestart[1].path: \"x\" is not an absolute path",
                "hooks.prestart[1].timeout: 0 is not a positive number of seconds",
            ],
        ),
        (
            json!({"hooks": {"createRuntime": [{"path": ""}], "poststop": [{"path": "/x", "timeout": -3}]}}),
            &[
                "hooks.createRuntime[0].path: is empty",
                "hooks.poststop[0].timeout: -3 is not a positive number of seconds",
            ],
        ),
        (
            json!({"hooks": {"startContainer": [{"path": "/x", "args": ["a\0"], "env": ["A", "=b"]}]}}),
            &[
                "hooks.startContainer[0].args[0]: contains a NUL",
                "hooks.startContainer[0].env[0]: \"A\" has no =",
                "hooks.startContainer[0].env[1]: \"=b\" has no name before the =",
            ],
        ),
    ]);
}
