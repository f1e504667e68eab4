//! Raises the parent's hard limits to those of the process before the clone, so that the child
//! inherits them.
//! The child lowers its limits, as late as possible.

use super::Error;
use crate::error::failed;
use crate::plan::process::Process;
use crate::sys::process::{self, Rlimit};

/// Raises this process' hard limits to those of the plan. This requires CAP_SYS_RESOURCE on the
/// host, which root of a user namespace doesn't have.
pub(super) fn raise_hard_limits(plan: &Process) -> Result<(), Error> {
    for (index, limit) in plan.rlimits.iter().enumerate() {
        let what = || plan.describe_limit(index, limit);
        let old = process::rlimit(limit.resource).map_err(failed("prlimit", what))?;
        if limit.hard > old.hard {
            let raised = Rlimit {
                hard: limit.hard,
                ..old
            };
            let above = || {
                let most = match old.hard {
                    u64::MAX => "unlimited".to_owned(),
                    hard => hard.to_string(),
                };
                format!("{}, where the caller's hard limit is {most}", what())
            };
            process::set_rlimit(&raised).map_err(failed("prlimit", above))?;
        }
    }
    Ok(())
}
