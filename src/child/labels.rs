//! Sets the labels of security modules through attributes in procfs. The kernel applies the labels
//! at the next exec.
//! `lsm` plans the labels.

use std::ffi::{CStr, CString};

use super::StepResult;
use crate::error::{Failed, failed};
use crate::lsm::Labels;
use crate::origin::Origin;
use crate::sys::Errno;
use crate::sys::procfs::Procfs;

/// The value that resets an attribute.
const RESET_VALUE: &[u8] = b"\n";

/// Sets the labels for the next exec of this process or of its children. In messages, `origins`
/// names where the AppArmor profile and the SELinux label come from. `given` is a procfs in which
/// this process has a pid.
pub(super) fn set_labels(
    labels: &Labels,
    origins: (&Origin, &Origin),
    given: Option<&Procfs>,
) -> StepResult {
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
            write_attribute(proc, c"exec", label.as_bytes(), what)?;
        }
        labels.apparmor.as_ref().map_or(Ok(()), |profile| {
            set_apparmor_profile(proc, profile, origins.0)
        })
    })
}

fn set_apparmor_profile(proc: &Procfs, profile: &CStr, origin: &Origin) -> StepResult {
    let what = || origin.asks_to(format!("set the AppArmor profile {profile:?}"));
    let command = [b"exec ".as_slice(), profile.to_bytes()].concat();
    // Try apparmor/exec first: on some kernels, another module owns the shared attribute `exec`.
    let written = match write_attribute(proc, c"apparmor/exec", &command, what) {
        Err(failure) if failure.call == "open" => write_attribute(proc, c"exec", &command, what),
        other => other,
    };
    written.map_err(|failure| match failure.errno {
        Errno::ENOENT if failure.call == "write" => {
            Failed::from_sentence(format!("{}: it is not loaded", failure.what))
        }
        _ => failure,
    })
}

/// Gives new keys of this process the SELinux label of its next exec. Without a label, new keys get
/// the label of the process itself again.
pub(super) fn set_key_label(label: Option<&CStr>, given: Option<&Procfs>) -> StepResult {
    let what = || "set the SELinux label of the session keyring".to_owned();
    let label = label.map_or(RESET_VALUE, CStr::to_bytes);
    with_procfs(given, |proc| {
        write_attribute(proc, c"keycreate", label, what)
    })
}

/// Calls `write` with the `given` procfs, or else with a private procfs, which nobody can have
/// mounted over (CVE-2019-16884, CVE-2025-52881). If the user namespace isn't allowed to mount a
/// procfs, opens /proc and checks it.
fn with_procfs(given: Option<&Procfs>, write: impl FnOnce(&Procfs) -> StepResult) -> StepResult {
    if let Some(proc) = given {
        return write(proc);
    }
    match Procfs::private() {
        Err(Errno::EPERM) => write(&open_host_procfs()?),
        mounted => {
            let what = || "mount a private procfs for labels".to_owned();
            write(&mounted.map_err(failed("fsmount", what))?)
        }
    }
}

/// Opens the host's /proc and checks it, for a process that is still in the host's root.
pub(super) fn open_host_procfs() -> StepResult<Procfs> {
    Procfs::open().map_err(failed("open", || "open /proc for labels".into()))
}

/// Writes an attribute. The error has the attribute's path in backquotes, because podman searches
/// for it.
fn write_attribute(
    proc: &Procfs,
    attribute: &CStr,
    value: &[u8],
    what: impl Fn() -> String,
) -> StepResult {
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
