//! Flags and commands that callers send and that `cli.rs` has no field for, and what becomes of them.
//! Not the flags that do something: those are the structs of `cli.rs`.

use std::ffi::OsStr;

use clap::{Arg, ArgAction};

/// One flag of these tables.
pub(super) struct Row {
    /// The commands that have it; empty for a global flag.
    pub(super) commands: &'static [&'static str],
    pub(super) long: &'static str,
    /// The name of its value in help; None for a switch.
    value: Option<&'static str>,
    help: &'static str,
    fate: Fate,
}

/// What becomes of a flag.
enum Fate {
    /// Any value is accepted: it asks for what is so anyway, or for what no longer exists.
    NoEffect,
    /// These values ask for what is so anyway, and are accepted. These (empty: all others) are refused, as not
    /// supported yet; whatever is in neither is a mistake.
    NotYet {
        accepted: &'static [&'static str],
        refused: &'static [&'static str],
    },
}

/// Flags without any effect.
pub(super) const NO_EFFECT: &[Row] = &[
    Row {
        commands: &[],
        long: "criu",
        value: Some("PATH"),
        help: "no effect: accepted for old callers",
        fate: Fate::NoEffect,
    },
    Row {
        commands: &["create"],
        long: "no-subreaper",
        value: None,
        help: "no effect: create waits for nothing",
        fate: Fate::NoEffect,
    },
];

/// Flags that are refused when they ask for something.
pub(super) const NOT_YET: &[Row] = &[
    Row {
        commands: &["update"],
        long: "l3-cache-schema",
        value: Some("SCHEMA"),
        help: "not supported yet: the L3 cache of Intel RDT",
        fate: Fate::NotYet {
            accepted: &[""],
            refused: &[],
        },
    },
    Row {
        commands: &["update"],
        long: "mem-bw-schema",
        value: Some("SCHEMA"),
        help: "not supported yet: the memory bandwidth of Intel RDT",
        fate: Fate::NotYet {
            accepted: &[""],
            refused: &[],
        },
    },
];

/// Commands that other runtimes have. Even their `--help` is refused: engines take its success for support.
pub(super) const NOT_YET_COMMANDS: &[&str] = &["checkpoint", "restore"];

/// The rows of a command, or the global ones.
fn rows(command: Option<&str>) -> impl Iterator<Item = &'static Row> {
    let has = move |row: &&Row| match command {
        Some(command) => row.commands.contains(&command),
        None => row.commands.is_empty(),
    };
    NO_EFFECT.iter().chain(NOT_YET).filter(has)
}

/// The rows of a command, or the global ones, as clap knows flags.
pub(super) fn args(command: Option<&str>) -> impl Iterator<Item = Arg> {
    rows(command).map(|row| {
        let arg = Arg::new(row.long).long(row.long).help(row.help);
        match row.value {
            Some(value) => arg
                .value_name(value)
                .value_parser(clap::value_parser!(std::ffi::OsString)),
            None => arg.action(ArgAction::SetTrue),
        }
    })
}

/// What these tables say of a flag with its final value: None if it isn't in them.
pub(super) fn verdict(
    command: Option<&str>,
    long: &str,
    value: &OsStr,
) -> Option<Result<(), String>> {
    let row = rows(command).find(|row| row.long == long)?;
    let Fate::NotYet { accepted, refused } = row.fate else {
        return Some(Ok(()));
    };
    if accepted.iter().any(|word| value == *word) {
        return Some(Ok(()));
    }
    let known = refused.is_empty() || refused.iter().any(|word| value == *word);
    Some(Err(match (known, row.value) {
        (true, None) => format!("--{long} is not supported yet"),
        (true, Some(_)) => format!("--{long} {value:?} is not supported yet"),
        (false, _) => format!(
            "--{long} {value:?}: expected one of {}",
            accepted
                .iter()
                .chain(refused)
                .filter(|word| word.len() > 1)
                .copied()
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }))
}
