//! Open files of the kinds that CRIU dumps only if it is allowed to.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};

use super::outside::{Outside, there};
use super::*;

/// Checks that a checkpoint needs the flag, and that the container goes on after both steps.
fn needs(c: &Container, flag: &str, last: u64) -> u64 {
    checkpoint(c, &[])
        .exits(1)
        .one_line()
        .says("its last error in");
    assert_eq!(c.status(), "running");
    let last = goes_on(c, last);
    checkpointed(c, &[flag]);
    last
}

#[test]
fn a_socket_that_is_connected_to_the_outside_is_connected_again_with_ext_unix_sk() {
    let mut c = counter!();
    let dir = c.scratch().join("socks");
    fs::create_dir(&dir).unwrap();
    // CRIU knows the sockets of the container's network namespace only.
    let namespace = Outside::new();
    c.join_namespace("network", &namespace.path());
    let (address, bound) = (dir.join("outside"), dir.join("outside"));
    let outside = there(namespace.path(), || UnixDatagram::bind(bound).unwrap());
    let second = std::time::Duration::from_secs(30);
    outside.set_read_timeout(Some(second)).unwrap();
    // CRIU connects to the name by which the socket outside was bound.
    let path = dir.to_str().unwrap();
    c.mount(path, "bind", path, &["bind"]);
    fs::write(c.rootfs("/socket"), address.to_str().unwrap()).unwrap();
    inside::runs(&mut c, "unix_socket");
    run(&c, &[]);
    let receive = || {
        let mut bytes = [0; 8];
        outside.recv(&mut bytes).unwrap();
        u64::from_ne_bytes(bytes)
    };
    let mut last = 0;
    for expected in 1..10 {
        last = receive();
        assert_eq!(last, expected);
    }
    // The queue of a socket outside isn't dumped, so it must be emptied all the time.
    let stop = AtomicBool::new(false);
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let last = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = last;
            while !stop.load(Ordering::Relaxed) {
                let next = receive();
                assert_eq!(next, last + 1);
                last = next;
            }
            last
        });
        let stop = Stop(&stop);
        needs(&c, "--ext-unix-sk", 0);
        restored(&c, &["--ext-unix-sk"]);
        goes_on(&c, 0);
        drop(stop);
        reader.join().unwrap()
    });
    assert_eq!(receive(), last + 1);
}

#[test]
fn a_lock_is_held_again_with_file_locks() {
    let mut c = counter!();
    inside::runs(&mut c, "lock");
    run(&c, &[]);
    let last = goes_on(&c, 0);
    let file = fs::File::open(c.rootfs("/locked")).unwrap();
    assert!(file.try_lock().is_err());
    let last = needs(&c, "--file-locks", last);
    file.try_lock().unwrap();
    file.unlock().unwrap();
    restored(&c, &["--file-locks"]);
    goes_on(&c, last);
    assert!(file.try_lock().is_err());
}

#[test]
fn a_file_whose_name_is_gone_is_open_again_with_link_remap() {
    let mut c = counter!();
    inside::runs(&mut c, "removed");
    run(&c, &[]);
    let last = goes_on(&c, 0);
    let last = needs(&c, "--link-remap", last);
    restored(&c, &[]);
    goes_on(&c, last);
    let other = c.rootfs("/other");
    let inode = fs::metadata(&other).unwrap().ino();
    let open = fs::read_dir(format!("/proc/{}/fd", c.pid())).unwrap();
    let open = open.filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        fs::metadata(path).is_ok_and(|file| file.ino() == inode)
    });
    assert_eq!(open.count(), 1);
    eventually("the process writes to that file", || {
        let bytes = fs::read(&other).unwrap();
        bytes.len() == 8 && u64::from_ne_bytes(bytes.try_into().unwrap()) > last
    });
    // Its name in the meantime is gone.
    let names = fs::read_dir(c.rootfs("/")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.contains("link_remap")).count(), 0);
}

#[test]
fn the_terminal_of_a_shell_job_is_that_of_the_caller_of_restore() {
    let mut c = counter!();
    c.script("stty -echo; while read line; do echo got $line; done");
    let start = |verb: &str, flags: &[&str]| {
        let pair = nix::pty::openpty(None, None).unwrap();
        let bundle = c.dir().to_str().unwrap();
        let pid_file = c.pid_file();
        let mut all = vec![verb, "--detach", "--bundle", bundle];
        all.extend(["--pid-file", pid_file.to_str().unwrap()]);
        all.extend(flags);
        all.push(&c.id);
        let mut command = c.command(&all);
        command
            .stdin(pair.slave.try_clone().unwrap())
            .stdout(pair.slave.try_clone().unwrap())
            .stderr(pair.slave);
        let mut child = command.spawn().unwrap();
        let mut screen = Screen::of(pair.master);
        let status = wait_for(&mut child);
        assert!(status.success(), "{}", screen.text());
        screen.type_in(verb);
        screen.type_in("\n");
        screen.wait_for(&format!("got {verb}"));
        screen
    };
    let first = start("run", &[]);
    checkpoint(&c, &[]).exits(1).one_line().says("/dev/pts/");
    checkpointed(&c, &["--shell-job"]);
    let images = images(&c);
    let second = start("restore", &["--shell-job", "--image-path", &images]);
    drop((first, second));
}
