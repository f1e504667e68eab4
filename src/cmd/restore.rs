//! `restore`: a container is made anew from the files of a checkpoint, and runs on.

use super::create::{Mode, create_as};
use super::terminal::wait_in_foreground;
use super::{Error, delete};
use crate::invocation::{Globals, Restore};
use crate::launch::foreground;
use crate::launch::signals::Signals;
use crate::log::Log;

/// Restores a container; answers with the exit code of its process, or 0 if it was detached.
pub(crate) fn restore(globals: &Globals, args: &Restore, log: &Log) -> Result<i32, Error> {
    let subreaper = !args.detach && !args.no_subreaper;
    if subreaper {
        foreground::become_subreaper()?;
    }
    let mode = if args.detach {
        Mode::Detached
    } else {
        Mode::Foreground
    };
    let restored = create_as(globals, &args.create, mode, Some(args), log)?;
    if args.detach {
        return Ok(0);
    }
    // Whatever fails from here on, the container goes with this process.
    let (launched, terminal) = (restored.launched, restored.terminal);
    let exit = Signals::new()
        .map_err(Error::from)
        .and_then(|signals| wait_in_foreground(launched, terminal, &signals, subreaper, None));
    if !args.keep {
        let log = log.with_warnings();
        delete::remove(&restored.root, &restored.dir, &restored.record, &log)?;
    }
    exit
}
