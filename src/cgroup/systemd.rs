//! The systemd driver: asks systemd to make, limit and stop the scope of a container.
//! `cgroup` handles the cgroup of the scope, as with the cgroupfs driver.
//!
//! systemd can make a scope only around an existing process. So the container's init is cloned into
//! the caller's cgroup and waits until systemd has moved it into the scope. systemd may be busy or
//! hang, so one deadline covers all requests of a command to systemd.

mod address;
mod annotations;
mod gvariant;
mod names;
mod ownership;
mod properties;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dbus::{self, Connection, MessageBody, Value};
use super::resources::cpu::DEFAULT_PERIOD_US;
use super::{Cgroup, Hierarchy, Limits};
use crate::error::Violation;
use properties::UnitFacts;

/// systemd's name on a bus, its object, and the interface that makes and stops units.
const SYSTEMD_BUS_NAME: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES_INTERFACE: &str = "org.freedesktop.DBus.Properties";
/// Operations on a unit, for messages.
const START_VERB: &str = "start";
const STOP_VERB: &str = "stop";
/// The total time that one command waits for systemd: 30 s, as in runc.
const SYSTEMD_TIMEOUT: Duration = Duration::from_secs(30);

/// A property of a unit: its name on the bus and its value.
type UnitProperty = (String, Value);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("systemd did not answer within {} s: {what} unit {unit}", .patience.as_secs())]
    Silent {
        what: &'static str,
        unit: String,
        patience: Duration,
    },
    #[error("{what} systemd unit {unit}: {source}; is systemd running here?")]
    Unreachable {
        what: &'static str,
        unit: String,
        source: dbus::Error,
    },
    #[error("{what} systemd unit {unit}: {source}")]
    Failed {
        what: &'static str,
        unit: String,
        source: dbus::Error,
    },
    #[error("interrupted by signal {0} while waiting for systemd")]
    Interrupted(i32),
    #[error(
        "systemd unit {0} exists already: another container has the same linux.cgroupsPath, or one that ended was not deleted"
    )]
    Exists(String),
    #[error("{what} systemd unit {unit}: its job ended as {result:?}")]
    Job {
        what: &'static str,
        unit: String,
        result: String,
    },
}

/// The scope of a container: the unit that systemd makes for it. A record stores only the name and
/// the instance of systemd. The other fields are needed only to make the scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scope {
    name: String,
    /// True if the scope belongs to the user's instance of systemd; false if it belongs to the
    /// system's instance.
    user: bool,
    #[serde(skip)]
    slice: String,
    /// The name of the container, for the description of the scope.
    #[serde(skip)]
    container: String,
    /// The properties that the annotations set.
    #[serde(skip)]
    properties: Vec<UnitProperty>,
}

pub(crate) use annotations::property_names;

/// Plans the scope of a container from linux.cgroupsPath and the annotations.
pub(super) fn plan_scope(
    cgroups_path: Option<&Path>,
    id: &str,
    annotations: Option<&HashMap<String, String>>,
) -> Result<Scope, Vec<Violation>> {
    let user = address::uses_user_instance();
    let names = names::plan_names(cgroups_path, id, user).map_err(|violation| vec![violation]);
    let properties = annotations::plan_properties(annotations.into_iter().flatten());
    match (names, properties) {
        (Ok(names), Ok(properties)) => Ok(Scope {
            name: names.unit,
            user,
            slice: names.slice,
            container: names.container,
            properties,
        }),
        (Err(mut violations), Err(more)) => {
            violations.extend(more);
            Err(violations)
        }
        (Err(violations), _) | (_, Err(violations)) => Err(violations),
    }
}

/// Asks systemd for its version: the user's instance if `user` is true, otherwise the system's.
/// Waits for the answer up to `patience`.
pub(crate) fn reach(user: bool, patience: Duration) -> Result<String, dbus::Error> {
    let scope = Scope {
        name: String::new(),
        user,
        slice: String::new(),
        container: String::new(),
        properties: Vec::new(),
    };
    let connection = Connection::open(&address::peer_addresses(user)?, SYSTEMD_BUS_NAME, patience)?;
    let mut systemd = SystemdClient {
        scope: &scope,
        connection,
    };
    systemd.ask_version()
}

/// A connection to systemd for requests about one scope.
pub(super) struct SystemdClient<'a> {
    scope: &'a Scope,
    connection: Connection,
}

impl<'a> SystemdClient<'a> {
    /// Connects to the instance that the scope belongs to.
    pub(super) fn connect(scope: &'a Scope) -> Result<SystemdClient<'a>, Error> {
        let open = || {
            Connection::open(
                &address::peer_addresses(scope.user)?,
                SYSTEMD_BUS_NAME,
                SYSTEMD_TIMEOUT,
            )
        };
        let connection = open().map_err(|source| call_error("reach", scope, source))?;
        Ok(SystemdClient { scope, connection })
    }

    fn call_manager(
        &mut self,
        member: &str,
        arguments: &[Value],
    ) -> Result<MessageBody, dbus::Error> {
        self.connection
            .call(MANAGER_PATH, MANAGER_INTERFACE, member, arguments)
    }

    /// Makes the scope around a process, and returns when the process is in the scope. Returns the
    /// limits as systemd rounds them.
    pub(super) fn start_scope(&mut self, limits: &Limits, pid: i32) -> Result<Limits, Error> {
        let facts = UnitFacts {
            version: self.version_if_needed(limits)?,
            period: DEFAULT_PERIOD_US,
            idle: false,
            new: true,
        };
        let (mut properties, rounded) = properties::limits_to_properties(limits, facts);
        if !self.scope.user {
            properties.extend(properties::devices_to_properties(limits.devices.as_ref()));
        }
        let arguments = [
            Value::from_text(&self.scope.name),
            Value::from_text("replace"),
            property_array(scope_properties(self.scope, pid).chain(properties)),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        let job =
            self.start_unit(&arguments)
                .map_err(|source| match source.is_named("UnitExists") {
                    true => Error::Exists(self.scope.name.clone()),
                    false => call_error(START_VERB, self.scope, source),
                })?;
        let done = self.expect_job_done(START_VERB, &job);
        if let Err(Error::Job { .. }) = done {
            let _ = self.reset_failed();
        }
        done.map(|()| rounded)
    }

    /// Asks systemd to start the unit. The reply names the job.
    fn start_unit(&mut self, arguments: &[Value]) -> Result<MessageBody, dbus::Error> {
        self.subscribe_to_job()?;
        let mut started = self.call_manager("StartTransientUnit", arguments);
        if started
            .as_ref()
            .is_err_and(|error| error.is_named("UnitExists"))
        {
            // A failed unit keeps its name until it is reset. The reset can't harm a container,
            // because a failed unit has no processes, and a unit in any other state isn't changed.
            self.reset_failed()?;
            started = self.call_manager("StartTransientUnit", arguments);
        }
        started.inspect_err(|error| {
            // Unless systemd refused the call, it may still carry out the call later. If the unit
            // then fails, it must not keep its name.
            if !matches!(error, dbus::Error::Refused { .. }) {
                let name = [Value::from_text(&self.scope.name)];
                let _ = self.connection.call_without_reply(
                    MANAGER_PATH,
                    MANAGER_INTERFACE,
                    "ResetFailedUnit",
                    &name,
                );
            }
        })
    }

    /// Sets new limits for the unit with this cgroup, and new device rules if `devices` is true.
    /// Either all of them are set or none. The cgroup's files are written first, because the kernel
    /// refuses some values that systemd accepts.
    pub(super) fn update_limits(
        &mut self,
        cgroup: &Cgroup,
        limits: &Limits,
        devices: bool,
    ) -> Result<(), super::Error> {
        let text = cgroup.read_file(c"cpu.max").unwrap_or_default();
        let period = text.split_whitespace().nth(1).and_then(|n| n.parse().ok());
        let facts = UnitFacts {
            version: self.version_if_needed(limits)?,
            period: period.unwrap_or(DEFAULT_PERIOD_US),
            idle: cgroup.is_idle(),
            new: false,
        };
        let (mut properties, rounded) = properties::limits_to_properties(limits, facts);
        if devices && !self.scope.user {
            properties.extend(properties::devices_to_properties(limits.devices.as_ref()));
        }
        cgroup.update_limits_then(&rounded, || {
            let before = if devices {
                cgroup.device_programs()?
            } else {
                Vec::new()
            };
            self.set_properties(properties)?;
            if let Some(value) = properties::cpu_max_to_restore(&rounded, facts.period) {
                self.wait_until_applied()?;
                cgroup.write_file(c"cpu.max", &value)?;
            }
            if devices {
                // By now systemd has replaced its own device program. The programs that were
                // attached before and still are belong to this runtime.
                let mut ours = cgroup.device_programs()?;
                ours.retain(|id| before.contains(id));
                cgroup.replace_device_programs(&ours, limits.devices.as_ref())?;
            }
            Ok(())
        })
    }

    fn set_properties(&mut self, properties: Vec<UnitProperty>) -> Result<(), Error> {
        if properties.is_empty() {
            return Ok(());
        }
        let arguments = [
            Value::from_text(&self.scope.name),
            // Keep the properties only until the next boot.
            Value::Bool(true),
            property_array(properties.into_iter()),
        ];
        self.call_manager("SetUnitProperties", &arguments)
            .map(drop)
            .map_err(|source| call_error("set the limits of", self.scope, source))
    }

    /// Waits until systemd has written to the cgroup. systemd finishes the write before it reads
    /// the next call, so the reply to any call is enough.
    fn wait_until_applied(&mut self) -> Result<(), Error> {
        self.ask_version()
            .map(drop)
            .map_err(|source| call_error("set the limits of", self.scope, source))
    }

    /// Moves a process into the unit's cgroup, or into the nested cgroup at `below`.
    pub(super) fn attach_process(&mut self, pid: i32, below: &str) -> Result<(), Error> {
        let pid = Value::U32(pid.unsigned_abs());
        let arguments = [
            Value::from_text(&self.scope.name),
            Value::from_text(format!("/{below}")),
            Value::Array("u".into(), vec![pid]),
        ];
        self.call_manager("AttachProcessesToUnit", &arguments)
            .map(drop)
            .map_err(|source| call_error("add a process to", self.scope, source))
    }

    /// Stops the unit, waits until it has stopped, and makes systemd forget it. A unit that no
    /// longer exists is not an error. The caller must know that the unit belongs to the container:
    /// either this connection started it, or `owns_cgroup` returned true.
    pub(super) fn stop_unit(&mut self) -> Result<(), Error> {
        self.subscribe_to_job()
            .map_err(|source| call_error(STOP_VERB, self.scope, source))?;
        let arguments = [
            Value::from_text(&self.scope.name),
            Value::from_text("replace"),
        ];
        let job = match self.call_manager("StopUnit", &arguments) {
            Err(error) if error.is_named("NoSuchUnit") => return Ok(()),
            other => other.map_err(|source| call_error(STOP_VERB, self.scope, source))?,
        };
        self.expect_job_done(STOP_VERB, &job)?;
        self.reset_failed()
            .map_err(|source| call_error(STOP_VERB, self.scope, source))
    }

    /// Makes systemd forget a failed unit, which frees its name. This changes nothing for a running
    /// unit.
    pub(super) fn forget_unit(&mut self) -> Result<(), Error> {
        self.reset_failed()
            .map_err(|source| call_error("forget", self.scope, source))
    }

    /// Clears the failed state of the unit, if it has failed.
    fn reset_failed(&mut self) -> Result<(), dbus::Error> {
        match self.call_manager("ResetFailedUnit", &[Value::from_text(&self.scope.name)]) {
            Ok(_) | Err(dbus::Error::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Subscribes to the signal that reports the end of a job. Must be called before the job is
    /// requested.
    fn subscribe_to_job(&mut self) -> Result<(), dbus::Error> {
        self.connection
            .subscribe(MANAGER_INTERFACE, "JobRemoved", (2, &self.scope.name))
    }

    /// Waits for the end of a job. Returns an error if the job didn't succeed.
    fn expect_job_done(&mut self, what: &'static str, job: &MessageBody) -> Result<(), Error> {
        let result = self.await_job(job);
        let result = result.map_err(|source| call_error(what, self.scope, source))?;
        if result == "done" {
            return Ok(());
        }
        Err(Error::Job {
            what,
            unit: self.scope.name.clone(),
            result,
        })
    }

    /// Waits for the end of the job that the reply `job` names. Returns the result of the job.
    fn await_job(&mut self, job: &MessageBody) -> Result<String, dbus::Error> {
        let job = job.leading_texts().into_iter().next();
        let job = job.ok_or(dbus::Error::Malformed("a job without a name"))?;
        self.connection
            .wait_for_signal(MANAGER_INTERFACE, "JobRemoved", |texts| match texts {
                [removed, _unit, result] if *removed == job => Some(result.clone()),
                _ => None,
            })
    }

    /// Returns the version of systemd, or 0 if no limit depends on it.
    fn version_if_needed(&mut self, limits: &Limits) -> Result<u32, Error> {
        if !properties::needs_version(limits) {
            return Ok(0);
        }
        let text = self
            .ask_version()
            .map_err(|source| call_error("ask the version of systemd for", self.scope, source))?;
        Ok(parse_version(&text))
    }

    fn ask_version(&mut self) -> Result<String, dbus::Error> {
        self.read_text_property(MANAGER_PATH, MANAGER_INTERFACE, "Version")
    }
}

/// Opens the cgroup that systemd moved a process into. `text` is the process's /proc/PID/cgroup.
/// The path comes from this file, because only systemd knows where it puts its units.
pub(super) fn open_scope_cgroup(
    hierarchy: &Hierarchy,
    text: &str,
    pid: i32,
    scope: &Scope,
) -> Result<Cgroup, super::Error> {
    let found = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let found = found.unwrap_or_default();
    let elsewhere = || super::Error::Elsewhere {
        pid,
        found: format!("/{found}"),
        unit: scope.name.clone(),
    };
    let below = Path::new(found);
    if below.file_name() != Some(scope.name.as_ref()) {
        return Err(elsewhere());
    }
    Cgroup::open(&hierarchy.mount.join(below))?.ok_or_else(elsewhere)
}

/// Makes a call argument from properties.
fn property_array(properties: impl Iterator<Item = UnitProperty>) -> Value {
    let pair =
        |(name, value)| Value::Struct(vec![Value::Text(name), Value::wrap_in_variant(value)]);
    Value::Array("(sv)".into(), properties.map(pair).collect())
}

/// Returns the properties of every scope, as in runc.
fn scope_properties(scope: &Scope, pid: i32) -> impl Iterator<Item = UnitProperty> + '_ {
    let pids = Value::Array("u".into(), vec![Value::U32(pid.unsigned_abs())]);
    let yes = || Value::Bool(true);
    [
        (
            "Description",
            Value::Text(format!("libcontainer container {}", scope.container)),
        ),
        ("Slice", Value::from_text(&scope.slice)),
        ("Delegate", yes()),
        ("PIDs", pids),
        ("MemoryAccounting", yes()),
        ("CPUAccounting", yes()),
        ("IOAccounting", yes()),
        ("TasksAccounting", yes()),
        ("DefaultDependencies", Value::Bool(false)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .chain(scope.properties.iter().cloned())
}

/// Returns the number in `257.5-1~deb13` (257) or `v245` (245), or 0 if there is none.
fn parse_version(text: &str) -> u32 {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits
        .get(..end)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

fn call_error(what: &'static str, scope: &Scope, source: dbus::Error) -> Error {
    let unit = scope.name.clone();
    match source {
        dbus::Error::Timeout(patience) => Error::Silent {
            what,
            unit,
            patience,
        },
        dbus::Error::Interrupted(signal) => Error::Interrupted(signal),
        dbus::Error::Connect(_) => Error::Unreachable { what, unit, source },
        source => Error::Failed { what, unit, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_first_number() {
        for (text, number) in [
            ("257.5-1~deb13", 257),
            ("v245.4", 245),
            ("252", 252),
            ("", 0),
        ] {
            assert_eq!(parse_version(text), number, "{text}");
        }
    }
}
