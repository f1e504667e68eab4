//! The table of codes. Each kind of error and warning has a stable word, a phase, a sentence and a
//! hint.
//! `places`, `diagnosis` and `cmd::diagnose` choose the code of an error.

/// The part of a command in which an error occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    CommandLine,
    Parse,
    Plan,
    Host,
    State,
    Cgroup,
    Clone,
    Ids,
    Namespaces,
    Mount,
    Devices,
    Hooks,
    Process,
    Seccomp,
    Exec,
    Terminal,
    Network,
    Checkpoint,
    Run,
}

impl Phase {
    /// Returns the word for the phase in log records and reports.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Phase::CommandLine => "command-line",
            Phase::Parse => "parse",
            Phase::Plan => "plan",
            Phase::Host => "host",
            Phase::State => "state",
            Phase::Cgroup => "cgroup",
            Phase::Clone => "clone",
            Phase::Ids => "ids",
            Phase::Namespaces => "namespaces",
            Phase::Mount => "mount",
            Phase::Devices => "devices",
            Phase::Hooks => "hooks",
            Phase::Process => "process",
            Phase::Seccomp => "seccomp",
            Phase::Exec => "exec",
            Phase::Terminal => "terminal",
            Phase::Network => "network",
            Phase::Checkpoint => "checkpoint",
            Phase::Run => "run",
        }
    }
}

/// A row of the table of codes.
pub(crate) struct Row {
    /// The stable word: lower case, with hyphens.
    pub(crate) word: &'static str,
    pub(crate) phase: Phase,
    /// A sentence that describes what has happened.
    pub(crate) sentence: &'static str,
    /// A command to run or a file to change. Empty if there is no general advice.
    pub(crate) hint: &'static str,
}

/// Declares the codes and their rows, so that no code lacks a row.
macro_rules! codes {
    ($($code:ident $word:literal $phase:ident $sentence:literal $hint:literal;)*) => {
        /// The kind of an error or a warning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $($code),*
        }

        impl Code {
            /// All codes, in the order of the table.
            pub(crate) const ALL: &[Code] = &[$(Code::$code),*];

            /// Returns the code's row of the table.
            pub(crate) fn row(self) -> &'static Row {
                match self {
                    $(Code::$code => &Row {
                        word: $word,
                        phase: Phase::$phase,
                        sentence: $sentence,
                        hint: $hint,
                    }),*
                }
            }
        }
    };
}

codes! {
    // The command line.
    Usage "usage" CommandLine
        "The command line has a mistake."
        "`orlop COMMAND --help` lists the flags and arguments";
    // Reading config.json, or another file of JSON.
    ConfigMissing "config-missing" Parse
        "config.json can't be opened."
        "name the bundle's directory with --bundle; `orlop spec` writes a config.json to start from";
    ConfigUnreadable "config-unreadable" Parse
        "config.json is no regular file, is too large, or can't be read."
        "put a regular file of at most 16 MiB in the bundle";
    ConfigSyntax "config-syntax" Parse
        "config.json is not one JSON object in UTF-8, or an object has a key twice."
        "correct the text at the line and column that the message names";
    MissingField "missing-field" Parse
        "A field that the specification requires is missing."
        "add the field; `orlop spec` writes a complete configuration to compare with";
    WrongType "wrong-type" Parse
        "A value has another JSON type than the specification says, or is not one of its words."
        "see config.md and config-linux.md of the runtime specification for the field";
    UnknownProperty "unknown-property" Parse
        "A property is not in the specification. It is ignored."
        "remove the property, or correct its name";
    ValueIgnored "value-ignored" Plan
        "A value is left out or changed, and the container runs without it."
        "";
    InvalidVersion "invalid-version" Parse
        "ociVersion is missing, or not of the major version 1."
        "set ociVersion to the version of the specification that the file follows, such as \"1.2.0\"";
    // Decisions about config.json.
    InvalidRoot "invalid-root" Plan
        "The path of the root file system can't be used."
        "set root.path to the directory of the root file system, relative to the bundle or absolute";
    InvalidArguments "invalid-arguments" Plan
        "process.args can't be a program and its arguments."
        "give the program as process.args[0], followed by its arguments";
    InvalidEnvironment "invalid-environment" Plan
        "An entry of process.env can't be passed to a program."
        "write each entry as NAME=value";
    InvalidDirectory "invalid-directory" Plan
        "process.cwd can't be a working directory."
        "set process.cwd to an absolute path in the container, such as \"/\"";
    InvalidUser "invalid-user" Plan
        "A user or group id, or the umask, is out of range."
        "";
    UnmappedId "unmapped-id" Plan
        "An id is not mapped into the user namespace of the container."
        "add the id to linux.uidMappings or linux.gidMappings, or use an id that they hold";
    InvalidCapability "invalid-capability" Plan
        "A capability is unknown, or the caller does not have it. It is left out."
        "`capsh --print` lists what the caller has, capabilities(7) the names";
    InvalidRlimit "invalid-rlimit" Plan
        "A resource limit of the process is contradictory."
        "";
    InvalidTerminal "invalid-terminal" Plan
        "The size of the terminal is out of range."
        "";
    InvalidScheduling "invalid-scheduling" Plan
        "The scheduler, priority, CPUs or memory policy can't be set as written."
        "sched(7), ioprio_set(2) and set_mempolicy(2) have the possible values";
    InvalidProcess "invalid-process" Plan
        "A value of process can't be used."
        "";
    ModuleOff "lsm-off" Plan
        "A label or profile needs a security module that is off on this host."
        "remove the label or profile, or start the kernel with the module in its parameter lsm=";
    InvalidMount "invalid-mount" Plan
        "An entry of mounts is contradictory, forbidden, or has an unknown option."
        "";
    InvalidHook "invalid-hook" Plan
        "An entry of hooks can't be run."
        "give an absolute path, args with the program's name first, and a timeout above 0";
    InvalidAnnotation "invalid-annotation" Plan
        "An annotation can't be used."
        "";
    InvalidHostName "invalid-host-name" Plan
        "The host name or domain name can't be set."
        "add {\"type\": \"uts\"} to linux.namespaces, and keep the name below 65 bytes";
    InvalidNamespace "invalid-namespace" Plan
        "The namespaces contradict each other, or other values that need them."
        "";
    UserNamespaceNeeded "user-namespace-needed" Plan
        "A value or the caller needs a user namespace."
        "add {\"type\": \"user\"} and id mappings (`orlop spec --rootless` writes them), or run as root";
    InvalidIdMapping "invalid-id-mapping" Plan
        "The id mappings are missing, contradictory or out of place."
        "give linux.uidMappings and linux.gidMappings together with a new user namespace";
    InvalidDevice "invalid-device" Plan
        "A device node can't be made as written."
        "";
    InvalidDeviceRule "invalid-device-rule" Plan
        "A rule of linux.resources.devices can't be applied."
        "give type a, b or c, and access of the letters r, w and m";
    InvalidLimit "invalid-limit" Plan
        "A limit of linux.resources is out of range or contradictory."
        "";
    SwapBelowMemory "swap-below-memory" Plan
        "The limit of memory and swap together is below that of memory."
        "set memory.swap to at least memory.limit: it counts both; -1 is no limit";
    CgroupV1Only "cgroup-v1-only" Plan
        "A limit exists in cgroup v1 only."
        "remove the field; files of cgroup v2 can be set in linux.resources.unified";
    InvalidCgroupPath "invalid-cgroup-path" Plan
        "linux.cgroupsPath can't be a cgroup's path."
        "use an absolute path below the cgroup mount, without \"..\"";
    SystemdCgroupPath "systemd-cgroup-path" Plan
        "linux.cgroupsPath has not the form that the systemd driver needs."
        "write linux.cgroupsPath as \"SLICE:PREFIX:NAME\", or leave out --systemd-cgroup";
    InvalidSeccomp "invalid-seccomp" Plan
        "The seccomp profile is contradictory or can't be compiled."
        "";
    UnknownSyscall "unknown-syscall" Plan
        "The seccomp profile names a system call that this runtime does not know. It is skipped."
        "correct the name; a name of a newer kernel needs a newer runtime";
    InvalidSysctl "invalid-sysctl" Plan
        "A kernel parameter is not one of the container's own namespaces."
        "add the namespace that owns the parameter, or set the parameter on the host with sysctl(8)";
    InvalidPath "invalid-path" Plan
        "An entry of maskedPaths or readonlyPaths can't be used."
        "give absolute paths of the container";
    InvalidPropagation "invalid-propagation" Plan
        "linux.rootfsPropagation can't be applied."
        "use shared, slave, private or unbindable, and a mount namespace of the container's own";
    InvalidRdt "invalid-rdt" Plan
        "linux.intelRdt is contradictory, or no resctrl is mounted."
        "mount -t resctrl resctrl /sys/fs/resctrl";
    InvalidNetDevice "invalid-net-device" Plan
        "linux.netDevices can't be applied."
        "";
    InvalidValue "invalid-value" Plan
        "Another value of config.json can't be used."
        "";
    ForeignSection "foreign-section" Plan
        "The configuration has a section for another platform. It is ignored."
        "remove the section";
    // The host.
    KernelTooOld "kernel-too-old" Host
        "The kernel lacks system calls that are needed."
        "install a kernel of at least the version that the message names";
    NoProcfs "no-procfs" Host
        "/proc is not a procfs."
        "mount -t proc proc /proc";
    NoCgroup2 "no-cgroup-v2" Host
        "No cgroup v2 hierarchy is mounted."
        "boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified";
    HostLacks "host-lacks" Host
        "Another host lacks what the configuration needs."
        "";
    NotProtected "not-protected" Host
        "The runtime can't protect its own binary from the container."
        "keep the binary on a file system that the caller may read, on a kernel with memfd_create(2)";
    NotPermitted "not-permitted" Host
        "The kernel refuses an operation for lack of privileges."
        "run as root, or with a configuration of `orlop spec --rootless`";
    OutOfMemory "out-of-memory" Host
        "The kernel has no memory for an operation."
        "raise the memory limit, or free memory of the host (`free -h`)";
    OutOfSpace "out-of-space" Host
        "A file system has no space or no inodes left."
        "`df -h` and `df -i` show which; --root may name a directory elsewhere";
    OutOfDescriptors "out-of-descriptors" Host
        "The caller, or the host, can open no more files."
        "raise `ulimit -n`, or the sysctl fs.file-max";
    ReadOnly "read-only-file-system" Host
        "A file system is read-only."
        "remount it writable, or name a directory elsewhere";
    KernelLacks "kernel-lacks" Host
        "The kernel does not know a system call, or a security filter of the host hides it."
        "allow the call in the filter under which orlop itself runs, or use a newer kernel";
    CallFailed "system-call-failed" Run
        "A system call failed for a reason that has no code of its own."
        "";
    OutputFailed "output-failed" Run
        "Standard output can't be written."
        "";
    Interrupted "interrupted" Run
        "A signal ended the command, which has undone its work."
        "";
    KilledForMemory "killed-for-memory" Run
        "The kernel killed a process of the container, which was at its memory limit."
        "raise linux.resources.memory.limit (`orlop update --memory`), or let the program use less";
    NoProcess "no-process" Run
        "The container has no process to start."
        "add process to config.json, and create the container again";
    SeveralFailed "several-failed" Run
        "The action failed for several containers."
        "";
    PsFailed "ps-failed" Run
        "ps(1) can't be run, or its output can't be read."
        "install procps, and keep the PID column in the options";
    FileExists "file-exists" Run
        "The file to write exists."
        "remove the file, or name another with --config";
    // The state of containers.
    ContainerAbsent "container-absent" State
        "There is no container of this id."
        "`orlop list` shows the containers; --root must be the one of create";
    ContainerExists "container-exists" State
        "A container of this id exists."
        "`orlop delete ID` removes it once it has stopped (--force ends it); or take another id";
    ContainerBusy "container-busy" State
        "Another command works on the container."
        "wait for the other command, or end it";
    RecordCorrupt "record-corrupt" State
        "The record of the container can't be read."
        "`orlop delete --force ID` ends the container and removes its record";
    NoRecord "no-record" State
        "The container is being created, or its creation was killed."
        "wait for create; `orlop delete --force ID` removes what a killed create left";
    RecordForeign "record-foreign" State
        "Another runtime made the container."
        "use the runtime that made it, or another --root";
    StateUntrusted "state-untrusted" State
        "Others than the caller may write to the directory of the state."
        "chown the directory to the caller and remove the write permission of others (chmod go-w)";
    NoStateRoot "no-state-root" State
        "The directory of --root does not exist."
        "name the directory that create was given";
    StateFailed "state-failed" State
        "The state of the container can't be read or written."
        "look at the directory of --root: its owner, its space (`df -h`, `df -i`)";
    NotRunning "not-running" State
        "The container has no running process."
        "`orlop state ID` shows its status";
    WrongState "wrong-state" State
        "The container is not in a state that allows the command."
        "`orlop state ID` shows its status";
    NotPaused "not-paused" State
        "The container is not paused."
        "`orlop state ID` shows its status";
    NotStopped "not-stopped" State
        "A container that has not stopped can't be deleted."
        "`orlop kill ID KILL` ends it; `orlop delete --force ID` does both";
    Paused "paused" State
        "The container is paused."
        "`orlop resume ID`, or --ignore-paused";
    NotReachable "not-reachable" State
        "Only root can enter the container."
        "start the container first, or run the command as root";
    Undying "undying" State
        "A process does not end after it was killed."
        "`ps -o pid,stat,wchan PID` shows where it waits; retry the command later";
    NoStartSocket "no-start-socket" State
        "Init no longer waits for start."
        "delete the container and create it again";
    // cgroups.
    CgroupOccupied "cgroup-occupied" Cgroup
        "The cgroup of the container has processes already."
        "take another linux.cgroupsPath, or delete the container that uses it";
    CgroupFrozen "cgroup-frozen" Cgroup
        "The cgroup of the container is frozen."
        "write 0 into its cgroup.freeze, or take another linux.cgroupsPath";
    CgroupBusy "cgroup-busy" Cgroup
        "The cgroup can't be removed: it is in use."
        "end the processes that the message names, and retry";
    CgroupTimeout "cgroup-timeout" Cgroup
        "The cgroup did not freeze or thaw in time, or another has undone that."
        "`cat cgroup.procs` in the cgroup, and `ps -o pid,stat,wchan`, show what waits";
    ControllerMissing "controller-missing" Cgroup
        "A controller for a limit is not available in the cgroup."
        "write +CONTROLLER into cgroup.subtree_control of the cgroups above; with systemd set Delegate=yes";
    CgroupFileMissing "cgroup-file-missing" Cgroup
        "This kernel has no file for a limit."
        "remove the limit, or use a kernel that has it";
    LimitRefused "limit-refused" Cgroup
        "The kernel refused a limit."
        "";
    LimitInUse "limit-in-use" Cgroup
        "More is in use than the new limit allows."
        "free memory in the container first, or unset checkBeforeUpdate";
    LimitTooLow "limit-too-low" Cgroup
        "A limit is too low for the container to start."
        "raise the limit that the message names";
    CgroupDenied "cgroup-denied" Cgroup
        "The caller may not make or change the cgroup."
        "systemctl edit user@.service: [Service] Delegate=yes; or use --systemd-cgroup, or run as root";
    DeviceRulesFailed "device-rules-failed" Cgroup
        "The device rules can't be loaded into the kernel."
        "run as root of the host; the kernel needs CONFIG_CGROUP_BPF";
    CgroupFailed "cgroup-failed" Cgroup
        "An operation on the cgroup failed."
        "";
    NoCgroup "no-cgroup" Cgroup
        "The container has no cgroup, which the command needs."
        "create the container as root or with --systemd-cgroup";
    SystemdUnreachable "systemd-unreachable" Cgroup
        "systemd can't be reached over D-Bus."
        "leave out --systemd-cgroup where systemd does not run; users need $XDG_RUNTIME_DIR and dbus";
    SystemdSilent "systemd-silent" Cgroup
        "systemd did not answer in time."
        "`systemctl list-jobs` and `journalctl -b _PID=1` show what it does";
    SystemdUnitExists "systemd-unit-exists" Cgroup
        "systemd has a unit of the container's name already."
        "delete the other container, or `systemctl stop UNIT`";
    SystemdFailed "systemd-failed" Cgroup
        "systemd refused the unit of the container."
        "`systemctl status UNIT` and `journalctl -u UNIT` show the reason";
    // Processes and namespaces.
    UserNamespaceDenied "user-namespace-denied" Clone
        "The kernel makes no user namespace for the caller."
        "raise the sysctl user.max_user_namespaces";
    CloneFailed "clone-failed" Clone
        "The process of the container can't be cloned."
        "";
    ProcessLimit "process-limit" Clone
        "No more processes may be made."
        "raise linux.resources.pids.limit, process.rlimits or `ulimit -u`";
    IdMapToolMissing "id-map-tool-failed" Ids
        "newuidmap or newgidmap is missing, or refuses the mapping."
        "apt install uidmap; the ids must be granted in /etc/subuid and /etc/subgid (`usermod --add-subuids`)";
    IdMapRefused "id-map-refused" Ids
        "The kernel refuses the id mapping."
        "a user may map the own ids only; others need newuidmap and ranges in /etc/subuid and /etc/subgid";
    NamespaceUnusable "namespace-unusable" Namespaces
        "A namespace can't be opened or joined."
        "the path must be a namespace of its type that exists, such as /proc/PID/ns/net";
    NamespaceFailed "namespace-failed" Namespaces
        "A new namespace can't be set up."
        "";
    NoOwnMounts "no-own-mounts" Namespaces
        "The container has no mount namespace of its own, which the command needs."
        "create the container with a mount namespace in linux.namespaces";
    SysctlFailed "sysctl-failed" Namespaces
        "A kernel parameter can't be set."
        "`sysctl KEY` shows if this kernel has the parameter";
    // The root file system.
    RootMissing "root-missing" Mount
        "The root file system does not exist."
        "unpack the image into the directory of root.path, or correct root.path";
    RootFailed "root-failed" Mount
        "The root file system can't be opened or mounted."
        "root.path must be a directory that the caller and the container's user can reach";
    MountSourceMissing "mount-source-missing" Mount
        "The source of a bind mount does not exist."
        "create the source on the host, or remove the mount";
    MountDenied "mount-denied" Mount
        "The kernel does not permit a mount."
        "in a user namespace, bind the host's file system instead of a new one, with the options of its mount";
    MountFailed "mount-failed" Mount
        "A mount can't be made."
        "";
    PathFailed "path-failed" Mount
        "A path can't be masked or made read-only."
        "";
    DeviceFailed "device-failed" Devices
        "A device node can't be made."
        "";
    NetDeviceFailed "net-device-failed" Network
        "A network device can't be moved into the container."
        "`ip link` lists the devices of the host";
    RdtFailed "rdt-failed" Process
        "The resctrl group of the container can't be set up."
        "";
    // Hooks.
    HookFailed "hook-failed" Hooks
        "A hook failed."
        "run the hook by hand, with the container's state JSON on its standard input";
    HookTimeout "hook-timeout" Hooks
        "A hook did not end within its timeout."
        "raise the timeout of the hook, or mend what the hook waits for";
    // The process.
    ProcessFailed "process-failed" Process
        "An attribute of the process can't be set."
        "";
    DirectoryFailed "directory-failed" Process
        "The working directory can't be entered."
        "create the directory in the root file system, and let the process' user search it";
    LabelFailed "lsm-failed" Process
        "The AppArmor profile or SELinux label can't be set."
        "`aa-status` lists the loaded profiles; apparmor_parser(8) loads one";
    SeccompFailed "seccomp-failed" Seccomp
        "The seccomp filter can't be set."
        "";
    SeccompAgent "seccomp-agent-failed" Seccomp
        "The seccomp agent can't be reached."
        "start the agent that listens at linux.seccomp.listenerPath";
    SeccompKills "seccomp-kills" Seccomp
        "The seccomp filter kills the process before its program runs."
        "allow execve, exit_group, close, write, sendmsg, sendto and what the message names in linux.seccomp";
    ProgramMissing "program-missing" Exec
        "The program is not in the container."
        "correct process.args[0] or PATH in process.env, or install the program in the root file system";
    ProgramDenied "program-denied" Exec
        "The process' user may not execute the program."
        "chmod +x the program in the root file system; its directories need the permission to search";
    ProgramNoexec "program-noexec" Exec
        "The program is on a file system that is mounted noexec."
        "mount the file system of the program without noexec";
    InterpreterMissing "interpreter-missing" Exec
        "The interpreter that the script names is not in the container."
        "install the interpreter in the root file system, or correct the script's first line";
    InterpreterLine "interpreter-line" Exec
        "The script's first line ends with a carriage return, which belongs to the interpreter's name."
        "convert the script to Unix line ends: sed -i 's/\\r$//' FILE";
    LoaderMissing "loader-missing" Exec
        "The dynamic loader that the program names is not in the container."
        "use an image with the C library that the program is built for (glibc or musl), or link it statically";
    WrongArchitecture "wrong-architecture" Exec
        "The program is built for another architecture."
        "use an image of this machine's architecture (`uname -m`), or register qemu in binfmt_misc";
    NotAProgram "not-a-program" Exec
        "The file is no program: neither ELF nor a script that begins with #!."
        "begin a script with #!/bin/sh, or name the interpreter in process.args[0]";
    ExecFailed "exec-failed" Exec
        "The program can't be executed."
        "";
    InitDied "init-died" Exec
        "The process ended before its program ran."
        "`dmesg` shows if the kernel killed it; `orlop --debug` shows the last steps";
    // Terminals and descriptors.
    ConsoleSocket "console-socket" Terminal
        "--console-socket is missing where a terminal needs it, or given where there is none."
        "use --console-socket with --detach if process.terminal is true, and only then";
    TerminalFailed "terminal-failed" Terminal
        "The terminal can't be made or handed on."
        "";
    DescriptorMissing "descriptor-missing" Process
        "A descriptor to pass on is not open."
        "open the descriptors from 3 up before the call, or lower --preserve-fds or LISTEN_FDS";
    // Checkpoint and restore.
    CriuMissing "criu-missing" Checkpoint
        "CRIU is not installed, or can't do what is asked."
        "apt install criu; `criu check --all` shows what this kernel supports";
    CriuFailed "criu-failed" Checkpoint
        "CRIU failed."
        "see dump.log or restore.log in the directory of --work-path or --image-path";
    NoCheckpoint "no-checkpoint" Checkpoint
        "The container uses a feature that can't be checkpointed."
        "create the container without the feature that the message names";
}

impl Code {
    /// Returns the stable word.
    pub(crate) fn word(self) -> &'static str {
        self.row().word
    }

    /// Finds the code with this word.
    pub(crate) fn named(word: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.word() == word)
    }

    /// Returns the general hint, if there is one.
    pub(crate) fn hint(self) -> Option<&'static str> {
        Some(self.row().hint).filter(|hint| !hint.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_has_a_word_of_its_own_and_a_sentence() {
        let mut words = HashSet::new();
        for code in Code::ALL {
            let Row {
                word,
                sentence,
                hint,
                ..
            } = code.row();
            assert!(words.insert(*word), "{word} stands twice");
            let is_kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(word.chars().all(is_kebab), "{word}");
            assert!(!word.starts_with('-') && !word.ends_with('-') && !word.contains("--"));
            let ends = sentence.ends_with('.') && !sentence.contains('\n');
            assert!(ends && sentence.len() <= 100, "{word}: {sentence}");
            // After the prefix `hint: `, the hint fills one line of a terminal or a little more.
            assert!(!hint.ends_with('.') && hint.len() <= 120, "{word}: {hint}");
        }
    }
}
