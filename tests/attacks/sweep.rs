//! The hostile root: each path that the runtime touches there is replaced by each kind of object,
//! in each shape of a container. Nothing outside may change, each command must exit in time, and a
//! failed one must leave nothing. A run tries a sample and prints its seed. `ORLOP_TEST_SEED`
//! repeats a sample, and `ORLOP_TEST_SWEEP=all` tries all cases.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::{Canary, report};
use crate::harness::Container;
use crate::harness::terminal::ConsoleSocket;

const USER: u32 = 61_237;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(5);

/// How often a case is tried that takes longer. A busy machine may hold up one try, but an object
/// that the runtime waits for holds up each.
const TRIES: usize = 3;

const PATHS: [&str; 24] = [
    "dev",
    "dev/null",
    "dev/zero",
    "dev/tty",
    "dev/pts",
    "dev/pts/ptmx",
    "dev/ptmx",
    "dev/console",
    "dev/fd",
    "dev/stdin",
    "dev/shm",
    "dev/mqueue",
    "proc",
    "sys",
    "target",
    "target/below",
    "file",
    "parent/of/target",
    "job",
    "masked",
    "secret",
    "readonly",
    "etc",
    "etc/passwd",
];

const KINDS: [&str; 16] = [
    "file",
    "directory",
    "absolute link",
    "climbing link",
    "dangling link",
    "loop",
    "link to /proc",
    "link to /proc/self/root",
    "link to /proc/self/fd",
    "fifo",
    "socket",
    "device",
    "deep",
    "closed",
    "setuid",
    "immutable",
];

const SHAPES: [&str; 4] = ["direct", "user namespace", "rootless", "no pivot"];

/// One case: a path, the kind of object there, and the shape of the container.
#[derive(Clone, Copy, Debug)]
struct Case {
    path: &'static str,
    kind: &'static str,
    shape: &'static str,
}

fn case(number: usize) -> Case {
    Case {
        path: PATHS[number % PATHS.len()],
        kind: KINDS[number / PATHS.len() % KINDS.len()],
        shape: SHAPES[number / PATHS.len() / KINDS.len()],
    }
}

const ALL: usize = PATHS.len() * KINDS.len() * SHAPES.len();

/// Puts an object at an unused path.
fn put(at: &Path, kind: &str, canary: &Path) {
    let climb = format!("{}{}", "../".repeat(20), canary.display());
    match kind {
        "file" => fs::write(at, "of the image").unwrap(),
        "directory" => fs::create_dir(at).unwrap(),
        "absolute link" => symlink(canary, at).unwrap(),
        "climbing link" => symlink(climb, at).unwrap(),
        "dangling link" => symlink(canary.join("new/one"), at).unwrap(),
        "loop" => symlink(at.file_name().unwrap(), at).unwrap(),
        "link to /proc" => symlink("/proc", at).unwrap(),
        "link to /proc/self/root" => symlink("/proc/self/root", at).unwrap(),
        "link to /proc/self/fd" => symlink("/proc/self/fd/3", at).unwrap(),
        "fifo" => nix::unistd::mkfifo(at, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        "socket" => drop(UnixListener::bind(at).unwrap()),
        "device" => {
            let made = Command::new("mknod").arg(at).args(["c", "1", "5"]).status();
            assert!(made.unwrap().success());
        }
        "deep" => {
            // 40 links, each to the next. The last one leads to the canary.
            let dir = at.parent().unwrap();
            let name = |n: usize| format!("{}{n}", "x".repeat(240));
            symlink(name(0), at).unwrap();
            (0..38).for_each(|n| symlink(name(n + 1), dir.join(name(n))).unwrap());
            symlink(canary, dir.join(name(38))).unwrap();
        }
        "closed" => {
            fs::create_dir(at).unwrap();
            fs::set_permissions(at, fs::Permissions::from_mode(0o000)).unwrap();
        }
        "setuid" => {
            fs::write(at, "#!/bin/true\n").unwrap();
            fs::set_permissions(at, fs::Permissions::from_mode(0o6777)).unwrap();
        }
        "immutable" => {
            fs::write(at, "of the image").unwrap();
            chattr("+i", at);
        }
        other => panic!("{other}"),
    }
}

/// Runs chattr(1). Not every file system supports the attribute.
fn chattr(change: &str, at: &Path) {
    let _ = Command::new("chattr").arg(change).arg(at).output();
}

/// A container whose setup touches each path.
fn container(case: Case) -> Option<Container> {
    let mut c = Container::new()?;
    for dir in ["masked", "readonly", "target"] {
        fs::create_dir(c.rootfs(dir)).unwrap();
    }
    fs::write(c.rootfs("secret"), "secret").unwrap();
    let mine = c.scratch().join("mine");
    fs::write(&mine, "of the host").unwrap();
    let source = mine.to_str().unwrap().to_owned();
    c.mount("/target/below", "tmpfs", "tmpfs", &[]);
    c.mount("/file", "bind", &source, &["bind", "ro"]);
    c.mount("/parent/of/target", "tmpfs", "tmpfs", &[]);
    c.edit(|j| {
        j["process"]["cwd"] = json!("/job/here");
        j["process"]["args"] = json!(["/bin/true"]);
        j["linux"]["maskedPaths"] = json!(["/masked", "/secret"]);
        j["linux"]["readonlyPaths"] = json!(["/readonly", "/etc"]);
    });
    // A mount would hide the object in the image.
    if case.path.starts_with("dev") {
        let below = case
            .path
            .starts_with("dev/")
            .then(|| format!("/{}", case.path));
        for target in ["/dev/mqueue", "/dev/shm", "/dev/pts", "/dev"] {
            let is_wanted = below.as_deref() == Some(target) || case.path == "dev";
            if target == "/dev" || !is_wanted {
                c.without_mount(target);
            }
        }
        if matches!(case.path, "dev/console" | "dev/ptmx") {
            fs::create_dir_all(c.rootfs("dev/pts")).unwrap();
            c.mount(
                "/dev/pts",
                "devpts",
                "devpts",
                &["newinstance", "ptmxmode=0666"],
            );
        }
    }
    match case.shape {
        "user namespace" => drop(c.user_namespace()),
        "rootless" => {
            if case.path != "sys" {
                c.without_mount("/sys");
            }
            c.user_namespace().edit(|j| {
                let linux = j["linux"].as_object_mut().unwrap();
                linux.remove("cgroupsPath");
                linux.remove("resources");
                let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
                linux.insert("uidMappings".into(), map.clone());
                linux.insert("gidMappings".into(), map);
            });
        }
        _ => {}
    }
    Some(c)
}

/// Tries one case, again if it takes too long. Returns whether the container ran, or the problem;
/// `None` if no container can run.
fn try_in_time(case: Case) -> Option<Result<bool, String>> {
    let mut times = Vec::new();
    while times.len() < TRIES {
        match try_case(case)? {
            Ok((ran, taken)) if taken <= LIMIT => return Some(Ok(ran)),
            Ok((_, taken)) => times.push(taken),
            Err(problem) => return Some(Err(problem)),
        }
    }
    Some(Err(format!("{case:?}: took {times:?}")))
}

/// Tries one case once. Returns whether the container ran and how long the command took, or the
/// problem.
fn try_case(case: Case) -> Option<Result<(bool, Duration), String>> {
    let mut c = container(case)?;
    let canary = Canary::of(&c);
    let at = c.rootfs(case.path);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    let _ = fs::remove_file(&at);
    let _ = fs::remove_dir_all(&at);
    if case.shape == "rootless" {
        c.give_to(USER);
    }
    // The canary stays owned by root, so that no other user could be blamed for a change.
    put(&at, case.kind, canary.path());
    if case.shape == "rootless" && case.kind != "immutable" {
        lchown(&at, Some(USER), Some(USER)).unwrap();
    }
    let canary = Canary::of(&c);
    let terminal = matches!(
        case.path,
        "dev/console" | "dev/ptmx" | "dev/pts" | "dev/pts/ptmx"
    );
    let path = c.dir().join("console");
    let mut flags: Vec<&str> = Vec::new();
    let mut socket = None;
    if case.shape == "no pivot" {
        flags.push("--no-pivot");
    }
    if terminal {
        c.edit(|j| j["process"]["terminal"] = json!(true));
        socket = Some(ConsoleSocket::listen(&path));
        let user = (case.shape == "rootless").then_some(USER);
        lchown(&path, user, user).unwrap();
        flags.extend(["--detach", "--console-socket", path.to_str().unwrap()]);
    }
    let begin = Instant::now();
    let output = c.make("run", &flags);
    let taken = begin.elapsed();
    drop(socket);
    if terminal && output.code == 0 {
        c.delete(&["--force"]);
    }
    let leaks = c.lasting_leaks();
    chattr("-i", &at);
    let stderr = output.stderr();
    let errors = stderr
        .lines()
        .filter(|line| !line.contains(" level=warning "));
    let problem = if let Some(changed) = canary.difference() {
        format!("outside: {changed}")
    } else if !leaks.is_empty() {
        format!("left behind {leaks:?}")
    } else if output.code != 0 && (errors.count() != 1 || output.code >= 128) {
        format!("said {stderr:?} with {}", output.code)
    } else {
        return Some(Ok((output.code == 0, taken)));
    };
    Some(Err(format!("{case:?}: {problem}")))
}

#[test]
fn nothing_in_an_image_changes_what_is_outside_or_holds_the_runtime_up() {
    let whole = std::env::var("ORLOP_TEST_SWEEP").is_ok_and(|sweep| sweep == "all");
    let seed = std::env::var("ORLOP_TEST_SEED").ok();
    let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let seed: u64 = seed.map_or_else(now, |seed| seed.parse().unwrap());
    let numbers: Vec<usize> = if whole {
        (0..ALL).collect()
    } else {
        // Knuth's MMIX generator; its high bits are the random ones.
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % ALL
        };
        (0..40).map(|_| next()).collect()
    };
    let _ = writeln!(std::io::stderr(), "SEED attacks::sweep: {seed}");
    let (mut wrong, mut ran) = (Vec::new(), 0);
    for number in &numbers {
        match try_in_time(case(*number)) {
            None => return,
            Some(Ok(started)) => ran += usize::from(started),
            Some(Err(problem)) => wrong.push(problem),
        }
    }
    report("swept", numbers.len() as u64);
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
    assert!(ran > 0, "not one container ran, of {}", numbers.len());
}
