//! ociVersion: the supported versions, and the meaning of values in older versions.
//! Known fields are accepted in any version.

use serde_json::Value;

use super::validate::quote_value;
use crate::error::Violation;

/// Checks that ociVersion is a version with major number 1.
///
/// Newer minor versions are accepted, because configurations stay compatible within a major
/// version.
pub(super) fn check(tree: &Value) -> Vec<Violation> {
    let problem = match tree.get("ociVersion") {
        None | Some(Value::Null) => "is missing".to_owned(),
        Some(Value::String(version)) => match version_numbers(version) {
            Some((1, _)) => return Vec::new(),
            Some(_) => format!("{} is not supported (expected 1.x.y)", quote_value(version)),
            None => format!(
                "{} is not a version (expected MAJOR.MINOR.PATCH)",
                quote_value(version)
            ),
        },
        Some(_) => "is not a string".to_owned(),
    };
    vec![Violation::new("ociVersion", problem)]
}

/// Translates old values to their meaning in the newest version.
///
/// Since 1.3.0, a pids.limit of 0 is a limit. Before, it meant no limit, and podman 5 relies on
/// this.
pub(super) fn translate_old_values(tree: &mut Value) {
    let version = tree.get("ociVersion").and_then(Value::as_str);
    if version.and_then(version_numbers) >= Some((1, 3)) {
        return;
    }
    let limit = ["linux", "resources", "pids", "limit"]
        .iter()
        .try_fold(tree, |value, key| value.get_mut(key));
    if let Some(limit) = limit.filter(|limit| limit.as_i64() == Some(0)) {
        *limit = (-1).into();
    }
}

/// Returns the major and minor number of a semantic version, or `None` if the version is malformed.
fn version_numbers(version: &str) -> Option<(u32, u32)> {
    let (version, build) = split_at_separator(version, '+');
    let (core, release) = split_at_separator(version, '-');
    let suffixes = [build, release];
    if !suffixes.into_iter().flatten().all(is_version_suffix) {
        return None;
    }
    let mut numbers = core.split('.').map(parse_version_number);
    let (major, minor, _patch) = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some((major, minor))
}

fn split_at_separator(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((head, tail)) => (head, Some(tail)),
        None => (text, None),
    }
}

fn parse_version_number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    (digits && !leading_zero)
        .then(|| text.parse().ok())
        .flatten()
}

fn is_version_suffix(text: &str) -> bool {
    text.split('.').all(|part| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_with_major_1_are_taken() {
        for version in [
            "1.0.0",
            "1.0.2-dev",
            "1.3.0",
            "1.3.0-rc.1+abc",
            "1.99.0",
            "1.0.0+x-y",
        ] {
            assert_eq!(check(&json!({ "ociVersion": version })), [], "{version}");
        }
    }

    #[test]
    fn no_processes_are_no_limit_before_1_3() {
        for (version, limit, meant) in [
            ("1.0.2", 0, -1),
            ("1.2.1", 0, -1),
            ("1.2.1", 7, 7),
            ("1.3.0-rc.1", 0, 0),
            ("1.3.0", 0, 0),
            ("1.10.0", 0, 0),
        ] {
            let of = |limit: i64| json!({"ociVersion": version, "linux": {"resources": {"pids": {"limit": limit}}}});
            let mut tree = of(limit);
            translate_old_values(&mut tree);
            assert_eq!(tree, of(meant), "{version}");
        }
    }

    #[test]
    fn other_versions_are_refused() {
        for (tree, problem) in [
            (json!({}), "is missing"),
            (json!({ "ociVersion": null }), "is missing"),
            (json!({ "ociVersion": 1 }), "is not a string"),
            (
                json!({ "ociVersion": "2.0.0" }),
                "\"2.0.0\" is not supported (expected 1.x.y)",
            ),
            (
                json!({ "ociVersion": "0.9.0" }),
                "\"0.9.0\" is not supported (expected 1.x.y)",
            ),
        ] {
            assert_eq!(check(&tree).first().unwrap().problem, problem);
        }
        for version in [
            "",
            "1",
            "1.0",
            "abc",
            "1.0.0.0",
            "1.0.x",
            "v1.0.0",
            "1.0.0-",
            "1.0.0-a..b",
            "01.0.0",
            "1.0.0\n",
            " 1.0.0",
        ] {
            let violations = check(&json!({ "ociVersion": version }));
            let problem = &violations.first().unwrap().problem;
            assert!(
                problem.contains("is not a version"),
                "{version:?}: {problem}"
            );
        }
    }
}
