//! Whose a unit is, and what lies where its cgroup will be: nothing of another's is stopped, killed or removed.
//! Not what is done with it then.

use std::path::Path;

use super::super::dbus::{self, Value};
use super::super::{Cgroup, Hierarchy};
use super::{Error, INTERFACE, OBJECT, PROPERTIES, Systemd, names, problem};

/// The interface of the units that hold containers.
const SCOPE: &str = "org.freedesktop.systemd1.Scope";

impl Systemd<'_> {
    /// Refuses a scope whose cgroup is there and holds processes, or is frozen: systemd would take it, and remove it when the
    /// scope ends.
    pub(in crate::cgroup) fn refuse_in_use(
        &mut self,
        hierarchy: &Hierarchy,
    ) -> Result<(), crate::cgroup::Error> {
        // A user's instance is somewhere below the system's, which only it knows.
        let root = match self.scope.user {
            true => self
                .text(OBJECT, INTERFACE, "ControlGroup")
                .map_err(|source| problem("ask for the place of", self.scope, source))?,
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

    /// True if systemd's unit of this name is the one with this cgroup: when the container's is gone, another may have its name.
    pub(in crate::cgroup) fn owns(&mut self, cgroup: &Cgroup) -> Result<bool, Error> {
        let object = names::object(&self.scope.name);
        match self.text(&object, SCOPE, "ControlGroup") {
            Ok(path) => {
                let below = Path::new(path.trim_start_matches('/'));
                Ok(below.file_name().is_some() && cgroup.path().ends_with(below))
            }
            // There is none.
            Err(dbus::Error::Refused { .. }) => Ok(false),
            Err(source) => Err(problem("ask for the cgroup of", self.scope, source)),
        }
    }

    /// A property that is a text.
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
    /// Refuses a scope's cgroup in which there is more than the process that the scope was made for, or that is frozen: systemd
    /// takes what has the right name.
    pub(in crate::cgroup) fn refuse_others(&self, pid: i32) -> Result<(), crate::cgroup::Error> {
        if self.pids()? != [pid] {
            return Err(crate::cgroup::Error::Occupied {
                path: self.path.clone(),
                holders: self.holders(),
            });
        }
        // Until the process has stopped, which has just come, cgroup.events says that it is not.
        if self.is_frozen()? || self.read(c"cgroup.freeze")?.trim() == "1" {
            return Err(crate::cgroup::Error::Frozen(self.path.clone()));
        }
        Ok(())
    }
}
