//! `restore`: makes a container from the files of a checkpoint and lets its processes continue.

use super::create::{StartMode, create_container};
use super::terminal::wait_in_foreground;
use super::{Error, delete};
use crate::invocation::{Globals, RestoreArgs};
use crate::launch::foreground;
use crate::launch::signals::Signals;
use crate::log::Log;

/// Restores a container. Returns the exit code of its process, or 0 if it was detached.
pub(crate) fn restore(globals: &Globals, args: &RestoreArgs, log: &Log) -> Result<i32, Error> {
    let subreaper = !args.detach && !args.no_subreaper;
    if subreaper {
        foreground::become_subreaper()?;
    }
    let mode = if args.detach {
        StartMode::Detached
    } else {
        StartMode::Foreground
    };
    let restored = create_container(globals, &args.create, mode, Some(args), log)?;
    if args.detach {
        return Ok(0);
    }
    // From here on, don't return errors at once, because the container must first be removed,
    // unless --keep is given.
    let (launched, terminal) = (restored.launched, restored.terminal);
    let exit = Signals::new()
        .map_err(Error::from)
        .and_then(|signals| wait_in_foreground(launched, terminal, &signals, subreaper, None));
    if !args.keep {
        let log = log.with_warnings();
        delete::remove_stopped(&restored.root, &restored.dir, &restored.record, &log)?;
    }
    exit
}
