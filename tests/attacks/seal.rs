//! The seals that keep the runtime's program from being written: a view that replaces the mappings,
//! a view that is executed, a copy in memory, a file system that is read-only itself.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use super::filter::refusing;
use super::program::Copy;
use crate::harness::{Container, Output, eventually, kernel, skipped};

/// Runs `create` by a copy of the runtime.
fn create(c: &Container, copy: &Copy) -> Command {
    let bundle = c.dir().to_str().unwrap().to_owned();
    let pid_file = c.pid_file().to_str().unwrap().to_owned();
    copy.command(
        c,
        &[
            "create",
            "--bundle",
            &bundle,
            "--pid-file",
            &pid_file,
            &c.id,
        ],
    )
}

/// Opens the file that a process runs from, through each path in /proc that leads to it.
fn keep(pid: i32) -> Vec<File> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let mut ways: Vec<PathBuf> = fs::read_dir(proc.join("map_files"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    ways.push(proc.join("exe"));
    assert!(ways.len() > 1, "{ways:?}");
    let inode = fs::metadata(proc.join("exe")).unwrap().ino();
    let open = |way: &PathBuf| {
        assert_eq!(fs::metadata(way).unwrap().ino(), inode, "{way:?}");
        let mut options = fs::OpenOptions::new();
        options.read(true).custom_flags(libc::O_PATH);
        options.open(way).unwrap()
    };
    ways.iter().map(open).collect()
}

/// Tries to write to a file through an O_PATH descriptor. First checks that its mount can't be made
/// writable.
fn written(file: &File) -> Result<usize, Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let (none, flags) = (None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_BIND);
    let remounted = mount(none, path.as_str(), none, flags, none);
    assert!(remounted.is_err(), "{path} was remounted");
    let opened = fs::OpenOptions::new().write(true).open(&path);
    let done = opened.and_then(|mut file| file.write(b"overwritten"));
    done.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap()))
}

/// Deletes a created container, then checks that the file init ran from can't be written.
#[track_caller]
fn assert_sealed(c: &Container, kept: &[File], by: Errno) {
    c.delete(&["--force"]).ok();
    for file in kept {
        assert_eq!(written(file), Err(by));
    }
}

#[test]
fn cve_2019_5736_what_is_kept_of_the_program_cannot_be_written_later() {
    let c = container!();
    let copy = Copy::of(&c);
    c.finish(create(&c, &copy)).ok();
    let kept = keep(c.pid());
    assert_eq!(
        kept[0].metadata().unwrap().ino(),
        fs::metadata(&copy.path).unwrap().ino()
    );
    assert_sealed(&c, &kept, Errno::EROFS);
    copy.assert_unchanged();
}

/// The runtime executes the view on a kernel without CONFIG_CHECKPOINT_RESTORE, and for a caller
/// without the capability.
#[test]
fn cve_2019_5736_the_program_is_sealed_where_its_mappings_cannot_be_replaced() {
    for errno in [libc::EINVAL, libc::EPERM] {
        let c = container!();
        let copy = Copy::of(&c);
        let mut command = create(&c, &copy);
        refusing(
            &mut command,
            &[(libc::SYS_prctl, Some(libc::PR_SET_MM as u32), errno)],
        );
        c.finish(command).ok();
        let kept = keep(c.pid());
        assert_sealed(&c, &kept, Errno::EROFS);
        copy.assert_unchanged();
    }
}

/// If no view can be made, the runtime runs from a copy in memory. `vm.memfd_noexec` decides
/// whether it may.
#[test]
fn cve_2019_5736_the_program_is_a_sealed_copy_in_memory_for_a_caller_without_privileges() {
    const USER: u32 = 61_236;
    for (noexec, may) in [("0", true), ("1", true), ("2", false)] {
        let mut c = container!();
        c.user_namespace().without_mount("/sys").edit(|j| {
            let linux = j["linux"].as_object_mut().unwrap();
            linux.remove("cgroupsPath");
            linux.remove("resources");
            let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
            linux.insert("uidMappings".into(), map.clone());
            linux.insert("gidMappings".into(), map);
        });
        c.give_to(USER);
        let copy = Copy::of(&c);
        let inner = create(&c, &copy);
        let stop = c.scratch().join("stop");
        // Each pid namespace has its own value of the sysctl.
        let script = "echo $0 >/proc/sys/vm/memfd_noexec || exit 77; stop=$1; user=$2; shift 2; \
            setpriv --reuid $user --regid $user --clear-groups \"$@\" || exit; \
            while [ ! -e $stop ]; do sleep 0.02; done";
        let mut command = Command::new("unshare");
        command.args([
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
            script,
            noexec,
        ]);
        command.arg(&stop).arg(USER.to_string());
        command.arg(inner.get_program()).args(inner.get_args());
        for (key, value) in inner.get_envs() {
            command.env(key, value.unwrap());
        }
        command
            .stdin(Stdio::null())
            .stderr(File::create(c.scratch().join("said")).unwrap());
        let mut outer = command.spawn().unwrap();
        let mut code = None;
        let said = || fs::read_to_string(c.scratch().join("said")).unwrap();
        eventually("create ends", || {
            code = outer.try_wait().unwrap();
            code.is_some() || fs::exists(c.pid_file()).unwrap()
        });
        if code.and_then(|code| code.code()) == Some(77) {
            return skipped("the kernel has no vm.memfd_noexec");
        }
        if !may {
            crate::harness::wait_for(&mut outer);
            let said = said();
            assert!(
                said.contains("memfd_create") && said.lines().count() == 1,
                "{said}"
            );
            c.assert_nothing_left();
            continue;
        }
        let cookie = c.config()["process"]["env"][1].as_str().unwrap().to_owned();
        let runs = |pid: &i32| {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            exe.to_str().unwrap().starts_with("/memfd:orlop")
        };
        let processes = kernel::processes_with_environment(&cookie);
        let init = processes.iter().map(|(pid, _)| *pid).find(runs);
        let init = init.unwrap_or_else(|| panic!("{noexec}: {processes:?}: {}", said()));
        let kept = keep(init);
        fs::write(&stop, "").unwrap();
        crate::harness::wait_for(&mut outer);
        for file in &kept {
            assert_eq!(written(file), Err(Errno::EPERM), "{noexec}");
        }
        copy.assert_unchanged();
    }
}

/// A read-only mount alone protects nothing: an attacker can keep a descriptor until the mount is
/// made writable again.
#[test]
fn cve_2019_5736_a_program_on_a_read_only_mount_is_sealed_all_the_same() {
    let c = container!();
    let original = Copy::of(&c);
    let dir = c.scratch().join("bin");
    fs::create_dir(&dir).unwrap();
    let none = None::<&str>;
    let flags = MsFlags::MS_BIND;
    mount(
        Some(original.path.parent().unwrap()),
        &dir,
        none,
        flags,
        none,
    )
    .unwrap();
    let remount = |flags| {
        mount(
            none,
            &dir,
            none,
            MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags,
            none,
        )
        .unwrap()
    };
    remount(MsFlags::MS_RDONLY);
    let copy = Copy {
        path: dir.join("orlop"),
        before: Copy::look(&original.path),
    };
    let said = c.finish(create(&c, &copy));
    let kept = if said.code == 0 {
        keep(c.pid())
    } else {
        Vec::new()
    };
    remount(MsFlags::empty());
    c.delete(&["--force"]).ok();
    let answers: Vec<_> = kept.iter().map(written).collect();
    umount2(&dir, MntFlags::MNT_DETACH).unwrap();
    said.ok();
    assert!(
        answers.iter().all(|answer| *answer == Err(Errno::EROFS)),
        "{answers:?}"
    );
    original.assert_unchanged();
}

/// A file system that is read-only itself needs no seal.
#[test]
fn cve_2019_5736_a_program_on_a_read_only_file_system_stays_where_it_is() {
    let c = container!();
    let original = Copy::of(&c);
    let dir = c.scratch().join("image");
    fs::create_dir(&dir).unwrap();
    let size = Some("size=128m");
    mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), size).unwrap();
    crate::harness::install(&original.before.0, &dir.join("orlop"));
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let none = None::<&str>;
    mount(none, &dir, none, flags, none).unwrap();
    let copy = Copy {
        path: dir.join("orlop"),
        before: Copy::look(&dir.join("orlop")),
    };
    let said = c.finish(create(&c, &copy));
    let kept = if said.code == 0 {
        keep(c.pid())
    } else {
        Vec::new()
    };
    c.delete(&["--force"]).ok();
    // A container with CAP_SYS_ADMIN could make a bind mount like this one.
    flags = MsFlags::MS_BIND;
    let view = c.scratch().join("view");
    fs::create_dir(&view).unwrap();
    mount(Some(&dir), &view, none, flags, none).unwrap();
    let again = fs::OpenOptions::new().write(true).open(view.join("orlop"));
    let again = again.map(drop).map_err(|e| e.raw_os_error());
    let answers: Vec<_> = kept
        .iter()
        .map(|file| {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let opened = fs::OpenOptions::new().write(true).open(path);
            opened.map(drop).map_err(|e| e.raw_os_error())
        })
        .collect();
    for dir in [&view, &dir] {
        umount2(dir, MntFlags::MNT_DETACH).unwrap();
    }
    said.ok();
    assert_eq!(again, Err(Some(libc::EROFS)));
    assert!(!answers.is_empty());
    assert!(
        answers
            .iter()
            .all(|answer| *answer == Err(Some(libc::EROFS))),
        "{answers:?}"
    );
}

/// The program is upgraded during the life of a container, or removed from its directory while it
/// starts.
#[test]
fn cve_2019_5736_a_program_that_is_replaced_or_removed_is_neither_lost_nor_written() {
    let c = container!();
    let copy = Copy::of(&c);
    c.finish(create(&c, &copy)).ok();
    let kept = keep(c.pid());
    let new = c.scratch().join("new");
    crate::harness::install(&copy.before.0, &new);
    fs::rename(&new, &copy.path).unwrap();
    let replaced = Copy {
        path: copy.path.clone(),
        before: Copy::look(&copy.path),
    };
    let old = fs::metadata(format!("/proc/{}/exe", c.pid()))
        .unwrap()
        .ino();
    assert_eq!(old, copy.before.2);
    c.finish(replaced.command(&c, &["start", &c.id])).ok();
    let output = c.finish(replaced.command(&c, &["exec", &c.id, "/bin/sh", "-c", "echo new"]));
    assert_eq!(output.ok().stdout(), "new\n");
    c.finish(replaced.command(&c, &["kill", &c.id, "KILL"]))
        .ok();
    c.wait_dead();
    c.finish(replaced.command(&c, &["delete", &c.id])).ok();
    for file in &kept {
        assert_eq!(written(file), Err(Errno::EROFS));
    }
    replaced.assert_unchanged();
    // The program is removed before it starts, so its file has no name any more.
    let inner = create(&c, &replaced);
    let mut command = Command::new("/bin/sh");
    let script = "exec 7<\"$1\"; rm \"$1\"; shift; exec /proc/self/fd/7 \"$@\"";
    command
        .args(["-c", script, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    for (key, value) in inner.get_envs() {
        command.env(key, value.unwrap());
    }
    command.stdin(Stdio::null());
    c.finish(command).ok();
    let kept = keep(c.pid());
    c.delete(&["--force"]).ok();
    for file in &kept {
        let answer = written(file);
        assert!(
            matches!(answer, Err(Errno::EROFS | Errno::EPERM)),
            "{answer:?}"
        );
    }
}

/// The caller's open descriptors of the program do not reach the container.
#[test]
fn cve_2019_5736_a_descriptor_that_the_caller_leaks_is_closed() {
    let mut c = container!();
    let copy = Copy::of(&c);
    let leaking = |inner: &Command| {
        let mut command = Command::new("/bin/sh");
        // The program twice, to read and to open for writing later, and its directory.
        let script = "exec 3<\"$1\" 5<\"${1%/*}\" 9<\"$1\"; exec \"$@\"";
        command
            .args(["-c", script, "sh"])
            .arg(inner.get_program())
            .args(inner.get_args());
        for (key, value) in inner.get_envs() {
            command.env(key, value.unwrap());
        }
        command.stdin(Stdio::null());
        command
    };
    c.script("ls /proc/self/fd | wc -l; sleep 1000");
    c.finish(leaking(&create(&c, &copy))).ok();
    let init = kernel::descriptors(c.pid());
    let is_files = |target: &str| Path::new(target).starts_with(c.scratch());
    assert!(!init.iter().any(|(_, target)| is_files(target)), "{init:?}");
    c.start().ok();
    let exec = copy.command(&c, &["exec", &c.id, "/bin/ls", "/proc/self/fd"]);
    let output: Output = c.finish(leaking(&exec));
    // 3 is the directory that ls reads.
    assert_eq!(output.ok().stdout(), "0\n1\n2\n3\n");
    copy.assert_unchanged();
}
