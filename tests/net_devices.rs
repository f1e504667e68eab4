//! linux.netDevices: network devices that move into a container.
//! Each test creates a network namespace that stands in for the host's.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::harness::{Container, eventually, kernel, skipped, wait_for};

/// A network namespace that stands in for the host's. It lives as long as the test.
struct Host {
    holder: Child,
    /// A device type that needs no hardware.
    kind: &'static str,
}

impl Host {
    /// Creates the namespace. If ip(8) is missing, or the kernel has no such device type, returns
    /// None and counts the test as skipped.
    fn new() -> Option<Host> {
        let own = kernel::namespace(std::process::id() as i32, "net");
        let mut command = Command::new("unshare");
        command
            .args(["--net", "sleep", "1000"])
            .stdin(Stdio::null());
        let mut host = Host {
            holder: command.spawn().unwrap(),
            kind: "",
        };
        eventually("the namespace is there", || {
            kernel::namespace(host.pid(), "net") != own
        });
        for kind in ["dummy", "ifb"] {
            let made = host.try_ip(&["link", "add", "probe0", "type", kind]);
            if made.is_some_and(|made| made.0) {
                host.ip(&["link", "del", "probe0"]);
                host.kind = kind;
                return Some(host);
            }
        }
        skipped("ip(8) can make no device without hardware");
        None
    }

    #[track_caller]
    fn add(&self, name: &str) {
        self.ip(&["link", "add", name, "type", self.kind]);
    }

    fn pid(&self) -> i32 {
        self.holder.id() as i32
    }

    /// Returns a command that runs in this network namespace.
    fn enter(&self, inner: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid()));
        command.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap());
        }
        command.stdin(Stdio::null());
        command
    }

    fn try_ip(&self, args: &[&str]) -> Option<(bool, String)> {
        ip_in(self.pid(), args)
    }

    #[track_caller]
    fn ip(&self, args: &[&str]) -> String {
        let (ok, text) = self.try_ip(args).unwrap();
        assert!(ok, "ip {args:?}: {text}");
        text
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = wait_for(&mut self.holder);
    }
}

fn ip_in(pid: i32, args: &[&str]) -> Option<(bool, String)> {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/proc/{pid}/ns/net"))
        .arg("ip")
        .args(args);
    let output = command.stderr(Stdio::inherit()).output().ok()?;
    Some((
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    ))
}

/// Runs `ip` in the network namespace of a container and returns its output.
#[track_caller]
fn ip(c: &Container, args: &[&str]) -> String {
    let (ok, text) = ip_in(c.pid(), args).unwrap();
    assert!(ok, "ip {args:?}: {text}");
    text
}

/// Runs `run --detach` in the network namespace of `host`.
fn run(c: &Container, host: &Host) -> crate::harness::Output {
    let mut run = c.command(&["run", "--detach", "--bundle"]);
    run.arg(c.dir())
        .arg("--pid-file")
        .arg(c.pid_file())
        .arg(&c.id);
    c.finish(host.enter(&run))
}

#[test]
fn a_device_moves_with_its_permanent_addresses_and_is_up() {
    let mut c = container!();
    let Some(host) = Host::new() else { return };
    host.add("dummy7");
    host.ip(&["addr", "add", "10.7.0.1/24", "dev", "dummy7"]);
    host.ip(&["addr", "add", "fd00:7::1/64", "dev", "dummy7", "nodad"]);
    host.ip(&[
        "addr",
        "add",
        "10.8.0.1/32",
        "dev",
        "dummy7",
        "scope",
        "link",
    ]);
    host.ip(&[
        "addr",
        "add",
        "10.9.0.1/24",
        "dev",
        "dummy7",
        "valid_lft",
        "999",
        "preferred_lft",
        "999",
    ]);
    host.add("dummy8");
    c.edit(|j| j["linux"]["netDevices"] = json!({"dummy7": {}, "dummy8": {"name": "web0"}}));
    run(&c, &host).ok();
    let link = ip(&c, &["-o", "link", "show", "dummy7"]);
    assert!(link.contains(",UP") || link.contains("<UP"), "{link}");
    assert!(ip(&c, &["-o", "link", "show", "web0"]).contains("UP"));
    let addresses = ip(&c, &["-o", "addr", "show", "dummy7"]);
    assert!(addresses.contains("10.7.0.1/24"), "{addresses}");
    assert!(addresses.contains("fd00:7::1/64"), "{addresses}");
    assert!(
        !addresses.contains("10.8.0.1") && !addresses.contains("10.9.0.1"),
        "{addresses}"
    );
    assert!(!host.ip(&["-o", "link"]).contains("dummy"));
}

#[test]
fn a_device_moves_to_a_namespace_that_is_joined_and_to_one_of_a_user_namespace() {
    let Some(host) = Host::new() else { return };
    let Some(target) = Host::new() else { return };
    let mut c = container!();
    host.add("dummy1");
    host.ip(&["addr", "add", "10.7.0.1/24", "dev", "dummy1"]);
    c.join_namespace("network", &format!("/proc/{}/ns/net", target.pid()));
    c.edit(|j| j["linux"]["netDevices"] = json!({"dummy1": {"name": "eth%d"}}));
    run(&c, &host).ok();
    assert!(
        target
            .ip(&["-o", "addr", "show", "eth0"])
            .contains("10.7.0.1/24")
    );
    let mut c = container!();
    host.add("dummy1");
    c.edit(|j| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        j["linux"]["uidMappings"] = map.clone();
        j["linux"]["gidMappings"] = map;
        j["linux"]["netDevices"] = json!({"dummy1": {}});
        let namespaces = j["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
    });
    run(&c, &host).ok();
    assert!(ip(&c, &["-o", "link", "show", "dummy1"]).contains("UP"));
}

#[test]
fn a_device_that_cannot_be_moved_is_an_error_and_none_is_moved() {
    let mut c = container!();
    let Some(host) = Host::new() else { return };
    host.add("dummy1");
    c.edit(|j| j["linux"]["netDevices"] = json!({"dummy1": {}, "missing0": {}}));
    run(&c, &host)
        .exits(1)
        .says("linux.netDevices.missing0")
        .says("there is no such device")
        .one_line();
    c.edit(|j| j["linux"]["netDevices"] = json!({"dummy1": {"name": "lo"}}));
    run(&c, &host)
        .exits(1)
        .says("the container has a device lo already")
        .one_line();
    c.without_namespace("network");
    run(&c, &host)
        .exits(1)
        .says("linux.netDevices: needs a network namespace")
        .one_line();
    assert!(host.ip(&["-o", "link"]).contains("dummy1"));
    c.assert_nothing_left();
}
