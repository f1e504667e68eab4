# Variables are shared with `run`; some are expanded in the container.
# shellcheck shell=bash disable=SC2034,SC2154,SC2016
# docker, by way of its own containerd and of buildkit.

confinement=(--security-opt apparmor=unconfined)
! can .linux.apparmor.enabled || confinement=()
driver=cgroupfs
if can .linux.cgroup.systemd; then driver=systemd; else skip "docker with the systemd driver" "the runtime has none"; fi

mkdir -p /etc/docker /etc/systemd/system/docker.service.d "$work/bin"
# The buildkit within dockerd runs the runc in its PATH, whatever runtime is configured.
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
host_paths "docker run" docker run --rm "${new[@]}" -v @FROM:@TO:ro,rslave "$image"
step "docker run with seccomp" '^Seccomp:.*2' docker run --rm "${new[@]}" "$image" grep Seccomp: /proc/self/status
step "docker run of what is not there" =127 'nonexistent' docker run --rm "${new[@]}" "$image" /nonexistent
step "docker tells of an OOM kill" '^true$' sh -c "docker run --name oom ${new[*]} --memory 16m --memory-swap 16m $image sh -c 'tail /dev/zero'; docker inspect -f '{{.State.OOMKilled}}' oom; docker rm oom"
if can .linux.apparmor.enabled; then
    step "docker run under its AppArmor profile" '^docker-default \(enforce\)' docker run --rm --network none "$image" cat /proc/self/attr/current
else
    skip "docker run under its AppArmor profile" "the runtime has none"
fi

# Namespaces that a container shares, its rights, and what it is denied.
step "docker run -d with what others share" '' docker run -d --name first "${new[@]}" --ipc shareable --hostname shared --cpuset-cpus 0 "$image" sleep 1000
step "docker run --pid container" '^sleep$' docker run --rm "${new[@]}" --pid container:first "$image" cat /proc/1/comm
step "docker run -d --pid container" '^[0-9a-f]{64}$' docker run -d --name beside "${new[@]}" --pid container:first "$image" sleep 2000
step "docker exec in a shared pid namespace" '^sleep 1000 sleep 2000$' docker exec beside sh -c 'echo $(ps -o args | grep "^sleep" | sort)'
step "docker rm -f of the one beside" '^beside$' docker rm -f beside
step "the first one goes on" '^running$' docker inspect -f '{{.State.Status}}' first
namespaces='for name in ipc net; do readlink /proc/self/ns/$name | tr -d "[]\n"; done; echo .'
shared=$(docker exec first sh -c "$namespaces")
step "docker run --ipc and --network container" "^ipc${shared#ipc}\$" \
    docker run --rm "${confinement[@]}" --ipc container:first --network container:first "$image" sh -c "$namespaces"
step "docker run --cpuset-cpus" '^0$' docker exec first cat /sys/fs/cgroup/cpuset.cpus.effective
step "docker exec -it" '/dev/pts/0' script -qec "docker exec -it first tty" /dev/null
step "docker exec as a user elsewhere" '^1 /tmp b$' docker exec -u 1 -w /tmp -e A=b first sh -c 'echo $(id -u) $PWD $A'
step "docker exec --privileged" '^CapEff:.*1ffffffffff' docker exec --privileged first grep CapEff /proc/self/status
step "docker attach" '^attached$' sh -c "docker run -d --name second ${new[*]} $image sh -c 'sleep 3; echo attached' >/dev/null; docker attach second"
step "docker cp" '^orlop-vm$' sh -c 'docker cp /etc/hostname first:/tmp/name && docker cp first:/tmp/name - | tar -xO'
step "docker diff" '^A /tmp/name$' docker diff first
step "docker commit" '^sha256:' docker commit first localhost/committed:local
step "docker rm -f" '^second$' docker rm -f first second
step "docker run --pid host" '^systemd$' docker run --rm "${new[@]}" --pid host "$image" cat /proc/1/comm
step "docker run --uts and --cgroupns host" '^orlop-vm .*/docker-' docker run --rm "${new[@]}" --uts host --cgroupns host "$image" sh -c 'echo $(hostname) $(cat /proc/self/cgroup)'
step "docker run without a profile of seccomp" '^Seccomp:.*0' docker run --rm "${new[@]}" --security-opt seccomp=unconfined "$image" grep Seccomp: /proc/self/status
step "docker run --device" '^0$' docker run --rm "${new[@]}" --device /dev/kmsg --cap-add SYSLOG "$image" sh -c 'exec 3</dev/kmsg; echo $?'
step "docker run without that device" '^denied$' docker run --rm "${new[@]}" --cap-add SYSLOG "$image" sh -c 'mknod /k c 1 11; (exec 3</k) 2>/dev/null || echo denied'
step "docker run --ulimit" '^100 200$' docker run --rm "${new[@]}" --ulimit nofile=100:200 "$image" sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)'
step "docker run with tmpfs, shm, sysctl and groups" '^65536 7 .* 42$' docker run --rm "${new[@]}" --tmpfs /scratch:size=64k --shm-size 8m --sysctl kernel.msgmax=7 --group-add 42 "$image" \
    sh -c 'echo $(($(stat -f -c "%b * %S" /scratch))) $(cat /proc/sys/kernel/msgmax) $(id -G)'
step "docker run with a shared mount" 'shared:' docker run --rm "${new[@]}" --mount type=bind,source=/tmp,target=/t,bind-propagation=rshared "$image" sh -c 'grep " /t " /proc/self/mountinfo'
step "docker restarts by policy" '^3$' sh -c "docker run -d --name again --restart on-failure:3 ${new[*]} $image false >/dev/null;
    for i in \$(seq 100); do [ \"\$(docker inspect -f '{{.RestartCount}} {{.State.Status}}' again)\" = '3 exited' ] && break; sleep 0.2; done; docker inspect -f '{{.RestartCount}}' again; docker rm -f again >/dev/null"
step "docker's health check" '^healthy$' sh -c "docker run -d --name well --health-cmd 'test -e /tmp' --health-interval 1s ${new[*]} $image sleep 1000 >/dev/null;
    for i in \$(seq 100); do [ \"\$(docker inspect -f '{{.State.Health.Status}}' well)\" = healthy ] && break; sleep 0.2; done; docker inspect -f '{{.State.Health.Status}}' well"
step "docker update --cpus and --pids-limit" '^20000 100000 9$' sh -c 'docker update --cpus 0.2 --pids-limit 9 well >/dev/null && docker exec well sh -c "cd /sys/fs/cgroup; echo \$(cat cpu.max pids.max)"'
step "docker stop" '^0$' sh -c 'docker stop -t 1 well >/dev/null && docker rm well >/dev/null; docker ps -aq | wc -l'

mkdir -p "$work/context"
printf 'FROM %s\nRUN echo built by $$ >/made\n' "$image" >"$work/context/Dockerfile"
step "docker buildx build" '' docker buildx build --network none -t localhost/made:local "$work/context"
step "what buildx built runs" '^built by 1$' docker run --rm "${new[@]}" localhost/made:local cat /made
step "docker has no container left" '^0$' sh -c 'docker ps -aq | wc -l'
step "docker stops" '' systemctl stop docker.socket docker
