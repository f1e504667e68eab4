//! `ps`: lists the processes of a container, using its cgroup if there is one.

use super::{Error, cgroupless_processes, open_container, print_stdout};
use crate::invocation::{Globals, OutputFormat, PsArgs};
use crate::state::FoundContainer;

/// Prints the pids as JSON, or the lines that ps(1) prints for them.
pub(crate) fn ps(globals: &Globals, args: &PsArgs) -> Result<(), Error> {
    let dir = open_container(globals, args.id.as_str())?;
    let found = FoundContainer::read_container(&dir)?;
    let pids = match found.open_cgroup_in(&dir)? {
        Some(cgroup) => cgroup.pids()?,
        None => {
            let members = cgroupless_processes(&found).map(|members| members.pids());
            members.transpose()?.unwrap_or_default()
        }
    };
    if args.format == OutputFormat::Json {
        return print_stdout(&format!(
            "{}\n",
            serde_json::to_string(&pids).unwrap_or_default()
        ));
    }
    let mut command = std::process::Command::new("ps");
    if args.options.is_empty() {
        command.arg("-ef")
    } else {
        command.args(&args.options)
    };
    let output = command.output().map_err(|e| Error::Ps(e.to_string()))?;
    if !output.status.success() {
        return Err(Error::Ps(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_ascii_whitespace()
        .position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::Ps("its output has no PID column".into()))?;
    let is_ours = |line: &&str| {
        let pid = line
            .split_ascii_whitespace()
            .nth(column)
            .and_then(|field| field.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    let ours = std::iter::once(header).chain(lines.filter(is_ours));
    print_stdout(&ours.fold(String::new(), |text, line| text + line + "\n"))
}
