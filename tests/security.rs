//! Known attacks on runtimes as tests: what lies outside the rootfs must not change, and nothing of the host may be reached.
//! Each test names the vulnerability that taught it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::terminal::{ConsoleSocket, Screen};
use crate::harness::{Container, kernel};

/// A directory outside the rootfs that an attack must not touch, and what it looked like.
struct Canary {
    dir: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    fn of(c: &Container) -> Self {
        let dir = c.scratch().join("canary");
        fs::create_dir_all(dir.join("sub")).unwrap();
        for name in ["ptmx", "null", "console", "file"] {
            fs::write(dir.join(name), format!("{name} of the host")).unwrap();
        }
        let before = snapshot(&dir);
        Self { dir, before }
    }

    #[track_caller]
    fn assert_unchanged(&self, what: &str) {
        assert_eq!(snapshot(&self.dir), self.before, "{what}");
    }
}

fn snapshot(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let m = fs::symlink_metadata(entry.path()).unwrap();
        let content = fs::read(entry.path()).unwrap_or_default();
        let facts = format!(
            "{:o} {}:{} {} {}.{} {:?}",
            m.mode(),
            m.uid(),
            m.gid(),
            m.ino(),
            m.mtime(),
            m.mtime_nsec(),
            content
        );
        all.insert(entry.path(), facts);
        if m.is_dir() {
            all.extend(snapshot(&entry.path()));
        }
    }
    all
}

/// Creates, starts and deletes; either outcome is right as long as nothing is left and nothing hangs.
fn try_out(c: &mut Container) -> i32 {
    let output = c.create();
    if output.code == 0 {
        c.start();
        c.delete(&["--force"]).ok();
    }
    c.assert_nothing_left();
    output.code
}

// CVE-2024-21626
#[test]
fn a_working_directory_by_a_descriptor_of_the_runtime_is_refused() {
    let mut c = container!();
    c.script("cat ../../../../etc/passwd; ls");
    for n in 3..24 {
        for path in [
            format!("/proc/self/fd/{n}"),
            format!("/proc/self/fd/{n}/../../.."),
        ] {
            c.edit(|j| j["process"]["cwd"] = json!(path));
            let output = c.run();
            assert_ne!(output.code, 0, "{path}: {}", output.stdout());
            assert_eq!(output.stdout(), "", "{path}");
        }
    }
    c.assert_nothing_left();
}

// CVE-2024-21626, by exec and by a link in the image
#[test]
fn exec_with_a_working_directory_by_a_descriptor_is_refused() {
    let mut c = container!();
    symlink("/proc/self/fd/7", c.rootfs("/work")).unwrap();
    c.run_detached().ok();
    for path in [
        "/proc/self/fd/3",
        "/proc/self/fd/7",
        "/proc/self/fd/8/../..",
        "/work",
    ] {
        let output = c.exec_with(&["--cwd", path], &["/bin/pwd"]);
        assert_ne!(output.code, 0, "{path}: {}", output.stdout());
    }
}

// CVE-2019-5736
#[test]
fn the_program_of_the_runtime_cannot_be_written_from_inside() {
    let mut c = container!();
    let program = which(&crate::harness::runtime_path());
    let before = (
        fs::read(&program).unwrap(),
        fs::metadata(&program).unwrap().ino(),
    );
    c.capabilities(
        &["bounding", "permitted", "effective"],
        &[
            "CAP_SYS_ADMIN",
            "CAP_SYS_PTRACE",
            "CAP_DAC_OVERRIDE",
            "CAP_KILL",
        ],
    );
    c.script(
        "while [ ! -e /stop ]; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in */busybox) ;; \
         *) echo overwritten 2>/dev/null >>$p/exe;; esac; done 2>/dev/null; touch /ready; done",
    );
    c.run_detached().ok();
    c.wait_file("/ready");
    for _ in 0..20 {
        c.exec(&["/bin/true"]).ok();
    }
    fs::write(c.rootfs("/stop"), "").unwrap();
    c.wait();
    c.args(&["/proc/self/exe", "--version"]);
    c.delete(&[]).ok();
    c.run();
    let after = (
        fs::read(&program).unwrap(),
        fs::metadata(&program).unwrap().ino(),
    );
    assert!(before == after, "{} was changed", program.display());
}

/// All ways to the file that a process runs from are descriptors of a mount that stays read-only, also for who keeps them.
#[test]
fn what_is_kept_of_the_program_of_the_runtime_cannot_be_written_later() {
    let c = container!();
    // A copy: the kernel says "text file busy" before anything else while another test runs the binary.
    let program = c.scratch().join("orlop");
    let runtime = fs::read(which(&crate::harness::runtime_path())).unwrap();
    crate::harness::install(&runtime, &program);
    let mut create = std::process::Command::new(&program);
    create
        .arg("--root")
        .arg(c.root())
        .args(["create", "--bundle"]);
    create.arg(c.rootfs("/").parent().unwrap());
    create.arg("--pid-file").arg(c.pid_file()).arg(&c.id);
    create.stdin(std::process::Stdio::null());
    c.finish(create).ok();
    let proc = PathBuf::from(format!("/proc/{}", c.pid()));
    let mut ways: Vec<PathBuf> = fs::read_dir(proc.join("map_files"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    ways.push(proc.join("exe"));
    assert!(ways.len() > 1, "{ways:?}");
    let inode = fs::metadata(&program).unwrap().ino();
    let kept: Vec<_> = ways
        .iter()
        .map(|way| {
            assert_eq!(fs::metadata(way).unwrap().ino(), inode, "{way:?}");
            let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
            nix::fcntl::open(way, flags, nix::sys::stat::Mode::empty()).unwrap()
        })
        .collect();
    c.delete(&["--force"]).ok();
    for fd in &kept {
        use nix::mount::MsFlags;
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
        let remounted = nix::mount::mount(
            None::<&str>,
            path.as_str(),
            None::<&str>,
            flags,
            None::<&str>,
        );
        assert!(remounted.is_err(), "{path} was remounted");
        let error = fs::OpenOptions::new().write(true).open(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EROFS), "{error}");
    }
}

fn which(name: &Path) -> PathBuf {
    if name.components().count() > 1 {
        return name.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|d| d.join(name))
        .find(|p| p.exists())
        .unwrap()
}

// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642
#[test]
fn a_symlink_in_place_of_proc_or_sys_is_refused() {
    for name in ["proc", "sys"] {
        let mut c = container!();
        let canary = Canary::of(&c);
        for target in [
            canary.dir.to_str().unwrap(),
            "/elsewhere",
            "../../scratch/canary",
        ] {
            let _ = fs::remove_dir(c.rootfs(name));
            let _ = fs::remove_file(c.rootfs(name));
            fs::create_dir_all(c.rootfs("/elsewhere")).unwrap();
            symlink(target, c.rootfs(name)).unwrap();
            c.create().exits(1).says(&format!("/{name}"));
            c.assert_nothing_left();
            canary.assert_unchanged(target);
        }
    }
}

// CVE-2019-16884
#[test]
fn a_mount_over_proc_is_refused_but_for_the_usual_files() {
    let mut c = container!();
    let file = c.scratch().join("file");
    fs::write(&file, "mine\n").unwrap();
    for destination in [
        "/proc/self",
        "/proc/self/attr",
        "/proc/sys",
        "/proc/self/../self/attr",
    ] {
        c.mount(destination, "tmpfs", "tmpfs", &[]);
        c.create().exits(1).says("/proc");
        c.assert_nothing_left();
        c.without_mount(destination);
    }
    c.mount("/proc/uptime", "bind", file.to_str().unwrap(), &["bind"]);
    assert_eq!(c.output_of("cat /proc/uptime"), "mine\n");
}

// The same, where the image leads a harmless name there, or brings a procfs along, or an earlier mount does.
#[test]
fn a_mount_in_a_procfs_is_refused_whichever_way_it_was_reached() {
    let mut c = container!();
    let file = c.scratch().join("file");
    fs::write(&file, "mine\n").unwrap();
    let refused = |c: &mut crate::harness::Container, destination: &str, kind: &str| {
        let (source, options): (_, &[&str]) = match kind {
            "tmpfs" => ("tmpfs", &[]),
            _ => (file.to_str().unwrap(), &["bind"]),
        };
        c.mount(destination, kind, source, options);
        c.create()
            .exits(1)
            .says("procfs")
            .says("mounts[")
            .one_line();
        c.assert_nothing_left();
        c.without_mount(destination);
    };
    for goal in [
        "/proc/self/attr",
        "/proc/sys",
        "/proc",
        "proc/self",
        "etc/../proc/tty",
    ] {
        symlink(goal, c.rootfs("/vol")).unwrap();
        refused(&mut c, "/vol", "tmpfs");
        fs::remove_file(c.rootfs("/vol")).unwrap();
    }
    for (link, below) in [
        ("/proc", "uptime"),
        ("/proc/sys", "kernel/core_pattern"),
        ("/proc/self", "attr/current"),
    ] {
        symlink(link, c.rootfs("/vol")).unwrap();
        refused(&mut c, &format!("/vol/{below}"), "bind");
        fs::remove_file(c.rootfs("/vol")).unwrap();
    }
    // The path of the host, which is taken for that of the container.
    let on_host = c.rootfs("/proc/self/attr").to_str().unwrap().to_owned();
    c.mount(&on_host, "tmpfs", "tmpfs", &[]);
    c.create().exits(1).says("inside /proc");
    c.without_mount(&on_host);
    fs::create_dir(c.rootfs("/elsewhere")).unwrap();
    c.mount("/elsewhere", "proc", "proc", &[]);
    refused(&mut c, "/elsewhere/sys", "tmpfs");
    refused(&mut c, "/elsewhere/uptime", "bind");
    c.without_mount("/elsewhere");
    // The image's own.
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let own = c.rootfs("/elsewhere");
    mount(
        Some("proc"),
        &own,
        Some("proc"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    symlink("elsewhere/self/attr", c.rootfs("/vol")).unwrap();
    c.mount("/vol", "tmpfs", "tmpfs", &[]);
    let output = c.create();
    umount2(&own, MntFlags::MNT_DETACH).unwrap();
    output.exits(1).says("procfs");
}

// CVE-2026-41579, CVE-2026-47766, CVE-2026-88264
#[test]
fn symlinks_in_place_of_dev_and_its_entries_change_nothing_outside() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let absolute = canary.dir.to_str().unwrap().to_owned();
    for target in ["/dev/mqueue", "/dev/shm", "/dev/pts", "/dev"] {
        c.without_mount(target);
    }
    for target in [absolute.as_str(), "../../scratch/canary", "/missing", "dev"] {
        let _ = fs::remove_dir_all(c.rootfs("/dev"));
        let _ = fs::remove_file(c.rootfs("/dev"));
        symlink(target, c.rootfs("/dev")).unwrap();
        try_out(&mut c);
        canary.assert_unchanged(target);
    }
    for name in [
        "null", "ptmx", "console", "fd", "stdin", "core", "pts", "shm", "tty",
    ] {
        for target in [
            format!("{absolute}/{name}"),
            format!("../../../scratch/canary/{name}"),
            name.to_owned(),
        ] {
            let _ = fs::remove_file(c.rootfs("/dev"));
            let _ = fs::remove_dir_all(c.rootfs("/dev"));
            fs::create_dir(c.rootfs("/dev")).unwrap();
            symlink(&target, c.rootfs("/dev").join(name)).unwrap();
            try_out(&mut c);
            canary.assert_unchanged(&target);
        }
    }
}

// CVE-2019-18837 and the sweep over everything that a runtime makes in the rootfs
#[test]
fn hostile_things_in_place_of_mount_targets_change_nothing_outside() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let absolute = canary.dir.to_str().unwrap().to_owned();
    c.mount("/target/below", "tmpfs", "tmpfs", &[]);
    c.mount(
        "/file",
        "bind",
        &format!("{absolute}/file"),
        &["bind", "ro"],
    );
    c.edit(|j| {
        j["process"]["cwd"] = json!("/target/work");
        j["linux"]["maskedPaths"] = json!(["/target", "/file"]);
    });
    for (link, file_link) in [
        (absolute.clone(), format!("{absolute}/new")),
        (
            "../../../../../../../..".to_owned(),
            "../../scratch/canary/new".to_owned(),
        ),
        ("target".to_owned(), "file".to_owned()),
        ("/missing/one".to_owned(), "/missing/two".to_owned()),
    ] {
        for (name, to) in [("target", &link), ("file", &file_link)] {
            let path = c.rootfs(name);
            let _ = fs::remove_dir_all(&path);
            let _ = fs::remove_file(&path);
            symlink(to, &path).unwrap();
        }
        try_out(&mut c);
        canary.assert_unchanged(&link);
    }
    for name in ["target", "file"] {
        fs::remove_file(c.rootfs(name)).unwrap();
        nix::unistd::mkfifo(&c.rootfs(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    try_out(&mut c);
    canary.assert_unchanged("fifo");
}

// CVE-2025-31133
#[test]
fn a_dev_null_of_the_image_never_serves_as_a_mask() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let dev = c.scratch().join("dev");
    fs::write(c.rootfs("/secret"), "secret").unwrap();
    for target in ["/dev/mqueue", "/dev/shm", "/dev/pts", "/dev"] {
        c.without_mount(target);
    }
    c.mount("/dev", "bind", dev.to_str().unwrap(), &["rbind"]);
    c.edit(|j| j["linux"]["maskedPaths"] = json!(["/secret"]));
    for case in 0..3 {
        let _ = fs::remove_dir_all(&dev);
        fs::create_dir(&dev).unwrap();
        match case {
            0 => symlink("/etc/passwd", dev.join("null")).unwrap(),
            1 => fs::write(dev.join("null"), "regular").unwrap(),
            _ => symlink(canary.dir.join("null"), dev.join("null")).unwrap(),
        }
        c.script("cat /secret; stat -c %t:%T /secret");
        let output = c.run();
        assert!(
            output.code != 0 && !output.stdout().contains("secret") || output.stdout() == "1:3\n",
            "case {case}: {}",
            output.stdout()
        );
        c.assert_nothing_left();
        canary.assert_unchanged("null");
    }
}

// CVE-2016-9962, CVE-2024-21626
#[test]
fn init_that_waits_for_start_shows_no_directory_of_the_host() {
    let mut c = container!();
    c.create().ok();
    for (number, target) in kernel::descriptors(c.pid()) {
        let path = Path::new(&target);
        assert!(number <= 2 || !path.is_dir(), "{number} -> {target}");
    }
}

// CVE-2025-52565
#[test]
fn a_terminal_is_made_of_nothing_but_a_ptmx() {
    let mut c = container!();
    let dir = c.scratch().join("dev");
    fs::create_dir_all(dir.join("pts")).unwrap();
    let make = |name: &str, what: &[&str]| {
        let path = dir.join(name);
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("mknod")
            .arg(&path)
            .args(what)
            .status();
        assert!(made.unwrap().success());
    };
    c.edit(|j| {
        let mounts = j["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        j["process"]["terminal"] = json!(true);
    });
    c.edit(|j| j["linux"]["maskedPaths"] = json!([]));
    c.mount("/dev", "bind", dir.to_str().unwrap(), &["bind"]);
    let path = c.dir().join("console").to_str().unwrap().to_owned();
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    // A FIFO would wait for a writer, and no driver answers for 1:200.
    let things: [&[&str]; 4] = [
        &["p"],
        &["c", "1", "200"],
        &["c", "1", "3"],
        &["c", "5", "2"],
    ];
    for thing in things {
        for name in ["ptmx", "pts/ptmx"] {
            make("ptmx", &["p"]);
            make("pts/ptmx", &["p"]);
            make(name, thing);
            let output = c.make("create", &["--console-socket", &path]);
            output.exits(1).one_line().says("ptmx");
            c.assert_nothing_left();
        }
    }
    drop(listener);
    fs::remove_file(&path).unwrap();
    let socket = ConsoleSocket::listen(path.as_ref());
    let before = fs::read_dir(&dir).unwrap().count();
    // With a devpts beside it, the 5:2 of the image is as good as any.
    make("ptmx", &["c", "5", "2"]);
    c.mount("/dev/pts", "devpts", "devpts", &["nosuid"]);
    c.args(&[
        "/bin/stat",
        "-c",
        "%a %g",
        "/dev/pts/ptmx",
        "/proc/self/fd/0",
        "/dev/pts/0",
    ]);
    c.make("create", &["--console-socket", &path]).ok();
    let master = socket.receive().descriptors.remove(0);
    let screen = Screen::of(master);
    c.start().ok();
    screen.wait_for("620 5");
    assert!(screen.text().starts_with("666 0"), "{}", screen.text());
    assert_eq!(
        fs::read_dir(&dir).unwrap().count(),
        before,
        "a console was made"
    );
}

/// Exchanges two names without pause, from each CPU, while `attempts` are made.
fn racing(a: &Path, b: &Path, attempts: impl FnOnce()) {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let cpus = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for _ in 0..cpus {
            scope.spawn(|| {
                use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE);
                }
            });
        }
        attempts();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

// A device in a volume that another container writes: its mode was once set by name.
#[test]
fn a_device_node_that_is_exchanged_for_a_link_leaves_a_file_of_the_host_alone() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let volume = c.scratch().join("volume");
    fs::create_dir(&volume).unwrap();
    let (node, link) = (volume.join("node"), volume.join("link"));
    let made = std::process::Command::new("mknod")
        .arg(&node)
        .args(["c", "1", "5"])
        .status();
    assert!(made.unwrap().success());
    symlink(canary.dir.join("file"), &link).unwrap();
    c.mount("/v", "bind", volume.to_str().unwrap(), &["rbind"]);
    c.args(&["/bin/true"]);
    c.edit(|j| {
        j["linux"]["devices"] = json!([
            {"path": "/v/node", "type": "c", "major": 1, "minor": 5, "fileMode": 0o777, "uid": 7},
        ]);
    });
    let mut made = 0;
    racing(&node, &link, || {
        for _ in 0..60 {
            made += usize::from(c.make("run", &[]).code == 0);
        }
    });
    canary.assert_unchanged("race");
    assert!(made > 0, "not once was the node in its place");
    c.assert_nothing_left();
}

// CVE-2021-30465, CVE-2024-45310, in small
#[test]
fn a_racing_symlink_in_a_shared_volume_brings_no_mount_outside() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let volume = c.scratch().join("volume");
    fs::create_dir_all(volume.join("a")).unwrap();
    symlink(&canary.dir, volume.join("b")).unwrap();
    c.mount("/v", "bind", volume.to_str().unwrap(), &["rbind"]);
    c.mount("/v/a/sub", "tmpfs", "tmpfs", &[]);
    c.mount("/v/a/made", "tmpfs", "tmpfs", &[]);
    c.args(&["/bin/true"]);
    racing(&volume.join("a"), &volume.join("b"), || {
        for _ in 0..40 {
            c.make("run", &[]);
        }
    });
    canary.assert_unchanged("race");
    c.assert_nothing_left();
}
