//! Makes or joins the session keyring of a container, with the SELinux label of the process.
//! `plan` decides whether the container has a keyring of its own.

use std::ffi::CStr;

use super::{StepResult, labels};
use crate::error::Failed;
use crate::plan::process::Process;
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, process};
use crate::timeline::{self, Phase};

/// Makes the container's session keyring if `new`, otherwise joins it. A new keyring gets the label
/// of the container's process.
pub(super) fn set_up_keyring(
    name: Option<&CStr>,
    process: &Process,
    proc: Option<&Procfs>,
    new: bool,
) -> StepResult {
    timeline::begin_step(Phase::Keyring);
    let Some(name) = name else { return Ok(()) };
    let Some(label) = process.labels.selinux.as_deref() else {
        return join_keyring(name, new);
    };
    labels::set_key_label(Some(label), proc)?;
    join_keyring(name, new)?;
    labels::set_key_label(None, proc)
}

/// Joins a session keyring, or makes it if `new`. A kernel without keyrings isn't an error.
fn join_keyring(name: &CStr, new: bool) -> StepResult {
    // The default permissions of a new keyring, plus search for its owner, so that an exec process
    // finds the keyring by name.
    const SEARCHABLE_KEYRING_PERMS: u32 = 0x3f1b_0000;
    match process::join_session_keyring(name, new.then_some(SEARCHABLE_KEYRING_PERMS)) {
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(Errno::EDQUOT) => {
            let text = "make a session keyring: the user's quota is used up; raise the sysctl \
                kernel.keys.maxkeys, or use --no-new-keyring";
            Err(Failed::new(text, "keyctl", Errno::EDQUOT))
        }
        Err(errno) => Err(Failed::new(
            format!("join the session keyring {name:?}"),
            "keyctl",
            errno,
        )),
    }
}
