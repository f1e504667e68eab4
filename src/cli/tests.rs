//! Tests of command lines as the engines send them, and of command lines with mistakes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::too_many_lines)]

use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::invocation::{
    CgroupDriver, CheckArgs, Command, CreateArgs, DeleteArgs, EventsArgs, ExecArgs,
    ExecProcessSource, Globals, KillArgs, ListArgs, ProcessFlags, PsArgs, ResourcesSource,
    RootOrigin, RunArgs, SpecArgs, StartArgs, TargetContainers,
};
use crate::sys::Errno;

fn caller() -> CallerEnvironment {
    CallerEnvironment {
        cwd: || Ok(Some("/here".into())),
        honours_runtime_dir: || false,
        runtime_dir: None,
        name: Name::Orlop,
    }
}

#[test]
fn the_default_root_and_the_version_follow_the_name_of_the_program() {
    for (program, name) in [
        ("/usr/bin/runc", Name::Runc),
        ("crun", Name::Crun),
        ("../sbin/crun", Name::Crun),
        ("/runc/other", Name::Orlop),
        ("runc-1.5", Name::Orlop),
        ("", Name::Orlop),
    ] {
        assert_eq!(Name::of_program(program.as_ref()), name, "{program}");
        let version = answers::render_version(name);
        let first = format!("{} version ", name.as_str());
        assert!(version.starts_with(&first), "{version}");
        let caller = || CallerEnvironment { name, ..caller() };
        let globals = parse_argv_for(argv("list"), &caller()).unwrap().globals;
        assert_eq!(globals.root, Path::new("/run").join(name.as_str()));
        let caller = CallerEnvironment {
            honours_runtime_dir: || true,
            runtime_dir: Some("/run/user/7".into()),
            ..caller()
        };
        let globals = parse_argv_for(argv("list"), &caller).unwrap().globals;
        assert_eq!(globals.root, Path::new("/run/user/7").join(name.as_str()));
    }
}

fn argv(line: &str) -> Vec<OsString> {
    std::iter::once("orlop")
        .chain(line.split_whitespace())
        // `''` stands for an empty word, which splitting cannot make.
        .map(|word| word.replace("''", "").into())
        .collect()
}

fn parsed(line: &str) -> Invocation {
    parse_argv_for(argv(line), &caller()).unwrap_or_else(|early| panic!("{line}: {early:?}"))
}

fn usage(line: &str) -> UsageError {
    match parse_argv_for(argv(line), &caller()) {
        Err(EarlyExit::Usage(usage)) => usage,
        other => panic!("{line}: {other:?}"),
    }
}

fn text(line: &str) -> String {
    match parse_argv_for(argv(line), &caller()) {
        Err(EarlyExit::Text(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

fn id(text: &str) -> ContainerId {
    ContainerId::parse(text).unwrap()
}

fn globals(root: &str, log: Option<&str>, format: log::Format) -> Globals {
    Globals {
        root: root.into(),
        root_origin: RootOrigin::Given,
        log: log::Settings {
            file: log.map(PathBuf::from),
            format,
            level: match log {
                Some(_) => log::Level::Error,
                None => log::Level::Warning,
            },
        },
        cgroup_driver: CgroupDriver::default(),
        rootless: RootlessMode::Auto,
    }
}

fn plain() -> Globals {
    Globals {
        root: "/run/orlop".into(),
        root_origin: RootOrigin::Default,
        log: log::Settings {
            level: log::Level::Warning,
            ..log::Settings::default()
        },
        cgroup_driver: CgroupDriver::default(),
        rootless: RootlessMode::Auto,
    }
}

fn create() -> CreateArgs {
    CreateArgs {
        id: id("ID"),
        bundle: "/b".into(),
        config: None,
        console_socket: None,
        pidfd_socket: None,
        pid_file: Some("/b/init.pid".into()),
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        timeline: None,
    }
}

fn file(path: &str) -> ExecProcessSource {
    ExecProcessSource::File {
        path: path.into(),
        tty: false,
    }
}

fn exec(process: ExecProcessSource) -> ExecArgs {
    ExecArgs {
        id: id("ID"),
        process,
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        detach: false,
        preserve_fds: 0,
        cgroup: None,
        ignore_paused: false,
        timeline: None,
    }
}

fn start(timeline: Option<&str>) -> Command {
    Command::Start(StartArgs {
        id: id("ID"),
        timeline: timeline.map(PathBuf::from),
    })
}

fn exec_line(args: &[&str]) -> ProcessFlags {
    ProcessFlags {
        args: args.iter().map(OsString::from).collect(),
        cwd: None,
        env: Vec::new(),
        tty: false,
        user: None,
        additional_gids: Vec::new(),
        caps: Vec::new(),
        no_new_privs: None,
        apparmor: None,
        process_label: None,
    }
}

fn inline(args: &[&str]) -> Command {
    Command::Exec(exec(ExecProcessSource::Line(exec_line(args))))
}

fn kill(signal: i32, all: bool) -> Command {
    let target = TargetContainers::One(id("ID"));
    Command::Kill(KillArgs {
        target,
        signal,
        all,
    })
}

fn inspect(json: bool) -> Command {
    let id = ContainerId::parse("ID").unwrap();
    Command::Inspect(crate::invocation::InspectArgs { id, json })
}

fn list(format: OutputFormat, quiet: bool) -> Command {
    Command::List(ListArgs {
        format,
        quiet,
        wide: false,
        watch: false,
    })
}

fn ps(format: OutputFormat, options: &[&str]) -> Command {
    Command::Ps(PsArgs {
        id: id("ID"),
        format,
        options: options.iter().map(OsString::from).collect(),
    })
}

fn delete(force: bool) -> Command {
    let target = TargetContainers::One(id("ID"));
    Command::Delete(DeleteArgs { target, force })
}

#[test]
fn the_command_lines_of_containerd_mean_what_they_say() {
    let shim = "--root /r/k8s.io --log /b/log.json --log-format json";
    let shared = globals("/r/k8s.io", Some("/b/log.json"), log::Format::Json);
    for (line, command) in [
        (
            "create --bundle /b --pid-file /b/init.pid ID",
            Command::Create(create()),
        ),
        (
            "create --bundle /b --pid-file /b/init.pid --console-socket /s --pidfd-socket /p --no-pivot \
             --no-new-keyring --preserve-fds 2 ID",
            Command::Create(CreateArgs {
                console_socket: Some("/s".into()),
                pidfd_socket: Some("/p".into()),
                no_pivot: true,
                no_new_keyring: true,
                preserve_fds: 2,
                ..create()
            }),
        ),
        ("start ID", start(None)),
        ("start --timeline /t ID", start(Some("/t"))),
        ("timeline /t", Command::Timeline("/t".into())),
        ("delete ID", delete(false)),
        ("delete --force ID", delete(true)),
        ("kill ID 9", kill(9, false)),
        ("kill --all ID 9", kill(9, true)),
        ("pause ID", Command::Pause(id("ID"))),
        ("resume ID", Command::Resume(id("ID"))),
        ("unpause ID", Command::Resume(id("ID"))),
        (
            "exec --process /tmp/runc-process123 --console-socket /s --pidfd-socket /p --detach --pid-file /b/e.pid ID",
            Command::Exec(ExecArgs {
                console_socket: Some("/s".into()),
                pidfd_socket: Some("/p".into()),
                pid_file: Some("/b/e.pid".into()),
                detach: true,
                ..exec(file("/tmp/runc-process123"))
            }),
        ),
        ("state ID", Command::State(id("ID"))),
        ("ps --format json ID", ps(OutputFormat::Json, &[])),
        (
            "ps --format table ID -o pid,cmd",
            ps(OutputFormat::Table, &["-o", "pid,cmd"]),
        ),
        ("list --format=json", list(OutputFormat::Json, false)),
        ("features", Command::Features),
        ("inspect ID", inspect(false)),
        ("inspect --json ID", inspect(true)),
        (
            "check --bundle /b --config c --json --host /h",
            Command::Check(CheckArgs {
                bundle: "/b".into(),
                config: Some("c".into()),
                json: true,
                host: Some("/h".into()),
            }),
        ),
        ("doctor", Command::Doctor { json: false }),
        ("doctor --json", Command::Doctor { json: true }),
        (
            "run --bundle /b --pid-file /b/init.pid --detach -no-subreaper ID",
            Command::Run(RunArgs {
                create: create(),
                detach: true,
                keep: false,
                no_subreaper: true,
            }),
        ),
    ] {
        let globals = shared.clone();
        assert_eq!(
            parsed(&format!("{shim} {line}")),
            Invocation { globals, command },
            "{line}"
        );
    }
    assert_eq!(
        parsed(&format!("{shim} --debug state ID"))
            .globals
            .log
            .level,
        log::Level::Debug
    );
}

#[test]
fn the_command_lines_of_buildkit_and_cri_o_mean_what_they_say() {
    for (line, command) in [
        (
            "run --bundle /b --no-pivot --keep ID",
            Command::Run(RunArgs {
                create: CreateArgs {
                    no_pivot: true,
                    pid_file: None,
                    ..create()
                },
                detach: false,
                keep: true,
                no_subreaper: false,
            }),
        ),
        (
            "exec --process /p --pid-file /f ID",
            Command::Exec(ExecArgs {
                pid_file: Some("/f".into()),
                ..exec(file("/p"))
            }),
        ),
        ("kill ID KILL", kill(9, false)),
        ("kill ID SIGRTMIN+3", kill(37, false)),
        ("kill -a ID 9", kill(9, true)),
        ("kill ID 0", kill(0, false)),
        ("delete --force ID", delete(true)),
        ("exec --process /p ID", Command::Exec(exec(file("/p")))),
    ] {
        let expected = Invocation {
            globals: globals("/r", None, log::Format::Text),
            command,
        };
        assert_eq!(parsed(&format!("--root /r {line}")), expected, "{line}");
    }
}

#[test]
fn the_command_lines_of_conmon_podman_and_buildah_mean_what_they_say() {
    let logging = globals("/r", Some("/l"), log::Format::Json);
    for (line, globals, command) in [
        (
            "--root=/r --log-format=json --log /l create --bundle /b --pid-file /b/init.pid --no-pivot \
             --no-new-keyring --preserve-fds 1 --console-socket /s ID",
            logging.clone(),
            Command::Create(CreateArgs {
                no_pivot: true,
                no_new_keyring: true,
                preserve_fds: 1,
                console_socket: Some("/s".into()),
                ..create()
            }),
        ),
        (
            "--root=/r --log-format=json --log /l exec --pid-file /f --process /p --detach --preserve-fds 1 ID",
            logging,
            Command::Exec(ExecArgs {
                pid_file: Some("/f".into()),
                detach: true,
                preserve_fds: 1,
                ..exec(file("/p"))
            }),
        ),
        // conmon-rs repeats its global flags.
        (
            "--log-level=error --root=/x --root=/r --root=/r create --bundle /b --pid-file /b/init.pid ID",
            Globals {
                log: log::Settings {
                    level: log::Level::Error,
                    ..log::Settings::default()
                },
                ..globals("/r", None, log::Format::Text)
            },
            Command::Create(create()),
        ),
        (
            "--root=/r exec -d --console-socket=/s --tty --pid-file=/f ID ls -la --root=x",
            globals("/r", None, log::Format::Text),
            Command::Exec(ExecArgs {
                pid_file: Some("/f".into()),
                detach: true,
                console_socket: Some("/s".into()),
                ..exec(ExecProcessSource::Line(ProcessFlags {
                    tty: true,
                    ..exec_line(&["ls", "-la", "--root=x"])
                }))
            }),
        ),
        ("kill ID", plain(), kill(15, false)),
        ("kill ID SIGKILL", plain(), kill(9, false)),
        ("start ID", plain(), start(None)),
    ] {
        assert_eq!(parsed(line), Invocation { globals, command }, "{line}");
    }
}

#[test]
fn the_cgroup_driver_has_two_flags() {
    for (line, driver) in [
        ("state ID", CgroupDriver::Cgroupfs),
        ("--systemd-cgroup state ID", CgroupDriver::Systemd),
        (
            "--systemd-cgroup=true --root=/r --systemd-cgroup state ID",
            CgroupDriver::Systemd,
        ),
        (
            "state ID --cgroup-manager=systemd --systemd-cgroup",
            CgroupDriver::Systemd,
        ),
        (
            "--systemd-cgroup=false --cgroup-manager disabled state ID",
            CgroupDriver::Disabled,
        ),
    ] {
        assert_eq!(parsed(line).globals.cgroup_driver, driver, "{line}");
    }
}

#[test]
fn rootless_is_a_switch_or_left_to_us() {
    for (value, meaning) in [
        ("true", RootlessMode::Yes),
        ("1", RootlessMode::Yes),
        ("false", RootlessMode::No),
        ("auto", RootlessMode::Auto),
        ("", RootlessMode::Auto),
    ] {
        let globals = parsed(&format!("--rootless={value} state ID")).globals;
        assert_eq!(globals.rootless, meaning, "{value:?}");
    }
}

#[test]
fn flags_are_written_in_every_way_that_runc_takes() {
    let long = parsed("create --bundle=/b --pid-file=/b/init.pid ID");
    for line in [
        "create -bundle /b -pid-file /b/init.pid ID",
        "create -b /b -pid-file=/b/init.pid ID",
        "create -b=/b --pid-file init.pid --pid-file /b/init.pid ID",
        "create ID --bundle /b --pid-file /b/init.pid",
        "create ID -b /b --pid-file /b/init.pid --no-pivot=false --no-new-keyring=F",
        "create -b /b --no-pivot --no-pivot=0 --pid-file /b/init.pid -- ID",
        "create -b /x --bundle /b/. --pid-file //b//./init.pid ID",
        "create --console-socket= --pidfd-socket '' -b /b --pid-file /b/init.pid ID",
        "--criu /c --rootless=auto --cgroup-manager cgroupfs create --no-subreaper -b /b --pid-file /b/init.pid ID",
        "--systemd-cgroup --systemd-cgroup=false create -b /b --pid-file /b/init.pid ID",
    ] {
        assert_eq!(parsed(line), long, "{line}");
    }
    assert_eq!(parsed("state ID --root /r"), parsed("-root=/r state ID"));
    assert_eq!(
        parsed("list -f json --quiet=t --root /r"),
        parsed("--root=/r list --format=json -q=1")
    );
    assert_eq!(parsed("delete ID -f").command, delete(true));
    assert_eq!(parsed("pause -- -1").command, Command::Pause(id("-1")));
    assert_eq!(parsed("-- pause ID"), parsed("pause ID"));
}

#[test]
fn flags_end_at_the_id_for_exec_kill_and_ps() {
    for (line, command) in [
        ("exec ID ls --help", inline(&["ls", "--help"])),
        ("exec ID -- ls -- -l", inline(&["ls", "--", "-l"])),
        ("exec -- ID ls --", inline(&["ls", "--"])),
        ("exec ID -t", inline(&["-t"])),
        ("exec ID '' x", inline(&["", "x"])),
        ("ps ID -- -aux", ps(OutputFormat::Table, &["-aux"])),
        (
            "ps ID --format json",
            ps(OutputFormat::Table, &["--format", "json"]),
        ),
        ("kill ID -- KILL", kill(9, false)),
    ] {
        assert_eq!(parsed(line).command, command, "{line}");
    }
}

#[test]
fn exec_takes_all_of_a_process_from_flags() {
    let line = "exec -e A=1 --env B=x=y --env=C= --cwd /w -t -u 1000:5 -g 7 --additional-gids=8 -c CAP_KILL \
                --cap CAP_CHOWN --no-new-privs=false --apparmor p --process-label l --preserve-fds 3 --cgroup /sub/a --ignore-paused ID sh -c x";
    let expected = ExecArgs {
        preserve_fds: 3,
        cgroup: Some("sub/a".into()),
        ignore_paused: true,
        ..exec(ExecProcessSource::Line(ProcessFlags {
            cwd: Some("/w".into()),
            env: vec!["A=1".into(), "B=x=y".into(), "C=".into()],
            tty: true,
            user: Some(NumericUser {
                uid: 1000,
                gid: Some(5),
            }),
            additional_gids: vec![7, 8],
            caps: vec!["CAP_KILL".into(), "CAP_CHOWN".into()],
            no_new_privs: Some(false),
            apparmor: Some("p".into()),
            process_label: Some("l".into()),
            ..exec_line(&["sh", "-c", "x"])
        }))
    };
    assert_eq!(parsed(line).command, Command::Exec(expected));
    let Command::Exec(exec) = parsed("exec --no-new-privs ID ls").command else {
        panic!();
    };
    let ExecProcessSource::Line(process) = exec.process else {
        panic!();
    };
    assert_eq!(process.no_new_privs, Some(true));
}

#[test]
fn bytes_that_are_no_text_reach_the_process_and_files() {
    let word = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let mut line = argv("exec ID");
    line.push(word(b"\xff"));
    let Command::Exec(exec) = parse_argv_for(line, &caller()).unwrap().command else {
        panic!();
    };
    let ExecProcessSource::Line(process) = exec.process else {
        panic!();
    };
    assert_eq!(process.args, [word(b"\xff")]);
    let mut line = argv("exec ID ls");
    line.insert(1, word(b"--user=\xff"));
    assert!(matches!(
        parse_argv_for(line, &caller()),
        Err(EarlyExit::Usage(_))
    ));
    let mut line = argv("start");
    line.push(word(b"\xff"));
    let Err(EarlyExit::Usage(usage)) = parse_argv_for(line, &caller()) else {
        panic!();
    };
    assert!(!usage.message.contains('\n'), "{}", usage.message);
}

#[test]
fn relative_paths_are_taken_from_the_callers_directory() {
    let Command::Create(created) = parsed("create --pid-file p ID").command else {
        panic!();
    };
    assert_eq!(created.bundle, PathBuf::from("/here"));
    assert_eq!(created.pid_file, Some("/here/p".into()));
    assert_eq!(
        parsed("--root ./r state ID").globals.root,
        PathBuf::from("/here/r")
    );
    assert_eq!(
        parsed("spec -b x --rootless").command,
        Command::Spec(SpecArgs {
            bundle: "/here/x".into(),
            config: None,
            rootless: true
        })
    );
}

#[test]
fn a_deleted_directory_matters_only_where_it_is_needed() {
    let caller = CallerEnvironment {
        cwd: || Err(Errno::ENOENT),
        ..caller()
    };
    assert!(parse_argv_for(argv("--root /r create -b /b ID"), &caller).is_ok());
    for (line, expected) in [
        (
            "create ID",
            "create: --bundle is not given, and the current directory: getcwd: ENOENT (no such file or directory)",
        ),
        (
            "--root r state ID",
            "state: --root \"r\": the current directory: getcwd: ENOENT (no such file or directory)",
        ),
    ] {
        let Err(EarlyExit::Usage(usage)) = parse_argv_for(argv(line), &caller) else {
            panic!("{line}");
        };
        assert_eq!(usage.message, expected);
    }
}

#[test]
fn the_default_root_is_the_users_own_where_there_is_one() {
    let user = |dir: &str| CallerEnvironment {
        honours_runtime_dir: || true,
        runtime_dir: Some(dir.into()),
        ..caller()
    };
    let globals = parse_argv_for(argv("list"), &user("/run/user/7"))
        .unwrap()
        .globals;
    assert_eq!(globals.root, PathBuf::from("/run/user/7/orlop"));
    assert_eq!(globals.root_origin, RootOrigin::RuntimeDir);
    assert!(matches!(
        parse_argv_for(argv("list"), &user("relative")),
        Err(EarlyExit::Usage(_))
    ));
    assert!(parse_argv_for(argv("--root /r list"), &user("relative")).is_ok());
    let root = CallerEnvironment {
        honours_runtime_dir: || false,
        ..user("/run/user/0")
    };
    let globals = parse_argv_for(argv("kill ID"), &root).unwrap().globals;
    assert_eq!(globals, plain());
}

#[test]
fn mistakes_are_one_line_that_names_the_culprit() {
    for (line, message) in [
        ("--bogus", "unknown flag \"--bogus\""),
        ("--log-formt=json list", "did you mean --log-format?"),
        (
            "crate ID",
            "unknown command \"crate\", did you mean \"create\"?",
        ),
        ("frobnicate", "unknown command \"frobnicate\", see --help"),
        (
            "list --formt json",
            "list: unknown flag \"--formt\", did you mean --format?",
        ),
        ("create --version ID", "create: unknown flag \"--version\""),
        (
            "start -1",
            "start: unknown flag \"-1\", an argument that begins with a dash goes after --",
        ),
        ("exec -ti ID ls", "unknown flag \"-ti\""),
        ("create", "create: missing argument <CONTAINER-ID>"),
        ("kill", "kill: missing argument <CONTAINER-ID>"),
        ("create a b", "create: unexpected argument \"b\""),
        ("kill a 9 b", "kill: unexpected argument \"b\""),
        ("list a", "list: unexpected argument \"a\""),
        ("features a", "features: unexpected argument \"a\""),
        (
            "create --bundle",
            "create: flag needs an argument: --bundle",
        ),
        ("--root", "flag needs an argument: --root"),
        (
            "create --no-pivot=maybe ID",
            "create: --no-pivot \"maybe\": expected true or false",
        ),
        (
            "create --no-pivot= ID",
            "create: --no-pivot \"\": expected true or false",
        ),
        (
            "--log-format xml list",
            "list: --log-format \"xml\": expected text or json",
        ),
        (
            "--log-level loud list",
            "list: --log-level \"loud\": expected error, warning or debug",
        ),
        (
            "list -f xml",
            "list: --format \"xml\": expected table or json",
        ),
        (
            "ps -f xml ID",
            "ps: --format \"xml\": expected table or json",
        ),
        ("--root '' list", "list: --root \"\": expected a directory"),
        ("--root / list", "list: --root \"/\": must not be /"),
        ("--root /a/.. list", "list: --root \"/a/..\": must not be /"),
        ("--root ../.. list", "list: --root \"../..\": must not be /"),
        (
            "start ''",
            "start: <CONTAINER-ID> \"\": invalid container ID format",
        ),
        (
            "start ..",
            "start: <CONTAINER-ID> \"..\": invalid container ID format",
        ),
        (
            "start a/b",
            "start: <CONTAINER-ID> \"a/b\": invalid container ID format",
        ),
        ("kill ID 65", "kill: [SIGNAL] \"65\": unknown signal"),
        ("kill ID -9", "kill: [SIGNAL] \"-9\": unknown signal"),
        ("kill ID ''", "kill: [SIGNAL] \"\": unknown signal"),
        (
            "create --preserve-fds -1 ID",
            "create: --preserve-fds \"-1\": expected a number from 0",
        ),
        (
            "exec -u root ID ls",
            "exec: --user \"root\": expected numeric ids",
        ),
        (
            "exec --user= ID ls",
            "exec: --user \"\": expected numeric ids",
        ),
        (
            "exec -g -1 ID ls",
            "exec: --additional-gids \"-1\": expected numeric ids",
        ),
        ("exec -e A ID ls", "exec: --env \"A\": expected NAME=value"),
        ("exec -e =x ID ls", "exec: --env \"=x\": the name is empty"),
        (
            "exec --cwd w ID ls",
            "exec: --cwd \"w\": expected an absolute path",
        ),
        (
            "exec --cgroup ../x ID ls",
            "exec: --cgroup \"../x\": bad sub cgroup path: \"..\" leads out",
        ),
        ("exec", "exec: missing argument <CONTAINER-ID>"),
        ("exec ID", "exec: exec args cannot be empty"),
        (
            "exec -p /p ID ls",
            "exec: --process and a command exclude each other",
        ),
        (
            "exec -p /p -e A=1 ID",
            "exec: --process and --env exclude each other",
        ),
        (
            "exec --console-socket /s ID ls",
            "cannot use console socket if orlop will not detach or allocate tty",
        ),
        (
            "exec -d --console-socket /s ID ls",
            "cannot use console socket",
        ),
        (
            "exec -d -t ID ls",
            "cannot allocate tty if orlop will detach without setting console socket",
        ),
        ("run --console-socket /s ID", "cannot use console socket"),
        (
            "--systemd-cgroup --cgroup-manager disabled create ID",
            "create: --systemd-cgroup and --cgroup-manager exclude each other",
        ),
        (
            "--cgroup-manager x create ID",
            "--cgroup-manager \"x\": expected cgroupfs, systemd or disabled",
        ),
        (
            "--rootless maybe create ID",
            "--rootless \"maybe\": expected true, false or auto",
        ),
        (
            "restore --lsm-mount-context",
            "flag needs an argument: --lsm-mount-context",
        ),
        (
            "update --memory 5X a",
            "--memory \"5X\": expected a size like",
        ),
        (
            "update --pids-limit 1.5 a",
            "--pids-limit \"1.5\": expected a whole number",
        ),
        (
            "update -r - --pids-limit 5 a",
            "--resources excludes the flags of single limits",
        ),
        ("update", "missing argument <CONTAINER-ID>"),
        (
            "events --interval 5 a",
            "--interval \"5\": expected a duration",
        ),
        (
            "events --interval 0s a",
            "--interval \"0s\": duration interval must be greater than 0",
        ),
    ] {
        let usage = usage(line);
        assert!(usage.message.contains(message), "{line}: {}", usage.message);
        assert!(!usage.message.contains('\n'), "{line}: {}", usage.message);
        let code = if line.starts_with("exec") { 255 } else { 1 };
        assert_eq!(usage.code, code, "{line}");
    }
}

#[test]
fn warnings_are_told_where_nobody_takes_them_for_an_answer_or_an_error() {
    for (line, level) in [
        ("create ID", log::Level::Warning),
        ("run ID", log::Level::Warning),
        ("exec ID true", log::Level::Warning),
        ("update ID", log::Level::Warning),
        ("--log /l create ID", log::Level::Error),
        (
            "--log /l --log-level warning create ID",
            log::Level::Warning,
        ),
        ("--log-level error create ID", log::Level::Error),
        ("state ID", log::Level::Error),
        ("ps ID", log::Level::Error),
        ("list", log::Level::Error),
        ("features", log::Level::Error),
        ("check --bundle /b", log::Level::Error),
        ("doctor", log::Level::Error),
        ("inspect ID", log::Level::Error),
        ("--log-level warning state ID", log::Level::Warning),
    ] {
        let invocation = parsed(&format!("--root /r {line}"));
        assert_eq!(invocation.globals.log.level, level, "{line}");
    }
}

#[test]
fn a_mistake_is_reported_where_the_line_wants_its_log() {
    let expected = log::Settings {
        file: Some("/l".into()),
        format: log::Format::Json,
        level: log::Level::Error,
    };
    for line in [
        "--log /l --log-format json create --bogus ID",
        "--log /l --log-format json create",
        "--log /l --log-format json crate ID",
        "create --log /l --log-format json --root / ID",
    ] {
        assert_eq!(usage(line).log, expected, "{line}");
    }
}

#[test]
fn no_mix_of_words_gives_more_than_one_line_or_an_invalid_result() {
    let words = [
        "create",
        "exec",
        "kill",
        "ps",
        "list",
        "help",
        "ID",
        "-",
        "--",
        "-1",
        "''",
        "-b",
        "--bundle",
        "--root",
        "--root=",
        "--debug=x",
        "-=",
        "--=",
        "=",
        "-h=1",
        "--log-format",
        "-p",
        "--no-new-privs",
        "-e",
        "9",
        "--user=1",
        "-t",
        "--keep",
        "-\u{e9}",
        "\u{2028}",
    ];
    for command in ["", "exec", "create", "kill"] {
        for a in words {
            for b in words {
                let line = format!("{command} {a} {b}");
                match parse_argv_for(argv(&line), &caller()) {
                    Err(EarlyExit::Usage(usage)) => {
                        assert_eq!(usage.message.lines().count(), 1, "{line}: {usage:?}");
                    }
                    Err(EarlyExit::Text(text)) => assert!(!text.is_empty(), "{line}"),
                    Ok(invocation) => {
                        assert!(invocation.globals.root.is_absolute(), "{line}");
                    }
                }
            }
        }
    }
}

#[test]
fn help_and_version_work_everywhere() {
    for line in [
        "", "-h", "--help", "help", "h", "-help", "--debug", "-?", "--usage",
    ] {
        let help = text(line);
        assert!(help.contains("Usage: orlop"), "{line}: {help}");
        assert!(
            help.contains("--criu") && help.contains("no effect"),
            "{help}"
        );
    }
    for name in [
        "create",
        "start",
        "state",
        "kill",
        "delete",
        "run",
        "exec",
        "list",
        "spec",
        "ps",
        "pause",
        "resume",
        "features",
        "check",
        "doctor",
        "inspect",
        "checkpoint",
        "restore",
    ] {
        for line in [
            format!("{name} -h"),
            format!("{name} --help"),
            format!("help {name}"),
            format!("--root /r {name} --debug -h"),
        ] {
            let help = text(&line);
            assert!(
                help.contains(&format!("Usage: orlop {name}")),
                "{line}: {help}"
            );
        }
    }
    for line in ["--version", "-v", "-V", "-version", "--root /r --version"] {
        let version = text(line);
        assert!(version.starts_with("orlop version "), "{version}");
        assert!(version.ends_with("spec: 1.3.0\n"), "{version}");
    }
}

#[test]
fn the_grammar_is_sound() {
    full_grammar().debug_assert();
}

#[test]
fn update_reads_every_flag_and_leaves_alone_what_is_not_named() {
    let update = |line: &str| match parsed(line).command {
        Command::Update(update) => update.resources,
        other => panic!("{line}: {other:?}"),
    };
    let all = "update --blkio-weight 500 --cpu-period 1000 --cpu-quota -1 --cpu-burst 5 --cpu-share 1024 \
        --cpu-rt-period 0 --cpu-rt-runtime 0 --cpuset-cpus 0-1 --cpuset-mems 0 --cpu-idle 1 --kernel-memory 1k \
        --kernel-memory-tcp 1k --memory 64M --memory-reservation 32m --memory-swap=-1 --pids-limit 7 a";
    let flags = |resources: serde_json::Value| {
        ResourcesSource::Flags(Box::new(serde_json::from_value(resources).unwrap()))
    };
    let limits = serde_json::json!({
        "blockIO": {"weight": 500},
        "cpu": {
            "period": 1000, "quota": -1, "burst": 5, "shares": 1024, "realtimePeriod": 0,
            "realtimeRuntime": 0, "cpus": "0-1", "mems": "0", "idle": 1,
        },
        "memory": {
            "kernel": 1024, "kernelTCP": 1024, "limit": 64 << 20, "reservation": 32 << 20, "swap": -1,
        },
        "pids": {"limit": 7},
    });
    assert_eq!(update(all), flags(limits));
    let memory = flags(serde_json::json!({"memory": {"limit": -1}}));
    assert_eq!(update("update a -m -1"), memory);
    assert_eq!(update("update a --memory -1 --cpu-quota ''"), memory);
    assert_eq!(update("update --resources=- a"), ResourcesSource::Stdin);
    let schemata = |line: &str| match parsed(line).command {
        Command::Update(update) => (update.schemata.l3_cache, update.schemata.mem_bw),
        other => panic!("{line}: {other:?}"),
    };
    let both = (Some("L3:0=f".into()), Some("MB:0=20".into()));
    assert_eq!(
        schemata("update -r - --l3-cache-schema L3:0=f --mem-bw-schema=MB:0=20 a"),
        both
    );
    assert_eq!(schemata("update --l3-cache-schema '' a"), (None, None));
    assert_eq!(
        update("update -r new.json a"),
        ResourcesSource::File("/here/new.json".into())
    );
}

#[test]
fn events_come_every_five_seconds_unless_said_otherwise() {
    for (line, stats, interval) in [
        ("events a", false, 5000),
        ("events --interval=100ms a", false, 100),
        ("events --stats a", true, 5000),
    ] {
        let events = EventsArgs {
            id: id("a"),
            stats,
            interval: std::time::Duration::from_millis(interval),
        };
        assert_eq!(parsed(line).command, Command::Events(events), "{line}");
    }
}
