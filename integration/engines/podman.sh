# Variables are shared with `run`; some are expanded in the container.
# shellcheck shell=bash disable=SC2034,SC2154,SC2016
# podman as root, with conmon.

confinement=(--security-opt apparmor=unconfined)
! can .linux.apparmor.enabled || confinement=()
managers=(cgroupfs)
if can .linux.cgroup.systemd; then managers+=(systemd); else skip "podman with the systemd driver" "the runtime has none"; fi

# podman asks these two before it trusts a runtime that it doesn't know by name.
mkdir -p /etc/containers
printf '[engine]\nruntime_supports_nocgroup = ["%s"]\nruntime_supports_json = ["%s"]\n[engine.runtimes]\n%s = ["%s"]\n' \
    "${RUNTIME##*/}" "${RUNTIME##*/}" "${RUNTIME##*/}" "$RUNTIME" >/etc/containers/containers.conf
step "podman loads" '' podman load -q -i "$archive"
for manager in "${managers[@]}"; do
    pod=(podman --runtime "${RUNTIME##*/}" --cgroup-manager "$manager")
    new=("${confinement[@]}" --network none)
    limits=(--memory 64m --memory-swap 64m --pids-limit 50 --cpus 0.5)
    step "podman run ($manager)" '^67108864 50 50000 100000$' "${pod[@]}" run --rm "${new[@]}" "${limits[@]}" "$image" sh -c "$read_limits"
    step "podman run passes an exit status on ($manager)" =7 '' "${pod[@]}" run --rm "${new[@]}" "$image" sh -c 'exit 7'
    step "podman run -d ($manager)" '^[0-9a-f]{64}$' "${pod[@]}" run -d --name d "${new[@]}" "${limits[@]}" "$image" sh -c 'echo started; sleep 1000'
    [ "$manager" != cgroupfs ] || inspected "inspect of podman's container ($manager)" "$("${pod[@]}" inspect -f '{{.Id}}' d)"
    step "podman exec ($manager)" =4 '^hi$' "${pod[@]}" exec d sh -c 'echo hi; exit 4'
    step "podman logs ($manager)" '^started$' "${pod[@]}" logs d
    step "podman top ($manager)" 'sleep 1000' "${pod[@]}" top d
    step "podman pause ($manager)" '^d$' "${pod[@]}" pause d
    step "podman says paused ($manager)" '^paused$' "${pod[@]}" inspect -f '{{.State.Status}}' d
    step "podman unpause ($manager)" '^d$' "${pod[@]}" unpause d
    step "podman stats ($manager)" '/ 67.11MB' "${pod[@]}" stats --no-stream --no-reset d
    step "podman update ($manager)" '' "${pod[@]}" update --memory 96m --memory-swap 96m d
    step "podman's update is in force ($manager)" '^100663296$' "${pod[@]}" exec d cat /sys/fs/cgroup/memory.max
    step "podman kill ($manager)" '^d$' "${pod[@]}" kill d
    step "podman wait ($manager)" '^137$' "${pod[@]}" wait d
    step "podman start again ($manager)" '^d$' "${pod[@]}" start d
    step "podman stop ($manager)" '^d$' "${pod[@]}" stop -t 1 d
    step "podman rm ($manager)" '^d$' "${pod[@]}" rm d
done
step "podman run on a terminal" '/dev/pts/0' script -qec "${pod[*]} run --rm -t ${new[*]} $image tty" /dev/null
step "podman exec on a terminal" '/dev/pts/' script -qec "${pod[*]} run -d --name t ${new[*]} $image sleep 1000 && ${pod[*]} exec -t t tty && ${pod[*]} rm -t 0 -f t" /dev/null
step "podman run with a volume" '^orlop-vm$' "${pod[@]}" run --rm "${new[@]}" -v /etc/hostname:/name:ro "$image" cat /name
host_paths "podman run" "${pod[@]}" run --rm "${new[@]}" -v @FROM:@TO:ro,rslave "$image"
mkdir -p "$work/lower" && echo lower >"$work/lower/file"
step "podman run with an overlay" '^lower upper$' "${pod[@]}" run --rm "${new[@]}" -v "$work/lower:/v:O" "$image" sh -c 'before=$(cat /v/file); echo upper >/v/file; echo $before $(cat /v/file)'
step "what it wrote is gone" '^lower$' cat "$work/lower/file"
step "podman run read-only as a user" '^1 .*Read-only' "${pod[@]}" run --rm "${new[@]}" --read-only --user 1:1 "$image" sh -c 'echo $(id -u) $(touch /x 2>&1)'
step "podman run --privileged" '^CapEff:.*1ffffffffff' "${pod[@]}" run --rm --privileged --network none "$image" grep CapEff /proc/self/status
step "podman run --init" '^podman-init$' "${pod[@]}" run --rm "${new[@]}" --init "$image" cat /proc/1/comm
step "podman run with seccomp" '^Seccomp:.*2' "${pod[@]}" run --rm "${new[@]}" "$image" grep Seccomp: /proc/self/status
step "podman run with devices" 'c.* 1, *3 .*/dev/nothing' "${pod[@]}" run --rm "${new[@]}" --device /dev/null:/dev/nothing "$image" ls -l /dev/nothing
step "podman run of what is not there" =127 'nonexistent' "${pod[@]}" run --rm "${new[@]}" "$image" /nonexistent
step "podman run --cgroups=disabled" '^up$' "${pod[@]}" run --rm "${new[@]}" --cgroups=disabled "$image" echo up
step "podman run in a user namespace" '^ +0 +100000' "${pod[@]}" run --rm "${new[@]}" --uidmap 0:100000:5000 --gidmap 0:100000:5000 "$image" cat /proc/self/uid_map
if can .linux.apparmor.enabled; then
    step "podman run under its AppArmor profile" '^containers-default.* \(enforce\)' "${pod[@]}" run --rm --network none "$image" cat /proc/self/attr/current
else
    skip "podman run under its AppArmor profile" "the runtime has none"
fi
step "podman has no container left" '^0$' sh -c 'podman ps -aq | wc -l'
step "no cgroup is left of podman's" '^0$' sh -c 'find /sys/fs/cgroup -name "libpod-*" | wc -l'
