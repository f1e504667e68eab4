//! Checks the owner of a unit and the processes in its cgroup, so that no unit, process or cgroup
//! of somebody else is stopped, killed or removed.
//! The operations after these checks are in `systemd`.

use std::path::Path;

use super::super::dbus::{self, Value};
use super::super::{Cgroup, Hierarchy};
use super::{
    Error, MANAGER_INTERFACE, MANAGER_PATH, PROPERTIES_INTERFACE, SystemdClient, call_error, names,
};

/// The interface of scopes.
const SCOPE_INTERFACE: &str = "org.freedesktop.systemd1.Scope";

impl SystemdClient<'_> {
    /// Refuses a scope whose cgroup already exists and is frozen or has processes. systemd would
    /// use this cgroup, and remove it when the scope stops.
    pub(in crate::cgroup) fn refuse_in_use(
        &mut self,
        hierarchy: &Hierarchy,
    ) -> Result<(), crate::cgroup::Error> {
        // Only systemd knows the cgroup of its user instance.
        let root = match self.scope.user {
            true => self
                .read_text_property(MANAGER_PATH, MANAGER_INTERFACE, "ControlGroup")
                .map_err(|source| {
                    call_error("ask for the cgroup that will hold", self.scope, source)
                })?,
            false => String::new(),
        };
        let slice = hierarchy
            .mount
            .join(root.trim_start_matches('/'))
            .join(names::slice_cgroup_path(&self.scope.slice));
        match Cgroup::open(&slice.join(&self.scope.name))? {
            Some(cgroup) => cgroup.refuse_in_use(),
            None => Ok(()),
        }
    }

    /// True if the unit with the scope's name has this cgroup. After the container's unit is gone,
    /// another unit may have taken the name.
    pub(in crate::cgroup) fn owns_cgroup(&mut self, cgroup: &Cgroup) -> Result<bool, Error> {
        let object = names::unit_object_path(&self.scope.name);
        match self.read_text_property(&object, SCOPE_INTERFACE, "ControlGroup") {
            Ok(path) => {
                let below = Path::new(path.trim_start_matches('/'));
                Ok(below.file_name().is_some() && cgroup.path().ends_with(below))
            }
            // There is no such unit.
            Err(dbus::Error::Refused { .. }) => Ok(false),
            Err(source) => Err(call_error("ask for the cgroup of", self.scope, source)),
        }
    }

    /// Reads a text property of a D-Bus object of systemd.
    pub(super) fn read_text_property(
        &mut self,
        object: &str,
        interface: &str,
        name: &str,
    ) -> Result<String, dbus::Error> {
        let arguments = [Value::from_text(interface), Value::from_text(name)];
        let body = self
            .connection
            .call(object, PROPERTIES_INTERFACE, "Get", &arguments)?;
        Ok(body.leading_texts().into_iter().next().unwrap_or_default())
    }
}

impl Cgroup {
    /// Refuses the cgroup of a scope if it is frozen or has processes other than the one that the
    /// scope was made for. This can happen because systemd uses an existing cgroup of that name.
    pub(in crate::cgroup) fn refuse_other_processes(
        &self,
        pid: i32,
    ) -> Result<(), crate::cgroup::Error> {
        if self.pids()? != [pid] {
            return Err(crate::cgroup::Error::Occupied {
                path: self.path.clone(),
                holders: self.describe_processes(),
            });
        }
        // The process has only just entered the cgroup. Until it has stopped, cgroup.events reports
        // the cgroup as not frozen.
        if self.is_frozen()? || self.read_file(c"cgroup.freeze")?.trim() == "1" {
            return Err(crate::cgroup::Error::Frozen(self.path.clone()));
        }
        Ok(())
    }
}
