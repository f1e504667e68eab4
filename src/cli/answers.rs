//! The output for a command line that runs no command: help, the version, and clap's errors in one
//! line.
//! Errors about words that clap never sees are in `argv` and `resolve`.

use std::ffi::OsStr;
use std::path::Path;

use crate::annotations;
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

/// The version in the format that engines parse. If the program is called as `runc`, the text says
/// runc, which go-runc requires.
pub(super) fn render_version(program: &OsStr) -> String {
    let name = match Path::new(program).file_name() {
        Some(name) if name == "runc" => "runc",
        _ => "orlop",
    };
    let commit = option_env!("ORLOP_COMMIT").map(|commit| format!("commit: {commit}\n"));
    format!(
        "{name} version {}\n{}spec: {SPEC_VERSION}\n",
        env!("CARGO_PKG_VERSION"),
        commit.unwrap_or_default()
    )
}
