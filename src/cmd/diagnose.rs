//! Diagnoses every error that can end a command: code, phase, JSON pointer, errno and hint.
//! The table of codes is in `diagnosis`, and the texts are in the error types.

use super::Error;
use crate::cgroup::{self, systemd};
use crate::criu;
use crate::diagnosis::{Code, Diagnosis, Phase};
use crate::error::Failed;
use crate::hooks;
use crate::intel_rdt as rdt;
use crate::launch::{self, descriptors, terminal};
use crate::net_devices;
use crate::origin::{self, Origin, config};
use crate::plan::host;
use crate::spec;
use crate::state;

impl Error {
    /// Returns the information that callers get besides the error's text.
    pub(crate) fn diagnose(&self) -> Diagnosis {
        let code = match self {
            Error::Seal(_) => Code::NotProtected,
            Error::Spec(error) => return diagnose_spec(error),
            Error::Host(error) => return diagnose_host(error),
            Error::State(error) => return diagnose_state(error),
            Error::Launch(error) => return diagnose_launch(error),
            Error::Terminal(terminal::Error::Call(failed)) => {
                return Diagnosis::of_failed(failed, Phase::Terminal);
            }
            Error::Console(_) => Code::ConsoleSocket,
            Error::Descriptors(error) => return diagnose_descriptors(error),
            Error::Hook(error) => return diagnose_hook(error),
            Error::Cgroup(error) => return diagnose_cgroup(error),
            Error::SpecCommand(super::spec::Error::Exists(_)) => Code::FileExists,
            Error::SpecCommand(super::spec::Error::Failed(failed)) | Error::Failed(failed) => {
                return Diagnosis::of_failed(failed, Phase::Run);
            }
            Error::NotRunning | Error::IdNotRunning(_) => Code::NotRunning,
            Error::NoCgroup => Code::NoCgroup,
            Error::NoRdt => Code::RdtFailed,
            Error::NotPaused => Code::NotPaused,
            Error::NotStopped(..) => Code::NotStopped,
            Error::ExecPaused => Code::Paused,
            Error::UpdateCreating
            | Error::StartStopped
            | Error::StartRunning
            | Error::StartOther(_)
            | Error::ExecStopped
            | Error::ExecCreating
            | Error::CheckpointOther(_)
            | Error::MountsOther(_)
            | Error::PauseOther(_) => Code::WrongState,
            Error::CheckpointAdded => Code::NoCheckpoint,
            Error::NoOwnMounts => Code::NoOwnMounts,
            Error::BadFlag(_) => Code::Usage,
            Error::NoRoot(_) => Code::NoStateRoot,
            Error::NoRecord => Code::NoRecord,
            Error::Several(_) => Code::SeveralFailed,
            Error::Ps(_) => Code::PsFailed,
        };
        Diagnosis::new(code)
    }
}

/// Diagnoses an error of config.json. If there are several violations, the first one counts.
fn diagnose_spec(error: &spec::Error) -> Diagnosis {
    match error {
        spec::Error::Open { errno, .. } => Diagnosis::new(Code::ConfigMissing).with_errno(*errno),
        spec::Error::Read { errno, .. } => {
            Diagnosis::new(Code::ConfigUnreadable).with_errno(*errno)
        }
        spec::Error::NotRegular { .. } | spec::Error::TooLarge { .. } => {
            Diagnosis::new(Code::ConfigUnreadable)
        }
        spec::Error::Syntax { .. } => Diagnosis::new(Code::ConfigSyntax),
        spec::Error::Violations(all) => match all.first() {
            Some(first) => Diagnosis::of_violation(first),
            None => Diagnosis::new(Code::InvalidValue),
        },
    }
}

fn diagnose_host(error: &host::Error) -> Diagnosis {
    match error {
        host::Error::Kernel(_) => Diagnosis::new(Code::KernelTooOld),
        host::Error::Failed(failed) => Diagnosis::of_failed(failed, Phase::Host),
        host::Error::NotProcfs => Diagnosis::new(Code::NoProcfs),
        host::Error::Cgroup(error) => diagnose_cgroup(error),
    }
}

fn diagnose_state(error: &state::Error) -> Diagnosis {
    let code = match error {
        state::Error::Absent => Code::ContainerAbsent,
        state::Error::Exists => Code::ContainerExists,
        state::Error::Busy => Code::ContainerBusy,
        state::Error::Corrupt { .. } => Code::RecordCorrupt,
        state::Error::Foreign(_) => Code::RecordForeign,
        state::Error::Untrusted(_) | state::Error::UntrustedContainer(_) => Code::StateUntrusted,
        state::Error::Failed(failed) => return Diagnosis::of_failed(failed, Phase::State),
        state::Error::Host(error) => return diagnose_host(error),
        state::Error::Cgroup(error) => return diagnose_cgroup(error),
    };
    Diagnosis::new(code)
}

fn diagnose_launch(error: &launch::Error) -> Diagnosis {
    use launch::Error;
    let code = match error {
        Error::Failed(failed) => return diagnose_parents_failure(failed),
        Error::Cgroup(error) => return diagnose_cgroup(error),
        Error::State(error) => return diagnose_state(error),
        Error::Terminal(terminal::Error::Call(failed)) => {
            return Diagnosis::of_failed(failed, Phase::Terminal);
        }
        Error::Hook(error) => return diagnose_hook(error),
        Error::NetDevice(error) => return diagnose_net_device(error),
        Error::Rdt(error) => return diagnose_rdt(error),
        Error::Criu(error) => return diagnose_criu(error),
        Error::NoCheckpoint(_, origin) => return placed(Code::NoCheckpoint, origin),
        Error::NotRoot => Code::NotPermitted,
        Error::Unusable(_, origin, _) => return diagnose_unusable(origin),
        Error::Init(failed) | Error::Exec(failed) => return diagnose_childs_failure(failed),
        Error::Gone => Code::InitDied,
        Error::Died(_, reason) if reason.is_empty() => Code::InitDied,
        Error::Died(..) => Code::SeccompKills,
        Error::Limit(error, limit) => return diagnose_limit(error, limit),
        Error::IdMapTool { origin, .. } => return placed(Code::IdMapToolMissing, origin),
        Error::NoMounts(_) => Code::ProcessFailed,
        Error::Frozen(_) => Code::CgroupFrozen,
        Error::Closed => Code::NotReachable,
        Error::NotRunning => Code::NotRunning,
        Error::Undying(..) => Code::Undying,
        Error::NoStartSocket => Code::NoStartSocket,
        Error::Interrupted(_) => Code::Interrupted,
    };
    Diagnosis::new(code)
}

/// Diagnoses a failure that was caused by a limit that is too low. `limit` names the limit.
fn diagnose_limit(error: &launch::Error, limit: &str) -> Diagnosis {
    let of_error = diagnose_launch(error);
    let place = origin::field_in(limit).map(|field| config(field.to_owned()));
    Diagnosis {
        phase: of_error.phase,
        errno: of_error.errno,
        pointer: place.and_then(|place| place.pointer()).or(of_error.pointer),
        ..Diagnosis::new(Code::LimitTooLow)
    }
}

fn placed(code: Code, origin: &Origin) -> Diagnosis {
    Diagnosis::new(code).at(origin)
}

/// Diagnoses an object of the host that config.json names but that can't be used.
fn diagnose_unusable(origin: &Origin) -> Diagnosis {
    let code = match origin.config_field() {
        Some(field) if field.starts_with("root") => Code::RootFailed,
        Some(field) if field.starts_with("process") => Code::ProcessFailed,
        _ => Code::NamespaceUnusable,
    };
    placed(code, origin)
}

/// Diagnoses a failure of the parent.
fn diagnose_parents_failure(failed: &Failed) -> Diagnosis {
    let phase = match &*failed.call {
        "clone" | "clone3" | "unshare" => Phase::Clone,
        "setns" | "ioctl" => Phase::Namespaces,
        "open_tree" | "move_mount" | "mount_setattr" | "fsopen" | "fsconfig" | "fsmount" => {
            Phase::Mount
        }
        _ => Phase::Process,
    };
    Diagnosis::of_failed(failed, phase)
}

/// Diagnoses a failure that a child has reported. A hook may have failed in the child.
fn diagnose_childs_failure(failed: &Failed) -> Diagnosis {
    let mut found = diagnose_parents_failure(failed);
    if let Some(origin) = hooks::origin_in(&failed.what) {
        found.phase = Phase::Hooks;
        found.errno = None;
        found = found.at(&origin);
    } else if found.phase == Phase::Exec {
        found.pointer = Some("/process/args/0".into());
    }
    found
}

fn diagnose_hook(error: &hooks::Error) -> Diagnosis {
    Diagnosis {
        phase: Phase::Hooks,
        ..placed(error.code(), &error.origin())
    }
}

fn diagnose_descriptors(error: &descriptors::Error) -> Diagnosis {
    match error {
        descriptors::Error::ListenFds(_) | descriptors::Error::Missing(..) => {
            Diagnosis::new(Code::DescriptorMissing)
        }
        descriptors::Error::Failed(failed) => Diagnosis::of_failed(failed, Phase::Process),
    }
}

fn diagnose_net_device(error: &net_devices::Error) -> Diagnosis {
    match error {
        net_devices::Error::Failed(failed) => Diagnosis::of_failed(failed, Phase::Network),
        net_devices::Error::Absent(_) | net_devices::Error::Exists(..) => {
            Diagnosis::new(Code::NetDeviceFailed)
        }
    }
}

fn diagnose_rdt(error: &rdt::Error) -> Diagnosis {
    match error {
        rdt::Error::Failed(failed) | rdt::Error::Refused(failed, _) => Diagnosis {
            code: Code::RdtFailed,
            ..Diagnosis::of_failed(failed, Phase::Process)
        },
        rdt::Error::Absent(_) | rdt::Error::Differs(..) | rdt::Error::Shared(_) => {
            Diagnosis::new(Code::RdtFailed)
        }
    }
}

fn diagnose_cgroup(error: &cgroup::Error) -> Diagnosis {
    use cgroup::Error;
    let code = match error {
        Error::NoHierarchy(_) | Error::NotCgroup(_) => Code::NoCgroup2,
        Error::Occupied { .. } => Code::CgroupOccupied,
        Error::Frozen(_) => Code::CgroupFrozen,
        Error::Unavailable { origin, .. } => return placed(Code::ControllerMissing, origin),
        Error::NoFile { origin, .. } => return placed(Code::CgroupFileMissing, origin),
        Error::Limit { origin, failed } => {
            let mut found = Diagnosis::of_failed(failed, Phase::Cgroup);
            if !error.is_denied() {
                found = Diagnosis::new(Code::LimitRefused).with_errno(failed.errno);
            }
            return found.at(origin);
        }
        Error::InUse { origin, .. } => return placed(Code::LimitInUse, origin),
        Error::Devices(failed) => {
            return Diagnosis {
                pointer: Some("/linux/resources/devices".into()),
                ..Diagnosis::new(Code::DeviceRulesFailed).with_errno(failed.errno)
            };
        }
        Error::Freezer { .. } | Error::FreezerUndone { .. } => Code::CgroupTimeout,
        Error::Elsewhere { .. } => Code::SystemdFailed,
        Error::Systemd(error) => return Diagnosis::new(of_systemd(error)),
        Error::Busy { .. } => Code::CgroupBusy,
        Error::Call(failed) => return Diagnosis::of_failed(failed, Phase::Cgroup),
    };
    Diagnosis::new(code)
}

fn of_systemd(error: &systemd::Error) -> Code {
    match error {
        systemd::Error::Silent { .. } => Code::SystemdSilent,
        systemd::Error::Unreachable { .. } => Code::SystemdUnreachable,
        systemd::Error::Failed { .. } | systemd::Error::Job { .. } => Code::SystemdFailed,
        systemd::Error::Interrupted(_) => Code::Interrupted,
        systemd::Error::Exists(_) => Code::SystemdUnitExists,
    }
}

fn diagnose_criu(error: &criu::Error) -> Diagnosis {
    use criu::Error;
    let code = match error {
        Error::Absent(_) | Error::TooOld(..) | Error::Unsupported(..) => Code::CriuMissing,
        Error::Unprepared(_)
        | Error::Died(_)
        | Error::Silent
        | Error::Unreadable(_)
        | Error::Failed(..) => Code::CriuFailed,
        Error::Interrupted(_) => Code::Interrupted,
        Error::Call(failed) => return Diagnosis::of_failed(failed, Phase::Checkpoint),
    };
    Diagnosis::new(code)
}
