//! Configurations as engines write them, from tests/configs. Those of podman 4.3 and containerd 1.6
//! (by `ctr run`) have no seccomp profile. Those of docker 26.1 and podman 5.4 have the default
//! profile. AppArmor profiles and docker's hook were removed. Ids, paths and times are neutral.
//! No engine is started.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Container, kernel};

const PODMAN: &str = include_str!("configs/podman-4.3.json");
/// With the engine's default seccomp profile.
const FILTERED: [(&str, &str); 2] = [
    ("docker", include_str!("configs/docker-26.1.json")),
    ("podman", include_str!("configs/podman-5.4.json")),
];
const CONTAINERD: &str = include_str!("configs/containerd-1.6.json");

/// Uses an engine's configuration for the container, but with the container's own root, cgroup and
/// sources of bind mounts.
fn take(c: &mut Container, text: &str) {
    let mut config: Value = serde_json::from_str(text).unwrap();
    let scratch = c.scratch();
    config["root"]["path"] = json!("rootfs");
    config["linux"]["cgroupsPath"] = json!(c.cgroup_path());
    let cookie = c.config()["process"]["env"][1].clone();
    config["process"]["env"]
        .as_array_mut()
        .unwrap()
        .push(cookie);
    for mount in config["mounts"].as_array_mut().unwrap() {
        let source = mount["source"].as_str().unwrap();
        let Some(name) = source.strip_prefix("/engine/") else {
            continue;
        };
        let own = scratch.join(name);
        match name {
            "shm" | "volume" => fs::create_dir(&own).unwrap(),
            _ => fs::write(&own, format!("{name} of the engine\n")).unwrap(),
        }
        mount["source"] = json!(own);
    }
    within_our_limits(&mut config);
    without_missing_controllers(c, &mut config);
    c.edit(|j| *j = config);
}

/// Lowers process.rlimits to our own: a machine may keep CAP_SYS_RESOURCE even from root.
fn within_our_limits(config: &mut Value) {
    let own = i32::try_from(std::process::id()).unwrap();
    let limits = config["process"]["rlimits"].as_array_mut();
    for limit in limits.into_iter().flatten() {
        let name = match limit["type"].as_str().unwrap() {
            "RLIMIT_NOFILE" => "Max open files",
            "RLIMIT_NPROC" => "Max processes",
            other => panic!("{other} in a configuration of the tests"),
        };
        let hard = kernel::limit(own, name).1.parse().unwrap_or(u64::MAX);
        for side in ["soft", "hard"] {
            limit[side] = json!(limit[side].as_u64().unwrap().min(hard));
        }
    }
}

/// Removes the limits whose controllers the cgroup v2 hierarchy lacks here. `cgroups` tests that
/// such limits are refused.
fn without_missing_controllers(c: &Container, config: &mut Value) {
    let root = kernel::cgroup2_mount().unwrap();
    let here = fs::read_to_string(root.join("cgroup.controllers")).unwrap();
    assert!(c.cgroup().starts_with(root));
    let resources = config["linux"]["resources"].as_object_mut().unwrap();
    for controller in ["pids", "memory", "cpu"] {
        if !here.split_whitespace().any(|name| name == controller) {
            resources.remove(controller);
        }
    }
}

#[test]
fn what_podman_writes_runs() {
    let mut c = container!();
    take(&mut c, PODMAN);
    fs::write(c.scratch().join("volume/file"), "shared\n").unwrap();
    let script = "cat /vol/file /etc/hosts; hostname; cat /proc/sys/net/ipv4/ping_group_range; \
                  (: >/vol/new) 2>/dev/null || echo volume is read-only; : >/dev/shm/new; umask; ls /dev/null /sys/fs/cgroup/cgroup.procs";
    let printed = c.output_of(script);
    let wanted = [
        "shared",
        "hosts of the engine",
        "0123456789ab",
        "0\t0",
        "volume is read-only",
        "0022",
        "/dev/null",
        "/sys/fs/cgroup/cgroup.procs",
    ];
    assert_eq!(printed.lines().collect::<Vec<_>>(), wanted);
    assert!(c.scratch().join("shm/new").exists());
    c.assert_nothing_left();
}

#[test]
fn what_containerd_writes_runs() {
    let mut c = container!();
    take(&mut c, CONTAINERD);
    let script = "echo $A; : >/run/new; (: >/vol/new) 2>/dev/null || echo volume is read-only; echo x >/dev/null; \
                  sed -n 's/^NoNewPrivs:[[:space:]]*//p' /proc/self/status";
    let printed = c.output_of(script);
    let wanted = ["b", "volume is read-only", "1"];
    assert_eq!(printed.lines().collect::<Vec<_>>(), wanted);
    c.assert_nothing_left();
}

#[test]
fn what_engines_write_is_created_started_and_deleted() {
    for text in [PODMAN, CONTAINERD] {
        let mut c = container!();
        take(&mut c, text);
        c.script("echo fine; exit 3");
        c.create().ok();
        assert_eq!(c.status(), "created");
        c.start().ok();
        assert_eq!(c.wait(), 3);
        assert_eq!(c.payload_output(), "fine\n");
        c.delete(&[]).ok();
        c.assert_nothing_left();
    }
}

#[test]
fn programs_run_under_the_default_profiles_of_engines() {
    for (engine, text) in FILTERED {
        let mut c = container!();
        take(&mut c, text);
        let script = "grep -E 'Seccomp|NoNewPrivs' /proc/self/status; sleep 0.01 & wait; date >/dev/null; echo a b | tr ' ' '-'";
        let printed = c.output_of(script);
        let wanted = [
            "Seccomp:\t2",
            "Seccomp_filters:\t1",
            "NoNewPrivs:\t0",
            "a-b",
        ];
        for wanted in wanted {
            assert!(printed.contains(wanted), "{engine}: {wanted}: {printed}");
        }
    }
}
