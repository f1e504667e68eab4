//! Converts `org.systemd.property.NAME` annotations to properties of the systemd scope. Only
//! properties on a list of harmless ones are allowed.
//! `properties` plans the properties that follow from linux.resources.
//!
//! Anyone who can describe a pod can write annotations. So the list excludes properties that run
//! programs, start or stop other units, load BPF programs, reboot the host, or move the scope. The
//! list also excludes properties that the runtime sets itself.

use super::super::dbus::Value;
use super::{UnitProperty, gvariant};
use crate::error::Violation;

const PROPERTY_PREFIX: &str = "org.systemd.property.";

/// The properties that an annotation may set, each with its name on the bus and the D-Bus signature
/// of its type.
const ALLOWED_PROPERTIES: &[(&str, &str)] = &[
    // Stopping the scope.
    ("CollectMode", "s"),
    ("FinalKillSignal", "i"),
    ("JobRunningTimeoutUSec", "t"),
    ("JobTimeoutUSec", "t"),
    ("KillMode", "s"),
    ("KillSignal", "i"),
    ("OOMPolicy", "s"),
    ("RestartKillSignal", "i"),
    ("RuntimeMaxUSec", "t"),
    ("RuntimeRandomizedExtraUSec", "t"),
    ("SendSIGHUP", "b"),
    ("SendSIGKILL", "b"),
    ("StopWhenUnneeded", "b"),
    ("TimeoutStopUSec", "t"),
    // Ordering and dependencies.
    ("After", "as"),
    ("Before", "as"),
    ("DefaultDependencies", "b"),
    ("PartOf", "as"),
    // Descriptive texts.
    ("Description", "s"),
    ("Documentation", "as"),
    // Resources. linux.resources overrides them.
    ("AllowedCPUs", "ay"),
    ("AllowedMemoryNodes", "ay"),
    ("CPUQuotaPerSecUSec", "t"),
    ("CPUQuotaPeriodUSec", "t"),
    ("CPUWeight", "t"),
    ("DefaultMemoryLow", "t"),
    ("DefaultMemoryMin", "t"),
    ("IOWeight", "t"),
    ("ManagedOOMMemoryPressure", "s"),
    ("ManagedOOMMemoryPressureDurationUSec", "t"),
    ("ManagedOOMMemoryPressureLimit", "u"),
    ("ManagedOOMPreference", "s"),
    ("ManagedOOMSwap", "s"),
    ("MemoryHigh", "t"),
    ("MemoryLow", "t"),
    ("MemoryMax", "t"),
    ("MemoryMin", "t"),
    ("MemorySwapMax", "t"),
    ("MemoryZSwapMax", "t"),
    ("MemoryZSwapWriteback", "b"),
    ("StartupAllowedCPUs", "ay"),
    ("StartupAllowedMemoryNodes", "ay"),
    ("StartupCPUWeight", "t"),
    ("StartupIOWeight", "t"),
    ("TasksMax", "t"),
];

/// Returns the D-Bus names of the properties that an annotation may set.
pub(crate) fn property_names() -> impl Iterator<Item = &'static str> {
    ALLOWED_PROPERTIES.iter().map(|(name, _)| *name)
}

/// Returns the properties that the annotations set, sorted by name, or all violations.
pub(super) fn plan_properties<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<UnitProperty>, Vec<Violation>> {
    let mut ours: Vec<_> = annotations
        .filter_map(|(key, value)| Some((key, key.strip_prefix(PROPERTY_PREFIX)?, value)))
        .collect();
    ours.sort();
    let mut properties = Vec::new();
    let mut violations = Vec::new();
    for (key, name, text) in ours {
        match parse_property(name, text) {
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

fn parse_property(name: &str, text: &str) -> Result<UnitProperty, String> {
    let (bus_name, seconds) = match name.strip_suffix("Sec") {
        // Unit files give times in seconds (TimeoutStopSec), but the bus uses microseconds
        // (TimeoutStopUSec).
        Some(stem) if stem.ends_with(|c: char| c.is_ascii_lowercase()) => {
            (format!("{stem}USec"), true)
        }
        _ => (name.to_owned(), false),
    };
    let Some((_, signature)) = ALLOWED_PROPERTIES
        .iter()
        .find(|(name, _)| *name == bus_name)
    else {
        let names: Vec<&str> = property_names().collect();
        return Err(format!(
            "{name:?} is not among the properties of a systemd unit that an annotation may set: {}",
            names.join(", ")
        ));
    };
    let value = if seconds {
        let number = gvariant::seconds_to_microseconds(text).map(Value::U64);
        number.ok_or_else(|| format!("{text:?} is not a number of seconds"))?
    } else {
        gvariant::parse_typed(text, signature).map_err(|problem| format!("{text:?}: {problem}"))?
    };
    Ok((bus_name, value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn planned(pairs: &[(&str, &str)]) -> Result<Vec<UnitProperty>, Vec<Violation>> {
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        plan_properties(pairs.iter().map(|(key, value)| (key, value)))
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
        let after = Value::Array("s".into(), vec![Value::from_text("crio.service")]);
        assert_eq!(
            properties.unwrap(),
            [
                ("After".to_owned(), after),
                ("CollectMode".into(), Value::from_text("inactive-or-failed")),
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
            ("After", "'a.service'"),
            ("TasksMax", "uint32 5"),
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
