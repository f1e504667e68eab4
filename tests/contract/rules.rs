//! The rules of which a drop-in breaks one first: streams, the log, forms of flags, the pid file,
//! the parent of init.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use serde_json::{Value, json};

use super::caller::{CONMON_READS, Caller, pid_in};
use crate::harness::{eventually, kernel, wait_for};

#[test]
fn repeated_flags_are_accepted_and_the_last_one_wins() {
    let c = container!();
    let root = c.root();
    let root = root.to_str().unwrap();
    let args = [
        "--root=/nowhere",
        &format!("--root={root}"),
        "--root",
        root,
        "create",
        "--bundle",
        "/nowhere",
        "--bundle",
    ];
    let mut command = c.bare_command(&args);
    command.arg(c.dir()).arg(&c.id);
    c.finish(command).ok();
    assert_eq!(c.status(), "created");
}

#[test]
fn single_dashed_long_flags_are_accepted() {
    let c = container!();
    let root = c.root();
    let mut command = c.bare_command(&["-root", root.to_str().unwrap(), "create", "-bundle"]);
    command
        .arg(c.dir())
        .arg("-pid-file")
        .arg(c.pid_file())
        .arg("-no-new-keyring")
        .arg(&c.id);
    c.finish(command).ok();
    assert!(c.pid() > 0);
}

#[test]
fn flags_are_accepted_after_the_id() {
    let mut c = container!();
    c.create().ok();
    c.runtime(&["delete", &c.id, "--force"]).ok();
    c.assert_nothing_left();
}

#[test]
fn values_of_switches_are_accepted() {
    let mut c = container!();
    c.create().ok();
    let root = c.root();
    let args = [
        "--root",
        root.to_str().unwrap(),
        "--systemd-cgroup=false",
        "--debug=false",
        "delete",
        "--force=true",
    ];
    let mut command = c.bare_command(&args);
    command.arg(&c.id);
    c.finish(command).ok();
}

#[test]
fn an_error_is_on_stderr_and_one_json_record_in_the_log() {
    let c = container!();
    let log = c.scratch().join("log.json");
    let output = c.runtime(&[
        "--log",
        log.to_str().unwrap(),
        "--log-format",
        "json",
        "start",
        "nobody",
    ]);
    output.exits(1).says("does not exist").one_line();
    assert_eq!(output.stdout(), "");
    let record: Value = serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!(record["level"], "error");
    assert!(record["msg"].as_str().unwrap().contains("does not exist"));
    assert_eq!(record["code"], "container-absent");
    assert_eq!(record["phase"], "state");
    assert_eq!(record["container"], "nobody");
    assert!(record["hint"].as_str().unwrap().contains("orlop list"));
    let time = record["time"].as_str().unwrap();
    assert!(time.len() >= 20 && time.as_bytes()[10] == b'T', "{time}");
}

#[test]
fn success_says_nothing() {
    let mut c = container!();
    let created = c.create();
    assert_eq!(
        (created.stdout(), created.stderr()),
        (String::new(), String::new())
    );
    for args in [vec!["start", &c.id], vec!["kill", &c.id, "KILL"]] {
        let output = c.runtime(&args);
        output.ok();
        assert_eq!(
            (output.stdout(), output.stderr()),
            (String::new(), String::new()),
            "{args:?}"
        );
    }
    c.wait();
    let output = c.delete(&[]);
    assert_eq!(
        (output.stdout(), output.stderr()),
        (String::new(), String::new())
    );
}

#[test]
fn the_pid_file_is_decimal_without_a_newline() {
    let mut c = container!();
    c.create().ok();
    let text = fs::read_to_string(c.pid_file()).unwrap();
    assert!(text.bytes().all(|b| b.is_ascii_digit()), "{text:?}");
    let mode = fs::metadata(c.pid_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o022, 0, "{mode:o}");
    assert_eq!(
        fs::read_dir(c.pid_file().parent().unwrap())
            .unwrap()
            .filter(|e| e
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with('.'))
            .count(),
        0
    );
}

#[test]
fn init_is_a_child_of_the_callers_subreaper() {
    let mut c = container!();
    c.create().ok();
    assert_eq!(
        kernel::status(c.pid(), "PPid"),
        std::process::id().to_string()
    );
}

#[test]
fn flags_after_the_id_belong_to_the_command() {
    let mut c = container!();
    c.run_detached().ok();
    let output = c.exec(&["ls", "-d", "--", "/etc"]);
    output.ok();
    assert_eq!(output.stdout(), "/etc\n");
}

#[test]
fn queries_say_nothing_on_stderr_even_where_the_config_has_a_warning() {
    let mut c = container!();
    c.edit(|j| {
        let bounding = &mut j["process"]["capabilities"]["bounding"];
        bounding
            .as_array_mut()
            .unwrap()
            .push(json!("CAP_UNHEARD_OF"));
    });
    c.create();
    let caller = Caller::new(&c, &[]);
    for args in [
        &["state", &c.id][..],
        &["ps", "--format", "json", &c.id],
        &["list", "--format", "json"],
        &["features"],
        &["start", &c.id],
    ] {
        caller.call(args).ok();
    }
}

#[test]
fn an_error_of_any_length_is_one_write_that_conmon_reads_whole() {
    let mut c = container!();
    let name = "n".repeat(200);
    let mounts: Vec<Value> = (0..1000)
        .map(|n| json!({"destination": format!("/{name}/{n}"), "type": name, "options": [name]}))
        .collect();
    c.edit(|j| {
        j["mounts"] = json!(mounts);
        j["process"]["cwd"] = json!("relative");
        j["linux"]["namespaces"][0]["type"] = json!(name);
    });
    // Each write to a socket of datagrams is a message of its own.
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut command = Caller::new(&c, &[]).command(&["create", "--bundle"]);
    command.arg(c.dir()).arg(&c.id).stdout(Stdio::null());
    command.stderr(std::os::fd::OwnedFd::from(theirs));
    let mut child = command.spawn().unwrap();
    drop(command);
    assert_eq!(wait_for(&mut child).code(), Some(1));
    let mut buffer = [0; 1 << 16];
    let length = ours.recv(&mut buffer).unwrap();
    assert!((1..=CONMON_READS).contains(&length), "{length} bytes");
    let text = std::str::from_utf8(&buffer[..length]).unwrap();
    assert!(text.contains("linux.namespaces[0].type"), "{text}");
    assert!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
    assert!(ours.recv(&mut buffer).is_err(), "a second write");
}

#[test]
fn a_stale_temporary_file_does_not_keep_the_pid_from_being_written() {
    let mut c = container!();
    let file = c.pid_file();
    let name = file.file_name().unwrap().to_str().unwrap();
    for stale in [format!(".{name}"), format!(".{name}.tmp")] {
        fs::write(file.with_file_name(stale), "1").unwrap();
    }
    c.create().ok();
    assert_eq!(pid_in(&file), c.state()["pid"].as_i64().unwrap() as i32);
}

#[test]
fn create_leaves_init_and_no_other_process_in_its_group() {
    let c = container!();
    let bundle = c.dir().to_str().unwrap();
    let pid_file = c.pid_file();
    let args = [
        "create",
        "--bundle",
        bundle,
        "--pid-file",
        pid_file.to_str().unwrap(),
        &c.id,
    ];
    let mut command = Caller::new(&c, &[]).command(&args);
    command.process_group(0);
    let mut child = command.spawn().unwrap();
    let group = child.id().to_string();
    assert!(wait_for(&mut child).success());
    let init = pid_in(&pid_file);
    // A process that nobody reaped would be listed, too.
    let listed = fs::read_dir("/proc").unwrap().flatten();
    let members: Vec<i32> = listed
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let fields = stat.rsplit_once(')')?.1;
            (fields.split_whitespace().nth(2)? == group).then_some(pid)
        })
        .collect();
    assert!(members.iter().all(|pid| *pid == init), "{members:?}");
}

#[test]
fn a_container_outlives_a_caller_that_is_killed() {
    let c = container!();
    let pid_file = c.pid_file();
    let bundle = c.dir().to_str().unwrap();
    let run = [
        "run",
        "--bundle",
        bundle,
        "--pid-file",
        pid_file.to_str().unwrap(),
        &c.id,
    ];
    let mut inner = Caller::new(&c, &[]).command(&run);
    // The shell is the caller; the runtime in the foreground dies with it.
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", "\"$@\"; true", "sh"]);
    shell.arg(inner.get_program()).args(inner.get_args());
    inner.stdin(Stdio::null());
    let mut shell = shell.stdin(Stdio::null()).spawn().unwrap();
    eventually("the container runs", || {
        c.runtime(&["state", &c.id])
            .stdout()
            .contains("\"running\"")
    });
    let init = pid_in(&pid_file);
    let parent = kernel::status(init, "PPid");
    shell.kill().unwrap();
    shell.wait().unwrap();
    let own = std::process::id().to_string();
    // The kernel gives init to the next subreaper when the runtime is dead.
    eventually("init has a new parent", || {
        kernel::status(init, "PPid") != parent
    });
    assert_eq!(kernel::status(init, "PPid"), own);
    assert_eq!(c.status(), "running");
    c.kill("KILL").ok();
    assert_eq!(c.wait(), 128 + 9);
}
