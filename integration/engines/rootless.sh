# Variables are shared with `run`; some are expanded in the container.
# shellcheck shell=bash disable=SC2034,SC2154,SC2016
# podman as a user, inside the user's systemd. Processes that a step leaves running outlive its
# service.

as_tester() {
    local name=$1 pattern=$2
    shift 2
    step "$name" "$pattern" runuser -u tester -- env HOME=/home/tester XDG_RUNTIME_DIR=/run/user/1000 \
        DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus systemd-run --user -q --pipe --wait -p Delegate=yes -p KillMode=process "$@"
}
chmod 711 "$work"
step "the user's systemd starts" '' systemctl start user@1000.service
as_tester "rootless podman loads" '' podman load -q -i "$archive"
pod=(podman --runtime "$RUNTIME" --cgroup-manager cgroupfs)
as_tester "rootless podman run" '^ +0 +1000 +1$' "${pod[@]}" run --rm --network none "$image" cat /proc/self/uid_map
as_tester "rootless podman run -d" '^[0-9a-f]{64}$' "${pod[@]}" run -d --name d --network none "$image" sleep 1000
as_tester "rootless podman exec" '^0 1$' "${pod[@]}" exec d sh -c 'echo $(id -u) $(cat /proc/1/status | grep ^Pid: | cut -f2)'
as_tester "rootless podman rm" '^d$' "${pod[@]}" rm -f -t 0 d
if can .linux.cgroup.systemd; then
    as_tester "rootless podman run with the systemd driver and limits" '^67108864 50 50000 100000$' podman --runtime "$RUNTIME" --cgroup-manager systemd \
        run --rm --network none --memory 64m --pids-limit 50 --cpus 0.5 "$image" sh -c "$read_limits"
else
    skip "rootless podman with the systemd driver" "the runtime has none"
fi
