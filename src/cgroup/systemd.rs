//! The systemd driver: a scope for a container, made, limited and taken away by asking systemd.
//! What is in the scope's cgroup is `cgroup`'s, as with the other driver.
//!
//! A scope comes into being with a process in it: so the container's init is cloned in the caller's cgroup, waits, and is moved
//! by systemd. Everything is asked of systemd within one deadline a command; it may be busy, or hang.

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

use super::dbus::{self, Body, Connection, Value};
use super::resources::cpu::DEFAULT_PERIOD;
use super::{Cgroup, Hierarchy, Limits};
use crate::error::Violation;
use properties::Facts;

/// systemd on a bus, its object, and the interface that makes and stops units.
const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// How long a command waits for systemd, all in all; runc's 30 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// A property of a unit by its name on the bus.
type Property = (String, Value);

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
    #[error("interrupted by signal {0} while systemd was waited for")]
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

/// The scope of a container: the unit that systemd makes, keeps and stops for it. A record has the name and the instance; the
/// rest is only needed to make the scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scope {
    name: String,
    /// True if it belongs to the user's instance of systemd, and not to the system's.
    user: bool,
    #[serde(skip)]
    slice: String,
    /// The name of the container for its description.
    #[serde(skip)]
    container: String,
    /// The properties that annotations ask for.
    #[serde(skip)]
    properties: Vec<Property>,
}

/// Plans the scope of a container by linux.cgroupsPath and its annotations.
pub(super) fn plan(
    cgroups_path: Option<&Path>,
    id: &str,
    annotations: Option<&HashMap<String, String>>,
) -> Result<Scope, Vec<Violation>> {
    let user = address::is_user();
    let names = names::plan(cgroups_path, id, user).map_err(|violation| vec![violation]);
    let properties = annotations::plan(annotations.into_iter().flatten());
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

/// A conversation with systemd about one scope.
pub(super) struct Systemd<'a> {
    scope: &'a Scope,
    connection: Connection,
}

impl<'a> Systemd<'a> {
    /// Connects to the instance that the scope belongs to.
    pub(super) fn connect(scope: &'a Scope) -> Result<Systemd<'a>, Error> {
        let open = || Connection::open(&address::peers(scope.user)?, NAME, PATIENCE);
        let connection = open().map_err(|source| problem("reach", scope, source))?;
        Ok(Systemd { scope, connection })
    }

    fn manage(&mut self, member: &str, arguments: &[Value]) -> Result<Body, dbus::Error> {
        self.connection.call(OBJECT, INTERFACE, member, arguments)
    }

    /// Makes the scope around a process. Answers with the limits as systemd rounds them, when the process is in it.
    pub(super) fn start(&mut self, limits: &Limits, pid: i32) -> Result<Limits, Error> {
        const START: &str = "start";
        let facts = Facts {
            version: self.version(limits)?,
            period: DEFAULT_PERIOD,
            idle: false,
            new: true,
        };
        let (mut properties, rounded) = properties::of_limits(limits, facts);
        if !self.scope.user {
            properties.extend(properties::of_devices(limits.devices.as_ref()));
        }
        let arguments = [
            Value::text(&self.scope.name),
            Value::text("replace"),
            array(unit_properties(self.scope, pid).chain(properties)),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        self.follow_job()
            .map_err(|source| problem(START, self.scope, source))?;
        let mut started = self.manage("StartTransientUnit", &arguments);
        if started.as_ref().is_err_and(|error| error.is("UnitExists")) {
            // A unit that failed stays until it is told that this was seen; then its name is free. It has no processes, and
            // one that is in any other state is not touched by this.
            self.reset_failed()
                .map_err(|source| problem(START, self.scope, source))?;
            started = self.manage("StartTransientUnit", &arguments);
        }
        let job = match started {
            Ok(job) => job,
            Err(error) if error.is("UnitExists") => {
                return Err(Error::Exists(self.scope.name.clone()));
            }
            Err(source) => {
                // If it wakes up later, nothing of ours shall be in its way. What it has refused it hasn't made.
                if !matches!(source, dbus::Error::Refused { .. }) {
                    let name = [Value::text(&self.scope.name)];
                    let _ = self
                        .connection
                        .tell(OBJECT, INTERFACE, "ResetFailedUnit", &name);
                }
                return Err(problem(START, self.scope, source));
            }
        };
        let result = self
            .await_job(&job)
            .map_err(|source| problem(START, self.scope, source))?;
        if result != "done" {
            let _ = self.reset_failed();
            return Err(Error::Job {
                what: START,
                unit: self.scope.name.clone(),
                result,
            });
        }
        Ok(rounded)
    }

    /// Sets new limits of the unit, whose cgroup this is, and with `devices` new device rules: all of them or none. The files come
    /// first, for the kernel refuses what systemd takes.
    pub(super) fn update(
        &mut self,
        cgroup: &Cgroup,
        limits: &Limits,
        devices: bool,
    ) -> Result<(), super::Error> {
        let text = cgroup.read(c"cpu.max").unwrap_or_default();
        let period = text.split_whitespace().nth(1).and_then(|n| n.parse().ok());
        let facts = Facts {
            version: self.version(limits)?,
            period: period.unwrap_or(DEFAULT_PERIOD),
            idle: cgroup.is_idle(),
            new: false,
        };
        let (mut properties, rounded) = properties::of_limits(limits, facts);
        if devices && !self.scope.user {
            properties.extend(properties::of_devices(limits.devices.as_ref()));
        }
        cgroup.update_and(&rounded, || {
            let before = if devices {
                cgroup.device_programs()?
            } else {
                Vec::new()
            };
            self.set(properties)?;
            if let Some(value) = properties::lasting_period(&rounded, facts.period) {
                self.wait_until_done()?;
                cgroup.write(c"cpu.max", &value)?;
            }
            if devices {
                // systemd has put a program of its own in the place of the one before; what is still there is ours.
                let mut ours = cgroup.device_programs()?;
                ours.retain(|id| before.contains(id));
                cgroup.replace_device_programs(&ours, limits.devices.as_ref())?;
            }
            Ok(())
        })
    }

    fn set(&mut self, properties: Vec<Property>) -> Result<(), Error> {
        if properties.is_empty() {
            return Ok(());
        }
        let arguments = [
            Value::text(&self.scope.name),
            // Until the next boot.
            Value::Bool(true),
            array(properties.into_iter()),
        ];
        self.manage("SetUnitProperties", &arguments)
            .map(drop)
            .map_err(|source| problem("set the limits of", self.scope, source))
    }

    /// Waits until systemd has written into the cgroup what it was told: it does so before it looks at the next call.
    fn wait_until_done(&mut self) -> Result<(), Error> {
        self.ask_version()
            .map(drop)
            .map_err(|source| problem("set the limits of", self.scope, source))
    }

    /// Moves a process into the unit's cgroup, or into one below it.
    pub(super) fn attach(&mut self, pid: i32, below: &str) -> Result<(), Error> {
        let pid = Value::U32(pid.unsigned_abs());
        let arguments = [
            Value::text(&self.scope.name),
            Value::text(format!("/{below}")),
            Value::Array("u".into(), vec![pid]),
        ];
        self.manage("AttachProcessesToUnit", &arguments)
            .map(drop)
            .map_err(|source| problem("add a process to", self.scope, source))
    }

    /// Stops the unit, waits until it is, and makes systemd forget it. One that is gone is fine. That it is the container's, this
    /// conversation must have shown: it has started the unit, or `owns` says so.
    pub(super) fn stop(&mut self) -> Result<(), Error> {
        const STOP: &str = "stop";
        self.follow_job()
            .map_err(|source| problem(STOP, self.scope, source))?;
        let arguments = [Value::text(&self.scope.name), Value::text("replace")];
        let job = match self.manage("StopUnit", &arguments) {
            Err(error) if error.is("NoSuchUnit") => return Ok(()),
            other => other.map_err(|source| problem(STOP, self.scope, source))?,
        };
        let result = self
            .await_job(&job)
            .map_err(|source| problem(STOP, self.scope, source))?;
        if result != "done" {
            return Err(Error::Job {
                what: STOP,
                unit: self.scope.name.clone(),
                result,
            });
        }
        self.reset_failed()
            .map_err(|source| problem(STOP, self.scope, source))
    }

    /// Makes systemd forget a unit that has failed and keeps its name. Of a unit by this name that runs, nothing changes.
    pub(super) fn forget(&mut self) -> Result<(), Error> {
        self.reset_failed()
            .map_err(|source| problem("forget", self.scope, source))
    }

    /// Makes systemd forget that the unit has failed, if it has.
    fn reset_failed(&mut self) -> Result<(), dbus::Error> {
        match self.manage("ResetFailedUnit", &[Value::text(&self.scope.name)]) {
            Ok(_) | Err(dbus::Error::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Before a job of the unit is asked for: its end is told by a signal.
    fn follow_job(&mut self) -> Result<(), dbus::Error> {
        self.connection
            .subscribe(INTERFACE, "JobRemoved", (2, &self.scope.name))
    }

    /// Waits for the end of the job that an answer names; answers with its result.
    fn await_job(&mut self, job: &Body) -> Result<String, dbus::Error> {
        let job = job.texts().into_iter().next();
        let job = job.ok_or(dbus::Error::Malformed("a job without a name"))?;
        self.connection
            .wait_signal(INTERFACE, "JobRemoved", |texts| match texts {
                [removed, _unit, result] if *removed == job => Some(result.clone()),
                _ => None,
            })
    }

    /// The version of systemd if something depends on it, else 0.
    fn version(&mut self, limits: &Limits) -> Result<u32, Error> {
        if !properties::needs_version(limits) {
            return Ok(0);
        }
        let text = self
            .ask_version()
            .map_err(|source| problem("ask the version of systemd for", self.scope, source))?;
        Ok(version(&text))
    }

    fn ask_version(&mut self) -> Result<String, dbus::Error> {
        self.text(OBJECT, INTERFACE, "Version")
    }
}

/// The cgroup that a process was moved into by its scope's start. `text` is that of its /proc/PID/cgroup: where systemd makes
/// units is its own affair.
pub(super) fn scope_cgroup(
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

/// Properties as an argument.
fn array(properties: impl Iterator<Item = Property>) -> Value {
    let pair = |(name, value)| Value::Struct(vec![Value::Text(name), Value::variant(value)]);
    Value::Array("(sv)".into(), properties.map(pair).collect())
}

/// What every scope of a container has, as in runc.
fn unit_properties(scope: &Scope, pid: i32) -> impl Iterator<Item = Property> + '_ {
    let pids = Value::Array("u".into(), vec![Value::U32(pid.unsigned_abs())]);
    let yes = || Value::Bool(true);
    [
        (
            "Description",
            Value::Text(format!("libcontainer container {}", scope.container)),
        ),
        ("Slice", Value::text(&scope.slice)),
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

/// `257.5-1~deb13`, `v245` -> 257, 245; 0 if there is no number in it.
fn version(text: &str) -> u32 {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits
        .get(..end)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

fn problem(what: &'static str, scope: &Scope, source: dbus::Error) -> Error {
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
            assert_eq!(version(text), number, "{text}");
        }
    }
}
