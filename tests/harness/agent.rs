//! A seccomp agent: it accepts listeners at a socket, reads their notifications, and responds.
//! Tests decide whether the notifications are right.
#![allow(unsafe_code)]

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::Value;

/// The agent's response to a system call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    Errno(i32),
    /// The kernel skips the call and returns this value instead.
    Value(i64),
    /// The kernel carries out the call.
    Continue,
}

/// A system call that the agent was notified of.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) pid: i32,
    pub(crate) number: i32,
}

/// An agent's observations so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The ContainerProcessState of each listener.
    pub(crate) states: Vec<Value>,
    /// The link texts of the received descriptors in /proc/self/fd.
    pub(crate) links: Vec<String>,
    pub(crate) asked: Vec<Asked>,
}

/// An agent. It runs in threads of this process, one for each listener, which end with them.
#[derive(Debug)]
pub(crate) struct Agent(Arc<Mutex<Seen>>);

/// struct seccomp_notif of linux/seccomp.h.
#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    arch: u32,
    instruction_pointer: u64,
    arguments: [u64; 6],
}

/// struct seccomp_notif_resp.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

nix::ioctl_readwrite!(receive_notification, b'!', 0, Notification);
nix::ioctl_readwrite!(send_response, b'!', 1, Response);

impl Agent {
    /// Listens at a path. `reply` returns the response to a system call, given its number.
    pub(crate) fn listen(path: &Path, reply: fn(i32) -> Reply) -> Agent {
        let socket = UnixListener::bind(path).unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let agent = Agent(Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in socket.incoming() {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || serve(&stream.unwrap(), &seen, reply));
            }
        });
        agent
    }

    pub(crate) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }
}

/// Serves one listener until no process runs under its filter any more.
fn serve(stream: &UnixStream, seen: &Mutex<Seen>, reply: fn(i32) -> Reply) {
    let mut buffer = vec![0; 65536];
    let mut control = nix::cmsg_space!([i32; 4]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut control), flags).unwrap();
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else {
        // The container was never created.
        return;
    };
    let length = message.bytes;
    assert_eq!(fds.len(), 1);
    // SAFETY: the kernel has just created this descriptor for us.
    let listener = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fds[0])).unwrap();
    {
        let mut seen = seen.lock().unwrap();
        let state = serde_json::from_slice(&buffer[..length]).unwrap();
        seen.states.push(state);
        seen.links.push(link.to_str().unwrap().to_owned());
    }
    loop {
        let mut wait = [PollFd::new(
            std::os::fd::AsFd::as_fd(&listener),
            PollFlags::POLLIN,
        )];
        poll(&mut wait, PollTimeout::NONE).unwrap();
        if !wait[0].revents().unwrap().contains(PollFlags::POLLIN) {
            return;
        }
        let mut question = Notification::default();
        // SAFETY: the descriptor is a listener, and the kernel fills a structure of this type. The
        // call fails with ENOENT if the process has been killed in the meantime.
        if unsafe { receive_notification(listener.as_raw_fd(), &raw mut question) }.is_err() {
            continue;
        }
        seen.lock().unwrap().asked.push(Asked {
            pid: i32::try_from(question.pid).unwrap(),
            number: question.number,
        });
        let (value, error, flags) = match reply(question.number) {
            Reply::Errno(errno) => (0, -errno, 0),
            Reply::Value(value) => (value, 0, 0),
            Reply::Continue => (0, 0, 1),
        };
        let mut answer = Response {
            id: question.id,
            value,
            error,
            flags,
        };
        // SAFETY: as above. Again ENOENT if no process waits for the response any more.
        let _gone = unsafe { send_response(listener.as_raw_fd(), &raw mut answer) };
    }
}
