//! The output for a command line that runs no command: help, the version, and clap's errors in one
//! line.
//! Errors about words that clap never sees are in `argv` and `resolve`.

use std::ffi::OsStr;
use std::path::Path;

use crate::annotations;
use crate::log::Format;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The runtime-spec version that orlop implements.
const SPEC_VERSION: &str = "1.3.0";

/// clap's error in one line.
pub(super) fn explain_clap_error(error: &clap::Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    };
    let argument = text(ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::MissingRequiredArgument => format!("missing argument {argument}"),
        ErrorKind::UnknownArgument => format!("unexpected argument {argument:?}"),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            // A flag reads `--user <UID[:GID]>` here: keep only its name.
            let name = match argument.split_once(' ') {
                Some((flag, _)) if flag.starts_with("--") => flag,
                _ => &argument,
            };
            let reason = std::error::Error::source(error)
                .map(ToString::to_string)
                .unwrap_or_else(|| "not a value for it".into());
            format!("{name} {:?}: {reason}", text(ContextKind::InvalidValue))
        }
        _ => {
            let rendered = error.to_string();
            let first = rendered.lines().next().unwrap_or_default();
            first.trim_start_matches("error: ").to_owned()
        }
    }
}

/// The help of one command, or of the whole program.
pub(super) fn render_help(mut grammar: clap::Command, command: Option<&str>) -> String {
    grammar.build();
    let found = command.and_then(|name| grammar.find_subcommand_mut(name).cloned());
    let mut text = found.unwrap_or(grammar).render_help().to_string();
    if matches!(command, Some("create" | "run")) {
        text += &annotations();
    }
    text
}

/// The part of help about annotations of config.json.
fn annotations() -> String {
    let mut text = "\nAnnotations of config.json:\n".to_owned();
    for row in &annotations::TABLE {
        let refused = if row.is_refused { "refused: " } else { "" };
        let (name, value, about) = (row.name, row.value, row.about);
        text += &format!("  {name}={value}\n          {refused}{about}\n");
    }
    text + "  org.systemd.property.NAME=VALUE\n          a property of the scope\n  org.criu.config=FILE\n          options of CRIU\n"
}

/// A name that the program is installed by, also by a link. Callers look for the version and the
/// containers of the runtime with this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Name {
    #[default]
    Orlop,
    Runc,
    Crun,
}

impl Name {
    /// The name in the first word of a command line, which may be a path.
    pub(super) fn of_program(program: &OsStr) -> Name {
        match Path::new(program).file_name().and_then(OsStr::to_str) {
            Some("runc") => Name::Runc,
            Some("crun") => Name::Crun,
            _ => Name::Orlop,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Name::Orlop => "orlop",
            Name::Runc => "runc",
            Name::Crun => "crun",
        }
    }

    /// How the runtime with this name writes its log if nobody asks for JSON.
    pub(super) fn log_format(self) -> Format {
        match self {
            Name::Crun => Format::Plain,
            Name::Orlop | Name::Runc => Format::Text,
        }
    }

    /// The version of the runtime with this name whose command line and results orlop follows.
    fn version(self) -> &'static str {
        match self {
            Name::Orlop => env!("CARGO_PKG_VERSION"),
            Name::Runc => "1.5.0",
            Name::Crun => "1.29",
        }
    }
}

/// The handler that crun takes from the name in the first word of a command line: `krun`, or `wasm`
/// of crun-wasm. orlop has none of them: a container must not run without the virtual machine that
/// the name promises.
pub(super) fn handler_of_program(program: &OsStr) -> Option<&str> {
    let name = Path::new(program).file_name()?.to_str()?;
    let handler = name
        .strip_prefix("crun-")
        .filter(|handler| !handler.is_empty());
    handler.or((name == "krun").then_some(name))
}

/// The version in the format that engines parse: go-runc requires the first line to be runc's, and
/// docker takes the last line with the word "version".
pub(super) fn render_version(name: Name) -> String {
    let mut text = format!("{} version {}\n", name.as_str(), name.version());
    if name != Name::Orlop {
        text += &format!("orlop: {}\n", Name::Orlop.version());
    }
    // Set by the build script, or by whoever builds: empty for none.
    if let Some(commit) = option_env!("ORLOP_COMMIT").filter(|commit| !commit.is_empty()) {
        text += &format!("commit: {commit}\n");
    }
    text + &format!("spec: {SPEC_VERSION}\n")
}
