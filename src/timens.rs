//! Makes a new time namespace with its offsets (time_namespaces(7)).

use std::fs::File;
use std::io::Write as _;

use nix::fcntl::OFlag;

use crate::error::{Failed, failed};
use crate::origin::config;
use crate::sys::procfs::{Procfs, errno_of};
use crate::sys::{ns, path};

/// A time namespace for the children of this process. Its offsets can be written until the first
/// child exists. clone3(CLONE_NEWTIME) would leave no time to write them.
pub(crate) struct NewTimeNamespace<'a> {
    /// The file for the offsets; `None` without offsets, because the kernel refuses an empty write.
    file: Option<File>,
    offsets: &'a str,
}

impl NewTimeNamespace<'_> {
    /// Opens the file for the offsets early, because the file belongs to root once the process
    /// isn't dumpable. `offsets` is the text for /proc/PID/timens_offsets.
    pub(crate) fn prepare<'a>(
        proc: &Procfs,
        offsets: &'a str,
    ) -> Result<NewTimeNamespace<'a>, Failed> {
        let what = || config("linux.timeOffsets").asks_to("open timens_offsets of /proc");
        let open = || {
            let name = format!("{}/timens_offsets", std::process::id());
            proc.file(&path::c_path(name.as_ref())?, OFlag::O_WRONLY)
        };
        let wanted = (!offsets.is_empty()).then(open).transpose();
        let file = wanted.map_err(failed("openat2", what))?;
        Ok(NewTimeNamespace { file, offsets })
    }

    /// Makes the namespace for children, and writes its offsets. This process stays in its own time
    /// namespace.
    pub(crate) fn make_for_children(self) -> Result<(), Failed> {
        ns::unshare(ns::CLONE_NEWTIME)
            .map_err(failed("unshare", || "make a time namespace".into()))?;
        let what = || {
            let offsets = self.offsets.trim_end();
            let asked = config("linux.timeOffsets").asks_to("set time offsets");
            format!("{asked}: {offsets:?}")
        };
        let written = self
            .file
            .map(|mut file| file.write_all(self.offsets.as_bytes()));
        written
            .unwrap_or(Ok(()))
            .map_err(|error| failed("write", what)(errno_of(&error)))
    }
}
