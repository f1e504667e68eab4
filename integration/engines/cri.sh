# Variables are shared with `run`; some are expanded in the container.
# shellcheck shell=bash disable=SC2034,SC2154,SC2016
# containerd as a kubelet uses it: pods in the host's network, both cgroup drivers.

# cri NAME PATTERN METHOD [JSON]: a step that is one call. The JSON may use $pod, $id and $config of
# here.
cri() {
    local name=$1 want=$2
    shift 2
    if [[ $want == '='* ]]; then
        local pattern=$1
        shift
        set -- "$want" "$pattern" python3 ./cri.py "$1" "$(jq -cn --arg pod "$pod" --arg id "$id" --argjson config "$config" "${2:-{\}}")"
        step "$name" "$@"
    else
        step "$name" "$want" python3 ./cri.py "$1" "$(jq -cn --arg pod "$pod" --arg id "$id" --argjson config "$config" "${2:-{\}}")"
    fi
}

# run_pod NAME SECURITY: sets $config and $pod.
run_pod() {
    config=$(jq -cn --arg name "$1" --arg parent "$parent" --argjson security "$2" '{metadata: {name: $name, uid: $name, namespace: "default"},
        log_directory: "/tmp/pods", linux: {cgroup_parent: $parent, security_context: ({namespace_options: {network: 2, pid: 1}} + $security)}}')
    jq -cn --argjson config "$config" --arg handler "$driver" '{config: $config, runtime_handler: $handler}' >"$work/request"
    step "a pod $2 ($driver)" pod_sandbox_id python3 ./cri.py RunPodSandbox "$(cat "$work/request")" || return
    pod=$(jq -r .pod_sandbox_id "$output")
}

# run_container NAME COMMAND-LINE [MEMBERS]: sets $id. MEMBERS are laid over the rest of the
# container's configuration.
run_container() {
    jq -cn --arg pod "$pod" --argjson config "$config" --arg name "$1" --arg line "$2" --arg image "$image" --argjson members "${3:-{\}}" \
        '{pod_sandbox_id: $pod, sandbox_config: $config, config: ({metadata: {name: $name}, image: {image: $image}, command: ["sh", "-c", $line],
        log_path: ($name + ".log"), linux: {security_context: {namespace_options: {network: 2, pid: 1}}}} * $members)}' >"$work/request"
    step "a container is made: $1 ($driver)" container_id python3 ./cri.py CreateContainer "$(cat "$work/request")"
    id=$(jq -r .container_id "$output")
    cri "it starts: $1 ($driver)" '' StartContainer '{container_id: $id}'
}

# in_container NAME PATTERN COMMAND-LINE: by ExecSync, with the answer in JSON.
in_container() { line=$3 cri "$1 ($driver)" "$2" ExecSync '{container_id: $id, cmd: ["sh", "-c", env.line], timeout: 60}'; }

# ended NAME PATTERN: waits until the container has ended, and wants this in its status.
ended() {
    step "$1 ($driver)" "$2" sh -c 'for i in $(seq 100); do python3 ./cri.py ContainerStatus "$0" >'"$work"'/status && grep "\"state\": 2" '"$work"'/status && exit; sleep 0.2; done; cat '"$work"'/status' \
        "$(jq -cn --arg id "$id" '{container_id: $id}')"
}

remove_container() { cri "it is removed: $1 ($driver)" '' RemoveContainer '{container_id: $id}'; }

mkdir -p /etc/containerd
{
    printf 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "localhost/pause:local"\n'
    printf '[plugins."io.containerd.grpc.v1.cri".containerd]\ndefault_runtime_name = "cgroupfs"\n'
    for driver in cgroupfs systemd; do
        printf '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.%s]\nruntime_type = "io.containerd.runc.v2"\n' "$driver"
        printf '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.%s.options]\nBinaryName = "%s"\nSystemdCgroup = %s\n' \
            "$driver" "$RUNTIME" "$([ "$driver" = systemd ] && echo true || echo false)"
    done
} >/etc/containerd/config.toml
make_archive "$work/pause.tar" localhost/pause:local '["sleep", "1000000"]'
pod='' id='' config='{}'
step "containerd starts" '' systemctl start containerd
step "containerd imports" '' sh -c "ctr -n k8s.io image import $archive && ctr -n k8s.io image import $work/pause.tar"
cri "its version" '"runtime_name": "containerd"' Version

drivers=(cgroupfs)
if can .linux.cgroup.systemd; then drivers+=(systemd); else skip "pods with the systemd driver" "the runtime has none"; fi
for driver in "${drivers[@]}"; do
    parent=/kubepods/pod1
    [ "$driver" = cgroupfs ] || parent=kubepods-pod1.slice
    run_pod "p-$driver" '{}' || continue

    run_container polite 'trap "exit 7" TERM; echo up; while :; do sleep 0.1; done' '{"linux": {"resources": {"memory_limit_in_bytes": 67108864,
        "memory_swap_limit_in_bytes": 67108864, "cpu_quota": 50000, "cpu_period": 100000, "cpu_shares": 512, "oom_score_adj": 500},
        "security_context": {"seccomp": {"profile_type": 0}, "apparmor": {"profile_type": 0}}}}'
    in_container "its limits are in force" '"67108864 50000 100000 59 500\\n"' \
        'cd /sys/fs/cgroup; echo $(cat memory.max cpu.max cpu.weight /proc/1/oom_score_adj)'
    in_container "its profile is in force" '"Seccomp:\\t2\\n"' 'grep Seccomp: /proc/1/status'
    if can .linux.apparmor.enabled; then
        in_container "its AppArmor profile is in force" '"cri-containerd.apparmor.d \(enforce\)' 'cat /proc/1/attr/current'
    else
        skip "the AppArmor profile of pods ($driver)" "the runtime has none"
    fi
    in_container "an exit status comes through" '"exit_code": 3' 'exit 3'
    in_container "both outputs come through" '"stdout": "out\\n", "stderr": "err\\n"' 'echo out; echo err >&2'
    cri "a probe that takes too long is ended ($driver)" =1 'timeout 1s exceeded' ExecSync '{container_id: $id, cmd: ["sleep", "777"], timeout: 1}'
    in_container "and leaves no process" '"stdout": "0\\n"' 'ps | grep -c "[s]leep 777"; true'
    step "a streamed exec with stdin ($driver)" '^hello$' sh -c "echo hello | python3 ./cri.py exec $id head -n 1"
    step "a streamed exec passes an exit status on ($driver)" =4 '^hi$' python3 ./cri.py exec "$id" sh -c 'echo hi; exit 4'
    step "a streamed exec on a terminal ($driver)" '/dev/pts/0' python3 ./cri.py exec -t "$id" tty
    cri "statistics ($driver)" '"usage_bytes": \{"value": [1-9]' ContainerStats '{container_id: $id}'
    cri "an update ($driver)" '' UpdateContainerResources '{container_id: $id, linux: {memory_limit_in_bytes: 100663296, memory_swap_limit_in_bytes: 100663296, cpu_quota: 20000, cpu_period: 50000}}'
    in_container "the update is in force" '"100663296 20000 50000\\n"' 'cd /sys/fs/cgroup; echo $(cat memory.max cpu.max)'
    cri "it runs ($driver)" '"state": 1' ContainerStatus '{container_id: $id}'
    cri "it is asked to stop ($driver)" '' StopContainer '{container_id: $id, timeout: 30}'
    ended "it has ended by itself" '"exit_code": 7'
    remove_container polite

    run_container stubborn 'trap "" TERM; while :; do sleep 0.1; done'
    cri "it is asked to stop and won't ($driver)" '' StopContainer '{container_id: $id, timeout: 1}'
    ended "it was killed" '"exit_code": 137'
    remove_container stubborn

    run_container short 'exit 5'
    ended "it tells how it ended" '"exit_code": 5'
    remove_container short

    run_container hungry 'tail /dev/zero' '{"linux": {"resources": {"memory_limit_in_bytes": 16777216, "memory_swap_limit_in_bytes": 16777216}}}'
    ended "it was killed for want of memory" '"reason": "OOMKilled"'
    remove_container hungry

    run_container bounded 'sleep 1000' '{"working_dir": "/tmp", "envs": [{"key": "A", "value": "b"}],
        "mounts": [{"container_path": "/host", "host_path": "/etc", "readonly": true}, {"container_path": "/slave", "host_path": "/tmp", "propagation": 1}],
        "linux": {"security_context": {"run_as_user": {"value": 1000}, "run_as_group": {"value": 1001}, "supplemental_groups": [1002], "readonly_rootfs": true,
        "no_new_privs": true, "capabilities": {"drop_capabilities": ["ALL"], "add_capabilities": ["CHOWN"]}, "seccomp": {"profile_type": 1}}}}'
    in_container "user, groups, directory and environment" '"1000 1001 1001 1002 /tmp b\\n"' 'echo $(id -u) $(id -g) $(id -G) $PWD $A'
    in_container "no new privileges, few capabilities, no profile" '"NoNewPrivs:\\t1 Seccomp:\\t0 CapBnd:\\t0000000000000001\\n"' \
        'echo "$(grep NoNewPrivs /proc/1/status) $(grep Seccomp: /proc/1/status) $(grep CapBnd /proc/1/status)"'
    in_container "a root and mounts that are read-only, and a mount that is a slave" '"ro ro master\\n"' \
        'o() { awk -v p="$1" -v f="$2" "\$5 == p { x = \$f } END { print x }" /proc/self/mountinfo; }; echo $(o / 6 | cut -c 1-2) $(o /host 6 | cut -c 1-2) $(o /slave 7 | cut -d : -f 1)'
    cri "it is killed ($driver)" '' StopContainer '{container_id: $id, timeout: 0}'
    remove_container bounded

    run_container in-the-pod 'sleep 1000' '{"linux": {"security_context": {"namespace_options": {"pid": 0}}}}'
    in_container "process 1 is the pod's" '"sleep 1000000\\n' 'tr "\0" " " </proc/1/cmdline | grep -o "sleep 1000000"'
    cri "it is killed with the pod's process alive ($driver)" '' StopContainer '{container_id: $id, timeout: 0}'
    remove_container in-the-pod

    jq -cn --arg pod "$pod" --argjson config "$config" --arg image "$image" '{pod_sandbox_id: $pod, sandbox_config: $config, config: {metadata: {name: "none"},
        image: {image: $image}, command: ["/nonexistent"], linux: {security_context: {namespace_options: {network: 2, pid: 1}}}}}' >"$work/request"
    step "a container of what is not there is made ($driver)" container_id python3 ./cri.py CreateContainer "$(cat "$work/request")"
    id=$(jq -r .container_id "$output")
    cri "and does not start ($driver)" =1 'exec: "/nonexistent".*no such file or directory' StartContainer '{container_id: $id}'
    remove_container none

    run_container left-running 'sleep 1000'
    cri "the pod stops with what runs in it ($driver)" '' StopPodSandbox '{pod_sandbox_id: $pod}'
    ended "it was killed with the pod" '"exit_code": 137'
    cri "the pod is removed ($driver)" '' RemovePodSandbox '{pod_sandbox_id: $pod}'

    run_pod "q-$driver" '{"privileged": true, "namespace_options": {"network": 2, "pid": 2}}' || continue
    run_container on-the-node 'sleep 1000 & sleep 1000' '{"linux": {"security_context": {"namespace_options": {"pid": 2}}}}'
    in_container "process 1 is the node's" "\"$(cat /proc/1/comm)\\\\n\"" 'cat /proc/1/comm'
    cri "it is killed on the node ($driver)" '' StopContainer '{container_id: $id, timeout: 0}'
    ended "all of it was killed" '"exit_code": 137'
    remove_container on-the-node
    run_container mighty 'sleep 1000' '{"linux": {"security_context": {"privileged": true}}}'
    in_container "all capabilities and the host's devices" '"CapEff:\\t[0-9a-f]*ffff \\n' 'echo "$(grep CapEff /proc/1/status) $(ls -d /dev/kmsg >&2)"'
    cri "the privileged pod stops ($driver)" '' StopPodSandbox '{pod_sandbox_id: $pod}'
    cri "the privileged pod is removed ($driver)" '' RemovePodSandbox '{pod_sandbox_id: $pod}'
    step "no cgroup is left ($driver)" '^0$' sh -c 'find /sys/fs/cgroup -path "*kubepods*pod1*" -type d ! -name "*pod1" ! -name "*pod1.slice" | wc -l'
done
step "no shim is left" '^0$' sh -c 'for i in $(seq 50); do pgrep -f "[c]ontainerd-shim-runc-v2" >/dev/null || break; sleep 0.1; done; pgrep -fc "[c]ontainerd-shim-runc-v2"; true'
step "containerd stops" '' systemctl stop containerd
rm /etc/containerd/config.toml
