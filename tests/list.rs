//! list: the three forms of its output, the empty root and broken entries.
//! The output of state for one container is in `lifecycle`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::terminal::Screen;
use crate::harness::{signal_of, wait_for, words};

#[test]
fn the_table_has_runcs_columns() {
    let mut c = container!();
    c.create().ok();
    let output = c.runtime(&["list"]);
    output.ok();
    let text = output.stdout();
    let lines: Vec<Vec<&str>> = text.lines().map(words).collect();
    assert_eq!(
        lines[0],
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    let pid = c.pid().to_string();
    assert_eq!(
        lines[1][..4],
        [&c.id, &pid, "created", c.dir().to_str().unwrap()]
    );
    assert_eq!(lines[1][5], "root");
    assert_eq!(lines.len(), 2);
}

#[test]
fn json_is_an_array_of_states_with_owner() {
    let mut c = container!();
    c.run_detached().ok();
    let output = c.runtime(&["list", "--format", "json"]);
    output.ok();
    assert_eq!(output.stderr(), "");
    let all: Value = serde_json::from_str(&output.stdout()).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(all[0]["id"], json!(c.id));
    assert_eq!(all[0]["status"], "running");
    assert_eq!(all[0]["pid"], json!(c.pid()));
    assert_eq!(all[0]["bundle"], json!(c.dir()));
    assert_eq!(all[0]["owner"], "root");
    assert!(all[0]["created"].is_string());
}

#[test]
fn quiet_prints_ids_only() {
    let mut c = container!();
    c.create().ok();
    let output = c.runtime(&["list", "-q"]);
    output.ok();
    assert_eq!(output.stdout(), format!("{}\n", c.id));
}

#[test]
fn an_empty_root_is_null_in_json_and_a_header_in_the_table() {
    let c = container!();
    fs::create_dir(c.root()).unwrap();
    let output = c.runtime(&["list", "--format", "json"]);
    output.ok();
    assert_eq!(output.stdout().trim_end(), "null");
    assert_eq!(c.runtime(&["list"]).ok().stdout().lines().count(), 1);
    assert_eq!(c.runtime(&["list", "--quiet"]).ok().stdout(), "");
}

#[test]
fn a_named_root_that_is_missing_is_an_error_and_is_not_made() {
    let c = container!();
    c.runtime(&["list"])
        .exits(1)
        .says("no such file or directory");
    assert!(!c.root().exists());
}

#[test]
fn an_unknown_format_is_an_error() {
    let c = container!();
    fs::create_dir(c.root()).unwrap();
    c.runtime(&["list", "--format", "xml"]).exits(1);
}

#[test]
fn a_broken_entry_is_reported_on_stderr_and_the_others_are_listed() {
    let mut c = container!();
    c.create().ok();
    fs::create_dir(c.root().join("broken")).unwrap();
    let output = c.runtime(&["list", "-q"]);
    output.ok();
    assert_eq!(output.stdout(), format!("{}\n", c.id));
    output.says("load container broken: ");
    fs::remove_dir(c.root().join("broken")).unwrap();
}

/// A pty whose other side is the stdout of a command, with a window of this size.
fn on_terminal(command: &mut Command, columns: u16, rows: u16) -> Screen {
    let size = nix::pty::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = nix::pty::openpty(Some(&size), None).unwrap();
    command.stdout(pty.slave).env_remove("NO_COLOR");
    Screen::of(pty.master)
}

#[test]
fn on_a_terminal_the_table_fits_and_times_are_told_as_people_tell_them() {
    let mut c = container!();
    c.create().ok();
    let mut command = c.command(&["list"]);
    let screen = on_terminal(&mut command, 60, 24);
    let mut child = command.spawn().unwrap();
    drop(command);
    assert!(wait_for(&mut child).success());
    screen.wait_for("root\r\n");
    let text = screen.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines.iter().all(|line| line.chars().count() <= 60),
        "{text}"
    );
    assert_eq!(
        words(lines[0]),
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    assert!(
        lines[1].contains(" seconds ago") || lines[1].contains(" second ago"),
        "{text}"
    );
    // The end of the path of the bundle is kept.
    let end = c.dir().file_name().unwrap().to_string_lossy().into_owned();
    assert!(lines[1].contains(&format!("/{end} ")), "{text}");
    // Elsewhere, programs read the time of the record.
    let piped = c.runtime(&["list"]).ok().stdout();
    assert!(
        piped.contains(c.state()["created"].as_str().unwrap()),
        "{piped}"
    );
}

#[test]
fn wide_has_more_columns_from_the_kernels_files() {
    let mut c = container!();
    c.edit(|j| {
        j["process"]["user"] = json!({"uid": 7, "gid": 7});
        j["annotations"] = json!({"io.kubernetes.cri.image-name": "an/image:1"});
    });
    c.run_detached().ok();
    let text = c.runtime(&["list", "--wide"]).ok().stdout();
    let lines: Vec<Vec<&str>> = text.lines().map(words).collect();
    assert_eq!(
        lines[0],
        [
            "ID", "PID", "STATUS", "IMAGE", "USER", "MEMORY", "PIDS", "CREATED", "OWNER", "CGROUP",
            "BUNDLE"
        ]
    );
    let number = |file: &str| fs::read_to_string(c.cgroup().join(file)).ok();
    let pids = number("pids.current").map_or("-".into(), |text| text.trim().to_owned());
    assert_eq!(lines[1][3..5], ["an/image:1", "7"]);
    assert_eq!(
        lines[1][5] == "-",
        number("memory.current").is_none(),
        "{text}"
    );
    assert_eq!(lines[1][6], pids);
    assert_eq!(lines[1][7], c.state()["created"].as_str().unwrap());
    assert_eq!(
        lines[1][9..],
        [c.cgroup().to_str().unwrap(), c.dir().to_str().unwrap()]
    );
    c.kill("KILL").ok();
    c.wait_dead();
    let text = c.runtime(&["list", "--wide"]).ok().stdout();
    let stopped: Vec<&str> = words(text.lines().nth(1).unwrap());
    assert_eq!((stopped[2], stopped[4], stopped[9]), ("stopped", "-", "-"));
}

#[test]
fn watch_draws_again_when_something_changes_and_ends_by_a_signal() {
    let mut c = container!();
    c.create().ok();
    let mut command = c.command(&["list", "--watch"]);
    let screen = on_terminal(&mut command, 100, 24);
    let mut child = command.spawn().unwrap();
    drop(command);
    screen.wait_for(" created ");
    c.start().ok();
    screen.wait_for(" running ");
    assert!(
        screen.text().starts_with("\u{1b}[H\u{1b}[J"),
        "{:?}",
        screen.text()
    );
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(signal_of(wait_for(&mut child)), Some(2));
}

#[test]
fn watch_in_a_pipe_prints_a_table_for_each_change() {
    let mut c = container!();
    c.create().ok();
    let mut command = c.command(&["list", "--watch"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().starts_with("ID "));
    assert!(next().contains(" created "));
    c.start().ok();
    assert_eq!(next(), "");
    assert!(next().starts_with("ID "));
    assert!(next().contains(" running "));
    // Without a reader it ends by itself at the next change.
    drop(lines);
    c.kill("KILL").ok();
    c.wait_dead();
    assert_eq!(wait_for(&mut child).code(), Some(1));
}

#[test]
fn flags_for_people_exclude_those_for_programs() {
    let c = container!();
    for (flags, text) in [
        (
            ["--wide", "--quiet"],
            "--wide and --quiet exclude each other",
        ),
        (
            ["--wide", "--format=json"],
            "--wide and --format json exclude each other",
        ),
        (
            ["--watch", "--format=json"],
            "--watch and --format json exclude each other",
        ),
    ] {
        c.runtime(&["list", flags[0], flags[1]]).exits(1).says(text);
    }
}
