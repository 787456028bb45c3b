#!/usr/bin/env bash
# Starts the regions in front. `exec`, so that Ctrl-C and SIGTERM reach the launcher itself.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
find_cargo
exec "$(target_dir)/release/region-sim" up "$@"
