//! The command line: runc's flags as clap structs, and the conversion of argv to an `Invocation`.
//! No other module uses clap. clap provides types and help texts; `argv` sorts the words.

mod answers;
mod argv;
mod commands;
mod completions;
mod criu;
mod pages;
mod resolve;
mod resources;
mod tables;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args as _, FromArgMatches as _};

use crate::invocation::{
    CgroupDriver, Change, ContainerId, Invocation, NumericUser, OutputFormat, RootlessMode,
};
use crate::log;
use crate::manual::{TOPICS, Topic};
use answers::Name;
use argv::{LineRequest, SortedLine, ValueKind};
use resolve::CallerEnvironment;

/// A command line that runs no command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EarlyExit {
    /// Help or the version: printed to stdout with exit code 0.
    Text(String),
    /// A mistake in the command line.
    Usage(UsageError),
}

/// A mistake in the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct UsageError {
    /// One line that names the flag, the argument or the command.
    pub(crate) message: String,
    /// The exit code. It is 255 for exec, because lower codes are those of its process; otherwise
    /// 1.
    pub(crate) code: u8,
    /// The log that reports the mistake, from the part of the command line that could be read.
    pub(crate) log: log::Settings,
}

struct AllFlags {
    globals: GlobalFlags,
    command: CommandFlags,
}

#[derive(clap::Args)]
struct GlobalFlags {
    /// directory for the state of containers [default: /run/orlop, or $XDG_RUNTIME_DIR/orlop for
    /// users]
    #[arg(long, value_name = "DIR")]
    root: Option<OsString>,
    /// file to append log records to, or journald:ID, or syslog:ID
    #[arg(long, value_name = "FILE")]
    log: Option<OsString>,
    /// text or json
    #[arg(long, value_name = "FORMAT", value_parser = values::parse_log_format)]
    log_format: Option<log::Format>,
    /// lowest level to log: error, warning or debug [default: warning, or error with --log]
    #[arg(long, value_name = "LEVEL", value_parser = values::parse_log_level)]
    log_level: Option<log::Level>,
    /// log everything, to stderr without --log
    #[arg(long)]
    debug: bool,
    /// same as --cgroup-manager systemd
    #[arg(long)]
    systemd_cgroup: bool,
    /// cgroup driver: cgroupfs (this program), systemd, or disabled (no cgroup)
    #[arg(long, value_name = "NAME", value_parser = values::parse_cgroup_driver)]
    cgroup_manager: Option<CgroupDriver>,
    /// run without a cgroup if none can be made: true, false, or auto (for unprivileged callers)
    #[arg(long, value_name = "BOOL", value_parser = values::parse_rootless)]
    rootless: Option<RootlessMode>,
}

/// One variant for each command. The descriptions of the commands are in `commands`.
enum CommandFlags {
    Create(CreateFlags),
    Start(StartFlags),
    State(IdOnlyFlags),
    Kill(KillFlags),
    Delete(DeleteFlags),
    Run(RunFlags),
    Exec(ExecFlags),
    List(ListFlags),
    Spec(SpecFlags),
    Ps(PsFlags),
    Pause(IdOnlyFlags),
    Resume(IdOnlyFlags),
    Update(resources::UpdateFlags),
    Mounts(MountsFlags),
    Events(resources::EventsFlags),
    Features,
    Inspect(InspectFlags),
    Check(CheckFlags),
    Doctor(DoctorFlags),
    Checkpoint(criu::CheckpointFlags),
    Restore(criu::RestoreFlags),
    Timeline(TimelineFlags),
}

#[derive(clap::Args)]
struct IdOnlyFlags {
    #[arg(value_name = "CONTAINER-ID", value_parser = ContainerId::parse)]
    id: ContainerId,
}

#[derive(clap::Args)]
struct StartFlags {
    #[arg(value_name = "CONTAINER-ID", value_parser = ContainerId::parse)]
    id: ContainerId,
    /// file for a trace of what was done when: `orlop timeline FILE` draws it
    #[arg(long, value_name = "FILE")]
    timeline: Option<OsString>,
}

#[derive(clap::Args)]
struct TimelineFlags {
    #[arg(value_name = "FILE")]
    file: OsString,
}

#[derive(clap::Args)]
struct CreateFlags {
    #[arg(value_name = "CONTAINER-ID", value_parser = ContainerId::parse)]
    id: ContainerId,
    /// bundle directory [default: the current one]
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<OsString>,
    /// the configuration's file, from the bundle directory [default: config.json]
    #[arg(long, short = 'f', value_name = "FILE")]
    config: Option<OsString>,
    /// UNIX socket that receives the terminal
    #[arg(long, value_name = "PATH")]
    console_socket: Option<OsString>,
    /// UNIX socket that receives a pidfd of the init process
    #[arg(long, value_name = "PATH")]
    pidfd_socket: Option<OsString>,
    /// file to write the pid to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<OsString>,
    /// move the rootfs over / instead of pivoting, for a root on the initramfs
    #[arg(long)]
    no_pivot: bool,
    /// let the container keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// pass on N file descriptors after stdio and $LISTEN_FDS
    #[arg(long, value_name = "N", value_parser = values::parse_fd_count)]
    preserve_fds: Option<u32>,
    /// file for a trace of what was done when: `orlop timeline FILE` draws it
    #[arg(long, value_name = "FILE")]
    timeline: Option<OsString>,
}

#[derive(clap::Args)]
struct RunFlags {
    #[command(flatten)]
    create: CreateFlags,
    /// return as soon as the container runs
    #[arg(long, short)]
    detach: bool,
    /// leave the container in place after it has exited
    #[arg(long)]
    keep: bool,
    /// don't adopt and reap the orphans of the container
    #[arg(long)]
    no_subreaper: bool,
}

#[derive(clap::Args)]
struct KillFlags {
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
    /// name or number
    #[arg(value_name = "SIGNAL", default_value = "TERM", value_parser = values::parse_signal)]
    signal: i32,
    /// signal every process of the container; no error if the container is not running
    #[arg(long, short)]
    all: bool,
    /// CONTAINER-ID is a regular expression: signal all whose ids it matches
    #[arg(long, short)]
    regex: bool,
}

#[derive(clap::Args)]
struct DeleteFlags {
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
    /// kill the container first; no error if it does not exist
    #[arg(long, short)]
    force: bool,
    /// CONTAINER-ID is a regular expression: delete all whose ids it matches
    #[arg(long, short)]
    regex: bool,
}

#[derive(clap::Args)]
struct ExecFlags {
    #[arg(value_name = "CONTAINER-ID", value_parser = ContainerId::parse)]
    id: ContainerId,
    /// command and its arguments, unless --process is given
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    args: Vec<OsString>,
    /// UNIX socket that receives the terminal
    #[arg(long, value_name = "PATH")]
    console_socket: Option<OsString>,
    /// UNIX socket that receives a pidfd of the process
    #[arg(long, value_name = "PATH")]
    pidfd_socket: Option<OsString>,
    /// working directory in the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<OsString>,
    /// add to the environment
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<OsString>,
    /// allocate a terminal
    #[arg(long, short)]
    tty: bool,
    /// numeric user and group
    #[arg(long, short, value_name = "UID[:GID]", value_parser = values::parse_user)]
    user: Option<NumericUser>,
    /// add a group
    #[arg(long, short = 'g', value_name = "GID", value_parser = values::parse_id)]
    additional_gids: Vec<u32>,
    /// JSON file that describes the process
    #[arg(long, short, value_name = "FILE")]
    process: Option<OsString>,
    /// return as soon as the process runs
    #[arg(long, short)]
    detach: bool,
    /// file to write the pid to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<OsString>,
    /// set no_new_privs
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    no_new_privs: Option<bool>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// add a capability
    #[arg(long, short, value_name = "CAP")]
    cap: Vec<String>,
    /// pass on N file descriptors after stdio and $LISTEN_FDS
    #[arg(long, value_name = "N", value_parser = values::parse_fd_count)]
    preserve_fds: Option<u32>,
    /// run in an existing cgroup below the container's
    #[arg(long, value_name = "PATH")]
    cgroup: Option<OsString>,
    /// exec in a paused container too
    #[arg(long)]
    ignore_paused: bool,
    /// file for a trace of what was done when: `orlop timeline FILE` draws it
    #[arg(long, value_name = "FILE")]
    timeline: Option<OsString>,
}

#[derive(clap::Args)]
struct MountsFlags {
    #[arg(value_name = "add|remove", value_parser = values::change)]
    change: Change,
    #[arg(value_name = "CONTAINER-ID", value_parser = ContainerId::parse)]
    id: ContainerId,
    /// JSON file: an array of mounts as in config.json; remove reads their destinations only
    #[arg(value_name = "FILE")]
    file: OsString,
}

#[derive(clap::Args)]
struct ListFlags {
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table", value_parser = values::parse_format)]
    format: OutputFormat,
    /// print ids only
    #[arg(long, short)]
    quiet: bool,
    /// print more columns: image, user, memory, processes, cgroup
    #[arg(long)]
    wide: bool,
    /// print again when something changes, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

#[derive(clap::Args)]
struct PsFlags {
    #[arg(value_name = "CONTAINER-ID", value_parser = ContainerId::parse)]
    id: ContainerId,
    /// options of ps(1) [default: -ef]
    #[arg(
        value_name = "PS-OPTION",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<OsString>,
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table", value_parser = values::parse_format)]
    format: OutputFormat,
}

#[derive(clap::Args)]
struct InspectFlags {
    #[arg(value_name = "CONTAINER-ID", value_parser = ContainerId::parse)]
    id: ContainerId,
    /// print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct CheckFlags {
    /// bundle directory [default: the current one]
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<OsString>,
    /// the configuration's file, from the bundle directory [default: config.json]
    #[arg(long, short = 'f', value_name = "FILE")]
    config: Option<OsString>,
    /// print JSON
    #[arg(long)]
    json: bool,
    /// the output of `doctor --json` on the host where the container shall run [default: this host]
    #[arg(long, value_name = "FILE")]
    host: Option<OsString>,
}

#[derive(clap::Args)]
struct DoctorFlags {
    /// print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct SpecFlags {
    /// bundle directory [default: the current one]
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<OsString>,
    /// the file to write, from the bundle directory [default: config.json]
    #[arg(long, short = 'f', value_name = "FILE")]
    config: Option<OsString>,
    /// for a container of a user without privileges
    #[arg(long)]
    rootless: bool,
}

/// True if any word of the command line is a command whose processes enter a container.
///
/// The command line isn't parsed yet. A false positive costs a tenth of a millisecond.
pub(crate) fn may_enter_container(argv: &[OsString]) -> bool {
    argv.iter().any(|word| commands::enters_container(word))
}

/// True if a word of the command line may be `--timeline`. The command line isn't parsed yet.
pub(crate) fn wants_timeline(argv: &[OsString]) -> bool {
    let is_flag = |word: &OsString| {
        let word = word.as_encoded_bytes();
        word.starts_with(b"--timeline") || word.starts_with(b"-timeline")
    };
    argv.iter().any(is_flag)
}

/// Reads a command line, the program's name included.
pub(crate) fn parse_argv(argv: Vec<OsString>) -> Result<Invocation, EarlyExit> {
    let program = argv.first().map_or(OsStr::new(""), OsString::as_os_str);
    if let Some(handler) = answers::handler_of_program(program) {
        return Err(EarlyExit::Usage(UsageError {
            message: format!("called as {program:?}: orlop has no handler {handler:?}"),
            code: 1,
            log: log::Settings::default(),
        }));
    }
    let name = Name::of_program(program);
    parse_argv_for(argv, &CallerEnvironment::probe(name))
}

fn parse_argv_for(
    argv: Vec<OsString>,
    caller: &CallerEnvironment,
) -> Result<Invocation, EarlyExit> {
    let words = argv.into_iter().skip(1);
    let mut grammar = global_grammar();
    let mut line = SortedLine::default();
    let read = line.sort_words(words, &mut grammar);
    let usage = |line: &SortedLine, problem: String| {
        let (prefix, code) = match line.command.as_deref() {
            Some(command) => (
                format!("{command}: "),
                if command == "exec" { 255 } else { 1 },
            ),
            None => (String::new(), 1),
        };
        EarlyExit::Usage(UsageError {
            message: format!("{prefix}{problem}"),
            code,
            log: read_log_settings(line, caller.name),
        })
    };
    read.map_err(|problem| usage(&line, problem))?;
    match (&line.wants, &line.command) {
        (LineRequest::Version, _) => {
            return Err(EarlyExit::Text(answers::render_version(caller.name)));
        }
        (LineRequest::Help, command) => {
            return Err(EarlyExit::Text(answers::render_help(
                full_grammar(),
                command.as_deref(),
            )));
        }
        (LineRequest::Topic(topic), _) => return Err(EarlyExit::Text(topic.plain())),
        (LineRequest::File(file), _) => {
            let file = file.as_ref().map(|file| file.to_string_lossy());
            let text = pages::generate(file.as_deref());
            return Err(text.map_or_else(|problem| usage(&line, problem), EarlyExit::Text));
        }
        (LineRequest::Command, None) => {
            return Err(EarlyExit::Text(answers::render_help(full_grammar(), None)));
        }
        (LineRequest::Command, Some(_)) => {}
    }
    let words = canonical_words(&line).map_err(|problem| usage(&line, problem))?;
    grammar
        .try_get_matches_from_mut(words)
        .and_then(|mut given| {
            Ok(AllFlags {
                globals: GlobalFlags::from_arg_matches_mut(&mut given)?,
                command: commands::read_flags(&mut given)?,
            })
        })
        .map_err(|error| answers::explain_clap_error(&error))
        .and_then(|flags| {
            resolve::resolve_invocation(flags, read_log_settings(&line, caller.name), caller)
        })
        .map_err(|problem| usage(&line, problem))
}

/// The global flags, including those of `tables`. Only these are known before the command.
fn global_grammar() -> clap::Command {
    let bare = clap::Command::new("orlop")
        .about("A low-level OCI container runtime")
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .subcommand_required(true);
    let version = clap::Arg::new("version")
        .long("version")
        .short('v')
        .action(clap::ArgAction::SetTrue)
        .help("Print version");
    GlobalFlags::augment_args(bare)
        .args(tables::clap_args(None))
        .arg(version)
}

/// The global flags with all commands. Used only for help, because building the flags of every
/// command takes longer than a short command.
fn full_grammar() -> clap::Command {
    let topics = TOPICS.iter().map(|topic| {
        let Topic { name, about, .. } = topic;
        format!("  {name:12} {about}\n")
    });
    let topics: String = topics.collect();
    global_grammar()
        .subcommands(commands::command_grammars())
        .after_help(format!("More by `orlop help TOPIC`:\n{topics}"))
}

/// Returns the line in a form that clap can't misread: each flag once, its value after `=`,
/// positional arguments after `--`.
fn canonical_words(line: &SortedLine) -> Result<Vec<OsString>, String> {
    let command = line.command.as_deref();
    let mut words = vec![OsString::from("orlop")];
    for (given, owner) in [(&line.globals, None), (&line.flags, command)] {
        for flag in given {
            if tables::has_no_effect(owner, &flag.long) {
                continue;
            }
            let mut word = OsString::from(format!("--{}", flag.long));
            if flag.kind != ValueKind::Switch {
                word.push("=");
                word.push(&flag.value);
            } else if flag.value == "false" {
                continue;
            }
            words.push(word);
        }
        if owner.is_none() {
            words.extend(command.map(OsString::from));
        }
    }
    words.push("--".into());
    words.extend(line.positionals.iter().cloned());
    Ok(words)
}

/// Commands that print JSON. They write no warnings to stderr by default, because callers parse
/// their stdout and stderr together.
const COMMANDS_WITHOUT_WARNINGS: [&str; 7] = [
    "state", "ps", "list", "inspect", "features", "check", "doctor",
];

/// Reads the log settings before clap runs, so that mistakes in the command line are logged too.
/// Ignores bad values, because clap refuses them later.
fn read_log_settings(line: &SortedLine, name: Name) -> log::Settings {
    let value = |long| line.globals.iter().find(|given| given.long == long);
    let text = |long| value(long).and_then(|given| given.value.to_str());
    let debug = text("debug") == Some("true");
    let level = text("log-level").and_then(|text| values::parse_log_level(text).ok());
    let file = value("log")
        .map(|given| PathBuf::from(given.value.clone()))
        .filter(|file| !file.as_os_str().is_empty());
    let silent = |command: &str| COMMANDS_WITHOUT_WARNINGS.contains(&command);
    let default = match line.command.as_deref() {
        Some(command) if file.is_none() && !silent(command) => log::Level::Warning,
        // Engines regard everything in the log file as the error.
        _ => log::Level::Error,
    };
    log::Settings {
        file,
        format: match text("log-format").map(values::parse_log_format) {
            Some(Ok(log::Format::Json)) => log::Format::Json,
            _ => name.log_format(),
        },
        level: if debug {
            log::Level::Debug
        } else {
            level.unwrap_or(default)
        },
    }
}
