# shellcheck shell=bash
# What the scripts share: where the repository is, how to become root, how to install a package, how to find cargo and the binary.
# It runs nothing by itself; it is sourced.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -E "$@"
    else
        die "'$1' needs root: run this as root, or install sudo"
    fi
}

# install_packages NAME...: installs those Debian packages that are not there yet.
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

# Makes sure that cargo and a C linker can be called, also under sudo and where HOME is not set.
find_cargo() {
    export HOME="${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}"
    local home=
    if [ -n "${SUDO_USER:-}" ] && [ "$(id -u)" = 0 ]; then
        # Started by sudo: the toolchain is usually in the home of the user who called it.
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

# Under sudo, what was built belongs to root; gives it back to the user who called, so that their next cargo can write there.
give_back_target() {
    if [ "$(id -u)" = 0 ] && [ -n "${SUDO_UID:-}" ] && [ -d "$repository/target" ]; then
        chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$repository/target"
    fi
}

# Prints the path of the release binary, built now; or of the one that ORLOP names, which may be any runtime.
# The paths of other crates' sources, which panics name, are the same on every machine: so are the bytes of the binary.
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

# make_rootfs DIR: a root file system of one static busybox: the machine's own, or else that of Debian's busybox-static.
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

# is_static FILE: whether it is an executable that asks for no dynamic linker. ldd exits 1 for a plain static one, 0 for static-pie.
is_static() {
    local answer
    answer=$(ldd "$1" 2>&1 || true)
    case $answer in
    *'not a dynamic executable'* | *'statically linked'*) return 0 ;;
    *) return 1 ;;
    esac
}

# Copies what `cargo test` says but holds its summary lines back until the end, and before them the list of skipped tests: lines
# `SKIPPED NAME: reason`, which a test writes past the capture of the test runner, at times into the middle of a line.
# Not libtest-mimic, which can skip: it finds no #[test] functions, so that all 900 would have to be listed by hand.
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
