//! Translates the limits of a cgroup to properties of its systemd unit
//! (systemd.resource-control(5)). Each limit is identified by the name of its cgroup file.
//! Other modules write all limits to the cgroup files too, even limits without a property.
//!
//! The properties are needed because systemd may write its own values to the files at any time. A
//! limit that is set only in the file is lost then.

use super::super::dbus::Value;
use super::super::devices_bpf::DeviceProgram;
use super::super::resources::{Limit, Limits};
use super::UnitProperty;

/// systemd's `infinity`.
const SYSTEMD_INFINITY: u64 = u64::MAX;
const MICROSECONDS_PER_SECOND: u128 = 1_000_000;
/// systemd stores a quota in whole percents of a CPU.
const QUOTA_STEP_US: u128 = MICROSECONDS_PER_SECOND / 100;
/// The weight that the kernel gives a cgroup when it stops being idle.
const DEFAULT_CPU_WEIGHT: u64 = 100;
/// The first version of systemd that reads a CPUWeight of 0 as idle.
const IDLE_MIN_VERSION: u32 = 252;
/// The first version of systemd whose scopes have an OOMPolicy.
const OOM_POLICY_MIN_VERSION: u32 = 253;

/// The values that the translation depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnitFacts {
    /// The version of systemd, or 0 if it was not queried (see `needs_version`).
    pub(super) version: u32,
    /// The current period of the CPU quota in microseconds.
    pub(super) period: u64,
    /// The current cpu.idle.
    pub(super) idle: bool,
    /// True if the unit is being created. Some properties can't be changed later.
    pub(super) new: bool,
}

/// True if the translation of a limit depends on the version of systemd.
pub(super) fn needs_version(limits: &Limits) -> bool {
    let matters = |limit: &Limit| matches!(&*limit.file, "cpu.idle" | "memory.oom.group");
    limits.files.iter().any(matters)
}

/// Translates limits to properties. The second returned value holds the limits as systemd will
/// round them.
pub(super) fn limits_to_properties(
    limits: &Limits,
    facts: UnitFacts,
) -> (Vec<UnitProperty>, Limits) {
    let mut limits = limits.clone();
    let mut properties = PropertyList(Vec::new());
    for limit in &mut limits.files {
        let value = limit.value.trim();
        match &*limit.file {
            // systemd expresses idleness by CPUWeight. If the limits also set cpu.weight, that
            // limit comes later in the list and replaces this value.
            "cpu.idle" => match value {
                "1" if facts.version >= IDLE_MIN_VERSION => {
                    properties.set_property("CPUWeight", Value::U64(0))
                }
                "0" if facts.idle => {
                    properties.set_property("CPUWeight", Value::U64(DEFAULT_CPU_WEIGHT))
                }
                _ => {}
            },
            "cpu.weight" => properties.set_number("CPUWeight", value),
            "cpu.max" => {
                if let Some(rounded) = properties.set_cpu_quota(value, facts.period) {
                    limit.value = rounded;
                }
            }
            "cpuset.cpus" => properties.set_bit_mask("AllowedCPUs", value),
            "cpuset.mems" => properties.set_bit_mask("AllowedMemoryNodes", value),
            "memory.high" => properties.set_amount("MemoryHigh", value),
            "memory.low" => properties.set_amount("MemoryLow", value),
            "memory.max" => properties.set_amount("MemoryMax", value),
            "memory.min" => properties.set_amount("MemoryMin", value),
            "memory.swap.max" => properties.set_amount("MemorySwapMax", value),
            "memory.oom.group" if facts.new && facts.version >= OOM_POLICY_MIN_VERSION => {
                match value {
                    "0" => properties.set_property("OOMPolicy", Value::from_text("continue")),
                    "1" => properties.set_property("OOMPolicy", Value::from_text("kill")),
                    _ => {}
                }
            }
            // systemd refuses 0.
            "pids.max" if value == "0" => properties.set_property("TasksMax", Value::U64(1)),
            "pids.max" => properties.set_amount("TasksMax", value),
            "io.weight" => properties.set_io_weight(value),
            "io.bfq.weight" => {
                if let Some((_, value)) = &limit.or_else {
                    properties.set_io_weight(value);
                }
            }
            "io.max" => properties.set_io_max(value),
            _ => {}
        }
    }
    (properties.0, limits)
}

/// Returns the value to write to cpu.max after systemd has written to it, if the limits set no
/// quota. In this case systemd writes a period of its own. The period must be restored, because a
/// later quota without a period refers to it.
pub(super) fn cpu_max_to_restore(limits: &Limits, period_now: u64) -> Option<String> {
    let limit = limits.files.iter().rfind(|limit| limit.file == "cpu.max")?;
    let mut words = limit.value.split_ascii_whitespace();
    (words.next()? == "max").then(|| match words.next() {
        Some(period) => format!("max {period}"),
        None => format!("max {period_now}"),
    })
}

/// Translates the device rules. systemd supports only lists of allowed devices. If no list can
/// express the rules exactly, systemd gets a list or a policy that allows more. This runtime
/// attaches its own program beside systemd's, which denies the rest.
pub(super) fn devices_to_properties(program: Option<&DeviceProgram>) -> Vec<UnitProperty> {
    let list = program.and_then(DeviceProgram::systemd_allow_list);
    let policy = if list.is_some() { "strict" } else { "auto" };
    let pair = |(device, access): (String, String)| {
        Value::Struct(vec![Value::Text(device), Value::Text(access)])
    };
    let pairs: Vec<Value> = list.into_iter().flatten().map(pair).collect();
    let array = |pairs| Value::Array("(ss)".into(), pairs);
    let mut properties = vec![
        ("DevicePolicy".to_owned(), Value::from_text(policy)),
        // An empty list removes the unit's entries.
        ("DeviceAllow".into(), array(Vec::new())),
    ];
    if !pairs.is_empty() {
        properties.push(("DeviceAllow".into(), array(pairs)));
    }
    properties
}

/// Properties without duplicates. A later value replaces an earlier one, as with writes to a file.
struct PropertyList(Vec<UnitProperty>);

impl PropertyList {
    fn set_property(&mut self, name: &str, value: Value) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.into(), value));
    }

    /// Sets a number. Invalid text sets no property, because the kernel reports the error when the
    /// text is written to the cgroup file.
    fn set_number(&mut self, name: &str, text: &str) {
        if let Ok(number) = text.parse() {
            self.set_property(name, Value::U64(number));
        }
    }

    /// Sets an amount. As in the kernel, the text is `max` or a number with an optional unit.
    fn set_amount(&mut self, name: &str, text: &str) {
        if text == "max" {
            return self.set_property(name, Value::U64(SYSTEMD_INFINITY));
        }
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match text.get(digits.len()..).unwrap_or_default() {
            "" => 0,
            "K" | "k" => 10,
            "M" | "m" => 20,
            "G" | "g" => 30,
            "T" | "t" => 40,
            _ => return,
        };
        let number = digits.parse::<u64>().ok();
        if let Some(number) = number.and_then(|number| number.checked_mul(1 << shift)) {
            self.set_property(name, Value::U64(number));
        }
    }

    /// Sets the CPU quota from `QUOTA [PERIOD]`. Returns the value rounded up as systemd rounds it,
    /// so that the cgroup gets at least the requested quota.
    fn set_cpu_quota(&mut self, text: &str, period_now: u64) -> Option<String> {
        let mut words = text.split_ascii_whitespace();
        let (quota, period) = (words.next()?, words.next());
        let period_set: Option<u64> = period.map(str::parse).transpose().ok()?;
        let period = u128::from(period_set.unwrap_or(period_now).max(1));
        let per_second = match quota {
            "max" => None,
            quota => {
                let quota: u64 = quota.parse().ok()?;
                let exact = u128::from(quota) * MICROSECONDS_PER_SECOND / period;
                Some(exact.next_multiple_of(QUOTA_STEP_US))
            }
        };
        if let Some(period) = period_set {
            self.set_property("CPUQuotaPeriodUSec", Value::U64(period));
        }
        let property = per_second.map_or(Some(SYSTEMD_INFINITY), |n| n.try_into().ok())?;
        self.set_property("CPUQuotaPerSecUSec", Value::U64(property));
        let rounded = (per_second? * period / MICROSECONDS_PER_SECOND).to_string();
        Some(match period_set {
            Some(period) => format!("{rounded} {period}"),
            None => rounded,
        })
    }

    /// Sets a bit mask from a list like `0-3,7` or `0-15:2/4`.
    fn set_bit_mask(&mut self, name: &str, list: &str) {
        if let Some(bits) = list_to_bit_mask(list) {
            let bytes = bits.into_iter().map(Value::Byte).collect();
            self.set_property(name, Value::Array("y".into(), bytes));
        }
    }

    /// Sets the weight in `N`, `default N` or `MAJOR:MINOR N`.
    fn set_io_weight(&mut self, text: &str) {
        match text.split_once(' ') {
            None => self.set_number("IOWeight", text),
            Some(("default", weight)) => self.set_number("IOWeight", weight.trim()),
            Some((device, weight)) => {
                if let Ok(weight) = weight.trim().parse() {
                    self.add_device_entry("IODeviceWeight", device, weight);
                }
            }
        }
    }

    /// Sets the rates in `MAJOR:MINOR KEY=VALUE ...`.
    fn set_io_max(&mut self, text: &str) {
        let mut words = text.split_ascii_whitespace();
        let device = words.next().unwrap_or_default();
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                continue;
            };
            let name = match key {
                "rbps" => "IOReadBandwidthMax",
                "wbps" => "IOWriteBandwidthMax",
                "riops" => "IOReadIOPSMax",
                "wiops" => "IOWriteIOPSMax",
                _ => continue,
            };
            let rate = if value == "max" {
                Some(SYSTEMD_INFINITY)
            } else {
                value.parse().ok()
            };
            if let Some(rate) = rate {
                self.add_device_entry(name, device, rate);
            }
        }
    }

    /// Adds a number for a device to a property that has one entry per device.
    fn add_device_entry(&mut self, name: &str, device: &str, number: u64) {
        if !is_device_number(device) {
            return;
        }
        let path = Value::Text(format!("/dev/block/{device}"));
        let pair = Value::Struct(vec![path, Value::U64(number)]);
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, Value::Array(_, pairs))) => pairs.push(pair),
            _ => self.set_property(name, Value::Array("(st)".into(), vec![pair])),
        }
    }
}

/// True if the text has the form `MAJOR:MINOR`.
fn is_device_number(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.split_once(':')
        .is_some_and(|(major, minor)| number(major) && number(minor))
}

/// Converts a list of numbers to a bit mask, least significant byte first. Returns `None` for an
/// empty or invalid list.
fn list_to_bit_mask(list: &str) -> Option<Vec<u8>> {
    let mask = ranges::list_to_mask(list.trim()).ok()?;
    let mut bits: Vec<u8> = mask.into_iter().flat_map(usize::to_le_bytes).collect();
    let end = bits.iter().rposition(|byte| *byte != 0)?;
    bits.truncate(end + 1);
    Some(bits)
}

#[cfg(test)]
mod tests;
use crate::spec::ranges;
