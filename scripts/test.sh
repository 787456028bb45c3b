#!/usr/bin/env bash
# Runs the tests in one build (dev profile) and ends with the runner's own summary. Arguments go to the runner.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
find_cargo

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# cargo test says a line per binary: their sum is the summary.
sum_up() {
    awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
        END { printf "Summary: %d passed, %d failed, %d ignored\n", passed, failed, ignored }' "$log"
}

# The end-to-end tests start meridian and region-sim as processes. They are built here, in the same invocation as the tests, so
# that cargo resolves the same features for both and compiles nothing twice.
cargo build --workspace --lib --bins --tests </dev/null

# Documentation first: the summary of the main run is then the last thing on the screen.
if [ $# -eq 0 ]; then
    cargo test --workspace --doc --quiet </dev/null
fi

if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run "$@" </dev/null
else
    status=0
    cargo test --lib --bins --tests --no-fail-fast "$@" </dev/null 2>&1 | tee "$log" || status=$?
    sum_up
    exit "$status"
fi
