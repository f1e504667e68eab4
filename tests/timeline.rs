//! `--timeline`: what its trace says of create, start, run and exec, what the container has of it,
//! and how `timeline` draws it.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Container, has_strace, kernel, skipped};

/// One event of a trace, in microseconds.
struct Event {
    name: String,
    thread: String,
    begin: f64,
    end: f64,
}

/// The path of a trace, which no other test uses.
fn trace_file(c: &Container) -> PathBuf {
    c.scratch().join("trace.json")
}

/// Reads a trace, and checks what holds for each.
fn events(c: &Container) -> Vec<Event> {
    let text = fs::read_to_string(trace_file(c)).unwrap();
    let trace: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(trace["lostSpans"], 0);
    let all = trace["traceEvents"].as_array().unwrap();
    let thread = |id: &Value| {
        let named = |event: &&Value| event["name"] == "thread_name" && event["tid"] == *id;
        let event = all.iter().find(named).unwrap();
        event["args"]["name"].as_str().unwrap().to_owned()
    };
    let spans = all.iter().filter(|event| event["ph"] == "X");
    let spans = spans.map(|event| Event {
        name: event["name"].as_str().unwrap().to_owned(),
        thread: thread(&event["tid"]),
        begin: event["ts"].as_f64().unwrap(),
        end: event["ts"].as_f64().unwrap() + event["dur"].as_f64().unwrap(),
    });
    let spans: Vec<Event> = spans.collect();
    let parent = |event: &&Event| event.thread == "parent";
    let end = spans.iter().filter(parent).map(|event| event.end);
    let end = end.fold(0.0, f64::max);
    for event in &spans {
        let inside = 0.0 <= event.begin && event.begin <= event.end && event.end <= end + 0.001;
        assert!(inside, "{} of {}: {text}", event.name, event.thread);
    }
    spans
}

/// The names of the events of a process, in the order of the trace.
fn names<'a>(events: &'a [Event], thread: &str) -> Vec<&'a str> {
    let own = events.iter().filter(|event| event.thread == thread);
    own.map(|event| event.name.as_str()).collect()
}

#[track_caller]
fn assert_in_order(names: &[&str], wanted: &[&str]) {
    let mut left = names.iter();
    for name in wanted {
        assert!(left.any(|found| found == name), "{name} in {names:?}");
    }
}

#[test]
fn the_timeline_of_a_run_has_the_steps_of_both_sides() {
    let mut c = container!();
    c.script("true");
    let trace = trace_file(&c);
    c.make("run", &["--timeline", trace.to_str().unwrap()]).ok();
    let events = events(&c);
    let parents = [
        "parse the command line",
        "read config.json",
        "plan",
        "cgroup",
        "clone",
    ];
    assert_in_order(&names(&events, "parent"), &parents);
    let parents = [
        "clone",
        "wait for the child",
        "wait for the program",
        "filter and execve",
    ];
    assert_in_order(&names(&events, "parent"), &parents);
    let child = names(&events, "child");
    let steps = [
        "root file system",
        "enter the root",
        "credentials and program",
    ];
    assert_in_order(&child, &steps);
    assert_eq!(child.last(), Some(&"filter and execve"));
    let mounts = c.config()["mounts"].as_array().unwrap().iter();
    for mount in mounts {
        let name = format!("mount {}", mount["destination"].as_str().unwrap());
        assert!(child.contains(&name.as_str()), "{name} in {child:?}");
    }
    // The child begins after its clone, and ends when the parent sees the end of the link.
    let of = |thread: &str, name: &str| {
        let mut found = events.iter();
        found
            .find(|event| event.thread == thread && event.name == name)
            .unwrap()
    };
    assert!(of("child", "close descriptors").begin >= of("parent", "clone").begin);
    let (link, child) = (
        of("parent", "filter and execve"),
        of("child", "filter and execve"),
    );
    assert!((link.end - child.end).abs() < 1.0);
}

#[test]
fn create_start_and_exec_have_timelines_and_hooks_are_in_them() {
    let mut c = container!();
    c.args(&["/bin/sleep", "1000"]);
    let hook = json!([{"path": "/bin/true"}]);
    c.edit(|config| {
        config["hooks"] =
            json!({"createRuntime": hook, "createContainer": hook, "startContainer": hook});
    });
    let trace = trace_file(&c);
    let flag = ["--timeline", trace.to_str().unwrap()];
    c.make("create", &flag).ok();
    let created = events(&c);
    assert_in_order(
        &names(&created, "parent"),
        &["hooks of the runtime", "hook createRuntime[0]"],
    );
    let child = names(&created, "child");
    assert_in_order(
        &child,
        &["hooks of the container", "hook createContainer[0]"],
    );
    // The parent may write the trace before the child comes to its wait.
    let last = ["credentials and program", "wait for the start"];
    assert!(
        child.last().is_some_and(|name| last.contains(name)),
        "{child:?}"
    );
    c.runtime(&["start", flag[0], flag[1], &c.id]).ok();
    let steps = [
        "connect to the start socket",
        "wait for the program",
        "filter and execve",
    ];
    assert_in_order(&names(&events(&c), "parent"), &steps);
    c.exec_with(&flag, &["/bin/true"]).ok();
    let exec = events(&c);
    assert_in_order(
        &names(&exec, "child"),
        &["join namespaces", "clone the process"],
    );
    assert_in_order(
        &names(&exec, "process"),
        &["wait for the start", "filter and execve"],
    );
}

#[test]
fn the_clock_of_a_time_namespace_is_no_other_time() {
    let mut c = container!();
    c.args(&["/bin/sleep", "1000"]);
    c.edit(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 100_000, "nanosecs": 7}});
    });
    let trace = trace_file(&c);
    let flag = ["--timeline", trace.to_str().unwrap()];
    c.make("run", &["--detach", flag[0], flag[1]]).ok();
    // Every event lies in the parent's time, or `events` would have found it.
    let run = events(&c);
    assert_in_order(
        &names(&run, "child"),
        &["root file system", "filter and execve"],
    );
    // The child of an exec changes its clock on the way.
    c.exec_with(&flag, &["/bin/true"]).ok();
    let exec = events(&c);
    assert_in_order(
        &names(&exec, "child"),
        &["close descriptors", "clone the process"],
    );
    assert_in_order(&names(&exec, "process"), &["filter and execve"]);
}

#[test]
fn a_failed_create_shows_where_it_failed() {
    let mut c = container!();
    c.mount("/x", "tmpfs", "tmpfs", &["size=nonsense"]);
    let trace = trace_file(&c);
    c.make("create", &["--timeline", trace.to_str().unwrap()])
        .exits(1)
        .says("/x");
    let events = events(&c);
    assert_eq!(names(&events, "child").last(), Some(&"mount /x"));
    c.assert_nothing_left();
}

#[test]
fn the_container_has_neither_the_file_nor_the_memory_of_the_timeline() {
    let mut c = container!();
    c.args(&["/bin/sleep", "1000"]);
    let trace = trace_file(&c);
    let shared = |pid: i32| {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        maps.contains("/dev/zero")
    };
    let holds = |pid: i32| {
        let open = kernel::descriptors(pid).into_iter();
        open.map(|(_, file)| file)
            .any(|file| file.contains("trace.json"))
    };
    c.make("create", &["--timeline", trace.to_str().unwrap()])
        .ok();
    let pid = c.pid();
    // A created container waits in orlop's own code, with the stamps but without the file.
    assert!(shared(pid) && !holds(pid));
    let before = fs::read(&trace).unwrap();
    c.start().ok();
    assert!(!shared(pid) && !holds(pid));
    // Nobody writes the file once the command has ended.
    assert_eq!(fs::read(&trace).unwrap(), before);
}

#[test]
fn without_a_timeline_there_is_no_call_for_it_and_with_one_no_call_for_time() {
    if !has_strace() {
        return skipped("no strace");
    }
    let mut c = container!();
    c.script("true");
    let calls = |flags: &[&str]| {
        let log = c.scratch().join("calls");
        let mut command = std::process::Command::new("strace");
        command.args(["-f", "-o"]).arg(&log).arg(c.program());
        command.arg("--root").arg(c.root()).arg("run").args(flags);
        command.arg("--bundle").arg(c.dir()).arg(&c.id);
        assert!(command.output().unwrap().status.success());
        fs::read_to_string(log).unwrap()
    };
    let trace = trace_file(&c);
    let (off, on) = (calls(&[]), calls(&["--timeline", trace.to_str().unwrap()]));
    let maps = |calls: &str| {
        let is_shared = |line: &&str| line.contains("mmap(") && line.contains("MAP_SHARED");
        calls.lines().filter(is_shared).count()
    };
    assert_eq!((maps(&off), maps(&on)), (0, 1), "{on}");
    // The busybox of the container may ask for the time itself.
    let orlops = |calls: &str| {
        calls
            .split("\"/bin/sh\"")
            .next()
            .unwrap()
            .contains("clock_gettime(")
    };
    assert!(!orlops(&off) && !orlops(&on), "{on}");
}

#[test]
fn a_trace_that_cannot_be_written_does_not_undo_the_container() {
    let mut c = container!();
    c.args(&["/bin/sleep", "1000"]);
    c.make("run", &["--detach", "--timeline", "/dev/full"])
        .ok()
        .says("--timeline");
    assert_eq!(c.status(), "running");
    c.delete(&["--force"]).ok();
    let output = c.make("create", &["--timeline", "/nowhere/x"]);
    output
        .exits(1)
        .says("open --timeline /nowhere/x")
        .says("ENOENT");
    c.assert_nothing_left();
}

#[test]
fn timeline_draws_bars_that_are_plain_in_a_pipe() {
    let mut c = container!();
    c.script("true");
    let trace = trace_file(&c);
    let file = trace.to_str().unwrap().to_owned();
    c.make("run", &["--timeline", &file]).ok();
    let output = c.finish(c.bare_command(&["timeline", &file]));
    output.ok();
    let drawn = output.stdout();
    let mut lines = drawn.lines();
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with(&format!("orlop run {}: ", c.id)),
        "{drawn}"
    );
    assert!(
        lines.any(|line| line == "parent") && lines.any(|line| line == "child"),
        "{drawn}"
    );
    let mounts = drawn.lines().filter(|line| line.starts_with("    mount /"));
    assert_eq!(
        mounts.count(),
        c.config()["mounts"].as_array().unwrap().len(),
        "{drawn}"
    );
    assert!(drawn.is_ascii() && !drawn.contains('\u{1b}'), "{drawn}");
    assert!(drawn.lines().all(|line| line.len() <= 100), "{drawn}");
    for (text, says) in [
        ("", "no trace"),
        ("{}", "has no events"),
        ("[1,2", "no trace"),
    ] {
        fs::write(&trace, text).unwrap();
        let output = c.finish(c.bare_command(&["timeline", &file]));
        output.exits(1).says(says).one_line();
    }
}
