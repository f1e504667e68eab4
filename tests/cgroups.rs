//! The cgroup of a container: when init is in it, what is written in it, what is refused, and that it goes.
//! On a hybrid host only hugetlb can be limited; limits of other controllers need another machine.

use std::fs;

use serde_json::json;

use crate::harness::{eventually, kernel, skipped};

fn has_hugetlb() -> bool {
    let mount = kernel::cgroup2_mount().unwrap();
    fs::read_to_string(mount.join("cgroup.controllers")).is_ok_and(|t| t.contains("hugetlb"))
}

#[test]
fn init_is_in_its_cgroup_when_create_returns() {
    let mut c = container!();
    c.create().ok();
    assert_eq!(kernel::cgroup_of(c.pid()), c.cgroup_path());
    assert_eq!(kernel::procs(&c.cgroup()), [c.pid()]);
}

#[test]
fn the_cgroup_namespace_is_rooted_at_the_containers_cgroup() {
    let mut c = container!();
    assert!(
        c.output_of("cat /proc/self/cgroup")
            .lines()
            .any(|l| l == "0::/")
    );
}

#[test]
fn without_a_path_the_cgroup_is_named_by_the_id_and_removed() {
    let mut c = container!();
    c.id = format!("orlop-test-default-{}", std::process::id());
    c.edit(|j| {
        j["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    });
    c.create().ok();
    let path = kernel::cgroup_of(c.pid());
    assert!(path.ends_with(&c.id), "{path}");
    c.delete(&["--force"]).ok();
    let mount = kernel::cgroup2_mount().unwrap();
    assert!(!mount.join(path.trim_start_matches('/')).exists());
}

#[test]
fn a_hugetlb_limit_is_read_back_from_the_hierarchy() {
    let mut c = container!();
    if !has_hugetlb() {
        return skipped("the v2 hierarchy has no hugetlb controller");
    }
    c.edit(|j| {
        j["linux"]["resources"]["hugepageLimits"] = json!([{"pageSize": "2MB", "limit": 8_388_608}])
    });
    c.create().ok();
    let text = fs::read_to_string(c.cgroup().join("hugetlb.2MB.max")).unwrap();
    assert_eq!(text.trim(), "8388608");
}

#[test]
fn unified_entries_are_written_as_they_are() {
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["resources"]["unified"] =
            json!({"cgroup.max.depth": "7", "cgroup.max.descendants": "11"})
    });
    c.create().ok();
    let read = |name: &str| fs::read_to_string(c.cgroup().join(name)).unwrap();
    assert_eq!(read("cgroup.max.depth").trim(), "7");
    assert_eq!(read("cgroup.max.descendants").trim(), "11");
}

#[test]
fn a_unified_key_that_is_no_file_of_a_cgroup_is_refused_by_name() {
    for key in ["../cgroup.max.depth", "a/b", "memory.no_such_file"] {
        let mut c = container!();
        c.edit(|j| j["linux"]["resources"]["unified"] = json!({key: "1"}));
        c.create().exits(1).says(key);
        c.assert_nothing_left();
    }
}

#[test]
fn a_limit_without_its_controller_names_field_and_controller() {
    let mut c = container!();
    let mount = kernel::cgroup2_mount().unwrap();
    if fs::read_to_string(mount.join("cgroup.controllers"))
        .unwrap()
        .contains("memory")
    {
        return skipped("the memory controller is there");
    }
    c.edit(|j| j["linux"]["resources"]["memory"] = json!({"limit": 268_435_456}));
    c.create()
        .exits(1)
        .says("memory")
        .says("linux.resources.memory.limit")
        .one_line();
    c.assert_nothing_left();
    c.edit(|j| {
        j["linux"]["resources"]["memory"] = json!({});
        j["linux"]["resources"]["pids"] = json!({"limit": 100});
    });
    c.create()
        .exits(1)
        .says("linux.resources.pids.limit")
        .one_line();
    c.assert_nothing_left();
}

#[test]
fn empty_resources_are_no_error_where_a_controller_is_missing() {
    let mut c = container!();
    c.edit(|j| {
        for name in ["memory", "cpu", "pids", "blockIO", "network"] {
            j["linux"]["resources"][name] = json!({});
        }
    });
    c.create().ok();
}

#[test]
fn an_occupied_cgroup_is_refused() {
    let mut c = container!();
    fs::create_dir(c.cgroup()).unwrap();
    let mut process = std::process::Command::new("/bin/sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    fs::write(c.cgroup().join("cgroup.procs"), process.id().to_string()).unwrap();
    let output = c.create();
    let alive = kernel::alive(process.id() as i32);
    process.kill().unwrap();
    process.wait().unwrap();
    eventually("the foreign cgroup can be removed", || {
        fs::remove_dir(c.cgroup()).is_ok()
    });
    output.exits(1).says("not empty").says(&c.cgroup_path());
    assert!(alive, "a process of another's cgroup was killed");
}

#[test]
fn a_frozen_cgroup_is_refused_and_create_does_not_hang() {
    let mut c = container!();
    fs::create_dir(c.cgroup()).unwrap();
    fs::write(c.cgroup().join("cgroup.freeze"), "1").unwrap();
    let output = c.create();
    let _ = fs::write(c.cgroup().join("cgroup.freeze"), "0");
    let _ = fs::remove_dir(c.cgroup());
    output.exits(1).says("frozen");
    c.assert_nothing_left();
}

#[test]
fn an_empty_cgroup_that_exists_is_used() {
    let mut c = container!();
    fs::create_dir(c.cgroup()).unwrap();
    c.create().ok();
    assert_eq!(kernel::cgroup_of(c.pid()), c.cgroup_path());
}

#[test]
fn cgroups_that_were_made_below_go_with_delete() {
    let mut c = container!();
    c.run_detached().ok();
    for path in ["a/b/c", "a/d", "e"] {
        fs::create_dir_all(c.cgroup().join(path)).unwrap();
    }
    let mut process = std::process::Command::new("/bin/sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    fs::write(
        c.cgroup().join("a/b/c/cgroup.procs"),
        process.id().to_string(),
    )
    .unwrap();
    c.delete(&["--force"]).ok();
    assert_eq!(crate::harness::signal_of(process.wait().unwrap()), Some(9));
    assert!(!c.cgroup().exists());
}

#[test]
fn a_failed_create_removes_its_cgroup_and_leaves_the_parent() {
    let mut c = container!();
    c.args(&["/missing"]);
    c.create().exits(1);
    assert!(!c.cgroup().exists());
    assert!(c.cgroup().parent().unwrap().exists());
}

#[test]
fn a_path_that_climbs_stays_below_the_root_of_the_hierarchy() {
    let mut c = container!();
    let path = format!("/../../..{}/climber", c.parent_cgroup_path());
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    let output = c.create();
    if output.code == 0 {
        let found = kernel::cgroup_of(c.pid());
        assert_eq!(found, format!("{}/climber", c.parent_cgroup_path()));
    }
}
