//! Tests with real cgroups. Each test has its own cgroup, below a cgroup that is named after the
//! pid of this process.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::panic)]

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;

use nix::sys::stat::Mode;

use super::resources::plan_limits;
use super::*;
use crate::sys::clone::{Child, CloneArgs, Exit, Side, clone3, pidfd_wait};
use crate::sys::process::{CStringArray, execve, exit_now};
use crate::sys::wait::reap;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A test's own cgroup. It is removed with all its contents when the test ends.
struct TestCgroup {
    hierarchy: Hierarchy,
    below: PathBuf,
}

impl TestCgroup {
    fn new(name: &str) -> Option<TestCgroup> {
        let hierarchy = match Hierarchy::probe() {
            Ok(hierarchy) => hierarchy,
            Err(error) => {
                eprintln!("skipped: {error}");
                return None;
            }
        };
        let below = PathBuf::from(format!("orlop-test-{}/{name}", std::process::id()));
        if let Err(error) = std::fs::create_dir_all(hierarchy.mount.join(&below)) {
            eprintln!("skipped: can't make cgroups: {error}");
            return None;
        }
        Some(TestCgroup { hierarchy, below })
    }

    fn create(&self, name: &str, resources: &str) -> Result<Cgroup, Error> {
        let resources = serde_json::from_str(resources).unwrap();
        let limits = plan_limits(Some(&resources)).unwrap();
        Cgroup::create(&self.hierarchy, &self.below.join(name), &limits, None)
    }

    fn path(&self) -> PathBuf {
        self.hierarchy.mount.join(&self.below)
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let own = Cgroup::open(&self.path()).unwrap().unwrap();
        own.kill_all().unwrap();
        own.delete_tree(TIMEOUT).unwrap();
        // Remove the parent cgroup too. This succeeds only in the last test.
        let _ = std::fs::remove_dir(self.path().parent().unwrap());
    }
}

fn spawn(cgroup: &Cgroup, arguments: &[&str]) -> Child {
    let strings = arguments
        .iter()
        .map(|a| CString::new(*a).unwrap())
        .collect();
    let argv = CStringArray::new(strings);
    let envp = CStringArray::new(vec![c"PATH=/usr/bin:/bin:/usr/sbin:/sbin".to_owned()]);
    let path = argv.as_slice().first().unwrap().clone();
    let request = CloneArgs {
        namespaces: CloneFlags::empty(),
        cgroup: Some(cgroup.dir_fd()),
        sibling: false,
    };
    match clone3(&request).unwrap() {
        Side::Parent(child) => child,
        Side::Child => {
            execve(&path, &argv, &envp);
            exit_now(127)
        }
    }
}

fn shell(cgroup: &Cgroup, script: &str) -> Exit {
    let child = spawn(cgroup, &["/bin/sh", "-c", script]);
    reap(child.pidfd.as_fd()).unwrap()
}

fn has_ended(child: &Child) -> bool {
    pidfd_wait(child.pidfd.as_fd(), 60_000).unwrap()
}

#[test]
fn a_cgroup_is_made_killed_and_removed() {
    let Some(own) = TestCgroup::new("life") else {
        return;
    };
    let cgroup = own.create("a/b/c", "{}").unwrap();
    assert!(!cgroup.is_populated().unwrap());
    let child = spawn(&cgroup, &["/bin/sleep", "100"]);
    assert!(cgroup.is_populated().unwrap());
    assert_eq!(cgroup.pids().unwrap(), [child.pid]);

    let occupied = own.create("a/b/c", "{}").unwrap_err().to_string();
    assert!(
        occupied.starts_with("container's cgroup is not empty: "),
        "{occupied}"
    );
    assert!(
        occupied.contains(&format!("process {} (", child.pid)),
        "{occupied}"
    );

    let busy = cgroup
        .delete_tree(Duration::from_millis(20))
        .unwrap_err()
        .to_string();
    assert!(
        busy.contains(&format!("process {} (sleep)", child.pid)),
        "{busy}"
    );

    cgroup.kill_all().unwrap();
    cgroup.delete_tree(TIMEOUT).unwrap();
    assert_eq!(reap(child.pidfd.as_fd()).unwrap(), Exit::Signal(9));
    assert!(Cgroup::open(cgroup.path()).unwrap().is_none());
    // None of these calls fails for a cgroup that no longer exists.
    cgroup.delete_tree(TIMEOUT).unwrap();
    cgroup.kill_all().unwrap();
    cgroup.signal_all(15).unwrap();
    assert!(!cgroup.is_populated().unwrap());
    assert!(cgroup.pids().unwrap().is_empty());
}

#[test]
fn nested_cgroups_are_listed_and_removed_with_it() {
    let Some(own) = TestCgroup::new("nested") else {
        return;
    };
    let cgroup = own.create("top", "{}").unwrap();
    let deep = cgroup.path().join("1/2/3");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::create_dir_all(cgroup.path().join("1/x")).unwrap();
    std::fs::create_dir_all(cgroup.path().join("y")).unwrap();
    let deep = Cgroup::open(&deep).unwrap().unwrap();
    let children = [&cgroup, &deep].map(|c| spawn(c, &["/bin/sleep", "100"]));
    let mut pids = children.each_ref().map(|child| child.pid);
    pids.sort_unstable();
    assert_eq!(cgroup.pids().unwrap(), pids);
    cgroup.kill_all().unwrap();
    cgroup.delete_tree(TIMEOUT).unwrap();
    assert!(!cgroup.path().exists());
    for child in &children {
        assert_eq!(reap(child.pidfd.as_fd()).unwrap(), Exit::Signal(9));
    }
}

#[test]
fn a_deep_tree_is_removed_without_using_up_descriptors() {
    let Some(own) = TestCgroup::new("deep") else {
        return;
    };
    let cgroup = own.create("top", "{}").unwrap();
    let deep = (0..200).fold(cgroup.path().to_owned(), |path, _| path.join("d"));
    std::fs::create_dir_all(deep).unwrap();
    cgroup.delete_tree(TIMEOUT).unwrap();
    assert!(!cgroup.path().exists());
}

#[test]
fn removal_waits_for_an_ending_process_without_sleeping() {
    let Some(own) = TestCgroup::new("ending") else {
        return;
    };
    let cgroup = own.create("top", "{}").unwrap();
    let child = spawn(&cgroup, &["/bin/sleep", "0.2"]);
    let before = Instant::now();
    cgroup.delete_tree(TIMEOUT).unwrap();
    assert!(before.elapsed() < Duration::from_secs(50));
    assert_eq!(reap(child.pidfd.as_fd()).unwrap(), Exit::Code(0));
}

#[test]
fn a_frozen_cgroup_stands_still_and_can_be_killed() {
    let Some(own) = TestCgroup::new("frozen") else {
        return;
    };
    let cgroup = own.create("top", "{}").unwrap();
    let child = spawn(&cgroup, &["/bin/sleep", "100"]);
    cgroup.freeze_all().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    cgroup.thaw_all().unwrap();
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze_all().unwrap();
    cgroup.signal_all(9).unwrap();
    assert!(has_ended(&child));
    reap(child.pidfd.as_fd()).unwrap();
    assert!(cgroup.is_frozen().unwrap());

    let frozen = own.create("top", "{}").unwrap_err();
    assert!(matches!(frozen, Error::Frozen(_)), "{frozen}");
    // The first process of a cgroup below a frozen cgroup would also be frozen.
    let below = own.create("top/below", "{}").unwrap_err();
    assert!(matches!(below, Error::Frozen(_)), "{below}");
    assert!(!cgroup.path().join("below").exists());
    cgroup.thaw_all().unwrap();
    cgroup.delete_tree(TIMEOUT).unwrap();
}

#[test]
fn a_signal_to_a_frozen_cgroup_leaves_it_frozen_and_reaches_every_process() {
    let Some(own) = TestCgroup::new("signals") else {
        return;
    };
    let cgroup = own.create("top", "{}").unwrap();
    let nested = cgroup.path().join("nested");
    std::fs::create_dir(&nested).unwrap();
    let nested = Cgroup::open(&nested).unwrap().unwrap();
    let children = [&cgroup, &nested].map(|c| spawn(c, &["/bin/sleep", "100"]));
    cgroup.freeze_all().unwrap();
    cgroup.signal_all(15).unwrap();
    assert_eq!(cgroup.read_file(c"cgroup.freeze").unwrap(), "1\n");
    cgroup.thaw_all().unwrap();
    for child in &children {
        assert!(has_ended(child));
        assert_eq!(reap(child.pidfd.as_fd()).unwrap(), Exit::Signal(15));
    }
}

#[test]
fn a_signal_leaves_nothing_frozen_that_was_not() {
    let Some(own) = TestCgroup::new("signals-running") else {
        return;
    };
    let cgroup = own.create("top", "{}").unwrap();
    let nested = cgroup.path().join("nested");
    std::fs::create_dir(&nested).unwrap();
    let nested = Cgroup::open(&nested).unwrap().unwrap();
    let children = [&cgroup, &nested].map(|c| spawn(c, &["/bin/sleep", "100"]));
    cgroup.signal_all(10).unwrap();
    assert_eq!(cgroup.read_file(c"cgroup.freeze").unwrap(), "0\n");
    for child in &children {
        assert_eq!(reap(child.pidfd.as_fd()).unwrap(), Exit::Signal(10));
    }
}

#[test]
fn a_cgroup_whose_processes_end_in_the_freezer_one_after_the_other_is_thawed() {
    let Some(own) = TestCgroup::new("ending-frozen") else {
        return;
    };
    let cgroup = own.create("top", "{}").unwrap();
    let nested = cgroup.path().join("nested");
    std::fs::create_dir(&nested).unwrap();
    let nested = Cgroup::open(&nested).unwrap().unwrap();
    let short = spawn(&cgroup, &["/bin/sleep", "100"]);
    // This process takes a while to exit, because the kernel must free its memory.
    let large = spawn(
        &nested,
        &["/usr/bin/perl", "-e", "$x = 'x' x 3e8; sleep 100"],
    );
    let pages = |pid: i32| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        text.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let begin = Instant::now();
    while pages(large.pid) < 70_000 {
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    cgroup.freeze_all().unwrap();
    cgroup.kill_all().unwrap();
    assert!(has_ended(&short));
    cgroup.thaw_all().unwrap();
    for child in [&short, &large] {
        assert_eq!(reap(child.pidfd.as_fd()).unwrap(), Exit::Signal(9));
    }
}

#[test]
fn an_error_leaves_nothing_and_names_field_and_controller() {
    let Some(own) = TestCgroup::new("undo") else {
        return;
    };
    let error = own
        .create("a/b", r#"{"unified":{"nothing.max":"1"}}"#)
        .unwrap_err()
        .to_string();
    let mount = own.hierarchy.mount.display();
    assert_eq!(
        error,
        format!(
            "config.json: linux.resources.unified[\"nothing.max\"]: the nothing controller is not available in {mount} (it is not in cgroup.controllers)"
        )
    );
    assert!(!own.path().join("a").exists());
    let error = own
        .create("a/b", r#"{"unified":{"cgroup.max.depth":"x"}}"#)
        .unwrap_err()
        .to_string();
    assert!(error.contains("cgroup.max.depth: write: EINVAL"), "{error}");
    assert!(!own.path().join("a").exists());
}

#[test]
fn a_limit_of_a_controller_that_v1_holds_is_refused_and_no_limit_is_not() {
    let Some(own) = TestCgroup::new("hybrid") else {
        return;
    };
    if !own.hierarchy.hybrid {
        eprintln!("skipped: not a hybrid host");
        return;
    }
    let error = own
        .create("a", r#"{"pids":{"limit":7}}"#)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "config.json: linux.resources.pids.limit: the pids controller is not available in /sys/fs/cgroup/unified (it is mounted as cgroup v1)"
    );
    let error = own
        .create("a", r#"{"blockIO":{"weight":100}}"#)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("blockIO.weight: the io controller") && error.contains("v1"),
        "{error}"
    );
    let error = own
        .create("a", r#"{"cpu":{"period":50000}}"#)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cpu.period: the cpu controller") && error.contains("v1"),
        "{error}"
    );
    for nothing in [
        r#"{"pids":{"limit":-1},"memory":{"limit":-1,"swap":-1,"reservation":-1},"cpu":{"quota":-1,"shares":1024,"idle":0,"burst":0}}"#,
        r#"{"cpu":{"shares":1024,"period":100000}}"#,
        r#"{"cpu":{"quota":-1,"period":50000}}"#,
        r#"{"cpu":{"quota":0,"period":50000}}"#,
    ] {
        own.create("a", nothing).unwrap();
    }
}

#[test]
fn a_hugetlb_limit_is_written_down_the_tree() {
    let Some(own) = TestCgroup::new("hugetlb") else {
        return;
    };
    let root = Cgroup::open(&own.hierarchy.mount).unwrap().unwrap();
    let controllers = root.read_file(c"cgroup.controllers").unwrap();
    if !controllers.split_whitespace().any(|name| name == "hugetlb") {
        eprintln!("skipped: no hugetlb controller");
        return;
    }
    let json = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#;
    let cgroup = own.create("a/b/c", json).unwrap();
    assert_eq!(cgroup.read_file(c"hugetlb.2MB.max").unwrap(), "4194304\n");
    assert_eq!(
        cgroup.read_file(c"hugetlb.2MB.rsvd.max").unwrap(),
        "4194304\n"
    );
    let error = own
        .create(
            "a/b/d",
            r#"{"hugepageLimits":[{"pageSize":"3MB","limit":1}]}"#,
        )
        .unwrap_err();
    assert!(matches!(error, Error::NoFile { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("hugepageLimits[0].limit: this kernel has no hugetlb.3MB.max"),
        "{error}"
    );
}

#[test]
fn every_available_controller_takes_its_limits() {
    let Some(own) = TestCgroup::new("limits") else {
        return;
    };
    let root = Cgroup::open(&own.hierarchy.mount).unwrap().unwrap();
    let controllers = root.read_file(c"cgroup.controllers").unwrap();
    let has = |wanted: &str| controllers.split_whitespace().any(|name| name == wanted);
    let all = ["cpu", "cpuset", "memory", "pids"];
    if let Some(missing) = all.iter().find(|name| !has(name)) {
        eprintln!("skipped: no {missing} controller");
        return;
    }
    let json = r#"{"pids":{"limit":7},"memory":{"limit":67108864,"swap":134217728,"reservation":33554432},
        "cpu":{"shares":512,"quota":50000,"period":100000,"burst":1000,"cpus":"0","mems":"0"},"unified":{"memory.high":"50331648"}}"#;
    let cgroup = own.create("a", json).unwrap();
    for (file, value) in [
        (c"pids.max", "7"),
        (c"memory.max", "67108864"),
        (c"memory.low", "33554432"),
        (c"memory.high", "50331648"),
        (c"cpu.weight", "59"),
        (c"cpu.max", "50000 100000"),
        (c"cpu.max.burst", "1000"),
        (c"cpuset.cpus", "0"),
        (c"cpuset.mems", "0"),
    ] {
        assert_eq!(cgroup.read_file(file).unwrap().trim(), value, "{file:?}");
    }
    // The order of the writes matters if a new quota is below the old burst, or a new burst is
    // above the old quota.
    for json in [
        r#"{"cpu":{"quota":2000,"burst":500}}"#,
        r#"{"cpu":{"quota":90000,"burst":80000}}"#,
        r#"{"cpu":{"quota":2000,"burst":0}}"#,
    ] {
        cgroup
            .apply_limits(&plan_limits(Some(&serde_json::from_str(json).unwrap())).unwrap())
            .unwrap();
    }
    assert_eq!(cgroup.read_file(c"cpu.max").unwrap().trim(), "2000 100000");
    let idle = own.create("idle", r#"{"cpu":{"idle":1}}"#).unwrap();
    assert_eq!(idle.read_file(c"cpu.idle").unwrap(), "1\n");
    let limits = r#"{"cpu":{"idle":0,"shares":512},"pids":{"limit":-1},"memory":{"limit":-1}}"#;
    idle.apply_limits(&plan_limits(Some(&serde_json::from_str(limits).unwrap())).unwrap())
        .unwrap();
    assert_eq!(idle.read_file(c"cpu.weight").unwrap(), "59\n");
    assert_eq!(idle.read_file(c"pids.max").unwrap(), "max\n");
    // If the kernel refuses a value, the error names the field.
    let error = own
        .create("cpus", r#"{"cpu":{"cpus":"9999999"}}"#)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("config.json: linux.resources.cpu.cpus: write \"9999999\" to "),
        "{error}"
    );
    assert!(!own.path().join("cpus").exists());
    if has("io") {
        let io = own.create("io", r#"{"blockIO":{"weight":500}}"#).unwrap();
        let weights = [io.read_file(c"io.bfq.weight"), io.read_file(c"io.weight")];
        let weights: Vec<String> = weights.into_iter().flatten().collect();
        assert!(
            weights
                .iter()
                .any(|text| ["default 500\n", "default 4950\n"].contains(&text.as_str())),
            "{weights:?}"
        );
        let error = own
            .create(
                "none",
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":4000,"minor":0,"rate":9}]}}"#,
            )
            .unwrap_err();
        assert!(error.to_string().contains("ENODEV"), "{error}");
    }
    let busy = spawn(&cgroup, &["/bin/sleep", "100"]);
    let used = r#"{"memory":{"limit":4096,"checkBeforeUpdate":true},"pids":{"limit":3}}"#;
    let error = cgroup
        .update_limits(
            &plan_limits(Some(&serde_json::from_str(used).unwrap())).unwrap(),
            false,
        )
        .unwrap_err();
    assert!(matches!(error, Error::InUse { limit: 4096, .. }), "{error}");
    assert_eq!(cgroup.read_file(c"pids.max").unwrap(), "7\n");
    cgroup.kill_all().unwrap();
    reap(busy.pidfd.as_fd()).unwrap();
}

#[test]
fn the_kernel_follows_the_device_rules() {
    let Some(own) = TestCgroup::new("devices") else {
        return;
    };
    let directory = std::env::temp_dir().join(format!("orlop-test-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();
    let node = directory.join("kmsg");
    let check = |name: &str, rules: &str, script: &str, expected: i32| {
        let _ = std::fs::remove_file(&node);
        let resources = format!(r#"{{"devices":{rules}}}"#);
        let limits = plan_limits(Some(&serde_json::from_str(&resources).unwrap())).unwrap();
        let cgroup = Cgroup::create(&own.hierarchy, &own.below.join(name), &limits, None).unwrap();
        cgroup.set_device_rules(&limits).unwrap();
        let exit = shell(
            &cgroup,
            &script.replace("NODE", &node.display().to_string()),
        );
        assert_eq!(exit, Exit::Code(expected), "{name}");
        cgroup.delete_tree(TIMEOUT).unwrap();
    };
    let first = TestCgroup::new("devices-probe")
        .unwrap()
        .create("a", "{}")
        .unwrap();
    drop(first);
    let made = nix::sys::stat::mknod(
        &node,
        nix::sys::stat::SFlag::S_IFCHR,
        Mode::S_IRWXU,
        nix::sys::stat::makedev(1, 11),
    );
    if let Err(errno) = made.and_then(|()| {
        std::fs::File::open(&node)
            .map(drop)
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap()))
    }) {
        eprintln!("skipped: can't make or open device nodes here: {errno}");
        std::fs::remove_dir_all(&directory).unwrap();
        return;
    }
    const NONE: &str = r#"[{"allow":false,"access":"rwm"}]"#;
    check(
        "defaults",
        NONE,
        "head -c1 /dev/zero >/dev/null && head -c1 /dev/urandom >/dev/null && : >/dev/full",
        0,
    );
    check("mknod", NONE, "mknod NODE c 1 11", 0);
    check(
        "denied",
        NONE,
        "mknod NODE c 1 11 && ! (exec <NODE) 2>/dev/null && ! (exec >NODE) 2>/dev/null",
        0,
    );
    check(
        "no-rules",
        "[]",
        "mknod NODE c 1 11 && ! (exec <NODE) 2>/dev/null",
        0,
    );
    check(
        "read",
        r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]"#,
        "mknod NODE c 1 11 && (exec <NODE) && ! (exec >NODE) 2>/dev/null && ! (exec <>NODE) 2>/dev/null",
        0,
    );
    check(
        "later-wins",
        r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":1,"access":"rw"},{"allow":true,"type":"c","major":1,"minor":11,"access":"w"}]"#,
        "mknod NODE c 1 11 && ! (exec <NODE) 2>/dev/null && (exec >NODE) && (exec </dev/null)",
        0,
    );
    check(
        "all",
        r#"[{"allow":true,"access":"rwm"}]"#,
        "mknod NODE c 1 11 && (exec <NODE) && (exec >NODE)",
        0,
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_long_list_of_processes_is_read_to_its_end() {
    let Some(own) = TestCgroup::new("many") else {
        return;
    };
    let cgroup = own.create("top", "{}").unwrap();
    let children: Vec<Child> = (0..700)
        .map(|_| spawn(&cgroup, &["/bin/sleep", "100"]))
        .collect();
    let mut pids: Vec<i32> = children.iter().map(|child| child.pid).collect();
    pids.sort_unstable();
    assert_eq!(cgroup.pids().unwrap(), pids);
    cgroup.freeze_all().unwrap();
    cgroup.kill_all().unwrap();
    for child in &children {
        assert_eq!(reap(child.pidfd.as_fd()).unwrap(), Exit::Signal(9));
    }
}
