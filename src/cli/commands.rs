//! The table of commands: names, descriptions and flags. The flags are built only for the command
//! that is given.

use std::ffi::OsStr;

use clap::{ArgMatches, Args, FromArgMatches as _};

use super::{
    CheckFlags, CommandFlags, CreateFlags, DeleteFlags, DoctorFlags, ExecFlags, IdOnlyFlags,
    InspectFlags, KillFlags, ListFlags, MountsFlags, PsFlags, RunFlags, SpecFlags, StartFlags,
    TimelineFlags, criu, resources, tables,
};

/// A command.
pub(super) struct CommandRow {
    pub(super) name: &'static str,
    about: &'static str,
    flags: fn(clap::Command) -> clap::Command,
    read: fn(&mut ArgMatches) -> Result<CommandFlags, clap::Error>,
    /// True if a process of this program enters a container before it execs. In that case, `seal`
    /// must protect the binary first.
    enters_container: bool,
}

/// All commands, in the order of help.
const COMMANDS: &[CommandRow] = &[
    CommandRow {
        name: "create",
        about: "create a container",
        flags: CreateFlags::augment_args,
        read: |given| CreateFlags::from_arg_matches_mut(given).map(CommandFlags::Create),
        enters_container: true,
    },
    CommandRow {
        name: "start",
        about: "start the process of a created container",
        flags: StartFlags::augment_args,
        read: |given| StartFlags::from_arg_matches_mut(given).map(CommandFlags::Start),
        enters_container: false,
    },
    CommandRow {
        name: "state",
        about: "print the state of a container",
        flags: IdOnlyFlags::augment_args,
        read: |given| IdOnlyFlags::from_arg_matches_mut(given).map(CommandFlags::State),
        enters_container: false,
    },
    CommandRow {
        name: "kill",
        about: "send a signal to the init process of a container, or to all its processes",
        flags: KillFlags::augment_args,
        read: |given| KillFlags::from_arg_matches_mut(given).map(CommandFlags::Kill),
        enters_container: false,
    },
    CommandRow {
        name: "delete",
        about: "delete a container",
        flags: DeleteFlags::augment_args,
        read: |given| DeleteFlags::from_arg_matches_mut(given).map(CommandFlags::Delete),
        enters_container: false,
    },
    CommandRow {
        name: "run",
        about: "create and start a container",
        flags: RunFlags::augment_args,
        read: |given| RunFlags::from_arg_matches_mut(given).map(CommandFlags::Run),
        enters_container: true,
    },
    CommandRow {
        name: "exec",
        about: "run a further process in a container",
        flags: ExecFlags::augment_args,
        read: |given| ExecFlags::from_arg_matches_mut(given).map(CommandFlags::Exec),
        enters_container: true,
    },
    CommandRow {
        name: "list",
        about: "list the containers of --root",
        flags: ListFlags::augment_args,
        read: |given| ListFlags::from_arg_matches_mut(given).map(CommandFlags::List),
        enters_container: false,
    },
    CommandRow {
        name: "spec",
        about: "write a config.json to start from",
        flags: SpecFlags::augment_args,
        read: |given| SpecFlags::from_arg_matches_mut(given).map(CommandFlags::Spec),
        enters_container: false,
    },
    CommandRow {
        name: "ps",
        about: "list the processes of a container",
        flags: PsFlags::augment_args,
        read: |given| PsFlags::from_arg_matches_mut(given).map(CommandFlags::Ps),
        enters_container: false,
    },
    CommandRow {
        name: "inspect",
        about: "print what is in force in a container, beside what config.json asks for",
        flags: InspectFlags::augment_args,
        read: |given| InspectFlags::from_arg_matches_mut(given).map(CommandFlags::Inspect),
        enters_container: false,
    },
    CommandRow {
        name: "pause",
        about: "suspend all processes of a container",
        flags: IdOnlyFlags::augment_args,
        read: |given| IdOnlyFlags::from_arg_matches_mut(given).map(CommandFlags::Pause),
        enters_container: false,
    },
    CommandRow {
        name: "resume",
        about: "resume all processes of a container",
        flags: IdOnlyFlags::augment_args,
        read: |given| IdOnlyFlags::from_arg_matches_mut(given).map(CommandFlags::Resume),
        enters_container: false,
    },
    CommandRow {
        name: "update",
        about: "change the resource limits of a container",
        flags: resources::UpdateFlags::augment_args,
        read: |given| resources::UpdateFlags::from_arg_matches_mut(given).map(CommandFlags::Update),
        enters_container: false,
    },
    CommandRow {
        name: "mounts",
        about: "add mounts to a container that runs, or remove them",
        flags: MountsFlags::augment_args,
        read: |given| MountsFlags::from_arg_matches_mut(given).map(CommandFlags::Mounts),
        enters_container: true,
    },
    CommandRow {
        name: "events",
        about: "print resource usage and out-of-memory events of a container as JSON",
        flags: resources::EventsFlags::augment_args,
        read: |given| resources::EventsFlags::from_arg_matches_mut(given).map(CommandFlags::Events),
        enters_container: false,
    },
    CommandRow {
        name: "features",
        about: "print the features of this runtime as JSON",
        flags: |command| command,
        read: |_| Ok(CommandFlags::Features),
        enters_container: false,
    },
    CommandRow {
        name: "check",
        about: "print every problem of a bundle, with its place and a hint, without running it",
        flags: CheckFlags::augment_args,
        read: |given| CheckFlags::from_arg_matches_mut(given).map(CommandFlags::Check),
        enters_container: false,
    },
    CommandRow {
        name: "doctor",
        about: "print what this host offers and lacks for containers, with hints",
        flags: DoctorFlags::augment_args,
        read: |given| DoctorFlags::from_arg_matches_mut(given).map(CommandFlags::Doctor),
        enters_container: false,
    },
    CommandRow {
        name: "checkpoint",
        about: "write the processes of a container to files with CRIU, and stop it",
        flags: criu::CheckpointFlags::augment_args,
        read: |given| {
            criu::CheckpointFlags::from_arg_matches_mut(given).map(CommandFlags::Checkpoint)
        },
        enters_container: false,
    },
    CommandRow {
        name: "restore",
        about: "restore a container from a checkpoint",
        flags: criu::RestoreFlags::augment_args,
        read: |given| criu::RestoreFlags::from_arg_matches_mut(given).map(CommandFlags::Restore),
        enters_container: true,
    },
    CommandRow {
        name: "timeline",
        about: "draw what --timeline has recorded of a start",
        flags: TimelineFlags::augment_args,
        read: |given| TimelineFlags::from_arg_matches_mut(given).map(CommandFlags::Timeline),
        enters_container: false,
    },
];

/// Other names of commands.
const ALIASES: &[(&str, &str)] = &[("unpause", "resume")];

impl CommandRow {
    /// Returns the command and its flags, including those of `tables`.
    pub(super) fn grammar(&self) -> clap::Command {
        let aliases = ALIASES.iter().filter(|(_, of)| *of == self.name);
        (self.flags)(clap::Command::new(self.name).about(self.about))
            .visible_aliases(aliases.map(|(alias, _)| *alias))
            .args(tables::clap_args(Some(self.name)))
    }
}

/// Finds a command by one of its names.
pub(super) fn find_command(name: &OsStr) -> Option<&'static CommandRow> {
    let alias = ALIASES.iter().find(|(alias, _)| name == *alias);
    let name = alias.map_or(name, |(_, of)| of.as_ref());
    COMMANDS.iter().find(|row| name == row.name)
}

/// True for the name of a command whose processes enter a container.
pub(super) fn enters_container(name: &OsStr) -> bool {
    find_command(name).is_some_and(|row| row.enters_container)
}

/// Returns the names of all commands.
pub(super) fn command_names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|row| row.name)
}

/// Returns the grammars of all commands.
pub(super) fn command_grammars() -> impl Iterator<Item = clap::Command> {
    COMMANDS.iter().map(CommandRow::grammar)
}

/// Reads the flags of the given command.
pub(super) fn read_flags(given: &mut ArgMatches) -> Result<CommandFlags, clap::Error> {
    let command = given
        .remove_subcommand()
        .and_then(|(name, flags)| Some((find_command(name.as_ref())?, flags)));
    match command {
        Some((row, mut flags)) => (row.read)(&mut flags),
        None => Err(clap::Error::new(clap::error::ErrorKind::MissingSubcommand)),
    }
}
