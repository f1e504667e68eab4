//! Limits that are too low to start a process: the error names limit, field and required amount.
//! `scripts/smallest-limits` measures the smallest limits with which a container starts.

use std::fs;

use serde_json::json;

use crate::harness::{kernel, skipped};

#[test]
fn a_memory_limit_that_is_too_low_is_named_with_what_was_needed() {
    if !kernel::has_controllers(&["memory"]) {
        return;
    }
    for limit in [4096, 65_536] {
        let mut c = container!();
        c.edit(|j| j["linux"]["resources"]["memory"] = json!({"limit": limit, "swap": limit}));
        c.args(&["/bin/true"]);
        for output in [c.create(), c.run()] {
            output
                .exits(1)
                .says(&format!(
                    "memory.max of {} is too low at {limit}: more than ",
                    c.cgroup().display()
                ))
                .says(" bytes were needed (config.json: linux.resources.memory.limit)")
                .one_line();
            c.assert_nothing_left();
        }
    }
}

#[test]
fn a_memory_limit_of_unified_is_named_by_its_key() {
    if !kernel::has_controllers(&["memory"]) {
        return;
    }
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["resources"]["unified"] = json!({"memory.max": "8192", "memory.swap.max": "0"})
    });
    c.create()
        .exits(1)
        .says("is too low at 8192: more than ")
        .says("(config.json: linux.resources.unified[\"memory.max\"])");
    c.assert_nothing_left();
}

#[test]
fn a_run_whose_process_is_killed_for_want_of_memory_says_so() {
    if !kernel::has_controllers(&["memory"]) {
        return;
    }
    let mut c = container!();
    let limit = 4 << 20;
    c.edit(|j| j["linux"]["resources"]["memory"] = json!({"limit": limit, "swap": limit}));
    c.args(&[
        "/bin/dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=64M",
        "count=1",
    ]);
    c.run()
        .exits(137)
        .says(&format!(
            "a process of the container was killed: memory.max of {} is too low at {limit}",
            c.cgroup().display()
        ))
        .says("(config.json: linux.resources.memory.limit)")
        .one_line();
    c.assert_nothing_left();
}

#[test]
fn a_start_that_dies_for_want_of_memory_says_so() {
    if !kernel::has_controllers(&["memory"]) {
        return;
    }
    let mut c = container!();
    c.create().ok();
    let file = c.cgroup().join("memory.swap.max");
    fs::write(file, "0").unwrap();
    // A created container uses more memory than this limit.
    let lowered = fs::write(c.cgroup().join("memory.max"), "4096");
    let output = c.start();
    if kernel::alive(c.pid()) && lowered.is_err() {
        return skipped("the kernel did not take the limit");
    }
    output.exits(1).one_line();
}

#[test]
fn a_limit_of_processes_that_is_too_low_is_named_with_what_was_needed() {
    if !kernel::has_controllers(&["pids"]) {
        return;
    }
    let mut c = container!();
    c.edit(|j| j["linux"]["resources"]["unified"] = json!({"pids.max": "0"}));
    c.create()
        .exits(1)
        .says(&format!(
            "pids.max of {} is too low at 0: more than 0 processes",
            c.cgroup().display()
        ))
        .says("(config.json: linux.resources.unified[\"pids.max\"])")
        .one_line();
    c.assert_nothing_left();
    // A limit of one is enough for a container without joined namespaces.
    c.edit(|j| {
        j["linux"]["resources"]["unified"] = json!({});
        j["linux"]["resources"]["pids"] = json!({"limit": 1});
    });
    c.create().ok();
    c.start().ok();
    c.exec(&["/bin/true"])
        .exits(255)
        .says(&format!(
            "pids.max of {} is too low at 1",
            c.cgroup().display()
        ))
        .one_line();
}

#[test]
fn a_limit_of_a_parent_cgroup_is_named_with_that_cgroup() {
    if !kernel::has_controllers(&["pids", "memory"]) {
        return;
    }
    let mut c = container!();
    let pod = c.cgroup().parent().unwrap().join("pod");
    fs::create_dir(&pod).unwrap();
    let path = format!("{}/pod/box", c.parent_cgroup_path());
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    // For the first container, orlop enables the controllers down the tree.
    c.create().ok();
    c.delete(&["--force"]).ok();
    fs::write(pod.join("pids.max"), "0").unwrap();
    let without_processes = c.create();
    fs::write(pod.join("pids.max"), "max").unwrap();
    fs::write(pod.join("memory.swap.max"), "0").unwrap();
    fs::write(pod.join("memory.max"), "4096").unwrap();
    let without_memory = c.create();
    assert!(!pod.join("box").exists());
    let pod_name = pod.display();
    without_processes
        .exits(1)
        .says(&format!("pids.max of {pod_name} is too low at 0"))
        .one_line();
    without_memory
        .exits(1)
        .says(&format!("memory.max of {pod_name} is too low at 4096"))
        .one_line();
    let _ = fs::remove_dir(&pod);
}

#[test]
fn a_limit_of_cgroups_above_is_named() {
    let mut c = container!();
    let pod = c.cgroup().parent().unwrap().join("pod");
    fs::create_dir(&pod).unwrap();
    let path = format!("{}/pod/box", c.parent_cgroup_path());
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    fs::write(pod.join("cgroup.max.descendants"), "0").unwrap();
    let output = c.create();
    fs::remove_dir(&pod).unwrap();
    output
        .exits(1)
        .says(&format!(
            "cgroup.max.descendants of {} is too low at 0: more than 0 cgroups were needed",
            pod.display()
        ))
        .one_line();
    c.assert_nothing_left();
}

#[test]
fn a_hook_that_finds_no_room_for_its_process_names_the_limit() {
    if !kernel::has_controllers(&["pids"]) {
        return;
    }
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["resources"]["pids"] = json!({"limit": 1});
        j["hooks"]["createContainer"] = json!([{"path": "/bin/true"}]);
    });
    c.create()
        .exits(1)
        .says("createContainer")
        .says("is too low at 1")
        .says("linux.resources.pids.limit")
        .one_line();
    c.assert_nothing_left();
}

#[test]
fn a_cpuset_that_names_no_cpu_of_this_machine_is_refused_by_field() {
    if !kernel::has_controllers(&["cpuset"]) {
        return;
    }
    for (field, cpu) in [
        ("cpus", json!({"cpus": "1000"})),
        ("mems", json!({"mems": "63"})),
    ] {
        let mut c = container!();
        c.edit(|j| j["linux"]["resources"]["cpu"] = cpu);
        c.create()
            .exits(1)
            .says(&format!("config.json: linux.resources.cpu.{field}: write "))
            .one_line();
        c.assert_nothing_left();
    }
}

#[test]
fn a_kill_from_elsewhere_is_not_blamed_on_a_limit() {
    let mut c = container!();
    c.edit(|j| {
        j["hooks"]["createRuntime"] = json!([{"path": "/bin/sh", "args": ["sh", "-c",
        "pid=$(sed -n 's/.*\"pid\":\\([0-9]*\\).*/\\1/p'); kill -9 $pid"]}])
    });
    let output = c.create();
    output.exits(1);
    assert!(!output.stderr().contains("too low"), "{}", output.stderr());
}
