//! Sets new limits in a cgroup that is in use: either all of them or none.
//! `resources` plans the values. This module writes them, and restores the old ones if the kernel
//! refuses a value.

use std::os::fd::AsFd;

use super::resources::{CurrentValues, Limits, MemoryUsageCheck};
use super::{Cgroup, Error, devices_bpf};
use crate::error::failed;
use crate::sys::{Errno, bpf};

/// A file and the value that restores it.
type UndoWrite = (String, String);

impl Cgroup {
    /// Reads the current values that affect the meaning of new fields.
    pub(crate) fn read_current_values(&self) -> CurrentValues {
        let number = |file| {
            let text = self.read_file(file).unwrap_or_default();
            text.split_whitespace().next()?.parse().ok()
        };
        CurrentValues {
            memory: number(c"memory.max").and_then(|limit| i64::try_from(limit).ok()),
            quota: number(c"cpu.max"),
            idle: self.is_idle(),
        }
    }

    /// True if cpu.idle is 1; false if the kernel doesn't have this file.
    pub(super) fn is_idle(&self) -> bool {
        self.read_if_exists("cpu.idle")
            .is_ok_and(|text| text.is_some_and(|text| text.trim() == "1"))
    }

    /// Writes new limits, and new device rules if `devices` is true. If a write fails, the earlier
    /// writes are undone.
    pub(super) fn update_limits(&self, limits: &Limits, devices: bool) -> Result<(), Error> {
        self.update_limits_then(limits, || match devices {
            true => self.replace_devices(limits.devices.as_ref()),
            false => Ok(()),
        })
    }

    /// Writes new limits and then calls `more`. If a write or `more` fails, the former values are
    /// restored.
    pub(super) fn update_limits_then(
        &self,
        limits: &Limits,
        more: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.enable_controllers_for(limits)?;
        self.refuse_below_usage(&limits.above_usage)?;
        let mut undo = Vec::new();
        for limit in &limits.files {
            undo.extend(self.undo_writes(&limit.file, &limit.value));
            if let Some((file, value)) = &limit.or_else {
                undo.extend(self.undo_writes(file, value));
            }
            if let Err(error) = self.apply_limit(limit) {
                self.restore_values(&undo);
                return Err(error);
            }
        }
        more().inspect_err(|_| self.restore_values(&undo))
    }

    fn restore_values(&self, undo: &[UndoWrite]) {
        // Restore the values twice, because they can depend on each other: a burst is refused while
        // the new quota is still set.
        for _ in 0..2 {
            for (file, value) in undo.iter().rev() {
                let _ = self.write_value(file, value);
            }
        }
    }

    /// Returns the writes that restore a file after `value` was written to it, in reverse order.
    /// Returns no writes if the file doesn't exist.
    fn undo_writes(&self, file: &str, value: &str) -> Vec<UndoWrite> {
        let Ok(Some(text)) = self.read_if_exists(file) else {
            return Vec::new();
        };
        let mut ways = vec![(file.to_owned(), former_value(&text, value))];
        // The kernel refuses to empty the cpuset of a cgroup with processes. In that case the file
        // keeps the effective set, which was inherited from the cgroups above.
        if text.trim().is_empty()
            && let Ok(Some(effective)) = self.read_if_exists(&format!("{file}.effective"))
        {
            ways.push((file.to_owned(), effective.trim().to_owned()));
        }
        ways
    }

    /// Refuses limits that are not above the current usage.
    pub(super) fn refuse_below_usage(&self, limits: &[MemoryUsageCheck]) -> Result<(), Error> {
        if limits.is_empty() {
            return Ok(());
        }
        let usage = self.read_file(c"memory.current").unwrap_or_default();
        // As in runc, if the usage is unknown, only the kernel can refuse the limit.
        let Ok(usage) = usage.trim().parse() else {
            return Ok(());
        };
        match limits.iter().find(|limit| limit.bytes <= usage) {
            None => Ok(()),
            Some(limit) => Err(Error::InUse {
                origin: limit.origin.clone(),
                what: limit.what,
                limit: limit.bytes,
                usage,
            }),
        }
    }

    /// Replaces the device rules without a gap in which no rules apply. `None` allows all devices.
    pub(crate) fn replace_devices(
        &self,
        program: Option<&devices_bpf::DeviceProgram>,
    ) -> Result<(), Error> {
        self.replace_device_programs(&self.device_programs()?, program)
    }

    /// Returns the ids of the device programs that are attached to the cgroup.
    pub(crate) fn device_programs(&self) -> Result<Vec<u32>, Error> {
        let what = || format!("list the device programs of {}", self.path.display());
        let ids = bpf::attached_device_programs(self.dir_fd());
        ids.map_err(|errno| Error::Devices(failed("bpf", what)(errno)))
    }

    /// Replaces the `old` programs with a new one. Other programs stay attached.
    pub(super) fn replace_device_programs(
        &self,
        old: &[u32],
        program: Option<&devices_bpf::DeviceProgram>,
    ) -> Result<(), Error> {
        let what = || format!("replace the device program of {}", self.path.display());
        let error = |errno| Error::Devices(failed("bpf", what)(errno));
        let mut old = bpf::open_device_programs(old).map_err(error)?;
        if let Some(program) = program {
            let new = bpf::load_device_program(&program.instructions).map_err(error)?;
            // A single old program is replaced atomically. If there are several, the new program is
            // attached before the old ones are detached. In between, all programs must allow an
            // access.
            let replaced = if old.len() == 1 { old.pop() } else { None };
            let replaced = replaced.as_ref().map(AsFd::as_fd);
            bpf::attach_device_program(self.dir_fd(), &new, replaced).map_err(error)?;
        }
        for program in &old {
            match bpf::detach_device_program(self.dir_fd(), program.as_fd()) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(error(errno)),
            }
        }
        Ok(())
    }
}

/// Returns the value that restores a file. `text` is the file's content before the write of
/// `written`.
fn former_value(text: &str, written: &str) -> String {
    let key = written.split_whitespace().next().unwrap_or_default();
    if is_number_or_max(key) || key == written.trim() {
        // A weight file has one line `default N` for all devices, besides lines for single devices.
        let default = text.lines().find_map(|line| line.strip_prefix("default "));
        let line = default.or_else(|| text.lines().next()).unwrap_or_default();
        // A file may be empty (cpuset.cpus), but a write of zero bytes has no effect.
        return if line.is_empty() { "\n" } else { line }.to_owned();
    }
    let of_key = |line: &&str| line.split_whitespace().next() == Some(key);
    match text.lines().find(of_key) {
        Some(line) => line.to_owned(),
        None if written.contains('=') => {
            let fields = written.split_whitespace().skip(1);
            let names = fields.filter_map(|field| field.split_once('=').map(|(name, _)| name));
            names.fold(key.to_owned(), |line, name| line + " " + name + "=max")
        }
        None => format!("{key} default"),
    }
}

fn is_number_or_max(text: &str) -> bool {
    text == "max" || text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::former_value;

    #[test]
    fn a_file_is_restored_by_the_line_that_the_kernel_showed() {
        let table = [
            ("max\n", "4096", "max"),
            ("4096\n", "max", "4096"),
            ("max 100000\n", "5000 100000", "max 100000"),
            ("50000 100000\n", "max", "50000 100000"),
            ("\n", "0-1", "\n"),
            ("", "0-1", "\n"),
            ("0-1\n", "0", "0-1"),
            ("default 100\n", "500", "100"),
            ("default 100\n8:0 50\n", "500", "100"),
            ("default 100\n8:0 50\n", "8:0 500", "8:0 50"),
            ("default 100\n", "8:16 500", "8:16 default"),
            ("100\n", "500", "100"),
            ("", "8:0 rbps=9", "8:0 rbps=max"),
            (
                "8:0 rbps=5 wbps=max riops=max wiops=7\n8:16 rbps=1 wbps=max riops=max wiops=max\n",
                "8:0 wiops=max",
                "8:0 rbps=5 wbps=max riops=max wiops=7",
            ),
            (
                "mlx4_0 hca_handle=max hca_object=max\nmlx5_0 hca_handle=2 hca_object=3\n",
                "mlx5_0 hca_handle=9",
                "mlx5_0 hca_handle=2 hca_object=3",
            ),
            ("sev max\nsev_es max\n", "sev 4", "sev max"),
        ];
        for (text, written, back) in table {
            assert_eq!(former_value(text, written), back, "{text:?} {written:?}");
        }
    }
}
