//! Tests the property for each limit.
#![allow(clippy::unwrap_used)]

use super::super::super::resources::plan_limits;
use super::*;

const FACTS: UnitFacts = UnitFacts {
    version: 257,
    period: 100_000,
    idle: false,
    new: true,
};

fn limits(json: &str) -> Limits {
    plan_limits(Some(&serde_json::from_str(json).unwrap())).unwrap()
}

fn properties(json: &str, facts: UnitFacts) -> Vec<UnitProperty> {
    limits_to_properties(&limits(json), facts).0
}

fn numbers(json: &str) -> Vec<(String, u64)> {
    let number = |(name, value): UnitProperty| match value {
        Value::U64(number) => (name, number),
        other => unreachable!("{other:?}"),
    };
    properties(json, FACTS).into_iter().map(number).collect()
}

#[test]
fn numbers_become_the_property_of_their_file() {
    let table: &[(&str, &[(&str, u64)])] = &[
        (r"{}", &[]),
        (r#"{"pids":{"limit":7}}"#, &[("TasksMax", 7)]),
        (
            r#"{"pids":{"limit":-1}}"#,
            &[("TasksMax", SYSTEMD_INFINITY)],
        ),
        (r#"{"unified":{"pids.max":"0"}}"#, &[("TasksMax", 1)]),
        (
            r#"{"memory":{"limit":4096,"swap":6144,"reservation":2048}}"#,
            &[
                ("MemorySwapMax", 2048),
                ("MemoryMax", 4096),
                ("MemoryLow", 2048),
            ],
        ),
        (
            r#"{"memory":{"limit":-1}}"#,
            &[
                ("MemorySwapMax", SYSTEMD_INFINITY),
                ("MemoryMax", SYSTEMD_INFINITY),
            ],
        ),
        (
            r#"{"unified":{"memory.high":"1G","memory.min":"8k","memory.low":"max","memory.max":"12x"}}"#,
            &[
                ("MemoryHigh", 1 << 30),
                ("MemoryLow", SYSTEMD_INFINITY),
                ("MemoryMin", 8192),
            ],
        ),
        (r#"{"cpu":{"shares":2048}}"#, &[("CPUWeight", 174)]),
        (
            r#"{"cpu":{"quota":50000,"period":200000}}"#,
            &[
                ("CPUQuotaPeriodUSec", 200_000),
                ("CPUQuotaPerSecUSec", 250_000),
            ],
        ),
        (
            r#"{"cpu":{"quota":5000}}"#,
            &[("CPUQuotaPerSecUSec", 50_000)],
        ),
        (
            r#"{"cpu":{"quota":-1}}"#,
            &[("CPUQuotaPerSecUSec", SYSTEMD_INFINITY)],
        ),
        (
            r#"{"cpu":{"period":5000}}"#,
            &[
                ("CPUQuotaPeriodUSec", 5000),
                ("CPUQuotaPerSecUSec", SYSTEMD_INFINITY),
            ],
        ),
        (r#"{"cpu":{"idle":1,"shares":1024}}"#, &[("CPUWeight", 0)]),
        (
            r#"{"cpu":{"idle":1},"unified":{"cpu.idle":"0","cpu.weight":"5"}}"#,
            &[("CPUWeight", 5)],
        ),
        (r#"{"cpu":{"idle":1},"unified":{"cpu.idle":"0"}}"#, &[]),
        (r#"{"blockIO":{"weight":100}}"#, &[("IOWeight", 910)]),
        (
            r#"{"unified":{"io.weight":"default 33"}}"#,
            &[("IOWeight", 33)],
        ),
        (
            r#"{"pids":{"limit":7},"unified":{"pids.max":"9","hugetlb.2MB.max":"5"}}"#,
            &[("TasksMax", 9)],
        ),
    ];
    for (json, expected) in table {
        let expected: Vec<_> = expected
            .iter()
            .map(|(n, v)| ((*n).to_owned(), *v))
            .collect();
        assert_eq!(numbers(json), expected, "{json}");
    }
}

#[test]
fn a_quota_is_rounded_up_to_a_per_cent_in_property_and_file() {
    let table = [
        (
            r#"{"cpu":{"quota":12345,"period":100000}}"#,
            130_000,
            "13000 100000",
        ),
        (r#"{"cpu":{"quota":1001}}"#, 20_000, "2000"),
        (
            r#"{"cpu":{"quota":9223372036854775807,"period":1000}}"#,
            0,
            "",
        ),
    ];
    for (json, property, file) in table {
        let (properties, limits) = limits_to_properties(&limits(json), FACTS);
        let found = properties
            .iter()
            .find(|(name, _)| name == "CPUQuotaPerSecUSec");
        if property == 0 {
            assert_eq!(found, None);
            continue;
        }
        assert_eq!(found.unwrap().1, Value::U64(property), "{json}");
        let written = limits.files.iter().find(|l| l.file == "cpu.max").unwrap();
        assert_eq!(written.value, file, "{json}");
    }
    // Without a period in the limits, the unit's current period is used.
    let facts = UnitFacts {
        period: 50_000,
        ..FACTS
    };
    let half = properties(r#"{"cpu":{"quota":25000}}"#, facts);
    assert_eq!(
        half,
        [("CPUQuotaPerSecUSec".to_owned(), Value::U64(500_000))]
    );
}

#[test]
fn idleness_that_ends_leaves_a_weight() {
    let facts = UnitFacts {
        idle: true,
        ..FACTS
    };
    for (json, weight) in [
        (r#"{"cpu":{"idle":0}}"#, 100),
        (r#"{"cpu":{"idle":0,"shares":512}}"#, 59),
        (r#"{"cpu":{"idle":1}}"#, 0),
    ] {
        let expected = [("CPUWeight".to_owned(), Value::U64(weight))];
        assert_eq!(properties(json, facts), expected, "{json}");
    }
}

#[test]
fn what_an_older_systemd_does_not_know_is_left_to_the_files() {
    let json = r#"{"cpu":{"idle":1},"unified":{"memory.oom.group":"1"}}"#;
    assert!(needs_version(&limits(json)));
    assert!(!needs_version(&limits(r#"{"pids":{"limit":7}}"#)));
    assert_eq!(
        properties(
            json,
            UnitFacts {
                version: 249,
                ..FACTS
            }
        ),
        []
    );
    let policy = ("OOMPolicy".to_owned(), Value::from_text("kill"));
    assert!(properties(json, FACTS).contains(&policy));
    assert!(
        !properties(
            json,
            UnitFacts {
                new: false,
                ..FACTS
            }
        )
        .contains(&policy)
    );
}

#[test]
fn sets_become_bits_from_the_lowest() {
    let set = |list: &str| properties(&format!(r#"{{"cpu":{{"cpus":"{list}"}}}}"#), FACTS);
    let bytes = |bytes: &[u8]| {
        let bytes = bytes.iter().copied().map(Value::Byte).collect();
        vec![("AllowedCPUs".to_owned(), Value::Array("y".into(), bytes))]
    };
    assert_eq!(set("0-1,3"), bytes(&[0b1011]));
    assert_eq!(set("15"), bytes(&[0, 0x80]));
    assert_eq!(set("0-7:1/2"), bytes(&[0b0101_0101]));
    assert_eq!(set("4294967295"), []);
}

#[test]
fn devices_have_a_list_of_their_own() {
    let json = r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":10}],
        "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":9},{"major":8,"minor":16,"rate":0}],
        "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":5}]}}"#;
    let pair =
        |device: &str, number| Value::Struct(vec![Value::from_text(device), Value::U64(number)]);
    let list = |pairs| Value::Array("(st)".into(), pairs);
    assert_eq!(
        properties(json, FACTS),
        [
            (
                "IODeviceWeight".to_owned(),
                list(vec![pair("/dev/block/8:0", 1)])
            ),
            (
                "IOReadBandwidthMax".to_owned(),
                list(vec![
                    pair("/dev/block/8:0", 9),
                    pair("/dev/block/8:16", SYSTEMD_INFINITY)
                ]),
            ),
            (
                "IOWriteIOPSMax".to_owned(),
                list(vec![pair("/dev/block/8:0", 5)])
            ),
        ]
    );
}

#[test]
fn device_rules_are_a_strict_list_or_none_at_all() {
    let strict = devices_to_properties(limits("{}").devices.as_ref());
    assert_eq!(strict.first().unwrap().1, Value::from_text("strict"));
    assert_eq!(strict.len(), 3);
    let all = limits(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
    let auto = devices_to_properties(all.devices.as_ref());
    assert_eq!(auto.first().unwrap().1, Value::from_text("auto"));
    assert_eq!(auto.len(), 2);
}
