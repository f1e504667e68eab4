//! What podman sends directly, and how it reads the log and the words of errors.

use std::fs;

use serde_json::{Value, json};

use super::caller::Caller;
use crate::harness::{Container, kernel};

/// podman, whose runtime may not find a variable but these.
fn podman(c: &Container) -> Caller<'_> {
    Caller::new(c, &[]).environment(&[("XDG_RUNTIME_DIR", "/run/user/0")])
}

#[test]
fn a_container_lives_and_ends_by_the_commands_of_podman() {
    let mut c = container!();
    c.script("trap 'exit 4' TERM; while :; do sleep 0.01; done");
    c.create().ok();
    let podman = podman(&c);
    podman.call(&["start", &c.id]).ok();
    podman.call(&["pause", &c.id]).ok();
    podman.call(&["resume", &c.id]).ok();
    let file = c.scratch().join("resources.json");
    fs::write(
        &file,
        json!({"unified": {"cgroup.max.depth": "8"}}).to_string(),
    )
    .unwrap();
    let resources = format!("--resources={}", file.display());
    podman.call(&["update", &resources, &c.id]).ok();
    assert_eq!(kernel::cgroup_value(&c.cgroup(), "cgroup.max.depth"), "8");
    podman.call(&["kill", &c.id, "15"]).ok();
    assert_eq!(c.wait(), 4);
    podman.call(&["kill", "--all", &c.id, "9"]).ok();
    podman.call(&["delete", "--force", &c.id]).ok();
    c.assert_nothing_left();
}

#[test]
fn the_log_of_a_failure_is_one_object_even_where_warnings_came_before() {
    let mut c = container!();
    c.args(&["/bin/unheard-of"]);
    c.edit(|j| {
        j["process"]["capabilities"]["bounding"]
            .as_array_mut()
            .unwrap()
            .push(json!("CAP_UNHEARD_OF"));
    });
    let log = c.scratch().join("oci-log");
    let flags = ["--log-format=json", "--log", log.to_str().unwrap()];
    let caller = Caller::new(&c, &flags);
    let bundle = c.dir().to_str().unwrap();
    let answer = caller.call(&["create", "--bundle", bundle, &c.id]);
    assert_eq!(answer.code, 1, "{answer:?}");
    // podman decodes the whole file as one object of strings.
    let record: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
    for field in ["level", "time", "msg"] {
        assert!(record[field].is_string(), "{record}");
    }
    let message = record["msg"].as_str().unwrap().to_lowercase();
    // podman exits with 127 for these words.
    assert!(message.contains("no such file or directory"), "{message}");
    c.assert_nothing_left();
}
