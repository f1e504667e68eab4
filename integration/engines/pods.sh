# Variables are shared with `run`; some are expanded in the container.
# shellcheck shell=bash disable=SC2034,SC2154,SC2016
# podman's pods, what containers share, health checks, restarts, and containers that are units of
# systemd (quadlet).

mkdir -p /etc/containers
printf '[engine]\nruntime = "%s"\nruntime_supports_nocgroup = ["%s"]\nruntime_supports_json = ["%s"]\n[engine.runtimes]\n%s = ["%s"]\n' \
    "${RUNTIME##*/}" "${RUNTIME##*/}" "${RUNTIME##*/}" "${RUNTIME##*/}" "$RUNTIME" >/etc/containers/containers.conf
confinement=(--security-opt apparmor=unconfined)
! can .linux.apparmor.enabled || confinement=()
managers=(cgroupfs)
if can .linux.cgroup.systemd; then managers+=(systemd); else skip "pods with the systemd driver" "the runtime has none"; fi
new=("${confinement[@]}" --network none)
namespaces='for name in ipc net uts; do readlink /proc/self/ns/$name | tr -d "[]\n"; done; echo .'

step "podman loads" '' podman load -q -i "$archive"
for manager in "${managers[@]}"; do
    pod=(podman --cgroup-manager "$manager")
    step "podman pod create ($manager)" '^[0-9a-f]{64}$' "${pod[@]}" pod create --name p --share pid,ipc,net,uts --network none --hostname inside --memory 128m --cpus 0.5
    step "podman run --pod ($manager)" '^[0-9a-f]{64}$' "${pod[@]}" run -d --pod p --name a "${confinement[@]}" "$image" sh -c 'echo started; sleep 1000'
    step "the pod's first process ($manager)" '^catatonit inside$' "${pod[@]}" exec a sh -c 'echo $(cat /proc/1/comm) $(hostname)'
    shared=$("${pod[@]}" exec a sh -c "$namespaces")
    step "another one shares all ($manager)" "^ipc${shared#ipc}\$" "${pod[@]}" run --rm --pod p "${confinement[@]}" "$image" sh -c "$namespaces"
    step "the pod's limits ($manager)" '^134217728 50000 100000$' sh -c 'cd "$(dirname "$(find /sys/fs/cgroup -type d -name "libpod-$(podman inspect -f "{{.Id}}" a)*" | head -n 1)")"; echo $(cat memory.max cpu.max)'
    step "podman pod top ($manager)" 'sleep 1000' "${pod[@]}" pod top p
    step "podman pod stats ($manager)" ' a ' "${pod[@]}" pod stats --no-stream p
    step "podman pod pause ($manager)" '' "${pod[@]}" pod pause p
    step "its containers are paused ($manager)" '^paused$' "${pod[@]}" inspect -f '{{.State.Status}}' a
    step "podman pod unpause ($manager)" '' "${pod[@]}" pod unpause p
    step "podman pod restart ($manager)" '' "${pod[@]}" pod restart p
    step "it runs again ($manager)" '^running$' "${pod[@]}" inspect -f '{{.State.Status}}' a
    step "podman pod kill ($manager)" '' "${pod[@]}" pod kill p
    step "podman pod rm ($manager)" '' "${pod[@]}" pod rm -f -t 0 p

    step "podman run --restart ($manager)" '^2$' sh -c "${pod[*]} run -d --name again --restart on-failure:2 ${new[*]} $image false >/dev/null;
        for i in \$(seq 30); do [ \"\$(podman inspect -f '{{.RestartCount}} {{.State.Status}}' again)\" = '2 exited' ] && break; sleep 0.5; done; podman inspect -f '{{.RestartCount}}' again; ${pod[*]} rm -f -t 0 again >/dev/null"
done
# Not with the systemd driver: the scope may be gone before podman's monitor has read what happened
# in it.
step "podman tells of an OOM kill" '^true$' sh -c "podman --cgroup-manager cgroupfs run --name oom ${new[*]} --memory 16m --memory-swap 16m $image sh -c 'tail /dev/zero'; podman inspect -f '{{.State.OOMKilled}}' oom; podman --cgroup-manager cgroupfs rm oom >/dev/null"
step "podman run -d with what others share" '' podman run -d --name first "${new[@]}" --ipc shareable --cpuset-cpus 0 --health-cmd 'test -e /tmp/well' --health-interval disable "$image" sleep 1000
step "a health check that fails" =1 '' podman healthcheck run first
step "podman cp" '^orlop-vm$' sh -c 'podman cp /etc/hostname first:/tmp/well && podman cp first:/tmp/well - | tar -xO'
step "a health check that succeeds" '' podman healthcheck run first
step "podman run --pid container" '^sleep$' podman run --rm "${new[@]}" --pid container:first "$image" cat /proc/1/comm
step "podman run -d --pid container" '^[0-9a-f]{64}$' podman run -d --name beside "${new[@]}" --pid container:first "$image" sleep 2000
step "podman exec in a shared pid namespace" '^sleep 1000 sleep 2000$' podman exec beside sh -c 'echo $(ps -o args | grep "^sleep" | sort)'
step "podman rm -f of the one beside" '^beside$' podman rm -f -t 0 beside
step "the first one goes on" '^running$' podman inspect -f '{{.State.Status}}' first
step "podman run --ipc container" "^$(podman exec first readlink /proc/self/ns/ipc | tr -d '[]')\$" podman run --rm "${new[@]}" --ipc container:first "$image" sh -c 'readlink /proc/self/ns/ipc | tr -d "[]"'
step "podman run --cpuset-cpus" '^0$' podman exec first cat /sys/fs/cgroup/cpuset.cpus.effective
step "podman exec as a user elsewhere" '^1 /tmp b$' podman exec -u 1 -w /tmp -e A=b first sh -c 'echo $(id -u) $PWD $A'
step "podman exec --privileged" '^CapEff:.*1ffffffffff' podman exec --privileged first grep CapEff /proc/self/status
step "podman exec -it" '/dev/pts/0' script -qec "podman exec -it first tty" /dev/null
step "podman exec -d" '' podman exec -d first sh -c 'echo there >/tmp/detached'
step "it was executed" '^there$' sh -c 'for i in $(seq 50); do podman exec first cat /tmp/detached && exit; sleep 0.2; done; exit 1'
step "podman commit" '^[0-9a-f]{64}$' podman commit -q first localhost/committed:local
step "podman rm -f" '^first$' podman rm -f -t 0 first
step "podman run --pid host" '^systemd$' podman run --rm "${new[@]}" --pid host "$image" cat /proc/1/comm
step "podman run --uts and --cgroupns host" '^orlop-vm .*libpod-' podman run --rm "${new[@]}" --uts host --cgroupns host "$image" sh -c 'echo $(hostname) $(cat /proc/self/cgroup)'
step "podman run without a profile of seccomp" '^Seccomp:.*0' podman run --rm "${new[@]}" --security-opt seccomp=unconfined "$image" grep Seccomp: /proc/self/status
step "podman run --ulimit" '^100 200$' podman run --rm "${new[@]}" --ulimit nofile=100:200 "$image" sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)'
step "podman run with tmpfs, sysctl and groups" '^65536 7 .* 42$' podman run --rm "${new[@]}" --tmpfs /scratch:size=64k --sysctl kernel.msgmax=7 --group-add 42 "$image" \
    sh -c 'echo $(($(stat -f -c "%b * %S" /scratch))) $(cat /proc/sys/kernel/msgmax) $(id -G)'
step "podman run with a shared mount" 'shared:' podman run --rm "${new[@]}" --mount type=bind,source=/tmp,target=/t,bind-propagation=rshared "$image" sh -c 'grep " /t " /proc/self/mountinfo'
step "podman run with an idmapped volume" '^7$' sh -c "mkdir -m 777 $work/volume && touch $work/volume/file && chown 7 $work/volume/file && podman run --rm ${new[*]} --uidmap 0:100000:5000 --gidmap 0:100000:5000 -v $work/volume:/v:idmap $image stat -c %u /v/file"

# A unit of systemd: podman puts such a container into the unit's own cgroup (--cgroups=split).
if can .linux.cgroup.systemd; then
    rm -f /etc/systemd/system-generators/podman-system-generator
    mkdir -p /etc/containers/systemd
    printf '[Container]\nImage=%s\nExec=sleep 1000\nNetwork=none\nPodmanArgs=%s\nHealthCmd=true\nHealthInterval=1s\n[Service]\nMemoryMax=100M\n' "$image" "${confinement[*]}" >/etc/containers/systemd/unit.container
    step "systemd reads the unit" '' systemctl daemon-reload
    step "systemctl start" '' systemctl start unit.service
    step "the unit is active" '^active$' systemctl show --value -p ActiveState unit.service
    step "it is in the unit's cgroup" '^0::/system.slice/unit.service/libpod-payload-' sh -c 'cat /proc/$(podman inspect -f "{{.State.Pid}}" systemd-unit)/cgroup'
    step "its health is checked by a timer" '^healthy$' sh -c 'for i in $(seq 40); do [ "$(podman inspect -f "{{.State.Health.Status}}" systemd-unit)" = healthy ] && break; sleep 0.5; done; podman inspect -f "{{.State.Health.Status}}" systemd-unit'
    step "systemctl kill ends it" '^(failed|inactive)$' sh -c 'systemctl kill -s KILL unit.service; for i in $(seq 50); do case $(systemctl show --value -p ActiveState unit.service) in active | deactivating) sleep 0.2 ;; *) break ;; esac; done; systemctl show --value -p ActiveState unit.service'
    step "systemctl start again" '' systemctl start unit.service
    step "systemctl stop" '' systemctl stop unit.service
    step "its cgroup is gone" '^0$' sh -c 'find /sys/fs/cgroup/system.slice -maxdepth 1 -name unit.service | wc -l'
    rm /etc/containers/systemd/unit.container
    systemctl daemon-reload
fi
step "podman has no container left" '^0$' sh -c 'podman ps -aq | wc -l'
step "no cgroup is left of podman's pods" '^0$' sh -c 'find /sys/fs/cgroup -name "libpod-*" | wc -l'
