//! The messages between parent and child, over SEQPACKET sockets that close at exec. `launch` and
//! `child` decide when each message is sent.
//!
//! ```text
//!   parent                          child
//!     |  -------- CgroupJoined -----> |   only if the child wasn't cloned into its cgroup: it has been moved now
//!     |  <------- Entered ------------|   only if the child itself joins and makes its namespaces
//!     |  --- DetachedMount (fd) -----> |   with a user namespace: the root, sources of binds, device nodes; any number
//!     |  -------- IdsMapped ---------> |   with a user namespace: the child becomes root in it
//!     |  <-- DetachedMount (fd) ------|   a bind whose source is in the root and whose ids the parent maps; any number
//!     |  -------- IdsMapped ---------> |   the answer to each of these binds
//!     |  <------- RootfsMounted ------|   only with prestart or createRuntime hooks, which the parent runs now;
//!     |  -------- HooksDone --------> |   the child continues with createContainer hooks, if there are any
//!     |  <------- Console (fd) -------|   the master of the terminal, if there is one
//!     |  <------- Listener (fd) -------|   of the seccomp filter, if it has one; before Ready
//!     |  <------- Ready --------------|   everything is set up; the parent sets limits now, by pid
//!     |           ...                 |   create: the parent exits, `start` connects to the start socket
//!     |  -------- Go ---------------> |   run, exec: over the link; start: over the start socket
//!     |  -------- Enter ------------> |   over the start socket: an exec by an owner who can't see the child's namespaces
//!     |  <------- Namespace (fd) -----|   the answer: all of them, then end of file; the child waits for the next
//!     |  <------- Exec ---------------|   the next step is execve
//!     |  <------- (end of file) ------|   execve has closed the socket: the process runs
//!     |
//!     |  <------- Failed -------------|   instead of any of the child's messages; the child has exited
//! ```
//!
//! If other processes in the pid namespace can see the container's process, that process is cloned
//! last (`child::exec`): a child sends all of the above messages before Ready, and then clones a
//! sibling. Both use the same link, one after the other:
//!
//! ```text
//!   parent                          child, then its sibling
//!     |  <------- Born (pidfd) -------|   the child has cloned its sibling, and exits
//!     |  -------- Go ---------------> |   to the sibling, once limits are set by its pid
//!     |  <------- Ready --------------|   create only: it waits for `start` at the start socket
//!     |           ...                 |
//!     |  <------- Exec ---------------|   as above
//!     |  <------- Listener (fd) ------|   of a filter that is set just before execve
//!     |  <------- (end of file) ------|
//! ```
//!
//! An intermediate process (`launch::intermediate`) has its own link to the parent, until it has
//! cloned the child:
//!
//! ```text
//!   parent                          intermediate process
//!     |  -------- IdsMapped ---------> |   only with a new user namespace
//!     |  <------- Born (pidfd) -------|   it has cloned the child, and exits; or Failed
//! ```
//!
//! A process changes the mounts of an existing container (`child::mounts`). Another process, the
//! host of the sources (`launch::sources`), opens the sources of its bind mounts:
//!
//! ```text
//!   parent                          process in the container's mount namespace
//!     |  <-- DetachedMount (fd) ------|   a bind whose source is in the root and whose ids the parent maps; any number
//!     |  -------- IdsMapped ---------> |   the answer to each of these binds
//!     |  <------ Attached (fd) -------|   each mount that it has added
//!     |  <------- Ready --------------|   all mounts are added, or removed: then the process has exited
//!     |  -------- Go ---------------> |   the added mounts are recorded, and stay
//!     |
//!     |  <-- DetachedMount (fd) ------|   from the host of the sources, where the caller isn't root; any number
//!     |  <------- Entered ------------|   from the host of the sources: it is in its namespaces
//! ```
//!
//! A visitor (`child::visitor`) sends one Context (fd), or Failed, to the child that asked for it.
//!
//! A message is a header of 12 bytes (kind, errno or pid, length of the rest; native integers) and
//! at most 4084 bytes of text.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::annotations::Outputs;
use crate::detached::DetachedMount;
use crate::diagnosis::Code;
use crate::error::Failed;
use crate::sys::clone::Child;
use crate::sys::{Errno, Result, socket};

/// Everything that a child inherits from its parent.
pub(crate) struct Inherited {
    /// The child's end of the link.
    pub(crate) link: OwnedFd,
    pub(crate) descriptors: ChildDescriptors,
}

/// The descriptors that a child inherits besides its link. The child closes all others.
#[derive(Default)]
pub(crate) struct ChildDescriptors {
    /// The listening start socket. `None` means that the parent sends Go over the link.
    pub(crate) start_socket: Option<OwnedFd>,
    /// The root, as a detached mount or as a directory for chroot. `None` means that the child
    /// opens the root by its path, in the joined mount namespace.
    pub(crate) root: Option<OwnedFd>,
    /// The sources of bind mounts, in the order of the plan's mounts.
    pub(crate) trees: Vec<DetachedMount>,
    /// Namespaces to join, in this order.
    pub(crate) joined: Vec<OpenNamespace>,
    /// The pid namespace in which the container's process is cloned last.
    pub(crate) pid_namespace: Option<JoinedPidNamespace>,
    /// Those of the descriptors 0 to 2 that are the host's null device. The child replaces them by
    /// the container's null device.
    pub(crate) null: Vec<i32>,
    /// The files to which createContainer hooks write.
    pub(crate) hook_outputs: Outputs,
    /// True if the child waits until it is moved into its cgroup. False if it was cloned there, or
    /// has no cgroup.
    pub(crate) waits_for_cgroup: bool,
}

impl ChildDescriptors {
    /// Returns the numbers of these descriptors, without stdin, stdout and stderr.
    pub(crate) fn raw_fds(&self) -> Vec<RawFd> {
        let mounts = self.trees.iter().map(|mount| &mount.fd);
        let pid_namespace = self.pid_namespace.iter().map(|joined| &joined.namespace);
        let namespaces = self.joined.iter().chain(pid_namespace);
        let sockets = self.start_socket.iter().chain(&self.root);
        let outputs = self
            .hook_outputs
            .stdout
            .iter()
            .chain(&self.hook_outputs.stderr);
        let all = sockets
            .chain(mounts)
            .chain(namespaces.map(|one| &one.fd))
            .chain(outputs);
        all.map(AsRawFd::as_raw_fd).collect()
    }
}

/// An open namespace, or several namespaces of a process through its pidfd.
#[derive(Debug)]
pub(crate) struct OpenNamespace {
    pub(crate) fd: OwnedFd,
    pub(crate) kinds: nix::sched::CloneFlags,
    /// The operation, for messages: `join the namespace /x (config.json:
    /// linux.namespaces[0].path)`.
    pub(crate) what: String,
}

/// A pid namespace with other processes. setns doesn't move the caller into a pid namespace, but
/// only children that the caller clones afterwards.
#[derive(Debug)]
pub(crate) struct JoinedPidNamespace {
    pub(crate) namespace: OpenNamespace,
    /// True to join the namespace before the user namespace, which gives no rights over it. False
    /// to join it as late as possible, because each process that is forked afterwards is visible in
    /// it.
    pub(crate) early: bool,
}

/// The process name of a child between its last filter and execve. A zombie with this name never
/// ran the program.
pub(crate) const FILTERING_NAME: &std::ffi::CStr = c"orlop:filter";

/// The errno of a failure without a call, which marks the failure of a hook.
pub(crate) const HOOK_FAILURE_ERRNO: Errno = Errno::ECANCELED;

/// The call in the report of a failed clone.
pub(crate) const CLONE_CALL: &str = "clone";

/// The size of the largest message with its header.
const MAX_MESSAGE_BYTES: usize = 4096;
const HEADER_BYTES: usize = 12;

/// One message.
#[derive(Debug)]
pub(crate) enum Message {
    CgroupJoined,
    Entered,
    Born(Child),
    DetachedMount(DetachedMount),
    IdsMapped,
    RootfsMounted,
    HooksDone,
    Console(OwnedFd),
    Listener(OwnedFd),
    Ready,
    Go,
    Enter,
    Namespace(OwnedFd),
    Context(OwnedFd),
    Attached(OwnedFd),
    Exec,
    Failed(Failed),
}

impl Message {
    /// Returns the detached mount, if the message is one.
    pub(crate) fn detached_mount(self) -> Option<DetachedMount> {
        match self {
            Message::DetachedMount(tree) => Some(tree),
            _ => None,
        }
    }
}

const KIND_CONSOLE: u32 = 1;
const KIND_READY: u32 = 2;
const KIND_GO: u32 = 3;
const KIND_EXEC: u32 = 4;
const KIND_FAILED: u32 = 5;
const KIND_IDS_MAPPED: u32 = 6;
const KIND_DIRECTORY: u32 = 7;
const KIND_FILE: u32 = 8;
const KIND_ROOTFS_MOUNTED: u32 = 9;
const KIND_HOOKS_DONE: u32 = 10;
const KIND_LISTENER: u32 = 11;
const KIND_BORN: u32 = 12;
const KIND_CGROUP_JOINED: u32 = 13;
const KIND_ENTER: u32 = 14;
const KIND_NAMESPACE: u32 = 15;
const KIND_ENTERED: u32 = 16;
const KIND_CONTEXT: u32 = 17;
const ATTACHED: u32 = 18;

fn encode_packet(kind: u32, number: i32, text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let text = text.get(..MAX_MESSAGE_BYTES - HEADER_BYTES).unwrap_or(text);
    let mut packet = Vec::with_capacity(HEADER_BYTES + text.len());
    packet.extend(kind.to_ne_bytes());
    packet.extend(number.to_ne_bytes());
    packet.extend(u32::try_from(text.len()).unwrap_or(0).to_ne_bytes());
    packet.extend(text);
    packet
}

/// Sends one message.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &Message) -> Result<()> {
    match message {
        Message::Born(child) => socket::send(
            socket,
            &encode_packet(KIND_BORN, child.pid, ""),
            Some(child.pidfd.as_fd()),
        ),
        Message::DetachedMount(tree) => {
            let kind = if tree.is_directory {
                KIND_DIRECTORY
            } else {
                KIND_FILE
            };
            socket::send(socket, &encode_packet(kind, 0, ""), Some(tree.fd.as_fd()))
        }
        Message::CgroupJoined => {
            socket::send(socket, &encode_packet(KIND_CGROUP_JOINED, 0, ""), None)
        }
        Message::Entered => socket::send(socket, &encode_packet(KIND_ENTERED, 0, ""), None),
        Message::IdsMapped => socket::send(socket, &encode_packet(KIND_IDS_MAPPED, 0, ""), None),
        Message::Console(master) => socket::send(
            socket,
            &encode_packet(KIND_CONSOLE, 0, ""),
            Some(master.as_fd()),
        ),
        Message::RootfsMounted => {
            socket::send(socket, &encode_packet(KIND_ROOTFS_MOUNTED, 0, ""), None)
        }
        Message::HooksDone => socket::send(socket, &encode_packet(KIND_HOOKS_DONE, 0, ""), None),
        Message::Listener(listener) => socket::send(
            socket,
            &encode_packet(KIND_LISTENER, 0, ""),
            Some(listener.as_fd()),
        ),
        Message::Ready => socket::send(socket, &encode_packet(KIND_READY, 0, ""), None),
        Message::Go => socket::send(socket, &encode_packet(KIND_GO, 0, ""), None),
        Message::Enter => socket::send(socket, &encode_packet(KIND_ENTER, 0, ""), None),
        Message::Namespace(fd) => socket::send(
            socket,
            &encode_packet(KIND_NAMESPACE, 0, ""),
            Some(fd.as_fd()),
        ),
        Message::Context(fd) => socket::send(
            socket,
            &encode_packet(KIND_CONTEXT, 0, ""),
            Some(fd.as_fd()),
        ),
        Message::Attached(fd) => {
            socket::send(socket, &encode_packet(ATTACHED, 0, ""), Some(fd.as_fd()))
        }
        Message::Exec => socket::send(socket, &encode_packet(KIND_EXEC, 0, ""), None),
        Message::Failed(failure) => {
            let code = failure.code.map_or("", Code::word);
            let text = [&*failure.call, &*failure.detail, code, &*failure.what].join("\0");
            socket::send(
                socket,
                &encode_packet(KIND_FAILED, failure.errno as i32, &text),
                None,
            )
        }
    }
}

/// Receives one message. Returns `None` if the other side has closed the socket, and EPROTO if the
/// data is no message.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Option<Message>> {
    let mut buffer = [0_u8; MAX_MESSAGE_BYTES];
    let (length, fd) = match socket::receive(socket, &mut buffer) {
        // The peer has ended without reading all messages.
        Err(Errno::ECONNRESET) => (0, None),
        other => other?,
    };
    if length == 0 {
        return Ok(None);
    }
    decode(buffer.get(..length).unwrap_or_default(), fd)
        .map(Some)
        .ok_or(Errno::EPROTO)
}

fn decode(packet: &[u8], fd: Option<OwnedFd>) -> Option<Message> {
    let (kind, rest) = packet.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<4>()?;
    let number = i32::from_ne_bytes(*number);
    let (length, text) = rest.split_first_chunk::<4>()?;
    if usize::try_from(u32::from_ne_bytes(*length)).ok()? != text.len() {
        return None;
    }
    match (u32::from_ne_bytes(*kind), fd) {
        (KIND_ROOTFS_MOUNTED, None) => Some(Message::RootfsMounted),
        (KIND_HOOKS_DONE, None) => Some(Message::HooksDone),
        (KIND_BORN, Some(pidfd)) => Some(Message::Born(Child { pid: number, pidfd })),
        (KIND_CONSOLE, Some(fd)) => Some(Message::Console(fd)),
        (KIND_LISTENER, Some(fd)) => Some(Message::Listener(fd)),
        (KIND_DIRECTORY, Some(fd)) => Some(Message::DetachedMount(DetachedMount {
            fd,
            is_directory: true,
        })),
        (KIND_FILE, Some(fd)) => Some(Message::DetachedMount(DetachedMount {
            fd,
            is_directory: false,
        })),
        (KIND_CGROUP_JOINED, None) => Some(Message::CgroupJoined),
        (KIND_ENTERED, None) => Some(Message::Entered),
        (KIND_IDS_MAPPED, None) => Some(Message::IdsMapped),
        (KIND_READY, None) => Some(Message::Ready),
        (KIND_GO, None) => Some(Message::Go),
        (KIND_ENTER, None) => Some(Message::Enter),
        (KIND_NAMESPACE, Some(fd)) => Some(Message::Namespace(fd)),
        (KIND_CONTEXT, Some(fd)) => Some(Message::Context(fd)),
        (ATTACHED, Some(fd)) => Some(Message::Attached(fd)),
        (KIND_EXEC, None) => Some(Message::Exec),
        (KIND_FAILED, None) => {
            let text = String::from_utf8_lossy(text);
            // Processes in the container may forge messages of a process that is cloned there.
            let plain = |part: &str| part.replace(|c: char| c.is_control(), "?");
            let mut parts = text.splitn(4, '\0').map(plain);
            let (call, detail) = (parts.next()?, parts.next()?);
            let (code, what) = (parts.next()?, parts.next()?);
            Some(Message::Failed(Failed {
                what: what.into(),
                call: call.into(),
                errno: Errno::from_raw(number),
                detail: detail.into(),
                code: Code::named(&code),
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failure_arrives_as_it_was_sent() {
        let (parent, child) = socket::pair().unwrap();
        let mut failure = Failed::new(
            "mount /x (config.json: mounts[3])",
            "fsconfig",
            Errno::EINVAL,
        );
        failure.detail = "tmpfs: Bad value for 'size'".into();
        failure.code = Some(Code::MountDenied);
        send(child.as_fd(), &Message::Failed(failure.clone())).unwrap();
        let Some(Message::Failed(received)) = receive(parent.as_fd()).unwrap() else {
            unreachable!()
        };
        assert_eq!(received, failure);
        assert_eq!(
            received.to_string(),
            "mount /x (config.json: mounts[3]): fsconfig: EINVAL (invalid argument): tmpfs: Bad value for 'size'"
        );
    }

    #[test]
    fn a_closed_socket_is_the_end_and_garbage_is_refused() {
        let (parent, child) = socket::pair().unwrap();
        socket::send(child.as_fd(), b"hello", None).unwrap();
        assert_eq!(receive(parent.as_fd()).unwrap_err(), Errno::EPROTO);
        socket::send(child.as_fd(), &encode_packet(KIND_CONSOLE, 0, ""), None).unwrap();
        assert_eq!(receive(parent.as_fd()).unwrap_err(), Errno::EPROTO);
        drop(child);
        assert!(receive(parent.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_text_that_is_too_long_is_cut() {
        let (parent, child) = socket::pair().unwrap();
        send(
            child.as_fd(),
            &Message::Failed(Failed::from_sentence("x".repeat(10_000))),
        )
        .unwrap();
        let Some(Message::Failed(received)) = receive(parent.as_fd()).unwrap() else {
            unreachable!()
        };
        assert!(received.what.len() > 4000);
    }
}
