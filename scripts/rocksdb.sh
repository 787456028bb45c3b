#!/usr/bin/env bash
# Builds RocksDB once and keeps it.
#
#   scripts/rocksdb.sh build   makes the static library in the cache folder (nothing to do when it is there)
#   scripts/rocksdb.sh env     prints the settings that make cargo use it (nothing when it is not there)
#
# A bundled build of RocksDB costs 20 to 40 CPU minutes, per profile and target folder. Built once here, one library serves
# every profile and every checkout. Plain `cargo build` works without it, slowly the first time.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(awk '/^name = "librocksdb-sys"$/ { getline; gsub(/[^0-9.+]/, ""); print; exit }' Cargo.lock)

# clang++ is 14 % faster at it than g++. The names are part of the cache's: libraries of two compilers do not mix.
if command -v clang++ >/dev/null; then
    export CC=clang CXX=clang++
    compiler=clang-$(clang++ -dumpversion | cut -d. -f1)
elif command -v g++ >/dev/null; then
    compiler=gcc-$(g++ -dumpversion | cut -d. -f1)
else
    compiler=none
fi
cache="${XDG_CACHE_HOME:-$HOME/.cache}/meridian/rocksdb/$version-$compiler"

scratch=
cargo_pid=

clean_up() {
    # Cargo runs in the background, where Ctrl-C does not reach it, with compilers below it: the whole group goes.
    if [ -n "$cargo_pid" ]; then
        kill -- -"$cargo_pid" 2>/dev/null || true
        wait "$cargo_pid" 2>/dev/null || true
    fi
    if [ -n "$scratch" ]; then
        rm -rf "$scratch"
    fi
}

watch_cargo() {
    local seconds=0 compiled
    while kill -0 "$cargo_pid" 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        if [ $((seconds % 20)) -eq 0 ]; then
            compiled=$(find "$scratch" -path '*librocksdb-sys*' -name '*.o' 2>/dev/null | wc -l)
            echo "  RocksDB: $compiled of about 345 files compiled after ${seconds} s" >&2
        fi
    done
}

# The folder of librocksdb-sys in cargo's registry.
crate_dir() {
    cargo metadata --format-version 1 |
        grep -o '"manifest_path":"[^"]*/librocksdb-sys-[^"/]*/Cargo.toml"' |
        head -n 1 | sed 's/^"manifest_path":"//; s|/Cargo.toml"$||'
}

build() {
    if [ "$compiler" = none ]; then
        echo "RocksDB needs a C++ compiler: install clang or g++ (or run 'make setup')." >&2
        exit 1
    fi
    mkdir -p "$(dirname "$cache")"
    # Two builds at once would only take twice as long: the second one waits here and finds the first one's library.
    exec 9>"$cache.lock"
    flock 9
    if [ -f "$cache/lib/librocksdb.a" ]; then
        return
    fi
    echo "RocksDB $version is built once, with $compiler, into $cache: about 10 minutes on 2 cores." >&2
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    scratch=$(mktemp -d)
    # A library that the caller points to must not be mistaken for the one to be built.
    setsid env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC -u ROCKSDB_INCLUDE_DIR \
        cargo build --release -p librocksdb-sys --target-dir "$scratch" </dev/null >&2 9>&- &
    cargo_pid=$!
    watch_cargo
    local status=0
    wait "$cargo_pid" || status=$?
    cargo_pid=
    if [ "$status" -ne 0 ]; then
        echo "RocksDB's build failed (cargo exit $status); nothing was kept." >&2
        exit 1
    fi
    keep
}

# Renamed when whole: an interrupted build leaves no half of a library behind.
keep() {
    local include
    include="$(crate_dir)/rocksdb/include"
    rm -rf "$cache.new" "$cache"
    mkdir -p "$cache.new/lib"
    cp "$scratch"/release/build/librocksdb-sys-*/out/librocksdb.a "$cache.new/lib/"
    cp -r "$include" "$cache.new/include"
    mv "$cache.new" "$cache"
    echo "RocksDB $version is ready in $cache." >&2
}

environment() {
    if [ -f "$cache/lib/librocksdb.a" ]; then
        printf 'export ROCKSDB_LIB_DIR=%q ROCKSDB_STATIC=1 ROCKSDB_INCLUDE_DIR=%q\n' "$cache/lib" "$cache/include"
    fi
}

case "${1:-}" in
    build) build ;;
    env) environment ;;
    *)
        echo "usage: scripts/rocksdb.sh build|env" >&2
        exit 2
        ;;
esac
