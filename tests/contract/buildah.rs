//! What buildah sends: it is the parent of all, and reads errors from the container's own pipes.

use super::caller::{Caller, pid_in, reap};

#[test]
fn a_step_of_a_build_is_created_started_watched_and_deleted() {
    let mut c = container!();
    c.script("trap 'exit 9' TERM; while :; do sleep 0.01; done");
    let (bundle, pid_file) = (c.dir().to_str().unwrap(), c.pid_file());
    let buildah = Caller::new(&c, &[]);
    let args = [
        "create",
        "--bundle",
        bundle,
        "--pid-file",
        pid_file.to_str().unwrap(),
        "--no-new-keyring",
        "--no-pivot",
        &c.id,
    ];
    buildah.call(&args).ok();
    buildah.call(&["start", &c.id]).ok();
    let state = buildah.call(&["state", &c.id]).ok().json();
    assert_eq!(state["status"], "running");
    // Without a signal, kill ends the step by TERM.
    buildah.call(&["kill", &c.id]).ok();
    assert_eq!(reap(pid_in(&pid_file)), 9);
    let state = buildah.call(&["state", &c.id]).ok().json();
    assert_eq!(state["status"], "stopped");
    buildah.call(&["delete", &c.id]).ok();
    c.assert_nothing_left();
}
