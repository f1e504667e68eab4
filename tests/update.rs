//! `update` by flags, file and stdin, on created, running and paused containers, and when refused.
//! `limits` tests that each field reaches its file.

use std::fs::{self, File};

use serde_json::{Value, json};

use crate::harness::{Container, eventually, kernel};
use crate::limits::update;

const DEPTH: &str = "cgroup.max.depth";

fn value(c: &Container, file: &str) -> String {
    kernel::cgroup_value(&c.cgroup(), file)
}

#[test]
fn limits_come_from_a_file_or_from_stdin() {
    let mut c = container!();
    c.create().ok();
    update(&c, &json!({"unified": {DEPTH: "7"}})).ok();
    assert_eq!(value(&c, DEPTH), "7");
    let file = c.scratch().join("stdin");
    for (flags, depth) in [
        (&["--resources", "-"][..], "9"),
        (&["-r", "-"], "11"),
        (&["--resources=-"], "13"),
    ] {
        fs::write(&file, json!({"unified": {DEPTH: depth}}).to_string()).unwrap();
        let mut command = c.command(&["update"]);
        command
            .args(flags)
            .arg(&c.id)
            .stdin(File::open(&file).unwrap());
        let output = c.finish(command);
        output.ok();
        assert_eq!(
            (output.stdout(), output.stderr()),
            (String::new(), String::new())
        );
        assert_eq!(value(&c, DEPTH), depth);
    }
}

#[test]
fn a_pids_limit_of_0_changes_nothing_and_is_a_warning() {
    let mut c = container!();
    c.create().ok();
    let (file, id) = (c.scratch().join("limits"), c.id.clone());
    fs::write(&file, json!({"pids": {"limit": 0}}).to_string()).unwrap();
    let file = file.to_str().unwrap();
    for (flags, place) in [
        (["--pids-limit", "0"], "--pids-limit"),
        (["--resources", file], "limits: pids.limit"),
    ] {
        let before = &["--log-level", "warning", "update"][..];
        let output = c.runtime(&[before, &flags, &[&id]].concat());
        output.ok().one_line();
        output.says(&format!("{place}: 0 is ignored"));
    }
}

#[test]
fn a_created_a_running_and_a_paused_container_can_be_updated() {
    let mut c = container!();
    c.create().ok();
    update(&c, &json!({"unified": {DEPTH: "3"}})).ok();
    assert_eq!(
        (value(&c, DEPTH).as_str(), c.status().as_str()),
        ("3", "created")
    );
    c.start().ok();
    update(&c, &json!({"unified": {DEPTH: "4"}})).ok();
    assert_eq!(
        (value(&c, DEPTH).as_str(), c.status().as_str()),
        ("4", "running")
    );
    c.runtime(&["pause", &c.id]).ok();
    update(&c, &json!({"unified": {DEPTH: "5"}})).ok();
    assert_eq!(
        (value(&c, DEPTH).as_str(), c.status().as_str()),
        ("5", "paused")
    );
    c.runtime(&["resume", &c.id]).ok();
}

#[test]
fn every_flag_of_runc_sets_its_limit() {
    if !kernel::has_controllers(&["memory", "cpu", "cpuset", "pids"]) {
        return;
    }
    let mut c = container!();
    c.run_detached().ok();
    for (flags, file, expected) in [
        ("--memory 64M", "memory.max", "67108864"),
        ("-m 67108865", "memory.max", "67108864"),
        ("--memory-reservation 32m", "memory.low", "33554432"),
        ("--memory-swap 96M", "memory.swap.max", "33554432"),
        ("--memory-swap -1", "memory.swap.max", "max"),
        ("--memory 50M --memory-swap 50M", "memory.swap.max", "0"),
        ("--memory 40M", "memory.swap.max", "0"),
        ("--memory -1", "memory.swap.max", "max"),
        ("--memory=-1", "memory.max", "max"),
        ("--cpu-share 512", "cpu.weight", "59"),
        (
            "--cpu-period 900000 --cpu-quota 600000",
            "cpu.max",
            "600000 900000",
        ),
        ("--cpu-period 500000", "cpu.max", "600000 500000"),
        ("--cpu-quota 300000", "cpu.max", "300000 500000"),
        ("--cpu-burst 200000", "cpu.max.burst", "200000"),
        (
            "--cpu-quota 100000 --cpu-burst 50000",
            "cpu.max.burst",
            "50000",
        ),
        ("--cpu-burst 0", "cpu.max.burst", "0"),
        ("--cpu-quota -1", "cpu.max", "max 500000"),
        ("--cpu-idle 1", "cpu.idle", "1"),
        ("--cpu-idle 0", "cpu.idle", "0"),
        ("--cpu-idle 1", "cpu.idle", "1"),
        ("--cpu-share 1024", "cpu.idle", "0"),
        ("--cpu-idle 1", "cpu.idle", "1"),
        ("--cpu-share 256", "cpu.weight", "35"),
        (
            "--cpu-rt-period 0 --cpu-rt-runtime 0 --pids-limit 30",
            "pids.max",
            "30",
        ),
        ("--pids-limit -1", "pids.max", "max"),
        ("--cpuset-cpus 0", "cpuset.cpus", "0"),
        ("--cpuset-mems 0", "cpuset.mems", "0"),
        (
            "--kernel-memory 64M --kernel-memory-tcp 64M",
            "memory.max",
            "max",
        ),
    ] {
        let mut args = vec!["update"];
        args.extend(flags.split(' '));
        args.push(&c.id);
        c.runtime(&args).ok();
        assert_eq!(value(&c, file), expected, "{flags}");
    }
}

#[test]
fn a_value_that_the_kernel_refuses_changes_nothing_of_the_others() {
    let mut c = container!();
    if !kernel::has_controllers(&["hugetlb"]) {
        return;
    }
    c.edit(|j| j["linux"]["resources"]["unified"] = json!({DEPTH: "7"}));
    c.run_detached().ok();
    let limit = json!([{"pageSize": "2MB", "limit": 4_194_304}]);
    update(
        &c,
        &json!({"hugepageLimits": limit, "unified": {DEPTH: "9", "cgroup.max.descendants": "x"}}),
    )
    .exits(1)
    .says("resources.json: unified[\"cgroup.max.descendants\"]: write \"x\" to ")
    .says("EINVAL")
    .one_line();
    for (file, before) in [
        ("hugetlb.2MB.max", "max"),
        ("hugetlb.2MB.rsvd.max", "max"),
        (DEPTH, "7"),
    ] {
        assert_eq!(value(&c, file), before, "{file}");
    }
    assert_eq!(c.status(), "running");
}

#[test]
fn limits_of_every_controller_are_taken_back_when_the_last_is_refused() {
    if !kernel::has_controllers(&["memory", "cpu", "cpuset", "pids", "hugetlb"]) {
        return;
    }
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["resources"]["memory"] = json!({"limit": 134_217_728, "swap": 201_326_592});
        j["linux"]["resources"]["cpu"] =
            json!({"shares": 512, "quota": 50_000, "period": 100_000, "burst": 20_000});
        j["linux"]["resources"]["pids"] = json!({"limit": 50});
    });
    c.run_detached().ok();
    let files = [
        "memory.max",
        "memory.swap.max",
        "memory.low",
        "cpu.weight",
        "cpu.max",
        "cpu.max.burst",
        // cpuset.cpus and cpuset.mems can't be emptied while the cgroup has processes.
        "cpuset.cpus.effective",
        "cpuset.mems.effective",
        "pids.max",
        "hugetlb.2MB.max",
        "hugetlb.2MB.rsvd.max",
    ];
    let before = files.map(|file| value(&c, file));
    update(
        &c,
        &json!({
            "memory": {"limit": 67_108_864, "swap": -1, "reservation": 1_048_576},
            "cpu": {"shares": 1024, "quota": 10_000, "period": 50_000, "burst": 5000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 9}, "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
            "unified": {DEPTH: "x"},
        }),
    )
    .exits(1)
    .says(DEPTH);
    assert_eq!(files.map(|file| value(&c, file)), before);
}

#[test]
fn a_bad_value_is_refused_by_flag_before_anything_is_written() {
    let mut c = container!();
    c.create().ok();
    for (flags, says) in [
        ("--memory x", "--memory \"x\": expected a size"),
        ("--memory -5", "--memory \"-5\": expected a size"),
        (
            "--pids-limit seven",
            "--pids-limit \"seven\": expected a whole number",
        ),
        (
            "--cpu-quota 5",
            "--cpu-quota: 5 is neither negative nor at least 1000 us",
        ),
        ("--cpu-period 5", "--cpu-period: 5 is not between"),
        ("--cpu-idle 2", "--cpu-idle: 2 is neither 0 nor 1"),
        (
            "--cpu-idle 1 --cpu-share 512",
            "--cpu-share: unable to apply both cpu.weight and cpu.idle",
        ),
        (
            "--cpu-rt-runtime 5",
            "--cpu-rt-runtime: only cgroup v1 has this",
        ),
        (
            "--cpu-rt-period 5",
            "--cpu-rt-period: only cgroup v1 has this",
        ),
        (
            "--cpuset-cpus a",
            "--cpuset-cpus: \"a\" is not a list of numbers",
        ),
        (
            "--blkio-weight 5",
            "--blkio-weight: 5 is not between 10 and 1000",
        ),
        ("--memory-swap 5", "--memory-swap: needs memory.limit"),
        (
            "--memory 64M --memory-swap 32M",
            "--memory-swap: 33554432 is memory and swap together",
        ),
        (
            "--l3-cache-schema f",
            "--l3-cache-schema: \"f\" is not RESOURCE:DOMAIN=VALUE;...",
        ),
        (
            "--mem-bw-schema MB:0",
            "--mem-bw-schema: \"MB:0\" is not RESOURCE:DOMAIN=VALUE;...",
        ),
        (
            "--l3-cache-schema L3:0=f",
            "the container has no resctrl group",
        ),
        ("-r /nonexistent", "/nonexistent: open"),
        (
            "-r - --memory 5",
            "--resources excludes the flags of single limits",
        ),
    ] {
        let mut args = vec!["update"];
        args.extend(flags.split(' '));
        args.push(&c.id);
        c.runtime(&args).exits(1).says(says).one_line();
    }
    assert_eq!(c.status(), "created");
}

#[test]
fn a_bad_file_is_refused_by_place() {
    let mut c = container!();
    c.create().ok();
    let file = c.scratch().join("r.json");
    for (text, says) in [
        ("", "r.json: is empty"),
        ("[]", "r.json: not an object"),
        ("{", "r.json: "),
        (
            r#"{"memory":{"limit":"5"}}"#,
            "r.json: memory.limit: invalid type",
        ),
        (r#"{"memory":[]}"#, "r.json: memory: is not an object"),
        (
            r#"{"cpu":{"idle":7},"pids":{"limit":5}}"#,
            "r.json: cpu.idle: 7 is neither",
        ),
        (r#"{"unified":{"../x":"1"}}"#, "r.json: unified[\"../x\"]"),
        (
            r#"{"devices":[{"allow":true,"access":"q"}]}"#,
            "r.json: devices[0].access",
        ),
    ] {
        fs::write(&file, text).unwrap();
        c.runtime(&["update", "-r", file.to_str().unwrap(), &c.id])
            .exits(1)
            .says(says)
            .one_line();
    }
}

#[test]
fn an_empty_update_changes_nothing() {
    let mut c = container!();
    c.create().ok();
    c.runtime(&["update", &c.id]).ok();
    update(&c, &json!({})).ok();
    update(
        &c,
        &json!({"memory": {}, "cpu": {}, "pids": {}, "blockIO": {}, "devices": null}),
    )
    .ok();
}

#[test]
fn schemata_are_written_to_the_group_and_taken_back_when_a_limit_is_refused() {
    let mut c = container!();
    c.create().ok();
    // A directory stands in for the resctrl group that `create` would have recorded.
    let group = c.scratch().join("group");
    let schemata = group.join("schemata");
    fs::create_dir(&group).unwrap();
    let file = c.root().join(&c.id).join("state.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    record["rdt"] = json!({"group": group, "removed": false, "monitor": null});
    fs::write(&file, record.to_string()).unwrap();
    let before = "    L3:0=fff;1=fff\n    MB:0= 100;1= 100\n";
    for (flags, written) in [
        ("--l3-cache-schema L3:0=f;1=ff", "L3:0=f;1=ff\n"),
        ("--mem-bw-schema MB:0=20", "MB:0=20\n"),
        (
            "--l3-cache-schema L3:0=f --mem-bw-schema=MB:1=70 -r -",
            "L3:0=f\nMB:1=70\n",
        ),
        ("--l3-cache-schema= --mem-bw-schema=", before),
    ] {
        fs::write(&schemata, before).unwrap();
        let limits = c.scratch().join("limits");
        fs::write(&limits, json!({"unified": {DEPTH: "5"}}).to_string()).unwrap();
        let mut command = c.command(&["update"]);
        command.args(flags.split(' ')).arg(&c.id);
        command.stdin(File::open(limits).unwrap());
        c.finish(command).ok();
        assert_eq!(fs::read_to_string(&schemata).unwrap(), written, "{flags}");
    }
    assert_eq!(value(&c, DEPTH), "5");
    fs::write(&schemata, before).unwrap();
    c.runtime(&["update", "--l3-cache-schema=L3:0=f", "--cpu-idle=2", &c.id])
        .exits(1)
        .says("--cpu-idle: 2 is neither 0 nor 1");
    // A refused update restores the former schemata.
    assert_eq!(fs::read_to_string(&schemata).unwrap(), "L3:0=fff;1=fff\n");
}

#[test]
fn a_stopped_and_an_absent_container_cannot_be_updated() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    c.run_detached().ok();
    c.wait();
    update(&c, &json!({"unified": {DEPTH: "3"}}))
        .exits(1)
        .says("container not running")
        .one_line();
    c.runtime(&["update", "--pids-limit", "5", "absent"])
        .exits(1)
        .says("container does not exist");
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_where_that_is_asked_for() {
    if !kernel::has_controllers(&["memory"]) {
        return;
    }
    let mut c = container!();
    c.run_detached().ok();
    update(
        &c,
        &json!({"memory": {"limit": 1024, "checkBeforeUpdate": true}}),
    )
    .exits(1)
    .says("memory.limit: rejecting memory limit 1024 <= usage")
    .one_line();
    update(
        &c,
        &json!({"memory": {"limit": 1024, "swap": 2048, "checkBeforeUpdate": true}}),
    )
    .exits(1)
    .says("memory.swap: rejecting memory+swap limit 2048 <= usage");
    assert_eq!(
        (c.status().as_str(), value(&c, "memory.max").as_str()),
        ("running", "max")
    );
}

/// Makes the container open /dev/zero and /dev/kmsg repeatedly and log which opens succeed.
fn prober(c: &mut Container) {
    c.edit(|j| {
        j["process"]["args"] = json!(["/bin/sh", "-c", "while :; do \
            (: </dev/zero) 2>/dev/null || echo zero >>/denied; \
            if (: >/dev/kmsg) 2>/dev/null; then echo yes; else echo no; fi >/kmsg.new; mv /kmsg.new /kmsg; done"]);
        j["linux"]["devices"] = json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]);
    });
}

#[test]
fn new_device_rules_take_the_place_of_the_old_ones_without_a_gap() {
    let mut c = container!();
    prober(&mut c);
    c.run_detached().ok();
    c.wait_file("/kmsg");
    let kmsg = |c: &Container| fs::read_to_string(c.rootfs("/kmsg")).unwrap_or_default();
    assert_eq!(kmsg(&c), "no\n");
    let deny = json!({"allow": false, "access": "rwm"});
    let allow = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"});
    for _ in 0..10 {
        update(&c, &json!({"devices": [deny, allow]})).ok();
        eventually("the device can be opened", || kmsg(&c) == "yes\n");
        update(&c, &json!({"devices": [deny]})).ok();
        eventually("the device can't be opened", || kmsg(&c) == "no\n");
    }
    update(&c, &json!({"devices": [{"allow": true, "access": "rwm"}]})).ok();
    eventually("the device can be opened", || kmsg(&c) == "yes\n");
    update(&c, &json!({"devices": [deny]})).ok();
    eventually("the device can't be opened", || kmsg(&c) == "no\n");
    assert!(
        !c.rootfs("/denied").exists(),
        "a default device was denied for a moment"
    );
}

#[test]
fn updates_at_the_same_time_leave_the_values_of_one_of_them() {
    let mut c = container!();
    c.create().ok();
    let file = |number: usize| {
        let file = c.scratch().join(format!("{number}.json"));
        let text = json!({"unified": {DEPTH: number.to_string(), "cgroup.max.descendants": number.to_string()}});
        fs::write(&file, text.to_string()).unwrap();
        file
    };
    let children: Vec<_> = (1..=8)
        .map(|number| {
            let mut command = c.command(&["update", "--resources"]);
            command.arg(file(number)).arg(&c.id).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(crate::harness::wait_for(&mut child).success());
    }
    assert_eq!(value(&c, DEPTH), value(&c, "cgroup.max.descendants"));
}
