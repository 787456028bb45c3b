#!/usr/bin/env bash
# Runs a command with the prebuilt RocksDB in cargo's environment: `scripts/with-rocksdb.sh cargo build`.
# A ROCKSDB_LIB_DIR that the caller has set wins; without either, cargo builds RocksDB itself.
set -euo pipefail
if [ -z "${ROCKSDB_LIB_DIR:-}" ]; then
    settings=$("$(dirname "$0")/rocksdb.sh" env)
    eval "$settings"
fi
exec "$@"
