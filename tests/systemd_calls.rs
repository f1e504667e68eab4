//! The calls of the systemd driver to systemd, for good, late, bad and missing replies.
//! A stand-in replies on a bus of its own. The tests with real systemd are in `systemd`.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cgroups::Successor;
use crate::harness::systemd::{Manner, Systemd};
use crate::harness::{Container, eventually, kernel};

/// Returns a container whose scope the stand-in creates in the test's cgroup.
fn scoped(manner: Manner) -> Option<(Container, Systemd)> {
    let mut c = Container::new()?;
    let parent = c.cgroup().parent().unwrap().to_owned();
    let systemd = Systemd::start(&c.scratch(), parent, manner);
    let path = format!("a-b.slice:orlop:{}", c.id);
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    c.set_env("DBUS_SYSTEM_BUS_ADDRESS", &systemd.address);
    Some((c, systemd))
}

macro_rules! scoped {
    ($manner:expr) => {
        match scoped($manner) {
            Some(both) => both,
            None => return,
        }
    };
}

fn unit(c: &Container) -> String {
    format!("orlop-{}.scope", c.id)
}

fn create(c: &Container) -> crate::harness::Output {
    c.make("create", &["--systemd-cgroup"])
}

#[test]
fn a_scope_is_made_around_init_and_holds_what_comes_later() {
    let (c, systemd) = scoped!(Manner::Well);
    create(&c).ok();
    let path = kernel::cgroup_of(c.pid());
    assert!(path.ends_with(&unit(&c)), "{path}");
    assert_eq!(systemd.members(), ["StartTransientUnit"]);
    let (_, arguments) = &systemd.calls()[0];
    assert_eq!(arguments[0], json!(unit(&c)));
    assert_eq!(arguments[1], "replace");
    assert_eq!(arguments[3], json!([]));
    let property = |name| systemd.property("StartTransientUnit", name);
    assert_eq!(property("Slice"), ["a-b.slice"]);
    assert_eq!(property("Delegate"), [true]);
    assert_eq!(property("DefaultDependencies"), [false]);
    assert_eq!(property("PIDs"), [json!([c.pid()])]);
    assert_eq!(
        property("Description"),
        [format!("libcontainer container {}", c.id)]
    );
    for name in [
        "CPUAccounting",
        "IOAccounting",
        "MemoryAccounting",
        "TasksAccounting",
    ] {
        assert_eq!(property(name), [true], "{name}");
    }
    assert_eq!(property("DevicePolicy"), ["strict"]);
    let devices = property("DeviceAllow");
    assert_eq!(devices[0], json!([]));
    assert!(
        devices[1]
            .as_array()
            .unwrap()
            .contains(&json!(["/dev/char/1:3", "rwm"]))
    );
    c.start().ok();
    // The root of the cgroup namespace is the scope, and not the cgroup in which init was cloned.
    assert_eq!(
        c.exec_output("cat /proc/1/cgroup").lines().last(),
        Some("0::/")
    );
    assert_eq!(
        c.exec_output("cat /proc/self/cgroup").lines().last(),
        Some("0::/")
    );
    c.runtime(&["pause", &c.id]).ok();
    assert_eq!(c.status(), "paused");
    c.runtime(&["resume", &c.id]).ok();
    c.delete(&["--force"]).ok();
    let after: Vec<_> = systemd.members().into_iter().skip(1).collect();
    assert_eq!(after, ["Get", "StopUnit", "ResetFailedUnit"]);
    c.assert_nothing_left();
}

#[test]
fn controllers_that_systemd_does_not_enable_are_there_from_the_start() {
    if !kernel::has_controllers(&["hugetlb"]) {
        return;
    }
    let (c, systemd) = scoped!(Manner::Well);
    // The scope has its own slice, because other tests change the controllers of the shared slice.
    let slice = c.cgroup().parent().unwrap().join(format!("{}.slice", c.id));
    fs::create_dir(&slice).unwrap();
    systemd.make_scopes_in(&slice);
    create(&c).ok();
    let scope = slice.join(unit(&c));
    let limit = || kernel::cgroup_value(&scope, "hugetlb.2MB.max");
    limit();
    update(&c, &json!({"unified": {"hugetlb.2MB.max": "4194304"}})).ok();
    assert_eq!(limit(), "4194304");
    // The test disables the controller, as another program might.
    fs::write(slice.join("cgroup.subtree_control"), "-hugetlb").unwrap();
    update(
        &c,
        &json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2_097_152}]}),
    )
    .ok();
    assert_eq!(limit(), "2097152");
    c.delete(&["--force"]).ok();
    fs::remove_dir(&slice).unwrap();
}

#[test]
fn a_scope_that_went_by_itself_is_only_forgotten() {
    let (mut c, systemd) = scoped!(Manner::Well);
    c.args(&["/bin/true"]);
    create(&c).ok();
    let dir = c.cgroup().parent().unwrap().join(unit(&c));
    c.start().ok();
    c.wait();
    // The test removes the cgroup, as systemd does when the last process is gone.
    crate::harness::eventually("the cgroup can be removed", || {
        std::fs::remove_dir(&dir).is_ok()
    });
    c.delete(&[]).ok();
    assert_eq!(systemd.members(), ["StartTransientUnit", "ResetFailedUnit"]);
}

#[test]
fn a_scope_whose_name_somebody_else_has_now_is_left_alone() {
    let (mut c, systemd) = scoped!(Manner::Well);
    c.args(&["/bin/true"]);
    create(&c).ok();
    let dir = c.cgroup().parent().unwrap().join(unit(&c));
    c.start().ok();
    c.wait();
    let mut other = Successor::of(&dir);
    c.delete(&[]).ok();
    assert!(other.is_untouched());
    assert_eq!(systemd.members(), ["StartTransientUnit"]);
}

#[test]
fn annotations_become_properties_and_limits_win_over_them() {
    let (mut c, systemd) = scoped!(Manner::Well);
    c.edit(|j| {
        j["annotations"] = json!({
            "org.systemd.property.TimeoutStopSec": "uint32 7",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.After": "['a.service', 'b.service']",
            "org.systemd.property.TasksMax": "uint64 5",
        });
        j["linux"]["resources"]["unified"] = json!({"cgroup.max.depth": "7"});
    });
    create(&c).ok();
    let property = |name| systemd.property("StartTransientUnit", name);
    assert_eq!(property("TimeoutStopUSec"), [7_000_000]);
    assert_eq!(property("CollectMode"), ["inactive-or-failed"]);
    assert_eq!(property("After"), [json!(["a.service", "b.service"])]);
    assert_eq!(property("TasksMax"), [5]);
    let dir = c.cgroup().parent().unwrap().join(unit(&c));
    let depth = std::fs::read_to_string(dir.join("cgroup.max.depth")).unwrap();
    assert_eq!(depth.trim(), "7");
}

#[test]
fn cve_2024_3154_an_annotation_that_may_not_be_is_refused_before_anything_is_asked() {
    let (mut c, systemd) = scoped!(Manner::Well);
    for name in [
        "ExecStart",
        "ExecStopPost",
        "OnFailure",
        "Slice",
        "DeviceAllow",
    ] {
        let key = format!("org.systemd.property.{name}");
        c.edit(|j| j["annotations"] = json!({&key: "'/bin/sh'"}));
        create(&c)
            .exits(1)
            .says(&format!("annotations[\"{key}\"]"))
            .one_line();
    }
    let key = "org.systemd.property.CollectMode";
    c.edit(|j| j["annotations"] = json!({key: "uint32 1"}));
    create(&c).exits(1).says(&format!(
        "annotations[\"{key}\"]: \"uint32 1\": a value of type \"u\" where \"s\" belongs"
    ));
    assert_eq!(systemd.calls(), []);
    c.assert_nothing_left();
    // The cgroupfs driver ignores such annotations.
    let path = c.cgroup_path();
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    c.make("create", &[]).ok();
}

#[test]
fn a_cgroup_between_the_scope_and_the_process_is_refused() {
    let (mut c, systemd) = scoped!(Manner::Well);
    let key = "run.oci.systemd.subgroup";
    c.edit(|j| j["annotations"] = json!({key: "container"}));
    create(&c)
        .exits(1)
        .says(&format!(
            "annotations[\"{key}\"]: \"container\" is not supported"
        ))
        .one_line();
    assert_eq!(systemd.calls(), []);
    c.assert_nothing_left();
    c.edit(|j| j["annotations"] = json!({key: ""}));
    create(&c).ok();
}

#[test]
fn a_path_that_is_not_slice_prefix_name_is_refused_in_runcs_words() {
    let (mut c, systemd) = scoped!(Manner::Well);
    for path in ["/a/b", "a.slice:b", "a:b:c:d"] {
        c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
        create(&c).exits(1).says(&format!(
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"{path}\" instead"
        ));
    }
    assert_eq!(systemd.calls(), []);
    c.assert_nothing_left();
}

#[test]
fn without_a_path_the_scope_is_named_by_the_id_in_system_slice() {
    let (mut c, systemd) = scoped!(Manner::Well);
    c.id = format!("{}+x", c.id);
    c.edit(|j| {
        j["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    });
    create(&c).ok();
    let (_, arguments) = &systemd.calls()[0];
    let escaped = c.id.replace('+', "\\x2b");
    assert_eq!(arguments[0], format!("orlop-{escaped}.scope"));
    assert_eq!(
        systemd.property("StartTransientUnit", "Slice"),
        ["system.slice"]
    );
}

#[test]
fn a_slow_systemd_is_waited_for() {
    let (c, _systemd) = scoped!(Manner::Slowly(Duration::from_secs(2)));
    create(&c).ok();
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
}

#[test]
fn a_failed_unit_of_the_same_name_is_reset_and_an_existing_one_is_an_error() {
    let (c, systemd) = scoped!(Manner::Exists(true));
    create(&c).ok();
    assert_eq!(
        systemd.members(),
        [
            "StartTransientUnit",
            "ResetFailedUnit",
            "StartTransientUnit"
        ]
    );
    c.delete(&["--force"]).ok();
    systemd.behave(Manner::Exists(false));
    create(&c)
        .exits(1)
        .says(&format!("systemd unit {} exists already", unit(&c)))
        .one_line();
    c.assert_nothing_left();
    // The owner of that unit is unknown, so it is not stopped.
    let stops = systemd
        .members()
        .iter()
        .filter(|m| *m == "StopUnit")
        .count();
    assert_eq!(stops, 1);
}

#[test]
fn a_cgroup_in_the_place_of_the_scope_is_refused_and_stays() {
    let (mut c, systemd) = scoped!(Manner::Well);
    // This is the path at which systemd would create the scope's cgroup.
    let slice = format!("orloptest{}", std::process::id());
    let nested = format!("{slice}.slice/{slice}-b.slice");
    let dir = kernel::cgroup2_mount().unwrap().join(nested).join(unit(&c));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("cgroup.freeze"), "1").unwrap();
    let path = format!("{slice}-b.slice:orlop:{}", c.id);
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    let frozen = create(&c);
    let left = fs::read_to_string(dir.join("cgroup.freeze"));
    fs::write(dir.join("cgroup.freeze"), "0").unwrap();
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(dir.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    let occupied = create(&c);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    for dir in dir.ancestors().take(3) {
        eventually("the cgroup can be removed", || fs::remove_dir(dir).is_ok());
    }
    frozen
        .exits(1)
        .says("container's cgroup unexpectedly frozen")
        .one_line();
    assert_eq!(left.unwrap(), "1\n");
    occupied
        .exits(1)
        .says("container's cgroup is not empty")
        .one_line();
    assert_eq!(systemd.members(), [""; 0]);
    c.assert_nothing_left();
}

/// Returns a container of `USER`, whose own systemd instance creates the scope.
fn of_user(manner: Manner) -> Option<(Container, Systemd)> {
    let (mut c, systemd) = scoped(manner)?;
    systemd.of_user(USER);
    c.without_namespace("network").without_mount("/sys");
    let path = format!(":orlop:{}", c.id);
    c.edit(|j| {
        let linux = j["linux"].as_object_mut().unwrap();
        let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
        linux.insert("cgroupsPath".into(), json!(path));
        linux["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "user"}));
        linux.insert("uidMappings".into(), map.clone());
        linux.insert("gidMappings".into(), map);
    });
    // For a user, orlop must not call the system's instance.
    c.set_env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere");
    c.set_env("DBUS_SESSION_BUS_ADDRESS", &systemd.address);
    c.give_to(USER);
    Some((c, systemd))
}

/// Tries to create a container in a foreign cgroup, first with a process in the cgroup, then with
/// the cgroup frozen. Both attempts must be refused. The process and the cgroup must stay.
fn refused_for_another(c: &Container, dir: &std::path::Path) {
    fs::create_dir_all(dir).unwrap();
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(dir.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    let occupied = create(c);
    let survived = sleeper.try_wait().unwrap().is_none() && kernel::procs(dir).len() == 1;
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    eventually("the cgroup is empty", || kernel::procs(dir).is_empty());
    fs::write(dir.join("cgroup.freeze"), "1").unwrap();
    let frozen = create(c);
    let left = fs::read_to_string(dir.join("cgroup.freeze"));
    fs::remove_dir(dir).unwrap();
    occupied
        .exits(1)
        .says("container's cgroup is not empty")
        .one_line();
    assert!(survived);
    frozen
        .exits(1)
        .says("container's cgroup unexpectedly frozen")
        .one_line();
    assert_eq!(left.unwrap(), "1\n");
}

#[test]
fn a_cgroup_in_the_place_of_a_users_scope_is_refused_and_stays() {
    let Some((c, systemd)) = of_user(Manner::Well) else {
        return;
    };
    let slice = c.cgroup().parent().unwrap().join("user.slice");
    refused_for_another(&c, &slice.join(unit(&c)));
    fs::remove_dir(slice).unwrap();
    // orlop asks systemd only for the path of the user's cgroups.
    assert_eq!(systemd.members(), ["Get", "Get"]);
    c.assert_nothing_left();
}

#[test]
fn a_scope_that_systemd_made_in_a_foreign_cgroup_is_not_stopped() {
    // orlop can't check this cgroup beforehand. systemd finds it by the name of the unit.
    let (c, systemd) = scoped!(Manner::Well);
    refused_for_another(&c, &c.cgroup().parent().unwrap().join(unit(&c)));
    assert_eq!(
        systemd.members(),
        ["StartTransientUnit", "StartTransientUnit"]
    );
    c.assert_nothing_left();
}

#[test]
fn a_unit_of_the_scopes_name_that_has_another_cgroup_is_not_stopped() {
    let (c, systemd) = scoped!(Manner::Well);
    create(&c).ok();
    let dir = c.cgroup().parent().unwrap().join(unit(&c));
    systemd.make_scopes_in(&dir.join("elsewhere"));
    c.delete(&["--force"]).ok();
    assert_eq!(systemd.members(), ["StartTransientUnit", "Get"]);
    assert!(!dir.exists());
    c.assert_nothing_left();
}

#[test]
fn an_error_from_systemd_is_reported() {
    let (c, systemd) = scoped!(Manner::Refusing("BadUnitSetting", "Cannot do that."));
    create(&c)
        .exits(1)
        .says(&format!("start systemd unit {}: Cannot do that.", unit(&c)))
        .one_line();
    c.assert_nothing_left();
    assert_eq!(systemd.members(), ["StartTransientUnit"]);
    systemd.behave(Manner::JobEnds("failed"));
    create(&c)
        .exits(1)
        .says("its job ended as \"failed\"")
        .one_line();
    c.assert_nothing_left();
    assert_eq!(systemd.members().last().unwrap(), "ResetFailedUnit");
}

#[test]
fn a_process_that_systemd_did_not_move_is_not_believed_to_be_in_the_scope() {
    let (c, systemd) = scoped!(Manner::WithoutMoving);
    create(&c)
        .exits(1)
        .says(&format!("and not in systemd unit {}", unit(&c)))
        .one_line();
    c.assert_nothing_left();
    // The unit belongs to orlop, so orlop stops it again.
    assert!(systemd.members().contains(&"StopUnit".to_owned()));
}

#[test]
fn without_systemd_nothing_is_created() {
    let (c, _systemd) = scoped!(Manner::Well);
    let mut command = c.command(&["--systemd-cgroup", "create", "--bundle"]);
    command.arg(c.dir()).arg(&c.id);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus");
    c.finish(command)
        .exits(1)
        .says(&format!("reach systemd unit {}", unit(&c)))
        .says("/nowhere/bus: ENOENT (no such file or directory)")
        .one_line();
    c.assert_nothing_left();
    let mut command = c.command(&["--systemd-cgroup", "create", "--bundle"]);
    command.arg(c.dir()).arg(&c.id);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unixexec:path=/bin/sh");
    c.finish(command)
        .exits(1)
        .says("is not a bus address")
        .one_line();
    c.assert_nothing_left();
}

/// Runs a command without the harness's deadline. Returns its exit code, stderr and duration.
fn at_length(c: &Container, args: &[&str]) -> (Option<i32>, String, Duration) {
    let begin = Instant::now();
    let mut command: Command = c.command(args);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text, begin.elapsed())
}

#[test]
fn a_systemd_that_never_answers_is_given_up_after_30_s() {
    let (c, systemd) = scoped!(Manner::Well);
    create(&c).ok();
    systemd.behave(Manner::Never);
    let bundle = c.dir().to_str().unwrap().to_owned();
    let other = format!("{}-other", c.id);
    let creating = ["--systemd-cgroup", "create", "--bundle", &bundle, &other];
    let deleting = ["delete", "--force", &c.id];
    let ((code, said, took), (deleted, told, waited)) = std::thread::scope(|scope| {
        let create = scope.spawn(|| at_length(&c, &creating));
        let delete = scope.spawn(|| at_length(&c, &deleting));
        (create.join().unwrap(), delete.join().unwrap())
    });
    for (code, said, took) in [(code, &said, took), (deleted, &told, waited)] {
        assert_eq!(code, Some(1), "{said}");
        let expected = format!(
            "systemd did not answer within 30 s: reach unit {}",
            unit(&c)
        );
        assert!(
            said.contains(&expected) && said.lines().count() == 1,
            "{said}"
        );
        assert!((29..60).contains(&took.as_secs()), "{took:?}");
    }
    // The container's processes are killed nevertheless. The next `delete` removes the rest, once
    // systemd replies again.
    c.wait_dead();
    assert_eq!(c.root_entries(), [c.id.as_str()]);
    systemd.behave(Manner::Well);
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
}

#[test]
fn all_rules_allowed_is_the_policy_auto() {
    let (mut c, systemd) = scoped!(Manner::Well);
    c.edit(|j| j["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]));
    create(&c).ok();
    let property = |name| systemd.property("StartTransientUnit", name);
    assert_eq!(property("DevicePolicy"), ["auto"]);
    assert_eq!(property("DeviceAllow"), [Value::Array(Vec::new())]);
}

#[test]
fn the_two_flags_exclude_each_other() {
    let (c, _systemd) = scoped!(Manner::Well);
    c.make(
        "create",
        &["--systemd-cgroup", "--cgroup-manager", "cgroupfs"],
    )
    .exits(1)
    .says("--systemd-cgroup and --cgroup-manager exclude each other");
    c.make(
        "create",
        &["--systemd-cgroup", "--cgroup-manager", "systemd"],
    )
    .ok();
}

/// Runs `update` with these resources.
fn update(c: &Container, resources: &Value) -> crate::harness::Output {
    let file = c.scratch().join("resources.json");
    std::fs::write(&file, resources.to_string()).unwrap();
    c.runtime(&["update", "--resources", file.to_str().unwrap(), &c.id])
}

#[test]
fn an_update_sets_properties_without_the_flag_or_changes_nothing() {
    let (c, systemd) = scoped!(Manner::Well);
    create(&c).ok();
    let file = c
        .cgroup()
        .parent()
        .unwrap()
        .join(unit(&c))
        .join("cgroup.max.depth");
    let depth = || std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let resources = |depth: &str, major: u32| {
        json!({
            "unified": {"cgroup.max.depth": depth},
            "devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": major, "minor": 7, "access": "r"},
            ],
        })
    };
    update(&c, &json!({"unified": {"cgroup.max.depth": "5"}})).ok();
    // A resource that has no systemd property needs no call to systemd.
    assert_eq!(systemd.members(), ["StartTransientUnit"]);
    assert_eq!(depth(), "5");
    update(&c, &resources("6", 42)).ok();
    let (member, arguments) = systemd.calls().pop().unwrap();
    assert_eq!(member, "SetUnitProperties");
    assert_eq!(
        (&arguments[0], &arguments[1]),
        (&json!(unit(&c)), &json!(true))
    );
    let devices = systemd.property("SetUnitProperties", "DeviceAllow");
    assert_eq!(devices[0], json!([]));
    assert!(
        devices[1]
            .as_array()
            .unwrap()
            .contains(&json!(["/dev/char/42:7", "r"]))
    );
    assert_eq!(depth(), "6");
    systemd.behave(Manner::Refusing("PropertyReadOnly", "Not now."));
    update(&c, &resources("7", 43))
        .exits(1)
        .says(&format!(
            "set the limits of systemd unit {}: Not now.",
            unit(&c)
        ))
        .one_line();
    assert_eq!(depth(), "6");
    systemd.behave(Manner::Well);
}

#[test]
fn a_signal_ends_the_wait_for_systemd_and_nothing_is_left() {
    let (c, systemd) = scoped!(Manner::Slowly(Duration::from_secs(10)));
    let mut command = c.command(&["--systemd-cgroup", "create", "--bundle"]);
    command.arg(c.dir()).arg(&c.id);
    command.stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    crate::harness::eventually("systemd is asked", || !systemd.calls().is_empty());
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let begin = Instant::now();
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    let status = crate::harness::wait_for(&mut child);
    assert_eq!(status.code(), Some(128 + 15));
    assert!(begin.elapsed() < Duration::from_secs(8));
    assert_eq!(c.root_entries(), Vec::<String>::new());
    systemd.behave(Manner::Well);
    // The stand-in still handles the call. Like systemd, it finds no process to move and creates
    // no scope.
    crate::harness::eventually("the stand-in is done", || systemd.idle());
    c.assert_nothing_left();
}

/// A uid that no machine uses.
const USER: u32 = 61_235;

#[test]
fn a_users_own_instance_is_asked_and_moves_processes_that_the_user_may_not() {
    let Some((c, systemd)) = of_user(Manner::Well) else {
        return;
    };
    create(&c).ok();
    assert_eq!(
        systemd.property("StartTransientUnit", "Slice"),
        ["user.slice"]
    );
    // A user's manager may not load BPF programs, so it gets no device rules.
    assert_eq!(
        systemd.property("StartTransientUnit", "DevicePolicy"),
        Vec::<Value>::new()
    );
    let path = kernel::cgroup_of(c.pid());
    assert!(path.ends_with(&unit(&c)), "{path}");
    c.start().ok();
    let file = c.dir().join("exec.pid");
    c.exec_with(
        &["--detach", "--pid-file", file.to_str().unwrap()],
        &["/bin/sleep", "1000"],
    )
    .ok();
    let pid = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    crate::harness::adopt(pid);
    assert_eq!(kernel::cgroup_of(pid), path);
    let (member, arguments) = systemd.calls().pop().unwrap();
    assert_eq!(member, "AttachProcessesToUnit");
    // systemd moves the intermediate process, which then starts the exec process in the cgroup.
    assert_eq!(arguments[0], json!(unit(&c)));
    assert_eq!(arguments[1], json!("/"));
    assert_eq!(arguments[2].as_array().unwrap().len(), 1);
    assert_ne!(arguments[2][0], json!(pid));
    c.runtime(&["pause", &c.id]).ok();
    assert_eq!(c.status(), "paused");
    c.runtime(&["resume", &c.id]).ok();
    c.delete(&["--force"]).ok();
    assert_eq!(systemd.members().last().unwrap(), "ResetFailedUnit");
    c.assert_nothing_left();
}
