//! Sets the labels of security modules through attributes in procfs. The kernel applies them at the
//! next exec.
//! Which labels to set is planned in `lsm`.

use std::ffi::{CStr, CString};

use super::Step;
use crate::error::{Failed, failed};
use crate::lsm::Labels;
use crate::origin::Origin;
use crate::sys::Errno;
use crate::sys::procfs::Procfs;

/// The value that resets an attribute.
const NOTHING: &[u8] = b"\n";

/// Sets the labels for the next exec of this process or of its children. `origins` name the sources
/// of the profile and of the label in messages. `given` is a procfs in which this process has a
/// pid.
pub(super) fn set(labels: &Labels, origins: (&Origin, &Origin), given: Option<&Procfs>) -> Step {
    if *labels == Labels::default() {
        return Ok(());
    }
    with_procfs(given, |proc| {
        if let Some(label) = &labels.selinux {
            let what = || {
                origins
                    .1
                    .asks_to(format!("set the SELinux label {label:?}"))
            };
            write(proc, c"exec", label.as_bytes(), what)?;
        }
        labels
            .apparmor
            .as_ref()
            .map_or(Ok(()), |profile| set_profile(proc, profile, origins.0))
    })
}

fn set_profile(proc: &Procfs, profile: &CStr, origin: &Origin) -> Step {
    let what = || origin.asks_to(format!("set the AppArmor profile {profile:?}"));
    let command = [b"exec ".as_slice(), profile.to_bytes()].concat();
    // Try apparmor/exec first: on some kernels, another module owns the shared attribute `exec`.
    let written = match write(proc, c"apparmor/exec", &command, what) {
        Err(failure) if failure.call == "open" => write(proc, c"exec", &command, what),
        other => other,
    };
    written.map_err(|failure| match failure.errno {
        Errno::ENOENT if failure.call == "write" => {
            Failed::message(format!("{}: it is not loaded", failure.what))
        }
        _ => failure,
    })
}

/// Labels the keys that this process makes with the SELinux label of its next exec. Without a
/// label, resets them to the label of the process itself.
pub(super) fn set_of_keys(label: Option<&CStr>, given: Option<&Procfs>) -> Step {
    let what = || "set the SELinux label of the session keyring".to_owned();
    let label = label.map_or(NOTHING, CStr::to_bytes);
    with_procfs(given, |proc| write(proc, c"keycreate", label, what))
}

/// Uses a private procfs, which nobody can have mounted over (CVE-2019-16884, CVE-2025-52881).
/// Where a user namespace may not mount one, opens /proc and checks it.
fn with_procfs(given: Option<&Procfs>, write: impl FnOnce(&Procfs) -> Step) -> Step {
    if let Some(proc) = given {
        return write(proc);
    }
    match Procfs::private() {
        Err(Errno::EPERM) => write(&hosts_procfs()?),
        mounted => {
            let what = || "mount a private procfs for labels".to_owned();
            write(&mounted.map_err(failed("fsmount", what))?)
        }
    }
}

/// Opens the host's /proc and checks it, for a process that is still in the host's root.
pub(super) fn hosts_procfs() -> Step<Procfs> {
    Procfs::open().map_err(failed("open", || "open /proc for labels".into()))
}

/// Writes an attribute. podman looks for the attribute's name in backquotes.
fn write(proc: &Procfs, attribute: &CStr, value: &[u8], what: impl Fn() -> String) -> Step {
    let attribute = attribute.to_string_lossy();
    let name = format!("{}/attr/{attribute}", std::process::id());
    let what = || format!("{}: `/proc/self/attr/{attribute}`", what());
    let name = CString::new(name).map_err(|_| Failed::new(what(), "open", Errno::EINVAL))?;
    let file = proc
        .file(&name, nix::fcntl::OFlag::O_WRONLY)
        .map_err(failed("open", what))?;
    match nix::unistd::write(&file, value) {
        Ok(written) if written == value.len() => Ok(()),
        Ok(_) => Err(Failed::new(what(), "write", Errno::EIO)),
        Err(errno) => Err(Failed::new(what(), "write", errno)),
    }
}
