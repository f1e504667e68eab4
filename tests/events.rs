//! `events`: the JSON for go-runc, repeated until the container stops, and the out-of-memory event.
//! Values are compared with the kernel's files, as far as those are stable.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Child;

use serde_json::{Value, json};

use crate::harness::{Container, eventually, kernel, wait_for};

fn stats(c: &Container) -> Value {
    let output = c.runtime(&["events", "--stats", &c.id]);
    output.ok();
    assert_eq!(output.stderr(), "");
    let text = output.stdout();
    assert_eq!(text.lines().count(), 1);
    let start = format!(r#"{{"type":"stats","id":"{}","data":{{"cpu":"#, c.id);
    assert!(text.starts_with(&start), "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Runs `events` in the background, with its output in a file.
fn stream(c: &Container, flags: &[&str]) -> (Child, PathBuf) {
    let path = c.scratch().join("events");
    let mut command = c.command(&["events"]);
    command
        .args(flags)
        .arg(&c.id)
        .stdout(File::create(&path).unwrap());
    (command.spawn().unwrap(), path)
}

/// Waits until the command has read its first counters and polls for events.
fn wait_until_it_waits(child: &Child) {
    eventually("events polls", || {
        let call = fs::read_to_string(format!("/proc/{}/syscall", child.id())).unwrap_or_default();
        call.starts_with("7 ") || call.starts_with("271 ")
    });
}

fn lines(path: &PathBuf, kind: &str) -> usize {
    let start = format!(r#"{{"type":"{kind}","#);
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| line.starts_with(&start)).count()
}

#[test]
fn stats_are_one_line_of_json_with_the_members_of_runc() {
    let mut c = container!();
    c.run_detached().ok();
    let stats = stats(&c);
    let data = stats["data"].as_object().unwrap();
    let names: Vec<&str> = data.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "blkio",
            "cpu",
            "cpuset",
            "hugetlb",
            "intel_rdt",
            "memory",
            "network_interfaces",
            "pids"
        ]
    );
    assert_eq!(data["network_interfaces"], Value::Null);
    assert_eq!(data["intel_rdt"], json!({}));
    assert_eq!(data["cpuset"]["sched_relax_domain_level"], 0);
    assert_eq!(data["pids"]["current"], 1);
    let has = fs::read_to_string(c.cgroup().join("cgroup.controllers")).unwrap();
    if has.contains("hugetlb") {
        assert_eq!(data["hugetlb"]["2MB"], json!({"failcnt": 0}));
    }
    for (resource, file) in [
        ("cpu", "cpu.pressure"),
        ("memory", "memory.pressure"),
        ("blkio", "io.pressure"),
    ] {
        let readable = fs::read_to_string(c.cgroup().join(file)).is_ok();
        assert_eq!(data[resource]["psi"].is_object(), readable, "{file}");
    }
}

#[test]
fn stats_are_what_the_kernel_says() {
    if !kernel::has_controllers(&["memory", "cpu", "pids", "io"]) {
        return;
    }
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["resources"]["memory"] = json!({"limit": 67_108_864, "swap": 100_663_296});
        j["linux"]["resources"]["pids"] = json!({"limit": 20});
        j["linux"]["resources"]["cpu"] = json!({"quota": 80_000, "period": 100_000});
    });
    c.script(
        "dd if=/dev/zero of=/file bs=1024 count=4096 2>/dev/null; \
        i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done; touch /ready; exec sleep 1000",
    );
    c.run_detached().ok();
    c.wait_file("/ready");
    eventually("touch is gone", || kernel::procs(&c.cgroup()).len() == 1);
    c.runtime(&["pause", &c.id]).ok();
    let number = |file: &str, key: &str| -> u64 {
        let text = fs::read_to_string(c.cgroup().join(file)).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    };
    // Some counters keep rising for a moment.
    let keys = ["usage_usec", "user_usec", "system_usec", "nr_periods"];
    let before = keys.map(|key| number("cpu.stat", key));
    let data = &stats(&c)["data"];
    let after = keys.map(|key| number("cpu.stat", key));
    assert_eq!(data["pids"], json!({"current": 1, "limit": 20}));
    let cpu = &data["cpu"];
    let told = [
        &cpu["usage"]["total"],
        &cpu["usage"]["user"],
        &cpu["usage"]["kernel"],
        &cpu["throttling"]["periods"],
    ];
    for (index, unit) in [1000, 1000, 1000, 1].into_iter().enumerate() {
        let told = told[index].as_u64().unwrap_or(0);
        let range = before[index] * unit..=after[index] * unit;
        assert!(range.contains(&told), "{}: {told}", keys[index]);
    }
    let memory = &data["memory"];
    assert_eq!(memory["usage"]["limit"], 67_108_864);
    assert_eq!(memory["swap"]["limit"], 100_663_296);
    assert!(memory["usage"]["usage"].as_u64().unwrap() > 0);
    assert!(memory["usage"]["max"].as_u64() >= memory["usage"]["usage"].as_u64());
    assert_eq!(memory["cache"], memory["raw"]["file"]);
    // The kernel sums up the counters of its CPUs only from time to time.
    eventually("two events are the same", || {
        stats(&c)["data"]["memory"]["raw"]["anon"] == number("memory.stat", "anon")
    });
    c.runtime(&["resume", &c.id]).ok();
}

#[test]
fn events_come_at_the_interval_and_end_with_the_container() {
    let mut c = container!();
    c.run_detached().ok();
    let (mut child, path) = stream(&c, &["--interval", "50ms"]);
    eventually("three events", || lines(&path, "stats") >= 3);
    let text = fs::read_to_string(&path).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["id"], c.id.as_str());
    c.kill("KILL").ok();
    assert!(wait_for(&mut child).success());
}

#[test]
fn events_do_not_wait_for_the_interval_when_the_container_ends() {
    let mut c = container!();
    c.run_detached().ok();
    let (mut child, path) = stream(&c, &["--interval", "1h"]);
    wait_until_it_waits(&child);
    c.delete(&["--force"]).ok();
    assert!(wait_for(&mut child).success());
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
}

#[test]
fn events_of_a_created_container_last_until_it_is_deleted() {
    let mut c = container!();
    c.create().ok();
    assert_eq!(stats(&c)["data"]["pids"]["current"], 1);
    let (mut child, path) = stream(&c, &["--interval", "20ms"]);
    eventually("an event", || lines(&path, "stats") >= 1);
    c.delete(&["--force"]).ok();
    assert!(wait_for(&mut child).success());
}

#[test]
fn events_report_a_paused_container() {
    let mut c = container!();
    c.run_detached().ok();
    c.runtime(&["pause", &c.id]).ok();
    assert_eq!(stats(&c)["data"]["pids"]["current"], 1);
    c.runtime(&["resume", &c.id]).ok();
}

#[test]
fn a_stopped_and_an_absent_container_have_no_events() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    c.run_detached().ok();
    c.wait();
    for flags in [&["--stats"][..], &[]] {
        let mut args = vec!["events"];
        args.extend(flags);
        args.push(&c.id);
        let says = format!("container with id {} is not running", c.id);
        c.runtime(&args).exits(1).says(&says).one_line();
    }
    c.runtime(&["events", "--stats", "absent"])
        .exits(1)
        .says("container does not exist");
}

#[test]
fn an_interval_must_be_a_duration_above_zero() {
    let mut c = container!();
    c.create().ok();
    for (interval, says) in [
        ("0s", "must be greater than 0"),
        ("-1s", "must be greater than 0"),
        ("5", "expected a duration"),
        ("soon", "expected a duration"),
    ] {
        c.runtime(&["events", "--interval", interval, &c.id])
            .exits(1)
            .says("--interval")
            .says(says)
            .one_line();
    }
}

#[test]
fn an_out_of_memory_kill_is_reported_at_once() {
    if !kernel::has_controllers(&["memory"]) {
        return;
    }
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["resources"]["memory"] = json!({"limit": 33_554_432, "swap": 33_554_432})
    });
    c.run_detached().ok();
    let (mut child, path) = stream(&c, &["--interval", "1h"]);
    wait_until_it_waits(&child);
    c.exec(&[
        "/bin/dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=64M",
        "count=1",
    ])
    .exits(137);
    eventually("the notice", || lines(&path, "oom") >= 1);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(
        text.lines().next().unwrap(),
        format!(r#"{{"type":"oom","id":"{}"}}"#, c.id)
    );
    assert_eq!(c.status(), "running");
    c.delete(&["--force"]).ok();
    assert!(wait_for(&mut child).success());
}

#[test]
fn a_reader_that_goes_away_ends_events() {
    let mut c = container!();
    c.run_detached().ok();
    let mut command = c.command(&["events", "--interval", "10ms", &c.id]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(!wait_for(&mut child).success());
}
