//! The record on disk, if it is broken, old, forged or in a hostile place.
//! Valid records are in `lifecycle`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Container, has_strace, kernel, runtime_path, skipped};

fn record(c: &Container) -> PathBuf {
    c.root().join(&c.id).join("state.json")
}

/// Returns whether the test runs another runtime, whose record has a format of its own.
fn is_foreign() -> bool {
    !runtime_path().ends_with("orlop")
}

/// Replaces every number that equals `from` in a JSON value.
fn replace_number(value: &mut Value, from: i64, to: i64) {
    match value {
        Value::Number(n) if n.as_i64() == Some(from) => *value = json!(to),
        Value::Array(a) => a.iter_mut().for_each(|v| replace_number(v, from, to)),
        Value::Object(o) => o.values_mut().for_each(|v| replace_number(v, from, to)),
        _ => {}
    }
}

#[test]
fn the_directories_of_the_state_are_for_their_owner() {
    let mut c = container!();
    c.create().ok();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(c.root()) & 0o077, 0);
    assert_eq!(mode(record(&c)) & 0o022, 0);
}

#[test]
fn delete_force_recovers_from_a_broken_record() {
    if is_foreign() {
        return skipped("another runtime's record");
    }
    for text in ["", "{", "garbage", "null", "{\"version\":9999}"] {
        let mut c = container!();
        c.run_detached().ok();
        let pid = c.pid();
        fs::write(record(&c), text).unwrap();
        c.runtime(&["state", &c.id])
            .exits(1)
            .one_line()
            .says("state.json");
        c.delete(&["--force"]).ok();
        assert!(!kernel::alive(pid), "{text:?}: init lives on");
        c.assert_nothing_left();
        c.create().ok();
    }
}

#[test]
fn delete_force_recovers_from_a_missing_record() {
    let mut c = container!();
    fs::create_dir_all(c.root().join(&c.id)).unwrap();
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
    c.create().ok();
}

#[test]
fn a_record_that_is_a_symlink_or_a_fifo_hangs_nothing() {
    if is_foreign() {
        return skipped("another runtime's record");
    }
    let mut c = container!();
    c.create().ok();
    let copy = c.scratch().join("copy");
    fs::rename(record(&c), &copy).unwrap();
    nix::unistd::mkfifo(&record(&c), nix::sys::stat::Mode::S_IRWXU).unwrap();
    c.runtime(&["state", &c.id]).exits(1);
    fs::remove_file(record(&c)).unwrap();
    std::os::unix::fs::symlink(&copy, record(&c)).unwrap();
    c.runtime(&["state", &c.id]).exits(1);
    fs::remove_file(record(&c)).unwrap();
    fs::rename(copy, record(&c)).unwrap();
    assert_eq!(c.status(), "created");
}

#[test]
fn a_forged_pid_is_neither_running_nor_killed() {
    if is_foreign() {
        return skipped("another runtime's record");
    }
    let mut c = container!();
    c.run_detached().ok();
    // Start times have a resolution of 10 ms. Two processes with the same start time differ only
    // in their pids.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut innocent = std::process::Command::new("/bin/sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let mut state: Value = serde_json::from_slice(&fs::read(record(&c)).unwrap()).unwrap();
    c.kill("KILL").ok();
    c.wait();
    replace_number(&mut state, c.pid().into(), innocent.id().into());
    fs::write(record(&c), serde_json::to_vec(&state).unwrap()).unwrap();
    let status = c.runtime(&["state", &c.id]);
    let killed = c.kill("KILL");
    let entered = c.exec(&["/bin/true"]);
    let deleted = c.delete(&["--force"]);
    let alive = kernel::alive(innocent.id() as i32);
    innocent.kill().unwrap();
    innocent.wait().unwrap();
    assert!(alive, "the process with the forged pid was killed");
    assert!(status.stdout().contains("stopped"), "{}", status.stdout());
    killed.exits(1).says("container not running");
    entered.exits(255);
    deleted.ok();
}

#[test]
fn a_killed_create_leaves_what_delete_force_can_remove() {
    for delay in [1, 2, 3, 5, 8, 13] {
        let mut c = container!();
        let mut command = c.command(&["create", "--bundle"]);
        command.arg(c.dir()).arg(&c.id);
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        let _ = child.kill();
        child.wait().unwrap();
        c.delete(&["--force"]).ok();
        c.assert_nothing_left();
        c.create().ok();
    }
}

#[test]
fn a_cgroup_that_a_killed_create_only_meant_to_use_is_not_emptied() {
    if is_foreign() {
        return skipped("another runtime's record");
    }
    let mut owner = container!();
    owner.run_detached().ok();
    let c = container!();
    let dir = c.root().join(&c.id);
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(c.root(), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(owner.cgroup(), dir.join("cgroup.claim")).unwrap();
    c.delete(&["--force"]).ok();
    assert!(!dir.exists());
    assert!(kernel::alive(owner.pid()), "another's process was killed");
    // A frozen cgroup is left alone too, since `create` would not have used it.
    let frozen = owner.cgroup().parent().unwrap().join("frozen");
    fs::create_dir(&frozen).unwrap();
    fs::write(frozen.join("cgroup.freeze"), "1").unwrap();
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::symlink(&frozen, dir.join("cgroup.claim")).unwrap();
    c.delete(&["--force"]).ok();
    fs::remove_dir(&frozen).unwrap();
    fs::remove_dir(c.root()).unwrap();
}

#[test]
fn a_container_directory_that_another_user_made_is_not_believed() {
    if is_foreign() {
        return skipped("another runtime's record");
    }
    let mut owner = container!();
    owner.run_detached().ok();
    let c = container!();
    let dir = c.root().join(&c.id);
    fs::create_dir_all(&dir).unwrap();
    // As in /tmp, all users may create directories in the root, but remove only their own.
    fs::set_permissions(c.root(), fs::Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::symlink(owner.cgroup(), dir.join("cgroup")).unwrap();
    std::os::unix::fs::chown(&dir, Some(1000), Some(1000)).unwrap();
    for command in [&["delete", "--force"][..], &["kill", "--all"], &["state"]] {
        let output = c.runtime(&[command, &[c.id.as_str()]].concat());
        output.exits(1).one_line().says(dir.to_str().unwrap());
    }
    assert!(kernel::alive(owner.pid()), "another's process was killed");
    fs::remove_dir_all(c.root()).unwrap();
}

/// Returns a runtime command in which the system call `call` fails from number `first` on.
fn failing(c: &Container, call: &str, first: u32, args: &[&str]) -> Command {
    let own = c.command(args);
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e"]);
    command.arg(format!("trace={call}"));
    command.arg("-e");
    command.arg(format!("inject={call}:error=EIO:when={first}+"));
    command.arg(own.get_program()).args(own.get_args());
    command.envs(
        own.get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    command.stdin(std::process::Stdio::null());
    command
}

#[test]
fn a_kernel_without_locks_or_random_numbers_is_no_panic() {
    let mut c = container!();
    if !has_strace() {
        return;
    }
    c.args(&["/bin/true"]);
    let (bundle, id) = (c.dir().to_str().unwrap().to_owned(), c.id.clone());
    let run = ["run", "--bundle", &bundle, &id];
    let output = c.finish(failing(&c, "getrandom", 1, &run));
    output.exits(1).one_line().says("getrandom: EIO");
    c.assert_nothing_left();
    // The second flock call unlocks.
    let output = c.finish(failing(&c, "flock", 2, &run));
    assert!(output.stderr().lines().count() <= 1, "{}", output.stderr());
    assert!(!output.stderr().contains("panicked"), "{}", output.stderr());
    c.delete(&["--force"]);
    let output = c.finish(failing(&c, "flock", 1, &run));
    output.exits(1).one_line().says("flock: EIO");
    c.assert_nothing_left();
}

#[test]
fn a_container_of_another_runtime_is_left_alone() {
    let mut c = container!();
    c.create().ok();
    let pid = c.pid();
    for (runtime, file) in [("crun", "status"), ("runc", "state.json")] {
        let dir = c.root().join(runtime);
        fs::create_dir(&dir).unwrap();
        let text = json!({"id": runtime, "pid": pid, "init_process_pid": pid}).to_string();
        fs::write(dir.join(file), text).unwrap();
        for command in [
            &["state", runtime][..],
            &["kill", runtime, "KILL"],
            &["delete", runtime],
            &["delete", "--force", runtime],
        ] {
            let text = format!("the container is one of {runtime}'s");
            c.runtime(command).exits(1).says(&text).one_line();
        }
        assert!(dir.join(file).exists());
        assert!(crate::harness::kernel::alive(pid));
        fs::remove_dir_all(&dir).unwrap();
    }
}
