# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # variables are shared with `run`; some are expanded in the container
# docker, by way of its own containerd and of buildkit.

confinement=(--security-opt apparmor=unconfined)
! can .linux.apparmor.enabled || confinement=()
driver=cgroupfs
if can .linux.cgroup.systemd; then driver=systemd; else skip "docker with the systemd driver" "the runtime has none"; fi

mkdir -p /etc/docker /etc/systemd/system/docker.service.d "$work/bin"
# The buildkit within dockerd runs what is called runc in its PATH, whatever runtime is configured.
ln -s "$RUNTIME" "$work/bin/runc"
printf '[Service]\nEnvironment=PATH=%s:%s\n' "$work/bin" "$PATH" >/etc/systemd/system/docker.service.d/path.conf
jq -n --arg path "$RUNTIME" --arg driver "$driver" '{runtimes: {ours: {path: $path}}, "default-runtime": "ours", iptables: false, ip6tables: false,
    bridge: "none", "storage-driver": "overlay2", "exec-opts": ["native.cgroupdriver=" + $driver]}' >/etc/docker/daemon.json
systemctl daemon-reload
new=("${confinement[@]}" --network none)
limits=(--memory 64m --memory-swap 64m --pids-limit 50 --cpus 0.5)

step "docker starts" '' systemctl start docker
step "docker's cgroup driver is $driver" "^$driver 2 ours$" docker info -f '{{.CgroupDriver}} {{.CgroupVersion}} {{.DefaultRuntime}}'
step "docker loads" '' docker load -q -i "$archive"
step "docker run" '^67108864 50 50000 100000$' docker run --rm "${new[@]}" "${limits[@]}" "$image" sh -c "$read_limits"
step "docker run passes an exit status on" =7 '' docker run --rm "${new[@]}" "$image" sh -c 'exit 7'
step "docker run -d" '^[0-9a-f]{64}$' docker run -d --name dd "${new[@]}" "${limits[@]}" "$image" sh -c 'echo started; sleep 1000'
step "docker exec" =5 '^hi$' docker exec dd sh -c 'echo hi; exit 5'
step "docker logs" '^started$' docker logs dd
step "docker top" 'sleep 1000' docker top dd
step "docker pause" '^dd$' docker pause dd
step "docker says paused" '^paused$' docker inspect -f '{{.State.Status}}' dd
step "docker unpause" '^dd$' docker unpause dd
step "docker stats" '/ 64MiB' docker stats --no-stream dd
step "docker update" '^dd$' docker update --memory 96m --memory-swap 96m dd
step "docker's update is in force" '^100663296$' docker exec dd cat /sys/fs/cgroup/memory.max
step "docker restart" '^dd$' docker restart -t 1 dd
step "docker kill" '^dd$' docker kill dd
step "docker wait" '^137$' docker wait dd
step "docker rm" '^dd$' docker rm dd
step "docker run on a terminal" '/dev/pts/0' script -qec "docker run --rm -t ${new[*]} $image tty" /dev/null
step "docker run read-only as a user" '^1 .*Read-only' docker run --rm "${new[@]}" --read-only --user 1:1 "$image" sh -c 'echo $(id -u) $(touch /x 2>&1)'
step "docker run --privileged" '^CapEff:.*1ffffffffff' docker run --rm --privileged --network none "$image" grep CapEff /proc/self/status
step "docker run with a volume" '^orlop-vm$' docker run --rm "${new[@]}" -v /etc/hostname:/name:ro "$image" cat /name
step "docker run with seccomp" '^Seccomp:.*2' docker run --rm "${new[@]}" "$image" grep Seccomp: /proc/self/status
step "docker run of what is not there" =127 'nonexistent' docker run --rm "${new[@]}" "$image" /nonexistent
step "docker tells of an OOM kill" '^true$' sh -c "docker run --name oom ${new[*]} --memory 16m --memory-swap 16m $image sh -c 'tail /dev/zero'; docker inspect -f '{{.State.OOMKilled}}' oom; docker rm oom"
if can .linux.apparmor.enabled; then
    step "docker run under its AppArmor profile" '^docker-default \(enforce\)' docker run --rm --network none "$image" cat /proc/self/attr/current
else
    skip "docker run under its AppArmor profile" "the runtime has none"
fi
mkdir -p "$work/context"
printf 'FROM %s\nRUN echo built by $$ >/made\n' "$image" >"$work/context/Dockerfile"
step "docker buildx build" '' docker buildx build --network none -t localhost/made:local "$work/context"
step "what buildx built runs" '^built by 1$' docker run --rm "${new[@]}" localhost/made:local cat /made
step "docker has no container left" '^0$' sh -c 'docker ps -aq | wc -l'
step "docker stops" '' systemctl stop docker.socket docker
