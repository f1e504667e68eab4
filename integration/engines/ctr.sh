# Variables are shared with `run`; some are expanded in the container.
# shellcheck shell=bash disable=SC2034,SC2154,SC2016
# containerd, through its shim for runc-like runtimes.

ctr_run() { local args=("$@"); step "${args[0]}" "${args[1]}" ctr run --runc-binary "$RUNTIME" "${args[@]:2}"; }

step "containerd starts" '' systemctl start containerd
step "ctr imports" '' ctr image import --snapshotter overlayfs "$archive"
ctr_run "ctr run" '^1 0$' --rm "$image" c1 sh -c 'echo $$ $(id -u)'
step "ctr run passes an exit status on" =7 '' ctr run --runc-binary "$RUNTIME" --rm "$image" c3 sh -c 'exit 7'
ctr_run "ctr run with seccomp" '^Seccomp:.*2' --rm --seccomp "$image" c4 grep Seccomp: /proc/self/status
ctr_run "ctr run in the host's network" 'lo' --rm --net-host "$image" c5 ls /sys/class/net
ctr_run "ctr run read-only" '/ overlay ro' --rm --read-only "$image" c6 sh -c 'grep -o "/ overlay ro" /proc/mounts'
ctr_run "ctr run with a bind mount" 'orlop-vm' --rm --mount type=bind,src=/etc,dst=/host,options=rbind:ro "$image" c7 cat /host/hostname
host_paths "ctr run" ctr run --runc-binary "$RUNTIME" --rm --mount type=bind,src=@FROM,dst=@TO,options=rbind:ro:rslave "$image" h1
step "ctr run on a terminal" '/dev/pts/0' script -qec "ctr run --runc-binary $RUNTIME --rm -t $image c8 tty" /dev/null
step "ctr run of what is not there" =1 'nonexistent' ctr run --runc-binary "$RUNTIME" --rm "$image" c9 /nonexistent

ctr_run "ctr run --detach" '' -d --memory-limit 67108864 "$image" d1 sleep 1000
step "its limit is in force" '^67108864$' cat /sys/fs/cgroup/default/d1/memory.max
step "ctr exec" =3 '^hi$' ctr task exec --exec-id e1 d1 sh -c 'echo hi; exit 3'
step "ctr exec on a terminal" '/dev/pts/0' script -qec "ctr task exec -t --exec-id e2 d1 tty" /dev/null
step "ctr ps" '[0-9]' ctr task ps d1
step "ctr metrics" 'memory.usage' ctr task metrics d1
step "ctr pause" '' ctr task pause d1
step "ctr says paused" 'd1 .*PAUSED' ctr task ls
step "ctr resume" '' ctr task resume d1
step "ctr says running" 'd1 .*RUNNING' ctr task ls
step "ctr kill" '' ctr task kill -s KILL d1
step "ctr says stopped" 'd1 .*STOPPED' sh -c 'for i in $(seq 50); do ctr task ls | grep STOPPED && exit; sleep 0.1; done'
step "ctr deletes the task" '' ctr task rm d1
step "ctr deletes the container" '' ctr container rm d1

if can .linux.cgroup.systemd; then
    ctr_run "ctr run with the systemd driver" '/ctr-s1.scope$' --rm --runc-systemd-cgroup --cgroup system.slice:ctr:s1 "$image" s1 cat /proc/self/cgroup
    ctr_run "ctr run -d with the systemd driver" '' -d --runc-systemd-cgroup --cgroup system.slice:ctr:s2 --memory-limit 67108864 "$image" s2 sleep 1000
    step "systemd knows the scope" 'MemoryMax=67108864' systemctl show -p MemoryMax ctr-s2.scope
    step "ctr kills it" '' ctr task kill -s KILL s2
    step "ctr deletes it" '' sh -c 'for i in $(seq 50); do ctr task rm s2 && exit; sleep 0.1; done; exit 1'
    step "ctr deletes its container" '' ctr container rm s2
    step "the scope is gone" '^0$' sh -c 'systemctl list-units --all "ctr-*" --no-legend | wc -l'
else
    skip "ctr with the systemd driver" "the runtime has none"
fi
if can .linux.apparmor.enabled; then
    ctr_run "ctr run under an AppArmor profile" '^ctr-default \(enforce\)' --rm --apparmor-default-profile ctr-default "$image" a1 cat /proc/self/attr/current
else
    skip "ctr run under an AppArmor profile" "the runtime has none"
fi
step "containerd has no task left" '^1$' sh -c 'ctr task ls | wc -l'
step "no process of the runtime's is left" '^0$' sh -c "pgrep -xc $(basename "$RUNTIME"); true"
step "containerd stops" '' systemctl stop containerd
