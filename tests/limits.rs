//! Every field of linux.resources, set by `create` and by `update`, and read back from the kernel.
//! Refused values are in `cgroups` and `update`. On a hybrid host only hugetlb can be limited.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Container, kernel, skipped};

/// A limit, the controllers that it needs, and the kernel's files that must show the limit.
struct Case {
    controllers: &'static [&'static str],
    resources: Value,
    files: Vec<(&'static str, String)>,
}

fn case(
    controllers: &'static [&'static str],
    resources: Value,
    files: &[(&'static str, &str)],
) -> Case {
    Case {
        controllers,
        resources,
        files: files.iter().map(|(f, v)| (*f, (*v).to_owned())).collect(),
    }
}

/// Checks the limits on a container created with them, and on a running one updated to them.
fn check(cases: &[Case]) {
    for Case {
        controllers,
        resources,
        files,
    } in cases
    {
        if !kernel::has_controllers(controllers) {
            return;
        }
        let mut c = container!();
        c.edit(|j| merge(&mut j["linux"]["resources"], resources));
        c.create().ok();
        compare(&c, files, "create", resources);
        let mut c = container!();
        c.run_detached().ok();
        update(&c, resources).ok();
        compare(&c, files, "update", resources);
        assert_eq!(c.status(), "running");
    }
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().unwrap() {
        into[key] = value.clone();
    }
}

fn compare(c: &Container, files: &[(&str, String)], verb: &str, resources: &Value) {
    for (file, value) in files {
        let text =
            fs::read_to_string(c.cgroup().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let found = text.lines().any(|line| line.trim() == value);
        assert!(
            found,
            "{verb} {resources}: {file} says {text:?} instead of {value:?}"
        );
    }
}

pub(crate) fn update(c: &Container, resources: &Value) -> crate::harness::Output {
    let file = c.scratch().join("resources.json");
    fs::write(&file, resources.to_string()).unwrap();
    c.runtime(&["update", "--resources", file.to_str().unwrap(), &c.id])
}

#[test]
fn limits_of_memory_and_swap_are_in_the_kernels_files() {
    let memory: &[&str] = &["memory"];
    check(&[
        case(
            memory,
            json!({"memory": {"limit": 67_108_864, "reservation": 33_554_432}}),
            &[
                ("memory.max", "67108864"),
                ("memory.low", "33554432"),
                ("memory.swap.max", "max"),
            ],
        ),
        case(
            memory,
            json!({"memory": {"limit": 67_108_864, "swap": 100_663_296}}),
            &[("memory.max", "67108864"), ("memory.swap.max", "33554432")],
        ),
        case(
            memory,
            json!({"memory": {"limit": 67_108_864, "swap": 67_108_864}}),
            &[("memory.max", "67108864"), ("memory.swap.max", "0")],
        ),
        case(
            memory,
            json!({"memory": {"limit": 67_108_864, "swap": -1, "checkBeforeUpdate": true}}),
            &[("memory.max", "67108864"), ("memory.swap.max", "max")],
        ),
        case(
            memory,
            json!({"memory": {"limit": -1, "swap": 67_108_864, "reservation": -1}}),
            &[
                ("memory.max", "max"),
                ("memory.swap.max", "67108864"),
                ("memory.low", "max"),
            ],
        ),
        case(
            memory,
            json!({"memory": {"limit": 0, "swap": 0, "reservation": 0, "swappiness": 0, "kernel": 0, "kernelTCP": 0,
                "disableOOMKiller": false, "useHierarchy": true}}),
            &[
                ("memory.max", "max"),
                ("memory.swap.max", "max"),
                ("memory.low", "0"),
            ],
        ),
    ]);
}

#[test]
fn limits_of_cpu_are_in_the_kernels_files() {
    let cpu: &[&str] = &["cpu"];
    check(&[
        case(
            cpu,
            json!({"cpu": {"shares": 512, "quota": 50_000, "period": 200_000, "burst": 1000}}),
            &[
                ("cpu.weight", "59"),
                ("cpu.max", "50000 200000"),
                ("cpu.max.burst", "1000"),
            ],
        ),
        case(
            cpu,
            json!({"cpu": {"quota": 5000}}),
            &[("cpu.max", "5000 100000")],
        ),
        case(
            cpu,
            json!({"cpu": {"period": 50_000}}),
            &[("cpu.max", "max 50000")],
        ),
        case(
            cpu,
            json!({"cpu": {"quota": -1, "shares": 2}}),
            &[("cpu.max", "max 100000"), ("cpu.weight", "1")],
        ),
        case(
            cpu,
            json!({"cpu": {"idle": 1, "shares": 1024}}),
            &[("cpu.idle", "1")],
        ),
        case(
            cpu,
            json!({"cpu": {"idle": 0, "shares": 262_144, "realtimeRuntime": 0, "realtimePeriod": 0}}),
            &[("cpu.idle", "0"), ("cpu.weight", "10000")],
        ),
        case(
            &["cpuset"],
            json!({"cpu": {"cpus": "0", "mems": "0"}}),
            &[
                ("cpuset.cpus", "0"),
                ("cpuset.mems", "0"),
                ("cpuset.cpus.effective", "0"),
            ],
        ),
    ]);
}

#[test]
fn a_weight_ends_idleness() {
    if !kernel::has_controllers(&["cpu"]) {
        return;
    }
    for weight in [
        json!({"cpu": {"shares": 512}}),
        json!({"unified": {"cpu.weight": "59"}}),
    ] {
        let mut c = container!();
        let dir = c.cgroup();
        let value = |file| kernel::cgroup_value(&dir, file);
        // Creating a container enables the controller. The second `create` uses the empty cgroup
        // that the test makes in between.
        c.create().ok();
        c.delete(&["--force"]).ok();
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("cpu.idle"), "1").unwrap();
        c.edit(|j| merge(&mut j["linux"]["resources"], &weight));
        c.create().ok();
        assert_eq!(
            (value("cpu.idle"), value("cpu.weight")),
            ("0".into(), "59".into())
        );
        update(&c, &json!({"unified": {"cpu.idle": "1"}})).ok();
        assert_eq!(value("cpu.idle"), "1");
        // If a later write fails, the cgroup becomes idle again.
        let mut refused = weight.clone();
        merge(
            &mut refused,
            &json!({"unified": {"cpu.weight": "59", "cpuset.cpus": "4095"}}),
        );
        update(&c, &refused).exits(1).says("cpuset.cpus");
        assert_eq!(value("cpu.idle"), "1");
        update(&c, &weight).ok();
        assert_eq!(
            (value("cpu.idle"), value("cpu.weight")),
            ("0".into(), "59".into())
        );
    }
}

#[test]
fn weight_and_idleness_at_once_are_refused_by_name() {
    let both = [
        (json!({"cpu": {"shares": 2, "idle": 1}}), "cpu.shares"),
        (
            json!({"cpu": {"idle": 1}, "unified": {"cpu.weight": "7"}}),
            "unified[\"cpu.weight\"]",
        ),
        (
            json!({"unified": {"cpu.idle": "1", "cpu.weight.nice": "7"}}),
            "unified[\"cpu.weight.nice\"]",
        ),
    ];
    for (resources, place) in both {
        let mut c = container!();
        c.create().ok();
        let says = format!("{place}: unable to apply both cpu.weight and cpu.idle");
        update(&c, &resources).exits(1).says(&says).one_line();
        c.delete(&["--force"]).ok();
        c.edit(|j| merge(&mut j["linux"]["resources"], &resources));
        c.create().exits(1).says(&says).one_line();
        c.assert_nothing_left();
    }
}

#[test]
fn a_period_that_no_controller_can_keep_is_refused() {
    let controllers = kernel::cgroup2_mount().unwrap().join("cgroup.controllers");
    let controllers = fs::read_to_string(controllers).unwrap();
    let mut c = container!();
    if controllers.split_whitespace().any(|name| name == "cpu") {
        c.edit(|j| j["linux"]["resources"]["cpu"] = json!({"period": 50_000}));
        c.create().ok();
        return assert_eq!(kernel::cgroup_value(&c.cgroup(), "cpu.max"), "max 50000");
    }
    // Engines send these values when the user sets none.
    c.edit(|j| {
        j["linux"]["resources"]["cpu"] = json!({"shares": 1024, "period": 100_000, "quota": 0})
    });
    c.create().ok();
    update(&c, &json!({"cpu": {"period": 50_000}}))
        .exits(1)
        .says("cpu.period: the cpu controller is not available")
        .one_line();
    update(&c, &json!({"cpu": {"period": 50_000, "quota": -1}})).ok();
    c.delete(&["--force"]).ok();
    c.edit(|j| j["linux"]["resources"]["cpu"] = json!({"period": 50_000}));
    c.create()
        .exits(1)
        .says("linux.resources.cpu.period: the cpu controller is not available")
        .one_line();
    c.assert_nothing_left();
}

#[test]
fn a_cgroup_without_a_cpuset_gets_that_of_the_cgroup_above() {
    if !kernel::has_controllers(&["cpuset"]) {
        return;
    }
    let mut c = container!();
    let path = format!("{}/pod/box", c.parent_cgroup_path());
    let pod = c.cgroup().parent().unwrap().join("pod");
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    c.create().ok();
    fs::write(pod.join("cpuset.cpus"), "0").unwrap();
    let effective = |dir: &std::path::Path| kernel::cgroup_value(dir, "cpuset.cpus.effective");
    assert_eq!(effective(&pod.join("box")), "0");
    assert!(!kernel::cgroup_value(&pod.join("box"), "cpuset.mems.effective").is_empty());
    c.delete(&["--force"]).ok();
    fs::remove_dir(&pod).unwrap();
}

#[test]
fn the_limit_of_processes_is_in_the_kernels_file() {
    let pids: &[&str] = &["pids"];
    check(&[
        case(pids, json!({"pids": {"limit": 7}}), &[("pids.max", "7")]),
        case(pids, json!({"pids": {"limit": -1}}), &[("pids.max", "max")]),
        case(pids, json!({"pids": {}}), &[("pids.max", "max")]),
    ]);
}

#[test]
fn a_limit_of_no_processes_is_none_in_a_config_of_before_1_3() {
    let mut c = container!();
    for (version, limited) in [("1.2.0", false), ("1.3.0", true)] {
        c.edit(|j| {
            j["ociVersion"] = json!(version);
            j["linux"]["resources"]["pids"] = json!({"limit": 0});
        });
        let output = c.create();
        if !kernel::has_controllers(&["pids"]) {
            // Without the controller, a limit is an error. A config without a limit is accepted.
            let code = if limited { 1 } else { 0 };
            output.exits(code);
        } else {
            let limit = if limited { "1" } else { "max" };
            assert_eq!(kernel::cgroup_value(&c.cgroup(), "pids.max"), limit);
        }
        if output.code == 0 {
            c.delete(&["--force"]).ok();
            c.wait();
        }
    }
}

/// Returns the major and minor number of a disk of this machine.
fn disk() -> Option<(u64, u64)> {
    let mut disks: Vec<_> = fs::read_dir("/sys/block").ok()?.flatten().collect();
    disks.retain(|disk| {
        let name = disk.file_name().into_string().unwrap();
        ["nvme", "sd", "vd"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    });
    let text = fs::read_to_string(disks.first()?.path().join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[test]
fn limits_of_block_devices_are_in_the_kernels_files() {
    let io: &[&str] = &["io"];
    if !kernel::has_controllers(io) {
        return;
    }
    let Some((major, minor)) = disk() else {
        return skipped("no disk");
    };
    let throttle = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let line = |fields: &str| format!("{major}:{minor} {fields}");
    let limits = line("rbps=1048576 wbps=2097152 riops=100 wiops=200");
    check(&[
        case(
            io,
            json!({"blockIO": {
                "throttleReadBpsDevice": throttle(1_048_576), "throttleWriteBpsDevice": throttle(2_097_152),
                "throttleReadIOPSDevice": throttle(100), "throttleWriteIOPSDevice": throttle(200),
            }}),
            &[("io.max", &limits)],
        ),
        case(
            io,
            json!({"blockIO": {
                "leafWeight": 0, "throttleReadBpsDevice": throttle(5), "throttleWriteBpsDevice": throttle(0),
            }}),
            &[("io.max", &line("rbps=5 wbps=max riops=max wiops=max"))],
        ),
    ]);
}

#[test]
fn weights_of_block_devices_are_in_the_kernels_files() {
    if !kernel::has_controllers(&["io"]) {
        return;
    }
    let mut c = container!();
    c.edit(|j| j["linux"]["resources"]["blockIO"] = json!({"weight": 500}));
    let output = c.create();
    let file = |name: &str| kernel::cgroup_value(&c.cgroup(), name);
    if c.cgroup().join("io.bfq.weight").exists() {
        assert!(["500", "default 500"].contains(&file("io.bfq.weight").as_str()));
    } else if c.cgroup().join("io.weight").exists() {
        assert_eq!(file("io.weight"), "default 4950");
    } else {
        output.exits(1).says("linux.resources.blockIO.weight");
        return skipped("neither io.bfq.weight nor io.weight in this kernel");
    }
    update(&c, &json!({"blockIO": {"weight": 100}})).ok();
    let weights =
        ["io.bfq.weight", "io.weight"].map(|name| fs::read_to_string(c.cgroup().join(name)));
    let weights: Vec<String> = weights.into_iter().flatten().collect();
    assert!(
        weights
            .iter()
            .any(|text| ["100", "default 100", "default 910"].contains(&text.trim())),
        "{weights:?}"
    );
    // Whether a disk accepts a weight depends on its scheduler. If it does, the kernel shows the
    // weight. If not, the error names the field.
    let Some((major, minor)) = disk() else { return };
    let output = update(
        &c,
        &json!({"blockIO": {"weightDevice": [{"major": major, "minor": minor, "weight": 300}]}}),
    );
    if output.code == 0 {
        let line = [
            format!("{major}:{minor} 300"),
            format!("{major}:{minor} 2930"),
        ];
        let has = |name: &str| {
            let text = fs::read_to_string(c.cgroup().join(name)).unwrap_or_default();
            text.lines().any(|l| line.iter().any(|wanted| wanted == l))
        };
        assert!(has("io.bfq.weight") || has("io.weight"));
    } else {
        output.says("blockIO.weightDevice[0].weight").one_line();
    }
}

#[test]
fn limits_of_huge_pages_and_their_reservation_are_in_the_kernels_files() {
    check(&[
        case(
            &["hugetlb"],
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 8_388_608}]}),
            &[
                ("hugetlb.2MB.max", "8388608"),
                ("hugetlb.2MB.rsvd.max", "8388608"),
            ],
        ),
        case(
            &["hugetlb"],
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}),
            &[("hugetlb.2MB.max", "0"), ("hugetlb.2MB.rsvd.max", "0")],
        ),
    ]);
}

#[test]
fn a_limit_for_an_rdma_device_that_is_not_there_is_refused_by_name() {
    if !kernel::has_controllers(&["rdma"]) {
        return;
    }
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["resources"]["rdma"] = json!({"mlx5_9": {"hcaHandles": 3, "hcaObjects": 10_000}})
    });
    c.create()
        .exits(1)
        .says("linux.resources.rdma[\"mlx5_9\"]")
        .says("write \"mlx5_9 hca_handle=3 hca_object=10000\" to")
        .one_line();
    c.assert_nothing_left();
}

#[test]
fn unified_wins_over_the_fields_for_the_same_file() {
    check(&[case(
        &["memory", "pids", "cpu"],
        json!({
            "pids": {"limit": 20}, "memory": {"limit": 67_108_864}, "cpu": {"shares": 512, "quota": 5000},
            "unified": {"pids.max": "42", "memory.max": "50331648", "memory.high": "41943040",
                "memory.oom.group": "1", "cpu.weight": "7", "cpu.max": "max 50000"},
        }),
        &[
            ("pids.max", "42"),
            ("memory.max", "50331648"),
            ("memory.high", "41943040"),
            ("memory.oom.group", "1"),
            ("cpu.weight", "7"),
            ("cpu.max", "max 50000"),
        ],
    )]);
}

#[test]
fn a_file_of_unified_with_several_devices_is_written_line_by_line() {
    if !kernel::has_controllers(&["io"]) {
        return;
    }
    let Some((major, minor)) = disk() else {
        return skipped("no disk");
    };
    check(&[case(
        &["io"],
        json!({"unified": {"io.max": format!("{major}:{minor} riops=7\n{major}:{minor} wiops=9\n")}}),
        &[(
            "io.max",
            &format!("{major}:{minor} rbps=max wbps=max riops=7 wiops=9"),
        )],
    )]);
}

#[test]
fn names_in_another_case_are_limits_too() {
    check(&[case(
        &["hugetlb"],
        json!({"HugepageLimits": [{"PageSize": "2MB", "LIMIT": 4_194_304}]}),
        &[("hugetlb.2MB.max", "4194304")],
    )]);
}

#[test]
fn kernel_memory_is_a_warning_and_nothing_else() {
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["resources"]["memory"] = json!({"kernel": 67_108_864, "kernelTCP": 67_108_864})
    });
    let output = c.finish(c.command(&[
        "--log-level",
        "warning",
        "create",
        "--bundle",
        c.dir().to_str().unwrap(),
        &c.id,
    ]));
    output
        .ok()
        .says("linux.resources.memory.kernel")
        .says("linux.resources.memory.kernelTCP");
}

#[test]
fn fields_that_only_cgroup_v1_has_are_refused_by_name() {
    for (field, resources) in [
        ("memory.swappiness", json!({"memory": {"swappiness": 60}})),
        (
            "memory.disableOOMKiller",
            json!({"memory": {"disableOOMKiller": true}}),
        ),
        (
            "cpu.realtimeRuntime",
            json!({"cpu": {"realtimeRuntime": 1000}}),
        ),
        (
            "cpu.realtimePeriod",
            json!({"cpu": {"realtimePeriod": 1000}}),
        ),
        (
            "blockIO.leafWeight",
            json!({"blockIO": {"leafWeight": 100}}),
        ),
        ("network.classID", json!({"network": {"classID": 1}})),
        (
            "network.priorities",
            json!({"network": {"priorities": [{"name": "lo", "priority": 1}]}}),
        ),
    ] {
        let mut c = container!();
        c.edit(|j| merge(&mut j["linux"]["resources"], &resources));
        c.create()
            .exits(1)
            .says(&format!("linux.resources.{field}: only cgroup v1 has this"))
            .one_line();
        c.assert_nothing_left();
    }
}
