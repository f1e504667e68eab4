//! Terminals of tests: a console socket that receives a descriptor, and a pty to run a command on.
//! Tests decide whether the received message is right.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

use super::eventually;

/// A listening console socket.
pub(crate) struct ConsoleSocket(UnixListener);

/// One message received over a console socket.
pub(crate) struct Received {
    /// The bytes of the message.
    pub(crate) bytes: Vec<u8>,
    /// The descriptors of the message.
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl ConsoleSocket {
    /// Listens at a path; connections wait in the backlog until `receive`.
    pub(crate) fn listen(path: &Path) -> Self {
        Self(UnixListener::bind(path).unwrap())
    }

    /// Accepts one connection, which must be pending already, and receives one message.
    #[track_caller]
    pub(crate) fn receive(&self) -> Received {
        self.0.set_nonblocking(true).unwrap();
        let (stream, _) = self.0.accept().expect("a connection is waiting");
        let mut bytes = [0; 4096];
        let mut space = nix::cmsg_space!([RawFd; 8]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
        let mut descriptors = Vec::new();
        for part in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(fds) = part {
                descriptors.extend(fds.into_iter().map(owned));
            }
        }
        let length = message.bytes;
        Received {
            bytes: bytes[..length].to_vec(),
            descriptors,
        }
    }
}

#[allow(unsafe_code)]
fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just installed this descriptor for us by SCM_RIGHTS, so nothing else
    // owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The master side of a pty. Its output is collected until the other side hangs up.
pub(crate) struct Screen {
    input: File,
    text: Arc<Mutex<String>>,
}

impl Screen {
    /// Starts collecting the output of the other side.
    pub(crate) fn of(master: OwnedFd) -> Self {
        let input = File::from(master);
        let mut output = input.try_clone().unwrap();
        let text = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&text);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A pty whose other side hung up returns EIO.
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                let piece = String::from_utf8_lossy(&buffer[..length]).into_owned();
                sink.lock().unwrap().push_str(&piece);
            }
        });
        Self { input, text }
    }

    /// The output so far.
    pub(crate) fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// Waits until a text appears in the output.
    #[track_caller]
    pub(crate) fn wait_for(&self, wanted: &str) {
        eventually(&format!("{wanted:?} on the terminal"), || {
            self.text().contains(wanted)
        });
    }

    /// Types a text.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).unwrap();
    }
}
