//! doctor: its verdicts against the kernel's own records, for root and for a user, and on hosts that
//! lack something.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Container, Output, has_strace, kernel};

/// A uid that no machine uses.
const USER: u32 = 61_234;

/// The report, and each item by its id.
fn report(output: &Output) -> Value {
    serde_json::from_str(&output.stdout()).unwrap()
}

fn item<'a>(report: &'a Value, id: &str) -> &'a Value {
    let items = report["items"].as_array().unwrap();
    let found = items.iter().find(|item| item["id"] == id);
    found.unwrap_or_else(|| panic!("no item {id} in {items:#?}"))
}

fn status<'a>(report: &'a Value, id: &str) -> &'a str {
    item(report, id)["status"].as_str().unwrap()
}

fn trial_cgroups() -> Vec<String> {
    let mount = kernel::cgroup2_mount().unwrap();
    let all = kernel::cgroups_below(&mount);
    let shown = all.iter().map(|path| path.display().to_string());
    shown.filter(|path| path.contains("orlop-doctor")).collect()
}

#[test]
fn what_root_is_told_is_what_the_kernel_says() {
    let c = container!();
    let mounts = kernel::host_mountinfo();
    let output = c.runtime(&["doctor", "--json"]);
    let report = report(output.ok());
    assert_eq!(report["version"], 1);
    assert_eq!(report["containers"], true);
    assert_eq!(report["uid"], 0);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(report["kernel"], release.trim());
    for id in [
        "kernel.clone3",
        "kernel.openat2",
        "kernel.mount_setattr",
        "namespace.mnt",
        "namespace.pid",
        "filesystem.tmpfs",
        "filesystem.proc",
        "cgroup.make",
        "cgroup.kill",
        "cgroup.freeze",
        "seccomp.filter",
        "seal.binary",
    ] {
        assert_eq!(status(&report, id), "ok", "{id}");
    }
    let mount = kernel::cgroup2_mount().unwrap();
    let offered = kernel::cgroup_value(&mount, "cgroup.controllers");
    for name in ["cpu", "cpuset", "hugetlb", "io", "memory", "pids", "rdma"] {
        let has = offered.split(' ').any(|other| other == name);
        let expected = if has { "ok" } else { "missing" };
        assert_eq!(
            status(&report, &format!("cgroup.{name}")),
            expected,
            "{name}"
        );
    }
    let apparmor = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let is_on = apparmor.is_ok_and(|text| text.starts_with('Y'));
    assert_eq!(status(&report, "lsm.apparmor") == "ok", is_on);
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap();
    assert_eq!(item(&report, "seccomp.actions")["found"], actions.trim());
    let criu = Command::new("criu").arg("--version").output().is_ok();
    assert_eq!(status(&report, "criu.program") == "ok", criu);
    // Everything that was tried is gone.
    assert_eq!(kernel::host_mountinfo(), mounts);
    assert_eq!(trial_cgroups(), [""; 0]);
}

#[test]
fn each_id_occurs_once_and_what_is_lacking_has_a_hint() {
    let c = container!();
    let report = report(c.runtime(&["doctor", "--json"]).ok());
    let items = report["items"].as_array().unwrap();
    let mut ids: Vec<&str> = items.iter().map(|i| i["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count);
    for item in items {
        let lacks = item["status"] != "ok";
        for text in ["means", "hint"] {
            let has = item[text].as_str().is_some_and(|text| !text.is_empty());
            assert_eq!(has, lacks, "{text} of {item}");
        }
    }
}

#[test]
fn a_user_is_told_what_only_root_has() {
    let mut c = container!();
    c.give_to(USER);
    let output = c.runtime(&["doctor", "--json"]);
    let report = report(output.ok());
    assert_eq!(report["uid"], USER);
    assert_eq!(status(&report, "user.namespaces"), "ok");
    assert_eq!(status(&report, "kernel.idmapped-mounts"), "limited");
    assert_eq!(status(&report, "cgroup.make"), "limited");
    assert_eq!(status(&report, "user.subuid"), "limited");
    let hint = item(&report, "user.subuid")["hint"].as_str().unwrap();
    assert!(hint.contains("/etc/subuid"), "{hint}");
    // The binary is not the user's to mount.
    let seal = item(&report, "seal.binary")["found"].as_str().unwrap();
    assert!(seal.contains("copy in memory"), "{seal}");
    assert_eq!(trial_cgroups(), [""; 0]);
}

#[test]
fn the_text_for_people_names_what_is_missing() {
    let c = container!();
    let output = c.runtime(&["doctor"]);
    let text = output.ok().stdout();
    assert!(text.starts_with("orlop "), "{text}");
    for line in ["kernel\n", "cgroup\n", "seccomp\n"] {
        assert!(text.contains(&format!("\n{line}")), "{line}: {text}");
    }
    assert!(text.contains("Containers can run here"), "{text}");
    // Not a terminal: no colours.
    assert!(!text.contains('\u{1b}'), "{text}");
}

/// Runs doctor with a system call that always fails.
fn without_call(c: &Container, call: &str, errno: &str) -> Option<Output> {
    if !has_strace() {
        return None;
    }
    let mut command = Command::new("strace");
    let inject = format!("inject={call}:error={errno}");
    command
        .args(["-f", "-o", "/dev/null", "-e", &inject])
        .arg(c.program())
        .args(["doctor", "--json"]);
    Some(c.finish(command))
}

#[test]
fn a_kernel_without_mount_setattr_runs_no_containers() {
    let c = container!();
    let Some(output) = without_call(&c, "mount_setattr", "ENOSYS") else {
        return;
    };
    let report = report(output.exits(1));
    assert_eq!(report["containers"], false);
    assert_eq!(status(&report, "kernel.mount_setattr"), "missing");
    let found = item(&report, "kernel.mount_setattr")["found"]
        .as_str()
        .unwrap();
    assert!(found.starts_with("ENOSYS"), "{found}");
    assert_eq!(status(&report, "kernel.openat2"), "ok");
}

#[test]
fn a_filter_that_refuses_seccomp_is_told_and_does_not_end_all() {
    let c = container!();
    let Some(output) = without_call(&c, "seccomp", "EPERM") else {
        return;
    };
    let report = report(output.ok());
    assert_eq!(status(&report, "seccomp.filter"), "missing");
    assert_eq!(status(&report, "seccomp.flags"), "limited");
}

#[test]
fn a_host_without_user_namespaces_runs_no_containers_of_users() {
    let mut c = container!();
    c.give_to(USER);
    // The sysctl is that of the user namespace in which it is written.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
        exec setpriv --bounding-set -all --inh-caps -all \"$0\" doctor --json";
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "/bin/sh", "-c", script])
        .arg(c.program());
    let output = c.finish(command);
    let report = report(output.exits(1));
    assert_eq!(status(&report, "user.namespaces"), "missing");
    let made = item(&report, "user.namespaces");
    assert!(
        made["found"].as_str().unwrap().starts_with("ENOSPC"),
        "{made}"
    );
    assert!(
        made["hint"]
            .as_str()
            .unwrap()
            .contains("max_user_namespaces")
    );
    assert_eq!(status(&report, "user.max_user_namespaces"), "limited");
}

#[test]
fn a_range_of_ids_is_mapped_by_newuidmap_where_one_is_granted() {
    let mut c = container!();
    c.give_to(USER);
    if !Path::new("/usr/bin/newuidmap").exists() {
        crate::harness::skipped("no newuidmap here");
        return;
    }
    // In a mount namespace of its own, so that the host's files stay as they are.
    let range = format!("{USER}:300000:65536\n");
    // newuidmap(1) looks up the name of its caller.
    let user = format!("a-user:x:{USER}:{USER}::/:/bin/sh\n");
    let own = c.scratch();
    for (name, line) in [("subuid", &range), ("subgid", &range), ("passwd", &user)] {
        let text = fs::read_to_string(format!("/etc/{name}")).unwrap_or_default();
        fs::write(own.join(name), text + line).unwrap();
    }
    let script = "for file in subuid subgid passwd; do \
            mount --bind \"$1/$file\" /etc/$file || exit 99; \
        done; \
        exec setpriv --reuid \"$2\" --regid \"$2\" --clear-groups \"$0\" doctor --json";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "/bin/sh", "-c", script])
        .arg(c.program())
        .arg(&own)
        .arg(USER.to_string());
    let output = c.finish(command);
    let report = report(output.ok());
    assert_eq!(
        item(&report, "user.subuid")["found"],
        "65536 ids from 300000"
    );
    for tool in ["user.newuidmap", "user.newgidmap"] {
        assert_eq!(status(&report, tool), "ok", "{}", item(&report, tool));
    }
}
