//! Device nodes in /dev and the device rules of the cgroup.
//! Attacks by way of /dev are in `attacks`.

use std::fs;

use serde_json::json;

#[test]
fn the_default_devices_exist_with_numbers_mode_and_owner() {
    let mut c = container!();
    let script = "cd /dev; stat -c '%n %F %t:%T %a %u:%g' null zero full random urandom tty";
    assert_eq!(
        c.output_of(script),
        "null character special file 1:3 666 0:0\n\
         zero character special file 1:5 666 0:0\n\
         full character special file 1:7 666 0:0\n\
         random character special file 1:8 666 0:0\n\
         urandom character special file 1:9 666 0:0\n\
         tty character special file 5:0 666 0:0\n"
    );
}

#[test]
fn the_default_symlinks_point_where_the_specification_says() {
    let mut c = container!();
    assert_eq!(
        c.output_of("cd /dev; for l in fd stdin stdout stderr ptmx; do readlink $l; done"),
        "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n"
    );
}

#[test]
fn nothing_else_is_in_dev() {
    let mut c = container!();
    assert_eq!(
        c.output_of("ls /dev | grep -v -x -e core -e console"),
        "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"
    );
}

#[test]
fn configured_devices_are_made_with_type_numbers_mode_and_owner() {
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["devices"] = json!([
            {"path": "/dev/one", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8},
            {"path": "/dev/sub/two", "type": "b", "major": 7, "minor": 200},
            {"path": "/dev/pipe/", "type": "p", "fileMode": 0o600},
            {"path": "/elsewhere", "type": "u", "major": 1, "minor": 5, "fileMode": 0o4666},
        ]);
    });
    let text =
        c.output_of("stat -c '%n %F %t:%T %a %u:%g' /dev/one /dev/sub/two /dev/pipe /elsewhere");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "/dev/one character special file 1:3 640 7:8");
    assert!(
        lines[1].starts_with("/dev/sub/two block special file 7:c8 "),
        "{}",
        lines[1]
    );
    assert!(lines[2].starts_with("/dev/pipe fifo "), "{}", lines[2]);
    assert_eq!(lines[3], "/elsewhere character special file 1:5 666 0:0");
}

#[test]
fn a_configured_default_device_keeps_the_given_mode() {
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["devices"] = json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o646, "uid": 5, "gid": 5}]);
        j["linux"]["resources"]["devices"] = json!([
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        ]);
    });
    assert_eq!(c.output_of("stat -c '%a %u' /dev/null"), "646 5\n");
}

#[test]
fn devices_are_made_by_mode_whatever_the_callers_umask_is() {
    let mut c = container!();
    let inner = c.command(&["run", "--bundle"]);
    c.script("stat -c %a /dev/null");
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "umask 077; exec \"$@\"", "sh"]);
    command
        .arg(inner.get_program())
        .args(inner.get_args())
        .arg(c.dir())
        .arg(&c.id);
    command.stdin(std::process::Stdio::null());
    let output = c.finish(command);
    output.ok();
    assert_eq!(output.stdout(), "666\n");
}

// 1:200 has no driver: an allowed open fails with ENXIO, a denied one with EPERM.

/// Gives the container the capability to create nodes, so that only the device rules stop it.
fn with_mknod(c: &mut crate::harness::Container) {
    c.capabilities(
        &["bounding", "permitted", "effective"],
        &["CAP_MKNOD", "CAP_DAC_OVERRIDE"],
    );
}

#[test]
fn an_open_of_a_device_that_is_not_allowed_is_eperm() {
    let mut c = container!();
    with_mknod(&mut c);
    c.run_detached().ok();
    c.exec(&["/bin/mknod", "/tmp/node", "c", "1", "200"]).ok();
    c.exec(&["/bin/head", "-c", "0", "/tmp/node"])
        .exits(1)
        .says("Operation not permitted");
}

#[test]
fn an_allowed_device_can_be_opened_for_what_is_allowed() {
    let mut c = container!();
    with_mknod(&mut c);
    c.edit(|j| {
        j["linux"]["resources"]["devices"] = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 200, "access": "r"},
        ]);
    });
    c.run_detached().ok();
    c.exec(&["/bin/mknod", "/tmp/node", "c", "1", "200"]).ok();
    let read = c.exec(&["/bin/sh", "-c", "exec </tmp/node"]);
    read.says("No such device");
    let written = c.exec(&["/bin/sh", "-c", "exec >/tmp/node"]);
    assert_ne!(written.code, 0);
    written.says("Operation not permitted");
}

#[test]
fn a_later_rule_wins_over_an_earlier_one() {
    let mut c = container!();
    with_mknod(&mut c);
    c.edit(|j| {
        j["linux"]["resources"]["devices"] = json!([
            {"allow": true, "access": "rwm"},
            {"allow": false, "type": "c", "major": 1, "minor": 200, "access": "rw"},
        ]);
    });
    c.run_detached().ok();
    c.exec(&["/bin/mknod", "/tmp/node", "c", "1", "200"]).ok();
    assert_ne!(c.exec(&["/bin/sh", "-c", "exec </tmp/node"]).code, 0);
    c.exec(&["/bin/sh", "-c", "exec </dev/zero"]).ok();
}

#[test]
fn a_letter_that_is_no_access_is_ignored_and_a_rule_of_such_letters_is_refused() {
    let mut c = container!();
    with_mknod(&mut c);
    let rules = |access| {
        json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 200, "access": access},
        ])
    };
    c.edit(|j| j["linux"]["resources"]["devices"] = rules("ra"));
    c.finish(c.command(&[
        "--log-level",
        "warning",
        "run",
        "--detach",
        "--bundle",
        c.dir().to_str().unwrap(),
        &c.id,
    ]))
    .ok()
    .says("linux.resources.devices[1].access: 'a' is not one of r, w, m, and is ignored");
    c.exec(&["/bin/mknod", "/tmp/node", "c", "1", "200"]).ok();
    c.exec(&["/bin/sh", "-c", "exec </tmp/node"])
        .says("No such device or address");
    c.exec(&["/bin/sh", "-c", "exec >/tmp/node"])
        .says("Operation not permitted");
    c.runtime(&["delete", "--force", &c.id]).ok();
    c.edit(|j| j["linux"]["resources"]["devices"] = rules("ab"));
    c.run_detached()
        .exits(1)
        .says("linux.resources.devices[1].access: no access is named (r, w, m)");
}

#[test]
fn the_default_devices_can_be_used_although_all_are_denied() {
    let mut c = container!();
    c.script(
        "for d in null zero full random urandom; do head -c 1 /dev/$d >/dev/null || echo $d; done; echo x >/dev/null",
    );
    let output = c.run();
    output.ok();
    assert_eq!(output.stdout(), "");
}

#[test]
fn the_rules_hold_for_exec_and_in_nested_cgroups() {
    let mut c = container!();
    with_mknod(&mut c);
    c.run_detached().ok();
    fs::create_dir(c.cgroup().join("nested")).unwrap();
    c.exec(&["/bin/mknod", "/tmp/node", "c", "1", "200"]).ok();
    let output = c.exec_with(
        &["--cgroup", "nested"],
        &["/bin/sh", "-c", "exec </tmp/node"],
    );
    assert_ne!(output.code, 0);
    output.says("Operation not permitted");
}

#[test]
fn without_a_dev_mount_the_nodes_are_made_in_the_rootfs() {
    let mut c = container!();
    for target in ["/dev/mqueue", "/dev/shm", "/dev/pts", "/dev"] {
        c.without_mount(target);
    }
    assert_eq!(
        c.output_of("stat -c %t:%T /dev/null; echo x >/dev/null"),
        "1:3\n"
    );
}

#[test]
fn the_rules_of_an_earlier_container_in_the_same_cgroup_are_replaced() {
    let mut first = container!();
    first.run_detached().ok();
    first.kill("KILL").ok();
    first.wait();
    let mut c = container!();
    with_mknod(&mut c);
    let path = first.cgroup_path();
    c.edit(|j| {
        j["linux"]["cgroupsPath"] = serde_json::json!(path);
        j["linux"]["resources"]["devices"] = serde_json::json!([{"allow": true, "access": "rwm"}]);
    });
    c.run_detached().ok();
    c.exec(&["/bin/mknod", "/tmp/node", "c", "1", "200"]).ok();
    c.exec(&["/bin/sh", "-c", "exec </tmp/node"])
        .says("No such device");
    c.delete(&["--force"]).ok();
}
