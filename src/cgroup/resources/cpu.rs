//! linux.resources.cpu: weight, bandwidth, idleness, and the sets of CPUs and memory nodes.
//! The parent module and its other submodules plan the other resources.

use oci_spec::runtime::LinuxCpu;

use super::{Limit, Limits, LimitsDraft};
use crate::error::Violation;
use crate::spec::ranges;

/// The kernel's default period of a quota, in microseconds.
pub(in crate::cgroup) const DEFAULT_PERIOD_US: u64 = 100_000;
const IDLE_FILE: &str = "cpu.idle";

impl Limits {
    /// Returns the limits for a cgroup that is idle. The kernel refuses a weight for an idle
    /// cgroup, so cpu.idle is set to 0 before a weight.
    pub(in crate::cgroup) fn for_idle_cgroup(&self) -> Limits {
        let mut limits = self.clone();
        clear_idleness(&mut limits.files, true);
        limits
    }
}

impl LimitsDraft {
    pub(super) fn plan_cpu(&mut self, cpu: Option<&LinuxCpu>) {
        let Some(cpu) = cpu else { return };
        match cpu.idle() {
            None => {}
            Some(0) => self.add_default_write("cpu.idle", IDLE_FILE, "0"),
            Some(1) => {
                self.add_write("cpu.idle", IDLE_FILE, "1");
            }
            Some(other) => self.add_violation("cpu.idle", format!("{other} is neither 0 nor 1")),
        }
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
            match weight_of_shares(shares) {
                // containerd writes the shares of this weight if the user requests none.
                DEFAULT_CPU_WEIGHT => self.add_default_write("cpu.shares", "cpu.weight", "100"),
                weight => {
                    self.add_write("cpu.shares", "cpu.weight", weight.to_string());
                }
            }
        }
        self.plan_bandwidth(cpu);
        if cpu.realtime_runtime().is_some_and(|value| value != 0) {
            self.refuse_v1_only("cpu.realtimeRuntime");
        }
        if cpu.realtime_period().is_some_and(|value| value != 0) {
            self.refuse_v1_only("cpu.realtimePeriod");
        }
        for (field, file, list) in [
            ("cpu.cpus", "cpuset.cpus", cpu.cpus()),
            ("cpu.mems", "cpuset.mems", cpu.mems()),
        ] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                if ranges::is_number_list(list) {
                    self.add_write(field, file, list);
                } else {
                    self.add_violation(
                        field,
                        format!("{list:?} is not a list of numbers and ranges like 0-3,7"),
                    );
                }
            }
        }
    }

    fn plan_bandwidth(&mut self, cpu: &LinuxCpu) {
        let quota = cpu.quota().filter(|quota| *quota != 0);
        let period = cpu.period().filter(|period| *period != 0);
        // A negative quota means "no limit", as in runc and crun.
        if let Some(quota) = quota.filter(|quota| (0..1000).contains(quota)) {
            return self.add_violation(
                "cpu.quota",
                format!("{quota} is neither negative nor at least 1000 us"),
            );
        }
        if let Some(period) = period.filter(|period| !(1000..=1_000_000).contains(period)) {
            return self.add_violation(
                "cpu.period",
                format!("{period} is not between 1000 and 1000000 us"),
            );
        }
        let burst = cpu.burst();
        let allowed = quota.and_then(|quota| u64::try_from(quota).ok());
        if let (Some(burst), Some(quota)) = (burst, allowed)
            && burst > quota
        {
            return self.add_violation(
                "cpu.burst",
                format!("{burst} is more than cpu.quota {quota}"),
            );
        }
        let write_burst = |draft: &mut LimitsDraft, again_later| {
            let Some(burst) = burst else { return };
            if let Some(limit) = draft.add_write("cpu.burst", "cpu.max.burst", burst.to_string()) {
                limit.no_limit = burst == 0;
                limit.again_later = again_later;
            }
        };
        // The kernel refuses a quota below the current burst, and a burst above the current quota.
        // So write the burst before the quota, where EINVAL is ignored, and again after it.
        let both = quota.is_some() || period.is_some();
        if both {
            write_burst(self, true);
            self.plan_quota(cpu, quota, period);
        }
        write_burst(self, false);
    }

    /// Plans cpu.max. At least one of quota and period must be set.
    fn plan_quota(&mut self, cpu: &LinuxCpu, quota: Option<i64>, period: Option<u64>) {
        // A period alone keeps the current quota, but the kernel accepts a period only together
        // with a quota.
        let (field, allowed) = match quota {
            Some(quota) => ("cpu.quota", u64::try_from(quota).ok()),
            None => ("cpu.period", self.current.quota),
        };
        let quota_text = allowed.map_or("max".into(), |quota| quota.to_string());
        // Without a period, the kernel keeps the current period.
        let value = match period {
            Some(period) => format!("{quota_text} {period}"),
            None => quota_text,
        };
        // The kubelet sends the default period even without a quota, so that period alone requests
        // nothing. Any other period without a quota is meant for a quota that is set later.
        let asks = allowed.is_some()
            || cpu.quota().is_none() && period.is_some_and(|period| period != DEFAULT_PERIOD_US);
        if asks {
            self.add_write(field, "cpu.max", value);
        } else {
            self.add_default_write(field, "cpu.max", value);
        }
    }

    /// Adjusts weight and idleness to values that the kernel accepts, whichever fields they come
    /// from. The result has either a weight or idleness, or it clears cpu.idle and then sets a
    /// weight. As in runc with systemd, a weight clears the cgroup's idleness.
    pub(super) fn resolve_weight_and_idleness(&mut self) {
        let files = &mut self.limits.files;
        let idle = files.iter().rfind(|limit| limit.file == IDLE_FILE);
        if idle.is_none_or(|limit| limit.value.trim() != "1") {
            return clear_idleness(files, self.current.idle);
        }
        // A weight with `no_limit` only restores the kernel's default weight, which an idle cgroup
        // doesn't use.
        files.retain(|limit| !(sets_weight(limit) && limit.no_limit));
        if let Some(weight) = files.iter().find(|limit| sets_weight(limit)) {
            self.violations.push(Violation::at(
                weight.origin.clone(),
                "unable to apply both cpu.weight and cpu.idle: an idle cgroup has the least weight of all",
            ));
        }
    }
}

fn sets_weight(limit: &Limit) -> bool {
    matches!(&*limit.file, "cpu.weight" | "cpu.weight.nice")
}

/// Moves the last write of cpu.idle before the first weight. If cpu.idle is not written and the
/// cgroup `is_idle`, adds a write that clears cpu.idle before a weight.
fn clear_idleness(files: &mut Vec<Limit>, is_idle: bool) {
    let asked = files.iter().rfind(|limit| limit.file == IDLE_FILE).cloned();
    let weight = files.iter().find(|limit| sets_weight(limit));
    let end = weight.filter(|_| is_idle).map(|weight| Limit {
        file: IDLE_FILE.into(),
        value: "0".into(),
        or_else: None,
        no_limit: true,
        again_later: false,
        ..weight.clone()
    });
    let Some(idle) = asked.or(end) else {
        return;
    };
    files.retain(|limit| limit.file != IDLE_FILE);
    let at = files.iter().position(sets_weight).unwrap_or(files.len());
    files.insert(at, idle);
}

/// The cpu.weight of a new cgroup.
const DEFAULT_CPU_WEIGHT: u64 = 100;

/// Converts cpu.shares (v1: 2 to 262144, default 1024) to cpu.weight (1 to 10000, default 100). The
/// exponent is a quadratic function of log2(shares) through these three points, as in runc 1.4 and
/// crun 1.23.
fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    #[allow(clippy::cast_precision_loss)] // `shares` is below 2^18.
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The power is 1 to 10000.
    let weight = 10_f64.powf(exponent).ceil() as u64;
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_by_the_quadratic_of_their_logarithm() {
        let table = [
            (1, 1),
            (2, 1),
            (3, 2),
            (102, 17),
            (256, 35),
            (512, 59),
            (1000, 99),
            (1024, 100),
            (1025, 101),
            (2048, 174),
            (4096, 303),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ];
        for (shares, weight) in table {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }
}
