#!/usr/bin/env bash
# Builds meridian and region-sim side by side: region-sim starts the meridian that lies beside it.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
find_cargo
cargo build --release -p node -p region-sim --bins </dev/null
echo "Binaries in $(target_dir)/release: meridian, region-sim" >&2
