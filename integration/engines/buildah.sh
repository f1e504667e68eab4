# Variables are shared with `run`; some are expanded in the container.
# shellcheck shell=bash disable=SC2034,SC2154,SC2016
# buildah, which calls the runtime itself.

export BUILDAH_RUNTIME=$RUNTIME BUILDAH_ISOLATION=oci
confinement=(--security-opt apparmor=unconfined)
! can .linux.apparmor.enabled || confinement=()
step "buildah pulls" '' buildah pull -q "docker-archive:$archive"
step "buildah from" '^w$' buildah from "${confinement[@]}" --name w "$image"
step "buildah run" '^1$' buildah run --network none w -- sh -c 'echo $$; echo made >/made'
step "buildah run passes an exit status on" =3 '' buildah run --network none w -- sh -c 'exit 3'
step "buildah run on a terminal" '/dev/pts/0' script -qec "buildah run --network none -t w -- tty" /dev/null
step "buildah run as a user with a volume" '^1 orlop-vm$' buildah run --network none --user 1:1 -v /etc/hostname:/name:ro w -- sh -c 'echo $(id -u) $(cat /name)'
host_paths "buildah run" buildah run --network none -v @FROM:@TO:ro,rslave w --
mkdir -p "$work/lower" && echo lower >"$work/lower/file"
step "buildah run with an overlay" '^lower upper$' buildah run --network none -v "$work/lower:/v:O" w -- sh -c 'before=$(cat /v/file); echo upper >/v/file; echo $before $(cat /v/file)'
step "what it wrote is gone" '^lower$' cat "$work/lower/file"
step "buildah commits" '' buildah commit -q w localhost/made:local
step "buildah rm" '' buildah rm w
printf 'FROM localhost/made:local\nRUN --network=none test "$(cat /made)" = made && echo again >>/made\nUSER 1\nRUN id -u\n' >"$work/Containerfile"
step "buildah build" '^1$' buildah build --network none "${confinement[@]}" -t localhost/again:local -f "$work/Containerfile" "$work"
