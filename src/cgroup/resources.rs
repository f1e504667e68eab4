//! Converts linux.resources to the values for the files of a cgroup. `cgroup` writes the values,
//! and `devices_bpf` translates the device rules.
//!
//! The specification has the fields of cgroup v1. They are converted as in runc, so that a
//! container gets the same limits. A field that exists only in v1 is a violation if it is set to a
//! value that has an effect.

mod block_io;
pub(super) mod cpu;
mod memory;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxNetwork, LinuxPids, LinuxRdma, LinuxResources};

use super::devices_bpf;
use crate::diagnosis::Code;
use crate::error::Violation;
use crate::origin::{Origin, config};

/// All settings for a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The writes, in this order.
    pub(crate) files: Vec<Limit>,
    /// The device rules; `None` if all devices are allowed.
    pub(crate) devices: Option<devices_bpf::DeviceProgram>,
    /// The limits that must be above the current usage (`checkBeforeUpdate`).
    pub(crate) above_usage: Vec<MemoryUsageCheck>,
    /// Warnings about fields that are ignored, as in runc.
    pub(crate) warnings: Vec<Violation>,
}

/// A memory limit that must be above the current usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryUsageCheck {
    pub(crate) origin: Origin,
    /// The name of the limit in runc's messages.
    pub(crate) what: &'static str,
    pub(crate) bytes: u64,
}

/// One write to a file of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) origin: Origin,
    /// The controller that the file belongs to.
    pub(crate) controller: String,
    pub(crate) file: String,
    pub(crate) value: String,
    /// The file and value to use if the first file is missing.
    pub(crate) or_else: Option<(String, String)>,
    /// True if the value means "no limit". Then a missing file is not an error.
    pub(crate) no_limit: bool,
    /// True if EINVAL is not an error. In that case the same write is repeated later, after the
    /// value that it depends on is written.
    pub(crate) again_later: bool,
}

impl Limits {
    /// Replaces the origins of all fields, like `linux.resources.pids.limit` in config.json, with
    /// the names that the caller used.
    pub(crate) fn rename_origins(&mut self, rename: impl Fn(&Origin) -> Origin) {
        let files = self.files.iter_mut().map(|limit| &mut limit.origin);
        let usage = self.above_usage.iter_mut().map(|limit| &mut limit.origin);
        let warnings = self.warnings.iter_mut().map(|warning| &mut warning.origin);
        for origin in files.chain(usage).chain(warnings) {
            *origin = rename(origin);
        }
    }
}

/// The current values of a cgroup that affect the meaning of new fields. A new cgroup has no such
/// values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CurrentValues {
    /// memory.max; `None` if there is no limit.
    pub(crate) memory: Option<i64>,
    /// The quota of cpu.max in microseconds; `None` if there is no quota.
    pub(crate) quota: Option<u64>,
    /// True if cpu.idle is 1.
    pub(crate) idle: bool,
}

/// Plans all writes, or returns all violations. The plan includes the device rules. Without
/// resources, it has only the default device rules.
pub(crate) fn plan_limits(resources: Option<&LinuxResources>) -> Result<Limits, Vec<Violation>> {
    plan_with_current(resources, CurrentValues::default())
}

/// Plans all writes for an existing cgroup.
pub(crate) fn plan_update(
    resources: &LinuxResources,
    current: CurrentValues,
) -> Result<Limits, Vec<Violation>> {
    plan_with_current(Some(resources), current)
}

fn plan_with_current(
    resources: Option<&LinuxResources>,
    current: CurrentValues,
) -> Result<Limits, Vec<Violation>> {
    let mut draft = LimitsDraft {
        current,
        ..LimitsDraft::default()
    };
    if let Some(resources) = resources {
        draft.plan_pids(resources.pids().as_ref());
        draft.plan_memory(resources.memory().as_ref());
        draft.plan_block_io(resources.block_io().as_ref());
        draft.plan_cpu(resources.cpu().as_ref());
        draft.plan_hugepages(resources.hugepage_limits().as_deref().unwrap_or_default());
        for (device, rdma) in sorted_by_key(resources.rdma().iter().flatten()) {
            draft.plan_rdma(device, rdma);
        }
        draft.plan_network(resources.network().as_ref());
        // `unified` comes last, so that its values override those of other fields for the same
        // files.
        for (key, value) in sorted_by_key(resources.unified().iter().flatten()) {
            draft.plan_unified(key, value);
        }
        draft.resolve_weight_and_idleness();
    }
    let rules = resources.and_then(|resources| resources.devices().as_deref());
    let rules = rules.unwrap_or_default();
    let ignored = devices_bpf::unknown_access_letters(rules);
    draft.limits.warnings.extend(ignored);
    match devices_bpf::plan_program(rules) {
        Ok(devices) => draft.limits.devices = devices,
        Err(violations) => draft.violations.extend(violations),
    }
    if draft.violations.is_empty() {
        Ok(draft.limits)
    } else {
        Err(draft.violations)
    }
}

/// Sorts a map of config.json, so that the order of writes and errors is always the same.
fn sorted_by_key<'a, V: 'a>(map: impl Iterator<Item = (&'a String, V)>) -> Vec<(&'a String, V)> {
    let mut pairs: Vec<_> = map.collect();
    pairs.sort_by_key(|(key, _)| *key);
    pairs
}

/// Formats a limit in bytes. -1 means "no limit".
fn bytes_or_max(limit: i64) -> String {
    if limit == -1 {
        "max".into()
    } else {
        limit.to_string()
    }
}

#[derive(Default)]
struct LimitsDraft {
    current: CurrentValues,
    limits: Limits,
    violations: Vec<Violation>,
}

impl LimitsDraft {
    fn add_violation(&mut self, field: &str, problem: impl Into<String>) {
        let place = format!("linux.resources.{field}");
        self.violations.push(Violation::new(place, problem));
    }

    /// Adds a violation that has its own code.
    fn add_violation_as(&mut self, code: Code, field: &str, problem: impl Into<String>) {
        let place = format!("linux.resources.{field}");
        self.violations.push(Violation::of(code, place, problem));
    }

    fn add_warning(&mut self, field: &str, problem: impl Into<String>) {
        let place = format!("linux.resources.{field}");
        self.limits
            .warnings
            .push(Violation::ignored(place, problem));
    }

    /// Adds a write. The prefix of the file name is the controller, and the value `max` means "no
    /// limit".
    fn add_write(
        &mut self,
        field: &str,
        file: &str,
        value: impl Into<String>,
    ) -> Option<&mut Limit> {
        let value = value.into();
        let controller = file.split('.').next().unwrap_or_default();
        self.limits.files.push(Limit {
            origin: config(format!("linux.resources.{field}")),
            controller: controller.into(),
            file: file.into(),
            no_limit: value == "max",
            value,
            or_else: None,
            again_later: false,
        });
        self.limits.files.last_mut()
    }

    /// Adds a write of the kernel's default value. Such a write needs no controller.
    fn add_default_write(&mut self, field: &str, file: &str, value: impl Into<String>) {
        if let Some(limit) = self.add_write(field, file, value) {
            limit.no_limit = true;
        }
    }

    fn plan_pids(&mut self, pids: Option<&LinuxPids>) {
        if let Some(pids) = pids {
            let value = match pids.limit() {
                // Set 1, as runc does because its systemd driver can't set 0. The first process can
                // enter the cgroup with either value.
                0 => "1".into(),
                limit if limit > 0 => limit.to_string(),
                _ => "max".into(),
            };
            self.add_write("pids.limit", "pids.max", value);
        }
    }

    fn refuse_v1_only(&mut self, field: &str) {
        let problem = "only cgroup v1 has this, and this runtime uses cgroup v2";
        self.add_violation_as(Code::CgroupV1Only, field, problem);
    }

    fn plan_hugepages(&mut self, limits: &[LinuxHugepageLimit]) {
        for (index, limit) in limits.iter().enumerate() {
            let (size, bytes_limit) = (limit.page_size(), limit.limit());
            let field = format!("hugepageLimits[{index}]");
            let digits = size.trim_end_matches("B").trim_end_matches(['K', 'M', 'G']);
            let unit = size.strip_prefix(digits).unwrap_or_default();
            if !matches!(unit, "KB" | "MB" | "GB")
                || digits.starts_with('0')
                || digits.is_empty()
                || !digits.bytes().all(|b| b.is_ascii_digit())
            {
                let problem = format!("{size:?} is not a page size like 64KB, 2MB or 1GB");
                self.add_violation(&format!("{field}.pageSize"), problem);
                continue;
            }
            let field = format!("{field}.limit");
            if bytes_limit < -1 {
                self.add_violation(
                    &field,
                    format!("{bytes_limit} is neither a size nor -1 (no limit)"),
                );
                continue;
            }
            self.add_write(
                &field,
                &format!("hugetlb.{size}.max"),
                bytes_or_max(bytes_limit),
            );
            // The kernel also limits reservations since Linux 5.7, if this feature is compiled in.
            // Otherwise only hugetlb.SIZE.max applies.
            self.add_default_write(
                &field,
                &format!("hugetlb.{size}.rsvd.max"),
                bytes_or_max(bytes_limit),
            );
        }
    }

    fn plan_rdma(&mut self, device: &str, rdma: &LinuxRdma) {
        let field = format!("rdma[{device:?}]");
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return self.add_violation(&field, "is not the name of a device");
        }
        let mut value = device.to_owned();
        for (key, limit) in [
            ("hca_handle", rdma.hca_handles()),
            ("hca_object", rdma.hca_objects()),
        ] {
            if let Some(limit) = limit {
                value.push_str(&format!(" {key}={limit}"));
            }
        }
        if value != device {
            self.add_write(&field, "rdma.max", value);
        }
    }

    fn plan_network(&mut self, network: Option<&LinuxNetwork>) {
        let Some(network) = network else { return };
        if network.class_id().is_some_and(|id| id != 0) {
            self.refuse_v1_only("network.classID");
        }
        if network
            .priorities()
            .as_ref()
            .is_some_and(|list| !list.is_empty())
        {
            self.refuse_v1_only("network.priorities");
        }
    }

    fn plan_unified(&mut self, key: &str, value: &str) {
        let field = format!("unified[{key:?}]");
        let (controller, parameter) = key.split_once('.').unwrap_or_default();
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
        if controller.is_empty() || parameter.is_empty() || !key.chars().all(letter) {
            return self.add_violation(&field, "is not of the form controller.parameter");
        }
        // Only the runtime writes these files, because a write moves, stops or kills processes, or
        // keeps processes out of the cgroup.
        if let "cgroup.procs"
        | "cgroup.threads"
        | "cgroup.kill"
        | "cgroup.freeze"
        | "cgroup.subtree_control"
        | "cgroup.type" = key
        {
            return self.add_violation(&field, "is not a limit");
        }
        if value.contains('\0') {
            return self.add_violation(&field, "the value contains a NUL");
        }
        // Each line is written separately. Files with one line per device require this.
        for line in value.lines().filter(|line| !line.trim().is_empty()) {
            self.add_write(&field, key, line);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn plan(json: &str) -> Result<Limits, Vec<Violation>> {
        plan_limits(Some(&serde_json::from_str(json).unwrap()))
    }

    /// Returns `file=value` for each write, followed by `?` if the file may be missing.
    fn writes(json: &str) -> Vec<String> {
        let show = |l: &Limit| {
            format!(
                "{}={}{}",
                l.file,
                l.value,
                if l.no_limit { "?" } else { "" }
            )
        };
        plan(json).unwrap().files.iter().map(show).collect()
    }

    fn violations(json: &str) -> Vec<String> {
        plan(json)
            .unwrap_err()
            .iter()
            .map(|v| v.origin.config_field().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_field_goes_to_its_file() {
        let table: &[(&str, &[&str])] = &[
            (r"{}", &[]),
            (r#"{"pids":{"limit":7}}"#, &["pids.max=7"]),
            (r#"{"pids":{"limit":-1}}"#, &["pids.max=max?"]),
            (r#"{"pids":{"limit":0}}"#, &["pids.max=1"]),
            (
                r#"{"memory":{"limit":4096,"reservation":2048}}"#,
                &["memory.max=4096", "memory.low=2048"],
            ),
            (
                r#"{"memory":{"limit":4096,"swap":6144}}"#,
                &["memory.swap.max=2048", "memory.max=4096"],
            ),
            (
                r#"{"memory":{"limit":4096,"swap":4096}}"#,
                &["memory.swap.max=0?", "memory.max=4096"],
            ),
            (
                r#"{"memory":{"limit":4096,"swap":-1}}"#,
                &["memory.swap.max=max?", "memory.max=4096"],
            ),
            (
                r#"{"memory":{"limit":-1}}"#,
                &["memory.swap.max=max?", "memory.max=max?"],
            ),
            (
                r#"{"memory":{"limit":-1,"swap":4096}}"#,
                &["memory.swap.max=4096", "memory.max=max?"],
            ),
            (
                r#"{"memory":{"limit":0,"swap":0,"reservation":0,"swappiness":0,"disableOOMKiller":false,"useHierarchy":true}}"#,
                &[],
            ),
            (
                r#"{"blockIO":{"weight":100,"leafWeight":0,"weightDevice":[{"major":8,"minor":0,"weight":500}]}}"#,
                &["io.bfq.weight=100", "io.bfq.weight=8:0 500"],
            ),
            (
                r#"{"blockIO":{"weight":0,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":9}],"throttleWriteIOPSDevice":[{"major":8,"minor":1,"rate":0}]}}"#,
                &["io.max=8:0 rbps=9", "io.max=8:1 wiops=max?"],
            ),
            (
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0},{"pageSize":"64KB","limit":-1}]}"#,
                &[
                    "hugetlb.2MB.max=0",
                    "hugetlb.2MB.rsvd.max=0?",
                    "hugetlb.64KB.max=max?",
                    "hugetlb.64KB.rsvd.max=max?",
                ],
            ),
            (
                r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10000},"a":{"hcaObjects":1},"b":{}}}"#,
                &[
                    "rdma.max=a hca_object=1",
                    "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
                ],
            ),
            (r#"{"network":{"classID":0,"priorities":[]}}"#, &[]),
            (
                r#"{"unified":{"pids.max":"9","io.max":"8:0 rbps=1\n8:1 rbps=2\n","memory.high":"max"},"pids":{"limit":7}}"#,
                &[
                    "pids.max=7",
                    "io.max=8:0 rbps=1",
                    "io.max=8:1 rbps=2",
                    "memory.high=max?",
                    "pids.max=9",
                ],
            ),
        ];
        for (json, expected) in table {
            assert_eq!(writes(json), *expected, "{json}");
        }
        let weight = &plan(r#"{"blockIO":{"weight":100}}"#).unwrap().files[0];
        assert_eq!(weight.or_else, Some(("io.weight".into(), "910".into())));
        assert_eq!(weight.origin, config("linux.resources.blockIO.weight"));
        assert_eq!(weight.controller, "io");
    }

    #[test]
    fn fields_of_cpu_go_to_their_files() {
        let table: &[(&str, &[&str])] = &[
            (
                r#"{"cpu":{"shares":1024,"quota":50000,"period":100000}}"#,
                &["cpu.weight=100?", "cpu.max=50000 100000"],
            ),
            (r#"{"cpu":{"quota":-1,"shares":0}}"#, &["cpu.max=max?"]),
            (r#"{"cpu":{"quota":-2}}"#, &["cpu.max=max?"]),
            (r#"{"cpu":{"quota":5000}}"#, &["cpu.max=5000"]),
            (r#"{"cpu":{"period":5000}}"#, &["cpu.max=max 5000"]),
            // The kubelet and docker send this period to ask for no limit.
            (r#"{"cpu":{"period":100000}}"#, &["cpu.max=max 100000?"]),
            (
                r#"{"cpu":{"period":5000,"quota":-1}}"#,
                &["cpu.max=max 5000?"],
            ),
            (
                r#"{"cpu":{"period":5000,"quota":0}}"#,
                &["cpu.max=max 5000?"],
            ),
            (r#"{"cpu":{"burst":10}}"#, &["cpu.max.burst=10"]),
            (
                r#"{"cpu":{"burst":1000,"quota":5000}}"#,
                &["cpu.max.burst=1000", "cpu.max=5000", "cpu.max.burst=1000"],
            ),
            (r#"{"cpu":{"idle":1,"shares":1024}}"#, &["cpu.idle=1"]),
            (
                r#"{"cpu":{"idle":0,"shares":1024}}"#,
                &["cpu.idle=0?", "cpu.weight=100?"],
            ),
            (
                r#"{"cpu":{"idle":1,"shares":2048},"unified":{"cpu.idle":"0"}}"#,
                &["cpu.idle=0", "cpu.weight=174"],
            ),
            (
                r#"{"unified":{"cpu.idle":"0","cpu.weight":"7","cpu.weight.nice":"1"}}"#,
                &["cpu.idle=0", "cpu.weight=7", "cpu.weight.nice=1"],
            ),
            (
                r#"{"cpu":{"cpus":"0-1,3","mems":"0","realtimeRuntime":0,"realtimePeriod":0}}"#,
                &["cpuset.cpus=0-1,3", "cpuset.mems=0"],
            ),
            (r#"{"cpu":{"cpus":"","mems":""}}"#, &[]),
        ];
        for (json, expected) in table {
            assert_eq!(writes(json), *expected, "{json}");
        }
    }

    #[test]
    fn what_v2_cannot_do_or_makes_no_sense_is_refused_by_name() {
        let table: &[(&str, &[&str])] = &[
            (r#"{"memory":{"limit":-2}}"#, &["memory.limit"]),
            (r#"{"memory":{"swap":4096}}"#, &["memory.swap"]),
            (r#"{"memory":{"swap":4095,"limit":4096}}"#, &["memory.swap"]),
            (
                r#"{"memory":{"swappiness":60,"disableOOMKiller":true}}"#,
                &["memory.swappiness", "memory.disableOOMKiller"],
            ),
            (r#"{"cpu":{"quota":999}}"#, &["cpu.quota"]),
            (r#"{"cpu":{"period":999}}"#, &["cpu.period"]),
            (r#"{"cpu":{"period":1000001}}"#, &["cpu.period"]),
            (r#"{"cpu":{"quota":1000,"burst":1001}}"#, &["cpu.burst"]),
            (r#"{"cpu":{"idle":2}}"#, &["cpu.idle"]),
            (r#"{"cpu":{"idle":1,"shares":2}}"#, &["cpu.shares"]),
            (
                r#"{"cpu":{"idle":1},"unified":{"cpu.weight":"5"}}"#,
                &[r#"unified["cpu.weight"]"#],
            ),
            (
                r#"{"cpu":{"shares":512},"unified":{"cpu.idle":"1"}}"#,
                &["cpu.shares"],
            ),
            (
                r#"{"cpu":{"realtimeRuntime":5,"realtimePeriod":5}}"#,
                &["cpu.realtimeRuntime", "cpu.realtimePeriod"],
            ),
            (
                r#"{"cpu":{"cpus":"0-","mems":"a"}}"#,
                &["cpu.cpus", "cpu.mems"],
            ),
            (
                r#"{"cpu":{"cpus":"3-1","mems":"0\n1"}}"#,
                &["cpu.cpus", "cpu.mems"],
            ),
            (r#"{"cpu":{"cpus":"+1"}}"#, &["cpu.cpus"]),
            (
                r#"{"blockIO":{"weight":9,"leafWeight":5}}"#,
                &["blockIO.weight", "blockIO.leafWeight"],
            ),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":-1,"minor":0,"rate":9}]}}"#,
                &["blockIO.throttleReadBpsDevice[0].major"],
            ),
            (
                r#"{"hugepageLimits":[{"pageSize":"2mb","limit":0},{"pageSize":"2MB","limit":-2},{"pageSize":"../x","limit":1}]}"#,
                &[
                    "hugepageLimits[0].pageSize",
                    "hugepageLimits[1].limit",
                    "hugepageLimits[2].pageSize",
                ],
            ),
            (r#"{"rdma":{"a b":{"hcaObjects":1}}}"#, &[r#"rdma["a b"]"#]),
            (
                r#"{"network":{"classID":1,"priorities":[{"name":"lo","priority":1}]}}"#,
                &["network.classID", "network.priorities"],
            ),
            (
                r#"{"unified":{"../x":"1","cgroup.procs":"1","memory":"1","memory.max\n":"1",".x":"1"}}"#,
                &[
                    r#"unified["../x"]"#,
                    r#"unified[".x"]"#,
                    r#"unified["cgroup.procs"]"#,
                    r#"unified["memory"]"#,
                    r#"unified["memory.max\n"]"#,
                ],
            ),
            (
                r#"{"unified":{"memory.max":"1\u0000"}}"#,
                &[r#"unified["memory.max"]"#],
            ),
            (
                r#"{"devices":[{"allow":true,"access":"x"}]}"#,
                &["devices[0].access"],
            ),
        ];
        for (json, expected) in table {
            let expected: Vec<_> = expected
                .iter()
                .map(|field| format!("linux.resources.{field}"))
                .collect();
            let mut found = violations(json);
            found.sort();
            let mut sorted = expected.clone();
            sorted.sort();
            assert_eq!(found, sorted, "{json}");
        }
    }

    #[test]
    fn kernel_memory_is_a_warning() {
        let limits = plan(r#"{"memory":{"kernel":4096,"kernelTCP":4096}}"#).unwrap();
        assert!(limits.files.is_empty());
        assert_eq!(limits.warnings.len(), 2);
        assert_eq!(
            limits.warnings[0].origin,
            config("linux.resources.memory.kernel")
        );
        assert!(
            plan(r#"{"memory":{"kernel":0}}"#)
                .unwrap()
                .warnings
                .is_empty()
        );
    }

    #[test]
    fn what_an_update_does_not_say_is_what_the_cgroup_has() {
        let current = CurrentValues {
            memory: Some(4096),
            quota: Some(50_000),
            idle: true,
        };
        let update =
            |json: &str| plan_update(&serde_json::from_str(json).unwrap(), current.clone());
        let written = |json: &str| {
            let files = update(json).unwrap().files;
            files
                .iter()
                .map(|l| format!("{}={}", l.file, l.value))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            written(r#"{"memory":{"swap":6144}}"#),
            ["memory.swap.max=2048"]
        );
        assert_eq!(
            written(r#"{"memory":{"swap":6144,"limit":6144}}"#),
            ["memory.swap.max=0", "memory.max=6144"]
        );
        assert_eq!(written(r#"{"memory":{"limit":8192}}"#), ["memory.max=8192"]);
        assert_eq!(
            written(r#"{"memory":{"limit":-1}}"#),
            ["memory.swap.max=max", "memory.max=max"]
        );
        assert_eq!(
            written(r#"{"cpu":{"period":20000}}"#),
            ["cpu.max=50000 20000"]
        );
        assert_eq!(written(r#"{"cpu":{"quota":-1}}"#), ["cpu.max=max"]);
        assert_eq!(written(r#"{"cpu":{"quota":30000}}"#), ["cpu.max=30000"]);
        for (json, files) in [
            (r#"{"cpu":{"shares":512}}"#, "cpu.idle=0 cpu.weight=59"),
            (
                r#"{"unified":{"cpu.weight":"5"},"cpu":{"idle":0}}"#,
                "cpu.idle=0 cpu.weight=5",
            ),
            (r#"{"cpu":{"idle":0}}"#, "cpu.idle=0"),
            (r#"{"cpu":{"idle":1}}"#, "cpu.idle=1"),
        ] {
            assert_eq!(written(json).join(" "), files, "{json}");
        }
        let violation = &update(r#"{"memory":{"swap":4095}}"#).unwrap_err()[0];
        assert_eq!(violation.origin, config("linux.resources.memory.swap"));
    }

    #[test]
    fn origins_are_renamed_for_those_who_wrote_them_elsewhere() {
        let mut limits = plan(r#"{"pids":{"limit":7}}"#).unwrap();
        assert_eq!(limits.files[0].origin, config("linux.resources.pids.limit"));
        limits.rename_origins(|origin| origin.in_file("stdin", "linux.resources."));
        assert_eq!(limits.files[0].origin.to_string(), "stdin: pids.limit");
    }

    #[test]
    fn limits_checked_against_usage_list_memory_and_swap_first() {
        let json = r#"{"memory":{"limit":4096,"swap":6144,"checkBeforeUpdate":true}}"#;
        let bytes: Vec<_> = plan(json)
            .unwrap()
            .above_usage
            .iter()
            .map(|l| l.bytes)
            .collect();
        assert_eq!(bytes, [6144, 4096]);
        let json = r#"{"memory":{"limit":4096}}"#;
        assert!(plan(json).unwrap().above_usage.is_empty());
    }

    #[test]
    fn without_resources_there_are_the_default_devices() {
        let limits = plan_limits(None).unwrap();
        assert!(limits.files.is_empty());
        assert!(limits.devices.is_some());
    }
}
