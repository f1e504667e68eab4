//! Namespaces that a container creates, joins or shares, and the settings in them.
//! Mounts are in `mounts`.

use std::fs;

use serde_json::json;

use crate::harness::kernel;

fn own(name: &str) -> String {
    kernel::namespace(std::process::id() as i32, name)
}

#[test]
fn each_namespace_of_the_config_is_new_and_the_others_are_the_callers() {
    let mut c = container!();
    c.run_detached().ok();
    for name in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        assert_ne!(kernel::namespace(c.pid(), name), own(name), "{name}");
    }
    for name in ["user", "time"] {
        assert_eq!(kernel::namespace(c.pid(), name), own(name), "{name}");
    }
}

#[test]
fn namespaces_that_the_config_leaves_out_are_shared_with_the_caller() {
    let mut c = container!();
    c.without_namespace("network")
        .without_namespace("ipc")
        .without_namespace("pid");
    c.without_namespace("cgroup")
        .without_namespace("uts")
        .without_mount("/dev/mqueue");
    c.edit(|j| {
        j.as_object_mut().unwrap().remove("hostname");
    });
    c.run_detached().ok();
    for name in ["pid", "net", "ipc", "uts", "cgroup"] {
        assert_eq!(kernel::namespace(c.pid(), name), own(name), "{name}");
    }
    assert_ne!(kernel::namespace(c.pid(), "mnt"), own("mnt"));
}

#[test]
fn namespaces_are_joined_by_path() {
    let mut first = container!();
    let mut second = container!();
    first.run_detached().ok();
    for (kind, link) in [
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("pid", "pid"),
        ("cgroup", "cgroup"),
    ] {
        second.join_namespace(kind, &format!("/proc/{}/ns/{link}", first.pid()));
    }
    second.edit(|j| {
        j.as_object_mut().unwrap().remove("hostname");
    });
    second.run_detached().ok();
    for name in ["pid", "net", "ipc", "uts", "cgroup"] {
        assert_eq!(
            kernel::namespace(second.pid(), name),
            kernel::namespace(first.pid(), name),
            "{name}"
        );
    }
    assert_eq!(second.exec_output("hostname"), "orlop\n");
    second.kill("KILL").ok();
    assert_eq!(second.wait(), 137);
    assert!(kernel::alive(first.pid()));
}

#[test]
fn init_is_pid_1_of_a_new_pid_namespace() {
    let mut c = container!();
    assert_eq!(c.output_of("echo $$"), "1\n");
}

#[test]
fn a_namespace_path_that_is_missing_or_of_another_kind_is_refused() {
    let mut c = container!();
    c.join_namespace("network", "/missing/net");
    c.create().exits(1).says("/missing/net").one_line();
    c.assert_nothing_left();
    c.join_namespace("network", &format!("/proc/{}/ns/uts", std::process::id()));
    c.create().exits(1).one_line();
    c.assert_nothing_left();
    c.join_namespace("network", "/etc/passwd");
    c.create().exits(1);
    c.assert_nothing_left();
}

#[test]
fn hostname_and_domainname_are_set_in_the_container_only() {
    let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut c = container!();
    c.edit(|j| {
        j["hostname"] = json!("deck");
        j["domainname"] = json!("ship.example");
    });
    assert_eq!(
        c.output_of("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname"),
        "deck\nship.example\n"
    );
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap(),
        before
    );
}

#[test]
fn an_empty_hostname_leaves_the_one_that_there_is() {
    let read = |name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap();
    let mut c = container!();
    c.edit(|j| {
        j["hostname"] = json!("");
        j["domainname"] = json!("");
    });
    assert_eq!(
        c.output_of("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname"),
        read("hostname") + &read("domainname")
    );
}

#[test]
fn a_hostname_without_a_uts_namespace_is_refused() {
    let mut c = container!();
    c.without_namespace("uts");
    c.create().exits(1).says("hostname");
    c.assert_nothing_left();
}

#[test]
fn sysctls_are_set_in_the_containers_namespaces_only() {
    let before = fs::read_to_string("/proc/sys/kernel/shmmni").unwrap();
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.shmmni": "4095", "net/ipv4/ip_default_ttl": "60"});
    });
    assert_eq!(
        c.output_of("cd /proc/sys; cat net/ipv4/ip_forward kernel/shmmni net/ipv4/ip_default_ttl"),
        "1\n4095\n60\n"
    );
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/shmmni").unwrap(),
        before
    );
}

#[test]
fn a_sysctl_without_its_namespace_is_refused_by_name() {
    for (key, namespace) in [
        ("net.ipv4.ip_forward", "network"),
        ("kernel.shmmni", "ipc"),
        ("vm.swappiness", "uts"),
    ] {
        let mut c = container!();
        if namespace == "uts" {
            c.edit(|_| {});
        } else {
            c.without_namespace(namespace);
        }
        c.edit(|j| j["linux"]["sysctl"] = json!({key: "1"}));
        c.create().exits(1).says(key);
        c.assert_nothing_left();
    }
}

#[test]
fn a_domainname_is_said_once() {
    let mut c = container!();
    c.edit(|j| j["linux"]["sysctl"] = json!({"kernel.domainname": "one"}));
    c.edit(|j| j["domainname"] = json!(""));
    assert_eq!(c.output_of("cat /proc/sys/kernel/domainname"), "one\n");
    c.edit(|j| j["domainname"] = json!("one"));
    assert_eq!(c.output_of("cat /proc/sys/kernel/domainname"), "one\n");
    c.edit(|j| j["domainname"] = json!("two"));
    c.create()
        .exits(1)
        .says("linux.sysctl[\"kernel.domainname\"]: conflicts with the field domainname");
}

#[test]
fn the_loopback_of_a_new_network_namespace_is_up() {
    let mut c = container!();
    c.run_detached().ok();
    let path = format!("/proc/{}/net/fib_trie", c.pid());
    assert!(fs::read_to_string(path).unwrap().contains("127.0.0.1"));
}

#[test]
fn the_callers_own_namespaces_stay_as_they_are() {
    let before: Vec<_> = ["pid", "net", "mnt", "time", "user"].map(own).to_vec();
    let mut c = container!();
    c.run_detached().ok();
    assert_eq!(
        ["pid", "net", "mnt", "time", "user"].map(own).to_vec(),
        before
    );
    assert_eq!(own("pid_for_children"), own("pid"));
}

#[test]
fn a_new_user_namespace_has_the_mappings_of_the_config() {
    let mut c = container!();
    for dir in [c.dir(), c.dir().parent().unwrap(), &c.dir().join("rootfs")] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    c.user_namespace();
    c.run_detached().ok();
    let map = fs::read_to_string(format!("/proc/{}/uid_map", c.pid())).unwrap();
    assert_eq!(crate::harness::words(&map), ["0", "100000", "65536"]);
    assert!(kernel::status(c.pid(), "Uid").starts_with("100000\t"));
    assert_eq!(c.exec_output("id -u; id -g"), "0\n0\n");
    let pid = c.pid();
    assert_ne!(kernel::namespace(pid, "user"), own("user"));
    for target in ["/proc", "/dev", "/dev/pts", "/sys"] {
        assert!(kernel::mount_at(pid, target).is_some(), "{target}");
    }
}

#[test]
fn time_offsets_are_seen_in_a_new_time_namespace() {
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "time"}));
        j["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}});
    });
    c.run_detached().ok();
    assert_ne!(kernel::namespace(c.pid(), "time"), own("time"));
    let text = c.exec_output("cat /proc/uptime");
    let uptime: f64 = crate::harness::words(&text)[0].parse().unwrap();
    assert!(uptime > 1_000_000.0, "{text}");
}

#[test]
fn a_new_time_namespace_without_offsets_has_the_hosts_clocks() {
    let mut c = container!();
    c.edit(|j| {
        let namespaces = j["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "time"}));
    });
    c.run_detached().ok();
    assert_ne!(kernel::namespace(c.pid(), "time"), own("time"));
    let offsets = std::fs::read_to_string(format!("/proc/{}/timens_offsets", c.pid())).unwrap();
    let lines: Vec<Vec<&str>> = offsets.lines().map(crate::harness::words).collect();
    assert!(lines.iter().all(|l| l[1..] == ["0", "0"]), "{offsets}");
}
