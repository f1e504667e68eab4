//! Sockets outside of a container, in a network namespace that it shares.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

/// A network namespace beside the test's, kept by a process in it.
pub(super) struct Outside {
    child: std::process::Child,
}

impl Outside {
    pub(super) fn new() -> Outside {
        let script = "ip link set lo up; echo; exec sleep 1000";
        let mut command = Command::new("unshare");
        command.args(["--net", "/bin/sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = child.stdout.take().unwrap();
        said.read_exact(&mut [0]).unwrap();
        Outside { child }
    }

    pub(super) fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.child.id())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a socket in the network namespace at this path.
pub(super) fn there<T: Send + 'static>(
    path: String,
    make: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = std::thread::spawn(|| {
        let file = fs::File::open(path).unwrap();
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        make()
    });
    thread.join().unwrap()
}
