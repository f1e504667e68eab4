//! Runs the hooks of the container's namespaces, and waits for those of the parent. How a hook is
//! run is in `crate::hooks`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Step, filter};
use crate::error::{Failed, failed};
use crate::hooks::{self, About, Hook, Hooks, Kind, Scene};
use crate::plan::process::Process;
use crate::plan::seccomp::Filter;
use crate::protocol::BY_HOOK;
use crate::protocol::{Message, receive, send};
use crate::sys::process::Strings;
use crate::sys::{Errno, process, wait};

/// Lets the parent run its hooks, if it has any. Then runs createContainer in the container's root,
/// before this process enters it.
pub(super) fn before_entry(
    hooks: &Hooks,
    about: &About,
    link: &OwnedFd,
    root: BorrowedFd<'_>,
) -> Step {
    if hooks.hold_up_create() {
        send(link.as_fd(), &Message::RootfsMounted)
            .map_err(failed("sendmsg", || "tell the parent".into()))?;
        match receive(link.as_fd()) {
            Ok(Some(Message::HooksDone)) => {}
            // The parent has given up.
            _ => process::exit_now(1),
        }
    }
    if hooks.create_container.is_empty() {
        return Ok(());
    }
    // As in runc. Absolute paths are still the host's.
    nix::unistd::fchdir(root).map_err(failed("fchdir", || "enter the root file system".into()))?;
    // Our own umask is 0, which programs don't expect.
    process::umask(0o022);
    let ran = run(
        Kind::CreateContainer,
        &hooks.create_container,
        scene(about, None),
        || Ok(()),
    );
    process::umask(0);
    ran
}

/// Runs startContainer, with the user, working directory and environment of the process. The hooks
/// also run under its filter, which this process sets later, because their programs come from the
/// image as well.
pub(super) fn start_container(
    hooks: &Hooks,
    about: &About,
    env: &Strings,
    (process, filter): (&Process, Option<&Filter>),
) -> Step {
    let confine = || match filter {
        // A filter with a listener is already set.
        Some(filter) => filter::install(process, filter, |_| Ok(())),
        None => Ok(()),
    };
    let scene = scene(about, Some(env));
    run(Kind::StartContainer, &hooks.start_container, scene, confine)
}

fn scene<'a>(about: &'a About, env: Option<&'a Strings>) -> Scene<'a> {
    Scene {
        about,
        pid: nix::unistd::getpid().as_raw(),
        env,
        cwd: None,
        only_while: None,
        interruptible: false,
    }
}

fn run(
    kind: Kind,
    hooks: &[Hook],
    scene: Scene<'_>,
    confine: impl Fn() -> Result<(), (&'static str, Errno)>,
) -> Step {
    if hooks.is_empty() {
        return Ok(());
    }
    hooks::run_confined(kind, hooks, scene, confine).map_err(|error| {
        let mut failure = Failed::message(error.to_string()).coded(error.code());
        // The message says what failed. For EAGAIN, the parent finds out which limit was reached.
        failure.errno = match error.is_no_process() {
            true => Errno::EAGAIN,
            false => BY_HOOK,
        };
        failure
    })?;
    // Init adopts the orphans of hooks. The program expects no children, and would leave zombies.
    wait::reap_others(0).map_err(failed("waitid", || "reap what hooks left behind".into()))
}
