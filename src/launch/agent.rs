//! Parent: sends the listener of a seccomp filter to the seccomp agent (config-linux.md, "The
//! Container Process State").
//! `plan::seccomp` decides which calls the agent answers.

use std::os::fd::{AsFd, OwnedFd};

use serde_json::json;

use super::{Error, terminal};
use crate::error::failed;
use crate::origin::config;
use crate::plan::process::Process;
use crate::state::record::{OCI_VERSION, State};
use crate::sys::{Errno, socket};

/// A connection to the agent of linux.seccomp.listenerPath.
pub(super) struct Agent {
    socket: OwnedFd,
    metadata: Option<String>,
}

impl Agent {
    /// Connects to the agent of a process. Returns `None` if its filter has no listener.
    pub(super) fn connect(process: &Process) -> Result<Option<Agent>, Error> {
        let filter = process.seccomp.as_ref();
        let Some(listener) = filter.and_then(|filter| filter.listener.as_ref()) else {
            return Ok(None);
        };
        Ok(Some(Agent {
            socket: terminal::connect_agent(&listener.path)?,
            metadata: listener.metadata.clone(),
        }))
    }

    /// Sends the listener of a process to the agent. `state` is the state of the container.
    pub(super) fn tell(
        agent: Option<&Agent>,
        listener: OwnedFd,
        pid: i32,
        state: &State<'_>,
    ) -> Result<(), Error> {
        let what = || {
            config("linux.seccomp.listenerPath").asks_to("hand the listener to the seccomp agent")
        };
        let Some(agent) = agent else {
            return Err(failed("sendmsg", what)(Errno::EPROTO).into());
        };
        let mut told = json!({
            "ociVersion": OCI_VERSION,
            "fds": ["seccompFd"],
            "pid": pid,
            "state": state,
        });
        if let (Some(metadata), Some(told)) = (&agent.metadata, told.as_object_mut()) {
            told.insert("metadata".into(), metadata.as_str().into());
        }
        let told = told.to_string();
        socket::send(
            agent.socket.as_fd(),
            told.as_bytes(),
            Some(listener.as_fd()),
        )
        .map_err(failed("sendmsg", what))
        .map_err(Error::from)
    }
}
