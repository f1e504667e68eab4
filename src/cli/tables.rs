//! Flags without effect. Callers send them, but `cli.rs` has no field for them.
//! `cli.rs` has the structs for flags with an effect.

use clap::{Arg, ArgAction};

/// One flag of these tables.
pub(super) struct NoEffectFlag {
    /// The commands that have the flag; empty for a global flag.
    pub(super) commands: &'static [&'static str],
    pub(super) long: &'static str,
    /// The name of the flag's value in help; `None` for a switch.
    value: Option<&'static str>,
    help: &'static str,
}

/// Flags without effect. Any value is accepted, because it asks for the usual behaviour or for
/// something that no longer exists.
pub(super) const NO_EFFECT: &[NoEffectFlag] = &[
    NoEffectFlag {
        commands: &[],
        long: "criu",
        value: Some("PATH"),
        help: "no effect: accepted for old callers",
    },
    NoEffectFlag {
        commands: &["create"],
        long: "no-subreaper",
        value: None,
        help: "no effect: create waits for nothing",
    },
    NoEffectFlag {
        commands: &["restore"],
        long: "no-pivot",
        value: None,
        help: "no effect: the root is entered by CRIU",
    },
];

/// Returns the rows of a command, or those of the global flags.
fn no_effect_flags(command: Option<&str>) -> impl Iterator<Item = &'static NoEffectFlag> {
    let has = move |row: &&NoEffectFlag| match command {
        Some(command) => row.commands.contains(&command),
        None => row.commands.is_empty(),
    };
    NO_EFFECT.iter().filter(has)
}

/// Returns the rows of a command, or those of the global flags, as clap arguments.
pub(super) fn clap_args(command: Option<&str>) -> impl Iterator<Item = Arg> {
    no_effect_flags(command).map(|row| {
        let arg = Arg::new(row.long).long(row.long).help(row.help);
        match row.value {
            Some(value) => arg
                .value_name(value)
                .value_parser(clap::value_parser!(std::ffi::OsString)),
            None => arg.action(ArgAction::SetTrue),
        }
    })
}

/// True if a flag has no effect.
pub(super) fn has_no_effect(command: Option<&str>, long: &str) -> bool {
    no_effect_flags(command).any(|row| row.long == long)
}
