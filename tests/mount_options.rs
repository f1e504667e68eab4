//! Mount options one by one: the flags that each option sets or clears, beside the source's flags.
//! Order, targets, the root and masked paths are in `mounts`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::harness::{Container, kernel};

/// A tmpfs of the host with another tmpfs below, both with the same options. Unmounted on drop.
struct Tree(PathBuf);

impl Tree {
    fn with(c: &Container, options: &str) -> Tree {
        let top = c.scratch().join("tree");
        fs::create_dir(&top).unwrap();
        let tree = Tree(top.clone());
        mount(&["-t", "tmpfs", "-o", "rw", "tmpfs", top.to_str().unwrap()]);
        let below = top.join("below");
        fs::create_dir(&below).unwrap();
        mount(&[
            "-t",
            "tmpfs",
            "-o",
            options,
            "tmpfs",
            below.to_str().unwrap(),
        ]);
        mount(&[
            "-o",
            &format!("remount,bind,{options}"),
            top.to_str().unwrap(),
        ]);
        tree
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .args(["-R", "-l"])
            .arg(&self.0)
            .status();
    }
}

fn mount(args: &[&str]) {
    assert!(Command::new("mount").args(args).status().unwrap().success());
}

/// Every option that sets a flag, the opposite option, and the name of the flag in mountinfo.
const FLAGS: [(&str, &str, &str); 8] = [
    ("ro", "rw", "ro"),
    ("nosuid", "suid", "nosuid"),
    ("nodev", "dev", "nodev"),
    ("noexec", "exec", "noexec"),
    ("nodiratime", "diratime", "nodiratime"),
    ("nosymfollow", "symfollow", "nosymfollow"),
    ("noatime", "relatime", "noatime"),
    ("relatime", "norelatime", "relatime"),
];

#[test]
fn each_word_sets_its_flag_on_the_mount_and_not_below_it() {
    let mut c = container!();
    let tree = Tree::with(&c, "rw");
    for (index, (word, ..)) in FLAGS.iter().enumerate() {
        c.mount(&format!("/m{index}"), "bind", tree.path(), &["rbind", word]);
        c.mount(&format!("/t{index}"), "tmpfs", "tmpfs", &[word]);
    }
    c.run_detached().ok();
    for (index, (word, _, shown)) in FLAGS.iter().enumerate() {
        for place in [format!("/m{index}"), format!("/t{index}")] {
            let mount = kernel::mount_at(c.pid(), &place).unwrap();
            assert!(mount.has(shown), "{word}: {}", mount.line);
        }
        let below = kernel::mount_at(c.pid(), &format!("/m{index}/below")).unwrap();
        assert!(
            *shown == "relatime" || !below.has(shown),
            "{word}: {}",
            below.line
        );
    }
}

#[test]
fn words_that_the_kernel_no_longer_heeds_are_accepted() {
    let mut c = container!();
    let tree = Tree::with(&c, "rw");
    for (index, word) in ["iversion", "noiversion", "mand", "nomand"]
        .iter()
        .enumerate()
    {
        c.mount(&format!("/m{index}"), "bind", tree.path(), &["rbind", word]);
        c.mount(&format!("/t{index}"), "tmpfs", "tmpfs", &[word]);
    }
    c.run_detached().ok();
    for index in 0..4 {
        assert!(kernel::mount_at(c.pid(), &format!("/t{index}")).is_some());
    }
}

#[test]
fn each_opposite_clears_what_the_source_brings_along() {
    let mut c = container!();
    let tree = Tree::with(&c, "ro,nosuid,nodev,noexec,nodiratime,noatime");
    for (index, (_, opposite, _)) in FLAGS.iter().enumerate() {
        c.mount(
            &format!("/m{index}"),
            "bind",
            tree.path(),
            &["rbind", opposite],
        );
    }
    c.mount("/kept", "bind", tree.path(), &["rbind"]);
    c.run_detached().ok();
    let kept = kernel::mount_at(c.pid(), "/kept").unwrap();
    for (index, (word, opposite, shown)) in FLAGS.iter().enumerate() {
        let place = format!("/m{index}");
        let mount = kernel::mount_at(c.pid(), &place).unwrap();
        let below = kernel::mount_at(c.pid(), &format!("{place}/below")).unwrap();
        match *word {
            // relatime is the kernel's default, whatever flags the source has.
            "relatime" => assert!(mount.has("noatime"), "{opposite}: {}", mount.line),
            "nosymfollow" => assert!(!mount.has(shown)),
            _ => {
                assert!(kept.has(shown), "{}", kept.line);
                assert!(!mount.has(shown), "{opposite}: {}", mount.line);
                assert!(below.has(shown), "{opposite}: {}", below.line);
            }
        }
    }
}

#[test]
fn each_recursive_word_sets_its_flag_on_all_below() {
    let mut c = container!();
    let tree = Tree::with(&c, "rw");
    let words = [
        "rro",
        "rnosuid",
        "rnodev",
        "rnoexec",
        "rnodiratime",
        "rnosymfollow",
        "rnoatime",
    ];
    for (index, word) in words.iter().enumerate() {
        c.mount(&format!("/m{index}"), "bind", tree.path(), &["rbind", word]);
    }
    c.run_detached().ok();
    for (index, word) in words.iter().enumerate() {
        for place in [format!("/m{index}"), format!("/m{index}/below")] {
            let mount = kernel::mount_at(c.pid(), &place).unwrap();
            assert!(mount.has(&word[1..]), "{word}: {}", mount.line);
        }
    }
}

#[test]
fn each_recursive_opposite_clears_its_flag_on_all_below() {
    let mut c = container!();
    let tree = Tree::with(&c, "ro,nosuid,nodev,noexec,nodiratime,noatime");
    let words = [
        ("rrw", "ro"),
        ("rsuid", "nosuid"),
        ("rdev", "nodev"),
        ("rexec", "noexec"),
        ("rdiratime", "nodiratime"),
        ("rsymfollow", "nosymfollow"),
        ("rrelatime", "noatime"),
        ("rstrictatime", "noatime"),
    ];
    for (index, (word, _)) in words.iter().enumerate() {
        c.mount(&format!("/m{index}"), "bind", tree.path(), &["rbind", word]);
    }
    c.run_detached().ok();
    for (index, (word, cleared)) in words.iter().enumerate() {
        for place in [format!("/m{index}"), format!("/m{index}/below")] {
            let mount = kernel::mount_at(c.pid(), &place).unwrap();
            assert!(!mount.has(cleared), "{word}: {}", mount.line);
        }
    }
}

#[test]
fn flags_of_a_superblock_are_set_on_it() {
    let mut c = container!();
    for (place, word) in [("/s", "sync"), ("/d", "dirsync"), ("/l", "lazytime")] {
        c.mount(place, "tmpfs", "tmpfs", &[word]);
    }
    c.run_detached().ok();
    for (place, word) in [("/s", "sync"), ("/d", "dirsync"), ("/l", "lazytime")] {
        let mount = kernel::mount_at(c.pid(), place).unwrap();
        assert!(mount.super_has(word) || mount.has(word), "{}", mount.line);
    }
}

#[test]
fn a_target_that_is_a_dangling_link_is_made_where_it_leads_inside_the_root() {
    let mut c = container!();
    std::os::unix::fs::symlink("/not/there/yet", c.rootfs("/link")).unwrap();
    std::os::unix::fs::symlink("../../../out/file", c.rootfs("/other")).unwrap();
    let file = c.scratch().join("file");
    fs::write(&file, "content").unwrap();
    c.mount("/link", "tmpfs", "tmpfs", &[]);
    c.mount("/other", "bind", file.to_str().unwrap(), &["bind"]);
    c.run_detached().ok();
    assert!(kernel::mount_at(c.pid(), "/not/there/yet").is_some());
    assert_eq!(c.exec_output("cat /out/file"), "content");
}

#[test]
fn a_source_inside_the_rootfs_is_bound_elsewhere_in_it() {
    let mut c = container!();
    fs::create_dir(c.rootfs("/inner")).unwrap();
    fs::write(c.rootfs("/inner/file"), "inside").unwrap();
    c.mount("/outer", "bind", "rootfs/inner", &["bind", "ro"]);
    let source = c.rootfs("/inner");
    c.mount("/other", "bind", source.to_str().unwrap(), &["rbind"]);
    c.run_detached().ok();
    assert_eq!(c.exec_output("cat /outer/file /other/file"), "insideinside");
    c.exec(&["/bin/sh", "-c", "echo x >/outer/new"]).exits(1);
}

#[test]
fn a_dev_from_outside_stays_as_it_is() {
    let mut c = container!();
    let dev = c.scratch().join("dev");
    for dir in ["pts", "shm", "mqueue"] {
        fs::create_dir_all(dev.join(dir)).unwrap();
    }
    for (name, minor) in [("null", "3"), ("zero", "5")] {
        let made = Command::new("mknod")
            .arg(dev.join(name))
            .args(["c", "1", minor])
            .status();
        assert!(made.unwrap().success());
    }
    c.without_mount("/dev");
    c.edit(|j| {
        let mounts = j["mounts"].as_array_mut().unwrap();
        let bind =
            json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind"]});
        mounts.insert(1, bind);
    });
    c.run_detached().ok();
    let seen = c.exec_output("ls /dev");
    assert_eq!(seen, "mqueue\nnull\npts\nshm\nzero\n");
    assert_eq!(fs::read_dir(&dev).unwrap().count(), 5);
}

#[test]
fn directories_made_in_a_setgid_directory_inherit_it() {
    let mut c = container!();
    let parent = c.rootfs("/shared");
    fs::create_dir(&parent).unwrap();
    std::os::unix::fs::chown(&parent, None, Some(7)).unwrap();
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o2775)).unwrap();
    c.mount("/shared/a/b", "tmpfs", "tmpfs", &[]);
    c.run_detached().ok();
    let made = fs::metadata(parent.join("a")).unwrap();
    assert_eq!((made.gid(), made.mode() & 0o7777), (7, 0o2755));
}

#[test]
fn an_idmap_is_of_the_mount_alone_and_a_ridmap_of_all_below() {
    for (word, below) in [("idmap", "0"), ("ridmap", "1000")] {
        let mut c = container!();
        let tree = Tree::with(&c, "rw");
        fs::write(tree.0.join("file"), "").unwrap();
        fs::write(tree.0.join("below/file"), "").unwrap();
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
        c.mount("/data", "bind", tree.path(), &["rbind", word]);
        c.edit(|j| {
            let mount = j["mounts"].as_array_mut().unwrap().last_mut().unwrap();
            mount["uidMappings"] = map.clone();
            mount["gidMappings"] = map.clone();
        });
        c.run_detached().ok();
        let owners = c.exec_output("stat -c %u /data/file /data/below/file");
        assert_eq!(owners, format!("1000\n{below}\n"), "{word}");
    }
}

#[test]
fn an_idmap_may_have_its_mappings_in_the_option() {
    let mut c = container!();
    let data = c.scratch().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "").unwrap();
    let option = "idmap=uids=0-1000-10;gids=0-2000-10";
    c.mount("/data", "bind", data.to_str().unwrap(), &["bind", option]);
    c.run_detached().ok();
    assert_eq!(c.exec_output("stat -c %u:%g /data/file"), "1000:2000\n");
    c.delete(&["--force"]).ok();
    c.config_mounts().pop();
    let relative = "idmap=uids=@0-0-1;gids=0-0-1";
    c.mount("/data", "bind", data.to_str().unwrap(), &["bind", relative]);
    c.create().exits(1).says("mounts[6].options[1]").one_line();
}

#[test]
fn a_cgroup_mount_without_a_cgroup_namespace_is_the_hosts_and_of_version_2() {
    let mut c = container!();
    c.without_namespace("cgroup");
    c.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["ro", "nosuid", "noexec", "nodev"],
    );
    c.run_detached().ok();
    let mount = kernel::mount_at(c.pid(), "/sys/fs/cgroup").unwrap();
    assert_eq!(mount.fstype, "cgroup2");
    assert!(mount.has("ro"), "{}", mount.line);
    let own = format!("/sys/fs/cgroup{}/cgroup.procs", kernel::cgroup_of(c.pid()));
    assert!(
        c.exec_output(&format!("cat {own}"))
            .lines()
            .any(|pid| pid == "1")
    );
}
