//! What a process of a container is born with: descriptors, a working directory, an identity, capabilities.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::harness::kernel;

#[test]
fn cve_2024_21626_a_working_directory_by_a_descriptor_of_the_runtime_is_refused() {
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

#[test]
fn cve_2024_21626_exec_with_a_working_directory_by_a_descriptor_is_refused() {
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

#[test]
fn cve_2016_9962_init_that_waits_for_start_shows_no_directory_of_the_host() {
    let mut c = container!();
    c.create().ok();
    for (number, target) in kernel::descriptors(c.pid()) {
        let path = Path::new(&target);
        assert!(number <= 2 || !path.is_dir(), "{number} -> {target}");
    }
}

#[test]
fn cve_2016_3697_a_numeric_user_is_an_id_and_never_a_name() {
    let mut c = container!();
    fs::write(
        c.rootfs("/etc/passwd"),
        "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/root:/bin/sh\n",
    )
    .unwrap();
    c.run_detached().ok();
    let output = c.exec_with(&["--user", "1000"], &["id", "-u"]);
    output.ok();
    assert_eq!(output.stdout(), "1000\n");
    for user in [
        "",
        ":",
        "1:",
        ":1",
        "-1",
        "+1",
        " 1",
        "1 ",
        "0x1",
        "1e0",
        "4294967295",
        "4294967296",
        "1:2:3",
        "root",
    ] {
        let flag = format!("--user={user}");
        c.exec_with(&[&flag], &["/bin/true"]).exits(255);
    }
}

// CVE-2022-27650, CVE-2022-24769, CVE-2025-27612
#[test]
fn cve_2022_29162_no_capability_is_inheritable_unless_the_config_says_so() {
    let mut c = container!();
    let sets = |text: &str| {
        let set = |name| u64::from_str_radix(&kernel::status_field(text, name), 16).unwrap();
        ["CapInh", "CapAmb", "CapEff", "CapBnd"].map(set)
    };
    c.create().ok();
    c.start().ok();
    let of_init = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
    assert_eq!(sets(&of_init)[..2], [0, 0]);
    for (flags, chown) in [(&[][..], 0), (&["--cap", "CAP_CHOWN"][..], 1)] {
        let output = c.exec_with(flags, &["/bin/cat", "/proc/self/status"]);
        let [inheritable, ambient, effective, bounding] = sets(&output.ok().stdout());
        assert_eq!((inheritable, ambient), (0, 0), "{flags:?}");
        assert_eq!((effective & 1, bounding & 1), (chown, chown), "{flags:?}");
    }
}
