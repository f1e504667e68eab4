//! Removes defences from a runtime that is built for the tests of attacks, where each attack must
//! succeed without its defence.
//! Other builds have all defences and none of this code.

use std::ffi::CStr;

#[cfg(all(feature = "weakened", not(debug_assertions)))]
compile_error!("the feature `weakened` is for tests of attacks: no release build takes it");

/// True if ORLOP_TEST_WEAKENED names this defence.
#[cfg(feature = "weakened")]
pub(crate) fn lacks(defence: &str) -> bool {
    let names = std::env::var("ORLOP_TEST_WEAKENED").unwrap_or_default();
    names.split(',').any(|name| name == defence)
}

#[cfg(not(feature = "weakened"))]
pub(crate) const fn lacks(_defence: &str) -> bool {
    false
}

/// Returns an absolute path without its leading slashes, so that openat2 resolves it below a root.
pub(crate) fn relative(path: &CStr) -> &CStr {
    let slashes = path.to_bytes().iter().take_while(|byte| **byte == b'/');
    let rest = path.to_bytes_with_nul().get(slashes.count()..);
    match rest.map(CStr::from_bytes_with_nul) {
        Some(Ok(rest)) if !rest.is_empty() => rest,
        _ => c".",
    }
}
