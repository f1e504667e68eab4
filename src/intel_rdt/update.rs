//! `update`: writes new schemata to the resctrl group of an existing container, all lines or none.
//! Only `create` makes groups.

use std::fs;
use std::path::Path;

use super::{Error, ResctrlGroups, non_empty_lines, split_schemata_line};
use crate::error::failed;
use crate::sys::procfs::errno_of;

/// New lines for the schemata of a group, one for each resource.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SchemataUpdate(Vec<String>);

/// The lines that restore the former schemata.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FormerSchemata(String);

impl SchemataUpdate {
    /// Plans the lines of `--l3-cache-schema` and `--mem-bw-schema`. Returns `None` if there are
    /// none. An error names the flag and the bad line.
    pub(crate) fn plan_update(
        l3_cache: Option<&str>,
        mem_bw: Option<&str>,
    ) -> Result<Option<SchemataUpdate>, String> {
        for (flag, text) in [("--l3-cache-schema", l3_cache), ("--mem-bw-schema", mem_bw)] {
            let wrong = non_empty_lines(text).find(|line| split_schemata_line(line).is_none());
            if let Some(line) = wrong {
                return Err(format!("{flag}: {line:?} is not RESOURCE:DOMAIN=VALUE;..."));
            }
        }
        let lines = super::schemata_lines(l3_cache, mem_bw);
        Ok((!lines.is_empty()).then_some(SchemataUpdate(lines)))
    }

    /// Writes the lines. The kernel accepts all of them or none.
    pub(crate) fn write_schemata(&self, groups: &ResctrlGroups) -> Result<FormerSchemata, Error> {
        let group = &groups.group;
        let file = group.join("schemata");
        let shown = file.display();
        // Only the root group, which is shared with the host, has this directory.
        if group.join("info").is_dir() {
            return Err(Error::Shared(group.display().to_string()));
        }
        let before = fs::read_to_string(&file)
            .map_err(|e| failed("read", || shown.to_string())(errno_of(&e)))?;
        let text: String = self.0.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&file, text).map_err(|e| {
            let what = || format!("write {:?} to {shown}", self.0.join("; "));
            Error::Refused(
                failed("write", what)(errno_of(&e)),
                last_command_status(group),
            )
        })?;
        Ok(FormerSchemata(self.former_lines(&before)))
    }

    /// Returns the lines of `schemata` for the resources that this update writes.
    fn former_lines(&self, schemata: &str) -> String {
        let resource = |line: &str| split_schemata_line(line).map(|(name, _)| name.to_owned());
        let written: Vec<_> = self.0.iter().filter_map(|line| resource(line)).collect();
        schemata
            .lines()
            .filter(|line| resource(line).is_some_and(|name| written.contains(&name)))
            .map(|line| format!("{}\n", line.trim()))
            .collect()
    }
}

impl FormerSchemata {
    pub(crate) fn restore_schemata(&self, groups: &ResctrlGroups) {
        let _ = fs::write(groups.group.join("schemata"), &self.0);
    }
}

/// Returns the kernel's message about a refused write, to be appended to an error message.
fn last_command_status(group: &Path) -> String {
    let file = group.parent().map(|root| root.join("info/last_cmd_status"));
    let text = file.and_then(|file| fs::read_to_string(file).ok());
    match text.as_deref().map(str::trim) {
        None | Some("" | "ok") => String::new(),
        Some(status) => format!(": {}", status.replace('\n', "; ")),
    }
}
