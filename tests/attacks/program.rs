//! The program of the runtime, which a container must not be able to write (CVE-2019-5736).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[test]
fn cve_2019_5736_the_program_of_the_runtime_cannot_be_written_from_inside() {
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
fn cve_2019_5736_what_is_kept_of_the_program_of_the_runtime_cannot_be_written_later() {
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
