//! What a command meets outside of itself: a state directory that is full, read-only or nobody's, a
//! caller with odd limits and signals, the other end of a socket or pipe that does nothing.
//! `sweep` makes the system calls of a command fail.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use serde_json::{Value, json};

use crate::harness::{Container, adopt, eventually, kernel, wait_for};

/// A mount of the test, which ends before the container looks for leftovers.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(target: &Path, options: &str) -> Mounted {
        fs::create_dir_all(target).unwrap();
        let none = MsFlags::empty();
        mount(Some("tmpfs"), target, Some("tmpfs"), none, Some(options)).unwrap();
        Mounted(target.to_owned())
    }

    /// A directory that is read-only until this is dropped.
    fn read_only(target: &Path) -> Mounted {
        let bind = MsFlags::MS_BIND;
        mount(Some(target), target, None::<&str>, bind, None::<&str>).unwrap();
        let flags = bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, target, None::<&str>, flags, None::<&str>).unwrap();
        Mounted(target.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// Takes all space and all inodes of the file system of a directory, in files of this name.
fn fill(dir: &Path) -> Vec<PathBuf> {
    let name = |number: usize| dir.join(format!("filler.{number}"));
    let block = vec![0; 4096];
    let mut files = Vec::new();
    while fs::write(name(files.len()), "").is_ok() {
        let file = name(files.len());
        while fs::OpenOptions::new()
            .append(true)
            .open(&file)
            .is_ok_and(|mut open| std::io::Write::write_all(&mut open, &block).is_ok())
        {}
        files.push(file);
    }
    files
}

#[test]
fn a_full_state_directory_fails_create_and_no_command_that_ends_a_container() {
    for options in [
        "size=128k,nr_inodes=100,mode=700",
        "size=1m,nr_inodes=12,mode=700",
    ] {
        let mut c = container!();
        let tmpfs = Mounted::tmpfs(&c.root(), options);
        let filler = fill(&c.root());
        c.create().exits(1).one_line().says("ENOSPC");
        filler
            .iter()
            .for_each(|file| fs::remove_file(file).unwrap());
        assert_eq!(c.root_entries(), [""; 0]);
        assert!(!c.cgroup().exists());
        c.run_detached().ok();
        adopt(c.pid());
        let record = c.root().join(&c.id).join("state.json");
        let before = fs::read(&record).unwrap();
        let filler = fill(&c.root());
        assert_eq!(c.status(), "running");
        c.runtime(&["pause", &c.id]).ok();
        assert_eq!(c.status(), "paused");
        c.runtime(&["resume", &c.id]).ok();
        c.exec(&["/bin/true"]).ok();
        // The digest of device rules is in the record, so an update of them needs a new file.
        let rules = c.scratch().join("rules");
        let all = json!({"devices": [{"allow": true, "access": "rwm"}]});
        fs::write(&rules, serde_json::to_vec(&all).unwrap()).unwrap();
        let updated = c.runtime(&["update", "--resources", rules.to_str().unwrap(), &c.id]);
        if updated.code != 0 {
            updated.one_line().says("ENOSPC");
            assert_eq!(fs::read(&record).unwrap(), before);
        }
        c.kill("KILL").ok();
        c.delete(&["--force"]).ok();
        filler
            .iter()
            .for_each(|file| fs::remove_file(file).unwrap());
        assert_eq!(c.root_entries(), [""; 0]);
        assert!(!c.cgroup().exists());
        drop(tmpfs);
        c.assert_nothing_left();
    }
}

#[test]
fn a_read_only_state_directory_can_be_read_and_is_named_by_what_cannot_write_it() {
    let mut c = container!();
    c.run_detached().ok();
    adopt(c.pid());
    let read_only = Mounted::read_only(&c.root());
    assert_eq!(c.status(), "running");
    let listed = c.runtime(&["list", "--quiet"]);
    assert_eq!(listed.ok().stdout(), format!("{}\n", c.id));
    let first = std::mem::replace(&mut c.id, "another".to_owned());
    let root = c.root();
    let root = root.to_str().unwrap();
    c.make("create", &[])
        .exits(1)
        .one_line()
        .says("EROFS")
        .says(root);
    c.id = first;
    c.delete(&["--force"])
        .exits(1)
        .one_line()
        .says("EROFS")
        .says(root);
    drop(read_only);
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
}

#[test]
fn a_state_directory_that_cannot_be_trusted_is_refused_by_name() {
    let c = container!();
    let root = c.root();
    let refused = |words: &str| {
        for verb in [&["state"][..], &["list"], &["delete", "--force"]] {
            let mut args = verb.to_vec();
            args.extend((verb != ["list"]).then_some(c.id.as_str()));
            let output = c.runtime(&args);
            output
                .exits(1)
                .one_line()
                .says(words)
                .says(root.to_str().unwrap());
        }
        c.make("create", &[]).exits(1).one_line().says(words);
    };
    fs::write(&root, "").unwrap();
    refused("ENOTDIR");
    fs::remove_file(&root).unwrap();
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
    refused("writable by others");
    fs::remove_dir(&root).unwrap();
    // A link to a directory that is the caller's own is as good as the directory.
    let other = c.scratch().join("other");
    fs::create_dir(&other).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(&other, &root).unwrap();
    c.make("create", &[]).ok();
    adopt(c.pid());
    assert!(other.join(&c.id).join("state.json").exists());
    c.delete(&["--force"]).ok();
    fs::remove_file(&root).unwrap();
}

#[test]
fn a_container_from_before_the_last_boot_has_stopped() {
    let mut c = container!();
    c.create().ok();
    let record = c.root().join(&c.id).join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    assert!(state["bootId"].as_str().is_some_and(|id| !id.is_empty()));
    state["bootId"] = json!("00000000-0000-0000-0000-000000000000");
    fs::write(&record, serde_json::to_vec(&state).unwrap()).unwrap();
    assert_eq!(c.status(), "stopped");
    c.start().exits(1).one_line().says("stopped");
    c.kill("KILL").exits(1).says("container not running");
    c.exec(&["/bin/true"]).exits(255).says("stopped");
    assert!(
        kernel::alive(c.pid()),
        "a process that had the pid was killed"
    );
    // Its pid and its cgroup are those of others now.
    c.delete(&["--force"]).ok();
    assert!(
        kernel::alive(c.pid()),
        "a process that had the pid was killed"
    );
    fs::write(c.cgroup().join("cgroup.kill"), "1").unwrap();
    adopt(c.pid());
    eventually("the cgroup is empty", || fs::remove_dir(c.cgroup()).is_ok());
    c.assert_nothing_left();
}

#[test]
fn a_root_that_was_removed_keeps_no_container_from_ending() {
    let mut c = container!();
    c.create().ok();
    fs::remove_dir_all(c.rootfs("")).unwrap();
    assert_eq!(c.status(), "created");
    c.start().exits(1).one_line().says("ENOENT");
    adopt(c.pid());
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
    let mut c = container!();
    c.run_detached().ok();
    adopt(c.pid());
    fs::remove_dir_all(c.dir()).unwrap();
    assert_eq!(c.status(), "running");
    c.exec(&["/bin/true"]).exits(255).one_line();
    c.kill("KILL").ok();
    c.wait_dead();
    assert_eq!(c.status(), "stopped");
    c.delete(&[]).ok();
    c.assert_nothing_left();
}

/// Runs the container by a shell that prepares itself first. Returns what both print.
fn run_after(c: &Container, preparation: &str) -> (i32, String) {
    let inner = c.command(&["run", "--bundle"]);
    let mut command = Command::new("/bin/bash");
    // The output goes through a pipe: a limit of file sizes would hold for a file.
    let script = format!("set -o pipefail; ({preparation}; exec \"$@\") 2>&1 | cat");
    command.args(["-c", &script, "bash"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.arg(c.dir()).arg(&c.id);
    let output = c.finish(command);
    (output.code, output.stdout())
}

#[test]
fn an_odd_caller_gets_its_container_or_one_line() {
    let gone = "mkdir gone && cd gone && rmdir \"$PWD\"";
    let all = "trap '' PIPE CHLD HUP USR1 XFSZ";
    let rows = [
        (gone, true),
        ("umask 0777", true),
        (all, true),
        ("exec env --block-signal \"$@\"", true),
        ("ulimit -c 0; ulimit -l 0", true),
        ("ulimit -f 0", false),
    ];
    for (preparation, succeeds) in rows {
        let mut c = container!();
        c.script("echo hello");
        let (code, said) = run_after(&c, preparation);
        if succeeds {
            assert_eq!((code, said.as_str()), (0, "hello\n"), "{preparation}");
        } else {
            assert_eq!(code, 1, "{preparation}: {said}");
            assert_eq!(said.lines().count(), 1, "{preparation}: {said}");
        }
        c.assert_nothing_left();
    }
}

#[test]
fn without_the_rights_that_it_takes_create_says_which_step_failed() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    let no_admin = "exec setpriv --bounding-set -sys_admin --inh-caps -sys_admin \"$@\"";
    let (code, said) = run_after(&c, no_admin);
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    assert!(said.contains("EPERM"), "{said}");
    c.assert_nothing_left();
    let cgroups = kernel::cgroup2_mount().unwrap();
    let read_only = format!(
        "exec unshare --mount sh -c 'mount -o remount,bind,ro {}; exec \"$@\"' sh \"$@\"",
        cgroups.display()
    );
    let (code, said) = run_after(&c, &read_only);
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    assert!(said.contains("EROFS"), "{said}");
    assert!(said.contains(c.cgroup().to_str().unwrap()), "{said}");
    c.assert_nothing_left();
}

fn on_a_terminal(c: &mut Container) {
    c.edit(|j| j["process"]["terminal"] = json!(true));
    c.args(&["/bin/sleep", "1000"]);
}

#[test]
fn a_console_socket_with_a_full_queue_is_given_up_after_10_s() {
    let mut c = container!();
    on_a_terminal(&mut c);
    let path = c.scratch().join("console");
    let flags = SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&listener),
        &UnixAddr::new(&path).unwrap(),
    )
    .unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let _waits = UnixStream::connect(&path).unwrap();
    let begin = Instant::now();
    let made = c.make("create", &["--console-socket", path.to_str().unwrap()]);
    made.exits(1).one_line().says("EAGAIN").says("console");
    assert!(begin.elapsed() > Duration::from_secs(9));
    c.assert_nothing_left();
}

#[test]
fn a_console_socket_that_nobody_reads_or_that_hangs_up_holds_nothing_up() {
    let mut c = container!();
    on_a_terminal(&mut c);
    let path = c.scratch().join("console");
    let listener = UnixListener::bind(&path).unwrap();
    let flags = ["--console-socket", path.to_str().unwrap()];
    // The terminal waits in the socket for a reader.
    c.make("create", &flags).ok();
    adopt(c.pid());
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
    drop(listener.accept().unwrap());
    let closer = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let made = c.make("create", &flags);
    closer.join().unwrap();
    if made.code == 0 {
        adopt(c.pid());
        c.delete(&["--force"]).ok();
    } else {
        made.exits(1).one_line().says("console socket");
    }
    c.assert_nothing_left();
}

/// The processor time that a process has used, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1.split_whitespace();
    fields
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().unwrap())
        .sum()
}

#[test]
fn a_reader_of_run_that_stops_or_goes_away_causes_neither_a_busy_loop_nor_a_hang() {
    for closes in [false, true] {
        let mut c = container!();
        c.edit(|j| j["process"]["terminal"] = json!(true));
        c.args(&["/bin/yes"]);
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut command = c.command(&["run", "--bundle"]);
        command
            .arg(c.dir())
            .arg("--pid-file")
            .arg(c.pid_file())
            .arg(&c.id);
        command.stdin(pty.slave).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut reader = child.stdout.take().unwrap();
        reader.read_exact(&mut [0; 4096]).unwrap();
        let reader = (!closes).then(|| OwnedFd::from(reader));
        std::thread::sleep(Duration::from_millis(300));
        let before = ticks(child.id());
        std::thread::sleep(Duration::from_secs(2));
        // With the reader gone, what the container prints is read and dropped, as by runc.
        let used = ticks(child.id()) - before;
        assert!(closes || used <= 10, "{used} ticks in 2 s");
        eventually("the container is killed", || {
            c.kill("KILL").code == 0 || child.try_wait().unwrap().is_some()
        });
        assert!(wait_for(&mut child).code().is_some());
        drop(reader);
        c.assert_nothing_left();
    }
}
