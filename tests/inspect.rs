//! inspect: what it prints of hand-made containers, against the kernel's own records; differences
//! that somebody made behind the runtime's back; hostile names.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Container, has_strace, kernel};
use crate::lsm::Profile;

/// What inspect prints as JSON.
fn inspected(c: &Container) -> Value {
    let output = c.runtime(&["inspect", "--json", &c.id]);
    serde_json::from_str(&output.ok().stdout()).unwrap()
}

/// An entry of a section. Panics if there is none.
fn entry<'a>(inspected: &'a Value, section: &str, name: &str) -> &'a Value {
    let entries = inspected[section].as_array().unwrap();
    let found = entries.iter().find(|entry| entry["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {section}: {entries:#?}"))
}

/// The entries that differ, as `SECTION NAME`.
fn differences(inspected: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for (section, entries) in inspected.as_object().unwrap() {
        for entry in entries.as_array().into_iter().flatten() {
            if entry["differs"] == true {
                all.push(format!("{section} {}", entry["name"].as_str().unwrap()));
            }
        }
    }
    assert_eq!(inspected["differs"], !all.is_empty());
    all
}

/// Runs a program in the mount namespace of init, as root of the host could.
fn in_mounts_of(pid: i32, args: &[&str]) {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--mount=/proc/{pid}/ns/mnt"))
        .args(args);
    let status = command.status().unwrap();
    assert!(status.success(), "{args:?}");
}

/// The kernel's names of the capabilities of a set, by capsh's numbers.
fn bits(entry: &Value) -> Vec<String> {
    let text = entry["actual"].as_str().unwrap();
    let names = text.split(' ').filter(|name| *name != "none");
    names.map(str::to_owned).collect()
}

#[test]
fn a_running_container_is_as_the_kernel_says_and_nothing_differs() {
    let mut c = container!();
    c.run_detached().ok();
    let inspected = inspected(&c);
    assert_eq!(differences(&inspected), [""; 0]);
    assert_eq!(inspected["status"], "running");
    let pid = c.pid();
    assert_eq!(inspected["pid"], pid);
    for name in ["mnt", "net", "ipc", "uts", "cgroup", "pid"] {
        let actual = entry(&inspected, "namespaces", name)["actual"].clone();
        let link = kernel::namespace(pid, name);
        let number = link
            .trim_start_matches(&format!("{name}:["))
            .trim_end_matches(']');
        assert_eq!(actual, format!("{number} its own"));
    }
    let user = entry(&inspected, "namespaces", "user")["actual"]
        .as_str()
        .unwrap();
    assert!(!user.ends_with("its own"), "{user}");
    for (set, field) in [
        ("bounding", "CapBnd"),
        ("effective", "CapEff"),
        ("permitted", "CapPrm"),
        ("inheritable", "CapInh"),
        ("ambient", "CapAmb"),
    ] {
        let mask = u64::from_str_radix(&kernel::status(pid, field), 16).unwrap();
        let names = bits(entry(&inspected, "capabilities", set));
        assert_eq!(names.len() as u32, mask.count_ones(), "{set}");
    }
    let cgroup = entry(&inspected, "limits", "cgroup")["actual"].clone();
    assert_eq!(cgroup, json!(c.cgroup()));
    for mount in kernel::mounts(pid) {
        let masked = ["/proc/", "/sys/firmware"];
        if masked.iter().any(|prefix| mount.target.starts_with(prefix)) {
            continue;
        }
        let shown = entry(&inspected, "mounts", &mount.target)["actual"]
            .as_str()
            .unwrap();
        let expected = format!("{} {} ", mount.fstype, mount.options.join(","));
        assert!(shown.starts_with(&expected), "{shown}: {expected}");
    }
    let keys = entry(&inspected, "paths", "/proc/keys")["actual"].clone();
    assert_eq!(keys, "masked by the null device");
    assert_eq!(
        entry(&inspected, "paths", "/proc/sys")["actual"],
        "read-only"
    );
}

#[test]
fn ids_and_maps_of_a_user_namespace_are_those_of_the_container() {
    let mut c = container!();
    c.user_namespace();
    c.edit(|j| j["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9, 10]}));
    c.run_detached().ok();
    let inspected = inspected(&c);
    assert_eq!(differences(&inspected), [""; 0]);
    for (name, value) in [("uid", "7"), ("gid", "8"), ("groups", "10 9")] {
        assert_eq!(entry(&inspected, "ids", name)["actual"], value, "{name}");
    }
    let map = fs::read_to_string(format!("/proc/{}/uid_map", c.pid())).unwrap();
    let shown = entry(&inspected, "ids", "uid_map")["actual"]
        .as_str()
        .unwrap();
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(words(shown), words(&map));
    let user = entry(&inspected, "namespaces", "user")["actual"]
        .as_str()
        .unwrap();
    assert!(user.ends_with("its own"), "{user}");
}

#[test]
fn a_filter_is_shown_in_short_with_its_number() {
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["chmod", "fchmod"], "action": "SCMP_ACT_ERRNO"}],
        });
    });
    c.create().ok();
    let created = inspected(&c);
    assert_eq!(differences(&created), [""; 0]);
    c.start().ok();
    let running = inspected(&c);
    assert_eq!(differences(&running), [""; 0]);
    let seccomp = entry(&running, "confinement", "seccomp");
    assert_eq!(
        seccomp["asked"],
        "SCMP_ACT_ALLOW, but SCMP_ACT_ERRNO for 2 calls"
    );
    let count = kernel::status(c.pid(), "Seccomp_filters");
    let shown = seccomp["actual"].as_str().unwrap();
    assert!(shown.starts_with(&format!("{count} filter")), "{shown}");
}

#[test]
fn a_filter_that_config_json_asks_for_later_is_a_difference() {
    let mut c = container!();
    c.run_detached().ok();
    c.edit(|j| {
        j["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        j["process"]["capabilities"]["bounding"] = json!([]);
        j["process"]["noNewPrivileges"] = json!(false);
        j["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 7, "hard": 8}]);
        j["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "user"}));
        j["linux"]["maskedPaths"]
            .as_array_mut()
            .unwrap()
            .push(json!("/proc/cmdline"));
        let mounts = j["mounts"].as_array_mut().unwrap();
        let dev = mounts
            .iter_mut()
            .find(|mount| mount["destination"] == "/dev")
            .unwrap();
        dev["options"]
            .as_array_mut()
            .unwrap()
            .extend([json!("noexec"), json!("shared")]);
    });
    let inspected = inspected(&c);
    assert_eq!(
        differences(&inspected),
        [
            "capabilities bounding",
            "confinement no_new_privs",
            "confinement seccomp",
            "mounts /dev",
            "namespaces user",
            "paths /proc/cmdline",
            "rlimits RLIMIT_NOFILE",
        ]
    );
    let dev = entry(&inspected, "mounts", "/dev");
    assert_eq!(dev["note"], "without noexec, shared");
    let text = c.runtime(&["inspect", &c.id]).ok().stdout();
    assert!(text.contains("7 differences"), "{text}");
    assert!(text.contains("! RLIMIT_NOFILE"), "{text}");
}

#[test]
fn a_limit_that_was_changed_in_the_cgroup_is_a_difference() {
    let mut c = container!();
    c.edit(|j| j["linux"]["resources"]["unified"] = json!({"cgroup.max.depth": "5"}));
    c.run_detached().ok();
    let before = inspected(&c);
    assert_eq!(differences(&before), [""; 0]);
    assert_eq!(entry(&before, "limits", "cgroup.max.depth")["actual"], "5");
    fs::write(c.cgroup().join("cgroup.max.depth"), "6").unwrap();
    let after = inspected(&c);
    assert_eq!(differences(&after), ["limits cgroup.max.depth"]);
    let depth = entry(&after, "limits", "cgroup.max.depth");
    assert_eq!(
        (&depth["asked"], &depth["actual"]),
        (&json!("5"), &json!("6"))
    );
}

#[test]
fn limits_have_their_use_beside_them() {
    if !kernel::has_controllers(&["memory", "pids", "cpu", "cpuset"]) {
        return;
    }
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["resources"] = json!({
            "memory": {"limit": 64 << 20, "swap": 96 << 20},
            "pids": {"limit": 20},
            "cpu": {"quota": 50_000, "period": 100_000, "shares": 512, "cpus": "0"},
        });
    });
    c.run_detached().ok();
    let before = inspected(&c);
    assert_eq!(differences(&before), [""; 0], "{before:#}");
    for file in [
        "memory.max",
        "memory.swap.max",
        "pids.max",
        "cpu.max",
        "cpu.weight",
    ] {
        let shown = entry(&before, "limits", file);
        assert_eq!(
            shown["actual"],
            kernel::cgroup_value(&c.cgroup(), file),
            "{file}"
        );
        assert!(shown["note"].as_str().unwrap().contains(" used"), "{shown}");
    }
    let pids = entry(&before, "limits", "pids.max")["note"].clone();
    assert_eq!(pids, "1 used");
    fs::write(c.cgroup().join("pids.max"), "30").unwrap();
    fs::write(c.cgroup().join("memory.high"), "50000000").unwrap();
    assert_eq!(
        differences(&inspected(&c)),
        ["limits pids.max", "limits memory.high"]
    );
}

#[test]
fn a_mask_that_was_unmounted_is_a_difference() {
    let mut c = container!();
    c.run_detached().ok();
    let pid = c.pid();
    in_mounts_of(pid, &["umount", "/proc/keys"]);
    in_mounts_of(pid, &["umount", "/proc/sys"]);
    in_mounts_of(pid, &["umount", "/dev/shm"]);
    in_mounts_of(pid, &["mount", "-t", "tmpfs", "none", "/tmp"]);
    let inspected = inspected(&c);
    assert_eq!(
        differences(&inspected),
        [
            "mounts /dev/shm",
            "mounts /tmp",
            "paths /proc/keys",
            "paths /proc/sys"
        ]
    );
    assert_eq!(
        entry(&inspected, "paths", "/proc/keys")["actual"],
        "visible"
    );
    assert_eq!(
        entry(&inspected, "paths", "/proc/sys")["actual"],
        "writable"
    );
    let shm = entry(&inspected, "mounts", "/dev/shm");
    assert_eq!(
        (&shm["actual"], &shm["note"]),
        (&Value::Null, &json!("not mounted"))
    );
    assert_eq!(
        entry(&inspected, "mounts", "/tmp")["note"],
        "not in config.json"
    );
}

#[test]
fn device_rules_of_an_update_are_a_difference() {
    let mut c = container!();
    c.run_detached().ok();
    assert_eq!(differences(&inspected(&c)), [""; 0]);
    let file = c.scratch().join("resources.json");
    fs::write(&file, r#"{"devices": [{"allow": true, "access": "rwm"}]}"#).unwrap();
    c.runtime(&["update", "-r", file.to_str().unwrap(), &c.id])
        .ok();
    let inspected = inspected(&c);
    assert_eq!(differences(&inspected), ["devices allowed"]);
}

#[test]
fn a_profile_that_was_removed_is_a_difference() {
    let mut c = container!();
    let Some(profile) = Profile::load(&c, "inspect") else {
        return;
    };
    c.edit(|j| j["process"]["apparmorProfile"] = json!(profile.name));
    c.create().ok();
    assert_eq!(differences(&inspected(&c)), [""; 0]);
    c.start().ok();
    let before = inspected(&c);
    assert_eq!(differences(&before), [""; 0]);
    assert_eq!(
        entry(&before, "confinement", "apparmor")["actual"],
        profile.enforced()
    );
    drop(profile);
    let after = inspected(&c);
    assert_eq!(differences(&after), ["confinement apparmor"]);
    assert_eq!(
        entry(&after, "confinement", "apparmor")["actual"],
        "unconfined"
    );
}

#[test]
fn names_that_a_container_writes_steer_no_terminal() {
    let mut c = container!();
    c.capabilities(&["bounding", "effective", "permitted"], &["CAP_SYS_ADMIN"]);
    let name = "/tmp/a\nroot\u{1b}[2J\u{9b}31mb\u{202e}";
    let script = "d=$(printf '/tmp/a\\nroot\\033[2J\\302\\23331mb\\342\\200\\256'); \
        mkdir \"$d\" && mount -t tmpfs none \"$d\"; \
        printf 'x\\033]0;y\\007' >/proc/self/comm; echo up >/tmp/up; sleep 1000";
    c.script(script);
    c.edit(|j| j["root"]["readonly"] = json!(false));
    c.run_detached().ok();
    c.wait_file("/tmp/up");
    let text = c.runtime(&["inspect", &c.id]).ok().stdout();
    let is_hostile = |ch: char| ch != '\n' && (ch.is_control() || ch == '\u{202e}');
    assert!(!text.contains(is_hostile), "{text:?}");
    assert!(
        text.contains("\n! /tmp/a\\nroot\\u{1b}[2J\\u{9b}31mb\\u{202e}"),
        "{text}"
    );
    let json = c.runtime(&["inspect", "--json", &c.id]).ok().stdout();
    assert!(json.is_ascii() && !json.contains(is_hostile), "{json:?}");
    let parsed: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(differences(&parsed), [format!("mounts {name}")]);
}

#[test]
fn a_namespace_of_another_container_is_named() {
    let mut first = container!();
    first.run_detached().ok();
    let mut second = container!();
    let pid = first.pid();
    second.join_namespace("network", &format!("/proc/{pid}/ns/net"));
    // Both in the root of the first.
    let root = first.root();
    let bundle = second.dir().to_owned();
    let run = |args: &[&str]| {
        let mut all = vec!["--root", root.to_str().unwrap()];
        all.extend(args);
        second.finish(second.bare_command(&all))
    };
    run(&[
        "run",
        "-d",
        "--bundle",
        bundle.to_str().unwrap(),
        &second.id,
    ])
    .ok();
    let output = run(&["inspect", "--json", &second.id]);
    let inspected: Value = serde_json::from_str(&output.ok().stdout()).unwrap();
    let net = entry(&inspected, "namespaces", "net");
    let shown = net["actual"].as_str().unwrap();
    assert!(
        shown.ends_with(&format!("shared with {}", first.id)),
        "{net}"
    );
    assert_eq!(net["asked"], format!("/proc/{pid}/ns/net"));
    assert_eq!(differences(&inspected), [""; 0]);
    run(&["delete", "--force", &second.id]).ok();
}

#[test]
fn each_state_has_what_is_in_force_then() {
    let mut c = container!();
    c.create().ok();
    let created = inspected(&c);
    assert_eq!(created["status"], "created");
    assert_eq!(differences(&created), [""; 0], "{created:#}");
    c.start().ok();
    c.runtime(&["pause", &c.id]).ok();
    let paused = inspected(&c);
    assert_eq!(paused["status"], "paused");
    assert_eq!(differences(&paused), [""; 0]);
    c.runtime(&["resume", &c.id]).ok();
    c.kill("KILL").ok();
    c.wait_dead();
    let stopped = inspected(&c);
    assert_eq!(
        (&stopped["status"], &stopped["pid"]),
        (&json!("stopped"), &json!(0))
    );
    assert_eq!(differences(&stopped), [""; 0]);
    assert_eq!(
        entry(&stopped, "capabilities", "bounding")["actual"],
        Value::Null
    );
    let text = c.runtime(&["inspect", &c.id]).ok().stdout();
    assert!(text.contains("Nothing is in force"), "{text}");
}

#[test]
fn without_its_config_a_container_is_shown_and_not_compared() {
    let mut c = container!();
    c.run_detached().ok();
    let config = c.dir().join("config.json");
    let text = fs::read(&config).unwrap();
    fs::remove_file(&config).unwrap();
    let inspected = inspected(&c);
    fs::write(&config, text).unwrap();
    assert_eq!(differences(&inspected), [""; 0]);
    let problem = inspected["unreadable"].as_str().unwrap();
    assert!(problem.contains("config.json"), "{problem}");
    let uid = entry(&inspected, "ids", "uid");
    assert_eq!((&uid["asked"], &uid["actual"]), (&Value::Null, &json!("0")));
}

#[test]
fn hooks_are_listed_and_have_run_or_not() {
    let mut c = container!();
    let hook = |name: &str| json!([{"path": "/bin/true", "args": ["true", name], "timeout": 9}]);
    c.edit(|j| {
        j["hooks"] = json!({
            "createRuntime": hook("a"), "poststart": hook("b"), "poststop": hook("c"),
        });
    });
    c.create().ok();
    let created = inspected(&c);
    let run = |inspected: &Value, name: &str| entry(inspected, "hooks", name)["actual"].clone();
    assert_eq!(run(&created, "createRuntime[0]"), "has run");
    assert_eq!(run(&created, "poststart[0]"), "has not run yet");
    let asked = &entry(&created, "hooks", "createRuntime[0]")["asked"];
    assert_eq!(asked, "/bin/true a, within 9 s");
    c.start().ok();
    let running = inspected(&c);
    assert_eq!(run(&running, "poststart[0]"), "has run");
    assert_eq!(run(&running, "poststop[0]"), "has not run yet");
}

#[test]
fn a_container_that_is_not_there_is_an_error() {
    let c = container!();
    fs::create_dir(c.root()).unwrap();
    c.runtime(&["inspect", &c.id])
        .exits(1)
        .says("container does not exist");
}

#[test]
fn a_path_that_is_not_answered_for_is_given_up() {
    let mut c = container!();
    if !has_strace() {
        return;
    }
    c.run_detached().ok();
    // The child that looks at a path hangs as if a file system of the container never answered.
    let mut command = Command::new("strace");
    command
        .args(["-f", "-o", "/dev/null", "-e", "trace=statx"])
        .args(["-e", "inject=statx:delay_enter=20000000:when=1"])
        .arg(c.program())
        .arg("--root")
        .arg(c.root())
        .args(["inspect", "--json", &c.id]);
    let output = c.finish(command);
    let inspected: Value = serde_json::from_str(&output.ok().stdout()).unwrap();
    let paths = inspected["paths"].as_array().unwrap();
    let given_up = |entry: &Value| {
        entry["note"]
            .as_str()
            .is_some_and(|note| note.starts_with("ETIMEDOUT"))
    };
    assert!(paths.iter().any(given_up), "{paths:#?}");
}

#[test]
fn a_mount_that_mounts_add_made_is_no_difference() {
    let mut c = container!();
    c.run_detached().ok();
    let file = c.scratch().join("mounts.json");
    let mount = r#"[{"destination": "/tmp/added", "type": "tmpfs", "source": "tmpfs"}]"#;
    fs::write(&file, mount).unwrap();
    c.edit(|j| j["root"]["readonly"] = json!(false));
    fs::create_dir(c.rootfs("tmp/added")).unwrap();
    c.runtime(&["mounts", "add", &c.id, file.to_str().unwrap()])
        .ok();
    let inspected = inspected(&c);
    assert_eq!(differences(&inspected), [""; 0]);
    let added = entry(&inspected, "mounts", "/tmp/added");
    assert_eq!(added["note"], "added by `mounts add`");
}
