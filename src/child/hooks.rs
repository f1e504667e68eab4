//! Runs the hooks in the container's namespaces, and waits while the parent runs its own hooks.
//! `crate::hooks` defines how a hook is run.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{StepResult, filter};
use crate::error::{Failed, failed};
use crate::hooks::{self, Hook, HookContext, HookKind, Hooks, Outputs, StateTemplate};
use crate::plan::process::Process;
use crate::plan::seccomp::SeccompFilter;
use crate::protocol::HOOK_FAILURE_ERRNO;
use crate::protocol::{Message, receive, send};
use crate::sys::process::CStringArray;
use crate::sys::{Errno, process, wait};
use crate::timeline::{self, Phase};

/// Lets the parent run its hooks, if it has any. Then runs the createContainer hooks in the
/// container's root directory, before this process enters that root.
pub(super) fn run_hooks_before_entry(
    hooks: &Hooks,
    about: &StateTemplate,
    link: &OwnedFd,
    root: BorrowedFd<'_>,
    outputs: Outputs,
) -> StepResult {
    timeline::begin_step(Phase::ChildHooks);
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
    // The working directory is the container's root, as in runc. Absolute paths still refer to the
    // host.
    nix::unistd::fchdir(root).map_err(failed("fchdir", || "enter the root file system".into()))?;
    // This process has umask 0, which programs don't expect.
    process::umask(0o022);
    let mut context = hook_context(about, None);
    context.outputs = Some(&outputs);
    let ran = run_hooks_or_fail(
        HookKind::CreateContainer,
        &hooks.create_container,
        context,
        || Ok(()),
    );
    process::umask(0);
    ran
}

/// Runs the startContainer hooks with the user, working directory and environment of the process.
/// The hooks also run under the seccomp filter of the process, because their programs come from the
/// image as well. This process installs the filter for itself later.
pub(super) fn run_start_container_hooks(
    hooks: &Hooks,
    about: &StateTemplate,
    env: &CStringArray,
    (process, filter): (&Process, Option<&SeccompFilter>),
) -> StepResult {
    let confine = || match filter {
        // This filter has no listener. A filter with a listener is already installed.
        Some(filter) => filter::install_filter(process, filter, |_| Ok(())),
        None => Ok(()),
    };
    let context = hook_context(about, Some(env));
    run_hooks_or_fail(
        HookKind::StartContainer,
        &hooks.start_container,
        context,
        confine,
    )
}

fn hook_context<'a>(about: &'a StateTemplate, env: Option<&'a CStringArray>) -> HookContext<'a> {
    HookContext {
        outputs: None,
        about,
        pid: nix::unistd::getpid().as_raw(),
        env,
        cwd: None,
        only_while: None,
        interruptible: false,
    }
}

fn run_hooks_or_fail(
    kind: HookKind,
    hooks: &[Hook],
    context: HookContext<'_>,
    confine: impl Fn() -> Result<(), (&'static str, Errno)>,
) -> StepResult {
    if hooks.is_empty() {
        return Ok(());
    }
    hooks::run_hooks_confined(kind, hooks, context, confine).map_err(|error| {
        let mut failure = Failed::from_sentence(error.to_string()).coded(error.code());
        // The message has the cause. For EAGAIN, the parent finds out which limit was reached.
        failure.errno = match error.lacked_process() {
            true => Errno::EAGAIN,
            false => HOOK_FAILURE_ERRNO,
        };
        failure
    })?;
    // Init becomes the parent of processes that hooks leave behind. The program doesn't expect such
    // children and wouldn't reap them.
    wait::reap_all_except(0).map_err(failed("waitid", || "reap what hooks left behind".into()))
}
