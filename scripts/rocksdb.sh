#!/usr/bin/env bash
# Builds RocksDB once and keeps it: `scripts/rocksdb.sh build` makes the static library in the cache folder,
# `scripts/rocksdb.sh env` prints the settings that make cargo use it (nothing if it is not there).
#
# A bundled build of RocksDB costs 20 to 40 CPU minutes, per profile and target folder. Built once here, one library serves
# every profile and every checkout. Plain `cargo build` works without it, slowly the first time.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(awk '/^name = "librocksdb-sys"$/ { getline; gsub(/[^0-9.+]/, ""); print; exit }' Cargo.lock)
if command -v clang++ >/dev/null; then
    export CC=clang CXX=clang++
    compiler=clang-$(clang++ -dumpversion | cut -d. -f1)
else
    compiler=gcc-$(g++ -dumpversion | cut -d. -f1)
fi
cache="${XDG_CACHE_HOME:-$HOME/.cache}/meridian/rocksdb/$version-$compiler"

build() {
    if [ -f "$cache/lib/librocksdb.a" ]; then
        return
    fi
    echo "RocksDB $version is built once, with $compiler, into $cache: about 10 minutes on 2 cores." >&2
    local scratch
    scratch=$(mktemp -d)
    # shellcheck disable=SC2064 # expanded now on purpose
    trap "rm -rf '$scratch'" EXIT
    cargo build --release -p librocksdb-sys --target-dir "$scratch" >&2 &
    local cargo_pid=$!
    while kill -0 "$cargo_pid" 2>/dev/null; do
        sleep 20
        local done_files
        done_files=$(find "$scratch" -path '*librocksdb-sys*' -name '*.o' 2>/dev/null | wc -l)
        echo "  RocksDB: $done_files of about 345 files compiled" >&2
    done
    wait "$cargo_pid"
    local include
    include=$(cargo metadata --format-version 1 --locked --filter-platform "$(rustc -vV | awk '/^host:/ { print $2 }')" |
        python3 -c 'import json,sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "librocksdb-sys"))')
    include="$(dirname "$include")/rocksdb/include"
    mkdir -p "$cache.new/lib"
    cp "$scratch"/release/build/librocksdb-sys-*/out/librocksdb.a "$cache.new/lib/"
    cp -r "$include" "$cache.new/include"
    # Renamed when whole: an interrupted build leaves no half of a library behind.
    mv "$cache.new" "$cache"
}

environment() {
    if [ -f "$cache/lib/librocksdb.a" ]; then
        echo "export ROCKSDB_LIB_DIR=$cache/lib ROCKSDB_STATIC=1 ROCKSDB_INCLUDE_DIR=$cache/include"
    fi
}

case "${1:-}" in
    build) build ;;
    env) environment ;;
    *) echo "usage: scripts/rocksdb.sh build|env" >&2; exit 2 ;;
esac
