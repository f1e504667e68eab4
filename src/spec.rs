//! Reads config.json: its text, a normalised tree, a typed spec, and all violations at once.
//! `plan` makes decisions from the spec and checks the host.

mod examine;
mod json;
mod normalise;
pub(crate) mod paths;
mod positions;
pub(crate) mod propagation;
pub(crate) mod ranges;
mod read;
mod required;
pub(crate) mod sysctl;
mod typed;
pub(crate) mod validate;
mod version;

use std::fmt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Mount, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::diagnosis::Code;
use crate::error::{ErrnoText, Findings, Violation};
use crate::sys::Errno;
pub(crate) use normalise::FOREIGN_PROPERTIES;
pub(crate) use required::REQUIRED_FIELDS;

/// An error lists at most this many violations, and only counts the others, because engines read
/// one line of at most 8 KiB.
const MAX_LISTED_VIOLATIONS: usize = 20;

/// The longest message that is kept from the JSON library, which quotes values of any length.
const MAX_LIBRARY_MESSAGE_CHARS: usize = 300;

pub(crate) use examine::{Examined, examine};
pub(crate) use positions::Position;

/// The contents of a config.json.
#[derive(Debug)]
pub(crate) struct LoadedConfig {
    pub(crate) spec: Spec,
    /// The violations in the file. Other modules add theirs, so that one error reports all.
    pub(crate) violations: Vec<Violation>,
    /// Warnings about ignored or corrected values, for the log.
    pub(crate) warnings: Vec<Violation>,
}

/// The reason why a configuration can't be used, in one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{file}: open {}: {}", .path.display(), ErrnoText(*.errno))]
    Open {
        file: String,
        path: PathBuf,
        errno: Errno,
    },
    #[error("{file}: read {}: {}", .path.display(), ErrnoText(*.errno))]
    Read {
        file: String,
        path: PathBuf,
        errno: Errno,
    },
    #[error("{file}: {} is not a regular file", .path.display())]
    NotRegular { file: String, path: PathBuf },
    #[error("{file}: larger than {} MiB", read::MAX_FILE_BYTES >> 20)]
    TooLarge { file: String },
    /// The bytes aren't JSON text. `problem` names the line and column if they are known.
    #[error("{file}: {problem}")]
    Syntax { file: String, problem: String },
    /// Every violation, in the order of the file's sections.
    #[error("{}", ViolationList(.0))]
    Violations(Vec<Violation>),
}

impl Error {
    /// Changes the error's origins to fields of a file that describes only a part of config.json.
    /// The fields of such a file don't begin with `prefix`.
    fn with_file(self, file: &str, prefix: &str) -> Error {
        let renamed = |mut violation: Violation| {
            violation.origin = violation.origin.in_file(file, prefix);
            violation
        };
        match self {
            Error::Violations(all) => Error::Violations(all.into_iter().map(renamed).collect()),
            other => other,
        }
    }

    /// Returns an error that lists the violations, if there are any.
    pub(crate) fn error_if_any(violations: Vec<Violation>) -> Result<(), Error> {
        if violations.is_empty() {
            return Ok(());
        }
        Err(Error::Violations(violations))
    }
}

/// The default name of the configuration in a bundle. Messages use this name whatever the file is
/// called.
pub(crate) const FILE: &str = "config.json";

/// Reads and checks a configuration.
///
/// Accesses nothing outside the file.
pub(crate) fn load_config(path: &Path) -> Result<LoadedConfig, Error> {
    let text = read::read_regular_file(FILE, path)?;
    parse(FILE, &text)
}

/// Reads and checks the file of `exec --process FILE`. Returns the process and warnings.
///
/// Fields in errors start with `process`, as they do in config.json.
pub(crate) fn load_process(path: &Path) -> Result<(Process, Vec<Violation>), Error> {
    let file = path.display().to_string();
    let text = read::read_file_or_pipe(&file, path)?;
    parse_process(&file, &text)
}

/// Reads the linux.resources of an `update` from a file, or from stdin.
///
/// Fields in errors start below `linux.resources`.
pub(crate) fn load_resources(path: Option<&Path>) -> Result<LinuxResources, Error> {
    let (file, text) = match path {
        None => (STDIN_NAME.to_owned(), read::read_stdin(STDIN_NAME)?),
        Some(path) => {
            let file = path.display().to_string();
            let text = read::read_file_or_pipe(&file, path)?;
            (file, text)
        }
    };
    parse_resources(&file, &text)
}

/// Reads the file of `mounts add`: an array like `mounts` of config.json. Returns the mounts and
/// warnings.
///
/// Fields in errors start with an index: `[3].source`.
pub(crate) fn load_mounts(path: &Path) -> Result<(Vec<Mount>, Vec<Violation>), Error> {
    let file = path.display().to_string();
    let tree = mounts_of(&file, path)?;
    let (mounts, mut warnings) =
        checked_mounts(tree).map_err(|error| error.with_file(&file, MOUNTS))?;
    for warning in &mut warnings {
        warning.origin = warning.origin.in_file(&file, MOUNTS);
    }
    Ok((mounts, warnings))
}

/// Reads the destinations in the file of `mounts remove`, which has the same form as the file of
/// `mounts add`. Ignores all other fields.
pub(crate) fn load_destinations(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let file = path.display().to_string();
    let Value::Array(mounts) = mounts_of(&file, path)? else {
        return Ok(Vec::new());
    };
    let mut found = Findings::default();
    let mut destinations = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.iter().enumerate() {
        let place = format!("{MOUNTS}[{index}].destination");
        match mount.get("destination").and_then(Value::as_str) {
            Some(path) => {
                validate::check_absolute(&place, Path::new(path), &mut found);
                destinations.push(path.into());
            }
            None => found.refuse(place, "is missing, or not a string"),
        }
    }
    Error::error_if_any(found.into_refused()).map_err(|error| error.with_file(&file, MOUNTS))?;
    Ok(destinations)
}

/// The field of the mounts in config.json.
const MOUNTS: &str = "mounts";

/// Reads a file whose outermost value must be an array.
fn mounts_of(file: &str, path: &Path) -> Result<Value, Error> {
    let text = read::read_file_or_pipe(file, path)?;
    let problem = match json::parse(&text) {
        Ok(tree @ Value::Array(_)) => return Ok(tree),
        Ok(_) => "not an array".to_owned(),
        Err(problem) => shorten_message(&problem.to_string()),
    };
    Err(Error::Syntax {
        file: file.into(),
        problem,
    })
}

fn checked_mounts(mounts: Value) -> Result<(Vec<Mount>, Vec<Violation>), Error> {
    let mut tree = Value::Object(Map::from_iter([(MOUNTS.to_owned(), mounts)]));
    let warnings = normalise_tree(&mut tree)?;
    let mounts = tree.get_mut(MOUNTS).map(Value::take).unwrap_or_default();
    let mounts: Vec<Mount> = match mounts {
        // Normalising has dropped an empty array.
        Value::Null => Vec::new(),
        mounts => to_typed(&mounts, MOUNTS)?,
    };
    let mut found = Findings::default();
    validate::check_mounts(&mounts, &mut found);
    Error::error_if_any(found.into_refused())?;
    Ok((mounts, warnings))
}

/// The prefix of the fields of linux.resources in config.json.
pub(crate) const RESOURCES_PREFIX: &str = "linux.resources.";

/// The name of standard input in messages.
pub(crate) const STDIN_NAME: &str = "stdin";

/// Reads the text of a file or pipe that the command line names.
pub(crate) fn text_of(path: &Path) -> Result<String, Error> {
    read::read_file_or_pipe(&path.display().to_string(), path)
}

fn parse(file: &str, text: &str) -> Result<LoadedConfig, Error> {
    let mut tree = parse_object(file, text)?;
    Error::error_if_any(version::check(&tree))?;
    let warnings = normalise_tree(&mut tree)?;
    version::translate_old_values(&mut tree);
    let spec: Spec = to_typed(&tree, "")?;
    Ok(LoadedConfig {
        violations: validate::validate_spec(&spec),
        spec,
        warnings,
    })
}

fn parse_process(file: &str, text: &str) -> Result<(Process, Vec<Violation>), Error> {
    let (process, mut warnings) =
        check_process(parse_object(file, text)?).map_err(|error| error.with_file(file, ""))?;
    for warning in &mut warnings {
        warning.origin = warning.origin.in_file(file, "");
    }
    Ok((process, warnings))
}

fn check_process(process: Value) -> Result<(Process, Vec<Violation>), Error> {
    const PLACE: &str = "process";
    // Put the process at the field of a tree where the functions below expect it.
    let mut tree = Value::Object(Map::from_iter([(PLACE.to_owned(), process)]));
    let warnings = normalise_tree(&mut tree)?;
    let process: Process = to_typed(tree.get(PLACE).unwrap_or(&Value::Null), PLACE)?;
    Error::error_if_any(validate::check_process(&process, PLACE))?;
    Ok((process, warnings))
}

fn parse_resources(file: &str, text: &str) -> Result<LinuxResources, Error> {
    check_resources(parse_object(file, text)?)
        .map_err(|error| error.with_file(file, RESOURCES_PREFIX))
}

fn check_resources(resources: Value) -> Result<LinuxResources, Error> {
    const PLACE: [&str; 2] = ["linux", "resources"];
    let mut tree = PLACE.iter().rev().fold(resources, |tree, name| {
        Value::Object(Map::from_iter([((*name).to_owned(), tree)]))
    });
    normalise_tree(&mut tree)?;
    let resources = PLACE.iter().try_fold(&tree, |tree, name| tree.get(name));
    to_typed(resources.unwrap_or(&Value::Null), "linux.resources")
}

/// Parses JSON text whose outermost value must be an object.
fn parse_object(file: &str, text: &str) -> Result<Value, Error> {
    let problem = match json::parse(text) {
        Ok(tree @ Value::Object(_)) => return Ok(tree),
        Ok(_) => "not an object".to_owned(),
        Err(problem) => shorten_message(&problem.to_string()),
    };
    Err(Error::Syntax {
        file: file.into(),
        problem,
    })
}

/// Normalises the tree. Returns warnings.
fn normalise_tree(tree: &mut Value) -> Result<Vec<Violation>, Error> {
    let mut findings = Findings::default();
    normalise::normalise(tree, &mut findings);
    let warnings = findings.into_warnings().map_err(Error::Violations)?;
    Error::error_if_any(required::missing_fields(tree))?;
    Ok(warnings)
}

/// Converts a tree to its type. The error names the first value that doesn't fit.
fn to_typed<T: DeserializeOwned>(tree: &Value, prefix: &str) -> Result<T, Error> {
    typed::from_tree(tree).map_err(|error| Error::Violations(vec![type_mismatch(error, prefix)]))
}

/// Returns the violation for a value that doesn't fit its type.
fn type_mismatch(misfit: typed::Misfit, prefix: &str) -> Violation {
    let mut place = join_field_path(prefix, &misfit.place);
    let message = misfit.error.to_string();
    let missing = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'));
    let (problem, code) = match missing {
        Some(field) => {
            place = join_field_path(&place, field);
            ("is missing".to_owned(), Code::MissingField)
        }
        None => (
            shorten_message(&message.replace("unknown variant", "unknown value")),
            Code::WrongType,
        ),
    };
    Violation::of(code, place, problem)
}

/// Returns `prefix.path`. Either part may be empty.
fn join_field_path(prefix: &str, path: &str) -> String {
    match (prefix, path) {
        (prefix, "") => prefix.to_owned(),
        ("", path) => path.to_owned(),
        (prefix, path) => format!("{prefix}.{path}"),
    }
}

fn shorten_message(message: &str) -> String {
    if message.len() <= MAX_LIBRARY_MESSAGE_CHARS {
        return message.to_owned();
    }
    // Keep both ends of the message. One end has the value that was found. The other has the
    // expected value or the position.
    let mut start = MAX_LIBRARY_MESSAGE_CHARS / 2;
    let mut end = message.len() - MAX_LIBRARY_MESSAGE_CHARS / 2;
    while !message.is_char_boundary(start) {
        start -= 1;
    }
    while !message.is_char_boundary(end) {
        end += 1;
    }
    let (head, tail) = (message.get(..start), message.get(end..));
    format!("{}...{}", head.unwrap_or(""), tail.unwrap_or(""))
}

/// Violations in one line.
struct ViolationList<'a>(&'a [Violation]);

impl fmt::Display for ViolationList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.0.iter().enumerate() {
            if index == MAX_LISTED_VIOLATIONS {
                return write!(f, "; and {} more", self.0.len() - MAX_LISTED_VIOLATIONS);
            }
            let separator = if index == 0 { "" } else { "; " };
            // Field names contain keys of maps. A newline in a key would break the line.
            let text = violation.to_string().replace(char::is_control, " ");
            write!(f, "{separator}{text}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
