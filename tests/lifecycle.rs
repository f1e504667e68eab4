//! create, start, run, state, kill and delete as runtime-spec and runc define them.
//! The process object is in `process`; exec is in `exec`.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{eventually, kernel, skipped, wait_for};

/// A payload that exits with 3 on SIGTERM.
const POLITE: &str = "trap 'exit 3' TERM; touch /ready; while :; do sleep 0.05; done";

#[test]
fn create_leaves_init_waiting_for_start() {
    let mut c = container!();
    c.script("touch /ran");
    c.create().ok();
    let pid = c.pid();
    assert!(kernel::alive(pid));
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(!c.rootfs("/ran").exists(), "the payload ran before start");
    assert_eq!(c.status(), "created");
    c.start().ok();
    assert_eq!(c.wait(), 0);
    assert!(c.rootfs("/ran").exists());
}

#[test]
fn state_says_created_running_and_stopped_in_turn() {
    let mut c = container!();
    c.script("touch /ready; while [ -e /ready ]; do sleep 0.02; done");
    c.create().ok();
    assert_eq!(c.status(), "created");
    c.start().ok();
    c.wait_file("/ready");
    assert_eq!(c.status(), "running");
    fs::remove_file(c.rootfs("/ready")).unwrap();
    c.wait_dead();
    assert_eq!(c.status(), "stopped");
    c.delete(&[]).ok();
    c.runtime(&["state", &c.id]).exits(1).says("does not exist");
}

#[test]
fn state_of_a_stopped_container_has_pid_0() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    c.run_detached().ok();
    c.wait_dead();
    let state = c.state();
    assert_eq!(state["status"], "stopped");
    assert_eq!(state["pid"], json!(0));
}

#[test]
fn state_omits_annotations_where_there_are_none() {
    let mut c = container!();
    c.create().ok();
    assert_eq!(c.state().get("annotations"), None);
}

#[test]
fn a_dead_init_that_nobody_reaped_counts_as_stopped() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    c.run_detached().ok();
    c.wait_dead();
    assert_eq!(kernel::process_state(c.pid()), Some('Z'));
    assert_eq!(c.status(), "stopped");
    c.kill("KILL").exits(1).says("container not running");
    c.delete(&[]).ok();
}

#[test]
fn start_of_a_container_whose_init_died_is_refused_and_does_not_hang() {
    let mut c = container!();
    c.create().ok();
    let pid = nix::unistd::Pid::from_raw(c.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).unwrap();
    c.wait_dead();
    c.start()
        .exits(1)
        .says("cannot start a container that has stopped");
}

#[test]
fn start_of_a_stopped_container_is_refused() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    c.run_detached().ok();
    c.wait();
    c.start()
        .exits(1)
        .says("cannot start a container that has stopped");
}

#[test]
fn delete_of_a_running_container_is_refused() {
    let mut c = container!();
    c.run_detached().ok();
    c.delete(&[]).exits(1).says(&format!(
        "cannot delete container {} that is not stopped: running",
        c.id
    ));
    assert!(kernel::alive(c.pid()));
}

// runtime-spec: "attempting to delete a container that is not stopped MUST have no effect on the
// container and MUST generate an error". runc deletes a created container nevertheless.
#[test]
fn delete_of_a_created_container_is_refused() {
    let mut c = container!();
    c.create().ok();
    c.delete(&[]).exits(1).says(&format!(
        "cannot delete container {} that is not stopped: created",
        c.id
    ));
    assert!(kernel::alive(c.pid()));
}

#[test]
fn delete_force_ends_a_created_container() {
    let mut c = container!();
    c.create().ok();
    let pid = c.pid();
    c.delete(&["--force"]).ok();
    assert!(!kernel::alive(pid));
    c.assert_nothing_left();
}

#[test]
fn delete_force_ends_a_running_container_and_all_its_processes() {
    let mut c = container!();
    c.script("sleep 1000 & setsid sleep 1000 & touch /ready; wait");
    c.run_detached().ok();
    c.wait_file("/ready");
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
}

#[test]
fn delete_force_twice_and_of_an_absent_id_succeeds() {
    let mut c = container!();
    c.runtime(&["delete", "--force", "nobody"]).ok();
    c.create().ok();
    c.delete(&["-f"]).ok();
    c.delete(&["-f"]).ok();
}

#[test]
fn kill_sends_term_by_default() {
    let mut c = container!();
    c.script(POLITE);
    c.run_detached().ok();
    c.wait_file("/ready");
    c.runtime(&["kill", &c.id]).ok();
    assert_eq!(c.wait(), 3);
}

#[test]
fn kill_takes_names_with_and_without_sig_in_any_case_and_numbers() {
    let mut c = container!();
    c.script(
        "trap 'echo usr1' USR1; trap 'exit 4' USR2; touch /ready; while :; do sleep 0.02; done",
    );
    c.run_detached().ok();
    c.wait_file("/ready");
    for (count, signal) in ["USR1", "SIGUSR1", "sigusr1", "usr1", "10"]
        .iter()
        .enumerate()
    {
        c.kill(signal).ok();
        eventually("the trap prints", || {
            c.payload_output().lines().count() == count + 1
        });
    }
    c.kill("12").ok();
    assert_eq!(c.wait(), 4);
}

#[test]
fn kill_refuses_signals_that_do_not_exist() {
    let mut c = container!();
    c.run_detached().ok();
    for signal in ["SIGFOO", "99", "9x"] {
        c.kill(signal).exits(1);
    }
    assert!(kernel::alive(c.pid()));
}

#[test]
fn kill_works_on_a_created_container() {
    let mut c = container!();
    c.create().ok();
    c.kill("KILL").ok();
    assert_eq!(c.wait(), 137);
    assert_eq!(c.status(), "stopped");
}

#[test]
fn kill_of_a_stopped_container_says_not_running() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    c.run_detached().ok();
    c.wait();
    c.kill("KILL")
        .exits(1)
        .says("container not running")
        .one_line();
}

#[test]
fn kill_all_of_a_stopped_container_succeeds() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    c.run_detached().ok();
    c.wait();
    c.runtime(&["kill", "--all", &c.id, "KILL"]).ok();
}

#[test]
fn kill_and_delete_force_end_all_processes_of_a_host_pid_namespace() {
    let mut c = container!();
    c.without_namespace("pid");
    c.script("sleep 1000 & sleep 1000 & touch /ready; wait");
    c.run_detached().ok();
    c.wait_file("/ready");
    eventually("touch is gone", || kernel::procs(&c.cgroup()).len() == 3);
    c.kill("KILL").ok();
    eventually("the cgroup is empty", || {
        kernel::procs(&c.cgroup())
            .iter()
            .all(|p| !kernel::alive(*p))
    });
}

#[test]
fn delete_force_ends_the_rest_when_init_of_a_host_pid_namespace_is_gone() {
    let mut c = container!();
    c.without_namespace("pid");
    c.script("sleep 1000 & sleep 1000 & touch /ready");
    c.run_detached().ok();
    c.wait_file("/ready");
    c.wait_dead();
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
}

#[test]
fn run_returns_the_exit_code_of_the_payload() {
    let mut c = container!();
    for code in [0, 1, 42, 255] {
        c.script(&format!("exit {code}"));
        c.run().exits(code);
        c.assert_nothing_left();
    }
}

#[test]
fn run_returns_128_and_the_signal_that_ended_the_payload() {
    let mut c = container!();
    c.script("touch /ready; sleep 1000");
    let mut command = c.command(&["run", "--bundle"]);
    command
        .arg(c.dir())
        .arg("--pid-file")
        .arg(c.pid_file())
        .arg(&c.id);
    let mut child = command.spawn().unwrap();
    c.wait_file("/ready");
    c.kill("KILL").ok();
    assert_eq!(crate::harness::wait_for(&mut child).code(), Some(137));
}

#[test]
fn run_in_the_foreground_passes_signals_on() {
    let mut c = container!();
    c.script(POLITE);
    let mut command = c.command(&["run", "--bundle"]);
    command.arg(c.dir()).arg(&c.id);
    let mut child = command.spawn().unwrap();
    c.wait_file("/ready");
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(crate::harness::wait_for(&mut child).code(), Some(3));
}

#[test]
fn run_in_the_foreground_deletes_the_container() {
    let mut c = container!();
    assert_eq!(c.output_of("echo hello"), "hello\n");
    c.runtime(&["state", &c.id]).exits(1);
    c.assert_nothing_left();
}

#[test]
fn run_with_keep_leaves_a_stopped_container() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    c.make("run", &["--keep"]).ok();
    assert_eq!(c.status(), "stopped");
    c.delete(&[]).ok();
}

#[test]
fn run_passes_stdin_stdout_and_stderr_through() {
    let mut c = container!();
    c.script("cat; echo error >&2");
    let input = c.scratch().join("input");
    fs::write(&input, "some input\n").unwrap();
    let mut command = c.command(&["run", "--bundle"]);
    command
        .arg(c.dir())
        .arg(&c.id)
        .stdin(fs::File::open(&input).unwrap());
    let output = c.finish(command);
    output.ok();
    assert_eq!(output.stdout(), "some input\n");
    assert_eq!(output.stderr(), "error\n");
}

#[test]
fn a_failed_create_leaves_no_pid_file_and_nothing_else() {
    let mut c = container!();
    c.args(&["/bin/missing"]);
    c.create().exits(1);
    assert!(!c.pid_file().exists());
    c.assert_nothing_left();
}

#[test]
fn a_pid_file_that_cannot_be_written_fails_create_and_leaves_nothing() {
    let c = container!();
    let missing = c.scratch().join("missing/pid");
    let mut command = c.command(&["create", "--bundle"]);
    command
        .arg(c.dir())
        .arg("--pid-file")
        .arg(&missing)
        .arg(&c.id);
    c.finish(command).exits(1);
    c.assert_nothing_left();
}

#[test]
fn a_pid_file_takes_the_place_of_no_device_and_no_pipe() {
    let c = container!();
    let pipe = c.scratch().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut command = c.command(&["create", "--bundle"]);
    command.arg(c.dir()).arg("--pid-file").arg(&pipe).arg(&c.id);
    c.finish(command).exits(1).one_line().says("--pid-file");
    assert!(!fs::metadata(&pipe).unwrap().is_file());
    c.assert_nothing_left();
}

#[test]
fn relative_paths_are_taken_from_the_callers_directory() {
    let c = container!();
    let scratch = c.scratch();
    let mut command = c.bare_command(&["--root", "../state", "create", "--bundle", "../bundle"]);
    command
        .args(["--pid-file", "here.pid", &c.id])
        .current_dir(&scratch);
    c.finish(command).ok();
    let pid = fs::read_to_string(scratch.join("here.pid")).unwrap();
    assert_eq!(c.state()["pid"].to_string(), pid);
    assert_eq!(c.state()["bundle"], json!(c.dir()));
}

#[test]
fn the_bundle_is_the_current_directory_by_default() {
    let mut c = container!();
    c.script("echo here");
    let mut command = c.command(&["run", &c.id]);
    command.current_dir(c.dir());
    let output = c.finish(command);
    output.ok();
    assert_eq!(output.stdout(), "here\n");
}

#[test]
fn state_kill_and_delete_do_not_need_the_bundle() {
    let mut c = container!();
    c.run_detached().ok();
    fs::remove_file(c.dir().join("config.json")).unwrap();
    fs::rename(c.rootfs("/"), c.dir().join("elsewhere")).unwrap();
    assert_eq!(c.status(), "running");
    c.kill("KILL").ok();
    c.wait();
    c.delete(&[]).ok();
    c.assert_nothing_left();
}

#[test]
fn an_id_can_be_used_again_after_delete() {
    let mut c = container!();
    for _ in 0..3 {
        c.create().ok();
        c.delete(&["--force"]).ok();
        let _ = c.wait();
    }
}

#[test]
fn ids_with_forbidden_characters_are_refused() {
    let c = container!();
    for id in ["", ".", "..", "a/b", "../x", "a b", "ü", "a\n"] {
        let mut command = c.command(&["create", "--bundle"]);
        command.arg(c.dir()).arg("--").arg(id);
        c.finish(command).exits(1);
    }
    c.assert_nothing_left();
}

#[test]
fn ids_with_all_allowed_characters_are_accepted() {
    let mut c = container!();
    c.id = "aZ09_+.-".to_owned();
    c.create().ok();
    assert_eq!(c.state()["id"], "aZ09_+.-");
}

#[test]
fn pause_stops_all_processes_and_resume_lets_them_go_on() {
    let mut c = container!();
    if !c.cgroup().parent().unwrap().join("cgroup.freeze").exists() {
        return skipped("no cgroup.freeze");
    }
    c.run_detached().ok();
    c.runtime(&["pause", &c.id]).ok();
    let events = fs::read_to_string(c.cgroup().join("cgroup.events")).unwrap();
    assert!(events.contains("frozen 1"), "{events}");
    assert_eq!(c.status(), "paused");
    c.exec(&["/bin/true"]).exits(255).says("paused");
    c.runtime(&["resume", &c.id]).ok();
    let events = fs::read_to_string(c.cgroup().join("cgroup.events")).unwrap();
    assert!(events.contains("frozen 0"), "{events}");
    assert_eq!(c.status(), "running");
    c.runtime(&["resume", &c.id])
        .exits(1)
        .says("container not paused");
}

#[test]
fn a_pause_that_another_undoes_says_so_at_once() {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    let mut c = container!();
    // A cgroup with many processes takes longer to freeze.
    c.script("for i in $(seq 100); do sleep 1000 & done; touch /ready; wait");
    c.run_detached().ok();
    c.wait_file("/ready");
    let freeze = c.cgroup().join("cgroup.freeze");
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Relaxed) {
                if fs::read_to_string(&freeze).unwrap() == "1\n" {
                    fs::write(&freeze, "0").unwrap();
                }
            }
        });
        let begin = Instant::now();
        let undone = loop {
            let round = Instant::now();
            let paused = c.runtime(&["pause", &c.id]);
            let is_slow = round.elapsed() > Duration::from_secs(8);
            if paused.code != 0 || is_slow || begin.elapsed() > Duration::from_secs(30) {
                break (!is_slow).then_some(paused);
            }
        };
        ends.store(true, Relaxed);
        let undone = undone.expect("not 10 s");
        undone.exits(1).one_line().says("thawed by another");
    });
}

#[test]
fn delete_force_ends_a_paused_container() {
    let mut c = container!();
    c.run_detached().ok();
    c.runtime(&["pause", &c.id]).ok();
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
}

#[test]
fn kill_kill_ends_a_paused_container() {
    let mut c = container!();
    c.run_detached().ok();
    c.runtime(&["pause", &c.id]).ok();
    c.kill("KILL").ok();
    assert_eq!(c.wait(), 137);
}

#[test]
fn a_container_without_a_process_can_be_created_and_not_run() {
    let mut c = container!();
    c.edit(|j| {
        j.as_object_mut().unwrap().remove("process");
    });
    c.run()
        .exits(1)
        .says("config.json: process: is missing")
        .one_line();
    c.assert_nothing_left();
    c.create().ok();
    assert_eq!(c.status(), "created");
    assert_eq!(kernel::status(c.pid(), "CapPrm"), "0000000000000000");
    // runtime-spec requires an error, but its validation suite expects an exit status of 0.
    c.start().ok().says("config.json has no process").one_line();
    c.wait_dead();
    assert_eq!(c.status(), "stopped");
    c.start().exits(1);
    c.delete(&[]).ok();
}

#[test]
fn a_created_container_ends_by_a_signal_that_ends_processes() {
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129), ("QUIT", 131)] {
        let mut c = container!();
        c.create().ok();
        // These two signals are not meant to terminate a process.
        c.kill("WINCH").ok();
        c.kill("USR1").ok();
        assert_eq!(c.status(), "created");
        c.kill(signal).ok();
        assert_eq!(c.wait(), code);
        assert_eq!(c.status(), "stopped");
        c.start()
            .exits(1)
            .says("cannot start a container that has stopped");
        c.delete(&[]).ok();
    }
}

#[test]
fn kill_ends_the_rest_when_init_of_a_shared_pid_namespace_is_gone() {
    let mut first = container!();
    let mut second = container!();
    first.run_detached().ok();
    second.join_namespace("pid", &format!("/proc/{}/ns/pid", first.pid()));
    second.script("sleep 1000 & sleep 1000 & touch /ready");
    second.run_detached().ok();
    second.wait_file("/ready");
    second.wait_dead();
    second.wait();
    assert_eq!(second.status(), "stopped");
    second.kill("KILL").ok();
    eventually("the cgroup is empty", || {
        let left = kernel::procs(&second.cgroup());
        left.iter().all(|pid| !kernel::alive(*pid))
    });
    second.kill("KILL").exits(1).says("container not running");
    second.delete(&[]).ok();
    assert!(kernel::alive(first.pid()));
}

#[test]
fn run_without_a_subreaper_leaves_orphans_to_the_caller() {
    let mut c = container!();
    c.without_namespace("pid");
    c.script("(sleep 1000 & echo $! >/orphan); touch /ready; sleep 1000");
    let mut parents = Vec::new();
    for flags in [&["--bundle"][..], &["--no-subreaper", "--bundle"]] {
        let mut command = c.command(&[&["run"], flags].concat());
        let mut child = command.arg(c.dir()).arg(&c.id).spawn().unwrap();
        c.wait_file("/ready");
        let orphan = fs::read_to_string(c.rootfs("/orphan")).unwrap();
        let parent: u32 = kernel::status(orphan.trim().parse().unwrap(), "PPid")
            .parse()
            .unwrap();
        parents.push(parent == child.id());
        c.kill("KILL").ok();
        assert_eq!(wait_for(&mut child).code(), Some(137));
        fs::remove_file(c.rootfs("/ready")).unwrap();
        if let Ok(pid) = orphan.trim().parse() {
            crate::harness::adopt(pid);
        }
    }
    assert_eq!(parents, [true, false]);
}

#[test]
fn every_command_works_where_proc_shows_processes_only() {
    let mut c = container!();
    c.script("sleep 1000");
    let under = |c: &crate::harness::Container, args: &[&str]| {
        let inner = c.bare_command(args);
        let mut command = std::process::Command::new("unshare");
        let script = "mount -t proc -o subset=pid proc /proc && exec \"$@\"";
        command.args([
            "--mount",
            "--propagation",
            "slave",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        command.arg(inner.get_program()).args(inner.get_args());
        command.stdin(std::process::Stdio::null());
        c.finish(command)
    };
    let (root, dir) = (c.root(), c.dir().to_owned());
    let (root, dir) = (
        root.to_str().unwrap().to_owned(),
        dir.to_str().unwrap().to_owned(),
    );
    let id = c.id.clone();
    under(
        &c,
        &["--root", &root, "run", "--detach", "--bundle", &dir, &id],
    )
    .ok();
    assert_eq!(c.status(), "running");
    let state = under(&c, &["--root", &root, "state", &id]);
    state.ok();
    assert!(state.stdout().contains("running"));
    under(&c, &["--root", &root, "exec", &id, "true"]).ok();
    under(&c, &["--root", &root, "delete", "--force", &id]).ok();
    c.assert_nothing_left();
}
