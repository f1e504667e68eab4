//! AppArmor profiles and SELinux labels, and which of them a host without these modules refuses.
//! The VM of `integration/vm` has AppArmor. If it is booted with
//! `security=selinux selinux=1 enforcing=0`, it has SELinux.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{Container, kernel, skipped};

pub(crate) fn apparmor_is_on() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

pub(crate) fn selinux_is_on() -> bool {
    std::path::Path::new("/sys/fs/selinux/enforce").exists()
}

/// A loaded profile that allows everything but writing to /tmp/denied. It is unloaded on drop.
pub(crate) struct Profile {
    pub(crate) name: String,
    file: std::path::PathBuf,
}

impl Profile {
    /// Loads a profile. If that is impossible, returns None and counts the test as skipped.
    pub(crate) fn load(c: &Container, name: &str) -> Option<Profile> {
        if !apparmor_is_on() {
            skipped("AppArmor is off");
            return None;
        }
        let name = format!("orlop-{}-{}-{name}", std::process::id(), c.id);
        let file = c.scratch().join(&name);
        let rules = "file, capability, network, signal, ptrace, mount, unix, deny /tmp/denied w,";
        let text =
            format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{ {rules} }}\n");
        fs::write(&file, text).unwrap();
        let profile = Profile { name, file };
        if !profile.parser("--replace") {
            skipped("apparmor_parser loads no profile");
            return None;
        }
        Some(profile)
    }

    fn parser(&self, action: &str) -> bool {
        let mut command = Command::new("apparmor_parser");
        command.args(["--skip-cache", action]).arg(&self.file);
        command
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    pub(crate) fn enforced(&self) -> String {
        format!("{} (enforce)", self.name)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parser("--remove");
    }
}

/// Returns the label that confines a process.
fn label(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
    text.trim_end_matches(['\0', '\n']).to_owned()
}

pub(crate) const DENIED: &str = "echo x >/tmp/denied 2>/dev/null && echo written || echo denied";

#[test]
fn a_profile_confines_the_process_and_what_it_runs() {
    let mut c = container!();
    let Some(profile) = Profile::load(&c, "init") else {
        return;
    };
    c.edit(|j| j["process"]["apparmorProfile"] = json!(profile.name));
    for no_new_privs in [false, true] {
        c.edit(|j| j["process"]["noNewPrivileges"] = json!(no_new_privs));
        let printed = c.output_of(&format!("cat /proc/self/attr/current; {DENIED}"));
        assert_eq!(printed, format!("{}\ndenied\n", profile.enforced()));
    }
}

#[test]
fn a_created_container_takes_the_profile_when_it_is_started() {
    let mut c = container!();
    let Some(profile) = Profile::load(&c, "created") else {
        return;
    };
    c.edit(|j| j["process"]["apparmorProfile"] = json!(profile.name));
    c.create().ok();
    assert_eq!(label(c.pid()), "unconfined");
    c.start().ok();
    assert_eq!(label(c.pid()), profile.enforced());
}

#[test]
fn exec_takes_the_profile_of_the_config_unless_a_flag_names_another() {
    let mut c = container!();
    let Some(profile) = Profile::load(&c, "one") else {
        return;
    };
    let Some(other) = Profile::load(&c, "other") else {
        return;
    };
    c.edit(|j| j["process"]["apparmorProfile"] = json!(profile.name));
    c.run_detached().ok();
    let current = ["cat", "/proc/self/attr/current"];
    let enforced = |profile: &Profile| profile.enforced() + "\n";
    assert_eq!(c.exec(&current).ok().stdout(), enforced(&profile));
    let exec = |flags: &[&str]| c.exec_with(flags, &current).ok().stdout();
    assert_eq!(exec(&["--apparmor", ""]), enforced(&profile));
    assert_eq!(exec(&["--apparmor", &other.name]), enforced(&other));
    assert_eq!(exec(&["--apparmor", "unconfined"]), "unconfined\n");
    let file = c.scratch().join("process.json");
    let mut process = json!({"args": current, "cwd": "/", "user": {"uid": 1000, "gid": 1000}, "env": ["PATH=/bin"]});
    fs::write(&file, process.to_string()).unwrap();
    let by_file = || c.runtime(&["exec", "--process", file.to_str().unwrap(), &c.id]);
    assert_eq!(by_file().ok().stdout(), enforced(&profile));
    process["apparmorProfile"] = json!(other.name);
    fs::write(&file, process.to_string()).unwrap();
    assert_eq!(by_file().ok().stdout(), enforced(&other));
    c.exec_with(&["--apparmor", "orlop-missing"], &current)
        .exits(255)
        .says("--apparmor")
        .says("orlop-missing")
        .says("`/proc/self/attr/apparmor/exec`: it is not loaded")
        .one_line();
}

#[test]
fn root_of_a_user_namespace_is_confined_too() {
    let mut c = container!();
    let Some(profile) = Profile::load(&c, "userns") else {
        return;
    };
    c.edit(|j| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        j["linux"]["uidMappings"] = map.clone();
        j["linux"]["gidMappings"] = map;
        let namespaces = j["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        j["process"]["apparmorProfile"] = json!(profile.name);
    });
    c.run_detached().ok();
    assert_eq!(label(c.pid()), profile.enforced());
    assert_eq!(
        c.exec_output("cat /proc/self/attr/current"),
        profile.enforced() + "\n"
    );
}

#[test]
fn a_profile_that_is_not_loaded_is_an_error_that_leaves_nothing() {
    let mut c = container!();
    if !apparmor_is_on() {
        return skipped("AppArmor is off");
    }
    c.edit(|j| j["process"]["apparmorProfile"] = json!("orlop-missing"));
    c.create()
        .exits(1)
        .says("config.json: process.apparmorProfile")
        .says("it is not loaded")
        .one_line();
    c.assert_nothing_left();
}

#[test]
fn where_apparmor_is_off_any_profile_but_unconfined_is_refused() {
    let mut c = container!();
    if apparmor_is_on() {
        return skipped("AppArmor is on");
    }
    c.edit(|j| j["process"]["apparmorProfile"] = json!("docker-default"));
    c.create()
        .exits(1)
        .says("config.json: process.apparmorProfile: AppArmor is off")
        .one_line();
    c.assert_nothing_left();
    c.edit(|j| j["process"]["apparmorProfile"] = json!("unconfined"));
    c.run_detached().ok();
    c.exec_with(&["--apparmor", "unconfined"], &["/bin/true"])
        .ok();
    c.exec_with(&["--apparmor", "p"], &["/bin/true"])
        .exits(255)
        .says("--apparmor: AppArmor is off")
        .one_line();
}

#[test]
fn where_selinux_is_off_a_process_label_is_refused_and_a_mount_label_is_not() {
    let mut c = container!();
    if selinux_is_on() {
        return skipped("SELinux is on");
    }
    c.edit(|j| j["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0"));
    c.create()
        .exits(1)
        .says("config.json: process.selinuxLabel: SELinux is off")
        .one_line();
    c.assert_nothing_left();
    c.edit(|j| {
        j["process"].as_object_mut().unwrap().remove("selinuxLabel");
        j["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0");
    });
    c.run_detached().ok();
    c.exec_with(&["--process-label", "a:b:c"], &["/bin/true"])
        .exits(255)
        .says("--process-label: SELinux is off")
        .one_line();
}

#[test]
fn an_selinux_label_becomes_that_of_the_process_and_its_files() {
    let mut c = container!();
    if !selinux_is_on() {
        return skipped("SELinux is off");
    }
    // Without a policy the kernel accepts any label for a process, but does not apply it at exec.
    // It accepts no label for a mount.
    let has_policy = fs::read("/sys/fs/selinux/policy").is_ok_and(|policy| !policy.is_empty());
    c.edit(|j| {
        j["process"]["selinuxLabel"] = json!("unlabeled");
        if has_policy {
            j["linux"]["mountLabel"] = json!("system_u:object_r:unlabeled_t:s0");
        }
    });
    c.create().ok();
    let of_next_exec = fs::read_to_string(format!("/proc/{}/attr/exec", c.pid())).unwrap();
    assert!(of_next_exec.contains("unlabeled"), "{of_next_exec}");
    c.start().ok();
    for target in ["/dev", "/dev/pts", "/dev/shm"] {
        let mount = kernel::mount_at(c.pid(), target).unwrap();
        let has_context = mount.line.contains("context=");
        assert_eq!(has_context, has_policy, "{}", mount.line);
    }
    if !has_policy {
        return;
    }
    assert!(label(c.pid()).contains("unlabeled"), "{}", label(c.pid()));
    let of_exec = c.exec(&["cat", "/proc/self/attr/current"]).ok().stdout();
    assert!(of_exec.contains("unlabeled"), "{of_exec}");
    c.exec_with(&["--process-label", "no:such:label"], &["/bin/true"])
        .exits(255)
        .says("--process-label")
        .one_line();
}
