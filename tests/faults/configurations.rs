//! The seven configurations whose commands are made to fail. Each exercises different steps.
//! The faults are in `sweep`.

use std::any::Any;
use std::fs;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::agent::{Agent, Reply};
use crate::harness::systemd::{Manner, Systemd};
use crate::harness::{Container, eventually, kernel};
use crate::rootless::rootless;

/// A container that is ready to be created, and the helpers that it needs meanwhile.
pub(crate) struct Subject {
    pub(crate) c: Container,
    /// Global flags of create and run.
    pub(crate) globals: Vec<String>,
    /// Flags of create, run and exec.
    pub(crate) flags: Vec<String>,
    /// The master sides of the container's terminals.
    masters: Arc<Mutex<Vec<OwnedFd>>>,
    systemd: Option<Systemd>,
    _others: Option<Box<dyn Any>>,
    /// The reaper stops when this is dropped.
    _alive: Sender<()>,
}

impl Subject {
    /// Returns None and counts the test as skipped if the machine can't run this configuration.
    pub(crate) fn new(name: &str) -> Option<Subject> {
        let c = match name {
            "rootless" => rootless()?,
            _ => Container::new()?,
        };
        let (alive, ended) = channel();
        let cgroup = format!("{}/", c.parent_cgroup_path());
        let pid_file = c.pid_file();
        std::thread::spawn(move || reap_orphans(&cgroup, &pid_file, &ended));
        let mut subject = Subject {
            c,
            globals: Vec::new(),
            flags: Vec::new(),
            masters: Arc::default(),
            systemd: None,
            _others: None,
            _alive: alive,
        };
        match name {
            "plain" | "rootless" => {}
            "user-namespace" => subject.user_namespace(),
            "terminal" => subject.terminal(),
            "hooks" => subject.hooks(),
            "agent" => subject.agent(),
            "systemd" => subject.systemd(),
            other => panic!("{other}"),
        }
        Some(subject)
    }

    fn user_namespace(&mut self) {
        self.c.user_namespace();
        let dir = self.c.scratch().join("data");
        fs::create_dir(&dir).unwrap();
        fs::create_dir(self.c.rootfs("/data")).unwrap();
        let source = dir.to_str().unwrap().to_owned();
        self.c.mount("/data", "bind", &source, &["bind", "idmap"]);
    }

    fn terminal(&mut self) {
        self.c.edit(|j| j["process"]["terminal"] = json!(true));
        let path = self.c.scratch().join("console");
        keep_masters(&path, Arc::clone(&self.masters));
        let path = path.to_str().unwrap();
        self.flags = ["--console-socket", path].map(str::to_owned).into();
    }

    fn hooks(&mut self) {
        let hook = json!([{"path": "/bin/true"}]);
        let kinds = [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ];
        self.c.edit(|j| {
            for kind in kinds {
                j["hooks"][kind] = hook.clone();
            }
        });
    }

    fn agent(&mut self) {
        let path = self.c.scratch().join("agent");
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "listenerPath": path,
            "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}],
        });
        self.c.edit(|j| j["linux"]["seccomp"] = profile);
        self._others = Some(Box::new(Agent::listen(&path, |_| Reply::Continue)));
    }

    fn systemd(&mut self) {
        let path = format!("a-b.slice:orlop:{}", self.c.id);
        self.c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
        self.globals = vec!["--systemd-cgroup".to_owned()];
        if Path::new("/run/systemd/system").exists() {
            return;
        }
        let parent = self.c.cgroup().parent().unwrap().to_owned();
        let systemd = Systemd::start(&self.c.scratch(), parent, Manner::Well);
        self.c.set_env("DBUS_SYSTEM_BUS_ADDRESS", &systemd.address);
        self.systemd = Some(systemd);
    }

    /// Whether the container has a terminal. Only detached processes get a terminal through the
    /// socket.
    pub(crate) fn has_terminal(&self) -> bool {
        !self.flags.is_empty()
    }

    /// Does what happens by itself when a container is gone: its terminals hang up, and systemd
    /// collects its scope.
    pub(crate) fn settle(&self) {
        self.masters.lock().unwrap().clear();
        if let Some(systemd) = &self.systemd {
            systemd.collect();
        }
    }
}

/// Reaps the processes of a container that were reparented to this process, as an engine would: those
/// in its cgroup, and, as it may have none, those in the pid namespace of its init. Stops when the
/// other side of the channel is dropped.
fn reap_orphans(cgroup: &str, pid_file: &Path, ended: &Receiver<()>) {
    let own = std::process::id();
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    while ended.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let init = fs::read_to_string(pid_file).unwrap_or_default().parse();
        let inside = init.ok().and_then(namespace);
        for pid in children.unwrap_or_default().split_whitespace() {
            let pid = pid.parse().unwrap();
            let of = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let is_member = of.contains(cgroup) || inside.is_some() && inside == namespace(pid);
            // To wait for a process that is traced and lives would take its stop from the tracer.
            if is_member && !kernel::alive(pid) {
                let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
            }
        }
    }
}

/// The process of an exec that was killed becomes a child of this process. Until it is reaped, init
/// can't exit, since its pid namespace is not empty.
#[test]
fn orphans_of_a_container_without_a_cgroup_are_reaped() {
    let Some(mut subject) = Subject::new("rootless") else {
        return;
    };
    let c = &mut subject.c;
    c.args(&["/bin/sleep", "1000"]);
    c.run_detached().ok();
    let mut exec = c
        .command(&["exec", &c.id, "/bin/sleep", "2000"])
        .spawn()
        .unwrap();
    eventually("the program runs", || {
        c.exec_output("ps").contains("sleep 2000")
    });
    exec.kill().unwrap();
    exec.wait().unwrap();
    let begin = Instant::now();
    c.delete(&["--force"]).ok();
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
}

/// Receives all descriptors sent to a console socket, and keeps them open.
fn keep_masters(path: &Path, masters: Arc<Mutex<Vec<OwnedFd>>>) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let mut bytes = [0; 4096];
            let mut space = nix::cmsg_space!([RawFd; 8]);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let message =
                recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags);
            // A process that was killed early has sent nothing.
            for part in message.iter().flat_map(|m| m.cmsgs().unwrap()) {
                if let ControlMessageOwned::ScmRights(fds) = part {
                    masters.lock().unwrap().extend(fds.into_iter().map(owned));
                }
            }
        }
    });
}

#[allow(unsafe_code)]
fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just installed this descriptor for us by SCM_RIGHTS, so nothing else
    // owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
