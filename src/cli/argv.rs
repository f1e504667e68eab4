//! Sorts the words of a command line into flags and positional arguments by runc's rules.
//! clap and `resolve` interpret the values.
//!
//! runc accepts forms that clap doesn't: long flags with one dash, repeated flags (the last one
//! counts), `=false` for switches, and global flags after the command. For `exec`, `kill` and `ps`,
//! the flags end at the container id.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use clap::ArgAction;

use super::{commands, pages, values};
use crate::manual::{TOPICS, Topic};

/// Commands whose flags end at the container id, because the rest belongs to another program.
const COMMANDS_STOPPING_AT_ID: &[&str] = &["exec", "kill", "ps"];

/// A sorted command line.
#[derive(Debug, Default)]
pub(super) struct SortedLine {
    pub(super) globals: Vec<GivenFlag>,
    pub(super) command: Option<String>,
    pub(super) flags: Vec<GivenFlag>,
    pub(super) positionals: Vec<OsString>,
    pub(super) wants: LineRequest,
}

/// The request of a command line: to run a command, or to print a text.
#[derive(Debug, Default)]
pub(super) enum LineRequest {
    #[default]
    Command,
    Help,
    Topic(&'static Topic),
    Version,
    /// Print a file that packages install. `None`: print the names of these files.
    File(Option<OsString>),
}

/// A flag that was given, by its long name. A switch has the value `true` or `false`.
#[derive(Debug)]
pub(super) struct GivenFlag {
    pub(super) long: String,
    pub(super) value: OsString,
    pub(super) kind: ValueKind,
}

/// How a flag takes its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// A switch, which is true if it is given.
    Switch,
    /// A switch that distinguishes absent from false.
    Tristate,
    /// Takes the text after `=`, or else the next word.
    Value,
    /// As `Value`, but repeated values add up.
    Values,
}

impl SortedLine {
    /// Sorts the words after the program's name into this line. After an error, the line holds the
    /// words before the error. Adds the command to `grammar`, which begins with the global flags.
    pub(super) fn sort_words(
        &mut self,
        words: impl Iterator<Item = OsString>,
        grammar: &mut clap::Command,
    ) -> Result<(), String> {
        let mut words = words;
        let mut flags_end = false;
        while let Some(word) = words.next() {
            if flags_end || !is_flag(&word) {
                flags_end = self.take_positional(word, grammar, &mut words)? || flags_end;
            } else if word == "--" {
                flags_end = true;
            } else {
                self.take_flag(&word, grammar, &mut words)?;
            }
            if !matches!(self.wants, LineRequest::Command) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Handles a word that isn't a flag. Returns true if no flags can follow.
    fn take_positional(
        &mut self,
        word: OsString,
        grammar: &mut clap::Command,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<bool, String> {
        let Some(command) = &self.command else {
            self.take_command(&word, grammar, words)?;
            return Ok(false);
        };
        self.positionals.push(word);
        if !COMMANDS_STOPPING_AT_ID.contains(&command.as_str()) {
            return Ok(false);
        }
        let rest = words.skip_while({
            let mut first = true;
            move |word| std::mem::take(&mut first) && word == "--"
        });
        self.positionals.extend(rest);
        Ok(true)
    }

    fn take_command(
        &mut self,
        word: &OsStr,
        grammar: &mut clap::Command,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), String> {
        if word == "help" || word == "h" {
            self.wants = LineRequest::Help;
            return match words.next() {
                Some(word) => self.take_command(&word, grammar, words),
                None => Ok(()),
            };
        }
        if matches!(self.wants, LineRequest::Help)
            && let Some(topic) = TOPICS.iter().find(|topic| word == topic.name)
        {
            self.wants = LineRequest::Topic(topic);
            return Ok(());
        }
        if word == pages::COMMAND {
            self.wants = LineRequest::File(words.next());
            return Ok(());
        }
        if let Some(command) = commands::find_command(word) {
            *grammar = std::mem::take(grammar).subcommand(command.grammar());
            self.command = Some(command.name.to_owned());
            return Ok(());
        }
        let topics = TOPICS.iter().map(|topic| topic.name);
        let topics = topics.filter(|_| matches!(self.wants, LineRequest::Help));
        let hint = closest_name(
            &word.to_string_lossy(),
            commands::command_names().chain(topics),
        );
        Err(format!(
            "unknown command {word:?}{}",
            hint.map(|name| format!(", did you mean {name:?}?"))
                .unwrap_or_else(|| ", see --help".into())
        ))
    }

    /// Handles a flag, and takes its value from the words that follow.
    fn take_flag(
        &mut self,
        word: &OsStr,
        grammar: &clap::Command,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), String> {
        let (name, attached) = split_flag(word);
        if ["h", "help", "?", "usage"].iter().any(|help| name == *help) {
            self.wants = LineRequest::Help;
            return Ok(());
        }
        let of_command = (self.command.as_deref()).and_then(|name| grammar.find_subcommand(name));
        if of_command.is_none() && ["v", "V", "version"].iter().any(|version| name == *version) {
            self.wants = LineRequest::Version;
            return Ok(());
        }
        let local = of_command.and_then(|command| find_flag(command, name));
        let global = || find_flag(grammar, name).filter(|arg| is_accepted_after_command(arg));
        let Some(arg) = local.or_else(global) else {
            return Err(unknown_flag_error(word, name, grammar, of_command));
        };
        let long = arg.get_long().unwrap_or_default().to_owned();
        let kind = value_kind(arg);
        let value = match (kind, attached) {
            (ValueKind::Switch | ValueKind::Tristate, None) => "true".into(),
            (ValueKind::Switch | ValueKind::Tristate, Some(value)) => values::parse_switch(value)
                .ok_or_else(|| format!("--{long} {value:?}: expected true or false"))?
                .to_string()
                .into(),
            (ValueKind::Value | ValueKind::Values, Some(value)) => value.to_owned(),
            (ValueKind::Value | ValueKind::Values, None) => words
                .next()
                .ok_or_else(|| format!("flag needs an argument: --{long}"))?,
        };
        if takes_text(arg) && value.to_str().is_none() {
            return Err(format!("--{long} {value:?}: not UTF-8"));
        }
        let given = if local.is_some() {
            &mut self.flags
        } else {
            &mut self.globals
        };
        if kind != ValueKind::Values {
            given.retain(|earlier| earlier.long != long);
        }
        given.push(GivenFlag { long, value, kind });
        Ok(())
    }
}

/// True if a word is a flag. `-` alone isn't a flag but a name for stdin.
fn is_flag(word: &OsStr) -> bool {
    word.len() > 1 && word.as_bytes().starts_with(b"-")
}

/// Returns a flag's name without dashes, and the value after `=`.
fn split_flag(word: &OsStr) -> (&OsStr, Option<&OsStr>) {
    let bytes = word.as_bytes();
    let bare = (bytes.strip_prefix(b"--"))
        .or_else(|| bytes.strip_prefix(b"-"))
        .unwrap_or(bytes);
    let mut parts = bare.splitn(2, |byte| *byte == b'=');
    let name = parts.next().unwrap_or_default();
    (OsStr::from_bytes(name), parts.next().map(OsStr::from_bytes))
}

fn find_flag<'a>(command: &'a clap::Command, name: &OsStr) -> Option<&'a clap::Arg> {
    let is_named = |arg: &&clap::Arg| {
        arg.get_long().is_some_and(|long| name == long)
            || arg
                .get_short()
                .is_some_and(|short| name == short.encode_utf8(&mut [0; 4]) as &str)
    };
    command.get_arguments().find(is_named)
}

/// True if a global flag is also accepted after the command. `--version` isn't accepted there,
/// because it would replace the command.
fn is_accepted_after_command(arg: &clap::Arg) -> bool {
    arg.get_id() != "version"
}

fn value_kind(arg: &clap::Arg) -> ValueKind {
    match arg.get_action() {
        ArgAction::SetTrue => ValueKind::Switch,
        ArgAction::Append => ValueKind::Values,
        _ if arg.is_require_equals_set() => ValueKind::Tristate,
        _ => ValueKind::Value,
    }
}

fn takes_text(arg: &clap::Arg) -> bool {
    arg.get_value_parser().type_id() != TypeId::of::<OsString>()
}

fn unknown_flag_error(
    word: &OsStr,
    name: &OsStr,
    grammar: &clap::Command,
    command: Option<&clap::Command>,
) -> String {
    let flag = OsStr::from_bytes(
        word.as_bytes()
            .split(|byte| *byte == b'=')
            .next()
            .unwrap_or_default(),
    );
    let names = (command.into_iter().chain([grammar]))
        .flat_map(clap::Command::get_arguments)
        .filter(|arg| is_accepted_after_command(arg))
        .filter_map(clap::Arg::get_long);
    let hint = match closest_name(&name.to_string_lossy(), names) {
        Some(name) => format!("did you mean --{name}?"),
        None => "an argument that begins with a dash goes after --".into(),
    };
    format!("unknown flag {flag:?}, {hint}")
}

/// Returns the name nearest to a mistyped name, if at most a third of the letters differ.
fn closest_name<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::levenshtein(typed, name), name))
        .filter(|(distance, name)| distance * 3 <= name.chars().count())
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_names_are_suggested() {
        let names = ["create", "start", "ps"];
        assert_eq!(closest_name("crate", names.into_iter()), Some("create"));
        assert_eq!(closest_name("frobnicate", names.into_iter()), None);
        assert_eq!(closest_name("x", names.into_iter()), None);
    }
}
