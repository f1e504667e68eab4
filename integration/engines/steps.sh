# Variables are shared with `run`; some are expanded in the container.
# shellcheck shell=bash disable=SC2034,SC2154,SC2016
# Steps that pass or fail, and what they have in common. Sourced by `run`.

passed=0 failed=0 skipped=0
output=/tmp/step-output

# step NAME PATTERN CMD...: passes if the command ends with 0 and a line of its output matches; an
# empty pattern asks for none. Another status than 0 stands before the pattern, as `=N`.
step() {
    local name=$1 status=0 want=0 began
    shift
    if [[ $1 =~ ^=([0-9]+)$ ]]; then
        want=${BASH_REMATCH[1]}
        shift
    fi
    local pattern=$1
    shift
    began=$(date +%s%N)
    timeout --kill-after=5 120 "$@" >"$output" 2>&1 </dev/null || status=$?
    local took=$((($(date +%s%N) - began) / 1000000))
    if [ "$status" = "$want" ] && { [ -z "$pattern" ] || grep -Eq -e "$pattern" "$output"; }; then
        passed=$((passed + 1))
        echo "passed  $name ($took ms)"
        return 0
    fi
    failed=$((failed + 1))
    echo "failed  $name ($took ms): exit status $status, wanted $want and /$pattern/"
    tail -n 12 "$output" | cut -c1-400 | sed 's/^/        /'
    return 1
}

skip() {
    skipped=$((skipped + 1))
    echo "SKIPPED $1: $2"
}

# can JQ-FILTER: succeeds if `features` of the runtime matches.
can() { "$RUNTIME" features 2>/dev/null | jq -e "$1" >/dev/null 2>&1; }

# inspected NAME ID [DIFFERENCES]: what `inspect` says of an engine's container is what /proc and its cgroup say, and these entries differ
# from config.json.
inspected() {
    local directory
    directory=$(find /run -path "*/$2/state.json" -printf '%h\n' -quit)
    if ! "$RUNTIME" inspect --help >/dev/null 2>&1; then
        skip "$1" "the runtime has no such command"
        return
    fi
    step "$1" "^differences: ${3:-none}\$" python3 ./inspected.py "$RUNTIME" "${directory%/*}" "$2"
}

closing() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ] && [ "$passed" != 0 ]
}

# make_archive FILE NAME [COMMAND]: an image in the form of `docker save`, of the machine's busybox.
# COMMAND is a list in JSON.
make_archive() {
    local dir layer id config digest applet command=${3:-'["/bin/sh"]'}
    dir=$(mktemp -d)
    mkdir -p "$dir"/layer/{bin,dev,etc,proc,root,run,sys,tmp,var,usr/lib,usr/share/zoneinfo/Etc}
    cp /bin/busybox "$dir/layer/bin/"
    for applet in $(busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$dir/layer/bin/$applet"
    done
    chmod 1777 "$dir/layer/tmp"
    printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$dir/layer/etc/passwd"
    # The image has other files where the host's links would lead if they were followed in the
    # image.
    echo 'of the image' | tee "$dir/layer/usr/lib/os-release" >"$dir/layer/usr/share/zoneinfo/Etc/UTC"
    printf 'root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n' >"$dir/layer/etc/group"
    layer=$dir/layer.tar
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$dir/layer" -cf "$layer" .
    id=$(sha256sum <"$layer" | cut -d' ' -f1)
    config=$(jq -cn --arg id "sha256:$id" --argjson command "$command" '{architecture: "amd64", os: "linux", created: "1970-01-01T00:00:00Z",
        config: {Env: ["PATH=/bin"], Cmd: $command, WorkingDir: "/"}, rootfs: {type: "layers", diff_ids: [$id]},
        history: [{created: "1970-01-01T00:00:00Z", created_by: "hand"}]}')
    digest=$(printf '%s' "$config" | sha256sum | cut -d' ' -f1)
    printf '%s' "$config" >"$dir/$digest.json"
    jq -cn --arg config "$digest.json" --arg name "$2" '[{Config: $config, RepoTags: [$name], Layers: ["layer.tar"]}]' >"$dir/manifest.json"
    tar -C "$dir" -cf "$1" manifest.json "$digest.json" layer.tar
    chmod 644 "$1"
    rm -rf "$dir"
}

# host_paths NAME CMD...: steps whose volumes are the host's root and files that are symbolic links
# on the host. CMD runs a container with the words that follow it; @FROM in them stands for the path
# of the host and @TO for that in the container.
host_paths() {
    local name=$1
    shift
    volume "$name with the host's root" '^orlop-vm systemd .*Read-only' / /host "$@" \
        sh -c 'echo $(cat /host/etc/hostname /host/proc/1/comm; touch /host/written 2>&1)'
    volume "$name with /etc/os-release" "^$(grep ^ID= /etc/os-release)\$" /etc/os-release /there "$@" cat /there
    volume "$name with /etc/localtime" '^TZif$' /etc/localtime /there "$@" sh -c 'head -c 4 /there; echo'
}

volume() {
    local name=$1 pattern=$2 from=$3 to=$4
    shift 4
    set -- "${@//@FROM/$from}"
    step "$name" "$pattern" "${@//@TO/$to}"
}

# The output of this command in a container with the limits of `limits`: memory.max, pids.max and
# cpu.max of its own cgroup.
read_limits='cd /sys/fs/cgroup; echo $(cat memory.max pids.max cpu.max)'
