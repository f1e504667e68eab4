//! Where a container comes back: another id, cgroup, namespace, profile.

use super::*;
use crate::harness::adopt;
use crate::lsm::Profile;

/// Restores the container of the images under another id, with a cgroup of that name.
#[track_caller]
fn restore_as(c: &mut Container, id: &str, flags: &[&str]) -> i32 {
    let path = format!("{}/{id}", c.parent_cgroup_path());
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    let (images, pid_file) = (images(c), c.scratch().join(id));
    let mut all = vec!["restore", "--detach", "--image-path", &images];
    all.extend(["--bundle", c.dir().to_str().unwrap()]);
    all.extend(["--pid-file", pid_file.to_str().unwrap()]);
    all.extend(flags);
    all.push(id);
    c.runtime(&all).ok();
    fs::read_to_string(&pid_file).unwrap().parse().unwrap()
}

#[test]
fn a_restore_under_another_id_is_in_its_own_cgroup() {
    for mode in ["soft", "ignore"] {
        let mut c = counter!();
        let mode = ["--manage-cgroups-mode", mode];
        run(&c, &[]);
        let last = goes_on(&c, 0);
        let old = c.cgroup();
        checkpointed(&c, &mode);
        let pid = restore_as(&mut c, "other", &mode);
        adopt(pid);
        goes_on(&c, last);
        let path = format!("{}/other", c.parent_cgroup_path());
        assert_eq!(kernel::cgroup_of(pid), path, "{mode:?}");
        assert!(!old.exists(), "{mode:?}");
        let state = c.runtime(&["state", "other"]).ok().stdout();
        let state: serde_json::Value = serde_json::from_str(&state).unwrap();
        assert_eq!(state["pid"], json!(pid));
        let cgroup = ["exec", "other", "/bin/sh", "-c", "tail -n 1 /proc/1/cgroup"];
        assert_eq!(c.runtime(&cgroup).ok().stdout(), "0::/\n", "{mode:?}");
        c.runtime(&["delete", "--force", "other"]).ok();
    }
}

#[test]
fn a_restore_refuses_the_mode_in_which_criu_wants_no_cgroup() {
    let c = counter!();
    run(&c, &[]);
    goes_on(&c, 0);
    let strict = ["--manage-cgroups-mode", "strict"];
    checkpointed(&c, &strict);
    restore(&c, &["--detach", strict[0], strict[1]])
        .exits(1)
        .one_line()
        .says("--manage-cgroups-mode strict");
    c.delete(&["--force"]).ok();
}

#[test]
fn ipc_and_uts_namespaces_that_are_joined_stay_those() {
    let mut c = counter!();
    let script = "hostname of-the-pod; echo; exec sleep 1000";
    let mut holder = Command::new("unshare");
    holder.args(["--ipc", "--uts", "/bin/sh", "-c", script]);
    let mut holder = holder.stdout(Stdio::piped()).spawn().unwrap();
    holder.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let pid = holder.id() as i32;
    for name in ["ipc", "uts"] {
        c.join_namespace(name, &format!("/proc/{pid}/ns/{name}"));
    }
    // The container has no say in the host name of a namespace that it doesn't own.
    c.edit(|j| _ = j.as_object_mut().unwrap().remove("hostname"));
    let ended = std::panic::catch_unwind(|| {
        run(&c, &[]);
        let last = goes_on(&c, 0);
        checkpointed(&c, &[]);
        restored(&c, &[]);
        goes_on(&c, last);
        for name in ["ipc", "uts"] {
            let its = kernel::namespace(c.pid(), name);
            assert_eq!(its, kernel::namespace(pid, name), "{name}");
        }
        assert_eq!(c.exec_output("hostname"), "of-the-pod\n");
    });
    holder.kill().unwrap();
    holder.wait().unwrap();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn devices_come_back_with_their_rules() {
    let mut c = counter!();
    c.edit(|j| {
        j["linux"]["devices"] = json!([
            {"path": "/dev/nothing", "type": "c", "major": 1, "minor": 3, "fileMode": 384},
        ]);
        j["linux"]["resources"]["devices"] = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"},
        ]);
    });
    let caps = ["CAP_MKNOD", "CAP_DAC_OVERRIDE"];
    c.capabilities(&["bounding", "permitted", "effective"], &caps);
    run(&c, &[]);
    let last = goes_on(&c, 0);
    let seen = || {
        // 1:200 has no driver: a denied open fails with another error.
        let script = "stat -c '%F %t:%T %a' /dev/nothing; : >/dev/nothing && echo opened; \
                      mknod /tmp/node c 1 200; (: </tmp/node) 2>&1 | grep -o 'not permitted'; \
                      rm /tmp/node";
        c.exec_output(script)
    };
    let before = seen();
    assert_eq!(
        before,
        "character special file 1:3 600\nopened\nnot permitted\n"
    );
    checkpointed(&c, &[]);
    restored(&c, &[]);
    goes_on(&c, last);
    assert_eq!(seen(), before);
}

#[test]
fn the_profile_of_a_restore_is_that_of_the_flag() {
    let mut c = counter!();
    let (Some(one), Some(other)) = (Profile::load(&c, "one"), Profile::load(&c, "other")) else {
        return;
    };
    c.edit(|j| j["process"]["apparmorProfile"] = json!(one.name));
    run(&c, &[]);
    let mut last = goes_on(&c, 0);
    let label = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
        text.trim_end().to_owned()
    };
    checkpointed(&c, &[]);
    restored(&c, &[]);
    last = goes_on(&c, last);
    assert_eq!(label(c.pid()), one.enforced());
    checkpointed(&c, &[]);
    restored(&c, &["--lsm-profile", &format!("apparmor:{}", other.name)]);
    goes_on(&c, last);
    assert_eq!(label(c.pid()), other.enforced());
}

/// Only SELinux has contexts of mounts, so this test shows the request to CRIU, a stand-in.
#[test]
fn criu_is_given_the_profile_and_the_context_of_mounts() {
    let c = container!();
    fs::create_dir(images(&c)).unwrap();
    // `criu_resp`: type VERSION, success, version 4.1.
    let (answer, asked) = (c.scratch().join("answer"), c.scratch().join("asked"));
    fs::write(&answer, [8, 10, 16, 1, 82, 4, 8, 4, 16, 1]).unwrap();
    let note = format!(
        "dd bs=64k count=1 <&$2 >>{}; cat {} >&$2",
        asked.display(),
        answer.display()
    );
    let dir = fake_criu(&c, &note);
    let images = images(&c);
    let mut command = c.command(&["restore", "--detach", "--image-path", &images]);
    command.args([
        "--lsm-profile",
        "selinux:a:b:c",
        "--lsm-mount-context",
        "d:e:f",
    ]);
    command.args(["--bundle", c.dir().to_str().unwrap(), &c.id]);
    command.env("PATH", format!("{}:/bin:/usr/bin", dir.display()));
    c.finish(command).exits(1);
    let asked = fs::read(&asked).unwrap();
    // Fields 53 and 63 of `criu_opts`: a key, a length, the text.
    for field in [&b"\xaa\x03\x0dselinux:a:b:c"[..], &b"\xfa\x03\x05d:e:f"[..]] {
        let found = asked.windows(field.len()).any(|window| window == field);
        assert!(found, "{}", String::from_utf8_lossy(&asked));
    }
}

/// The lines that containerd's shim sends, for a container that it has paused.
#[test]
fn a_paused_container_is_dumped_and_restored_as_the_containerd_shim_does() {
    let mut c = counter!();
    c.script("while read line; do echo got $line; done");
    let scratch = c.scratch();
    let log = scratch.join("log.json");
    let work = scratch.join("criu-work");
    let globals = ["--log", log.to_str().unwrap(), "--log-format", "json"];
    let start = |words: &[&str]| {
        let mut command = c.command(&[&globals[..], words].concat());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        assert!(
            wait_for(&mut child).success(),
            "{:?}",
            fs::read_to_string(&log)
        );
        (child.stdin.take().unwrap(), child.stdout.take().unwrap())
    };
    let hear = |(input, output): &mut (std::process::ChildStdin, std::process::ChildStdout),
                word: &str| {
        input.write_all(format!("{word}\n").as_bytes()).unwrap();
        let mut bytes = vec![0; word.len() + 5];
        output.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("got {word}\n"));
    };
    let (bundle, pid_file) = (c.dir().to_str().unwrap(), c.pid_file());
    let place = [
        "--bundle",
        bundle,
        "--pid-file",
        pid_file.to_str().unwrap(),
        &c.id,
    ];
    let mut first = start(&[&["create"], &place[..]].concat());
    c.start().ok();
    hear(&mut first, "one");
    c.runtime(&["pause", &c.id]).ok();
    let images = images(&c);
    let paths = [
        "--image-path",
        &images,
        "--work-path",
        work.to_str().unwrap(),
    ];
    let dump = [
        &globals[..],
        &["checkpoint"],
        &paths,
        &["--leave-running", &c.id],
    ]
    .concat();
    c.runtime(&dump).ok();
    assert_eq!(c.status(), "paused");
    c.runtime(&["resume", &c.id]).ok();
    hear(&mut first, "two");
    c.delete(&["--force"]).ok();
    c.wait();
    fs::remove_file(&pid_file).unwrap();
    let rest = ["--detach", "--pid-file", pid_file.to_str().unwrap()];
    let bundle = ["-no-subreaper", "--bundle", bundle, &c.id];
    let mut second = start(&[&["restore"], &paths[..], &rest, &bundle].concat());
    hear(&mut second, "three");
    assert_eq!(c.status(), "running");
}

/// With a hierarchy of cgroup v1, CRIU would mount cgroup v2 without options.
#[test]
fn a_hierarchy_of_cgroup_v1_costs_the_host_no_options_of_cgroup_v2() {
    let c = counter!();
    SHARED.set(None);
    let _alone = HIERARCHIES.write().unwrap_or_else(PoisonError::into_inner);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let options = |text: &str| {
        let line = text.lines().find(|line| line.contains(" - cgroup2 "));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    let before = options(&mounts);
    if before == "rw" || mounts.contains(" - cgroup ") {
        return skipped("cgroup v2 has no options here, or there is cgroup v1 already");
    }
    run(&c, &[]);
    let last = goes_on(&c, 0);
    let at = c.scratch().join("v1");
    fs::create_dir(&at).unwrap();
    let dump = c.command(&[
        "checkpoint",
        "--leave-running",
        "--image-path",
        &images(&c),
        &c.id,
    ]);
    let mut command = Command::new("unshare");
    let script = "mount -t cgroup -o none,name=orlop-test none \"$1\" || exit 99; shift; \"$@\"";
    command
        .args(["--mount", "/bin/sh", "-c", script, "sh"])
        .arg(&at);
    command.arg(dump.get_program()).args(dump.get_args());
    let output = c.finish(command);
    assert_eq!(
        options(&fs::read_to_string("/proc/self/mountinfo").unwrap()),
        before
    );
    output.ok();
    goes_on(&c, last);
    // The hierarchy has gone with its mount; the container isn't in it.
    checkpointed(&c, &[]);
    restored(&c, &[]);
    goes_on(&c, last);
}

#[test]
fn rounds_leave_nothing() {
    let c = counter!();
    run(&c, &[]);
    let mut last = goes_on(&c, 0);
    let own = std::process::id();
    let open = || fs::read_dir(format!("/proc/{own}/fd")).unwrap().count();
    let cgroups = || kernel::cgroups_below(c.cgroup().parent().unwrap());
    let (mounts, before) = (kernel::host_mountinfo(), cgroups());
    let descriptors = open();
    let names = kernel::descriptors(c.pid());
    let rounds = std::env::var("ORLOP_TEST_ROUNDS").map_or(5, |n| n.parse().unwrap());
    for _ in 0..rounds {
        checkpointed(&c, &[]);
        assert!(c.root_entries().is_empty());
        restored(&c, &[]);
        last = goes_on(&c, last);
    }
    assert_eq!(cgroups(), before);
    assert_eq!(kernel::descriptors(c.pid()), names);
    assert_eq!(kernel::procs(&c.cgroup()).len(), 2);
    // Others may mount meanwhile, but not in directories of this container.
    let own = c.scratch().parent().unwrap().to_str().unwrap().to_owned();
    let below = |text: &str| text.lines().filter(|line| line.contains(&own)).count();
    assert_eq!(below(&kernel::host_mountinfo()), below(&mounts));
    assert!(open() <= descriptors + 64);
    let directory = c.root().join(&c.id);
    assert!(!directory.join("criu").exists());
}
