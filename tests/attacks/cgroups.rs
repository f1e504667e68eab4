//! A container's attacks through its own cgroup: no command may take long, and nothing may be left.

use std::process::Stdio;
use std::time::Instant;

use super::{meanwhile, report};
use crate::harness::{eventually, kernel, wait_for};

/// Runs a container with a script in its own writable cgroup. Checks that commands are quick and
/// that nothing is left.
fn assert_ended(what: &str, script: &str) {
    let mut c = container!();
    c.without_mount("/sys");
    c.mount(
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "rw"],
    );
    c.mount(
        "/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "rw"],
    );
    c.script(&format!(
        "cd /cgroup && {script}; : >/made; exec sleep 1000"
    ));
    c.run_detached().ok();
    c.wait_file("/made");
    let in_time = |command: &str, run: &dyn Fn() -> i32| {
        let begin = Instant::now();
        let code = run();
        let taken = begin.elapsed();
        assert!(
            taken < crate::harness::DEADLINE,
            "{what}: {command}: {taken:?}"
        );
        assert_eq!(code, 0, "{what}: {command}");
        report("exposed", 1);
    };
    let id = c.id.clone();
    let run = |args: &[&str]| c.runtime(args).code;
    in_time("state", &|| run(&["state", &id]));
    in_time("ps", &|| run(&["ps", &id]));
    if !script.contains("freeze") {
        in_time("pause", &|| run(&["pause", &id]));
        in_time("resume", &|| run(&["resume", &id]));
        in_time("exec", &|| run(&["exec", &id, "/bin/true"]));
    }
    in_time("delete", &|| run(&["delete", "--force", &id]));
    c.assert_nothing_left();
}

#[test]
fn a_cgroup_1500_deep_is_paused_and_deleted() {
    assert_ended("deep", "mkdir -p $(yes d | head -n 1500 | tr '\\n' /)");
}

#[test]
fn a_cgroup_3000_wide_is_paused_and_deleted() {
    assert_ended("wide", "mkdir $(seq 3000)");
}

#[test]
fn a_threaded_cgroup_is_paused_and_deleted() {
    let script = "mkdir -p t/u v; echo threaded >t/cgroup.type; echo threaded >t/u/cgroup.type; \
        (echo 0 >t/u/cgroup.threads; exec sleep 1000) & \
        (echo 0 >v/cgroup.procs; exec sleep 1000) &";
    assert_ended("threaded", &format!("{{ {script} }} 2>/dev/null"));
}

/// The kernel renames no cgroup of version 2. The nearest attack: cgroups are removed and made
/// again, by their own names and by those of others, with processes that move between them, while
/// commands walk the tree.
#[test]
fn cgroups_that_change_their_names_hold_no_command_up() {
    let mut c = container!();
    c.mount(
        "/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "rw"],
    );
    let racer = "while :; do mkdir -p a/b c/d; (echo 0 >a/b/cgroup.procs; :; echo 0 >c/cgroup.procs; :) & \
        rmdir a/b a; mkdir -p a c/b; wait; rmdir c/d c/b c a; echo >>/turns; done";
    c.script(&format!(
        "cd /cgroup && mkdir from && mv from to 2>/renamed; rmdir from; : >/made; \
         exec 2>/dev/null; ({racer}) & {racer}"
    ));
    c.run_detached().ok();
    c.wait_file("/made");
    let renamed = std::fs::read_to_string(c.rootfs("/renamed")).unwrap();
    assert!(renamed.contains("Operation not permitted"), "{renamed}");
    c.wait_file("/turns");
    let runs = meanwhile(|| {
        for command in ["state", "ps", "pause", "resume"] {
            c.runtime(&[command, &c.id]).ok();
        }
        c.exec(&["/bin/true"]).ok();
    });
    let turns = std::fs::metadata(c.rootfs("/turns")).unwrap().len();
    assert!(turns > 10, "{turns}");
    report("race", turns);
    report("exposed", 5 * runs);
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
}

#[test]
fn a_cgroup_that_is_frozen_from_inside_is_deleted() {
    assert_ended(
        "frozen below",
        "mkdir f; (echo 0 >f/cgroup.procs; exec sleep 1000) & sleep 0.1; echo 1 >f/cgroup.freeze",
    );
}

/// A container that freezes itself counts as paused. An exec process that is frozen with it is
/// killed with it.
#[test]
fn a_container_that_froze_itself_is_deleted() {
    let mut c = container!();
    c.mount(
        "/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "rw"],
    );
    c.script("(: >/made; echo 1 >/cgroup/cgroup.freeze) & exec sleep 1000");
    c.run_detached().ok();
    c.wait_file("/made");
    eventually("it is paused", || c.status() == "paused");
    c.exec(&["/bin/true"]).exits(255).one_line();
    let mut caught = c.command(&["exec", "--ignore-paused", &c.id, "/bin/true"]);
    let mut caught = caught.stderr(Stdio::null()).spawn().unwrap();
    eventually("it is caught", || kernel::procs(&c.cgroup()).len() > 2);
    let begin = Instant::now();
    c.delete(&["--force"]).ok();
    assert!(!wait_for(&mut caught).success());
    assert!(begin.elapsed() < crate::harness::DEADLINE);
    c.assert_nothing_left();
}

/// A container reaches no cgroup above its own.
#[test]
fn cve_2023_25809_a_container_moves_no_process_out_of_its_cgroup() {
    let mut c = container!();
    c.capabilities(
        &["bounding", "effective", "permitted"],
        &["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"],
    );
    c.mount(
        "/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "rw"],
    );
    // The root of the cgroup namespace is the container's own cgroup, so no path leads above it.
    c.script(
        "mount -t cgroup2 none /tmp && echo 0 >/tmp/cgroup.procs; mount -o bind,rw /cgroup/.. /tmp; \
         mkdir /cgroup/below && echo 0 >/cgroup/below/cgroup.procs; : >/made; exec sleep 1000",
    );
    c.run_detached().ok();
    c.wait_file("/made");
    let cgroup = kernel::cgroup_of(c.pid());
    assert_eq!(cgroup, format!("{}/below", c.cgroup_path()));
    c.delete(&["--force"]).ok();
    c.without_namespace("cgroup").without_mount("/cgroup");
    c.mount(
        "/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "ro"],
    );
    let text = c.output_of(
        "echo 0 >/cgroup/cgroup.procs && echo out; mkdir /cgroup/new && echo made; echo end",
    );
    assert_eq!(text, "end\n");
}
