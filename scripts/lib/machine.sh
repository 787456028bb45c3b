# shellcheck shell=bash
# What the machine has, and how it gets the rest. Sourced.

has_commands() {
    local name
    for name in "$@"; do
        command -v "$name" >/dev/null || return 1
    done
}

# bindgen opens libclang at run time, from LIBCLANG_PATH or one of these places.
has_libclang() {
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        return 0
    fi
    # Not libclang-cpp.so, which comes with the compiler and is another library.
    local dir name
    for dir in '/usr/lib/llvm-*/lib' '/usr/lib/*-linux-gnu' /usr/lib64 /usr/lib /usr/local/lib; do
        for name in 'libclang.so*' 'libclang-[0-9]*.so*'; do
            if compgen -G "$dir/$name" >/dev/null; then
                return 0
            fi
        done
    done
    return 1
}

# rustup puts cargo into a folder that only new login shells have in their PATH.
find_cargo() {
    if ! has_commands cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    if ! has_commands cargo rustc; then
        echo "cargo is not there. Install Rust first: https://rustup.rs" >&2
        exit 1
    fi
}

rust_is_new_enough() {
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
    have=$(rustc --version | cut -d' ' -f2)
    if [ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1)" != "$wanted" ]; then
        echo "Rust $have is too old: $wanted or newer is needed (rustup update stable)." >&2
        exit 1
    fi
}

# Installs Debian packages, with sudo when not root. Never asks: without rights it says what to run.
install_packages() {
    if [ $# -eq 0 ]; then
        return 0
    fi
    if ! has_commands apt-get; then
        echo "Missing, by Debian's names: $*. Install them and run this again." >&2
        exit 1
    fi
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! has_commands sudo; then
            echo "Missing: $*. Run as root: apt-get install $*" >&2
            exit 1
        fi
        # With a terminal sudo may ask for the password; without one it must not wait for it.
        as_root=(sudo)
        [ -t 0 ] || as_root=(sudo -n)
    fi
    echo "Installing with apt-get: $*" >&2
    # A machine that has just booted may still be installing updates of its own: wait for it.
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    "${apt[@]}" update >&2
    "${apt[@]}" install -y --no-install-recommends "$@" </dev/null >&2
}

# The folder that cargo builds into, whatever variable or config file says so.
target_dir() {
    cargo metadata --format-version 1 --no-deps |
        grep -o '"target_directory":"[^"]*"' | head -n 1 | sed 's/^"target_directory":"//; s/"$//'
}
