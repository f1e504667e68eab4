//! Checks the owner of a unit and the processes in its cgroup, so that nothing of others is
//! stopped, killed or removed.
//! The operations after these checks are in `systemd`.

use std::path::Path;

use super::super::dbus::{self, Value};
use super::super::{Cgroup, Hierarchy};
use super::{Error, INTERFACE, OBJECT, PROPERTIES, Systemd, names, problem};

/// The interface of scopes.
const SCOPE: &str = "org.freedesktop.systemd1.Scope";

impl Systemd<'_> {
    /// Refuses a scope whose cgroup already exists and is frozen or has processes. systemd would
    /// use this cgroup, and remove it when the scope stops.
    pub(in crate::cgroup) fn refuse_in_use(
        &mut self,
        hierarchy: &Hierarchy,
    ) -> Result<(), crate::cgroup::Error> {
        // Only systemd knows the place of its user instance below the system's cgroup.
        let root = match self.scope.user {
            true => self
                .text(OBJECT, INTERFACE, "ControlGroup")
                .map_err(|source| {
                    problem("ask for the cgroup that will hold", self.scope, source)
                })?,
            false => String::new(),
        };
        let slice = hierarchy
            .mount
            .join(root.trim_start_matches('/'))
            .join(names::path_of_slice(&self.scope.slice));
        match Cgroup::open(&slice.join(&self.scope.name))? {
            Some(cgroup) => cgroup.refuse_in_use(),
            None => Ok(()),
        }
    }

    /// True if systemd's unit of this name has this cgroup. After the container's unit is gone,
    /// another unit may have the name.
    pub(in crate::cgroup) fn owns(&mut self, cgroup: &Cgroup) -> Result<bool, Error> {
        let object = names::object(&self.scope.name);
        match self.text(&object, SCOPE, "ControlGroup") {
            Ok(path) => {
                let below = Path::new(path.trim_start_matches('/'));
                Ok(below.file_name().is_some() && cgroup.path().ends_with(below))
            }
            // There is no such unit.
            Err(dbus::Error::Refused { .. }) => Ok(false),
            Err(source) => Err(problem("ask for the cgroup of", self.scope, source)),
        }
    }

    /// Reads a text property.
    pub(super) fn text(
        &mut self,
        object: &str,
        interface: &str,
        name: &str,
    ) -> Result<String, dbus::Error> {
        let arguments = [Value::text(interface), Value::text(name)];
        let body = self
            .connection
            .call(object, PROPERTIES, "Get", &arguments)?;
        Ok(body.texts().into_iter().next().unwrap_or_default())
    }
}

impl Cgroup {
    /// Refuses the cgroup of a scope if it is frozen or has processes other than the one that the
    /// scope was made for. This can happen because systemd uses an existing cgroup of that name.
    pub(in crate::cgroup) fn refuse_others(&self, pid: i32) -> Result<(), crate::cgroup::Error> {
        if self.pids()? != [pid] {
            return Err(crate::cgroup::Error::Occupied {
                path: self.path.clone(),
                holders: self.holders(),
            });
        }
        // The process has only just entered the cgroup. Until it has stopped, cgroup.events reports
        // the cgroup as not frozen.
        if self.is_frozen()? || self.read(c"cgroup.freeze")?.trim() == "1" {
            return Err(crate::cgroup::Error::Frozen(self.path.clone()));
        }
        Ok(())
    }
}
