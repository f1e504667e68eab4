# shellcheck shell=bash
# Functions for the scripts: find the repository, become root, install packages, find cargo and the
# binary.
# Sourcing this file runs nothing.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

# Runs a command as root, through sudo if necessary.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -E "$@"
    else
        die "'$1' needs root: run this as root, or install sudo"
    fi
}

# install_packages NAME...: installs the Debian packages that are missing.
install_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "no apt-get here: please install ${missing[*]} by hand"
    say "installing ${missing[*]}"
    local log
    log=$(mktemp)
    # Package lists of a fresh machine are often empty or too old for the archive.
    if ! { as_root apt-get -q update &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}"; } \
        >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt-get could not install ${missing[*]}"
    fi
    rm -f "$log"
}

# Makes sure that cargo and a C linker are in PATH, also under sudo and without HOME.
find_cargo() {
    export HOME="${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}"
    local home=
    if [ -n "${SUDO_USER:-}" ] && [ "$(id -u)" = 0 ]; then
        # Under sudo, the toolchain is usually in the home directory of the calling user.
        home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    fi
    if ! command -v cargo >/dev/null; then
        local bin
        for bin in "$HOME/.cargo/bin" ${home:+"$home/.cargo/bin"} /usr/local/cargo/bin; do
            if [ -x "$bin/cargo" ]; then
                export PATH="$bin:$PATH"
                break
            fi
        done
    fi
    command -v cargo >/dev/null || die "cargo is not there: please install Rust 1.91 or newer (https://rustup.rs)"
    if [ -n "$home" ] && [ -z "${RUSTUP_HOME:-}" ] && [ ! -d "$HOME/.rustup" ] && [ -d "$home/.rustup" ]; then
        export RUSTUP_HOME="$home/.rustup"
    fi
    command -v cc >/dev/null || install_packages gcc libc6-dev
}

# Under sudo, the build belongs to root. Gives it to the calling user, whose next cargo must be able
# to write there.
give_back_target() {
    if [ "$(id -u)" = 0 ] && [ -n "${SUDO_UID:-}" ] && [ -d "$repository/target" ]; then
        chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$repository/target"
    fi
}

# Builds the release binary and prints its path. If ORLOP is set, prints that instead; it may be any
# runtime.
# Panic messages contain the paths of other crates' sources. Those paths are replaced, so that the
# binary is the same on every machine.
build_orlop() {
    if [ -n "${ORLOP:-}" ]; then
        command -v "$ORLOP" || die "ORLOP=$ORLOP is not a program"
        return
    fi
    find_cargo
    local executable
    executable=$(cd "$repository" && cargo build --release --locked --message-format=json-render-diagnostics \
        --config "target.'cfg(target_os = \"linux\")'.rustflags = ['--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo']" |
        sed -n 's/.*"executable":"\([^"]*\/orlop\)".*/\1/p' | tail -n 1) || die "cargo build failed"
    [ -x "$executable" ] || die "cargo built no binary named orlop"
    give_back_target
    printf '%s\n' "$executable"
}

# make_rootfs DIR: makes a root file system with a static busybox: the one of this machine, or that
# of Debian's busybox-static.
make_rootfs() {
    local busybox applet
    busybox=$(command -v busybox || true)
    if [ -z "$busybox" ] || ! is_static "$busybox"; then
        install_packages busybox-static
        busybox=$(command -v busybox) || die "busybox-static was installed, but there is no busybox in PATH"
    fi
    mkdir -p "$1"/{bin,dev,etc,proc,sys,tmp}
    cp "$(readlink -f "$busybox")" "$1/bin/busybox"
    chmod 755 "$1/bin/busybox"
    for applet in $("$busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
    done
}

# is_static FILE: true if the executable needs no dynamic linker. ldd exits with 1 for a static
# executable, and with 0 for a static-pie one.
is_static() {
    local answer
    answer=$(ldd "$1" 2>&1 || true)
    case $answer in
    *'not a dynamic executable'* | *'statically linked'*) return 0 ;;
    *) return 1 ;;
    esac
}

# Copies the output of `cargo test`, with the summary lines moved to the end, and before them the
# list of skipped tests. A skipped test prints the line `SKIPPED NAME: reason`, which is not
# captured and may begin in the middle of another line.
# The crate libtest-mimic can skip tests, but it does not find #[test] functions: all 900 would have
# to be listed by hand.
closing_lines() {
    awk '
        function skip(line) { if (!seen[line]++) reasons[++skips] = line }
        /^test result: / { results[++count] = $0; next }
        match($0, /SKIPPED [^ ]+: /) { skip(substr($0, RSTART)); if (RSTART == 1) next }
        { print; fflush() }
        END {
            for (i = 1; i <= skips; i++) print reasons[i]
            for (i = 1; i <= count; i++) print results[i]
        }'
}
