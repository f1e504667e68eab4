//! The manual's text about each command: a description, then examples. The flags are not described
//! here.

/// Returns the text about a command.
pub(super) fn text(command: &str) -> Option<&'static str> {
    let text = TEXTS.iter().find(|(name, _)| *name == command);
    text.map(|(_, text)| *text)
}

const TEXTS: &[(&str, &str)] = &[
    (
        "create",
        "Reads the bundle's config.json and sets up everything that it describes. The process of the container waits until `orlop start` lets it run its program.

If something fails, nothing of the container is left.
# Example

    orlop create --bundle /srv/web --pid-file /run/web.pid web
    orlop start web",
    ),
    (
        "start",
        "Runs the startContainer hooks and the program of a container that `orlop create` has made. When the command returns, the program runs.",
    ),
    (
        "state",
        "Prints the state as the runtime specification describes it, as JSON: id, status (creating, created, running, paused or stopped), pid, bundle and annotations.
# Example

    orlop state web | jq -r .status",
    ),
    (
        "kill",
        "Sends TERM, or the signal that is named: `KILL`, `SIGKILL` or `9`.
# Examples

    orlop kill web HUP
    orlop kill --all web KILL",
    ),
    (
        "delete",
        "Removes what is left of a stopped container: its state and its cgroup. Runs the poststop hooks.
# Example

    orlop delete --force web",
    ),
    (
        "run",
        "Does what `orlop create` and `orlop start` do, waits for the process, and removes the container. Signals are passed on. With a terminal in config.json, that of the caller is used.
# Exit status
The code of the container's process; 128 plus the signal if one ended it; 1 if the container could not be run.
# Examples

    orlop run --bundle /srv/web web
    orlop run --detach --bundle /srv/web --pid-file /run/web.pid web",
    ),
    (
        "exec",
        "Runs a further process in a container that runs. Its user, environment and rights are those of config.json unless flags say otherwise, or a file with `--process`.

The flags of this command end at the container's id: what follows belongs to the process.
# Exit status
The code of the process; 128 plus the signal if one ended it; 255 if it could not be run.
# Examples

    orlop exec --tty web sh
    orlop exec --user 1000:1000 --env LANG=C web id",
    ),
    (
        "list",
        "Lists the containers below `--root`, with their status and bundle. On a terminal the columns fit its width, and times are told as `2 hours ago`; elsewhere the table is the one of runc. `--wide` adds the image, or else the name of the bundle, the user in the container, what it uses of memory and processes, and its cgroup. `--watch` prints again when something changes, at most once in a second, until Ctrl-C.
# Example

    orlop list --quiet | xargs -n 1 orlop state",
    ),
    (
        "spec",
        "Writes the configuration of a shell on a terminal, as `runc spec` does. A file that is there is not replaced.",
    ),
    (
        "ps",
        "Prints the lines of ps(1) about the processes of a container. With `--format json`, prints their pids.
# Example

    orlop ps web -o pid,user,args",
    ),
    (
        "pause",
        "Freezes the cgroup of the container. `orlop resume` thaws it.",
    ),
    ("resume", "Thaws a container that `orlop pause` has suspended."),
    (
        "update",
        "Sets new limits, all of them or, if the kernel refuses one, none. Values that are not named stay as they are. -1 means no limit. Bytes may have a unit: k, m or g.

A new `--memory` leaves the limit of swap alone, where runc keeps the old sum of both; `--memory-swap` alone is counted from the memory limit that is in force. A `pids.limit` of 0 is ignored with a warning. A CPU weight ends `cpu.idle`; both at once are refused. Device rules equal to those in force are not set again. `--resources` excludes the other flags.
# Examples

    orlop update --memory 512m --pids-limit 100 web
    echo '{\"cpu\": {\"quota\": 50000}}' | orlop update --resources - web",
    ),
    (
        "mounts",
        "Adds mounts to a container that was created or runs, or removes those that were added. FILE has an array of mounts in the form of config.json. All of them are made or, if one fails, none; `remove` reads the destinations only, and unmounts nothing but what `add` has made.

The mounts are made as by `orlop create`: a missing mount point is made, and no path or link of the container leads out of its root. A procfs or sysfs is refused, since masked and read-only paths would not cover it, and so are a paused container and one without a mount namespace of its own.
# Examples

    echo '[{\"destination\": \"/data\", \"type\": \"bind\", \"source\": \"/srv/data\", \"options\": [\"bind\", \"ro\"]}]' >data.json
    orlop mounts add web data.json
    orlop mounts remove web data.json",
    ),
    (
        "check",
        "Reads the bundle and prints all its problems, without running it: what `create` would refuse, in the same words, and what a look at the bundle and at the host tells. Each has its line and column in config.json, a code of orlop-errors(7) and a hint. With `--host`, another host decides about what is the host's.
# Exit status
0 if there are no errors, perhaps warnings; 1 if there are errors.
# Examples

    orlop check --bundle /srv/web
    ssh node orlop doctor --json >node.json; orlop check --bundle /srv/web --host node.json
    orlop check --json | jq -r '.findings[] | [.line, .column, .code, .msg] | @tsv'",
    ),
    (
        "doctor",
        "Tries what containers need, and tells what this host lacks, each with a hint that names the command or file to change.
# Example

    orlop doctor --json",
    ),
    (
        "inspect",
        "Reads back from the kernel what is in force in a container, and prints it beside what config.json asks for. A difference is marked with `!`, and with `differs` in the JSON. Names that the container has chosen are escaped.
# Example

    orlop inspect --json web | jq '.. | objects | select(.differs == true and has(\"asked\"))'",
    ),
    (
        "events",
        "Prints a JSON object at each interval: what the container uses, with the pressure of each resource. Prints another when the kernel ends a process for lack of memory.
# Example

    orlop events --stats web | jq .data.memory.usage",
    ),
    (
        "features",
        "Prints the structure of features.md of the runtime specification.
# Example

    orlop features | jq -r '.mountOptions[]'",
    ),
    (
        "checkpoint",
        "Calls criu(8), which must be in PATH. The container is removed then, unless `--leave-running` or `--pre-dump` is given. If it fails, the container runs on.
# Example

    orlop checkpoint --image-path /var/tmp/web web
    orlop restore --bundle /srv/web --image-path /var/tmp/web --detach web",
    ),
    (
        "timeline",
        "Draws a file that `--timeline` of create, run, start or exec has written: a bar for each step of orlop, of its child and of the process in between, with the time of each in ms. Tools for Chrome's traces, such as Perfetto, read the file too.

A step that waits for another process is drawn as long as it waits. If the command failed, the last bar of the child is the step that failed.
# Example

    orlop run --timeline /tmp/trace --detach --bundle /srv/web web
    orlop timeline /tmp/trace",
    ),
    (
        "restore",
        "Makes a container from the files of `orlop checkpoint` and a bundle. If it fails, nothing of the container is left.",
    ),
];
