//! Maps the fields of config.json to two codes each: one for a value that is refused, and one for
//! an operation that fails because of the value.
//! A code that depends on the reason of the error is not in this table. `diagnosis` chooses it, or
//! the code that refuses the value.

use super::Code;

/// The codes of a field and of all fields below it. If several rows match a field, the first one
/// applies.
struct Row {
    field: &'static str,
    invalid: Code,
    failed: Code,
}

const fn row(field: &'static str, invalid: Code, failed: Code) -> Row {
    Row {
        field,
        invalid,
        failed,
    }
}

const PLACES: &[Row] = &[
    row("ociVersion", Code::InvalidVersion, Code::InvalidVersion),
    row("root", Code::InvalidRoot, Code::RootFailed),
    row("process.args", Code::InvalidArguments, Code::ExecFailed),
    row("process.env", Code::InvalidEnvironment, Code::ExecFailed),
    row("process.cwd", Code::InvalidDirectory, Code::DirectoryFailed),
    row("process.user", Code::InvalidUser, Code::ProcessFailed),
    row(
        "process.capabilities",
        Code::InvalidCapability,
        Code::ProcessFailed,
    ),
    row("process.rlimits", Code::InvalidRlimit, Code::ProcessFailed),
    row(
        "process.consoleSize",
        Code::InvalidTerminal,
        Code::TerminalFailed,
    ),
    row(
        "process.terminal",
        Code::InvalidTerminal,
        Code::TerminalFailed,
    ),
    row(
        "process.scheduler",
        Code::InvalidScheduling,
        Code::ProcessFailed,
    ),
    row(
        "process.ioPriority",
        Code::InvalidScheduling,
        Code::ProcessFailed,
    ),
    row(
        "process.execCPUAffinity",
        Code::InvalidScheduling,
        Code::ProcessFailed,
    ),
    row(
        "process.apparmorProfile",
        Code::InvalidProcess,
        Code::LabelFailed,
    ),
    row(
        "process.selinuxLabel",
        Code::InvalidProcess,
        Code::LabelFailed,
    ),
    row("process", Code::InvalidProcess, Code::ProcessFailed),
    row("mounts", Code::InvalidMount, Code::MountFailed),
    row("hooks", Code::InvalidHook, Code::HookFailed),
    row("annotations", Code::InvalidAnnotation, Code::SystemdFailed),
    row("hostname", Code::InvalidHostName, Code::NamespaceFailed),
    row("domainname", Code::InvalidHostName, Code::NamespaceFailed),
    row(
        "linux.namespaces",
        Code::InvalidNamespace,
        Code::NamespaceUnusable,
    ),
    row(
        "linux.timeOffsets",
        Code::InvalidNamespace,
        Code::NamespaceFailed,
    ),
    row(
        "linux.uidMappings",
        Code::InvalidIdMapping,
        Code::IdMapRefused,
    ),
    row(
        "linux.gidMappings",
        Code::InvalidIdMapping,
        Code::IdMapRefused,
    ),
    row(
        "linux.resources.devices",
        Code::InvalidDeviceRule,
        Code::DeviceRulesFailed,
    ),
    row("linux.resources", Code::InvalidLimit, Code::LimitRefused),
    row("linux.devices", Code::InvalidDevice, Code::DeviceFailed),
    row(
        "linux.cgroupsPath",
        Code::InvalidCgroupPath,
        Code::CgroupFailed,
    ),
    row(
        "linux.seccomp.listenerPath",
        Code::InvalidSeccomp,
        Code::SeccompAgent,
    ),
    row("linux.seccomp", Code::InvalidSeccomp, Code::SeccompFailed),
    row("linux.sysctl", Code::InvalidSysctl, Code::SysctlFailed),
    row("linux.maskedPaths", Code::InvalidPath, Code::PathFailed),
    row("linux.readonlyPaths", Code::InvalidPath, Code::PathFailed),
    row(
        "linux.rootfsPropagation",
        Code::InvalidPropagation,
        Code::RootFailed,
    ),
    row("linux.mountLabel", Code::InvalidMount, Code::LabelFailed),
    row("linux.intelRdt", Code::InvalidRdt, Code::RdtFailed),
    row(
        "linux.netDevices",
        Code::InvalidNetDevice,
        Code::NetDeviceFailed,
    ),
    row(
        "linux.memoryPolicy",
        Code::InvalidScheduling,
        Code::ProcessFailed,
    ),
    row(
        "linux.personality",
        Code::InvalidProcess,
        Code::ProcessFailed,
    ),
];

/// Finds the row of a field like `mounts[3].source`.
fn find(field: &str) -> Option<&'static Row> {
    PLACES.iter().find(|row| {
        let rest = field.strip_prefix(row.field);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', ',']))
    })
}

/// Returns the code for a value that is refused at this field.
pub(crate) fn invalid(field: &str) -> Code {
    find(field).map_or(Code::InvalidValue, |row| row.invalid)
}

/// Returns the code for an operation that fails because of this field; `None` for unknown fields.
pub(super) fn failed(field: &str) -> Option<Code> {
    find(field).map(|row| row.failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_place_that_fits_has_the_code() {
        for (field, code) in [
            ("mounts[3].source", Code::InvalidMount),
            ("process", Code::InvalidProcess),
            ("process.args[0]", Code::InvalidArguments),
            ("linux.resources.devices[1].access", Code::InvalidDeviceRule),
            ("linux.resources.memory.limit", Code::InvalidLimit),
            (
                "linux.uidMappings, linux.gidMappings",
                Code::InvalidIdMapping,
            ),
            ("rooted", Code::InvalidValue),
        ] {
            assert_eq!(invalid(field), code, "{field}");
        }
        for (at, row) in PLACES.iter().enumerate() {
            let first = PLACES.iter().position(|other| {
                let rest = row.field.strip_prefix(other.field);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            });
            assert_eq!(first, Some(at), "{} is behind a wider place", row.field);
        }
    }
}
