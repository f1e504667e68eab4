//! Runs the poststart hooks after a container's process has started, and the poststop hooks after
//! all its processes are gone.
//! The hooks run without the container's lock, so that a hook that hangs can't block
//! `delete --force`.

use super::{Error, delete};
use crate::hooks::{self, HookContext, HookKind, OutputPaths, StateTemplate};
use crate::log::Log;
use crate::state::record::{OCI_VERSION, Record};
use crate::state::{self, Dir, Lock, Root};

/// The constant part of the container state that hooks receive.
pub(super) fn state_template(record: &Record) -> StateTemplate {
    StateTemplate::new(OCI_VERSION, &record.id, &record.bundle, &record.annotations)
}

/// Runs the poststart hooks. The container may have stopped in the meantime. If a hook fails, stops
/// and removes the container (runtime-spec, "Lifecycle", step 9).
pub(super) fn run_poststart(
    root: &Root,
    dir: &Dir,
    record: &Record,
    log: &Log,
) -> Result<(), Error> {
    if record.poststart.is_empty() {
        return Ok(());
    }
    let about = state_template(record);
    let run = || -> Result<(), Error> {
        let outputs = OutputPaths::of(&record.annotations).open()?;
        let mut context = hook_context(record, &about, record.pid.unwrap_or(0));
        context.interruptible = true;
        context.outputs = Some(&outputs);
        Ok(hooks::run_hooks(
            HookKind::Poststart,
            &record.poststart,
            context,
        )?)
    };
    let ran = run();
    if ran.is_err() {
        // Report only the hook's error. `delete --force` can remove what is left.
        let _ = delete::kill_container(dir)
            .and_then(|_| delete::remove_stopped(root, dir, record, log));
    }
    ran
}

/// Runs the poststop hooks, at most once for a container. A hook that fails causes only a warning.
/// Returns the lock, or `None` if another delete has removed the container in the meantime.
pub(super) fn run_poststop(
    record: Option<&Record>,
    dir: &Dir,
    lock: Lock,
    log: &Log,
) -> Result<Option<Lock>, Error> {
    if record.is_none_or(|record| record.poststop.is_empty()) {
        return Ok(Some(lock));
    }
    // Load the record again: another command may have run the hooks already.
    let Some(mut record) = dir.read_record()? else {
        return Ok(Some(lock));
    };
    let hooks = std::mem::take(&mut record.poststop);
    // If the record can't be written, a second delete runs the hooks again. That is better than a
    // container that can't be deleted.
    let _ = dir.replace_record(&record);
    drop(lock);
    let about = state_template(&record);
    // If an output file can't be opened, the hooks run nevertheless.
    let outputs = OutputPaths::of(&record.annotations).open();
    let outputs = outputs.map_err(|error| log.warn(&error.to_string())).ok();
    let mut context = hook_context(&record, &about, 0);
    context.outputs = outputs.as_ref();
    for failed in hooks::run_all_hooks(HookKind::Poststop, &hooks, context) {
        log.warn(&failed.to_string());
    }
    match dir.lock() {
        Err(state::Error::Absent) => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// Returns a context in which hooks run in the bundle directory. runc uses that directory only in
/// `create` and `run`; orlop also uses it in `start` and `delete`.
fn hook_context<'a>(record: &'a Record, about: &'a StateTemplate, pid: i32) -> HookContext<'a> {
    HookContext {
        outputs: None,
        about,
        pid,
        env: None,
        cwd: Some(&record.bundle),
        only_while: None,
        interruptible: false,
    }
}
