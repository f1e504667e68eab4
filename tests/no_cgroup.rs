//! `--cgroup-manager disabled`: a container without a cgroup of its own, and later commands on it.
//! The container shares the test's cgroup, so a kill of the whole cgroup would kill the test too.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Container, adopt, eventually, kernel};

const DISABLED: [&str; 2] = ["--cgroup-manager", "disabled"];

/// Creates the container without a cgroup and returns its pid. Its payload waits.
fn created(c: &Container) -> i32 {
    c.make("create", &DISABLED).ok();
    c.pid()
}

fn own_cgroup() -> String {
    kernel::cgroup_of(std::process::id() as i32)
}

#[test]
fn without_a_cgroup_init_stays_where_the_caller_is() {
    let c = container!();
    let pid = created(&c);
    assert_eq!(kernel::cgroup_of(pid), own_cgroup());
    assert!(!c.cgroup().exists());
    assert_eq!(c.status(), "created");
    c.start().ok();
    assert_eq!(c.status(), "running");
}

#[test]
fn without_a_cgroup_exec_stays_where_the_caller_is() {
    let c = container!();
    created(&c);
    c.start().ok();
    c.exec_with(
        &["--detach", "--pid-file", c.pid_file().to_str().unwrap()],
        &["sleep", "1000"],
    )
    .ok();
    adopt(c.pid());
    assert_eq!(kernel::cgroup_of(c.pid()), own_cgroup());
    c.exec_with(&["--cgroup", "below"], &["true"])
        .exits(255)
        .says("has no cgroup");
}

#[test]
fn limits_without_a_cgroup_are_refused_by_name() {
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["resources"]["pids"] = json!({"limit": 10});
        j["linux"]["resources"]["memory"] = json!({"limit": 1_000_000});
        j["linux"]["resources"]["unified"] = json!({"cpu.weight": "10"});
    });
    c.make("create", &DISABLED)
        .exits(1)
        .says("linux.resources.pids.limit: needs a cgroup")
        .says("linux.resources.memory.limit: needs a cgroup")
        .says("linux.resources.unified[\"cpu.weight\"]: needs a cgroup");
    c.assert_nothing_left();
    c.edit(|j| {
        j["linux"]["resources"] = json!({"pids": {"limit": -1}, "memory": {}});
    });
    c.make("create", &DISABLED).ok();
}

#[test]
fn pause_without_a_cgroup_is_refused() {
    let c = container!();
    created(&c);
    c.start().ok();
    c.runtime(&["pause", &c.id])
        .exits(1)
        .says("has no cgroup")
        .one_line();
    assert_eq!(c.status(), "running");
}

#[test]
fn ps_and_kill_all_go_by_the_pid_namespace() {
    let mut c = container!();
    c.script("trap : TERM; sh -c 'trap \": >/tmp/got; exit\" TERM; sleep 1000 & : >/tmp/up; wait' & while :; do wait; done");
    let pid = created(&c);
    c.start().ok();
    c.wait_file("/tmp/up");
    let output = c.runtime(&["ps", "--format", "json", &c.id]);
    output.ok();
    let pids: Vec<i32> = serde_json::from_str(&output.stdout()).unwrap();
    assert!(pids.contains(&pid) && pids.len() >= 2, "{pids:?}");
    let own = kernel::namespace(pid, "pid");
    assert!(pids.iter().all(|p| kernel::namespace(*p, "pid") == own));
    c.runtime(&["kill", "--all", &c.id, "TERM"]).ok();
    c.wait_file("/tmp/got");
    c.runtime(&["kill", "--all", &c.id, "KILL"]).ok();
    c.wait_dead();
    c.runtime(&["kill", "--all", &c.id, "KILL"]).ok();
}

#[test]
fn delete_force_ends_the_descendants_in_a_shared_pid_namespace() {
    let mut c = container!();
    c.without_namespace("pid");
    c.without_mount("/proc");
    c.script("sleep 1000 & sh -c 'sleep 1000 & wait' & : >/tmp/up; wait");
    created(&c);
    c.start().ok();
    c.wait_file("/tmp/up");
    eventually("all three children are there", || {
        let output = c.runtime(&["ps", "--format", "json", &c.id]);
        serde_json::from_str::<Vec<i32>>(&output.stdout())
            .unwrap()
            .len()
            == 4
    });
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
}

#[test]
fn a_record_from_before_there_was_a_choice_still_reads() {
    let mut c = container!();
    c.create().ok();
    let file = c.root().join(&c.id).join("state.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    record.as_object_mut().unwrap().remove("cgroup").unwrap();
    fs::write(&file, record.to_string()).unwrap();
    c.start().ok();
    assert_eq!(
        c.exec_output("cat /proc/self/cgroup").lines().last(),
        Some("0::/")
    );
    c.runtime(&["pause", &c.id]).ok();
    assert_eq!(c.status(), "paused");
    c.runtime(&["resume", &c.id]).ok();
    c.delete(&["--force"]).ok();
    assert!(!c.cgroup().exists());
}

#[test]
fn update_and_events_without_a_cgroup_are_refused() {
    let c = container!();
    created(&c);
    for args in [
        &["update", "--pids-limit", "5"][..],
        &["events", "--stats"],
        &["events"],
    ] {
        let mut args = args.to_vec();
        args.push(&c.id);
        c.runtime(&args)
            .exits(1)
            .says("the container has no cgroup")
            .one_line();
    }
}
