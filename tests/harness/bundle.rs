//! A bundle: a directory with a rootfs of busybox and a config.json that tests edit.
//! It starts no process.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The busybox programs that payloads use.
const APPLETS: &[&str] = &[
    "[",
    "cat",
    "chmod",
    "cut",
    "dd",
    "env",
    "false",
    "grep",
    "head",
    "hostname",
    "id",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mknod",
    "mount",
    "mountpoint",
    "mv",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "setsid",
    "sh",
    "sleep",
    "sort",
    "stat",
    "stty",
    "test",
    "touch",
    "tr",
    "true",
    "tty",
    "umount",
    "uname",
    "wc",
    "yes",
];

/// A bundle directory. The owner of its parent directory removes it.
pub(crate) struct Bundle {
    dir: PathBuf,
    config: Value,
}

impl Bundle {
    /// Creates the bundle in `dir`, with hard links to the template's programs.
    pub(crate) fn make(dir: PathBuf, template: &Path, cgroups_path: &str, cookie: &str) -> Self {
        let rootfs = dir.join("rootfs");
        for name in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        let program = rootfs.join("bin/busybox");
        fs::hard_link(template.join("busybox"), program).unwrap();
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
        fs::write(rootfs.join("etc/passwd"), passwd).unwrap();
        fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
        let config = base_config(cgroups_path, cookie);
        let mut bundle = Self { dir, config };
        bundle.edit(|_| {});
        bundle
    }

    /// The bundle directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path on the host of a path in the rootfs.
    pub(crate) fn rootfs(&self, path: &str) -> PathBuf {
        self.dir.join("rootfs").join(path.trim_start_matches('/'))
    }

    /// The current config.json.
    pub(crate) fn config(&self) -> &Value {
        &self.config
    }

    /// Changes config.json and writes it.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Value)) -> &mut Self {
        change(&mut self.config);
        let text = serde_json::to_vec(&self.config).unwrap();
        fs::write(self.dir.join("config.json"), text).unwrap();
        self
    }

    /// Sets process.args.
    pub(crate) fn args(&mut self, args: &[&str]) -> &mut Self {
        self.edit(|c| c["process"]["args"] = json!(args))
    }

    /// Sets process.args to a shell that runs the script.
    pub(crate) fn script(&mut self, script: &str) -> &mut Self {
        self.args(&["/bin/sh", "-c", script])
    }

    /// Appends to mounts.
    pub(crate) fn mount(
        &mut self,
        destination: &str,
        fstype: &str,
        source: &str,
        options: &[&str],
    ) -> &mut Self {
        let mount = json!({
            "destination": destination, "type": fstype, "source": source, "options": options,
        });
        self.edit(|c| c["mounts"].as_array_mut().unwrap().push(mount))
    }

    /// The mounts of config.json. Changes to them are written by the next edit.
    pub(crate) fn config_mounts(&mut self) -> &mut Vec<Value> {
        self.config["mounts"].as_array_mut().unwrap()
    }

    /// Removes the mount at a destination from mounts.
    pub(crate) fn without_mount(&mut self, destination: &str) -> &mut Self {
        self.edit(|c| {
            let mounts = c["mounts"].as_array_mut().unwrap();
            mounts.retain(|m| m["destination"] != destination);
        })
    }

    /// Removes a namespace from linux.namespaces.
    pub(crate) fn without_namespace(&mut self, name: &str) -> &mut Self {
        self.edit(|c| {
            let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|n| n["type"] != name);
        })
    }

    /// Adds a new user namespace. Its root is uid 100000 on the host.
    pub(crate) fn user_namespace(&mut self) -> &mut Self {
        self.edit(|j| {
            let namespaces = j["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            j["linux"]["uidMappings"] = map.clone();
            j["linux"]["gidMappings"] = map;
        })
    }

    /// Makes the container join the namespace at a path.
    pub(crate) fn join_namespace(&mut self, name: &str, path: &str) -> &mut Self {
        self.without_namespace(name).edit(|c| {
            let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.push(json!({"type": name, "path": path}));
        })
    }

    /// Sets the given capability sets, all to the same names.
    pub(crate) fn capabilities(&mut self, sets: &[&str], names: &[&str]) -> &mut Self {
        self.edit(|c| {
            for set in sets {
                c["process"]["capabilities"][*set] = json!(names);
            }
        })
    }
}

/// The config.json that the tests start from: the output of `runc spec`, but with a writable rootfs
/// and without a cgroup mount.
fn base_config(cgroups_path: &str, cookie: &str) -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sleep", "1000"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", cookie],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "orlop",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "cgroupsPath": cgroups_path,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"},
                {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi"
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
            ]
        }
    })
}
