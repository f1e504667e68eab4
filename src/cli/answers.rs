//! What is printed if no command runs: help, the version, and each of clap's errors as one line.
//! Errors about arguments that are handled before or after clap are in `argv` and `resolve`.

use std::ffi::OsStr;
use std::path::Path;

use crate::annotations;
use crate::log::Format;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The runtime-spec version that orlop implements.
const SPEC_VERSION: &str = "1.3.0";

/// Renders clap's error in one line.
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
            // For a flag, `argument` is like `--user <UID[:GID]>`. Keep only the flag's name.
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

/// Renders the help of one command, or of the whole program.
pub(super) fn render_help(mut grammar: clap::Command, command: Option<&str>) -> String {
    grammar.build();
    let found = command.and_then(|name| grammar.find_subcommand_mut(name).cloned());
    let mut text = found.unwrap_or(grammar).render_help().to_string();
    if matches!(command, Some("create" | "run")) {
        text += &annotations();
    }
    text
}

/// Renders the part of the help that lists annotations of config.json.
fn annotations() -> String {
    let mut text = "\nAnnotations of config.json:\n".to_owned();
    for row in &annotations::TABLE {
        let refused = if row.is_refused { "refused: " } else { "" };
        let (name, value, about) = (row.name, row.value, row.about);
        text += &format!("  {name}={value}\n          {refused}{about}\n");
    }
    text + "  org.systemd.property.NAME=VALUE\n          a property of the scope\n  org.criu.config=FILE\n          options of CRIU\n"
}

/// A name under which the program is installed, perhaps as a link. Callers expect the version and
/// the containers of the runtime with this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Name {
    #[default]
    Orlop,
    Runc,
    Crun,
}

impl Name {
    /// Returns the name in `argv[0]`, which may be a path.
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

    /// Returns the default log format of the runtime with this name.
    pub(super) fn log_format(self) -> Format {
        match self {
            Name::Crun => Format::Plain,
            Name::Orlop | Name::Runc => Format::Text,
        }
    }

    /// Returns the version of the runtime with this name that orlop's command line and results
    /// follow.
    fn version(self) -> &'static str {
        match self {
            Name::Orlop => env!("CARGO_PKG_VERSION"),
            Name::Runc => "1.5.0",
            Name::Crun => "1.29",
        }
    }
}

/// Returns the handler that crun would choose for this `argv[0]`: `krun`, or `wasm` for
/// `crun-wasm`. orlop has no handlers. It must refuse such a name, because a container must not run
/// without the virtual machine that the name promises.
pub(super) fn handler_of_program(program: &OsStr) -> Option<&str> {
    let name = Path::new(program).file_name()?.to_str()?;
    let handler = name
        .strip_prefix("crun-")
        .filter(|handler| !handler.is_empty());
    handler.or((name == "krun").then_some(name))
}

/// Renders the version in the format that engines parse. go-runc requires the first line to be
/// runc's, and docker takes the last line with the word "version".
pub(super) fn render_version(name: Name) -> String {
    let mut text = format!("{} version {}\n", name.as_str(), name.version());
    if name != Name::Orlop {
        text += &format!("orlop: {}\n", Name::Orlop.version());
    }
    // The build script or the builder's environment sets the commit. An empty value means none.
    if let Some(commit) = option_env!("ORLOP_COMMIT").filter(|commit| !commit.is_empty()) {
        text += &format!("commit: {commit}\n");
    }
    text + &format!("spec: {SPEC_VERSION}\n")
}
