//! The systemd driver with real systemd: a container's scope in `systemctl show` and in the kernel.
//! The calls to systemd, and errors from its replies, are in `systemd_calls`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Container, adopt, eventually, kernel, skipped};

/// Returns a container for a scope in a slice of this test's own. Without systemd, returns None
/// and counts the test as skipped.
fn scoped() -> Option<Scoped> {
    if !PathBuf::from("/run/systemd/system").is_dir() {
        skipped("systemd is not running");
        return None;
    }
    let mut c = Container::new()?;
    c.id = format!("{}-{}", c.id, std::process::id());
    let path = format!("orlop-test.slice:orlop:{}", c.id);
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    Some(Scoped { c })
}

macro_rules! scoped {
    () => {
        match scoped() {
            Some(scoped) => scoped,
            None => return,
        }
    };
}

struct Scoped {
    c: Container,
}

impl Scoped {
    fn unit(&self) -> String {
        format!("orlop-{}.scope", self.c.id)
    }

    fn create(&self) -> crate::harness::Output {
        self.c.make("create", &["--systemd-cgroup"])
    }

    fn resources(&mut self, resources: Value) -> &mut Self {
        self.c.edit(|j| j["linux"]["resources"] = resources);
        self
    }

    /// Returns a property of the unit, as systemctl prints it.
    fn show(&self, property: &str) -> String {
        show(&self.unit(), property)
    }

    fn dir(&self) -> PathBuf {
        let path = kernel::cgroup_of(self.c.pid());
        kernel::cgroup2_mount().unwrap().join(&path[1..])
    }

    /// Returns the text of a file in the scope's cgroup.
    fn file(&self, name: &str) -> String {
        let file = self.dir().join(name);
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        text.trim().to_owned()
    }
}

impl Drop for Scoped {
    fn drop(&mut self) {
        let unit = self.unit();
        // Delete the container first. If systemd still knows the unit then, the unit is a leak.
        let _ = self.c.delete(&["--force"]);
        if !std::thread::panicking() {
            gone(&unit);
        }
    }
}

fn systemctl(args: &[&str]) -> String {
    let output = Command::new("systemctl").args(args).output().unwrap();
    assert!(
        output.status.success(),
        "systemctl {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until systemd has forgotten a unit. systemd forgets units when it has nothing else to do.
#[track_caller]
fn gone(unit: &str) {
    eventually(&format!("unit {unit} is gone"), || {
        show(unit, "LoadState") == "not-found"
    });
}

fn show(unit: &str, property: &str) -> String {
    let text = systemctl(&["show", "--property", property, unit]);
    let value = text.trim().split_once('=').map_or("", |(_, value)| value);
    value.to_owned()
}

/// Returns the version of systemd.
fn version() -> u32 {
    let text = systemctl(&["--version"]);
    text.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Returns a disk whose limits can be set.
fn disk() -> Option<String> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/sys/block").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if ["nvme", "vd", "sd"]
            .iter()
            .any(|kind| name.starts_with(kind))
        {
            let number = fs::read_to_string(entry.path().join("dev")).unwrap();
            numbers.push(number.trim().to_owned());
        }
    }
    numbers.pop()
}

#[test]
fn the_scope_has_the_properties_that_runc_gives_it() {
    let s = scoped!();
    s.create().ok();
    let path = kernel::cgroup_of(s.c.pid());
    assert_eq!(path, format!("/orlop.slice/orlop-test.slice/{}", s.unit()));
    let expected = [
        ("ActiveState", "active"),
        ("Slice", "orlop-test.slice"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("Transient", "yes"),
        ("MemoryAccounting", "yes"),
        ("TasksAccounting", "yes"),
        ("IOAccounting", "yes"),
        ("DevicePolicy", "strict"),
        ("ControlGroup", &path),
        ("Description", &format!("libcontainer container {}", s.c.id)),
    ];
    for (property, value) in expected {
        assert_eq!(s.show(property), value, "{property}");
    }
    assert_eq!(kernel::procs(&s.dir()), [s.c.pid()]);
}

#[test]
fn init_sees_its_scope_as_the_root_of_cgroups() {
    let mut s = scoped!();
    s.c.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
    s.c.script("cat /proc/self/cgroup; cat /sys/fs/cgroup/cgroup.procs | wc -l; ls -d /sys/fs/cgroup/cgroup.kill");
    let output = s.c.make("run", &["--systemd-cgroup"]);
    output.ok();
    let text = output.stdout();
    assert!(text.lines().any(|line| line == "0::/"), "{text}");
    assert!(text.ends_with("/sys/fs/cgroup/cgroup.kill\n"), "{text}");
}

#[test]
fn later_commands_come_without_the_flag() {
    let s = scoped!();
    s.create().ok();
    let c = &s.c;
    let unit = s.unit();
    assert_eq!(c.status(), "created");
    c.start().ok();
    assert_eq!(
        c.exec_output("cat /proc/self/cgroup").lines().last(),
        Some("0::/")
    );
    c.runtime(&["pause", &c.id]).ok();
    assert_eq!(c.status(), "paused");
    assert_eq!(s.file("cgroup.freeze"), "1");
    c.runtime(&["resume", &c.id]).ok();
    let ps = c.runtime(&["ps", "--format", "json", &c.id]).stdout();
    assert_eq!(ps.trim(), format!("[{}]", c.pid()));
    c.runtime(&["kill", "--all", &c.id, "KILL"]).ok();
    c.wait_dead();
    assert_eq!(c.status(), "stopped");
    c.delete(&[]).ok();
    gone(&unit);
}

#[test]
fn limits_are_in_properties_and_in_files() {
    let mut s = scoped!();
    s.resources(json!({
        "memory": {"limit": 268_435_456, "reservation": 67_108_864, "swap": 402_653_184},
        "cpu": {"shares": 2048, "quota": 50_000, "period": 200_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 123},
        "unified": {"memory.high": "201326592", "memory.min": "4096"},
    }));
    s.create().ok();
    for (property, value, file, text) in [
        ("MemoryMax", "268435456", "memory.max", "268435456"),
        ("MemoryLow", "67108864", "memory.low", "67108864"),
        ("MemorySwapMax", "134217728", "memory.swap.max", "134217728"),
        ("MemoryHigh", "201326592", "memory.high", "201326592"),
        ("MemoryMin", "4096", "memory.min", "4096"),
        ("CPUWeight", "174", "cpu.weight", "174"),
        ("CPUQuotaPerSecUSec", "250ms", "cpu.max", "50000 200000"),
        ("CPUQuotaPeriodUSec", "200ms", "cpu.max", "50000 200000"),
        ("AllowedCPUs", "0", "cpuset.cpus", "0"),
        ("AllowedMemoryNodes", "0", "cpuset.mems", "0"),
        ("TasksMax", "123", "pids.max", "123"),
    ] {
        assert_eq!(s.show(property), value, "{property}");
        assert_eq!(s.file(file), text, "{file}");
    }
    systemctl(&["daemon-reload"]);
    for (file, text) in [
        ("memory.max", "268435456"),
        ("memory.swap.max", "134217728"),
        ("cpu.max", "50000 200000"),
        ("cpu.weight", "174"),
        ("cpuset.cpus", "0"),
        ("pids.max", "123"),
    ] {
        assert_eq!(s.file(file), text, "{file} after daemon-reload");
    }
}

#[test]
fn no_limits_are_infinity() {
    let mut s = scoped!();
    s.resources(json!({
        "memory": {"limit": -1, "swap": -1},
        "cpu": {"quota": -1, "period": 50_000},
        "pids": {"limit": -1},
    }));
    s.create().ok();
    for property in [
        "MemoryMax",
        "MemorySwapMax",
        "TasksMax",
        "CPUQuotaPerSecUSec",
    ] {
        assert_eq!(s.show(property), "infinity", "{property}");
    }
    assert_eq!(s.file("pids.max"), "max");
    assert_eq!(s.file("memory.max"), "max");
    // systemd forgets a period without a quota. If any test makes systemd reload, it writes its
    // own period.
    let cpu = s.file("cpu.max");
    assert!(cpu.starts_with("max "), "{cpu}");
}

#[test]
fn a_quota_is_rounded_to_what_systemd_keeps_of_it() {
    let mut s = scoped!();
    s.resources(json!({"cpu": {"quota": 12_345, "period": 100_000}}));
    s.create().ok();
    assert_eq!(s.show("CPUQuotaPerSecUSec"), "130ms");
    assert_eq!(s.file("cpu.max"), "13000 100000");
    systemctl(&["daemon-reload"]);
    assert_eq!(s.show("CPUQuotaPerSecUSec"), "130ms");
    assert_eq!(s.file("cpu.max"), "13000 100000");
}

#[test]
fn an_update_without_the_flag_lasts() {
    let mut s = scoped!();
    s.resources(json!({"memory": {"limit": 268_435_456}, "pids": {"limit": 123}}));
    s.create().ok();
    let flags = [
        "--memory=134217728",
        "--memory-reservation=33554432",
        "--memory-swap=201326592",
        "--cpu-share=512",
        "--cpu-quota=30000",
        "--cpu-period=60000",
        "--cpuset-cpus=0",
        "--cpuset-mems=0",
        "--pids-limit=99",
    ];
    let mut line = vec!["update"];
    line.extend(flags);
    line.push(&s.c.id);
    s.c.runtime(&line).ok();
    let check = |when: &str| {
        for (property, value, file, text) in [
            ("MemoryMax", "134217728", "memory.max", "134217728"),
            ("MemoryLow", "33554432", "memory.low", "33554432"),
            ("MemorySwapMax", "67108864", "memory.swap.max", "67108864"),
            ("CPUWeight", "59", "cpu.weight", "59"),
            ("CPUQuotaPerSecUSec", "500ms", "cpu.max", "30000 60000"),
            ("CPUQuotaPeriodUSec", "60ms", "cpu.max", "30000 60000"),
            ("AllowedCPUs", "0", "cpuset.cpus", "0"),
            ("AllowedMemoryNodes", "0", "cpuset.mems", "0"),
            ("TasksMax", "99", "pids.max", "99"),
        ] {
            assert_eq!(s.show(property), value, "{property} {when}");
            assert_eq!(s.file(file), text, "{file} {when}");
        }
    };
    check("after update");
    systemctl(&["daemon-reload"]);
    check("after daemon-reload");
    s.c.runtime(&["update", "--pids-limit=-1", "--memory=-1", &s.c.id])
        .ok();
    assert_eq!(s.show("TasksMax"), "infinity");
    assert_eq!(s.show("MemoryMax"), "infinity");
    // The kernel refuses the value. Nothing changes, in systemd either.
    s.c.runtime(&["update", "--pids-limit=5", "--cpuset-cpus=4095", &s.c.id])
        .exits(1);
    assert_eq!(
        (s.show("TasksMax"), s.file("pids.max")),
        ("infinity".into(), "max".into())
    );
}

#[test]
fn new_device_rules_take_the_place_of_the_old_ones() {
    let mut s = scoped!();
    let rules = |device: (u32, u32)| {
        json!({"devices": [
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": device.0, "minor": device.1, "access": "r"},
        ]})
    };
    s.resources(rules((1, 11)));
    s.c.capabilities(
        &["bounding", "effective", "permitted"],
        &["CAP_MKNOD", "CAP_SYSLOG", "CAP_SYS_RAWIO"],
    );
    s.create().ok();
    s.c.start().ok();
    s.c.exec_output("cd /tmp; mknod kmsg c 1 11; mknod zero2 c 1 5; mknod mem c 1 1");
    let readable = || {
        s.c.exec_output(
            "cd /tmp; for d in kmsg zero2 mem; do sh -c \"exec 5<$d\" 2>&- && echo $d; done; true",
        )
    };
    assert_eq!(readable(), "kmsg\nzero2\n");
    let file = s.c.scratch().join("resources.json");
    fs::write(&file, rules((1, 1)).to_string()).unwrap();
    s.c.runtime(&["update", "--resources", file.to_str().unwrap(), &s.c.id])
        .ok();
    assert_eq!(readable(), "zero2\nmem\n");
    systemctl(&["daemon-reload"]);
    assert_eq!(readable(), "zero2\nmem\n");
}

#[test]
fn an_idle_scope_is_idle() {
    let mut s = scoped!();
    if version() < 252 {
        return skipped("systemd is older than 252");
    }
    s.resources(json!({"cpu": {"idle": 1}}));
    s.create().ok();
    assert_eq!(s.show("CPUWeight"), "idle");
    assert_eq!(s.file("cpu.idle"), "1");
    for (flags, property, idle, weight) in [
        (&["--cpu-share=512"][..], "59", "0", "59"),
        (&["--cpu-idle=1"], "idle", "1", "1"),
        // 100 is the kernel's default weight.
        (&["--cpu-idle=0"], "100", "0", "100"),
        (&["--cpu-share=512", "--cpu-idle=0"], "59", "0", "59"),
        (&["--cpu-idle=0"], "59", "0", "59"),
    ] {
        let mut line = vec!["update"];
        line.extend(flags);
        line.push(&s.c.id);
        s.c.runtime(&line).ok();
        for when in ["after update", "after daemon-reload"] {
            assert_eq!(s.show("CPUWeight"), property, "{flags:?} {when}");
            assert_eq!(s.file("cpu.idle"), idle, "{flags:?} {when}");
            assert_eq!(s.file("cpu.weight"), weight, "{flags:?} {when}");
            systemctl(&["daemon-reload"]);
        }
    }
}

#[test]
fn the_policy_of_memory_oom_group_is_the_scopes() {
    let mut s = scoped!();
    if version() < 253 {
        return skipped("systemd is older than 253");
    }
    s.resources(json!({"unified": {"memory.oom.group": "1"}}));
    s.create().ok();
    assert_eq!(s.show("OOMPolicy"), "kill");
    assert_eq!(s.file("memory.oom.group"), "1");
}

#[test]
fn limits_of_disks_are_in_properties_and_in_files() {
    let mut s = scoped!();
    let Some(disk) = disk() else {
        return skipped("there is no disk");
    };
    let (major, minor) = disk.split_once(':').unwrap();
    let of = |rate: u64| {
        let number = |text: &str| text.parse::<u64>().unwrap();
        json!([{"major": number(major), "minor": number(minor), "rate": rate}])
    };
    s.resources(json!({"blockIO": {
        "throttleReadBpsDevice": of(1_048_576), "throttleWriteBpsDevice": of(2_097_152),
        "throttleReadIOPSDevice": of(100), "throttleWriteIOPSDevice": of(200),
    }}));
    s.create().ok();
    for (property, number) in [
        ("IOReadBandwidthMax", "1048576"),
        ("IOWriteBandwidthMax", "2097152"),
        ("IOReadIOPSMax", "100"),
        ("IOWriteIOPSMax", "200"),
    ] {
        assert_eq!(s.show(property), format!("/dev/block/{disk} {number}"));
    }
    let expected = format!("{disk} rbps=1048576 wbps=2097152 riops=100 wiops=200");
    assert_eq!(s.file("io.max"), expected);
    systemctl(&["daemon-reload"]);
    assert_eq!(s.file("io.max"), expected);
}

#[test]
fn weights_of_disks_are_in_properties_and_in_files() {
    let mut s = scoped!();
    s.resources(json!({"blockIO": {"weight": 500}}));
    let created = s.create();
    if created.stderr().contains("io.weight") {
        return skipped("the kernel has neither BFQ nor the cost model of the io controller");
    }
    created.ok();
    assert_eq!(s.show("IOWeight"), "4950");
}

#[test]
fn controllers_that_systemd_does_not_know_are_enabled_and_limited() {
    let mut s = scoped!();
    let offered = kernel::cgroup2_mount().unwrap().join("cgroup.controllers");
    if !fs::read_to_string(offered).unwrap().contains("hugetlb") {
        return skipped("the v2 hierarchy has no hugetlb controller");
    }
    s.resources(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}));
    s.create().ok();
    assert_eq!(s.file("hugetlb.2MB.max"), "4194304");
    s.c.delete(&["--force"]).ok();
    // Even without a limit, the scope has the controllers, for `events` and a later update.
    s.resources(json!({}));
    s.create().ok();
    let offered = fs::read_to_string(kernel::cgroup2_mount().unwrap().join("cgroup.controllers"));
    let here = s.file("cgroup.controllers");
    for name in ["hugetlb", "rdma", "misc"] {
        assert_eq!(
            here.contains(name),
            offered.as_ref().unwrap().contains(name),
            "{name}"
        );
    }
    s.c.start().ok();
    let stats: Value =
        serde_json::from_str(&s.c.runtime(&["events", "--stats", &s.c.id]).stdout()).unwrap();
    assert!(stats["data"]["hugetlb"]["2MB"].is_object(), "{stats}");
    let file = s.c.scratch().join("resources.json");
    fs::write(
        &file,
        json!({"unified": {"hugetlb.2MB.max": "2097152"}}).to_string(),
    )
    .unwrap();
    s.c.runtime(&["update", "--resources", file.to_str().unwrap(), &s.c.id])
        .ok();
    assert_eq!(s.file("hugetlb.2MB.max"), "2097152");
}

#[test]
fn device_rules_hold_before_and_after_a_daemon_reload() {
    let mut s = scoped!();
    s.resources(json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
        {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "w"},
    ]}));
    s.c.capabilities(
        &["bounding", "effective", "permitted"],
        &["CAP_MKNOD", "CAP_SYSLOG", "CAP_DAC_OVERRIDE"],
    );
    s.create().ok();
    s.c.start().ok();
    assert!(
        s.show("DeviceAllow").contains("/dev/char/1:11 r"),
        "{}",
        s.show("DeviceAllow")
    );
    let script = "cd /tmp; for device in 1:3 1:11 1:1 10:229; do
        [ -e $device ] || mknod $device c ${device%:*} ${device#*:} || exit
        sh -c \"exec 5<$device\" 2>&- && echo $device r
        sh -c \"exec 5>$device\" 2>&- && echo $device w
        done; true";
    let check_all = |when: &str| {
        assert_eq!(
            s.c.exec_output(script),
            "1:3 r\n1:3 w\n1:11 r\n10:229 r\n",
            "{when}"
        );
    };
    check_all("at first");
    systemctl(&["daemon-reload"]);
    check_all("after daemon-reload");
    systemctl(&["set-property", "--runtime", &s.unit(), "TasksMax=77"]);
    check_all("after another's change");
    assert_eq!(s.file("pids.max"), "77");
}

#[test]
fn annotations_are_properties_of_the_unit() {
    let mut s = scoped!();
    s.c.edit(|j| {
        j["annotations"] = json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 123000000",
            "org.systemd.property.RuntimeMaxSec": "uint32 3600",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.KillMode": "'process'",
            "org.systemd.property.After": "['sysinit.target']",
            "org.systemd.property.AllowedCPUs": "[byte 1]",
        });
    });
    s.create().ok();
    // The times are whole seconds, because systemd rounds them to milliseconds if any test makes
    // it reload.
    assert_eq!(s.show("TimeoutStopUSec"), "2min 3s");
    assert_eq!(s.show("RuntimeMaxUSec"), "1h");
    assert_eq!(s.show("CollectMode"), "inactive-or-failed");
    assert_eq!(s.show("KillMode"), "process");
    assert!(s.show("After").contains("sysinit.target"));
    assert_eq!(s.file("cpuset.cpus"), "0");
}

#[test]
fn systemd_refuses_a_value_that_it_does_not_know() {
    let mut s = scoped!();
    s.c.edit(|j| j["annotations"] = json!({"org.systemd.property.CollectMode": "'never'"}));
    s.create()
        .exits(1)
        .says(&format!("start systemd unit {}", s.unit()))
        .one_line();
    s.c.assert_nothing_left();
}

#[test]
fn the_properties_that_annotations_may_set_have_the_types_that_systemd_knows() {
    let mut s = scoped!();
    // The two job timeouts are left out: systemd 257 sets them for no scope, whatever their type.
    let (yes, list, bits, number) = ("true", "['basic.target']", "[1]", "1000000");
    for (names, value) in [
        (&["CollectMode"][..], "'inactive'"),
        (&["KillMode"], "'mixed'"),
        (&["OOMPolicy"], "'continue'"),
        (&["ManagedOOMMemoryPressure", "ManagedOOMSwap"], "'auto'"),
        (&["ManagedOOMPreference"], "'avoid'"),
        (&["Description"], "'a container'"),
        (&["Documentation"], "['man:systemd(1)']"),
        (
            &["FinalKillSignal", "KillSignal", "RestartKillSignal"],
            "15",
        ),
        (
            &[
                "SendSIGHUP",
                "SendSIGKILL",
                "StopWhenUnneeded",
                "DefaultDependencies",
            ],
            yes,
        ),
        (&["After", "PartOf"], list),
        (&["Before"], "['shutdown.target']"),
        (&["AllowedCPUs", "AllowedMemoryNodes"], bits),
        (&["StartupAllowedCPUs", "StartupAllowedMemoryNodes"], bits),
        (
            &[
                "CPUWeight",
                "IOWeight",
                "StartupCPUWeight",
                "StartupIOWeight",
            ],
            "200",
        ),
        (&["ManagedOOMMemoryPressureLimit"], "2147483647"),
        (&["MemoryZSwapWriteback"], yes),
        (&["RuntimeMaxUSec", "TimeoutStopUSec"], "60000000"),
        (&["RuntimeRandomizedExtraUSec"], "60000000"),
        (&["CPUQuotaPerSecUSec"], number),
        (
            &["CPUQuotaPeriodUSec", "ManagedOOMMemoryPressureDurationUSec"],
            "1000000",
        ),
        (
            &[
                "DefaultMemoryLow",
                "DefaultMemoryMin",
                "MemoryLow",
                "MemoryMin",
            ],
            number,
        ),
        (
            &["MemoryHigh", "MemoryMax", "MemorySwapMax", "MemoryZSwapMax"],
            "1000000000",
        ),
        (&["TasksMax"], "100"),
    ] {
        let keys = names
            .iter()
            .map(|name| format!("org.systemd.property.{name}"));
        let annotations: serde_json::Map<_, _> = keys.map(|key| (key, json!(value))).collect();
        s.c.edit(|j| j["annotations"] = json!(annotations));
        s.create().ok();
        s.c.delete(&["--force"]).ok();
        gone(&s.unit());
    }
}

#[test]
fn a_bus_in_between_makes_no_difference() {
    let mut s = scoped!();
    let bus = "/run/dbus/system_bus_socket";
    if std::os::unix::net::UnixStream::connect(bus).is_err() {
        return skipped("there is no system bus");
    }
    s.c.set_env("DBUS_SYSTEM_BUS_ADDRESS", &format!("unix:path={bus}"));
    s.resources(json!({"pids": {"limit": 55}}));
    s.create().ok();
    assert_eq!(s.show("TasksMax"), "55");
    s.c.start().ok();
    s.c.delete(&["--force"]).ok();
    gone(&s.unit());
}

#[test]
fn a_period_without_a_quota_lasts_until_the_next_quota() {
    let mut s = scoped!();
    s.resources(json!({}));
    s.create().ok();
    let update = |flag: &str| {
        s.c.runtime(&["update", flag, &s.c.id]).ok();
    };
    update("--cpu-period=50000");
    assert_eq!(s.file("cpu.max"), "max 50000");
    update("--cpu-quota=20000");
    assert_eq!(s.file("cpu.max"), "20000 50000");
    update("--cpu-quota=-1");
    assert_eq!(s.file("cpu.max"), "max 50000");
    assert_eq!(s.show("CPUQuotaPerSecUSec"), "infinity");
    update("--cpu-quota=10000");
    assert_eq!(s.file("cpu.max"), "10000 50000");
    assert_eq!(s.show("CPUQuotaPerSecUSec"), "200ms");
}

#[test]
fn a_unit_of_somebody_else_is_left_alone() {
    let s = scoped!();
    let mut other = Command::new("systemd-run")
        .args(["--quiet", "--scope", "--unit", &s.unit(), "sleep", "1000"])
        .spawn()
        .unwrap();
    let unit = s.unit();
    eventually("the other unit runs", || {
        show(&unit, "ActiveState") == "active"
    });
    s.create().exits(1).says("exists already").one_line();
    s.c.assert_nothing_left();
    assert_eq!(show(&unit, "ActiveState"), "active");
    systemctl(&["stop", &unit]);
    other.wait().unwrap();
    s.create().ok();
}

#[test]
fn a_later_unit_of_the_same_name_is_left_alone() {
    let mut s = scoped!();
    s.c.args(&["/bin/true"]);
    s.create().ok();
    let unit = s.unit();
    s.c.start().ok();
    s.c.wait();
    eventually("the container's unit is gone", || {
        show(&unit, "LoadState") == "not-found"
    });
    let mut other = Command::new("systemd-run")
        .args(["--quiet", "--scope", "--slice", "orlop-test.slice"])
        .args(["--unit", &unit, "sleep", "1000"])
        .spawn()
        .unwrap();
    eventually("the other unit runs", || {
        show(&unit, "ActiveState") == "active"
    });
    s.c.delete(&["--force"]).ok();
    assert_eq!(show(&unit, "ActiveState"), "active");
    assert!(other.try_wait().unwrap().is_none());
    systemctl(&["stop", &unit]);
    other.wait().unwrap();
}

#[test]
fn a_failed_unit_of_the_same_name_does_not_prevent_a_scope() {
    let mut s = scoped!();
    let unit = s.unit();
    // The unit fails when its time runs out, and systemd keeps a failed unit.
    let mut other = Command::new("systemd-run")
        .args([
            "--quiet",
            "--scope",
            "-p",
            "RuntimeMaxSec=1",
            "--unit",
            &unit,
            "sleep",
            "1000",
        ])
        .spawn()
        .unwrap();
    eventually("the other unit has failed", || {
        show(&unit, "ActiveState") == "failed"
    });
    other.wait().unwrap();
    s.create().ok();
    s.c.delete(&["--force"]).ok();
    // If the container's own unit has failed, `delete` removes the unit.
    s.c.edit(|j| {
        j["annotations"] = json!({
            // This is longer than the test needs to get to `start`.
            "org.systemd.property.RuntimeMaxSec": "uint32 6",
            // The init of a pid namespace ignores signals without a handler, so systemd has to
            // kill it.
            "org.systemd.property.TimeoutStopSec": "uint32 1",
        });
    });
    s.create().ok();
    s.c.start().ok();
    eventually("the unit has failed", || {
        show(&unit, "ActiveState") == "failed"
    });
    s.c.wait();
    s.c.delete(&[]).ok();
    gone(&unit);
}

#[test]
fn cgroups_that_the_container_made_go_with_the_scope() {
    let mut s = scoped!();
    s.c.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    s.c.script("mkdir -p /sys/fs/cgroup/a/b && sh -c 'echo 0 > /sys/fs/cgroup/a/b/cgroup.procs; exec sleep 1000' & sleep 1000");
    s.create().ok();
    let dir = s.dir();
    s.c.start().ok();
    eventually("a process is in the nested cgroup", || {
        !kernel::procs(&dir.join("a/b")).is_empty()
    });
    s.c.delete(&["--force"]).ok();
    assert!(!dir.exists());
    gone(&s.unit());
}

#[test]
fn thirty_containers_one_after_the_other_leave_no_unit() {
    let s = scoped!();
    for _ in 0..30 {
        s.create().ok();
        s.c.start().ok();
        s.c.delete(&["--force"]).ok();
    }
    let units = systemctl(&["list-units", "--all", "--plain", "--no-legend", &s.unit()]);
    assert_eq!(units, "");
    let slice = kernel::cgroup2_mount()
        .unwrap()
        .join("orlop.slice/orlop-test.slice");
    assert!(!slice.join(s.unit()).exists());
}

#[test]
fn a_user_namespace_of_its_own_comes_into_the_scope_too() {
    let mut s = scoped!();
    s.c.edit(|j| {
        let linux = j["linux"].as_object_mut().unwrap();
        linux["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        linux.insert("uidMappings".into(), map.clone());
        linux.insert("gidMappings".into(), map);
    });
    s.create().ok();
    s.c.start().ok();
    assert_eq!(
        s.c.exec_output("cat /proc/1/cgroup").lines().last(),
        Some("0::/")
    );
}

/// Returns the uid of the machine's user for tests, who has a systemd manager of their own.
fn user() -> Option<u32> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("tester:"))?;
    let uid = line.split(':').nth(2)?.parse().ok()?;
    systemctl(&["start", &format!("user@{uid}.service")]);
    Some(uid)
}

#[test]
fn the_scope_of_a_user_is_made_by_the_users_own_instance() {
    let mut s = scoped!();
    let Some(user) = user() else {
        return skipped("there is no user named tester");
    };
    let runtime = format!("/run/user/{user}");
    s.c.without_namespace("network").without_mount("/sys");
    let id = s.c.id.clone();
    s.c.edit(|j| {
        let linux = j["linux"].as_object_mut().unwrap();
        let map = json!([{"containerID": 0, "hostID": user, "size": 1}]);
        linux.insert("cgroupsPath".into(), json!(format!(":orlop:{id}")));
        linux.insert(
            "resources".into(),
            json!({"pids": {"limit": 66}, "memory": {"limit": 134_217_728}}),
        );
        linux["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "user"}));
        linux.insert("uidMappings".into(), map.clone());
        linux.insert("gidMappings".into(), map);
    });
    s.c.give_to(user);
    let unit = s.unit();
    let show = |property: &str| {
        let mut command = Command::new("setpriv");
        let id = user.to_string();
        command.args([
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "systemctl",
        ]);
        command.args(["--user", "show", "--value", "--property", property, &unit]);
        let output = command.env("XDG_RUNTIME_DIR", &runtime).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // Test first the socket of the user's manager, which needs no variable, and then the bus.
    for bus in [None, Some(format!("unix:path={runtime}/bus"))] {
        if let Some(bus) = bus {
            s.c.set_env("DBUS_SESSION_BUS_ADDRESS", &bus);
        }
        s.create().ok();
        let path = kernel::cgroup_of(s.c.pid());
        let manager = format!("/user.slice/user-{user}.slice/user@{user}.service");
        assert_eq!(path, format!("{manager}/user.slice/{}", s.unit()));
        assert_eq!(
            (show("TasksMax"), s.file("pids.max")),
            ("66".into(), "66".into())
        );
        assert_eq!(show("MemoryMax"), "134217728");
        s.c.start().ok();
        // Only systemd can move a process from here into the scope.
        let file = s.c.dir().join("exec.pid");
        s.c.exec_with(
            &["--detach", "--pid-file", file.to_str().unwrap()],
            &["/bin/sleep", "1000"],
        )
        .ok();
        let pid = fs::read_to_string(&file).unwrap().parse().unwrap();
        adopt(pid);
        assert_eq!(kernel::cgroup_of(pid), path);
        s.c.runtime(&["update", "--pids-limit", "44", &s.c.id]).ok();
        assert_eq!(
            (show("TasksMax"), s.file("pids.max")),
            ("44".into(), "44".into())
        );
        s.c.runtime(&["pause", &s.c.id]).ok();
        s.c.runtime(&["resume", &s.c.id]).ok();
        s.c.delete(&["--force"]).ok();
        eventually("the unit is gone", || show("LoadState") == "not-found");
    }
    // A cgroup with the scope's name exists, and has a foreign process or is frozen. orlop refuses
    // and keeps the cgroup each time.
    let slice = format!("user.slice/user-{user}.slice/user@{user}.service/user.slice");
    let dir = kernel::cgroup2_mount().unwrap().join(slice).join(&unit);
    fs::create_dir_all(&dir).unwrap();
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(dir.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    let mut outputs = vec![s.create(), s.create()];
    let survived = sleeper.try_wait().unwrap().is_none();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    fs::write(dir.join("cgroup.freeze"), "1").unwrap();
    outputs.extend([s.create(), s.create()]);
    fs::remove_dir(&dir).unwrap();
    assert!(survived);
    for (output, says) in outputs
        .iter()
        .zip(["not empty", "not empty", "frozen", "frozen"])
    {
        output.exits(1).says(says).one_line();
    }
}
