//! Converts linux.resources.memory: limit, reservation and swap. The specification counts memory
//! and swap together, but the kernel counts swap alone.
//! `resources` converts the other resources.

use oci_spec::runtime::LinuxMemory;

use super::{LimitsDraft, MemoryUsageCheck, bytes_or_max};
use crate::diagnosis::Code;
use crate::origin::config;

impl LimitsDraft {
    pub(super) fn plan_memory(&mut self, memory: Option<&LinuxMemory>) {
        let Some(memory) = memory else { return };
        let set = |value: Option<i64>| value.filter(|value| *value != 0);
        let (limit, swap) = (set(memory.limit()), set(memory.swap()));
        let reservation = set(memory.reservation());
        for (field, value) in [
            ("memory.limit", limit),
            ("memory.swap", swap),
            ("memory.reservation", reservation),
        ] {
            if let Some(value) = value.filter(|value| *value < -1) {
                return self.add_violation(
                    field,
                    format!("{value} is neither a size nor -1 (no limit)"),
                );
            }
        }
        self.plan_swap(limit, swap);
        if let Some(limit) = limit {
            self.add_write("memory.limit", "memory.max", bytes_or_max(limit));
        }
        if let Some(reservation) = reservation {
            self.add_write(
                "memory.reservation",
                "memory.low",
                bytes_or_max(reservation),
            );
        }
        if memory.check_before_update() == Some(true) {
            self.add_usage_check("memory.swap", "memory+swap limit", swap);
            self.add_usage_check("memory.limit", "memory limit", limit);
        }
        for (field, value) in [
            ("memory.kernel", memory.kernel()),
            ("memory.kernelTCP", memory.kernel_tcp()),
        ] {
            if value.is_some_and(|value| value > 0) {
                self.add_warning(field, "ignored: the kernel no longer has this limit");
            }
        }
        if memory.swappiness().is_some_and(|value| value != 0) {
            self.refuse_v1_only("memory.swappiness");
        }
        if memory.disable_oom_killer() == Some(true) {
            self.refuse_v1_only("memory.disableOOMKiller");
        }
    }

    /// Converts swap from the specification's value, which includes memory, to the kernel's value,
    /// which doesn't. A new memory limit without swap doesn't change the swap limit, unless the new
    /// limit is -1, which removes both limits.
    fn plan_swap(&mut self, limit: Option<i64>, swap: Option<i64>) {
        let (field, file) = ("memory.swap", "memory.swap.max");
        match (swap, limit.or(self.current.memory)) {
            (None, _) if limit == Some(-1) => {
                self.add_write(field, file, "max");
            }
            (None, _) => {}
            (Some(-1), _) => {
                self.add_write(field, file, "max");
            }
            (Some(swap), Some(-1)) => {
                self.add_write(field, file, swap.to_string());
            }
            (Some(_), None) => self.add_violation(field, "needs memory.limit, which is not set"),
            (Some(swap), Some(limit)) if swap < limit => self.add_violation_as(
                Code::SwapBelowMemory,
                field,
                format!(
                    "{swap} is memory and swap together, and less than the memory limit {limit}"
                ),
            ),
            // On a kernel without swap, this file is missing and swap needs no limit. If the memory
            // controller is missing, the write to memory.max reports it.
            (Some(swap), Some(limit)) if swap == limit => self.add_default_write(field, file, "0"),
            (Some(swap), Some(limit)) => {
                self.add_write(field, file, (swap - limit).to_string());
            }
        }
    }

    fn add_usage_check(&mut self, field: &str, what: &'static str, limit: Option<i64>) {
        if let Some(bytes) = limit.and_then(|limit| u64::try_from(limit).ok()) {
            self.limits.above_usage.push(MemoryUsageCheck {
                origin: config(format!("linux.resources.{field}")),
                what,
                bytes,
            });
        }
    }
}
