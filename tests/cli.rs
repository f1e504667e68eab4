//! The command line as engines write it: forms of flags, the streams, the log, the pid file.
//! The effects of the commands are tested in other files.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Container, kernel};

/// The record of the error of create.
fn record_of_create(c: &mut Container) -> Value {
    let log = c.scratch().join("log.json");
    let log = log.to_str().unwrap().to_owned();
    let mut command = c.command(&["--log", &log, "--log-format", "json", "create", "--bundle"]);
    command.arg(c.dir()).arg(&c.id);
    c.finish(command).exits(1).one_line();
    serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap()
}

#[test]
fn the_record_of_an_error_names_code_phase_place_errno_and_container() {
    let mut c = container!();
    fs::remove_dir_all(c.rootfs("/")).unwrap();
    let record = record_of_create(&mut c);
    assert_eq!(record["code"], "root-missing");
    assert_eq!(record["phase"], "mount");
    assert_eq!(record["pointer"], "/root/path");
    assert_eq!(record["errno"], "ENOENT");
    assert_eq!(record["container"], c.id);
    assert!(record["hint"].as_str().unwrap().contains("root.path"));
}

#[test]
fn an_error_of_the_child_has_its_code_and_place() {
    let mut c = container!();
    let log = c.scratch().join("log.json");
    for (args, code) in [
        (["/no/such/program"], "program-missing"),
        (["no-such-program"], "program-missing"),
        (["/etc/passwd"], "program-denied"),
    ] {
        c.args(&args);
        let record = record_of_create(&mut c);
        assert_eq!(record["code"], code, "{record}");
        assert_eq!(record["phase"], "exec");
        assert_eq!(record["pointer"], "/process/args/0");
        fs::remove_file(&log).unwrap();
    }
    c.args(&["/bin/true"]);
    c.edit(|j| {
        let hook = json!({"path": "/bin/false"});
        j["hooks"] = json!({"createContainer": [hook]});
    });
    let record = record_of_create(&mut c);
    assert_eq!(record["code"], "hook-failed", "{record}");
    assert_eq!(record["phase"], "hooks");
    assert_eq!(record["pointer"], "/hooks/createContainer/0");
}

#[test]
fn a_mistake_in_the_command_line_has_a_code_too() {
    let c = container!();
    let log = c.scratch().join("log.json");
    let log = log.to_str().unwrap();
    c.runtime(&["--log", log, "--log-format", "json", "stat"])
        .exits(1)
        .one_line();
    let record: Value = serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!(record["code"], "usage");
    assert_eq!(record["phase"], "command-line");
    assert_eq!(record.get("container"), None);
}

#[test]
fn a_terminal_is_told_the_hint_in_a_second_line_and_in_colour_unless_it_wants_none() {
    let c = container!();
    for (variable, expected) in [
        (
            ("TERM", "xterm"),
            "\x1b[1;31mcontainer does not exist\x1b[0m\r\n\x1b[36mhint:\x1b[0m `orlop list`",
        ),
        (
            ("NO_COLOR", "1"),
            "container does not exist\r\nhint: `orlop list`",
        ),
        (
            ("TERM", "dumb"),
            "container does not exist\r\nhint: `orlop list`",
        ),
    ] {
        let mut command = c.command(&["start", "nobody"]);
        command.env_remove("NO_COLOR").env_remove("CLICOLOR");
        command.env_remove("CLICOLOR_FORCE").env("TERM", "xterm");
        command.env(variable.0, variable.1);
        let text = on_terminal(command);
        assert!(text.starts_with(expected), "{variable:?}: {text:?}");
        assert_eq!(text.lines().count(), 2, "{text:?}");
    }
}

/// Runs a command whose stderr is a terminal, and returns what it writes there.
fn on_terminal(mut command: std::process::Command) -> String {
    use std::io::Read as _;
    let pty = nix::pty::openpty(None, None).unwrap();
    command.stderr(pty.slave);
    command.spawn().unwrap().wait().unwrap();
    drop(command);
    let mut text = Vec::new();
    // The master of a terminal that nobody has open fails after the last byte.
    let _ = fs::File::from(pty.master).read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn a_log_that_cannot_be_written_hides_no_error() {
    let c = container!();
    c.runtime(&["--log", "/dev/full", "start", "nobody"])
        .exits(1)
        .says("does not exist");
}

#[test]
fn help_works_everywhere() {
    let c = container!();
    for args in [
        &["--help"][..],
        &["-h"],
        &["create", "--help"],
        &["exec", "-h"],
    ] {
        let output = c.finish(c.bare_command(args));
        output.ok();
        assert!(!output.stdout().is_empty(), "{args:?}");
    }
}

#[test]
fn spec_writes_a_config_that_runs() {
    let mut c = container!();
    let dir = c.scratch();
    c.finish(c.bare_command(&["spec", "--bundle", dir.to_str().unwrap()]))
        .ok();
    let mut written: Value =
        serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
    assert_eq!(written["process"]["terminal"], true);
    assert_eq!(written["root"]["path"], "rootfs");
    c.finish(c.bare_command(&["spec", "--bundle", dir.to_str().unwrap()]))
        .exits(1)
        .says("exists");
    written["process"]["terminal"] = false.into();
    written["linux"]["cgroupsPath"] = c.cgroup_path().into();
    c.edit(|j| *j = written);
    c.args(&["/bin/true"]);
    c.run().ok();
}

#[test]
fn unknown_commands_and_flags_are_errors() {
    let c = container!();
    c.finish(c.bare_command(&["unheardof"]))
        .exits(1)
        .says("unheardof");
    c.finish(c.bare_command(&["create", "--unheard-of", "x"]))
        .exits(1);
    c.finish(c.bare_command(&["start"])).exits(1);
    c.finish(c.bare_command(&["start", "a", "b"])).exits(1);
}

#[test]
fn a_root_that_is_the_root_directory_is_refused() {
    let c = container!();
    c.finish(c.bare_command(&["--root", "/", "state", &c.id]))
        .exits(1);
}

#[test]
fn a_configuration_by_another_name_is_found_in_the_bundle() {
    let mut c = container!();
    c.script("echo other; sleep 1000");
    fs::rename(c.dir().join("config.json"), c.dir().join("other.json")).unwrap();
    c.create().exits(1).says("config.json");
    c.make("run", &["--detach", "-f", "other.json"]).ok();
    // exec reads the configuration again.
    assert_eq!(
        c.exec_output("echo $PATH"),
        "/usr/sbin:/usr/bin:/sbin:/bin\n"
    );
    c.delete(&["--force"]).ok();
    let absolute = c.scratch().join("third.json");
    fs::rename(c.dir().join("other.json"), &absolute).unwrap();
    c.make("create", &["--config", absolute.to_str().unwrap()])
        .ok();
    c.delete(&["--force"]).ok();
    let mut spec = c.command(&["spec", "-f", "made.json", "--bundle"]);
    spec.arg(c.dir());
    c.finish(spec).ok();
    assert!(c.dir().join("made.json").exists());
}

#[test]
fn kill_and_delete_take_all_containers_that_a_regular_expression_matches() {
    let mut c = container!();
    let names = ["apple-1", "apple-2", "pear-1"];
    let dir = c.dir().to_owned();
    for (index, name) in names.iter().enumerate() {
        let path = format!("{}/{index}", c.parent_cgroup_path());
        c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
        let mut create = c.command(&["run", "--detach", "--bundle"]);
        c.finish({
            create.arg(&dir).arg(name);
            create
        })
        .ok();
    }
    let status = |name: &str| {
        let state: serde_json::Value =
            serde_json::from_str(&c.runtime(&["state", name]).ok().stdout()).unwrap();
        state["status"].as_str().unwrap().to_owned()
    };
    c.runtime(&["kill", "--regex", "^app.*[12]$", "KILL"]).ok();
    crate::harness::eventually("the matching two are killed", || {
        status("apple-1") == "stopped" && status("apple-2") == "stopped"
    });
    assert_eq!(status("pear-1"), "running");
    // Deleting one container fails; the others are deleted.
    c.runtime(&["delete", "--regex", "1$"])
        .exits(1)
        .says("container pear-1: cannot delete container pear-1 that is not stopped")
        .one_line();
    c.runtime(&["state", "apple-1"]).exits(1);
    c.runtime(&["delete", "--regex", "--force", "."]).ok();
    assert!(c.root_entries().is_empty());
    c.runtime(&["delete", "--regex", "nothing"]).ok();
    c.runtime(&["kill", "--regex", "("])
        .exits(1)
        .says("--regex \"(\": not a regular expression");
}

#[test]
fn spec_for_a_user_without_privileges_maps_the_caller() {
    let c = container!();
    let bundle = c.scratch();
    let mut spec = c.command(&["spec", "--rootless", "--bundle"]);
    spec.arg(&bundle);
    c.finish(spec).ok();
    let text = fs::read_to_string(bundle.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    assert_eq!(config["linux"]["uidMappings"], map);
    assert_eq!(config["linux"]["gidMappings"], map);
    let kinds = config["linux"]["namespaces"].as_array().unwrap();
    assert!(kinds.contains(&json!({"type": "user"})));
    assert!(!kinds.contains(&json!({"type": "network"})));
    assert!(config["linux"].get("resources").is_none());
    assert!(!text.contains("gid=5"));
}

#[test]
fn a_log_goes_to_journald_or_a_file() {
    use std::os::unix::net::UnixDatagram;
    let c = container!();
    let file = c.scratch().join("log.json");
    let log = format!("file:{}", file.display());
    c.runtime(&["--log", &log, "start", "nobody"]).exits(1);
    assert!(fs::read_to_string(file).unwrap().contains("does not exist"));
    let socket = c.scratch().join("journal");
    let journal = UnixDatagram::bind(&socket).unwrap();
    journal
        .set_read_timeout(Some(crate::harness::DEADLINE))
        .unwrap();
    // The command has a mount namespace of its own, with this socket in the journal's place.
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && >/run/systemd/journal/socket \
                  && mount --bind \"$0\" /run/systemd/journal/socket && exec \"$@\"";
    let inner = c.command(&["--log", "journald:box", "start", "nobody"]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(&socket);
    command.arg(inner.get_program()).args(inner.get_args());
    c.finish(command).exits(1).says("does not exist").one_line();
    let mut buffer = [0; 4096];
    let length = journal.recv(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(
        text.starts_with("PRIORITY=3\nSYSLOG_IDENTIFIER=box\nMESSAGE="),
        "{text}"
    );
    assert!(text.ends_with("does not exist\n"), "{text}");
}

#[test]
fn a_stack_limit_that_is_too_low_is_an_error_of_one_line() {
    let c = container!();
    let inner = c.command(&["list"]);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "ulimit -s 64; exec \"$@\"", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    c.finish(command)
        .exits(1)
        .says("the stack limit is 64 KiB, but orlop needs 128 KiB")
        .one_line();
}

#[test]
fn the_log_level_decides_what_the_log_has() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    c.edit(|j| j["process"]["capabilities"]["bounding"] = json!(["CAP_NO_SUCH_THING"]));
    let log = c.scratch().join("log");
    for (level, warnings, debugs) in [
        ("error", false, false),
        ("warning", true, false),
        ("debug", true, true),
    ] {
        let _ = fs::remove_file(&log);
        let mut command = c.command(&["--log-level", level, "--log"]);
        command.arg(&log).args(["run", "--bundle"]);
        command.arg(c.dir()).arg(&c.id);
        c.finish(command).ok();
        let text = fs::read_to_string(&log).unwrap_or_default();
        assert_eq!(text.contains("level=warning"), warnings, "{level}: {text}");
        assert_eq!(text.contains("level=debug"), debugs, "{level}: {text}");
    }
    c.runtime(&["--log-level", "loud", "list"])
        .exits(1)
        .says("--log-level");
}

#[test]
fn the_flag_for_criu_has_no_effect() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    let mut command = c.command(&["--criu", "/no/such/program", "run", "--bundle"]);
    command.arg(c.dir()).arg(&c.id);
    c.finish(command).ok();
}

#[test]
fn the_manager_cgroupfs_makes_the_cgroup_without_systemd() {
    let c = container!();
    let mut command = c.command(&["--cgroup-manager", "cgroupfs", "create", "--bundle"]);
    command.arg(c.dir()).arg(&c.id);
    // A systemd that is not there would be an error of its driver.
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/no/such/bus");
    c.finish(command).ok();
    assert_eq!(json!(kernel::procs(&c.cgroup())), json!([c.state()["pid"]]));
    c.delete(&["--force"]).ok();
}
