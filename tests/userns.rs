//! User namespaces: mappings, the view and the limits of root inside, and idmapped mounts.
//! Other namespaces are in `namespaces`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use serde_json::json;

use crate::harness::{Container, kernel, words};

#[test]
fn root_of_a_user_namespace_is_the_mapped_user_of_the_host() {
    let mut c = container!();
    c.user_namespace();
    c.run_detached().ok();
    let pid = c.pid();
    for (field, ids) in [("Uid", "100000"), ("Gid", "100000")] {
        assert_eq!(words(&kernel::status(pid, field)), [ids; 4]);
    }
    assert_eq!(kernel::status(pid, "Groups").trim(), "");
    for kind in ["user", "pid", "net", "mnt", "ipc", "uts"] {
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let its = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_ne!(own, its, "{kind}");
    }
}

#[test]
fn a_user_namespace_need_not_map_id_0() {
    let mut c = container!();
    c.user_namespace();
    let text =
        "id -u; id -g; stat -c %u /dev/shm /made; touch /dev/shm/x; grep CapEff /proc/self/status";
    c.edit(|j| {
        let map = json!([{"containerID": 999, "hostID": 100_000, "size": 1}]);
        j["linux"]["uidMappings"] = map.clone();
        j["linux"]["gidMappings"] = map;
        j["process"]["user"] = json!({"uid": 999, "gid": 999});
        let caps = json!(["CAP_SYS_ADMIN", "CAP_CHOWN"]);
        for set in ["bounding", "permitted", "effective"] {
            j["process"]["capabilities"][set] = caps.clone();
        }
        j["process"]["capabilities"]["inheritable"] = caps.clone();
        j["process"]["capabilities"]["ambient"] = caps;
        for mount in j["mounts"].as_array_mut().unwrap() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
    });
    chown(c.rootfs("/"), Some(100_000), Some(100_000)).unwrap();
    c.mount("/made", "tmpfs", "tmpfs", &[]);
    c.script(&format!("({text}) > /dev/shm/out 2>&1; sleep 1000"));
    c.run_detached().ok();
    let all = "999\n999\n999\n999\nCapEff:\t0000000000200001\n";
    let root = format!("/proc/{}/root", c.pid());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let mut read = String::new();
    while read != all && std::time::Instant::now() < deadline {
        read = fs::read_to_string(format!("{root}/dev/shm/out")).unwrap_or_default();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(read, all);
    assert_eq!(words(&kernel::status(c.pid(), "Uid")), ["100000"; 4]);
    assert_eq!(c.exec_output("id -u; id -g"), "999\n999\n");
    // A second container joins the user namespace, as in a pod.
    let path = format!("/proc/{}/ns/user", c.pid());
    let mut second = container!();
    second.edit(|j| {
        j["process"]["user"] = json!({"uid": 999, "gid": 999});
        for mount in j["mounts"].as_array_mut().unwrap() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
    });
    chown(second.rootfs("/"), Some(100_000), Some(100_000)).unwrap();
    second.join_namespace("user", &path);
    assert_eq!(second.output_of("id -u"), "999\n");
}

#[test]
fn a_user_of_a_user_namespace_can_open_its_output_anew() {
    let mut c = container!();
    c.user_namespace();
    c.edit(|j| j["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7]}));
    let script = "echo out > /proc/self/fd/1 && id -u && id -G";
    c.script(script);
    let piped = |c: &Container, args: &[&str]| {
        let command = c.command(args);
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", "\"$@\" | cat", "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        let output = c.finish(shell);
        let (stdout, stderr) = (output.stdout(), output.stderr());
        assert_eq!(stdout, "out\n1000\n1000 7\n", "{args:?}: {stderr}");
    };
    piped(&c, &["run", "--bundle", c.dir().to_str().unwrap(), &c.id]);
    c.args(&["/bin/sleep", "1000"]);
    c.run_detached().ok();
    piped(&c, &["exec", &c.id, "/bin/sh", "-c", script]);
}

#[test]
fn devices_of_a_user_namespace_have_their_names_modes_and_owners() {
    let mut c = container!();
    c.user_namespace();
    let null = |host: &str| {
        fs::metadata(host)
            .map(|m| (m.mode(), m.uid(), m.gid()))
            .unwrap()
    };
    let before = null("/dev/null");
    c.edit(|j| {
        j["linux"]["devices"] = json!([
            {"path": "/dev/other", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
            {"path": "/dev/sub/none", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o662, "gid": 9},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o600, "uid": 5, "gid": 6},
        ]);
        j["linux"]["resources"]["devices"] = json!([
            {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
        ]);
        j["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [8]});
    });
    let text = c.output_of(
        "cd /dev; stat -c '%n %t:%T %a %u:%g' other sub/none null pipe full; \
         head -c 3 other | wc -c; chmod 600 null; chown 3 null; \
         grep -E ' /dev/(other|sub/none|null|full) ' /proc/self/mountinfo | cut -d' ' -f6",
    );
    let expected = "other 1:5 640 7:8\nsub/none 7:c8 600 0:0\nnull 1:3 662 0:9\n\
                    pipe 0:0 600 5:6\nfull 1:7 666 0:0\n3\n";
    let flags = "rw,nosuid,noexec,relatime\n".repeat(4);
    assert_eq!(text, format!("{expected}{flags}"));
    assert_eq!(null("/dev/null"), before);
    c.edit(|j| j["linux"]["devices"][0]["uid"] = json!(70_000));
    let output = c.run();
    output.exits(1).one_line();
    output
        .says("/dev/other")
        .says("linux.devices[0]")
        .says("70000");
    c.assert_nothing_left();
}

#[test]
fn the_device_nodes_of_a_user_namespace_can_be_used() {
    let mut c = container!();
    c.user_namespace();
    let text = c.output_of(
        "for d in null zero full random urandom tty; do stat -c '%n %t:%T %F' /dev/$d; done; \
         echo x > /dev/null && head -c 3 /dev/zero | wc -c; ls -l /dev/ptmx | sed 's/.*-> //'",
    );
    let expected = "/dev/null 1:3 character special file\n/dev/zero 1:5 character special file\n\
                    /dev/full 1:7 character special file\n/dev/random 1:8 character special file\n\
                    /dev/urandom 1:9 character special file\n/dev/tty 5:0 character special file\n\
                    3\npts/ptmx\n";
    assert_eq!(text, expected);
}

// Engines that pass on all devices of the host write such a config.
#[test]
fn a_configured_ptmx_is_the_containers_own_all_the_same() {
    let mut c = container!();
    c.user_namespace();
    c.edit(|j| {
        j["linux"]["devices"] = json!([
            {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2, "fileMode": 0o666},
        ]);
    });
    assert_eq!(c.output_of("readlink /dev/ptmx"), "pts/ptmx\n");
}

#[test]
fn a_root_below_a_directory_that_only_the_hosts_root_may_enter_works() {
    let mut c = container!();
    c.user_namespace();
    let secret = c.scratch().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(secret.join("file"), "reached\n").unwrap();
    fs::set_permissions(c.dir(), fs::Permissions::from_mode(0o700)).unwrap();
    let file = secret.join("file");
    // The root directory belongs to the host's root, who isn't mapped. So no process inside can
    // create a file in it.
    fs::write(c.rootfs("/given"), "").unwrap();
    c.mount("/given", "bind", file.to_str().unwrap(), &["bind", "ro"]);
    assert_eq!(c.output_of("cat /given"), "reached\n");
}

// Only root of the host may clone a mount without the mounts below it. The kernel sets no locks on
// such a clone.
#[test]
fn a_plain_bind_leaves_out_the_mounts_below_it_and_keeps_its_locks() {
    let mut c = container!();
    c.user_namespace();
    c.capabilities(&["bounding", "effective", "permitted"], &["CAP_SYS_ADMIN"]);
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let source = c.scratch().join("source");
    fs::create_dir(&source).unwrap();
    let tmpfs = |at: &std::path::Path, flags| {
        mount(Some("t"), at, Some("tmpfs"), flags, None::<&str>).unwrap();
    };
    tmpfs(&source, MsFlags::empty());
    fs::create_dir(source.join("sub")).unwrap();
    fs::write(source.join("sub/under"), "").unwrap();
    tmpfs(&source.join("sub"), MsFlags::empty());
    fs::write(source.join("sub/over"), "").unwrap();
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC;
    mount(None::<&str>, &source, None::<&str>, flags, None::<&str>).unwrap();
    let before = kernel::host_mountinfo();
    for target in ["/given", "/root-alone"] {
        fs::create_dir(c.rootfs(target)).unwrap();
    }
    c.mount("/given", "bind", source.to_str().unwrap(), &["bind"]);
    c.mount("/root-alone", "bind", "/", &["bind", "ro"]);
    c.script(
        "ls /given/sub; grep -c ' /given' /proc/self/mountinfo; ls /root-alone/proc | wc -l; \
         mount -o remount,bind,rw /given 2>/dev/null || echo locked; \
         grep ' /given ' /proc/self/mountinfo | grep -o 'ro,noexec'",
    );
    let output = c.run();
    let after = kernel::host_mountinfo();
    umount2(&source, MntFlags::MNT_DETACH).unwrap();
    output.ok();
    assert_eq!(output.stdout(), "under\n1\n0\nlocked\nro,noexec\n");
    assert_eq!(before, after);
}

#[test]
fn root_of_a_user_namespace_cannot_uncover_what_a_mount_of_the_host_hides() {
    let mut c = container!();
    c.user_namespace();
    c.edit(|j| {
        for set in ["bounding", "effective", "permitted"] {
            j["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
        }
    });
    fs::create_dir(c.rootfs("/given")).unwrap();
    // On any host, /dev/shm is a mount.
    c.mount("/given", "bind", "/dev", &["rbind"]);
    let text = c.output_of(
        "mkdir /dev/shm/m && mount -t tmpfs t /dev/shm/m && umount /dev/shm/m && echo may unmount; \
         umount /given/shm 2>/dev/null || echo locked",
    );
    assert_eq!(text, "may unmount\nlocked\n");
}

#[test]
fn exec_joins_the_user_namespace() {
    let mut c = container!();
    c.user_namespace();
    c.run_detached().ok();
    assert_eq!(
        c.exec_output("id -u; id -g; cat /proc/self/uid_map"),
        "0\n0\n         0     100000      65536\n"
    );
    let output = c.exec_with(
        &["--user", "1000:1000"],
        &["/bin/sh", "-c", "id -u; grep Uid: /proc/self/status"],
    );
    output.ok();
    assert_eq!(
        words(&output.stdout()),
        ["1000", "Uid:", "1000", "1000", "1000", "1000"]
    );
}

#[test]
fn a_user_namespace_can_share_a_network_namespace_that_it_does_not_own() {
    let mut owner = container!();
    owner.run_detached().ok();
    let mut c = container!();
    c.user_namespace();
    let path = format!("/proc/{}/ns/net", owner.pid());
    c.join_namespace("network", &path);
    c.run_detached().ok();
    assert_eq!(
        kernel::namespace(c.pid(), "net"),
        kernel::namespace(owner.pid(), "net")
    );
    // A new sysfs needs rights over the network namespace, so orlop binds the host's sysfs instead.
    assert!(kernel::mount_at(c.pid(), "/sys").is_some_and(|m| m.fstype == "sysfs"));
}

#[test]
fn sysctls_are_set_in_a_user_namespace() {
    let mut c = container!();
    c.user_namespace();
    c.edit(|j| j["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"}));
    assert_eq!(c.output_of("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
}

#[test]
fn mappings_that_cannot_be_are_refused_at_once_by_place() {
    let mut c = container!();
    c.user_namespace();
    c.edit(|j| {
        j["linux"]["uidMappings"] = json!([{"containerID": 1, "hostID": 1, "size": 0}]);
        j["process"]["user"]["gid"] = json!(70_000);
    });
    let output = c.create();
    output.exits(1).one_line();
    for place in [
        "linux.uidMappings[0]",
        "process.user.uid",
        "process.user.gid",
    ] {
        output.says(place);
    }
    c.assert_nothing_left();
}

#[test]
fn an_idmapped_mount_shows_files_with_mapped_owners_with_and_without_a_user_namespace() {
    for user_namespace in [false, true] {
        let mut c = container!();
        if user_namespace {
            c.user_namespace();
        }
        let dir = c.scratch().join("data");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        chown(dir.join("file"), Some(5), Some(6)).unwrap();
        let to = if user_namespace { 100_007 } else { 7 };
        fs::create_dir(c.rootfs("/data")).unwrap();
        c.mount("/data", "bind", dir.to_str().unwrap(), &["bind", "idmap"]);
        c.edit(|j| {
            let mount = j["mounts"].as_array_mut().unwrap().last_mut().unwrap();
            mount["uidMappings"] = json!([{"containerID": 5, "hostID": to, "size": 1}]);
            mount["gidMappings"] = json!([{"containerID": 6, "hostID": to, "size": 1}]);
        });
        assert_eq!(c.output_of("stat -c '%u %g' /data/file"), "7 7\n");
        let stat = fs::metadata(dir.join("file")).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (5, 6));
    }
}

#[test]
fn an_idmapped_mount_takes_the_mappings_of_the_container() {
    let mut c = container!();
    c.user_namespace();
    let dir = c.scratch().join("data");
    fs::create_dir(&dir).unwrap();
    fs::create_dir(c.rootfs("/data")).unwrap();
    c.mount("/data", "bind", dir.to_str().unwrap(), &["bind", "idmap"]);
    assert_eq!(
        c.output_of("stat -c '%u %g' /data && touch /data/made"),
        "0 0\n"
    );
    let stat = fs::metadata(dir.join("made")).unwrap();
    assert_eq!(
        (stat.uid(), stat.gid()),
        (0, 0),
        "on disk it belongs to root"
    );
}

#[test]
fn an_idmap_without_mappings_or_user_namespace_is_refused() {
    let mut c = container!();
    let dir = c.scratch();
    fs::create_dir(c.rootfs("/data")).unwrap();
    c.mount("/data", "bind", dir.to_str().unwrap(), &["bind", "idmap"]);
    let output = c.create();
    output.exits(1).one_line().says("mounts[").says("idmap");
    c.assert_nothing_left();
}

#[test]
fn a_writable_cgroup_belongs_to_root_of_the_user_namespace_but_for_its_limits() {
    let mut c = container!();
    c.user_namespace();
    c.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev"],
    );
    c.script(
        "cd /sys/fs/cgroup && mkdir -p sub/deep && sh -c 'echo 0 >sub/deep/cgroup.procs && cat /proc/self/cgroup' && \
        rmdir sub/deep && ! (echo 7 >cgroup.max.depth) 2>/dev/null && echo kept",
    );
    let output = c.run();
    output.ok();
    let text = output.stdout();
    assert!(text.lines().any(|line| line == "0::/sub/deep"), "{text}");
    assert!(text.ends_with("kept\n"), "{text}");
}

#[test]
fn a_read_only_cgroup_stays_the_hosts() {
    let mut c = container!();
    c.user_namespace();
    c.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "ro"],
    );
    c.create().ok();
    assert_eq!(fs::metadata(c.cgroup()).unwrap().uid(), 0);
    assert_eq!(
        fs::metadata(c.cgroup().join("cgroup.procs")).unwrap().uid(),
        0
    );
}

#[test]
fn exec_names_the_flag_of_an_id_that_the_user_namespace_does_not_map() {
    let mut c = container!();
    c.user_namespace();
    c.run_detached().ok();
    let file = c.scratch().join("process.json");
    let mut process = c.config()["process"].clone();
    process["user"] = json!({"uid": 0, "gid": 70_000});
    fs::write(&file, process.to_string()).unwrap();
    for (flags, place) in [
        (["--user", "70000"], "become user 70000 (--user): "),
        (["--user", "0:70000"], "become group 70000 (--user): "),
        (
            ["--additional-gids", "70000"],
            "(config.json: process.user.additionalGids and --additional-gids): ",
        ),
    ] {
        c.exec_with(&flags, &["true"])
            .exits(255)
            .one_line()
            .says(place);
    }
    let flags = ["--process", file.to_str().unwrap()];
    c.exec_with(&flags, &[])
        .exits(255)
        .one_line()
        .says(": process.user.gid): ");
}

#[test]
fn a_missing_mount_of_the_host_to_stand_in_for_a_foreign_namespaces_is_an_error_with_the_reason() {
    if std::path::Path::new("/dev/mqueue").exists() {
        return crate::harness::skipped("the host shows its mqueue at /dev/mqueue");
    }
    let mut c = container!();
    c.user_namespace().without_namespace("ipc");
    let output = c.run();
    output.exits(1).one_line();
    output.says("mount /dev/mqueue (config.json: mounts[4])");
    output.says("the user namespace does not own the namespace that it shows");
    let text = output.stderr().to_lowercase();
    assert!(!text.contains("no such file"), "{text}");
    c.assert_nothing_left();
}
