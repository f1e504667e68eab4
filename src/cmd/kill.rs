//! `kill`: a signal to init, or to every process of the container.

use super::{Error, Found};
use crate::invocation::{Globals, Kill};
use crate::state::Init;
use crate::sys::Errno;

const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;

/// Sends the signal. Takes no lock: a kill must not wait for a start that hangs.
pub(crate) fn kill(globals: &Globals, args: &Kill) -> Result<(), Error> {
    let found = Found::open(globals, args.id.as_str())?;
    // Without a pid namespace of its own, the end of init ends nobody else; what is left is found by the cgroup.
    let shared = found.record.as_ref().is_some_and(|record| !record.own_pids);
    let all = args.all || shared && args.signal == SIGKILL;
    if all {
        let Some(cgroup) = found.cgroup()? else {
            return gone(args);
        };
        if !cgroup.is_populated()? {
            return gone(args);
        }
        return Ok(cgroup.signal_all(args.signal)?);
    }
    match &found.init {
        Init::Alive { pid, pidfd } => match crate::launch::send_signal(pidfd, args.signal) {
            Ok(()) => Ok(()),
            Err(Errno::ESRCH) => Err(Error::NotRunning),
            Err(errno) => Err(crate::error::failed("pidfd_send_signal", || {
                format!("send signal {} to process {pid}", args.signal)
            })(errno)
            .into()),
        },
        Init::Gone => Err(Error::NotRunning),
    }
}

/// A container without processes: fine for --all, as in runc.
fn gone(args: &Kill) -> Result<(), Error> {
    if args.all {
        Ok(())
    } else {
        Err(Error::NotRunning)
    }
}
