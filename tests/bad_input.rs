//! Bad input, class by class, to create, run and exec: one line that names the file, field or flag,
//! exit code 1 (exec: 255), and nothing left. The rows about config.json are in
//! configs/bad_input.txt.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Container, Output, kernel};

/// A change of a document, and the words of the error.
struct Row {
    /// True if the document is the process object of exec.
    exec: bool,
    /// A JSON pointer.
    pointer: String,
    /// The new value; `None` removes the old one.
    value: Option<Value>,
    says: String,
}

impl Row {
    fn of_config(pointer: &str, value: Value, says: &str) -> Row {
        Row {
            exec: false,
            pointer: pointer.to_owned(),
            value: Some(value),
            says: says.to_owned(),
        }
    }

    /// The same change of the process object that exec reads.
    fn for_exec(&self) -> Row {
        Row {
            exec: true,
            pointer: self.pointer.replacen("/process", "", 1),
            value: self.value.clone(),
            says: self.says.replacen("process.", "", 1),
        }
    }

    fn change(&self, document: &mut Value) {
        let (parent, key) = self.pointer.rsplit_once('/').unwrap();
        let mut at = document;
        for name in parent.split('/').skip(1) {
            at = match name.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[name],
            };
        }
        match (at, &self.value) {
            (Value::Array(list), Some(value)) => {
                list[key.parse::<usize>().unwrap()] = value.clone();
            }
            (object, Some(value)) => object[key] = value.clone(),
            (object, None) => drop(object.as_object_mut().unwrap().remove(key)),
        }
    }

    fn shown(&self) -> String {
        let value = self.value.as_ref().map_or("-".to_owned(), Value::to_string);
        let value: String = value.chars().take(100).collect();
        format!("{} {value}", self.pointer)
    }
}

/// The rows of a class in the table.
fn rows(class: u32) -> Vec<Row> {
    let table = include_str!("configs/bad_input.txt");
    let start = format!("## {class}: ");
    let section = table.split("\n\n").find(|text| text.starts_with(&start));
    let lines = section.expect("a section of the class").lines().skip(1);
    lines
        .map(|line| {
            let mut parts = line.splitn(3, " | ");
            let pointer = parts.next().unwrap();
            let value = parts.next().unwrap();
            Row {
                exec: pointer.starts_with("exec "),
                pointer: pointer.trim_start_matches("exec ").to_owned(),
                value: (value != "-").then(|| serde_json::from_str(value).unwrap()),
                says: parts.next().unwrap().to_owned(),
            }
        })
        .collect()
}

/// Collects what is wrong with the answers to all inputs of a test.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    /// Checks an answer: the exit code, one line, and its words.
    fn check(&mut self, what: &str, output: &Output, code: i32, says: &str) {
        let text = output.stderr();
        let lines = text.lines();
        let errors: Vec<&str> = lines.filter(|l| !l.contains("level=warning")).collect();
        let is_right = output.code == code && errors.len() == 1 && errors[0].contains(says);
        if !is_right {
            let found = format!("{what}: {says:?}, but {} with {text:?}", output.code);
            self.0.push(found);
        }
    }

    /// Checks that create and run refuse what is in the bundle, and leave nothing.
    fn check_both(&mut self, what: &str, c: &Container, flags: &[&str], says: &str) {
        for verb in ["create", "run"] {
            let what = format!("{verb} with {what}");
            self.check(&what, &c.make(verb, flags), 1, says);
            let leaks = c.lasting_leaks();
            if !leaks.is_empty() || c.pid_file().exists() {
                self.0.push(format!("{what} leaves {leaks:?}"));
                c.delete(&["--force"]);
                let _ = fs::remove_file(c.pid_file());
            }
        }
    }

    #[track_caller]
    fn none(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

/// Feeds changed configurations to create and to run, and changed process objects to exec.
#[track_caller]
fn refused(rows: &[Row]) {
    let mut c = container!();
    let (base, mut wrong) = (c.config().clone(), Wrong::default());
    for row in rows.iter().filter(|row| !row.exec) {
        c.edit(|j| {
            *j = base.clone();
            row.change(j);
        });
        wrong.check_both(&row.shown(), &c, &[], &row.says);
    }
    c.edit(|j| *j = base.clone());
    if rows.iter().any(|row| row.exec) {
        c.run_detached().ok();
        refused_by_exec(&c, rows, &mut wrong);
        assert_eq!(c.status(), "running");
    }
    wrong.none();
}

fn refused_by_exec(c: &Container, rows: &[Row], wrong: &mut Wrong) {
    let (file, pid_file) = (
        c.scratch().join("process.json"),
        c.scratch().join("exec.pid"),
    );
    let file_text = file.to_str().unwrap();
    let flags = [
        "--process",
        file_text,
        "--pid-file",
        pid_file.to_str().unwrap(),
    ];
    let before = kernel::procs(&c.cgroup());
    for row in rows.iter().filter(|row| row.exec) {
        let mut process = c.config()["process"].clone();
        row.change(&mut process);
        fs::write(&file, process.to_string()).unwrap();
        let what = format!("exec with {}", row.shown());
        wrong.check(&what, &c.exec_with(&flags, &[]), 255, &row.says);
        if kernel::procs(&c.cgroup()) != before || pid_file.exists() {
            wrong.0.push(format!("{what} leaves something"));
        }
    }
}

/// Feeds bytes in place of config.json to create and run, and in place of a process to exec.
#[track_caller]
fn refused_texts(rows: &[(&str, Vec<u8>, &str)]) {
    let mut c = container!();
    let (config, mut wrong) = (c.dir().join("config.json"), Wrong::default());
    for (what, text, says) in rows {
        fs::write(&config, text).unwrap();
        wrong.check_both(what, &c, &[], &format!("config.json: {says}"));
    }
    c.edit(|_| {});
    c.run_detached().ok();
    let file = c.scratch().join("process.json");
    for (what, text, says) in rows {
        fs::write(&file, text).unwrap();
        let output = c.exec_with(&["--process", file.to_str().unwrap()], &[]);
        let says = format!("process.json: {says}");
        wrong.check(&format!("exec with {what}"), &output, 255, &says);
    }
    wrong.none();
}

#[test]
fn class_1_a_file_that_is_no_json_is_named() {
    let utf16 = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    refused_texts(&[
        ("an empty file", Vec::new(), ""),
        ("blanks", b" \n".to_vec(), ""),
        ("null", b"null".to_vec(), ""),
        ("a list", b"[]".to_vec(), ""),
        ("a byte order mark", b"\xef\xbb\xbf{}".to_vec(), ""),
        ("UTF-16", utf16, ""),
        ("no UTF-8", b"{\"a\":\"\xff\"}".to_vec(), ""),
        ("NUL", b"{}\0".to_vec(), ""),
        ("trailing garbage", b"{} x".to_vec(), ""),
        ("two values", b"{}{}".to_vec(), ""),
        ("a comment", b"{/**/}".to_vec(), ""),
        ("10,000 levels", b"[".repeat(10_000), ""),
        (
            "a key twice",
            b"{\"a\":1,\"a\":1}".to_vec(),
            "duplicate key \"a\"",
        ),
        (
            "a key twice below",
            b"{\"a\":[{\"b\":1,\"b\":1}]}".to_vec(),
            "duplicate key \"b\"",
        ),
        ("1e400", b"{\"a\":1e400}".to_vec(), "number out of range"),
        ("17 MiB", vec![b' '; 17 << 20], ""),
    ]);
}

/// Makes something at a path.
type Make = fn(&Path);

#[test]
fn class_1_something_else_in_place_of_the_file_is_named() {
    let mut c = container!();
    let (config, mut wrong) = (c.dir().join("config.json"), Wrong::default());
    let kinds: [(&str, Make); 6] = [
        ("nothing", |_| {}),
        ("a directory", |at| fs::create_dir(at).unwrap()),
        ("a fifo", |at| {
            nix::unistd::mkfifo(at, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
        ("a loop", |at| symlink(at, at).unwrap()),
        ("a dangling link", |at| symlink("nowhere", at).unwrap()),
        ("a device", |at| symlink("/dev/zero", at).unwrap()),
    ];
    let clear = |at: &Path| {
        let _ = fs::remove_file(at);
        let _ = fs::remove_dir(at);
    };
    for (what, make) in kinds {
        clear(&config);
        make(&config);
        wrong.check_both(what, &c, &[], config.to_str().unwrap());
    }
    clear(&config);
    c.edit(|_| {});
    c.run_detached().ok();
    let file = c.scratch().join("process.json");
    // exec waits at a FIFO for a writer; that test is in exec.rs.
    for (what, make) in kinds.iter().filter(|(what, _)| *what != "a fifo") {
        clear(&file);
        make(&file);
        let output = c.exec_with(&["--process", file.to_str().unwrap()], &[]);
        wrong.check(
            &format!("exec with {what}"),
            &output,
            255,
            file.to_str().unwrap(),
        );
    }
    wrong.none();
}

#[test]
fn class_1_a_value_of_another_type_is_named_by_its_place() {
    refused(&rows(1));
}

/// Makes each value of the configuration null in turn.
#[test]
fn class_1_null_is_as_if_absent_or_refused_by_its_place() {
    fn places(value: &Value, at: &str, all: &mut Vec<String>) {
        let below: Vec<(String, &Value)> = match value {
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| (key.clone(), value))
                .collect(),
            Value::Array(list) => list
                .iter()
                .take(1)
                .map(|value| ("0".to_owned(), value))
                .collect(),
            _ => Vec::new(),
        };
        for (key, value) in below {
            let at = format!("{at}/{key}");
            places(value, &at, all);
            all.push(at);
        }
    }
    let mut c = container!();
    c.args(&["/bin/true"]);
    let (base, mut all, mut wrong) = (c.config().clone(), Vec::new(), Wrong::default());
    places(&base, "", &mut all);
    let mut refused = 0;
    for pointer in all {
        let row = Row::of_config(&pointer, json!(null), "");
        c.edit(|j| {
            *j = base.clone();
            row.change(j);
        });
        let output = c.make("run", &[]);
        if output.code != 0 {
            refused += 1;
            // The error names the field, or the one that can't be without it.
            wrong.check(&row.shown(), &output, 1, "config.json: ");
        }
        let leaks = c.lasting_leaks();
        if !leaks.is_empty() {
            wrong.0.push(format!("{} leaves {leaks:?}", row.shown()));
        }
    }
    wrong.none();
    assert!(refused > 10, "{refused}");
}

#[test]
fn class_2_a_version_that_cannot_be_is_refused() {
    refused(&rows(2));
}

#[test]
fn class_3_what_is_required_is_missed_by_name() {
    refused(&rows(3));
    let long = |prefix: &str| json!(format!("{prefix}{}", "/x".repeat(2100)));
    let variable = json!(format!("A={}", "x".repeat(1 << 17)));
    let of = Row::of_config;
    let mut rows = vec![
        of(
            "/root/path",
            long("a"),
            "root.path: is longer than 4095 bytes",
        ),
        of(
            "/process/cwd",
            long(""),
            "process.cwd: is longer than 4095 bytes",
        ),
        of(
            "/process/env/0",
            variable,
            "process.env[0]: is longer than 131071 bytes",
        ),
    ];
    rows.extend(rows[1..].iter().map(Row::for_exec).collect::<Vec<_>>());
    refused(&rows);
}

#[test]
fn class_3_arguments_and_environment_beyond_the_kernels_limit_are_told() {
    let text = |index: usize| json!(format!("A{index}={}", "x".repeat(100_000)));
    let mut args: Vec<Value> = (0..100).map(text).collect();
    let env = json!(args);
    args[0] = json!("/bin/true");
    let mut c = container!();
    let (base, mut wrong) = (c.config().clone(), Wrong::default());
    for (field, value) in [("args", json!(args)), ("env", env)] {
        c.edit(|j| {
            *j = base.clone();
            j["process"]["args"] = json!(["/bin/true"]);
            j["process"][field] = value;
        });
        // The container exists before its program is executed.
        let output = c.make("run", &[]);
        wrong.check(field, &output, 1, "argument list too long");
        let leaks = c.lasting_leaks();
        assert!(leaks.is_empty(), "{leaks:?}");
    }
    wrong.none();
}

#[test]
fn class_4_users_that_cannot_be_are_refused() {
    let mut rows = rows(4);
    let groups = json!(vec![1; 70_000]);
    let says = "process.user.additionalGids: has more than 65536 groups";
    let of_config = Row::of_config("/process/user/additionalGids", groups, says);
    rows.push(of_config.for_exec());
    rows.push(of_config);
    refused(&rows);
}

#[test]
fn class_4_ids_that_a_user_namespace_does_not_map_are_named() {
    let mut c = container!();
    c.user_namespace();
    let (base, mut wrong) = (c.config().clone(), Wrong::default());
    for field in ["uid", "gid"] {
        c.edit(|j| {
            *j = base.clone();
            j["process"]["user"][field] = json!(70_000);
        });
        let says = format!("process.user.{field}: 70000 has no mapping in linux.{field}Mappings");
        wrong.check_both(field, &c, &[], &says);
    }
    c.edit(|j| *j = base);
    c.run_detached().ok();
    let output = c.exec_with(&["--user", "70000"], &["/bin/true"]);
    wrong.check("exec", &output, 255, "(--user)");
    wrong.check("exec", &output, 255, "the user namespace does not map it");
    wrong.none();
}

#[test]
fn class_5_a_root_that_cannot_be_one_is_named() {
    refused(&rows(5));
}

#[test]
fn class_6_namespaces_that_cannot_be_are_refused() {
    refused(&rows(6));
}

#[test]
fn class_6_mappings_that_cannot_be_are_refused() {
    let mut c = container!();
    c.user_namespace();
    let (base, mut wrong) = (c.config().clone(), Wrong::default());
    let map = |id: u64, size: u64| json!({"containerID": id, "hostID": 100_000, "size": size});
    for (list, says) in [
        (json!([map(0, 0)]), "[0]: size is 0"),
        (
            json!([map(0, 10), map(5, 10)]),
            "[1]: overlaps linux.uidMappings[0]",
        ),
        (
            json!([map(u64::from(u32::MAX), 10)]),
            "[0]: goes beyond the largest id",
        ),
        (json!([map(1 << 32, 10)]), "[0].containerID: "),
        (
            json!(vec![map(0, 1); 341]),
            ": 341 mappings; the kernel takes 340",
        ),
        (json!([]), ": is missing"),
    ] {
        c.edit(|j| {
            *j = base.clone();
            j["linux"]["uidMappings"] = list;
        });
        wrong.check_both(
            says,
            &c,
            &[],
            &format!("config.json: linux.uidMappings{says}"),
        );
    }
    wrong.none();
}

#[test]
fn class_7_mounts_that_cannot_be_are_refused() {
    refused(&rows(7));
}

#[test]
fn class_8_capabilities_of_another_type_are_refused_and_unknown_ones_are_a_warning() {
    refused(&rows(8));
    let mut c = container!();
    c.args(&["/bin/true"]);
    let log = c.scratch().join("log");
    for name in ["CAP_UNHEARD_OF", "cap kill", ""] {
        c.edit(|j| j["process"]["capabilities"]["bounding"] = json!([name]));
        let _ = fs::remove_file(&log);
        let mut command = c.bare_command(&["--debug", "--log", log.to_str().unwrap(), "--root"]);
        command.arg(c.root()).args(["run", "--bundle"]);
        command.arg(c.dir()).arg(&c.id);
        c.finish(command).ok();
        let text = fs::read_to_string(&log).unwrap();
        let says = "config.json: process.capabilities: unknown capability";
        assert!(text.contains(says), "{name}: {text}");
    }
}

#[test]
fn class_9_limits_that_cannot_be_are_refused() {
    refused(&rows(9));
}

#[test]
fn class_10_resources_that_cannot_be_are_refused() {
    refused(&rows(10));
}

#[test]
fn class_11_cgroup_paths_that_cannot_be_are_refused() {
    let mut rows = rows(11);
    let long = json!(format!("/{}", "x".repeat(300)));
    rows.push(Row::of_config(
        "/linux/cgroupsPath",
        long,
        "linux.cgroupsPath",
    ));
    refused(&rows);
}

#[test]
fn class_12_profiles_that_cannot_be_are_refused() {
    refused(&rows(12));
}

#[test]
fn class_13_sysctls_that_cannot_be_are_refused() {
    refused(&rows(13));
}

#[test]
fn class_14_hooks_that_cannot_be_are_refused() {
    refused(&rows(14));
}

#[test]
fn class_15_devices_that_cannot_be_are_refused() {
    refused(&rows(15));
}

#[test]
fn class_16_paths_that_cannot_be_hidden_are_refused() {
    refused(&rows(16));
}

#[test]
fn class_17_annotations_and_labels_that_cannot_be_are_refused() {
    refused(&rows(17));
}

#[test]
fn class_18_ids_that_cannot_be_are_refused() {
    let mut c = container!();
    let mut wrong = Wrong::default();
    let good = c.id.clone();
    let (long, longer) = ("x".repeat(256), "x".repeat(1025));
    for id in [
        "", ".", "..", "a/b", "../x", "a b", "é", "a\n", "*", &long, &longer,
    ] {
        id.clone_into(&mut c.id);
        wrong.check_both(&format!("{id:?}"), &c, &[], &format!("{id:?}"));
        for verb in ["start", "state", "pause", "resume", "ps", "kill", "exec"] {
            let mut words = vec![verb, id];
            words.extend((verb == "exec").then_some("/bin/true"));
            let code = if verb == "exec" { 255 } else { 1 };
            wrong.check(&format!("{verb} {id:?}"), &c.runtime(&words), code, "");
        }
    }
    c.id = good;
    wrong.none();
}

#[test]
fn class_18_flags_that_cannot_be_are_refused_by_name() {
    let mut c = container!();
    c.run_detached().ok();
    let mut wrong = Wrong::default();
    let file = c.dir().join("config.json");
    let missing = c.dir().join("no/such/pid");
    let (file, missing) = (file.to_str().unwrap(), missing.to_str().unwrap());
    // ID is the container's, FILE a file, MISSING a path in a directory that is missing.
    for (line, says) in [
        ("creat new", "create"),
        ("create --bundel x new", "--bundel"),
        ("create", "ID"),
        ("create new more", "more"),
        ("create --bundle FILE new", file),
        ("create --bundle /no/such new", "/no/such"),
        ("create --preserve-fds x new", "--preserve-fds"),
        ("create --preserve-fds -1 new", "preserve-fds"),
        ("state", "ID"),
        ("state nobody", "container does not exist"),
        ("kill ID -1", "-1"),
        ("kill ID 65", "65"),
        ("kill ID SIGFOO", "SIGFOO"),
        ("kill ID 9x", "9x"),
        ("update --memory x ID", "--memory"),
        ("update --pids-limit 1.5 ID", "--pids-limit"),
        ("update --resources /no/such ID", "/no/such"),
        ("events --interval 0s ID", "--interval"),
        ("list --format xml", "xml"),
        ("ps --format xml ID", "xml"),
        ("--log-format xml list", "--log-format"),
        ("--root= list", "--root"),
        ("--cgroup-manager x list", "--cgroup-manager"),
        ("exec ID", "process"),
        ("exec --env A ID /bin/true", "--env"),
        ("exec --env =x ID /bin/true", "--env"),
        ("exec --cwd x ID /bin/true", "--cwd"),
        ("exec --user root ID /bin/true", "--user"),
        ("exec --user 1: ID /bin/true", "--user"),
        ("exec --user 4294967295 ID /bin/true", "--user"),
        ("exec --additional-gids x ID /bin/true", "--additional-gids"),
        ("exec --process /no/such ID", "/no/such"),
        (
            "exec --preserve-fds 1000000000 ID /bin/true",
            "preserve-fds",
        ),
        ("exec --preserve-fds 5 ID /bin/true", "preserve-fds"),
        ("exec --console-socket /x ID /bin/true", "console socket"),
        ("exec --pid-file MISSING ID /bin/true", missing),
        ("exec --cgroup ../../x ID /bin/true", "--cgroup"),
        ("exec --bogus ID /bin/true", "--bogus"),
    ] {
        let words: Vec<&str> = line
            .split(' ')
            .map(|word| match word {
                "ID" => c.id.as_str(),
                "FILE" => file,
                "MISSING" => missing,
                other => other,
            })
            .collect();
        let code = if words[0] == "exec" { 255 } else { 1 };
        wrong.check(line, &c.runtime(&words), code, says);
    }
    wrong.none();
    assert_eq!(c.status(), "running");
    assert_eq!(c.root_entries(), [c.id.clone()]);
}

#[test]
fn class_18_flags_of_create_and_run_that_do_not_fit_leave_nothing() {
    let c = container!();
    let mut wrong = Wrong::default();
    let socket = c.dir().join("no/such/socket");
    let socket = socket.to_str().unwrap();
    for (flags, says) in [
        (["--console-socket", socket], "console socket"),
        (["--preserve-fds", "5"], "preserve-fds"),
        (["--preserve-fds", "1000000000"], "preserve-fds"),
        (["--pid-file", "/no/such/pid"], "/no/such/pid"),
        (["--pid-file", "/"], "pid file"),
        (["--pidfd-socket", socket], "pidfd-socket"),
        (["--config", "nothing.json"], "nothing.json"),
    ] {
        wrong.check_both(&flags.join(" "), &c, &flags, says);
    }
    wrong.none();
}
