//! `exec` in a hostile container: an attacker controls its /etc/passwd, /etc/group and /dev.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Canary, report};
use crate::harness::terminal::ConsoleSocket;

/// Runs an action that may not take long, whatever its result.
#[track_caller]
fn in_time<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = run();
    assert!(
        begin.elapsed() < crate::harness::DEADLINE,
        "{what} took too long"
    );
    report("exposed", 1);
    done
}

/// Puts each kind of object in place of an account file, one after the other.
fn each_object(path: &Path, stolen: &Path, mut each: impl FnMut(&str)) {
    let clear = || {
        let _ = fs::remove_file(path);
        let _ = fs::remove_dir_all(path);
    };
    let mut put = |what: &str, make: &dyn Fn()| {
        clear();
        make();
        each(what);
        clear();
    };
    let mknod = |what: &[&str]| {
        let made = Command::new("mknod").arg(path).args(what).status();
        assert!(made.unwrap().success());
    };
    put("nothing", &|| {});
    put("fifo", &|| mknod(&["p"]));
    put("device without an end", &|| mknod(&["c", "1", "5"]));
    put("terminal", &|| mknod(&["c", "5", "0"]));
    put("directory", &|| fs::create_dir(path).unwrap());
    put("socket", &|| drop(UnixListener::bind(path).unwrap()));
    for link in [
        "/proc/self/environ",
        "/proc/1/mem",
        "/proc/kmsg",
        "/proc/self/fd/0",
        "passwd",
        "group",
    ] {
        put(link, &|| symlink(link, path).unwrap());
    }
    put("a link to the host", &|| symlink(stolen, path).unwrap());
    put("a link that climbs", &|| {
        let climb = format!("{}{}", "../".repeat(30), stolen.display());
        symlink(climb, path).unwrap();
    });
    put("a file without an end", &|| {
        let file = fs::File::create(path).unwrap();
        file.set_len(1 << 36).unwrap();
    });
    put("a line without an end", &|| {
        fs::write(path, "x".repeat(3 << 20)).unwrap()
    });
    put("colons and newlines", &|| {
        fs::write(path, ":\n".repeat(1 << 20)).unwrap()
    });
    put("bytes", &|| {
        fs::write(
            path,
            [0xff, b':', 0, b':', b'0', b':', b'\n'].repeat(1 << 16),
        )
        .unwrap()
    });
    put("a file that nobody may read", &|| {
        fs::write(path, "root:x:0:0::/root:/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    });
}

#[test]
fn a_hostile_passwd_or_group_neither_holds_an_exec_up_nor_leads_it_out() {
    let mut c = container!();
    let stolen = c.scratch().join("passwd");
    fs::write(
        &stolen,
        "root:x:0:0::/stolen:/bin/sh\nuser:x:1000:1000::/stolen:/bin/sh\n",
    )
    .unwrap();
    let canary = Canary::of(&c);
    c.run_detached().ok();
    for name in ["/etc/passwd", "/etc/group"] {
        each_object(&c.rootfs(name), &stolen, |what| {
            for user in ["0", "1000"] {
                let args = ["/bin/sh", "-c", "echo $HOME"];
                let output = in_time(what, || c.exec_with(&["--user", user], &args));
                assert_eq!(output.ok().stdout().lines().count(), 1, "{name}: {what}");
                assert!(!output.stdout().contains("stolen"), "{name}: {what}");
            }
        });
    }
    canary.assert_unchanged("passwd");
}

#[test]
fn a_hostile_dev_neither_holds_an_exec_up_nor_serves_it() {
    let mut c = container!();
    c.capabilities(
        &["bounding", "effective", "permitted"],
        &["CAP_SYS_ADMIN", "CAP_KILL"],
    );
    c.edit(|j| j["process"]["noNewPrivileges"] = serde_json::json!(false));
    c.run_detached().ok();
    let change = |script: &str| drop(c.exec_output(script));
    for null in [
        "mknod /dev/null p",
        "ln -s /etc/passwd /dev/null",
        "ln -s null /dev/null",
        ": >/dev/null",
        "mkdir /dev/null",
        "true",
    ] {
        change(&format!("rm -rf /dev/null; {null}"));
        let mut command = c.command(&["exec", &c.id, "/bin/true"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = in_time(null, || command.status().unwrap());
        assert!(status.success(), "{null}");
    }
    let path = c.scratch().join("console");
    let tty = [
        "--tty",
        "--detach",
        "--console-socket",
        path.to_str().unwrap(),
    ];
    let places = "mount -t tmpfs tmpfs /dev/pts; rm -f /dev/ptmx";
    for ptmx in [
        "mknod /dev/pts/ptmx p",
        "ln -s /dev/zero /dev/pts/ptmx",
        ": >/dev/pts/ptmx",
        "mknod /dev/ptmx p",
        ": >/dev/ptmx",
        "ln -s /proc/self/fd/0 /dev/ptmx",
    ] {
        change(&format!("umount /dev/pts; {places}; {ptmx}"));
        let socket = ConsoleSocket::listen(&path);
        let output = in_time(ptmx, || c.exec_with(&tty, &["/bin/true"]));
        output.exits(255).one_line();
        drop(socket);
        fs::remove_file(&path).unwrap();
    }
}
