//! Initial state of a container's process: descriptors, working directory, identity, capabilities.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::harness::{Container, eventually, kernel, skipped};

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

// CVE-2026-30892
#[test]
fn cve_2016_3697_a_numeric_user_is_an_id_and_never_a_name() {
    let mut c = container!();
    fs::write(
        c.rootfs("/etc/passwd"),
        "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/root:/bin/sh\n",
    )
    .unwrap();
    c.run_detached().ok();
    for (user, ids) in [
        ("1000", "1000 0"),
        ("1", "1 0"),
        ("1:2", "1 2"),
        ("0", "0 0"),
        ("0:1000", "0 1000"),
    ] {
        let output = c.exec_with(
            &["--user", user],
            &["/bin/sh", "-c", "echo $(id -u) $(id -g)"],
        );
        output.ok();
        assert_eq!(output.stdout(), format!("{ids}\n"), "{user}");
    }
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

#[test]
fn cve_2016_8867_a_user_who_is_not_root_has_no_capability_by_exec() {
    let mut c = container!();
    c.capabilities(
        &["bounding", "effective", "permitted"],
        &["CAP_NET_RAW", "CAP_KILL"],
    );
    c.edit(|j| {
        j["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        j["process"]["noNewPrivileges"] = json!(false);
    });
    let sets = |text: &str| {
        let set = |name| u64::from_str_radix(&kernel::status_field(text, name), 16).unwrap();
        ["CapInh", "CapPrm", "CapEff", "CapAmb"].map(set)
    };
    assert_eq!(sets(&c.output_of("cat /proc/self/status")), [0; 4]);
    c.script("sleep 1000");
    c.run_detached().ok();
    for flags in [
        &[][..],
        &["--cap", "CAP_NET_RAW"],
        &["--cap", "CAP_SYS_ADMIN"],
    ] {
        let output = c.exec_with(flags, &["/bin/cat", "/proc/self/status"]);
        assert_eq!(sets(&output.ok().stdout()), [0; 4], "{flags:?}");
    }
}

/// A file's inheritable capabilities go to processes that may inherit them, and no process may.
#[test]
fn cve_2022_29162_a_file_with_inheritable_capabilities_gives_none() {
    let mut c = container!();
    fs::create_dir(c.rootfs("/caps")).unwrap();
    let program = c.rootfs("/caps/busybox");
    crate::harness::install(&fs::read(c.rootfs("/bin/busybox")).unwrap(), &program);
    let mut setcap = std::process::Command::new("setcap");
    setcap
        .arg("cap_chown,cap_kill,cap_sys_admin=ei")
        .arg(&program);
    if !setcap.status().is_ok_and(|status| status.success()) {
        return skipped("setcap sets no capabilities of files");
    }
    c.capabilities(
        &["bounding", "effective", "permitted"],
        &["CAP_CHOWN", "CAP_KILL"],
    );
    c.edit(|j| {
        j["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        j["process"]["noNewPrivileges"] = json!(false);
    });
    let read = ["/caps/busybox", "cat", "/proc/self/status"];
    let gained =
        |text: &str| u64::from_str_radix(&kernel::status_field(text, "CapPrm"), 16).unwrap();
    c.args(&read);
    assert_eq!(gained(&c.run().ok().stdout()), 0, "gained");
    c.script("sleep 1000");
    c.run_detached().ok();
    for flags in [&[][..], &["--cap", "CAP_SYS_ADMIN"]] {
        assert_eq!(
            gained(&c.exec_with(flags, &read).ok().stdout()),
            0,
            "gained by {flags:?}"
        );
    }
}

/// Entries that are too long or too many for a 16-bit length are refused or applied in full, never
/// truncated.
#[test]
fn cve_2021_43784_what_is_longer_than_a_16_bit_length_is_whole_or_refused() {
    let mut c = container!();
    let own = |c: &Container, name: &str| {
        kernel::namespace(c.pid(), name) != kernel::namespace(std::process::id() as i32, name)
    };
    let all = ["pid", "net", "ipc", "uts", "mnt", "cgroup"];
    let tried = |c: &mut Container, what: &str| {
        c.script("echo ${#LONG0}; sleep 1000");
        let output = c.run_detached();
        if output.code == 0 {
            assert!(all.iter().all(|name| own(c, name)), "{what}");
            eventually("it prints", || output.stdout().ends_with('\n'));
        } else {
            output.one_line();
            c.assert_nothing_left();
        }
        let printed = output.stdout();
        c.delete(&["--force"]).ok();
        (output.code, printed)
    };
    // Too many entries.
    let mappings: Vec<_> = (0..5000)
        .map(|id| json!({"containerID": id, "hostID": 100_000 + 2 * id, "size": 1}))
        .collect();
    c.user_namespace().edit(|j| {
        j["linux"]["uidMappings"] = json!(mappings);
        j["linux"]["gidMappings"] = json!(mappings);
    });
    assert_eq!(tried(&mut c, "mappings").0, 1);
    c.without_namespace("user").edit(|j| {
        let linux = j["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    });
    // Entries that are too long.
    let before = c.config().clone();
    c.edit(|j| {
        for number in 0..14 {
            let entry = format!("LONG{number}={}", "x".repeat(120_000));
            j["process"]["env"]
                .as_array_mut()
                .unwrap()
                .push(json!(entry));
        }
    });
    assert_eq!(tried(&mut c, "environment"), (0, "120000\n".to_owned()));
    let long = format!("/{}", "y/".repeat(35_000));
    for change in [
        json!({"linux": {"namespaces": [{"type": "network", "path": long}, {"type": "mount"}, {"type": "pid"}]}}),
        json!({"hostname": "h".repeat(70_000)}),
        json!({"process": {"cwd": long}}),
        json!({"linux": {"maskedPaths": [long]}}),
        json!({"linux": {"cgroupsPath": long}}),
        json!({"linux": {"sysctl": {"kernel.domainname": "d".repeat(70_000)}}}),
        json!({"mounts": [{"destination": long, "type": "tmpfs", "source": "tmpfs"}]}),
        json!({"mounts": [{"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": [long]}]}),
    ] {
        c.edit(|j| {
            *j = before.clone();
            merge(j, &change);
        });
        // The kernel itself truncates the domain name.
        let (code, _) = tried(&mut c, &change.to_string()[..60]);
        let is_sysctl = change["linux"]["sysctl"].is_object();
        assert!(code == 1 || is_sysctl, "{}", &change.to_string()[..60]);
    }
}

/// Merges one object into another, recursively.
fn merge(into: &mut serde_json::Value, from: &serde_json::Value) {
    match from.as_object() {
        Some(members) => members
            .iter()
            .for_each(|(key, value)| merge(&mut into[key], value)),
        None => *into = from.clone(),
    }
}

/// The program and its interpreter are looked up while the runtime has some descriptors open.
#[test]
fn cve_2024_21626_a_program_or_interpreter_by_a_descriptor_of_the_runtime_does_not_run() {
    let mut c = container!();
    crate::harness::install(b"#!/interpreter\n", &c.rootfs("/script"));
    let programs = |n: i32| {
        [
            vec![
                format!("/proc/self/fd/{n}/../../../../../../bin/sh"),
                "-c".into(),
                "echo ran".into(),
            ],
            vec!["/program".into(), "-c".into(), "echo ran".into()],
            vec!["/script".into()],
        ]
    };
    let id = c.id.clone();
    for n in 3..20 {
        let _ = fs::remove_file(c.rootfs("/program"));
        let _ = fs::remove_file(c.rootfs("/interpreter"));
        symlink(format!("/proc/self/fd/{n}/bin/sh"), c.rootfs("/program")).unwrap();
        symlink(format!("/proc/self/fd/{n}"), c.rootfs("/interpreter")).unwrap();
        for args in programs(n) {
            c.edit(|j| j["process"]["args"] = json!(args));
            // Run the program by create and start, which look it up twice, or by run.
            let output = if n % 2 == 0 {
                let created = c.create();
                if created.code == 0 {
                    c.start()
                } else {
                    created
                }
            } else {
                c.run()
            };
            assert_ne!(output.code, 0, "{n}: {args:?}: {}", output.stdout());
            output.one_line();
            assert_eq!(output.stdout(), "", "{n}: {args:?}");
            c.delete(&["--force"]).ok();
        }
    }
    c.script("sleep 1000");
    c.run_detached().ok();
    for n in 3..20 {
        let _ = fs::remove_file(c.rootfs("/program"));
        symlink(format!("/proc/self/fd/{n}/bin/sh"), c.rootfs("/program")).unwrap();
        for args in programs(n) {
            let words: Vec<&str> = ["exec", &id]
                .into_iter()
                .chain(args.iter().map(String::as_str))
                .collect();
            let output = c.runtime(&words);
            output.exits(255).one_line();
            assert_eq!(output.stdout(), "", "{n}: {args:?}");
        }
    }
}
