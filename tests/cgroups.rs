//! The cgroup of a container: the time when init joins, its limits, refusals, and its removal.
//! On a hybrid host only hugetlb can be limited. Limits of other controllers need another machine.

use std::fs;

use serde_json::json;

use crate::harness::{Container, eventually, kernel, skipped};

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
fn a_cgroup_that_a_failed_create_cannot_remove_is_left_to_delete() {
    let mut c = container!();
    // The hook mounts a tmpfs on the cgroup, in create's mount namespace. The kernel refuses to
    // remove a mount point there.
    let script = format!("mount -t tmpfs none {}; exit 1", c.cgroup().display());
    c.edit(|j| {
        j["hooks"]["createRuntime"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    });
    let create = c.command(&["create", "--bundle", c.dir().to_str().unwrap(), &c.id]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.arg(create.get_program()).args(create.get_args());
    let envs = create.get_envs();
    command.envs(envs.filter_map(|(key, value)| Some((key, value?))));
    c.finish(command).exits(1).says("createRuntime hook #0");
    assert!(c.cgroup().exists());
    assert_eq!(c.state()["status"], "stopped");
    c.delete(&[]).ok();
    c.assert_nothing_left();
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
fn a_cgroup_that_takes_no_process_is_named() {
    if !kernel::has_controllers(&["hugetlb"]) {
        return;
    }
    let mut c = container!();
    c.create().ok();
    c.delete(&["--force"]).ok();
    fs::create_dir(c.cgroup()).unwrap();
    fs::write(c.cgroup().join("cgroup.subtree_control"), "+hugetlb").unwrap();
    c.create()
        .exits(1)
        .says("EBUSY")
        .says(&format!(
            "start a process in cgroup {} (config.json: linux.cgroupsPath)",
            c.cgroup().display()
        ))
        .one_line();
    c.assert_nothing_left();
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
fn a_path_that_names_a_file_is_refused_and_the_file_stays() {
    for file in ["cgroup.procs", "cgroup.procs/box"] {
        let mut c = container!();
        let path = format!("{}/{file}", c.parent_cgroup_path());
        c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
        c.create().exits(1).says("ENOTDIR").says(&path).one_line();
        c.assert_nothing_left();
    }
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

/// A foreign process in a cgroup created anew at the path of a container's former cgroup.
pub(crate) struct Successor(std::process::Child, std::path::PathBuf);

impl Successor {
    pub(crate) fn of(dir: &std::path::Path) -> Successor {
        eventually("the container's cgroup can be removed", || {
            fs::remove_dir(dir).is_ok()
        });
        fs::create_dir(dir).unwrap();
        let process = std::process::Command::new("/bin/sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        fs::write(dir.join("cgroup.procs"), process.id().to_string()).unwrap();
        Successor(process, dir.to_owned())
    }

    pub(crate) fn is_untouched(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
            && kernel::procs(&self.1) == [self.0.id() as i32]
            && kernel::cgroup_value(&self.1, "cgroup.freeze") == "0"
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let removed = || fs::remove_dir(&self.1).is_ok();
        if !std::thread::panicking() {
            eventually("the other cgroup can be removed", removed);
        }
    }
}

#[test]
fn a_cgroup_that_another_has_made_at_the_same_path_is_left_alone() {
    for (made, flags) in [("run", &[][..]), ("create", &["--force"])] {
        let mut c = container!();
        match made {
            "run" => c.run_detached(),
            _ => c.create(),
        }
        .ok();
        c.kill("KILL").ok();
        c.wait_dead();
        let mut other = Successor::of(&c.cgroup());
        assert_eq!(c.status(), "stopped");
        c.runtime(&["kill", "--all", &c.id, "KILL"]).ok();
        let ps = c.runtime(&["ps", "--format", "json", &c.id]);
        assert_eq!(ps.stdout(), "[]\n");
        c.delete(flags).ok();
        assert!(other.is_untouched(), "{made} {flags:?}");
        assert_eq!(c.root_entries(), [""; 0]);
    }
}

#[test]
fn a_cgroup_made_again_at_the_path_that_init_has_left_is_not_touched() {
    let mut c = container!();
    c.run_detached().ok();
    let elsewhere = c.cgroup().parent().unwrap().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("cgroup.procs"), c.pid().to_string()).unwrap();
    let mut other = Successor::of(&c.cgroup());
    assert_eq!(c.status(), "running");
    c.runtime(&["pause", &c.id]).exits(1).says("not running");
    c.exec_with(&["--cgroup", "/"], &["/bin/true"]).ok();
    c.exec(&["/bin/true"]).ok();
    c.delete(&["--force"]).ok();
    c.wait_dead();
    assert!(other.is_untouched());
    fs::remove_dir(elsewhere).unwrap();
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

/// Lets a container create cgroups below its own, at /cgroup.
fn delegated(c: &mut Container) {
    c.mount(
        "/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev"],
    );
}

#[test]
fn nested_cgroups_are_listed_paused_and_signalled_with_the_container() {
    let mut c = container!();
    delegated(&mut c);
    c.script(
        "mkdir -p /cgroup/a/b /cgroup/c; \
        for dir in a a/b c; do sh -c 'echo $$ >/cgroup/'$dir'/cgroup.procs; touch /in.'${dir%/*}${dir#*/}'; exec sleep 1000' & done; \
        trap 'exit 7' USR1; while :; do sleep 0.05; done",
    );
    c.run_detached().ok();
    let all = |c: &Container| {
        let mut pids = kernel::procs(&c.cgroup());
        pids.extend(
            kernel::cgroups_below(&c.cgroup())
                .iter()
                .flat_map(|dir| kernel::procs(dir)),
        );
        pids.sort_unstable();
        pids
    };
    let sleeping = |c: &Container, dir: &str| {
        kernel::procs(&c.cgroup().join(dir)).iter().any(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n")
        })
    };
    eventually("all processes are in their cgroups", || {
        ["a", "a/b", "c"].iter().all(|dir| sleeping(&c, dir))
    });
    c.runtime(&["pause", &c.id]).ok();
    let output = c.runtime(&["ps", "--format", "json", &c.id]);
    output.ok();
    let listed: Vec<i32> = serde_json::from_str(&output.stdout()).unwrap();
    assert_eq!(listed, all(&c));
    assert!(listed.len() >= 4);
    for dir in ["", "a", "a/b", "c"] {
        let events = fs::read_to_string(c.cgroup().join(dir).join("cgroup.events")).unwrap();
        assert!(events.contains("frozen 1"), "{dir}: {events}");
    }
    c.runtime(&["resume", &c.id]).ok();
    let nested: Vec<i32> = ["a", "a/b", "c"]
        .iter()
        .flat_map(|dir| kernel::procs(&c.cgroup().join(dir)))
        .collect();
    c.runtime(&["kill", "--all", &c.id, "USR1"]).ok();
    for pid in nested {
        eventually("the signal ends it", || !kernel::alive(pid));
    }
    assert_eq!(c.wait(), 7);
    c.delete(&[]).ok();
    assert!(!c.cgroup().exists());
}

#[test]
fn processes_that_fork_all_the_time_end_with_delete() {
    for namespace in ["pid", ""] {
        let mut c = container!();
        if !namespace.is_empty() {
            c.without_namespace(namespace);
        }
        // Chains in which each process starts its successor and exits. None lives long enough to be
        // found by its pid.
        c.script("f() { f & exec true; }; touch /ready; for i in $(seq 1 4); do f & done; exec sleep 1000");
        c.run_detached().ok();
        c.wait_file("/ready");
        c.delete(&["--force"]).ok();
        assert!(!c.cgroup().exists());
    }
}

#[test]
fn a_container_that_makes_cgroups_and_forks_is_paused_killed_and_deleted() {
    let mut c = container!();
    delegated(&mut c);
    c.script(
        "mkdir -p /cgroup/$(seq -s '/x /cgroup/' 1 300); touch /ready; \
        for i in $(seq 1 3); do sh -c \"echo 0 >/cgroup/$i/x/cgroup.procs; f() { f & exec true; }; f\" & done; \
        i=0; while :; do i=$((i+1)); mkdir /cgroup/n$i; done",
    );
    c.run_detached().ok();
    c.wait_file("/ready");
    c.runtime(&["pause", &c.id]).ok();
    assert_eq!(c.status(), "paused");
    c.runtime(&["ps", &c.id]).ok();
    c.runtime(&["resume", &c.id]).ok();
    c.runtime(&["kill", "--all", &c.id, "KILL"]).ok();
    c.wait_dead();
    c.delete(&[]).ok();
    assert!(!c.cgroup().exists());
}

#[test]
fn delete_gives_up_in_time_when_another_fills_the_cgroup_again_and_again() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let mut c = container!();
    c.create().ok();
    let file = c.cgroup().join("cgroup.procs");
    let end = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut children = Vec::new();
            while !end.load(Ordering::Relaxed) {
                let child = std::process::Command::new("/bin/sleep")
                    .arg("1000")
                    .spawn()
                    .unwrap();
                // The cgroup is gone if delete was faster.
                let _ = fs::write(&file, child.id().to_string());
                children.push(child);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            for mut child in children {
                let _ = child.kill();
                child.wait().unwrap();
            }
        });
        let begin = std::time::Instant::now();
        let output = c.delete(&["--force"]);
        end.store(true, Ordering::Relaxed);
        assert!(begin.elapsed() < std::time::Duration::from_secs(50));
        output
    });
    if output.code != 0 {
        output.says("it is still in use: process ").one_line();
        assert!(c.cgroup().exists());
        c.delete(&["--force"]).ok();
    }
    assert!(!c.cgroup().exists());
}

#[test]
fn a_cgroup_whose_parent_is_threaded_takes_the_container() {
    let mut c = container!();
    let top = c.cgroup().parent().unwrap().join("top");
    fs::create_dir(&top).unwrap();
    fs::create_dir(top.join("threads")).unwrap();
    fs::write(top.join("threads/cgroup.type"), "threaded").unwrap();
    c.edit(|j| {
        j["linux"]["cgroupsPath"] = json!(format!(
            "{}/top/threads/box",
            j["linux"]["cgroupsPath"]
                .as_str()
                .unwrap()
                .rsplit_once('/')
                .unwrap()
                .0
        ))
    });
    let output = c.create();
    if output.code == 0 {
        assert_eq!(
            fs::read_to_string(top.join("threads/box/cgroup.type")).unwrap(),
            "threaded\n"
        );
        assert_eq!(c.status(), "created");
        c.start().ok();
        c.exec(&["/bin/true"]).ok();
        c.runtime(&["pause", &c.id]).ok();
        c.runtime(&["resume", &c.id]).ok();
        let listed = c.runtime(&["ps", "--format", "json", &c.id]);
        assert_eq!(listed.ok().stdout(), format!("[{}]\n", c.pid()));
        c.delete(&["--force"]).ok();
    }
    let (box_gone, threads) = (!top.join("threads/box").exists(), top.join("threads"));
    fs::remove_dir(threads).unwrap();
    fs::remove_dir(&top).unwrap();
    output.ok();
    assert!(box_gone);
}

#[test]
fn a_cgroup_above_that_has_processes_keeps_domain_controllers_from_the_container() {
    if !kernel::has_controllers(&["memory"]) {
        return;
    }
    let mut c = container!();
    let top = c.cgroup().parent().unwrap().join("busy");
    fs::create_dir(&top).unwrap();
    let mut process = std::process::Command::new("/bin/sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    fs::write(top.join("cgroup.procs"), process.id().to_string()).unwrap();
    c.edit(|j| {
        let path = j["linux"]["cgroupsPath"]
            .as_str()
            .unwrap()
            .rsplit_once('/')
            .unwrap()
            .0
            .to_owned();
        j["linux"]["cgroupsPath"] = json!(format!("{path}/busy/box"));
        j["linux"]["resources"]["memory"] = json!({"limit": 268_435_456});
    });
    let refused = c.create();
    c.edit(|j| j["linux"]["resources"]["memory"] = json!({}));
    let free = c.create();
    c.delete(&["--force"]).ok();
    process.kill().unwrap();
    process.wait().unwrap();
    eventually("the foreign cgroup can be removed", || {
        fs::remove_dir(&top).is_ok()
    });
    refused
        .exits(1)
        .says("linux.resources.memory.limit")
        .says("it can't be enabled")
        .one_line();
    free.ok();
}
