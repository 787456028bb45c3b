#!/usr/bin/env bash
# Makes a Debian or Ubuntu machine able to build Meridian: says what is missing, installs only that, builds RocksDB once.
# On a machine without apt-get it names what is missing and stops. `scripts/setup.sh --no-rocksdb` leaves RocksDB out.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh

find_cargo
rust_is_new_enough

missing=()
need() { # package, test…
    local package=$1
    shift
    "$@" || missing+=("$package")
}
need build-essential has_commands cc g++
need clang has_commands clang++
need libclang-dev has_libclang
need pkg-config has_commands pkg-config
install_packages "${missing[@]}"

if [ "${1:-}" != --no-rocksdb ]; then
    scripts/rocksdb.sh build
fi
