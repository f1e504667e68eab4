//! `mounts add` and `mounts remove`: mounts of a container that exists.
//! Attacks on them are in `attacks::live_mounts`.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::harness::{Container, Output, kernel};

/// Runs `mounts add` or `mounts remove` with a file that lists these mounts.
#[track_caller]
pub(crate) fn change(c: &Container, verb: &str, list: &Value) -> Output {
    let file = c.scratch().join("mounts.json");
    fs::write(&file, list.to_string()).unwrap();
    c.runtime(&["mounts", verb, &c.id, file.to_str().unwrap()])
}

pub(crate) fn bind(source: &str, destination: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": options})
}

pub(crate) fn tmpfs(destination: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options})
}

/// The mounts of a container as its init sees them, without their numbers.
fn picture(c: &Container) -> Vec<String> {
    let mounts = kernel::mounts(c.pid()).into_iter();
    let picture =
        |m: kernel::Mount| format!("{} {} {:?} {}", m.target, m.root, m.options, m.fstype);
    mounts.map(picture).collect()
}

/// Starts a container that does nothing.
fn running() -> Option<Container> {
    let mut c = Container::new()?;
    c.args(&["/bin/sleep", "1000"]);
    c.run_detached().ok();
    Some(c)
}

macro_rules! running {
    () => {
        match running() {
            Some(container) => container,
            None => return,
        }
    };
}

#[test]
fn a_running_container_gets_mounts_and_loses_them_again() {
    let c = running!();
    let before = picture(&c);
    let source = c.scratch().join("source");
    fs::create_dir_all(source.join("below")).unwrap();
    fs::write(source.join("file"), "from the host").unwrap();
    let path = source.to_str().unwrap();
    let list = json!([
        bind(path, "/new/directory", &["rbind", "ro", "nosuid"]),
        bind(&format!("{path}/file"), "/new/file", &["bind"]),
        tmpfs("/new/directory/below", &["nodev", "size=1m"]),
        tmpfs("/tmpfs", &["ro", "noexec", "mode=750"]),
    ]);
    let added = change(&c, "add", &list);
    added.ok();
    assert_eq!(added.stdout() + &added.stderr(), "");
    let at = |target: &str| kernel::mount_at(c.pid(), target).unwrap();
    let directory = at("/new/directory");
    assert!(
        directory.has("ro") && directory.has("nosuid"),
        "{}",
        directory.line
    );
    // mountinfo has a path of the file system, which need not be mounted at the caller's root.
    let ends = |root: &str, end: &str| assert!(root.ends_with(end), "{root}");
    ends(&directory.root, "/scratch/source");
    ends(&at("/new/file").root, "/scratch/source/file");
    assert!(at("/new/directory/below").super_has("size=1024k"));
    let late = at("/tmpfs");
    assert!(
        late.has("ro") && late.has("noexec") && late.super_has("mode=750"),
        "{}",
        late.line
    );
    assert_eq!(
        c.exec_output("cat /new/file /new/directory/file"),
        "from the host".repeat(2)
    );
    // A missing mount point is made as by create.
    let modes =
        ["new", "new/file"].map(|name| fs::metadata(c.rootfs(name)).unwrap().mode() & 0o7777);
    assert_eq!(modes, [0o755, 0o644]);
    change(&c, "remove", &list).ok();
    assert_eq!(picture(&c), before);
    change(&c, "remove", &list)
        .exits(1)
        .one_line()
        .says("isn't one that mounts add has made");
}

#[test]
fn a_created_container_gets_mounts_that_its_program_sees() {
    let mut c = container!();
    c.script("ls /late");
    c.create().ok();
    fs::write(c.scratch().join("file"), "").unwrap();
    let source = c.scratch();
    change(
        &c,
        "add",
        &json!([bind(source.to_str().unwrap(), "/late", &["bind"])]),
    )
    .ok();
    c.start().ok();
    c.wait_dead();
    assert!(
        c.payload_output().contains("file"),
        "{}",
        c.payload_output()
    );
}

#[test]
fn either_all_mounts_are_added_or_none() {
    let mut c = container!();
    c.edit(|j| j["root"]["readonly"] = json!(true));
    fs::create_dir_all(c.rootfs("there/below")).unwrap();
    c.args(&["/bin/sleep", "1000"]);
    c.run_detached().ok();
    let before = picture(&c);
    let record = c.root().join(&c.id).join("state.json");
    let recorded = fs::read(&record).unwrap();
    let good = tmpfs("/there", &[]);
    for (bad, problem) in [
        // The root is read-only, so no mount point can be made in it.
        (
            tmpfs("/missing/x", &[]),
            "mount /missing/x (FILE: [1]): make the mount point in /: mkdirat: EROFS",
        ),
        (
            bind("/no/such/path", "/there", &["bind"]),
            "open /no/such/path for /there (FILE: [1].source): open_tree: ENOENT",
        ),
        (
            tmpfs("/there", &["size=many"]),
            "mount /there (FILE: [1]): fsconfig: EINVAL",
        ),
    ] {
        let output = change(&c, "add", &json!([good, bad]));
        let file = c.scratch().join("mounts.json");
        let problem = problem.replace("FILE", file.to_str().unwrap());
        output.exits(1).one_line().says(&problem);
        assert_eq!(picture(&c), before, "{problem}");
        assert_eq!(fs::read(&record).unwrap(), recorded);
    }
    change(&c, "add", &json!([good])).ok();
    assert!(kernel::mount_at(c.pid(), "/there").is_some());
}

#[test]
fn what_cannot_be_added_or_removed_later_is_refused_by_name() {
    let c = running!();
    let before = picture(&c);
    for (list, problem) in [
        (
            json!([{"destination": "/p", "type": "proc", "source": "proc"}]),
            "[0].type: a proc is mounted at create only",
        ),
        (
            json!([{"destination": "/s", "type": "sysfs", "source": "sysfs"}]),
            "[0].type: a sysfs is mounted at create only",
        ),
        (
            json!([bind("/tmp", "/l", &["bind", "copy-symlink"])]),
            "[0].options: copy-symlink makes a link",
        ),
        (
            json!([bind("/tmp", "/proc/self/attr", &["bind"])]),
            "[0].destination: \"/proc/self/attr\" is inside /proc",
        ),
        (
            json!([bind("/tmp", "/", &["bind"])]),
            "[0].destination: is the root itself",
        ),
        (
            json!([{"destination": "/x", "type": "bind", "options": ["bind"]}]),
            "[0].source: is missing, for a bind mount",
        ),
        (
            json!([tmpfs("/x", &["tmpcopyup", "frob"]), {"type": "tmpfs"}]),
            "[1].destination: is missing",
        ),
        (json!({"mounts": []}), "mounts.json: not an array"),
    ] {
        change(&c, "add", &list).exits(1).one_line().says(problem);
    }
    for (list, problem) in [
        (
            json!([{"destination": "/proc"}]),
            "unmount /proc (FILE: [0]): the mount there isn't one that mounts add has made",
        ),
        (
            json!([{"destination": "/sys/firmware"}]),
            "isn't one that mounts add has made",
        ),
        (
            json!([{"destination": "/bin"}]),
            "isn't one that mounts add has made",
        ),
        (json!([{"source": "/x"}]), "[0].destination: is missing"),
        (
            json!([{"destination": "x"}]),
            "\"x\" is not an absolute path",
        ),
        (json!(1), "mounts.json: not an array"),
    ] {
        let file = c.scratch().join("mounts.json");
        let problem = problem.replace("FILE", file.to_str().unwrap());
        change(&c, "remove", &list)
            .exits(1)
            .one_line()
            .says(&problem);
    }
    assert_eq!(picture(&c), before);
    c.runtime(&["mounts", "swap", &c.id, "/x"])
        .exits(1)
        .says("expected add or remove");
    c.runtime(&["mounts", "add", &c.id])
        .exits(1)
        .says("missing argument");
    c.runtime(&["mounts", "add", "nobody", "/x"])
        .exits(1)
        .says("container does not exist");
}

#[test]
fn a_container_with_added_mounts_has_no_checkpoint() {
    let c = running!();
    let list = json!([tmpfs("/x", &[])]);
    change(&c, "add", &list).ok();
    let images = c.scratch().join("images");
    let images = images.to_str().unwrap();
    let output = c.runtime(&["checkpoint", "--image-path", images, &c.id]);
    output
        .exits(1)
        .one_line()
        .says("mounts remove takes them away");
    assert_eq!(c.status(), "running");
}

#[test]
fn a_paused_a_stopped_and_a_container_without_its_own_mounts_are_refused() {
    let mut c = running!();
    let list = json!([tmpfs("/x", &[])]);
    c.runtime(&["pause", &c.id]).ok();
    for verb in ["add", "remove"] {
        change(&c, verb, &list)
            .exits(1)
            .one_line()
            .says("cannot change the mounts of a container in the paused state");
    }
    c.runtime(&["unpause", &c.id]).ok();
    c.kill("KILL").ok();
    c.wait_dead();
    change(&c, "add", &list)
        .exits(1)
        .one_line()
        .says("cannot change the mounts of a container in the stopped state");
    c.delete(&[]).ok();
    c.without_namespace("mount");
    c.run_detached().ok();
    let host = kernel::host_mountinfo();
    change(&c, "add", &list)
        .exits(1)
        .one_line()
        .says("the container has no mount namespace of its own");
    assert_eq!(kernel::host_mountinfo(), host);
}

#[test]
fn only_the_very_mount_that_was_added_is_removed() {
    let c = running!();
    let source = c.scratch().join("source");
    fs::create_dir_all(source.join("below")).unwrap();
    let below = source.join("below");
    let none: Option<&str> = None;
    mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    let added = change(
        &c,
        "add",
        &json!([bind(source.to_str().unwrap(), "/a", &["rbind"])]),
    );
    umount2(&below, MntFlags::MNT_DETACH).unwrap();
    added.ok();
    // A mount that came along, and a directory in the mount.
    change(&c, "remove", &json!([{"destination": "/a/below"}]))
        .exits(1)
        .says("isn't one that mounts add has made");
    fs::create_dir(source.join("plain")).unwrap();
    change(&c, "remove", &json!([{"destination": "/a/plain"}]))
        .exits(1)
        .says("isn't one that mounts add has made");
    // What was mounted over it hides it.
    change(&c, "add", &json!([tmpfs("/a", &[])])).ok();
    let list = json!([{"destination": "/a"}]);
    change(&c, "remove", &list).ok();
    let root = kernel::mount_at(c.pid(), "/a").unwrap().root;
    assert!(root.ends_with("/scratch/source"), "{root}");
    change(&c, "remove", &list).ok();
    assert!(kernel::mount_at(c.pid(), "/a").is_none());
    let record = fs::read_to_string(c.root().join(&c.id).join("state.json")).unwrap();
    assert!(!record.contains("addedMounts"), "{record}");
}

#[test]
fn a_source_in_use_is_removed_at_once() {
    let mut c = container!();
    c.script("mkdir /a; while ! [ -e /a/file ]; do sleep 0.02; done; cd /a; exec 3</a/file; echo > /ready; exec sleep 1000");
    c.run_detached().ok();
    let source = c.scratch().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    change(
        &c,
        "add",
        &json!([bind(source.to_str().unwrap(), "/a", &["bind"])]),
    )
    .ok();
    c.wait_file("/ready");
    change(&c, "remove", &json!([{"destination": "/a"}])).ok();
    assert!(kernel::mount_at(c.pid(), "/a").is_none());
}

#[test]
fn mounts_come_from_the_host_and_none_go_back() {
    let c = running!();
    let scratch = c.scratch();
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
    fs::create_dir(scratch.join("own")).unwrap();
    let source = scratch.to_str().unwrap();
    let added = change(
        &c,
        "add",
        &json!([
            bind(source, "/s", &["rbind", "rslave"]),
            tmpfs("/s/own", &[])
        ]),
    );
    mount(
        Some("tmpfs"),
        &scratch.join("late"),
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .unwrap();
    let came = added.code == 0 && kernel::mount_at(c.pid(), "/s/late").is_some();
    let went = kernel::host_mountinfo().contains(&format!("{source}/own"));
    umount2(&scratch.join("late"), MntFlags::MNT_DETACH).unwrap();
    umount2(&scratch, MntFlags::MNT_DETACH).unwrap();
    added.ok();
    assert!(came && !went);
}

#[test]
fn in_a_user_namespace_added_mounts_are_locked_as_those_of_create() {
    let mut c = container!();
    c.user_namespace().args(&["/bin/sleep", "1000"]);
    let caps = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"];
    c.capabilities(&["bounding", "effective", "permitted"], &caps);
    chown(c.rootfs("/"), Some(100_000), Some(100_000)).unwrap();
    let before = c.run_detached();
    before.ok();
    let source = c.scratch().join("source");
    fs::create_dir_all(source.join("hidden")).unwrap();
    fs::write(source.join("hidden/secret"), "").unwrap();
    fs::write(source.join("file"), "").unwrap();
    let hidden = source.join("hidden");
    let none: Option<&str> = None;
    mount(
        Some("tmpfs"),
        &hidden,
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .unwrap();
    let path = source.to_str().unwrap();
    let readonly = c.scratch().join("readonly");
    fs::create_dir(&readonly).unwrap();
    let flags = MsFlags::MS_RDONLY;
    mount(Some("tmpfs"), &readonly, Some("tmpfs"), flags, none).unwrap();
    let added = change(
        &c,
        "add",
        &json!([
            bind(readonly.to_str().unwrap(), "/readonly", &["bind", "rw"]),
            bind(path, "/tree", &["rbind", "ro"]),
            bind(path, "/plain", &["bind"]),
            bind(&format!("{path}/file"), "/file", &["bind", "ro"]),
            tmpfs("/tmpfs", &[]),
        ]),
    );
    umount2(&hidden, MntFlags::MNT_DETACH).unwrap();
    umount2(&readonly, MntFlags::MNT_DETACH).unwrap();
    added.ok();
    let answers = c.exec_output(
        "umount /tree/hidden 2>/dev/null && echo uncovered; ls /tree/hidden; ls /plain/hidden; \
         mount -o remount,rw,bind /readonly 2>/dev/null && echo writable; stat -c %u /tmpfs",
    );
    assert_eq!(
        answers, "secret\n0\n",
        "a plain bind leaves the mounts below out"
    );
    // Mount points belong to root of the container.
    let owner = |name: &str| fs::metadata(c.rootfs(name)).unwrap().uid();
    assert_eq!(["tree", "file", "tmpfs"].map(owner), [100_000; 3]);
    let list = json!([{"destination": "/tree"}, {"destination": "/plain"}, {"destination": "/file"}, {"destination": "/tmpfs"}]);
    change(&c, "remove", &list).ok();
    assert!(
        ["/tree", "/plain", "/file", "/tmpfs"]
            .iter()
            .all(|at| kernel::mount_at(c.pid(), at).is_none())
    );
}

#[test]
fn an_added_bind_maps_ids_by_the_container_and_by_its_own_mappings() {
    let mut c = container!();
    c.user_namespace().args(&["/bin/sleep", "1000"]);
    chown(c.rootfs("/"), Some(100_000), Some(100_000)).unwrap();
    c.run_detached().ok();
    let source = c.scratch().join("source");
    fs::create_dir(&source).unwrap();
    chown(&source, Some(0), Some(0)).unwrap();
    let path = source.to_str().unwrap();
    let mut own = bind(path, "/own", &["bind"]);
    own["uidMappings"] = json!([{"containerID": 0, "hostID": 100_007, "size": 1}]);
    own["gidMappings"] = own["uidMappings"].clone();
    let inside = bind(
        c.rootfs("/bin").to_str().unwrap(),
        "/inside",
        &["bind", "idmap"],
    );
    let added = change(
        &c,
        "add",
        &json!([bind(path, "/mapped", &["rbind", "idmap"]), own, inside]),
    );
    added.ok();
    assert_eq!(c.exec_output("stat -c %u /mapped /own"), "0\n7\n");
    assert!(
        kernel::mount_at(c.pid(), "/inside")
            .unwrap()
            .has("idmapped")
    );
}

#[test]
fn a_source_in_the_root_is_the_containers_and_links_stay_inside() {
    let c = running!();
    symlink("/etc", c.rootfs("link")).unwrap();
    fs::create_dir_all(c.rootfs("etc/inside")).unwrap();
    fs::create_dir_all(c.rootfs("target")).unwrap();
    symlink("/target", c.rootfs("to")).unwrap();
    let source = c.rootfs("link").to_str().unwrap().to_owned();
    change(&c, "add", &json!([bind(&source, "/to", &["bind"])])).ok();
    assert!(c.exec_output("ls /target").contains("inside"));
    change(&c, "remove", &json!([{"destination": "/to"}])).ok();
    assert_eq!(c.exec_output("ls /target").trim(), "");
}

#[test]
fn the_owner_of_a_rootless_container_adds_mounts_to_it() {
    let Some(mut c) = crate::rootless::rootless() else {
        return;
    };
    c.args(&["/bin/sleep", "1000"]);
    for created in [false, true] {
        match created {
            true => c.create().ok(),
            false => c.run_detached().ok(),
        };
        let source = c.own_dir().join(format!("source-{created}"));
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "of the user").unwrap();
        let path = source.to_str().unwrap();
        let list = json!([
            bind(path, "/tree", &["rbind", "ro"]),
            bind(&format!("{path}/file"), "/file", &["bind"]),
            tmpfs("/tmpfs", &["nosuid"]),
        ]);
        change(&c, "add", &list).ok();
        let at = |target: &str| kernel::mount_at(c.pid(), target);
        assert!(at("/tree").unwrap().has("ro") && at("/file").is_some());
        assert_eq!(
            c.exec_output("cat /tree/file /file"),
            "of the user".repeat(2)
        );
        change(&c, "remove", &list).ok();
        assert!(at("/tree").is_none() && at("/tmpfs").is_none());
        c.delete(&["--force"]).ok();
    }
}

#[test]
fn mounts_are_removed_in_any_order() {
    let c = running!();
    let before = picture(&c);
    let both = json!([tmpfs("/outer", &[]), tmpfs("/outer/inner", &[])]);
    for order in [["/outer", "/outer/inner"], ["/outer/inner", "/outer"]] {
        change(&c, "add", &both).ok();
        assert_ne!(picture(&c), before);
        change(
            &c,
            "remove",
            &json!(order.map(|path| json!({"destination": path}))),
        )
        .ok();
        assert_eq!(picture(&c), before, "{order:?}");
    }
}
