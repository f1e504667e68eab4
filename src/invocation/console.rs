//! Decides who gets the master of a process's terminal, and which flags contradict each other.
//! The child makes the terminal.

/// The destination of the master of a process's terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MasterDestination {
    /// None: the process has no terminal, and inherits stdin, stdout and stderr.
    Absent,
    /// This program, which relays between the master and its own terminal.
    Relayed,
    /// The listener on --console-socket.
    Sent,
}

/// A contradiction between flags and configuration, in runc's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot allocate tty if orlop will detach without setting console socket")]
    NoSocket,
    #[error("cannot use console socket if orlop will not detach or allocate tty")]
    NeedlessSocket,
}

/// Decides where the master goes. `terminal` is true if the process has a terminal, `detach` if
/// this program exits before the process (create, --detach), and `socket` if --console-socket was
/// given.
pub(crate) fn decide_master(
    terminal: bool,
    detach: bool,
    socket: bool,
) -> Result<MasterDestination, Error> {
    match (terminal, detach, socket) {
        (true, true, true) => Ok(MasterDestination::Sent),
        (true, true, false) => Err(Error::NoSocket),
        (true, false, false) => Ok(MasterDestination::Relayed),
        (false, _, false) => Ok(MasterDestination::Absent),
        (false, _, true) | (true, false, true) => Err(Error::NeedlessSocket),
    }
}

/// Like `decide_master`, but only checks. `terminal` is `None` if the process is described in a
/// file that wasn't read yet. Returns an error then only if the flags are wrong with and without a
/// terminal.
pub(crate) fn check_terminal_flags(
    terminal: Option<bool>,
    detach: bool,
    socket: bool,
) -> Result<(), Error> {
    let without = decide_master(false, detach, socket);
    let with = decide_master(true, detach, socket);
    match terminal {
        Some(true) => with,
        Some(false) => without,
        None => with.or(without),
    }
    .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_goes_with_a_terminal_of_a_detached_process() {
        assert_eq!(decide_master(true, true, true), Ok(MasterDestination::Sent));
        assert_eq!(
            decide_master(true, false, false),
            Ok(MasterDestination::Relayed)
        );
        assert_eq!(
            decide_master(false, true, false),
            Ok(MasterDestination::Absent)
        );
        assert_eq!(decide_master(true, true, false), Err(Error::NoSocket));
        for (terminal, detach) in [(true, false), (false, true), (false, false)] {
            assert_eq!(
                decide_master(terminal, detach, true),
                Err(Error::NeedlessSocket),
                "{terminal} {detach}"
            );
        }
        assert_eq!(check_terminal_flags(None, true, true), Ok(()));
        assert_eq!(
            check_terminal_flags(None, false, true),
            Err(Error::NeedlessSocket)
        );
    }
}
