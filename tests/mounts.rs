//! Mounts of a container as its mountinfo shows them. The host's mountinfo must never change.
//! Attacks through mount targets are in `attacks`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::json;

use crate::harness::{Container, has_strace, kernel, skipped, words};

#[test]
fn the_default_mounts_have_their_types_and_flags() {
    let mut c = container!();
    c.run_detached().ok();
    let pid = c.pid();
    for (target, fstype, flags, super_options) in [
        ("/proc", "proc", &["rw"][..], &[][..]),
        ("/dev", "tmpfs", &["nosuid"], &["size=65536k", "mode=755"]),
        (
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec"],
            &["gid=5", "mode=620", "ptmxmode=666"],
        ),
        (
            "/dev/shm",
            "tmpfs",
            &["nosuid", "nodev", "noexec"],
            &["size=65536k"],
        ),
        ("/dev/mqueue", "mqueue", &["nosuid", "nodev", "noexec"], &[]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"], &[]),
    ] {
        let mount = kernel::mount_at(pid, target).unwrap_or_else(|| panic!("no {target}"));
        assert_eq!(mount.fstype, fstype, "{}", mount.line);
        for flag in flags {
            assert!(mount.has(flag), "{target}: no {flag}: {}", mount.line);
        }
        for option in super_options {
            assert!(
                mount.super_has(option),
                "{target}: no {option}: {}",
                mount.line
            );
        }
    }
    // strictatime is the absence of relatime and noatime.
    let dev = kernel::mount_at(pid, "/dev").unwrap();
    assert!(!dev.has("relatime") && !dev.has("noatime"), "{}", dev.line);
}

#[test]
fn the_container_sees_nothing_of_the_hosts_mounts() {
    let mut c = container!();
    c.run_detached().ok();
    let mounts = kernel::mounts(c.pid());
    let root = mounts.iter().find(|m| m.target == "/").unwrap();
    assert!(root.root.ends_with("/bundle/rootfs"), "{}", root.line);
    for mount in &mounts {
        assert!(
            mount.target == "/"
                || ["/proc", "/dev", "/sys"]
                    .iter()
                    .any(|p| mount.target.starts_with(p)),
            "{}",
            mount.line
        );
    }
}

#[test]
fn nothing_appears_in_the_hosts_mountinfo() {
    let mut c = container!();
    let scratch = c.scratch();
    c.mount("/data", "bind", scratch.to_str().unwrap(), &["rbind", "rw"]);
    c.mount("/fresh", "tmpfs", "tmpfs", &[]);
    let own = c.dir().parent().unwrap().to_str().unwrap().to_owned();
    c.create().ok();
    assert!(!kernel::host_mountinfo().contains(&own));
    c.start().ok();
    c.exec_output("true");
    assert!(!kernel::host_mountinfo().contains(&own));
}

// If the rootfs is on a shared mount, its clone is a peer of the original (mount_namespaces(7)).
#[test]
fn a_rootfs_on_a_shared_mount_sends_nothing_back() {
    let mut c = container!();
    let dir = c.dir().to_owned();
    let none: Option<&str> = None;
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    mount(Some(&dir), &dir, none, MsFlags::MS_BIND, none).unwrap();
    mount(none, &dir, none, MsFlags::MS_SHARED, none).unwrap();
    let before = kernel::host_mountinfo();
    let created = c.create();
    let while_created = kernel::host_mountinfo();
    let started = c.start();
    let while_running = kernel::host_mountinfo();
    c.delete(&["--force"]);
    let after = kernel::host_mountinfo();
    umount2(&dir, MntFlags::MNT_DETACH).unwrap();
    created.ok();
    started.ok();
    let names = |text: &str| {
        text.lines()
            .filter(|l| l.contains(dir.to_str().unwrap()))
            .count()
    };
    assert_eq!(names(&while_created), names(&before));
    assert_eq!(names(&while_running), names(&before));
    assert_eq!(names(&after), names(&before));
}

#[test]
fn a_bind_mount_shows_the_source_and_can_be_written() {
    let mut c = container!();
    let scratch = c.scratch();
    fs::write(scratch.join("from-host"), "host\n").unwrap();
    c.mount("/data", "bind", scratch.to_str().unwrap(), &["bind"]);
    assert_eq!(
        c.output_of("cat /data/from-host; echo inside >/data/from-container"),
        "host\n"
    );
    assert_eq!(
        fs::read_to_string(scratch.join("from-container")).unwrap(),
        "inside\n"
    );
}

#[test]
fn a_read_only_bind_mount_refuses_writes() {
    let mut c = container!();
    let scratch = c.scratch();
    c.mount(
        "/data",
        "none",
        scratch.to_str().unwrap(),
        &["bind", "ro", "nosuid", "nodev", "noexec"],
    );
    c.run_detached().ok();
    let mount = kernel::mount_at(c.pid(), "/data").unwrap();
    for flag in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(mount.has(flag), "{}", mount.line);
    }
    c.exec(&["/bin/touch", "/data/x"])
        .exits(1)
        .says("Read-only file system");
}

#[test]
fn bind_leaves_submounts_out_and_rbind_brings_them() {
    let mut c = container!();
    let scratch = c.scratch();
    fs::create_dir(scratch.join("sub")).unwrap();
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let none: Option<&str> = None;
    mount(
        Some("tmpfs"),
        &scratch.join("sub"),
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .unwrap();
    fs::write(scratch.join("sub/file"), "below\n").unwrap();
    let source = scratch.to_str().unwrap().to_owned();
    c.mount("/one", "bind", &source, &["bind"]);
    c.mount("/all", "bind", &source, &["rbind", "ro"]);
    // podman writes these options for a volume.
    c.mount("/both", "bind", &source, &["rbind", "rw", "bind"]);
    c.script("ls /one/sub; cat /all/sub/file; touch /all/sub/new && echo written; ls /both/sub");
    let output = c.run();
    umount2(&scratch.join("sub"), MntFlags::MNT_DETACH).unwrap();
    // `ro` applies to the top mount only, `rro` to all mounts.
    assert_eq!(output.stdout(), "below\nwritten\nfile\nnew\n");
}

#[test]
fn rro_makes_submounts_read_only_too() {
    let mut c = container!();
    let scratch = c.scratch();
    fs::create_dir(scratch.join("sub")).unwrap();
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let none: Option<&str> = None;
    mount(
        Some("tmpfs"),
        &scratch.join("sub"),
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .unwrap();
    c.mount("/all", "bind", scratch.to_str().unwrap(), &["rbind", "rro"]);
    c.script("touch /all/new; touch /all/sub/new");
    let output = c.run();
    umount2(&scratch.join("sub"), MntFlags::MNT_DETACH).unwrap();
    output.exits(1);
    assert_eq!(output.stderr().matches("Read-only file system").count(), 2);
}

#[test]
fn flags_of_the_source_stay_on_a_bind_mount_unless_cleared() {
    let mut c = container!();
    let scratch = c.scratch();
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let none: Option<&str> = None;
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    mount(Some("tmpfs"), &scratch, Some("tmpfs"), flags, none).unwrap();
    let source = scratch.to_str().unwrap().to_owned();
    c.mount("/kept", "bind", &source, &["bind"]);
    c.mount("/more", "bind", &source, &["bind", "ro"]);
    c.mount("/cleared", "bind", &source, &["bind", "exec"]);
    let output = c.run_detached();
    umount2(&scratch, MntFlags::MNT_DETACH).unwrap();
    output.ok();
    let at = |target: &str| kernel::mount_at(c.pid(), target).unwrap();
    for flag in ["nodev", "noexec", "noatime"] {
        assert!(at("/kept").has(flag), "{}", at("/kept").line);
        assert!(at("/more").has(flag), "{}", at("/more").line);
    }
    assert!(at("/more").has("ro"));
    assert!(
        !at("/cleared").has("noexec") && at("/cleared").has("nodev"),
        "{}",
        at("/cleared").line
    );
}

#[test]
fn a_file_is_bound_on_a_file_which_is_made_if_missing() {
    let mut c = container!();
    let file = c.scratch().join("file");
    fs::write(&file, "content\n").unwrap();
    c.mount(
        "/etc/new/file",
        "bind",
        file.to_str().unwrap(),
        &["bind", "ro"],
    );
    c.mount(
        "/etc/group",
        "bind",
        file.to_str().unwrap(),
        &["bind", "ro"],
    );
    assert_eq!(
        c.output_of("cat /etc/new/file /etc/group"),
        "content\ncontent\n"
    );
    assert!(c.rootfs("/etc/new/file").is_file());
}

#[test]
fn missing_targets_are_made_as_directories() {
    let mut c = container!();
    c.mount("/a/b/c", "tmpfs", "tmpfs", &["size=1m"]);
    c.run_detached().ok();
    assert_eq!(kernel::mount_at(c.pid(), "/a/b/c").unwrap().fstype, "tmpfs");
    let mode = fs::metadata(c.rootfs("/a/b")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn symlinked_targets_stay_inside_the_rootfs() {
    let mut c = container!();
    let canary = c.scratch().join("canary");
    fs::create_dir(&canary).unwrap();
    let host = canary.to_str().unwrap().to_owned();
    symlink(&host, c.rootfs("/absolute")).unwrap();
    symlink("../../../../../../../tmp", c.rootfs("/climbing")).unwrap();
    c.mount("/absolute/below", "tmpfs", "tmpfs", &[]);
    c.mount("/climbing/mnt", "tmpfs", "tmpfs", &[]);
    c.run_detached().ok();
    let targets: Vec<String> = kernel::mounts(c.pid())
        .into_iter()
        .map(|m| m.target)
        .collect();
    assert!(targets.contains(&format!("{host}/below")), "{targets:?}");
    assert!(targets.contains(&"/tmp/mnt".to_owned()), "{targets:?}");
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
}

#[test]
fn relative_sources_are_taken_from_the_bundle() {
    let mut c = container!();
    fs::create_dir(c.dir().join("data")).unwrap();
    fs::write(c.dir().join("data/file"), "relative\n").unwrap();
    c.mount("/data", "bind", "data", &["rbind"]);
    c.mount("/dotted", "bind", "./data/../data", &["rbind"]);
    assert_eq!(
        c.output_of("cat /data/file /dotted/file"),
        "relative\nrelative\n"
    );
}

#[test]
fn a_missing_source_is_named_with_its_mount() {
    let mut c = container!();
    c.mount("/data", "bind", "/missing/source", &["rbind"]);
    c.create()
        .exits(1)
        .says("/missing/source")
        .says("no such file or directory")
        .one_line();
    c.assert_nothing_left();
}

#[test]
fn a_directory_bound_on_a_file_is_not_a_directory() {
    let mut c = container!();
    let scratch = c.scratch();
    c.mount("/etc/passwd", "bind", scratch.to_str().unwrap(), &["bind"]);
    c.create()
        .exits(1)
        .says("/etc/passwd")
        .says("not a directory");
    c.assert_nothing_left();
}

#[test]
fn tmpfs_options_reach_the_filesystem() {
    let mut c = container!();
    c.mount(
        "/fresh",
        "tmpfs",
        "label",
        &["mode=1750", "size=1m", "nr_inodes=50", "uid=7", "gid=8"],
    );
    c.run_detached().ok();
    let mount = kernel::mount_at(c.pid(), "/fresh").unwrap();
    assert_eq!(mount.source, "label");
    for option in ["mode=1750", "size=1024k", "nr_inodes=50", "uid=7", "gid=8"] {
        assert!(mount.super_has(option), "{}", mount.line);
    }
    assert_eq!(c.exec_output("stat -c '%a %u %g' /fresh"), "1750 7 8\n");
}

#[test]
fn options_of_a_filesystem_may_stand_in_one_string() {
    let mut c = container!();
    c.mount("/fresh", "tmpfs", "t", &["nosuid", "size=1m,mode=700"]);
    c.run_detached().ok();
    let mount = kernel::mount_at(c.pid(), "/fresh").unwrap();
    for option in ["mode=700", "size=1024k"] {
        assert!(mount.super_has(option), "{}", mount.line);
    }
}

#[test]
fn a_filesystem_on_a_file_is_not_a_directory() {
    let mut c = container!();
    c.mount("/etc/passwd", "tmpfs", "tmpfs", &[]);
    c.create()
        .exits(1)
        .says("mounts[6]")
        .says("not a directory")
        .one_line();
}

#[test]
fn a_mount_point_that_cannot_be_made_is_told_with_its_directory() {
    let mut c = container!();
    let (scratch, file) = (c.scratch(), c.scratch().join("file"));
    fs::write(&file, "").unwrap();
    c.mount("/par", "bind", scratch.to_str().unwrap(), &["bind", "ro"]);
    for (destination, kind, source, call) in [
        ("/par/sub/deep", "tmpfs", "tmpfs", "mkdirat: EROFS"),
        ("/par/sub", "bind", file.to_str().unwrap(), "openat2: EROFS"),
    ] {
        c.mount(
            destination,
            kind,
            source,
            if kind == "bind" { &["bind"] } else { &[] },
        );
        let place = format!(
            "mount {destination} (config.json: mounts[7]): make the mount point in /par: {call}"
        );
        c.create().exits(1).says(&place).one_line();
        c.without_mount(destination);
    }
}

// An option sets or clears the flag that it names. All other flags stay as in the source.
#[test]
fn a_bind_mount_keeps_the_flags_of_its_source_whatever_else_is_named() {
    let mut c = container!();
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let source = c.scratch().join("source");
    fs::create_dir(&source).unwrap();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    mount(Some("t"), &source, Some("tmpfs"), flags, None::<&str>).unwrap();
    let path = source.to_str().unwrap();
    let all = ["nosuid", "nodev", "noexec", "noatime"];
    let table: [(&[&str], &[&str]); 7] = [
        (&["bind"], &all),
        (&["rbind", "ro"], &all),
        (&["rbind", "rw", "rprivate"], &all),
        (&["bind", "exec"], &["nosuid", "nodev", "noatime"]),
        (
            &["bind", "dev", "nosymfollow"],
            &["nosuid", "noexec", "noatime"],
        ),
        (&["rbind", "rsuid"], &["nodev", "noexec", "noatime"]),
        (
            &["bind", "relatime"],
            &["nosuid", "nodev", "noexec", "relatime"],
        ),
    ];
    for (at, (options, _)) in table.iter().enumerate() {
        c.mount(&format!("/m{at}"), "bind", path, options);
    }
    let output = c.run_detached();
    umount2(&source, MntFlags::MNT_DETACH).unwrap();
    output.ok();
    for (at, (options, kept)) in table.iter().enumerate() {
        let mount = kernel::mount_at(c.pid(), &format!("/m{at}")).unwrap();
        for flag in all.iter().chain(&["relatime"]) {
            assert_eq!(
                mount.has(flag),
                kept.contains(flag),
                "{options:?} {flag}: {}",
                mount.line
            );
        }
    }
}

#[test]
fn a_tmpfs_without_a_mode_has_that_of_what_it_covers() {
    let mut c = container!();
    fs::create_dir(c.rootfs("/covered")).unwrap();
    fs::set_permissions(c.rootfs("/covered"), fs::Permissions::from_mode(0o711)).unwrap();
    c.mount("/covered", "tmpfs", "tmpfs", &[]);
    c.mount("/new", "tmpfs", "tmpfs", &[]);
    assert_eq!(c.output_of("stat -c %a /covered /new"), "711\n1777\n");
}

#[test]
fn of_contradicting_options_the_last_one_wins() {
    let mut c = container!();
    c.mount("/a", "tmpfs", "tmpfs", &["ro", "rw", "nosuid", "suid"]);
    c.mount("/b", "tmpfs", "tmpfs", &["rw", "ro", "exec", "noexec"]);
    c.run_detached().ok();
    let (a, b) = (
        kernel::mount_at(c.pid(), "/a").unwrap(),
        kernel::mount_at(c.pid(), "/b").unwrap(),
    );
    assert!(a.has("rw") && !a.has("nosuid"), "{}", a.line);
    assert!(b.has("ro") && b.has("noexec"), "{}", b.line);
}

#[test]
fn more_bind_mounts_than_descriptors_are_made_and_listed_in_the_order_of_the_config() {
    let mut c = container!();
    let source = c.scratch();
    for n in 0..40 {
        c.mount(
            &format!("/m{n:02}"),
            "bind",
            source.to_str().unwrap(),
            &["bind", "ro"],
        );
        c.mount(&format!("/t{n:02}"), "tmpfs", "tmpfs", &["size=4k"]);
    }
    c.edit(|config| config["process"]["rlimits"] = serde_json::json!([]));
    c.script("cut -d' ' -f5 /proc/self/mountinfo | grep -E '^/[mt][0-9]' | tr '\\n' ' '");
    let inner = c.command(&["run", "--bundle"]);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 32; exec \"$@\"", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.arg(c.dir()).arg(&c.id);
    let output = c.finish(command);
    output.ok();
    let expected: Vec<String> = (0..40)
        .flat_map(|n| [format!("/m{n:02}"), format!("/t{n:02}")])
        .collect();
    assert_eq!(words(&output.stdout()), expected);
}

#[test]
fn mounts_are_made_in_the_order_of_the_config() {
    let mut c = container!();
    let scratch = c.scratch();
    fs::create_dir(scratch.join("b")).unwrap();
    c.mount("/x", "tmpfs", "tmpfs", &[]);
    c.mount("/x/a", "bind", scratch.to_str().unwrap(), &["bind"]);
    c.mount("/x/a/b", "tmpfs", "tmpfs", &[]);
    c.run_detached().ok();
    // Since Linux 6.8 mountinfo is sorted by mount id, and a bind mount gets its id early.
    // So the test compares parents and not the order of lines.
    let at = |path| kernel::mount_at(c.pid(), path).unwrap();
    assert_eq!(at("/x/a").parent, at("/x").id);
    assert_eq!(at("/x/a/b").parent, at("/x/a").id);
}

#[test]
fn a_thousand_mounts_are_made() {
    let mut c = container!();
    for i in 0..1000 {
        c.config_mounts().push(json!({"destination": format!("/m/{i}"), "type": "tmpfs", "source": "t", "options": ["size=4k"]}));
    }
    c.edit(|_| {});
    assert_eq!(c.output_of("grep -c ' /m/' /proc/self/mountinfo"), "1000\n");
}

#[test]
fn a_read_only_root_refuses_writes_but_not_in_its_mounts() {
    let mut c = container!();
    c.edit(|j| j["root"]["readonly"] = json!(true));
    c.mount("/tmp", "tmpfs", "tmpfs", &[]);
    c.run_detached().ok();
    assert!(kernel::mount_at(c.pid(), "/").unwrap().has("ro"));
    c.exec(&["/bin/touch", "/file"])
        .exits(1)
        .says("Read-only file system");
    c.exec(&["/bin/touch", "/tmp/file", "/dev/file"]).ok();
    // The host's own view of the directory stays writable.
    fs::write(c.rootfs("/from-host"), "").unwrap();
}

#[test]
fn masked_files_read_as_empty_and_masked_directories_list_nothing() {
    let mut c = container!();
    fs::create_dir(c.rootfs("/secret")).unwrap();
    fs::write(c.rootfs("/secret/file"), "secret").unwrap();
    fs::write(c.rootfs("/key"), "secret").unwrap();
    c.edit(|j| {
        let masked = j["linux"]["maskedPaths"].as_array_mut().unwrap();
        masked.extend([json!("/secret"), json!("/key"), json!("/no/such/path")]);
    });
    c.run_detached().ok();
    assert_eq!(
        c.exec_output("cat /key; ls -A /secret; cat /proc/kcore /proc/keys; ls -A /sys/firmware"),
        ""
    );
    assert_eq!(c.exec_output("stat -c '%t:%T' /key"), "1:3\n");
    assert!(kernel::mount_at(c.pid(), "/secret").unwrap().has("ro"));
    c.exec(&["/bin/touch", "/secret/x"]).exits(1);
    assert!(!c.rootfs("/no").exists());
}

#[test]
fn read_only_paths_refuse_writes_and_keep_their_content() {
    let mut c = container!();
    fs::create_dir(c.rootfs("/frozen")).unwrap();
    fs::write(c.rootfs("/frozen/file"), "content\n").unwrap();
    fs::write(c.rootfs("/single"), "single\n").unwrap();
    c.edit(|j| {
        let paths = j["linux"]["readonlyPaths"].as_array_mut().unwrap();
        paths.extend([json!("/frozen"), json!("/single"), json!("/no/such/path")]);
    });
    c.run_detached().ok();
    assert_eq!(
        c.exec_output("cat /frozen/file /single"),
        "content\nsingle\n"
    );
    c.exec(&["/bin/touch", "/frozen/file"])
        .exits(1)
        .says("Read-only");
    c.exec(&["/bin/sh", "-c", "echo x >/single"]).exits(1);
    for path in ["/frozen", "/single", "/proc/sys"] {
        let mount = kernel::mount_at(c.pid(), path).unwrap();
        assert!(mount.has("ro"), "{}", mount.line);
    }
    let flags = kernel::mount_at(c.pid(), "/proc/sys").unwrap();
    let proc = kernel::mount_at(c.pid(), "/proc").unwrap();
    assert_eq!(flags.has("nosuid"), proc.has("nosuid"), "{}", flags.line);
}

#[test]
fn rootfs_propagation_is_applied_to_the_root() {
    for (value, wanted) in [
        ("shared", "shared:"),
        ("private", ""),
        ("unbindable", "unbindable"),
    ] {
        let mut c = container!();
        c.edit(|j| j["linux"]["rootfsPropagation"] = json!(value));
        c.run_detached().ok();
        let root = kernel::mount_at(c.pid(), "/").unwrap();
        let optional = root.optional.join(" ");
        assert!(
            if wanted.is_empty() {
                optional.is_empty()
            } else {
                optional.contains(wanted)
            },
            "{value}: {}",
            root.line
        );
    }
}

#[test]
fn propagation_of_a_bind_mount_is_what_its_options_say() {
    let mut c = container!();
    let scratch = c.scratch();
    let source = scratch.to_str().unwrap().to_owned();
    c.mount("/private", "bind", &source, &["bind", "private"]);
    c.mount("/shared", "bind", &source, &["bind", "shared"]);
    c.mount("/unbindable", "bind", &source, &["bind", "unbindable"]);
    c.run_detached().ok();
    let optional = |target: &str| {
        kernel::mount_at(c.pid(), target)
            .unwrap()
            .optional
            .join(" ")
    };
    assert_eq!(optional("/private"), "");
    assert!(
        optional("/shared").contains("shared:"),
        "{}",
        optional("/shared")
    );
    assert_eq!(optional("/unbindable"), "unbindable");
}

// A propagation that is set for the root alone does not change the source's propagation.
#[test]
fn an_rshared_bind_mount_sends_its_mounts_to_the_host_unless_all_mounts_are_cut_off() {
    let mut c = container!();
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let none: Option<&str> = None;
    let source = c.scratch().join("source");
    fs::create_dir(&source).unwrap();
    mount(Some("t"), &source, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    mount(none, &source, none, MsFlags::MS_SHARED, none).unwrap();
    fs::create_dir(source.join("sub")).unwrap();
    c.mount(
        "/vol",
        "bind",
        source.to_str().unwrap(),
        &["rbind", "rshared"],
    );
    c.capabilities(&["bounding", "effective", "permitted"], &["CAP_SYS_ADMIN"]);
    c.script("mount -t tmpfs inner /vol/sub; sleep 1000");
    let mut wrong = Vec::new();
    for (word, reaches) in [
        ("private", true),
        ("slave", true),
        ("unbindable", true),
        ("shared", true),
        ("rshared", true),
        ("rprivate", false),
        ("rslave", false),
        ("", false),
    ] {
        c.edit(|j| j["linux"]["rootfsPropagation"] = json!(word));
        let output = c.run_detached();
        if output.code != 0 {
            wrong.push(output.stderr());
            continue;
        }
        // The payload makes its mount before it sleeps.
        crate::harness::eventually("it is mounted", || {
            kernel::mount_at(c.pid(), "/vol/sub").is_some()
        });
        let inner = source.join("sub");
        let has_come =
            kernel::mount_of(&inner).is_some_and(|m| m.target == inner.to_str().unwrap());
        if has_come != reaches {
            wrong.push(format!("{word}: {:?}", kernel::mount_at(c.pid(), "/vol")));
        }
        c.delete(&["--force"]).ok();
        let _ = umount2(&inner, MntFlags::MNT_DETACH);
    }
    // The last case logs a warning.
    let log = c.scratch().join("log");
    let mut command = c.command(&[
        "--debug",
        "--log",
        log.to_str().unwrap(),
        "create",
        "--bundle",
    ]);
    command.arg(c.dir()).arg(&c.id);
    c.finish(command).ok();
    umount2(&source, MntFlags::MNT_DETACH).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let told = fs::read_to_string(log).unwrap();
    assert!(
        told.contains("mounts[6].options: the mount is shared, but not with"),
        "{told}"
    );
}

#[test]
fn an_rslave_bind_mount_receives_the_hosts_later_mounts_and_sends_none() {
    let mut c = container!();
    let scratch = c.scratch();
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let none: Option<&str> = None;
    mount(
        Some("tmpfs"),
        &scratch,
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .unwrap();
    mount(none, &scratch, none, MsFlags::MS_SHARED, none).unwrap();
    fs::create_dir(scratch.join("late")).unwrap();
    let source = scratch.to_str().unwrap().to_owned();
    c.mount("/slave", "bind", &source, &["rbind", "rslave"]);
    let created = c.run_detached();
    let optional = if created.code == 0 {
        kernel::mount_at(c.pid(), "/slave")
            .unwrap()
            .optional
            .join(" ")
    } else {
        String::new()
    };
    mount(
        Some("tmpfs"),
        &scratch.join("late"),
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .unwrap();
    let seen = created.code == 0 && kernel::mount_at(c.pid(), "/slave/late").is_some();
    umount2(&scratch.join("late"), MntFlags::MNT_DETACH).unwrap();
    umount2(&scratch, MntFlags::MNT_DETACH).unwrap();
    created.ok();
    assert!(
        optional.contains("master:") && !optional.contains("shared:"),
        "{optional}"
    );
    assert!(seen, "the late mount did not reach the container");
}

#[test]
fn a_cgroup_mount_shows_the_containers_own_cgroup() {
    let mut c = container!();
    c.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    );
    c.run_detached().ok();
    let mount = kernel::mount_at(c.pid(), "/sys/fs/cgroup").unwrap();
    assert!(mount.has("ro") && mount.has("nosuid"), "{}", mount.line);
    let script = "cat /sys/fs/cgroup/cgroup.procs || cat /sys/fs/cgroup/unified/cgroup.procs";
    assert!(c.exec_output(script).lines().any(|l| l == "1"));
}

#[test]
fn a_cgroup_mount_does_not_change_the_hosts_options() {
    let mut c = container!();
    let options = || {
        let all = kernel::parse_mountinfo(&kernel::host_mountinfo());
        all.into_iter()
            .filter(|m| m.fstype == "cgroup2")
            .map(|m| m.line)
            .collect::<Vec<_>>()
    };
    let before = options();
    c.without_namespace("cgroup");
    c.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "ro"],
    );
    c.run_detached().ok();
    assert_eq!(options(), before);
    assert!(
        kernel::mounts(c.pid())
            .iter()
            .filter(|m| m.target.starts_with("/sys/fs/cgroup"))
            .all(|m| m.has("ro"))
    );
}

#[test]
fn an_option_of_a_cgroup_mount_that_nothing_knows_is_refused() {
    for shared in [false, true] {
        let mut c = container!();
        if shared {
            c.without_namespace("cgroup");
        }
        let target = "/sys/fs/cgroup";
        c.mount(target, "cgroup", "cgroup", &["ro", "nsdelegate"]);
        c.create().ok();
        c.runtime(&["delete", "--force", &c.id]).ok();
        c.without_mount(target);
        c.mount(target, "cgroup", "cgroup", &["ro", "memory"]);
        c.create()
            .exits(1)
            .says(".options[1]: unknown option \"memory\"");
    }
}

#[test]
fn no_pivot_gives_the_same_root() {
    let mut c = container!();
    c.script("ls -d /bin /etc; ls /proc/self/root/..");
    c.make("run", &["--no-pivot"]).ok();
}

#[test]
fn a_read_only_tmpfs_holds_what_was_made_in_it() {
    let mut c = container!();
    for mount in c.config_mounts() {
        if mount["destination"] == "/dev" {
            mount["options"].as_array_mut().unwrap().push(json!("ro"));
        }
    }
    c.mount("/empty", "tmpfs", "tmpfs", &["rro"]);
    c.mount("/empty/below", "tmpfs", "tmpfs", &[]);
    c.run_detached().ok();
    let pid = c.pid();
    assert!(kernel::mount_at(pid, "/dev").unwrap().has("ro"));
    assert!(kernel::mount_at(pid, "/dev/shm").unwrap().has("rw"));
    assert!(kernel::mount_at(pid, "/empty").unwrap().has("ro"));
    assert!(kernel::mount_at(pid, "/empty/below").unwrap().has("rw"));
    assert_eq!(
        c.exec_output("echo x > /dev/null; touch /dev/new /empty/new 2>/dev/null || echo ro"),
        "ro\n"
    );
}

#[test]
fn a_source_in_the_root_is_what_earlier_mounts_made_of_it() {
    for user in [false, true] {
        let mut c = container!();
        let dir = c.scratch();
        fs::create_dir(dir.join("x")).unwrap();
        fs::write(dir.join("x/file"), "from the host").unwrap();
        c.mount("/mnt", "bind", dir.to_str().unwrap(), &["rbind"]);
        // Source and destination are host paths inside the container's root.
        let (source, target) = (c.rootfs("mnt/x"), c.rootfs("final"));
        let mappings = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        c.mount(
            target.to_str().unwrap(),
            "bind",
            source.to_str().unwrap(),
            &["rbind", "idmap"],
        );
        let mount = c.config_mounts().last_mut().unwrap();
        mount["uidMappings"] = mappings.clone();
        mount["gidMappings"] = mappings.clone();
        c.mount("/again", "bind", source.to_str().unwrap(), &["rbind"]);
        if user {
            c.edit(|j| {
                let namespaces = j["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.push(json!({"type": "user"}));
                j["linux"]["uidMappings"] = mappings.clone();
                j["linux"]["gidMappings"] = mappings;
            });
            std::os::unix::fs::chown(c.rootfs(""), Some(100_000), Some(100_000)).unwrap();
        }
        let owner = if user { "0" } else { "100000" };
        assert_eq!(
            c.output_of("cat /final/file /again/file; stat -c ' %u' /final/file"),
            format!("from the hostfrom the host {owner}\n")
        );
    }
}

// Before the kernel clones a part of the root's mount, it checks each mount on the root.
#[test]
fn a_bind_from_inside_the_root_takes_no_longer_for_the_mounts_before_it() {
    let release = nix::sys::utsname::uname().unwrap();
    let release = release.release().to_str().unwrap().to_owned();
    let numbers: Vec<u32> = release.split('.').flat_map(str::parse).collect();
    if numbers < vec![6, 15] {
        return skipped("the kernel clones nothing from a detached mount (Linux 6.15)");
    }
    if !has_strace() {
        return;
    }
    let mut c = container!();
    let source = c.rootfs("etc");
    let bind = |i| {
        let at = format!("/m/{i}");
        json!({"destination": at, "type": "bind", "source": source, "options": ["bind"]})
    };
    c.edit(|j| {
        let mounts = j["mounts"].as_array_mut().unwrap();
        mounts.extend((0..3000).map(bind));
    });
    c.script("grep -c ' /m/' /proc/self/mountinfo");
    let trace = c.scratch().join("strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-T", "--seccomp-bpf", "-e", "trace=open_tree", "-o"]);
    let inner = c.command(&["run", "--bundle"]);
    command.arg(&trace).arg(inner.get_program());
    command.args(inner.get_args()).arg(c.dir()).arg(&c.id);
    let output = c.finish(command);
    output.ok();
    assert_eq!(output.stdout(), "3000\n");
    let trace = fs::read_to_string(trace).unwrap();
    // strace shows the duration last: `... = 5 <0.000023>`.
    let seconds = |line: &str| line.strip_suffix('>')?.rsplit_once('<')?.1.parse().ok();
    let all: Vec<f64> = trace.lines().filter_map(seconds).collect();
    // Compare the shortest times: on a busy machine, other work delays most calls.
    let shortest = |of: &[f64]| of.iter().copied().fold(f64::MAX, f64::min);
    assert!(all.len() >= 3000);
    let (early, late) = (shortest(&all[200..600]), shortest(&all[2600..2900]));
    assert!(late < 2.0 * early, "{early} s became {late} s");
}

// After many mounts, orlop may take sources from a copy of the root that has no mounts on it.
#[test]
fn after_many_mounts_too_a_source_in_the_root_is_what_earlier_mounts_made_of_it() {
    let sources = [
        ("plain", &["bind", "rbind"][..]),
        ("plain/file", &["bind", "rbind"]),
        ("covered", &["bind", "rbind"]),
        ("covered/in", &["bind"]),
        ("over-file", &["bind", "rbind"]),
        ("to-covered", &["bind", "rbind"]),
        ("to-covered/in", &["rbind"]),
        ("up", &["bind"]),
        ("has-below", &["bind", "rbind"]),
        ("to-has-below", &["rbind"]),
        ("/./plain//file", &["bind"]),
    ];
    let seen = |mut c: Container, many: usize| {
        let scratch = c.scratch();
        for dir in ["plain", "covered/in", "has-below/sub"] {
            fs::create_dir_all(c.rootfs(dir)).unwrap();
        }
        fs::create_dir_all(scratch.join("in")).unwrap();
        fs::write(c.rootfs("plain/file"), "image").unwrap();
        fs::write(c.rootfs("covered/in/file"), "image, covered").unwrap();
        fs::write(c.rootfs("over-file"), "image, covered").unwrap();
        fs::write(scratch.join("in/file"), "host").unwrap();
        symlink("/covered", c.rootfs("to-covered")).unwrap();
        symlink("covered/in/../../plain", c.rootfs("up")).unwrap();
        symlink("plain/../has-below", c.rootfs("to-has-below")).unwrap();
        let host = scratch.to_str().unwrap();
        c.mount("/covered", "bind", host, &["bind"]);
        let file = scratch.join("in/file");
        c.mount("/over-file", "bind", file.to_str().unwrap(), &["bind"]);
        c.mount("/has-below/sub", "bind", host, &["bind"]);
        for i in 0..many {
            c.config_mounts().push(json!({
                "destination": format!("/fill/{i}"), "type": "bind", "source": host, "options": ["bind"]
            }));
        }
        let mut count = 0;
        for (source, words) in sources {
            for word in words {
                let source = format!("{}/{source}", c.rootfs("").display());
                c.mount(&format!("/seen/{count}"), "bind", &source, &[word, "ro"]);
                count += 1;
            }
        }
        let script = "for i in $(ls /seen | sort -n); do echo $i; cd /seen; ls -R $i; \
                      cat $i $i/file $i/in/file $i/sub/in/file 2>/dev/null; done; \
                      grep ' /seen/' /proc/self/mountinfo | cut -d' ' -f5-7 | sort";
        c.output_of(script)
    };
    let few = seen(container!(), 0);
    let many = seen(container!(), 200);
    assert_eq!(few, many);
    assert!(
        many.contains("host") && !many.contains("image, covered"),
        "{many}"
    );
}

#[test]
fn a_source_in_the_root_never_leads_out_of_it() {
    let mut c = container!();
    let secret = c.scratch().join("secret");
    fs::create_dir(&secret).unwrap();
    symlink(&secret, c.rootfs("link")).unwrap();
    let source = c.rootfs("link");
    c.mount("/leak", "bind", source.to_str().unwrap(), &["bind"]);
    let output = c.run();
    output.exits(1).one_line().says("mounts[").says("ENOENT");
}

#[test]
fn a_slave_root_gets_the_mounts_that_the_host_makes_below_it() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let mut c = container!();
    // The root is a shared mount below a private one, in a thread's own mount namespace.
    c.edit(|j| j["linux"]["rootfsPropagation"] = json!("rslave"));
    fs::create_dir(c.rootfs("later")).unwrap();
    let root = c.rootfs("");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
            mount(Some(&root), &root, none, MsFlags::MS_BIND, none).unwrap();
            mount(none, &root, none, MsFlags::MS_SHARED, none).unwrap();
            c.run_detached().ok();
            let below = root.join("later");
            mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), none).unwrap();
            let seen = kernel::mount_at(c.pid(), "/later").expect("the host's mount");
            assert_eq!(seen.fstype, "tmpfs");
            let top = kernel::mount_at(c.pid(), "/").unwrap();
            assert!(
                top.optional.iter().any(|o| o.starts_with("master:")),
                "{}",
                top.line
            );
            umount2(&below, MntFlags::MNT_DETACH).unwrap();
            c.delete(&["--force"]).ok();
        });
    });
}

#[test]
fn a_masked_path_that_is_named_twice_is_mounted_once() {
    let mut c = container!();
    fs::create_dir(c.rootfs("secret")).unwrap();
    c.edit(|j| {
        let masked = j["linux"]["maskedPaths"].as_array_mut().unwrap();
        masked.extend([json!("/secret"), json!("/secret/")]);
    });
    c.run_detached().ok();
    let mounts = kernel::mounts(c.pid());
    let times = mounts.iter().filter(|m| m.target == "/secret").count();
    assert_eq!(times, 1);
}

/// Creates a file and a link to it, and returns the link. In a container without the file, the
/// link dangles.
fn with_a_link(c: &Container) -> std::path::PathBuf {
    let scratch = c.scratch();
    fs::write(scratch.join("file"), "content").unwrap();
    std::os::unix::fs::symlink("file", scratch.join("link")).unwrap();
    scratch.join("link")
}

#[test]
fn copy_symlink_makes_the_link_anew_instead_of_mounting_what_it_leads_to() {
    let mut c = container!();
    let link = with_a_link(&c);
    let file = link.with_file_name("file");
    c.mount(
        "/copied/link",
        "bind",
        link.to_str().unwrap(),
        &["bind", "copy-symlink"],
    );
    c.mount(
        "/copied/file",
        "bind",
        file.to_str().unwrap(),
        &["bind", "copy-symlink"],
    );
    c.run_detached().ok();
    assert_eq!(
        c.exec_output("readlink /copied/link; cat /copied/link"),
        "file\ncontent"
    );
    assert!(kernel::mount_at(c.pid(), "/copied/link").is_none());
    c.delete(&["--force"]).ok();
    // A second run accepts the link of the first, but not another kind of file in its place.
    c.run_detached().ok();
    c.delete(&["--force"]).ok();
    fs::remove_file(c.rootfs("/copied/link")).unwrap();
    fs::write(c.rootfs("/copied/link"), "").unwrap();
    c.create()
        .exits(1)
        .says("mounts[6]")
        .says("EEXIST")
        .one_line();
    c.assert_nothing_left();
}

#[test]
fn src_nofollow_mounts_a_link_and_dest_nofollow_mounts_on_one() {
    let mut c = container!();
    let link = with_a_link(&c);
    let file = link.with_file_name("file");
    std::os::unix::fs::symlink("/etc/passwd", c.rootfs("/place")).unwrap();
    c.mount(
        "/place",
        "bind",
        file.to_str().unwrap(),
        &["bind", "dest-nofollow"],
    );
    c.mount(
        "/new",
        "bind",
        file.to_str().unwrap(),
        &["bind", "dest-nofollow"],
    );
    c.mount(
        "/from",
        "bind",
        link.to_str().unwrap(),
        &["bind", "src-nofollow"],
    );
    c.run_detached().ok();
    assert_eq!(
        c.exec_output("cat /place /new; readlink /from"),
        "contentcontentfile\n"
    );
    assert!(c.exec_output("cat /etc/passwd").starts_with("root:"));
    assert!(kernel::mount_at(c.pid(), "/place").is_some());
}

// The devtmpfs is not mounted at /dev, so that a failing test can't change the host's nodes.
#[test]
fn nothing_is_made_in_a_file_system_that_is_the_hosts() {
    let host = kernel::mount_of(std::path::Path::new("/dev"));
    if host.is_none_or(|mount| mount.fstype != "devtmpfs") {
        return skipped("the host's /dev is no devtmpfs");
    }
    let name = format!("orlop-canary-{}", std::process::id());
    let canary = std::path::Path::new("/dev").join(&name);
    for within in ["mount", "device", "cwd"] {
        let mut c = container!();
        // The size option would change the size of the host's /dev.
        c.mount("/given", "devtmpfs", "devtmpfs", &["nosuid", "size=1234k"]);
        let size = nix::sys::statvfs::statvfs("/dev").unwrap().blocks();
        let inside = format!("/given/{name}");
        match within {
            "mount" => drop(c.mount(&inside, "tmpfs", "tmpfs", &[])),
            "device" => drop(c.edit(|j| {
                j["linux"]["devices"] =
                    json!([{"path": inside, "type": "c", "major": 1, "minor": 3}]);
            })),
            _ => drop(c.edit(|j| j["process"]["cwd"] = json!(inside))),
        }
        let output = c.run();
        let made = canary.symlink_metadata().is_ok();
        let _ = fs::remove_dir(&canary).or_else(|_| fs::remove_file(&canary));
        assert!(!made, "{within}");
        assert_eq!(nix::sys::statvfs::statvfs("/dev").unwrap().blocks(), size);
        output.exits(1).says(&name);
        c.assert_nothing_left();
    }
    let mut c = container!();
    c.mount("/given", "devtmpfs", "devtmpfs", &["nosuid"]);
    let flags = c.output_of("grep ' /given ' /proc/self/mountinfo | cut -d' ' -f6");
    assert_eq!(flags, "rw,nosuid,relatime\n");
}

#[test]
fn no_cgroup_is_made_for_a_mount_point() {
    let mut c = container!();
    let cgroups = kernel::cgroup2_mount().unwrap();
    let name = format!("{}-mount-point", c.id);
    let below = cgroups.join(&name);
    for destination in [format!("/c/{name}"), format!("/c/{name}/deeper")] {
        c.edit(|j| j["mounts"].as_array_mut().unwrap().truncate(6));
        c.mount("/c", "bind", cgroups.to_str().unwrap(), &["bind"]);
        c.mount(&destination, "tmpfs", "tmpfs", &[]);
        c.run()
            .exits(1)
            .one_line()
            .says("mounts[7]")
            .says("make the mount point in /c");
        assert!(!below.exists(), "{}", below.display());
    }
    c.assert_nothing_left();
}

// A mount point in the host's /dev is only a name, and runc creates it too. One example is
// /dev/termination-log, which kubelets use.
#[test]
fn the_hosts_dev_in_a_volume_gets_mount_points_and_no_device_nodes() {
    let host = kernel::mount_of(std::path::Path::new("/dev"));
    if host.is_none_or(|mount| mount.fstype != "devtmpfs") {
        return skipped("the host's /dev is no devtmpfs");
    }
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let name = format!("orlop-canary-{}", std::process::id());
    let [new, old, dir] = ["new", "old", "dir"].map(|what| format!("/dev/{name}-{what}"));
    let containers = (container!(), container!(), container!());
    mknod(
        old.as_str(),
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o640),
        makedev(1, 3),
    )
    .unwrap();
    let run = |mut c: Container, path: &str, destination: &str| {
        c.mount("/given", "bind", "/dev", &["bind"]);
        if !destination.is_empty() {
            c.mount(&format!("/given/{destination}"), "tmpfs", "tmpfs", &[]);
        }
        let node = json!({"path": path, "type": "c", "major": 1, "minor": 3, "fileMode": 0o666});
        c.edit(|j| j["linux"]["devices"] = json!([node]));
        c.args(&["/bin/true"]);
        let output = c.run();
        (c, output)
    };
    let refused = run(containers.0, &new.replace("/dev", "/given"), "");
    let below = run(containers.1, &format!("/given/{name}-new/sub/node"), "");
    let taken = run(
        containers.2,
        &old.replace("/dev", "/given"),
        &format!("{name}-dir"),
    );
    let mode = fs::metadata(&old).unwrap().permissions().mode() & 0o777;
    let made = fs::symlink_metadata(&new).is_ok();
    let directory = fs::remove_dir(&dir);
    let _ = fs::remove_dir_all(&new).or_else(|_| fs::remove_file(&new));
    fs::remove_file(&old).unwrap();
    assert!(!made);
    assert_eq!(mode, 0o640);
    for (_container, output) in [refused, below] {
        output
            .exits(1)
            .says("linux.devices[0]")
            .says("the host's /dev");
    }
    taken.1.ok();
    directory.unwrap();
}

// The test uses its own ipc namespace, so that message queues are deleted with the namespace.
#[test]
fn no_message_queue_is_made_for_a_mount_point() {
    let mut c = container!();
    let queues = c.scratch().join("queues");
    fs::create_dir(&queues).unwrap();
    c.mount("/queues", "bind", queues.to_str().unwrap(), &["bind"]);
    let file = c.scratch().join("file");
    fs::write(&file, "").unwrap();
    c.mount("/queues/new", "bind", file.to_str().unwrap(), &["bind"]);
    c.args(&["/bin/true"]);
    let script = r#"mount -t mqueue mqueue "$0" || exit; "$@"; code=$?; ls "$0"; exit $code"#;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--ipc", "sh", "-c", script])
        .arg(&queues);
    let inner = c.command(&["run", "--bundle"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.arg(c.dir()).arg(&c.id);
    let output = c.finish(command);
    assert_eq!(output.stdout(), "");
    output
        .exits(1)
        .one_line()
        .says("make the mount point in /queues")
        .says("EPERM");
}
