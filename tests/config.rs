//! A bad config.json: one line that names the place, exit code 1, nothing left. Unknown properties
//! are accepted. Good configurations are in the files of their features.

use std::fs;

use serde_json::{Value, json};

use crate::harness::Container;

/// Checks that create fails with one line that contains a text, and leaves nothing.
#[track_caller]
fn refused(c: &mut Container, text: &str) {
    c.create().exits(1).one_line().says(text);
    c.assert_nothing_left();
}

/// Changes a fresh config, and checks that the error of create names the place.
#[track_caller]
fn place(text: &str, change: impl FnOnce(&mut Value)) {
    let mut c = container!();
    c.edit(change);
    refused(&mut c, text);
}

#[test]
fn a_missing_bundle_or_config_is_named() {
    let mut c = container!();
    let config = c.dir().join("config.json");
    fs::remove_file(&config).unwrap();
    refused(&mut c, "config.json");
    fs::create_dir(&config).unwrap();
    refused(&mut c, "config.json");
    fs::remove_dir(&config).unwrap();
    nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(&mut c, "config.json");
    let mut command = c.command(&["create", "--bundle", "/missing/bundle"]);
    command.arg(&c.id);
    c.finish(command)
        .exits(1)
        .one_line()
        .says("/missing/bundle");
}

#[test]
fn text_that_is_no_json_is_refused() {
    let mut c = container!();
    for text in [
        "",
        "{",
        "null",
        "[]",
        "{\"ociVersion\":",
        "\u{feff}",
        "{} x",
        &"[".repeat(10_000),
    ] {
        fs::write(c.dir().join("config.json"), text).unwrap();
        refused(&mut c, "config.json");
    }
    let mut good = serde_json::to_string(c.config()).unwrap();
    good.push_str(" trailing");
    fs::write(c.dir().join("config.json"), good).unwrap();
    refused(&mut c, "config.json");
}

#[test]
fn a_value_of_the_wrong_type_is_named_by_its_place() {
    place("process.user.uid", |j| {
        j["process"]["user"]["uid"] = json!("zero")
    });
    place("process.args", |j| j["process"]["args"] = json!("sh"));
    place("mounts[2].destination", |j| {
        j["mounts"][2]["destination"] = json!(7)
    });
    place("linux.namespaces[1].type", |j| {
        j["linux"]["namespaces"][1]["type"] = json!("network2")
    });
    place("process.user.uid", |j| {
        j["process"]["user"]["uid"] = json!(4_294_967_296_u64)
    });
    place("process.noNewPrivileges", |j| {
        j["process"]["noNewPrivileges"] = json!("yes")
    });
}

#[test]
fn a_version_that_is_missing_or_of_another_major_is_refused() {
    for version in [
        json!(null),
        json!(""),
        json!("2.0.0"),
        json!("abc"),
        json!("0.9.0"),
    ] {
        place("ociVersion", |j| {
            j["ociVersion"] = version.clone();
            if version.is_null() {
                j.as_object_mut().unwrap().remove("ociVersion");
            }
        });
    }
}

#[test]
fn newer_minor_versions_and_candidates_are_accepted() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    for version in ["1.0.0", "1.3.0", "1.9.7", "1.3.0-rc.1", "1.2.0+dev"] {
        c.edit(|j| j["ociVersion"] = json!(version));
        c.run().ok();
    }
}

#[test]
fn unknown_properties_are_accepted() {
    let mut c = container!();
    c.edit(|j| {
        j["unheardOf"] = json!({"a": [1]});
        j["process"]["unheardOf"] = json!(true);
        j["linux"]["resources"]["unheardOf"] = json!(1);
        j["mounts"][0]["unheardOf"] = json!("x");
        j["windows"] = json!({"layerFolders": ["x"]});
    });
    assert_eq!(c.output_of("echo fine"), "fine\n");
}

#[test]
fn rules_that_need_only_the_config_are_checked_before_anything_is_touched() {
    place("process.args", |j| j["process"]["args"] = json!([]));
    place("process.cwd", |j| j["process"]["cwd"] = json!("relative"));
    place("process.cwd", |j| j["process"]["cwd"] = json!(""));
    place("root", |j| {
        j.as_object_mut().unwrap().remove("root");
    });
    place("process.rlimits[0]", |j| {
        j["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 5}]);
    });
    place("process.rlimits[1]", |j| {
        let limit = json!({"type": "RLIMIT_NOFILE", "soft": 5, "hard": 5});
        j["process"]["rlimits"] = json!([limit, limit]);
    });
    place("process.oomScoreAdj", |j| {
        j["process"]["oomScoreAdj"] = json!(1001)
    });
    place("linux.namespaces[6]", |j| {
        j["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "pid"}));
    });
    place("linux.uidMappings", |j| {
        j["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    });
    place("linux.devices[0]", |j| {
        j["linux"]["devices"] = json!([{"path": "relative", "type": "c", "major": 1, "minor": 3}]);
    });
    place("linux.rootfsPropagation", |j| {
        j["linux"]["rootfsPropagation"] = json!("sideways")
    });
    place("linux.sysctl", |j| {
        j["linux"]["sysctl"] = json!({"net/../kernel.panic": "1"})
    });
    place("process.env[2]", |j| {
        j["process"]["env"]
            .as_array_mut()
            .unwrap()
            .push(json!("no equals sign"));
    });
}

#[test]
fn all_violations_are_reported_at_once() {
    let mut c = container!();
    c.edit(|j| {
        j["process"]["cwd"] = json!("relative");
        j["process"]["args"] = json!([]);
        j["linux"]["rootfsPropagation"] = json!("sideways");
    });
    c.create()
        .exits(1)
        .says("process.cwd")
        .says("process.args")
        .says("linux.rootfsPropagation");
    c.assert_nothing_left();
}

#[test]
fn a_violation_is_reported_once() {
    let once = |text: &str, change: &dyn Fn(&mut Value)| {
        let mut c = container!();
        c.edit(change);
        let output = c.create();
        output.exits(1).one_line();
        let stderr = output.stderr();
        assert_eq!(stderr.matches(text).count(), 1, "{stderr}");
    };
    once("linux.rootfsPropagation", &|j| {
        j["linux"]["rootfsPropagation"] = json!("sideways");
    });
    once("process.args", &|j| {
        j["process"]["args"] = json!(["a\u{0}b"])
    });
    once("process.args", &|j| j["process"]["args"] = json!([""]));
    once("mounts[0].type", &|j| {
        j["mounts"][0].as_object_mut().unwrap().remove("type");
    });
}

#[test]
fn a_required_field_that_is_missing_is_named() {
    place("config.json: process.rlimits[0].soft: is missing", |j| {
        j["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": 1024}]);
    });
    place("config.json: linux.devices[0].minor: is missing", |j| {
        j["linux"]["devices"] = json!([{"type": "c", "path": "/dev/x", "major": 1}]);
    });
    for (field, item, missing) in [
        ("hugepageLimits", json!({"pageSize": "2MB"}), "limit"),
        ("devices", json!({"access": "rwm"}), "allow"),
    ] {
        let text = format!("config.json: linux.resources.{field}[0].{missing}: is missing");
        place(&text, |j| j["linux"]["resources"][field] = json!([item]));
    }
    let list = "throttleReadBpsDevice";
    let text = format!("config.json: linux.resources.blockIO.{list}[0].rate: is missing");
    place(&text, |j| {
        j["linux"]["resources"]["blockIO"][list] = json!([{"major": 8, "minor": 0}]);
    });
}

#[test]
fn an_error_is_within_what_conmon_reads_however_many_warnings_there_are() {
    let mut c = container!();
    c.args(&["/no/such/program"]);
    c.edit(|j| {
        let mounts = j["mounts"].as_array_mut().unwrap();
        for number in 0..300 {
            mounts.push(json!({
                "destination": format!("/tmp/{number}"), "type": "bind", "source": "/etc",
                "options": ["bind", "size=1"],
            }));
        }
    });
    let stderr = c.run().exits(1).stderr();
    let read = &stderr.as_bytes()[..stderr.len().min(8191)];
    let read = String::from_utf8_lossy(read);
    assert!(read.contains("no such file or directory"), "{read}");
    assert!(read.contains(" more warnings "), "{read}");
}

#[test]
fn a_rootfs_that_is_missing_or_no_directory_is_named() {
    let mut c = container!();
    c.edit(|j| j["root"]["path"] = json!("nowhere"));
    refused(&mut c, "nowhere");
    c.edit(|j| j["root"]["path"] = json!("config.json"));
    refused(&mut c, "config.json");
}

#[test]
fn an_unknown_option_of_a_bind_mount_is_refused_with_its_place() {
    place("mounts[6]", |j| {
        let mount = json!({"destination": "/x", "type": "bind", "source": "/etc", "options": ["bind", "unheardof"]});
        j["mounts"].as_array_mut().unwrap().push(mount);
    });
}

#[test]
fn an_option_of_a_filesystem_on_a_bind_mount_is_a_warning() {
    let mut c = container!();
    c.edit(|j| {
        let mount = json!({"destination": "/x", "type": "bind", "source": "/etc", "options": ["bind", "mode=755"]});
        j["mounts"].as_array_mut().unwrap().push(mount);
    });
    let log = c.scratch().join("log");
    let flags = ["--debug", "--log", log.to_str().unwrap()];
    let mut command = c.bare_command(&flags);
    command.args(["--root", c.root().to_str().unwrap(), "create", "--bundle"]);
    command.arg(c.dir()).arg(&c.id);
    c.finish(command).ok();
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.contains("mounts[6].options[1]"), "{text}");
}

#[test]
fn an_unknown_type_of_filesystem_is_refused_with_its_place() {
    place("mounts[6]", |j| {
        let mount = json!({"destination": "/x", "type": "unheardoffs", "source": "x"});
        j["mounts"].as_array_mut().unwrap().push(mount);
    });
}

#[test]
fn a_rootfs_by_an_absolute_path_works() {
    let mut c = container!();
    let path = c.dir().join("rootfs");
    c.edit(|j| j["root"]["path"] = json!(path));
    assert_eq!(c.output_of("echo fine"), "fine\n");
}

#[test]
fn a_resctrl_group_is_refused_where_none_is_mounted() {
    let mut c = container!();
    if std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
        return crate::harness::skipped("resctrl is mounted");
    }
    c.edit(|j| j["linux"]["intelRdt"] = json!({"l3CacheSchema": "L3:0=f"}));
    c.create()
        .exits(1)
        .says("config.json: linux.intelRdt: no resctrl file system is mounted at /sys/fs/resctrl")
        .one_line();
    c.assert_nothing_left();
    c.edit(|j| j["linux"]["intelRdt"] = json!({}));
    c.run_detached().ok();
}

#[test]
fn the_time_grows_with_the_entries_and_not_with_their_square() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    c.edit(|j| {
        let env: Vec<String> = (0..40_000).map(|index| format!("V{index}=1")).collect();
        j["process"]["env"] = json!(env);
    });
    let begun = std::time::Instant::now();
    c.run().ok();
    let rule = |index: u64| {
        json!({"names": ["personality"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": index, "op": "SCMP_CMP_EQ"}]})
    };
    c.edit(|j| {
        let rules: Vec<Value> = (0..40_000).map(rule).collect();
        j["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules});
    });
    c.run()
        .exits(1)
        .one_line()
        .says("the kernel takes 4096 at most");
    c.assert_nothing_left();
    // Enough for a debug build on a busy machine. Quadratic code took minutes.
    assert!(begun.elapsed().as_secs() < 30);
}
