//! The hooks that run when a container's process has started, and when all of it is gone.
//! Both without the container's lock: a hook that hangs must not keep a delete --force from its work.

use super::{Error, delete};
use crate::hooks::{self, About, Kind, Scene};
use crate::log::Log;
use crate::state::record::{OCI_VERSION, Record};
use crate::state::{self, Dir, Lock, Root};

/// What the hooks of a container are told.
pub(super) fn about(record: &Record) -> About {
    About::new(OCI_VERSION, &record.id, &record.bundle, &record.annotations)
}

/// Runs poststart, whatever the container does meanwhile: it may be a short one. If a hook fails, the container is stopped and
/// removed (runtime-spec, "Lifecycle", step 9).
pub(super) fn poststart(root: &Root, dir: &Dir, record: &Record, log: &Log) -> Result<(), Error> {
    if record.poststart.is_empty() {
        return Ok(());
    }
    let about = about(record);
    let mut scene = scene(record, &about, record.pid.unwrap_or(0));
    scene.interruptible = true;
    let ran = hooks::run(Kind::Poststart, &record.poststart, scene);
    if ran.is_err() {
        // Report the error of the hook; `delete --force` can remove the rest.
        let _ = delete::end(dir).and_then(|_| delete::remove(root, dir, record, log));
    }
    Ok(ran?)
}

/// Runs poststop, at most once in the life of a container; what fails is a warning. Answers with the lock, or `None` if
/// another delete has removed the container meanwhile.
pub(super) fn poststop(
    record: Option<&Record>,
    dir: &Dir,
    lock: Lock,
    log: &Log,
) -> Result<Option<Lock>, Error> {
    if record.is_none_or(|record| record.poststop.is_empty()) {
        return Ok(Some(lock));
    }
    // Another command may have run them since.
    let Some(mut record) = dir.load()? else {
        return Ok(Some(lock));
    };
    let hooks = std::mem::take(&mut record.poststop);
    // Where this can't be written, a second delete would run them again: better than a container that can't be deleted.
    let _ = dir.save(&record);
    drop(lock);
    let about = about(&record);
    for failed in hooks::run_all(Kind::Poststop, &hooks, scene(&record, &about, 0)) {
        log.warn(&failed.to_string());
    }
    match dir.lock() {
        Err(state::Error::Absent) => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// The directory is what `create` and `run` of runc give their hooks; `start` and `delete` do the same here.
fn scene<'a>(record: &'a Record, about: &'a About, pid: i32) -> Scene<'a> {
    Scene {
        about,
        pid,
        env: None,
        cwd: Some(&record.bundle),
        only_while: None,
        interruptible: false,
    }
}
