//! Attacks by a container with CAP_SYS_PTRACE on new processes in its pid namespace: on each CPU
//! a racer inspects each process from its birth, through /proc and by ptrace. No process may have
//! more than the container.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::racers::{done, line, stop, tell};
use super::{meanwhile, racers, report};
use crate::harness::terminal::ConsoleSocket;
use crate::harness::{Container, kernel};

const CAPS: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
];

/// The racers' findings.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Times that a racer checked for a process.
    looks: u64,
    processes: u64,
    seized: u64,
    /// Times that a racer reached a file of the host through /proc/PID/root, or the host's root
    /// through /proc/PID/cwd.
    host_root: u64,
    /// The number of descriptors that were directories.
    directories: u64,
    /// Times that a process had the environment of the runtime's caller.
    environment: u64,
    /// Permitted capabilities beyond the racer's own.
    capabilities: u64,
}

impl Seen {
    fn read(text: &str) -> Seen {
        let mut numbers = text.split_whitespace().map(|n| n.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        Seen {
            looks: next(),
            processes: next(),
            seized: next(),
            host_root: next(),
            directories: next(),
            environment: next(),
            capabilities: next(),
        }
    }

    #[track_caller]
    pub(super) fn assert_nobody(&self, what: &str) {
        assert!(self.looks > 0, "{what}: nobody looked");
        assert_eq!(self.processes, 0, "{what}: {self:?}");
    }

    #[track_caller]
    fn assert_nothing_of_the_host(&self, what: &str) {
        assert!(self.processes > 0, "{what}: nothing was seen: {self:?}");
        assert_eq!(self.host_root, 0, "{what}: {self:?}");
        assert_eq!(self.directories, 0, "{what}: {self:?}");
        assert_eq!(self.environment, 0, "{what}: {self:?}");
        assert_eq!(self.capabilities, 0, "{what}: {:#x}", self.capabilities);
    }
}

/// Gives a container the racers' capabilities, and its runtime a secret to hide.
fn armed(c: &mut Container) {
    c.set_env(SECRET, "1");
    c.capabilities(&["bounding", "effective", "permitted"], CAPS);
}

/// Gives a container the racers' program.
fn equip(c: &mut Container) {
    armed(c);
    racers::equip(c);
    let canary = c.scratch().join("canary");
    fs::write(&canary, "of the host").unwrap();
    tell(c, "CANARY", canary.to_str().unwrap());
}

/// A container that runs the racers.
pub(super) fn watching() -> Option<Container> {
    let mut c = Container::new()?;
    equip(&mut c);
    let script = format!("{} >/dev/null; exec sleep 1000", line("watch").join(" "));
    c.script(&script);
    Some(c)
}

/// Repeats `again` while the racers of a running container watch. Returns their findings.
pub(super) fn seen(c: &Container, again: impl FnMut()) -> Seen {
    c.wait_file("/ready");
    report("exposed", meanwhile(again));
    let seen = Seen::read(&stop(c));
    report("race:watch", seen.looks);
    seen
}

#[test]
fn cve_2016_9962_an_exec_process_never_has_more_than_the_container() {
    let Some(mut c) = watching() else { return };
    c.run_detached().ok();
    let seen = seen(&c, || {
        c.exec(&["/bin/true"]).ok();
    });
    seen.assert_nothing_of_the_host("exec");
}

#[test]
fn cve_2016_9962_an_exec_process_with_a_filter_and_without_no_new_privs_has_not_more_either() {
    let Some(mut c) = watching() else { return };
    c.edit(|j| {
        j["process"]["noNewPrivileges"] = json!(false);
        // As in engines' profiles, clone3 and the calls that make namespaces need privileges.
        j["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                {"names": ["mount", "unshare", "setns"], "action": "SCMP_ACT_ERRNO"},
                {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "args": [
                    {"index": 0, "value": 0x7e02_0000, "valueTwo": 0x1000_0000, "op": "SCMP_CMP_MASKED_EQ"},
                ]},
            ],
        });
    });
    c.run_detached().ok();
    let seen = seen(&c, || {
        let output = c.exec(&["/bin/cat", "/proc/self/status"]);
        output.ok();
        assert_eq!(
            kernel::status_field(&output.stdout(), "Seccomp_filters"),
            "1"
        );
    });
    seen.assert_nothing_of_the_host("exec under a filter");
}

#[test]
fn cve_2016_9962_an_exec_process_with_a_terminal_has_not_more_either() {
    let Some(mut c) = watching() else { return };
    c.run_detached().ok();
    let path = c.scratch().join("console");
    let pid_file = c.scratch().join("exec");
    let seen = seen(&c, || {
        let socket = ConsoleSocket::listen(&path);
        let console = path.to_str().unwrap();
        let pid = pid_file.to_str().unwrap();
        let flags = [
            "--tty",
            "--detach",
            "--console-socket",
            console,
            "--pid-file",
            pid,
        ];
        c.exec_with(&flags, &["/bin/true"]).ok();
        drop(socket.receive());
        crate::harness::adopt(fs::read_to_string(&pid_file).unwrap().parse().unwrap());
        fs::remove_file(&path).unwrap();
    });
    seen.assert_nothing_of_the_host("exec --tty");
}

#[test]
fn cve_2016_9962_an_exec_process_of_a_file_that_is_given_descriptors_has_those_alone() {
    let Some(mut c) = watching() else { return };
    c.run_detached().ok();
    let file = c.scratch().join("process.json");
    let mut process = c.config()["process"].clone();
    process["args"] = json!([
        "/bin/sh",
        "-c",
        "[ -e /proc/self/fd/3 ] && ! [ -e /proc/self/fd/4 ]"
    ]);
    process["user"] = json!({"uid": 1000, "gid": 1000});
    fs::write(&file, process.to_string()).unwrap();
    let seen = seen(&c, || {
        let flags = [
            "--preserve-fds",
            "1",
            "--process",
            file.to_str().unwrap(),
            &c.id,
        ];
        let args: Vec<&str> = ["exec"].into_iter().chain(flags).collect();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "exec \"$@\" 3</dev/null", "sh"])
            .arg(c.program());
        command
            .arg("--root")
            .arg(c.root())
            .args(args)
            .stdin(Stdio::null());
        c.finish(command).ok();
    });
    seen.assert_nothing_of_the_host("exec --process --preserve-fds");
}

#[test]
fn cve_2016_9962_an_exec_process_in_a_created_container_has_not_more_either() {
    let Some(mut c) = Container::new() else {
        return;
    };
    equip(&mut c);
    c.create().ok();
    let pid_file = c.scratch().join("racers");
    c.exec_with(
        &["--detach", "--pid-file", pid_file.to_str().unwrap()],
        &line("watch"),
    )
    .ok();
    crate::harness::adopt(fs::read_to_string(&pid_file).unwrap().parse().unwrap());
    let seen = seen(&c, || {
        c.exec(&["/bin/true"]).ok();
    });
    seen.assert_nothing_of_the_host("exec into a created container");
}

#[test]
fn cve_2016_9962_an_exec_process_in_the_user_namespace_of_a_pod_has_not_more_either() {
    let Some(mut pod) = watching() else { return };
    pod.user_namespace();
    std::os::unix::fs::chown(pod.rootfs("/"), Some(100_000), Some(100_000)).unwrap();
    pod.run_detached().ok();
    let mut c = Container::new().unwrap();
    armed(&mut c);
    for name in ["user", "pid"] {
        c.join_namespace(name, &format!("/proc/{}/ns/{name}", pod.pid()));
    }
    c.run_detached().ok();
    let seen = seen(&pod, || {
        c.exec(&["/bin/true"]).ok();
    });
    seen.assert_nothing_of_the_host("exec in a pod's user namespace");
}

#[test]
fn cve_2016_9962_an_exec_process_in_a_paused_container_of_a_pod_has_not_more_either() {
    let Some(mut pod) = watching() else { return };
    pod.run_detached().ok();
    let mut c = Container::new().unwrap();
    armed(&mut c);
    c.join_namespace("pid", &format!("/proc/{}/ns/pid", pod.pid()));
    c.run_detached().ok();
    let seen = seen(&pod, || {
        c.runtime(&["pause", &c.id]).ok();
        let mut exec = c
            .command(&["exec", "--ignore-paused", &c.id, "/bin/true"])
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(20));
        c.runtime(&["resume", &c.id]).ok();
        assert!(exec.wait().unwrap().success());
    });
    seen.assert_nothing_of_the_host("exec --ignore-paused");
}

#[test]
fn cve_2016_9962_a_container_in_the_pid_namespace_of_another_never_has_more_than_it_is_given() {
    let Some(mut pod) = watching() else { return };
    pod.run_detached().ok();
    let mut c = Container::new().unwrap();
    armed(&mut c);
    c.join_namespace("pid", &format!("/proc/{}/ns/pid", pod.pid()))
        .args(&["/bin/true"]);
    let seen = seen(&pod, || {
        c.run().ok();
    });
    seen.assert_nothing_of_the_host("run in a pod's pid namespace");
}

#[test]
fn cve_2016_9962_a_new_user_namespace_in_the_pid_namespace_of_another_has_not_more_either() {
    let Some(mut pod) = watching() else { return };
    pod.run_detached().ok();
    let mut c = Container::new().unwrap();
    armed(&mut c);
    c.user_namespace()
        .join_namespace("pid", &format!("/proc/{}/ns/pid", pod.pid()));
    // The container doesn't own the pid namespace, so it can't mount a procfs of it.
    c.without_mount("/proc").args(&["/bin/true"]).edit(|j| {
        j["linux"]["maskedPaths"] = json!([]);
        j["linux"]["readonlyPaths"] = json!([]);
    });
    std::os::unix::fs::chown(c.rootfs("/"), Some(100_000), Some(100_000)).unwrap();
    let seen = seen(&pod, || {
        c.run().ok();
    });
    seen.assert_nothing_of_the_host("run with a user namespace in a pod's pid namespace");
}

/// CRIU makes the processes of a restore. In a pid namespace with others, they would be seen with
/// all that CRIU has. Where CRIU is missing, this shows the refusal only.
#[test]
fn a_restore_into_the_pid_namespace_of_another_is_refused() {
    let Some(mut pod) = watching() else { return };
    pod.run_detached().ok();
    let mut c = Container::new().unwrap();
    armed(&mut c);
    c.join_namespace("pid", &format!("/proc/{}/ns/pid", pod.pid()));
    c.script("exec sleep 1000 </dev/null >/dev/null 2>&1");
    let images = c.scratch().join("images");
    let flags = ["--image-path", images.to_str().unwrap()];
    let mut output = None;
    let id = c.id.clone();
    let checkpoint = [&["checkpoint"], &flags[..], &[&id]].concat();
    let seen = seen(&pod, || {
        if output.is_none() {
            c.run_detached().ok();
            output = Some(c.runtime(&checkpoint));
        }
        if c.make("restore", &[&["--detach"], &flags[..]].concat())
            .code
            == 0
        {
            c.delete(&["--force"]).ok();
        }
    });
    seen.assert_nothing_of_the_host("restore in a pod's pid namespace");
    let why = "a pid namespace that is joined and isn't the caller's";
    output.unwrap().exits(1).one_line().says(why);
    c.delete(&["--force"]).ok();
    c.make("restore", &flags).exits(1).one_line().says(why);
}

/// The racers do succeed against a process of the host that enters the pid namespace unprotected.
#[test]
fn cve_2016_9962_the_racers_reach_the_host_through_a_process_that_enters_with_it() {
    let Some(mut c) = watching() else { return };
    c.run_detached().ok();
    let seen = seen(&c, || {
        let mut command = Command::new("/bin/sh");
        let enter = format!(
            "export {SECRET}=1; exec nsenter --pid=/proc/{}/ns/pid sleep 0.02 3</",
            c.pid()
        );
        assert!(command.args(["-c", &enter]).status().unwrap().success());
    });
    assert!(
        seen.host_root > 0 && seen.directories > 0 && seen.capabilities > 0 && seen.environment > 0,
        "{seen:?}"
    );
}

/// Runs in the container: a thread on each CPU inspects each new process, until /stop exists.
#[test]
#[ignore = "part of the others"]
fn watch() {
    let canary = std::env::var("CANARY").unwrap();
    let own = permitted(std::process::id() as i32);
    let first = last_pid() + 1;
    let cpus = std::thread::available_parallelism().unwrap().get();
    let race = || race(&canary, own, first);
    let all: Vec<Seen> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..cpus).map(|_| scope.spawn(race)).collect();
        File::create("/ready").unwrap();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect()
    });
    let sum = |number: fn(&Seen) -> u64| all.iter().map(number).sum::<u64>();
    let capabilities = all.iter().fold(0, |most, seen| most | seen.capabilities);
    let text = format!(
        "{} {} {} {} {} {} {capabilities}",
        sum(|seen| seen.looks),
        sum(|seen| seen.processes),
        sum(|seen| seen.seized),
        sum(|seen| seen.host_root),
        sum(|seen| seen.directories),
        sum(|seen| seen.environment),
    );
    done(&text);
}

fn race(canary: &str, own: u64, first: i32) -> Seen {
    let mut seen = Seen::default();
    let mut next = first;
    let threads = format!("/proc/{}/task", std::process::id());
    for turn in 0_u64.. {
        if turn.is_multiple_of(256) {
            if Path::new("/stop").exists() {
                break;
            }
            // Processes that were missed are gone by now.
            next = next.max(last_pid());
        }
        seen.looks += 1;
        let ways = ["root", "cwd"].map(|way| format!("/proc/{next}/{way}{canary}"));
        let reached = || ways.iter().any(|way| fs::exists(way).unwrap_or(false));
        if reached() {
            seen.host_root += 1;
        } else if !Path::new(&format!("/proc/{next}")).exists() {
            continue;
        }
        if Path::new(&format!("{threads}/{next}")).exists() {
            next += 1;
            continue;
        }
        seen.processes += 1;
        seen.directories += directories(next);
        seen.capabilities |= permitted(next) & !own;
        if seize(next) {
            seen.seized += 1;
            seen.capabilities |= permitted(next) & !own;
            seen.host_root += u64::from(reached());
            seen.directories += directories(next) + stolen(next);
            seen.environment += u64::from(has_secret(next));
            release(next);
        }
        next += 1;
    }
    seen
}

fn directories(pid: i32) -> u64 {
    let is_directory =
        |n: &i32| fs::metadata(format!("/proc/{pid}/fd/{n}")).is_ok_and(|found| found.is_dir());
    (3..24).filter(is_directory).count() as u64
}

/// The number of directories among the descriptors that pidfd_getfd(2) copies from a process.
fn stolen(pid: i32) -> u64 {
    // SAFETY: integers only.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if pidfd < 0 {
        return 0;
    }
    let take = |n: i32| {
        // SAFETY: integers only.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, n, 0) };
        if fd < 0 {
            return 0;
        }
        let is_directory = fs::metadata(format!("/proc/self/fd/{fd}")).is_ok_and(|f| f.is_dir());
        // SAFETY: the kernel has just made this descriptor for us.
        unsafe { libc::close(fd as i32) };
        u64::from(is_directory)
    };
    let count = (3..16).map(take).sum();
    // SAFETY: as above.
    unsafe { libc::close(pidfd as i32) };
    count
}

/// A variable in the environment of the runtime's caller.
const SECRET: &str = "SECRET_OF_THE_ENGINE";

fn has_secret(pid: i32) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    String::from_utf8_lossy(&environment).contains(SECRET)
}

/// The last pid assigned in this pid namespace.
pub(super) fn last_pid() -> i32 {
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    text.split_whitespace().last().unwrap().parse().unwrap()
}

/// The permitted capabilities of a process that can be inspected, if they count in the user
/// namespace of this process.
fn permitted(pid: i32) -> u64 {
    let user = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    if user(&pid.to_string()) != user("self") {
        return 0;
    }
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    line.map_or(0, |set| u64::from_str_radix(set.trim(), 16).unwrap())
}

/// Attaches to a process as its tracer, and stops it.
fn seize(pid: i32) -> bool {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the call uses no memory of ours.
    if unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) } != 0 {
        return false;
    }
    // SAFETY: as above.
    unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, none, none) };
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
    true
}

fn release(pid: i32) {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the call uses no memory of ours.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, none, none) };
}
