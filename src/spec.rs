//! config.json as this runtime takes it: read, mended, typed and without a violation, or an error that names every one.
//! Not what follows from it: `plan` decides that, and looks at the host.

mod json;
mod normalise;
pub(crate) mod ranges;
mod read;
pub(crate) mod sysctl;
pub(crate) mod validate;
mod version;

use std::fmt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Reason, Violation};
use crate::sys::Errno;

/// More violations than this are counted, not listed: engines read one line of at most 8 KiB.
const LISTED: usize = 20;

/// The longest message of the JSON library that is printed: it repeats values of any length.
const LONGEST_MESSAGE: usize = 300;

/// A config.json that was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) spec: Spec,
    /// All that is wrong in it; the caller adds what other modules find, so that one error tells everything.
    pub(crate) violations: Vec<Violation>,
    /// What was ignored or mended and is worth a line in the log.
    pub(crate) warnings: Vec<String>,
}

/// Why a configuration can't be used; always one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{file}: open {}: {}", .path.display(), Reason(*.errno))]
    Open {
        file: String,
        path: PathBuf,
        errno: Errno,
    },
    #[error("{file}: read {}: {}", .path.display(), Reason(*.errno))]
    Read {
        file: String,
        path: PathBuf,
        errno: Errno,
    },
    #[error("{file}: {} is not a regular file", .path.display())]
    NotRegular { file: String, path: PathBuf },
    #[error("{file}: larger than {} MiB", read::LARGEST >> 20)]
    TooLarge { file: String },
    /// The bytes aren't JSON text; `problem` names line and column where there are any.
    #[error("{file}: {problem}")]
    Syntax { file: String, problem: String },
    /// Everything that is wrong in it, in the order of the file's sections.
    #[error("{}", Listed { file, violations })]
    Violations {
        file: String,
        violations: Vec<Violation>,
    },
}

impl Error {
    /// The error that lists the violations of a file, if there are any.
    pub(crate) fn if_any(file: &str, violations: Vec<Violation>) -> Result<(), Error> {
        if violations.is_empty() {
            return Ok(());
        }
        Err(Error::Violations {
            file: file.into(),
            violations,
        })
    }
}

/// The name of a configuration in its bundle, unless the caller gives it another; messages call it so in any case.
pub(crate) const FILE: &str = "config.json";

/// Reads and checks a configuration.
///
/// Nothing outside the file is looked at.
pub(crate) fn load(path: &Path) -> Result<Loaded, Error> {
    let text = read::text(FILE, path)?;
    parse(FILE, &text)
}

/// Reads and checks the process of an `exec --process FILE`, and the warnings about it.
///
/// Places in errors start with `process`, as they do for the same fields of config.json.
pub(crate) fn load_process(path: &Path) -> Result<(Process, Vec<String>), Error> {
    let file = path.display().to_string();
    let text = read::text_or_pipe(&file, path)?;
    parse_process(&file, &text)
}

/// Reads the linux.resources of an `update` from a file, or from stdin.
///
/// Places in errors start below `linux.resources`.
pub(crate) fn load_resources(path: Option<&Path>) -> Result<LinuxResources, Error> {
    match path {
        None => parse_resources("stdin", &read::stdin("stdin")?),
        Some(path) => {
            let file = path.display().to_string();
            let text = read::text_or_pipe(&file, path)?;
            parse_resources(&file, &text)
        }
    }
}

fn parse(file: &str, text: &str) -> Result<Loaded, Error> {
    let mut tree = object(file, text)?;
    Error::if_any(file, version::check(&tree))?;
    let warnings = prepare(file, &mut tree)?;
    version::translate(&mut tree);
    let spec: Spec = typed(file, tree, "")?;
    Ok(Loaded {
        violations: validate::spec(&spec),
        spec,
        warnings,
    })
}

fn parse_process(file: &str, text: &str) -> Result<(Process, Vec<String>), Error> {
    const PLACE: &str = "process";
    let process = object(file, text)?;
    // In a tree of its own it has the places that the passes below know.
    let mut tree = Value::Object(Map::from_iter([(PLACE.to_owned(), process)]));
    let warnings = prepare(file, &mut tree)?;
    let process = tree.get_mut(PLACE).map(Value::take).unwrap_or_default();
    let process: Process = typed(file, process, PLACE)?;
    Error::if_any(file, validate::process(&process, PLACE))?;
    Ok((process, warnings))
}

fn parse_resources(file: &str, text: &str) -> Result<LinuxResources, Error> {
    const PLACE: [&str; 2] = ["linux", "resources"];
    let mut tree = PLACE.iter().rev().fold(object(file, text)?, |tree, name| {
        Value::Object(Map::from_iter([((*name).to_owned(), tree)]))
    });
    let violations = normalise::normalise(&mut tree, &mut Vec::new());
    let below = format!("{}.", PLACE.join("."));
    let named = violations.into_iter().map(|mut violation| {
        if let Some(place) = violation.place.strip_prefix(&below) {
            violation.place = place.to_owned();
        }
        violation
    });
    Error::if_any(file, named.collect())?;
    let resources = PLACE
        .iter()
        .try_fold(&mut tree, |tree, name| tree.get_mut(name));
    typed(file, resources.map(Value::take).unwrap_or_default(), "")
}

/// JSON text whose outermost value is an object.
fn object(file: &str, text: &str) -> Result<Value, Error> {
    let problem = match json::parse(text) {
        Ok(tree @ Value::Object(_)) => return Ok(tree),
        Ok(_) => "not an object".to_owned(),
        Err(problem) => shortened(&problem.to_string()),
    };
    Err(Error::Syntax {
        file: file.into(),
        problem,
    })
}

/// Mends the tree; answers warnings.
fn prepare(file: &str, tree: &mut Value) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    Error::if_any(file, normalise::normalise(tree, &mut warnings))?;
    Ok(warnings)
}

/// Gives a tree its type; the first value that doesn't fit is the one violation of the error.
fn typed<T: DeserializeOwned>(file: &str, tree: Value, prefix: &str) -> Result<T, Error> {
    serde_path_to_error::deserialize(tree).map_err(|error| {
        let mut place = joined(prefix, &error.path().to_string());
        let message = error.inner().to_string();
        let missing = message
            .strip_prefix("missing field `")
            .and_then(|rest| rest.strip_suffix('`'));
        let problem = match missing {
            Some(field) => {
                place = joined(&place, field);
                "is missing".to_owned()
            }
            None => shortened(&message.replace("unknown variant", "unknown value")),
        };
        Error::Violations {
            file: file.into(),
            violations: vec![Violation { place, problem }],
        }
    })
}

/// `prefix.path`, where either may be empty; the library calls the outermost value `.`.
fn joined(prefix: &str, path: &str) -> String {
    match (prefix, path) {
        (prefix, "" | ".") => prefix.to_owned(),
        ("" | ".", path) => path.to_owned(),
        (prefix, path) => format!("{prefix}.{path}"),
    }
}

fn shortened(message: &str) -> String {
    if message.len() <= LONGEST_MESSAGE {
        return message.to_owned();
    }
    // Both ends: what was found stands at one, what was expected or the position at the other.
    let mut start = LONGEST_MESSAGE / 2;
    let mut end = message.len() - LONGEST_MESSAGE / 2;
    while !message.is_char_boundary(start) {
        start -= 1;
    }
    while !message.is_char_boundary(end) {
        end += 1;
    }
    let (head, tail) = (message.get(..start), message.get(end..));
    format!("{}...{}", head.unwrap_or(""), tail.unwrap_or(""))
}

/// The violations of a file in one line.
struct Listed<'a> {
    file: &'a str,
    violations: &'a [Violation],
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Violation { place, problem }) in self.violations.iter().enumerate() {
            if index == LISTED {
                return write!(f, "; and {} more", self.violations.len() - LISTED);
            }
            let separator = if index == 0 { "" } else { "; " };
            // Keys of maps are part of places and may hold a newline, which would break the line of the log.
            let place = place.replace(char::is_control, " ");
            let problem = problem.replace(char::is_control, " ");
            write!(f, "{separator}{}: {place}: {problem}", self.file)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
