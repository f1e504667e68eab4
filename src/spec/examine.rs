//! Reads a configuration for a report of all its problems. `spec::load_config` stops at a problem
//! that makes the rest uncertain, but `examine` reads on.
//! The rules are those of `normalise`, `required`, `typed` and `validate`.

use std::cell::RefCell;
use std::path::Path;

use oci_spec::runtime::Spec;
use serde_json::Value;

use super::{
    Error, FILE, Position, normalise, parse_object, positions, read, required, type_mismatch,
};
use super::{typed, validate, version};
use crate::diagnosis::Code;
use crate::error::{Findings, Violation};

/// The largest number of values with a wrong type that are left out, one after the other.
const MOST_MISFITS: usize = 50;

/// The sections of config.json for other platforms.
const PLATFORMS: [&str; 5] = ["freebsd", "solaris", "vm", "windows", "zos"];

/// A configuration, as far as it can be read.
pub(crate) struct Examined {
    text: String,
    /// The configuration. `None` if it can't be converted to its type.
    pub(crate) spec: Option<Spec>,
    /// The violations and warnings that need only the file, not the host.
    pub(crate) refused: Vec<Violation>,
    pub(crate) warnings: Vec<Violation>,
}

impl Examined {
    /// Finds lines and columns by JSON pointers.
    pub(crate) fn positions<'a>(
        &self,
        pointers: impl Iterator<Item = &'a str> + Clone,
    ) -> impl Fn(&str) -> Option<Position> {
        positions::find(&self.text, pointers)
    }
}

/// Reads and checks a configuration. An error means that there is no text, or that it isn't JSON.
pub(crate) fn examine(path: &Path) -> Result<Examined, Error> {
    let text = read::read_regular_file(FILE, path)?;
    let mut tree = parse_object(FILE, &text)?;
    let mut findings = Findings::default();
    findings.refuse_all(version::check(&tree));
    foreign(&tree, &mut findings);
    let before = findings.refused_count();
    normalise::normalise(&mut tree, &mut findings);
    let shaped = findings.refused_count() == before;
    let spec = if shaped {
        findings.refuse_all(required::missing_fields(&mut tree));
        version::translate_old_values(&mut tree);
        converted(tree, &mut findings)
    } else {
        None
    };
    let (refused, warnings) = findings.into_parts();
    Ok(Examined {
        text,
        spec,
        refused,
        warnings,
    })
}

/// Warns about properties for other platforms or at the wrong level, because `normalise` drops
/// them.
fn foreign(tree: &Value, findings: &mut Findings) {
    for name in PLATFORMS.iter().filter(|name| tree.get(name).is_some()) {
        let problem = "is for another platform, ignored";
        findings.warn_as(Code::ForeignSection, *name, problem);
    }
    for name in ["uidMappings", "gidMappings"] {
        if tree.get(name).is_some() {
            let problem = format!("unknown property, ignored; did you mean linux.{name}?");
            findings.warn_as(Code::UnknownProperty, name, problem);
        }
    }
}

/// Converts the tree to its type. Each value that doesn't fit is reported and left out.
fn converted(mut tree: Value, findings: &mut Findings) -> Option<Spec> {
    let mut left_out: Vec<String> = Vec::new();
    let spec = loop {
        let unknown = RefCell::default();
        match typed::from_tree_noting::<Spec>(&tree, &unknown) {
            Ok(spec) => {
                warn_of_unknown(&unknown.into_inner(), findings);
                break spec;
            }
            Err(error) => {
                let violation = type_mismatch(error, "");
                let field = violation
                    .origin
                    .config_field()
                    .unwrap_or_default()
                    .to_owned();
                // The value is required, but it doesn't fit its type and was left out.
                let is_consequence = left_out.contains(&field);
                if !is_consequence {
                    findings.refuse_all(vec![violation]);
                }
                if is_consequence || left_out.len() >= MOST_MISFITS {
                    return None;
                }
                left_out.push(remove(&mut tree, &field)?);
            }
        }
    };
    // Drop violations about values that were left out.
    let is_about = |violation: &Violation| {
        let field = violation.origin.config_field().unwrap_or_default();
        left_out
            .iter()
            .any(|out| field.starts_with(out.as_str()) || out.starts_with(field))
    };
    let mut violations = validate::validate_spec(&spec);
    violations.retain(|violation| !is_about(violation));
    let known: Vec<Violation> = findings.refused_values().to_vec();
    violations.retain(|violation| {
        let is_same = |other: &Violation| other.origin == violation.origin;
        !known.iter().any(is_same)
    });
    findings.refuse_all(violations);
    Some(spec)
}

/// Removes the innermost named field of a path such as `mounts[1].options[0]`. Returns its path.
fn remove(tree: &mut Value, field: &str) -> Option<String> {
    let mut place = field;
    while place.ends_with(']') {
        place = place.rsplit_once('[')?.0;
    }
    let (parent, name) = place.rsplit_once('.').unwrap_or(("", place));
    let mut value = tree;
    for part in parent.split(['.', '[']).filter(|part| !part.is_empty()) {
        value = match part.strip_suffix(']') {
            Some(index) => value.get_mut(index.parse::<usize>().ok()?)?,
            None => value.get_mut(part)?,
        };
    }
    value.as_object_mut()?.remove(name)?;
    Some(place.to_owned())
}

/// Warns about properties that a type doesn't have, and names its nearest property.
fn warn_of_unknown(unknown: &[typed::Unknown], findings: &mut Findings) {
    for typed::Unknown { place, name, known } in unknown {
        let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric());
        let field = match (place.as_str(), is_plain) {
            ("", true) => name.clone(),
            (place, true) => format!("{place}.{name}"),
            (place, false) => format!("{place}[{name:?}]"),
        };
        if PLATFORMS.contains(&field.as_str()) {
            continue;
        }
        let problem = match nearest(name, known) {
            Some(near) => format!("unknown property, ignored; did you mean {near}?"),
            None => "unknown property, ignored".to_owned(),
        };
        findings.warn_as(Code::UnknownProperty, field, problem);
    }
}

/// Returns the known name that is nearest to a mistyped name, if one is near enough.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase();
    let distance = |known: &&&str| strsim::levenshtein(&lower, &known.to_ascii_lowercase());
    let near = known.iter().min_by_key(distance)?;
    (distance(&near) <= name.len().min(9) / 3).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_told_if_it_is_near() {
        let known = ["mounts", "hostname", "hooks", "cgroupsPath"];
        for (name, expected) in [
            ("mount", Some("mounts")),
            ("hostName", Some("hostname")),
            ("cgroupPath", Some("cgroupsPath")),
            ("x", None),
            ("extension", None),
        ] {
            assert_eq!(nearest(name, &known), expected, "{name}");
        }
    }
}
