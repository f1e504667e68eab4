//! list: the three forms of its output, the empty root and broken entries.
//! The output of state for one container is in `lifecycle`.

use std::fs;

use serde_json::{Value, json};

use crate::harness::words;

#[test]
fn the_table_has_runcs_columns() {
    let mut c = container!();
    c.create().ok();
    let output = c.runtime(&["list"]);
    output.ok();
    let text = output.stdout();
    let lines: Vec<Vec<&str>> = text.lines().map(words).collect();
    assert_eq!(
        lines[0],
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    let pid = c.pid().to_string();
    assert_eq!(
        lines[1][..4],
        [&c.id, &pid, "created", c.dir().to_str().unwrap()]
    );
    assert_eq!(lines[1][5], "root");
    assert_eq!(lines.len(), 2);
}

#[test]
fn json_is_an_array_of_states_with_owner() {
    let mut c = container!();
    c.run_detached().ok();
    let output = c.runtime(&["list", "--format", "json"]);
    output.ok();
    assert_eq!(output.stderr(), "");
    let all: Value = serde_json::from_str(&output.stdout()).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(all[0]["id"], json!(c.id));
    assert_eq!(all[0]["status"], "running");
    assert_eq!(all[0]["pid"], json!(c.pid()));
    assert_eq!(all[0]["bundle"], json!(c.dir()));
    assert_eq!(all[0]["owner"], "root");
    assert!(all[0]["created"].is_string());
}

#[test]
fn quiet_prints_ids_only() {
    let mut c = container!();
    c.create().ok();
    let output = c.runtime(&["list", "-q"]);
    output.ok();
    assert_eq!(output.stdout(), format!("{}\n", c.id));
}

#[test]
fn an_empty_root_is_null_in_json_and_a_header_in_the_table() {
    let c = container!();
    fs::create_dir(c.root()).unwrap();
    let output = c.runtime(&["list", "--format", "json"]);
    output.ok();
    assert_eq!(output.stdout().trim_end(), "null");
    assert_eq!(c.runtime(&["list"]).ok().stdout().lines().count(), 1);
    assert_eq!(c.runtime(&["list", "--quiet"]).ok().stdout(), "");
}

#[test]
fn a_named_root_that_is_missing_is_an_error_and_is_not_made() {
    let c = container!();
    c.runtime(&["list"])
        .exits(1)
        .says("no such file or directory");
    assert!(!c.root().exists());
}

#[test]
fn an_unknown_format_is_an_error() {
    let c = container!();
    fs::create_dir(c.root()).unwrap();
    c.runtime(&["list", "--format", "xml"]).exits(1);
}

#[test]
fn a_broken_entry_is_reported_on_stderr_and_the_others_are_listed() {
    let mut c = container!();
    c.create().ok();
    fs::create_dir(c.root().join("broken")).unwrap();
    let output = c.runtime(&["list", "-q"]);
    output.ok();
    assert_eq!(output.stdout(), format!("{}\n", c.id));
    output.says("load container broken: ");
    fs::remove_dir(c.root().join("broken")).unwrap();
}
