//! NOTIFY_SOCKET: the runtime waits for a container's READY=1 and passes it on to its caller.
//! The test stands in for systemd, and sends the container's messages through the container's root.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command};
use std::time::Duration;

use crate::harness::{Container, DEADLINE, eventually, kernel, wait_for};

const INSIDE: &str = "run/notify/notify.sock";

/// Returns the caller's socket and the path of the socket.
fn caller(c: &Container) -> (UnixDatagram, std::path::PathBuf) {
    let path = c.scratch().join("caller");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    (socket, path)
}

fn spawn(c: &Container, path: &std::path::Path, args: &[&str]) -> Child {
    let mut command = c.command(args);
    command
        .env("NOTIFY_SOCKET", path)
        .stdout(std::process::Stdio::null());
    command.spawn().unwrap()
}

fn received(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// Sends a message as a process of the container would.
fn say(pid: i32, message: &str) {
    let path = format!("/proc/{pid}/root/{INSIDE}");
    let socket = UnixDatagram::unbound().unwrap();
    eventually("the container can speak", || {
        socket.send_to(message.as_bytes(), &path).is_ok()
    });
}

fn created(c: &mut Container, path: &std::path::Path) -> i32 {
    let bundle = c.dir().to_str().unwrap().to_owned();
    let pid_file = c.pid_file().to_str().unwrap().to_owned();
    let id = c.id.clone();
    let args = ["create", "--bundle", &bundle, "--pid-file", &pid_file, &id];
    assert!(wait_for(&mut spawn(c, path, &args)).success());
    c.pid()
}

#[test]
fn start_waits_until_the_container_is_ready_and_tells_the_caller() {
    let mut c = container!();
    let (socket, path) = caller(&c);
    c.edit(|c| c["process"]["user"] = serde_json::json!({"uid": 1000, "gid": 1000}));
    let pid = created(&mut c, &path);
    let mut start = spawn(&c, &path, &["start", &c.id]);
    say(pid, "STATUS=READY=1\nX_READY=1");
    say(pid, &"x".repeat(6000));
    // The status is `running` even before the program runs.
    eventually("the program runs", || {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sleep\n"
    });
    assert_eq!(c.status(), "running");
    std::thread::sleep(Duration::from_millis(100));
    assert!(start.try_wait().unwrap().is_none(), "start has not waited");
    let text = c.exec_output("tr '\\0' '\\n' < /proc/1/environ | grep ^NOTIFY; test -w /run/notify/notify.sock && echo w");
    assert_eq!(text, "NOTIFY_SOCKET=/run/notify/notify.sock\nw\n");
    let mount = kernel::mount_at(pid, "/run/notify").unwrap();
    for flag in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(mount.has(flag), "{}", mount.line);
    }
    say(pid, "STATUS=up\nREADY=1\nMAINPID=1");
    let said = [0; 3].map(|_| received(&socket));
    assert_eq!(
        said,
        ["READY=1\n", &format!("MAINPID={pid}\n"), "BARRIER=1"]
    );
    assert!(wait_for(&mut start).success());
    c.delete(&["--force"]).ok();
    c.wait();
    c.assert_nothing_left();
}

#[test]
fn a_container_that_ends_before_it_is_ready_ends_the_wait() {
    let mut c = container!();
    let (_socket, path) = caller(&c);
    c.script("touch /ready; exec sleep 1000");
    created(&mut c, &path);
    let mut start = spawn(&c, &path, &["start", &c.id]);
    // The status is `running` even before the program runs. But a start whose program never ran
    // fails, so wait for the program.
    c.wait_file("/ready");
    c.kill("KILL").ok();
    assert!(wait_for(&mut start).success());
    c.wait();
    c.delete(&[]).ok();
}

#[test]
fn a_detached_run_waits_as_well() {
    let c = container!();
    let (socket, path) = caller(&c);
    let (bundle, pid_file) = (c.dir().to_owned(), c.pid_file());
    let mut command: Command = c.command(&["run", "--detach", "--bundle"]);
    command.arg(bundle).arg("--pid-file").arg(&pid_file);
    command.arg(&c.id).env("NOTIFY_SOCKET", &path);
    let mut run = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    eventually("the pid file is there", || pid_file.exists());
    let pid = c.pid();
    eventually("it runs", || c.status() == "running");
    assert!(run.try_wait().unwrap().is_none(), "run has not waited");
    say(pid, "READY=1");
    assert_eq!(received(&socket), "READY=1\n");
    assert_eq!(received(&socket), format!("MAINPID={pid}\n"));
    // A caller that has not read the barrier may not have read the earlier messages.
    assert!(run.try_wait().unwrap().is_none(), "run has not waited");
    assert_eq!(received(&socket), "BARRIER=1");
    assert!(wait_for(&mut run).success());
    c.delete(&["--force"]).ok();
    c.wait();
}

#[test]
fn a_run_in_the_foreground_is_what_the_caller_watches() {
    let mut c = container!();
    let (socket, path) = caller(&c);
    c.script("while test ! -e /over; do sleep 0.05; done; exit 3");
    let (bundle, pid_file) = (c.dir().to_owned(), c.pid_file());
    let mut command = c.command(&["run", "--bundle"]);
    command.arg(bundle).arg("--pid-file").arg(&pid_file);
    let mut run = command
        .arg(&c.id)
        .env("NOTIFY_SOCKET", &path)
        .spawn()
        .unwrap();
    eventually("the pid file is there", || pid_file.exists());
    say(c.pid(), "READY=1");
    assert_eq!(received(&socket), "READY=1\n");
    assert_eq!(received(&socket), format!("MAINPID={}\n", run.id()));
    std::fs::write(c.rootfs("/over"), "").unwrap();
    assert_eq!(wait_for(&mut run).code(), Some(3));
}

#[test]
fn a_notify_socket_that_nobody_reads_is_a_warning() {
    let mut c = container!();
    // One socket never existed. The owner of the other is gone.
    let (socket, left_over) = caller(&c);
    drop(socket);
    for (path, errno) in [
        (c.scratch().join("nobody"), "ENOENT"),
        (left_over, "ECONNREFUSED"),
    ] {
        let says = format!("{}: connect: {errno}", path.display());
        let told = |c: &Container, args: &[&str]| {
            let mut command = c.command(&[&["--log-level", "warning"], args].concat());
            command.env("NOTIFY_SOCKET", &path);
            c.finish(command).ok().one_line().says(&says);
        };
        let bundle = c.dir().to_str().unwrap().to_owned();
        let id = c.id.clone();
        created(&mut c, &path);
        told(&c, &["start", &id]);
        assert_eq!(c.status(), "running");
        c.delete(&["--force"]).ok();
        c.wait();
        c.args(&["true"]);
        told(&c, &["run", "--bundle", &bundle, &id]);
        told(&c, &["run", "--detach", "--bundle", &bundle, &id]);
        c.delete(&["--force"]).ok();
        c.args(&["sleep", "1000"]);
        c.assert_nothing_left();
    }
}

#[test]
fn a_caller_that_ends_before_the_container_is_ready_is_a_warning() {
    let mut c = container!();
    let (socket, path) = caller(&c);
    let pid = created(&mut c, &path);
    let mut start = c.command(&["--log-level", "warning", "start", &c.id]);
    start.env("NOTIFY_SOCKET", &path);
    let waiting = std::thread::spawn(move || start.output().unwrap());
    eventually("start waits", || c.status() == "running");
    drop(socket);
    say(pid, "READY=1");
    let output = waiting.join().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("relay to NOTIFY_SOCKET"), "{text}");
    assert_eq!(c.status(), "running");
    c.delete(&["--force"]).ok();
    c.wait();
    c.assert_nothing_left();
}

#[test]
fn a_container_made_without_a_notify_socket_starts_without_waiting() {
    let mut c = container!();
    let (_socket, path) = caller(&c);
    c.create().ok();
    assert!(wait_for(&mut spawn(&c, &path, &["start", &c.id])).success());
    assert_eq!(c.status(), "running");
}
