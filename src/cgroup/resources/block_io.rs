//! linux.resources.blockIO: the weights and throttles of block devices.
//! The parent module and its other submodules plan the other resources.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

use super::LimitsDraft;

impl LimitsDraft {
    pub(super) fn plan_block_io(&mut self, io: Option<&LinuxBlockIo>) {
        let Some(io) = io else { return };
        if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
            self.plan_io_weight("blockIO.weight", "", weight);
        }
        if io.leaf_weight().is_some_and(|weight| weight != 0) {
            self.refuse_v1_only("blockIO.leafWeight");
        }
        for (index, device) in io.weight_device().iter().flatten().enumerate() {
            let field = format!("blockIO.weightDevice[{index}]");
            if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
                let number = self.check_device_number(&field, device.major(), device.minor());
                self.plan_io_weight(&format!("{field}.weight"), &format!("{number} "), weight);
            }
            if device.leaf_weight().is_some_and(|weight| weight != 0) {
                self.refuse_v1_only(&format!("{field}.leafWeight"));
            }
        }
        self.plan_throttles(
            "throttleReadBpsDevice",
            "rbps",
            io.throttle_read_bps_device(),
        );
        self.plan_throttles(
            "throttleWriteBpsDevice",
            "wbps",
            io.throttle_write_bps_device(),
        );
        self.plan_throttles(
            "throttleReadIOPSDevice",
            "riops",
            io.throttle_read_iops_device(),
        );
        self.plan_throttles(
            "throttleWriteIOPSDevice",
            "wiops",
            io.throttle_write_iops_device(),
        );
    }

    /// Plans a weight. The BFQ scheduler has its own file, with the scale of cgroup v1. Without
    /// BFQ, the weight is converted and written to io.weight, the file of the io.cost model.
    fn plan_io_weight(&mut self, field: &str, device: &str, weight: u16) {
        if !(10..=1000).contains(&weight) {
            return self.add_violation(field, format!("{weight} is not between 10 and 1000"));
        }
        if let Some(limit) = self.add_write(field, "io.bfq.weight", format!("{device}{weight}")) {
            let converted = format!("{device}{}", io_weight_of_blkio(weight));
            limit.or_else = Some(("io.weight".into(), converted));
        }
    }

    fn plan_throttles(
        &mut self,
        field: &str,
        key: &str,
        devices: &Option<Vec<LinuxThrottleDevice>>,
    ) {
        for (index, device) in devices.iter().flatten().enumerate() {
            let field = format!("blockIO.{field}[{index}]");
            let number = self.check_device_number(&field, device.major(), device.minor());
            // In cgroup v1, a rate of 0 removes the limit. cgroup v2 refuses 0 with ERANGE and
            // removes the limit for `max`.
            match device.rate() {
                0 => self.add_default_write(&field, "io.max", format!("{number} {key}=max")),
                rate => {
                    self.add_write(&field, "io.max", format!("{number} {key}={rate}"));
                }
            }
        }
    }

    fn check_device_number(&mut self, field: &str, major: i64, minor: i64) -> String {
        for (name, number) in [("major", major), ("minor", minor)] {
            if u32::try_from(number).is_err() {
                self.add_violation(
                    &format!("{field}.{name}"),
                    format!("{number} is not a device number"),
                );
            }
        }
        format!("{major}:{minor}")
    }
}

/// Converts blkio.weight (10 to 1000) linearly to io.weight (1 to 10000).
fn io_weight_of_blkio(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_weights_are_scaled() {
        assert_eq!(
            [10, 100, 500, 1000].map(io_weight_of_blkio),
            [1, 910, 4950, 10_000]
        );
    }
}
