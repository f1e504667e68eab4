//! Annotations `org.systemd.property.NAME` -> properties of the scope, by a list of those that do no harm.
//! Pure; not the properties that follow from linux.resources.
//!
//! Annotations may come from whoever describes a pod. Properties that run programs, start or stop other units, load BPF
//! programs, reboot, or move the scope elsewhere are therefore not on the list, and neither is what the runtime itself sets.

use super::super::dbus::Value;
use super::{Property, gvariant};
use crate::error::Violation;

const PREFIX: &str = "org.systemd.property.";

/// Sorted by what they are about; the names as on the bus.
const ALLOWED: &[&str] = &[
    // When and how it stops.
    "CollectMode",
    "FinalKillSignal",
    "JobRunningTimeoutUSec",
    "JobTimeoutUSec",
    "KillMode",
    "KillSignal",
    "OOMPolicy",
    "RestartKillSignal",
    "RuntimeMaxUSec",
    "RuntimeRandomizedExtraUSec",
    "SendSIGHUP",
    "SendSIGKILL",
    "StopWhenUnneeded",
    "TimeoutStopUSec",
    // In which order with others.
    "After",
    "Before",
    "DefaultDependencies",
    "PartOf",
    // What is told of it.
    "Description",
    "Documentation",
    // Resources; linux.resources wins over these.
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "CPUWeight",
    "DefaultMemoryLow",
    "DefaultMemoryMin",
    "IOWeight",
    "ManagedOOMMemoryPressure",
    "ManagedOOMMemoryPressureDurationUSec",
    "ManagedOOMMemoryPressureLimit",
    "ManagedOOMPreference",
    "ManagedOOMSwap",
    "MemoryHigh",
    "MemoryLow",
    "MemoryMax",
    "MemoryMin",
    "MemorySwapMax",
    "MemoryZSwapMax",
    "MemoryZSwapWriteback",
    "StartupAllowedCPUs",
    "StartupAllowedMemoryNodes",
    "StartupCPUWeight",
    "StartupIOWeight",
    "TasksMax",
];

/// Reads them, in the order of their names, or answers with every violation.
pub(super) fn plan<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<Property>, Vec<Violation>> {
    let mut ours: Vec<_> = annotations
        .filter_map(|(key, value)| Some((key, key.strip_prefix(PREFIX)?, value)))
        .collect();
    ours.sort();
    let mut properties = Vec::new();
    let mut violations = Vec::new();
    for (key, name, text) in ours {
        match property(name, text) {
            Ok(property) => properties.push(property),
            Err(problem) => {
                violations.push(Violation::new(format!("annotations[{key:?}]"), problem));
            }
        }
    }
    if violations.is_empty() {
        Ok(properties)
    } else {
        Err(violations)
    }
}

fn property(name: &str, text: &str) -> Result<Property, String> {
    let (bus_name, seconds) = match name.strip_suffix("Sec") {
        // In unit files times are in seconds (TimeoutStopSec), on the bus in microseconds (TimeoutStopUSec).
        Some(stem) if stem.ends_with(|c: char| c.is_ascii_lowercase()) => {
            (format!("{stem}USec"), true)
        }
        _ => (name.to_owned(), false),
    };
    if !ALLOWED.contains(&bus_name.as_str()) {
        return Err(format!(
            "{name:?} is not among the properties of a systemd unit that an annotation may set: {}",
            ALLOWED.join(", ")
        ));
    }
    let value = gvariant::parse(text).map_err(|problem| format!("{text:?}: {problem}"))?;
    let value = if seconds {
        microseconds(&value).ok_or_else(|| format!("{text:?} is no number of seconds"))?
    } else {
        value
    };
    Ok((bus_name, value))
}

fn microseconds(value: &Value) -> Option<Value> {
    let whole: u64 = match value {
        Value::Byte(n) => (*n).into(),
        Value::I16(n) => (*n).try_into().ok()?,
        Value::U16(n) => (*n).into(),
        Value::I32(n) => (*n).try_into().ok()?,
        Value::U32(n) => (*n).into(),
        Value::I64(n) => (*n).try_into().ok()?,
        Value::U64(n) => *n,
        // The largest that a double holds exactly, which is 285 years.
        Value::Double(n) if (0.0..9e9).contains(n) => {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in range
            return Some(Value::U64((n * 1e6) as u64));
        }
        _ => return None,
    };
    whole.checked_mul(1_000_000).map(Value::U64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn planned(pairs: &[(&str, &str)]) -> Result<Vec<Property>, Vec<Violation>> {
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        plan(pairs.iter().map(|(key, value)| (key, value)))
    }

    #[test]
    fn properties_are_read_and_seconds_become_microseconds() {
        let properties = planned(&[
            ("org.systemd.property.TimeoutStopSec", "uint32 3"),
            ("org.systemd.property.RuntimeMaxSec", "1.5"),
            ("org.systemd.property.JobTimeoutUSec", "uint64 789"),
            ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
            ("org.systemd.property.After", "['crio.service']"),
            ("org.example", "uint32 1"),
        ]);
        let after = Value::Array("s".into(), vec![Value::text("crio.service")]);
        assert_eq!(
            properties.unwrap(),
            [
                ("After".to_owned(), after),
                ("CollectMode".into(), Value::text("inactive-or-failed")),
                ("JobTimeoutUSec".into(), Value::U64(789)),
                ("RuntimeMaxUSec".into(), Value::U64(1_500_000)),
                ("TimeoutStopUSec".into(), Value::U64(3_000_000)),
            ]
        );
    }

    #[test]
    fn what_would_run_something_or_move_the_scope_is_refused() {
        for name in [
            "ExecStart",
            "ExecStartPre",
            "ExecStopPost",
            "ExecStopPostEx",
            "OnFailure",
            "OnSuccess",
            "Wants",
            "Requires",
            "BindsTo",
            "Conflicts",
            "JoinsNamespaceOf",
            "FailureAction",
            "SuccessAction",
            "JobTimeoutAction",
            "Slice",
            "Delegate",
            "DelegateSubgroup",
            "PIDs",
            "Controller",
            "DevicePolicy",
            "DeviceAllow",
            "IPIngressFilterPath",
            "BPFProgram",
            "User",
            "Group",
            "RootImage",
            "",
            "Sec",
            "kill",
            "ExecStart\n",
        ] {
            let key = format!("org.systemd.property.{name}");
            let violations = planned(&[(&key, "'x'")]).unwrap_err();
            assert_eq!(violations.len(), 1, "{name}");
            let text = violations.first().unwrap().to_string();
            assert!(
                text.starts_with(&format!("config.json: annotations[{key:?}]: ")),
                "{text}"
            );
        }
    }

    #[test]
    fn values_that_are_none_are_refused_by_name() {
        for (name, value) in [
            ("TimeoutStopSec", "'3'"),
            ("TimeoutStopSec", "-3"),
            ("TimeoutStopSec", "uint64 18446744073709551615"),
            ("TimeoutStopSec", "double 1e300"),
            ("CollectMode", "inactive"),
            ("After", "[]"),
        ] {
            let key = format!("org.systemd.property.{name}");
            let violations = planned(&[(&key, value)]).unwrap_err();
            assert!(
                violations.first().unwrap().to_string().contains(&key),
                "{value}"
            );
        }
    }
}
