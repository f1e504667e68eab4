//! The files that a bundle needs: its root file system, its program and its hooks.
//! The sources of mounts are in `mounts`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};
use oci_spec::runtime::{Hook, Spec};

use super::{All, Problem, mounts};
use crate::diagnosis::Code;
use crate::doctor::report::Report;
use crate::error::{ErrnoText, Failed};
use crate::launch;
use crate::origin::config;
use crate::plan::Plan;
use crate::plan::host::Host;
use crate::program;
use crate::spec::paths::clean;
use crate::sys::{Errno, path};

/// Opens a file with O_PATH, so that the check has no effect on the file.
fn look(file: &Path) -> Result<OwnedFd, Errno> {
    crate::sys::open(file, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

/// Checks that the root file system is a directory, and returns it opened.
pub(super) fn check_root(spec: &Spec, bundle: &Path, all: &mut All) -> Option<OwnedFd> {
    let path = bundle.join(spec.root().as_ref()?.path());
    let opened = look(&path).and_then(|root| Ok((fstat(&root)?, root)));
    match opened {
        Ok((stat, root)) if path::is_file_type(&stat, SFlag::S_IFDIR) => return Some(root),
        Ok(_) => all.error(Problem::Launch(launch::root_is_no_directory(&path))),
        Err(errno) => {
            let what = format!("mount the root file system at {}", path.display());
            let what = config("root.path").asks_to(what);
            all.error(Problem::Failed(Failed::new(what, "open_tree", errno)));
        }
    }
    None
}

/// Checks that the program exists, that it may be executed, and that the kernel can execute it.
///
/// A program below a mount isn't checked, because the mounts don't exist yet.
pub(super) fn check_program(
    plan: &Plan,
    root: &OwnedFd,
    host: &Host,
    other_host: Option<&Report>,
    all: &mut All,
) {
    const FIELD: &str = "process.args[0]";
    let process = &plan.process;
    let Some(name) = process.argv.as_slice().first() else {
        return;
    };
    let name = name.to_string_lossy().into_owned();
    let has_slash = name.contains('/');
    let root = program::Root {
        root: root.as_fd(),
        proc: Some(&host.proc),
    };
    let mut denied = None;
    for candidate in &process.candidates {
        let file = absolute(candidate, &process.cwd);
        if mounts::may_cover(plan, &root, &file) {
            return;
        }
        let found = root.find(&file).and_then(|found| found.check_executable());
        match found {
            Ok(()) => return check_kind(&root, &file, other_host, all),
            Err(Errno::ENOENT | Errno::ENOTDIR) if !has_slash => {}
            Err(errno @ (Errno::EACCES | Errno::EISDIR)) => denied = Some(errno),
            Err(errno) => {
                let problem = program::unreachable(&name, errno);
                return all.refuse(Code::ProgramMissing, FIELD, problem);
            }
        }
    }
    match denied {
        Some(errno) if has_slash => {
            all.refuse(Code::ProgramDenied, FIELD, program::denied(&name, errno));
        }
        Some(_) => {
            let problem = program::denied(&name, Errno::EACCES);
            all.refuse(Code::ProgramDenied, FIELD, problem);
        }
        None => all.refuse(Code::ProgramMissing, FIELD, program::not_in_path(&name)),
    }
}

/// Checks that the kernel can run an executable file.
fn check_kind(root: &program::Root<'_>, file: &CStr, other_host: Option<&Report>, all: &mut All) {
    let Some(problem) = root.problem(file) else {
        return;
    };
    // The file must fit the machine that will run the container, which may be another host.
    let runs = match (problem.architecture(), other_host) {
        (Some(built_for), Some(report)) => report.architecture == built_for,
        (Some(built_for), None) => is_emulated(built_for),
        (None, _) => false,
    };
    if !runs {
        let text = format!("{}: {problem}", path::as_path(file).display());
        all.refuse(problem.code(), "process.args[0]", text);
    }
}

/// Returns true if binfmt_misc has an emulator for an architecture under the name that qemu's
/// packages use.
fn is_emulated(architecture: &str) -> bool {
    let file = format!("/proc/sys/fs/binfmt_misc/qemu-{architecture}");
    std::fs::read_to_string(file).is_ok_and(|text| text.starts_with("enabled"))
}

/// Makes a path in the container absolute. `cwd` is the working directory.
fn absolute(file: &CStr, cwd: &CStr) -> CString {
    let whole = Path::new("/").join(path::as_path(cwd));
    let whole = whole.join(path::as_path(file));
    path::c_path(whole.as_os_str()).unwrap_or_default()
}

/// Checks that the programs of the hooks that run on the host exist and can be executed.
#[allow(deprecated, reason = "prestart is what docker's networks are made by")]
pub(super) fn check_hooks(spec: &Spec, all: &mut All) {
    let Some(hooks) = spec.hooks() else {
        return;
    };
    let Ok(root) = look(Path::new("/")) else {
        return;
    };
    let root = program::Root {
        root: root.as_fd(),
        proc: None,
    };
    // The programs of startContainer hooks are in the container, so they aren't checked.
    for (kind, list) in [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ] {
        for (index, hook) in list.iter().flatten().enumerate() {
            if let Some(problem) = problem_of_hook(hook, &root) {
                let field = format!("hooks.{kind}[{index}].path");
                let text = format!("{}: {problem}", hook.path().display());
                all.refuse(Code::HookFailed, field, text);
            }
        }
    }
}

fn problem_of_hook(hook: &Hook, root: &program::Root<'_>) -> Option<String> {
    let path: PathBuf = clean(hook.path());
    let file = CString::new(path.as_os_str().as_bytes()).ok()?;
    let found = root.find(&file).and_then(|found| found.check_executable());
    match found {
        // A link of /proc, such as docker's /proc/PID/exe, is not followed here.
        Ok(()) | Err(Errno::ELOOP) => None,
        Err(errno) => Some(ErrnoText(errno).to_string()),
    }
}
