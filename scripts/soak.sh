#!/usr/bin/env bash
# The long tier: many seeds of the simulator, the search for a seed that catches each mutant, the tests that take minutes, then the
# end-to-end tests again and again.
#
#   scripts/soak.sh [--seeds A..B] [--rounds N]     defaults 0..10000 and 20; a part given as nothing ('--rounds 0') is left out
#
# Every part runs to its end; the exit code is 1 when any of it failed.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
find_cargo

seeds=0..10000
rounds=20
while [ $# -gt 0 ]; do
    case "$1" in
        --seeds) seeds=${2?--seeds needs A..B} ;;
        --rounds) rounds=${2?--rounds needs a number} ;;
        *)
            echo "usage: scripts/soak.sh [--seeds A..B] [--rounds N]" >&2
            exit 2
            ;;
    esac
    shift 2
done

target=$(target_dir)
logs="$target/soak"
mkdir -p "$logs"
failures=0
summary=()

if [ -n "$seeds" ]; then
    echo "soak: simulator, seeds $seeds" >&2
    if "$target/release/region-sim" sim --seeds "$seeds" </dev/null 2>&1 | tee "$logs/sim.log"; then
        summary+=("simulator: $(tail -n 1 "$logs/sim.log")")
    else
        summary+=("simulator: FAILED, see $logs/sim.log")
        failures=$((failures + 1))
    fi
fi

run_end_to_end() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --workspace --no-fail-fast -E 'package(tests)'
    else
        cargo test -p tests --no-fail-fast
    fi
}

# Which seed is the first to catch each deliberate bug of the core: the table of docs/testing.md.
run_mutants() {
    cargo test --workspace --test mutants -- --ignored --nocapture
}

# Tests that take minutes each, once.
run_long() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --workspace --no-fail-fast --run-ignored only -E 'not binary(mutants)'
    else
        cargo test --workspace --no-fail-fast -- --ignored --skip every_mutant
    fi
}

if [ "$rounds" -gt 0 ]; then
    cargo build --workspace --lib --bins --tests </dev/null
    # What is broken on purpose panics at length: that goes to the log alone.
    if run_mutants </dev/null 2>"$logs/mutants.err" | tee "$logs/mutants.log"; then
        summary+=("mutants: all caught")
    else
        summary+=("mutants: FAILED, see $logs/mutants.log")
        failures=$((failures + 1))
    fi
    if run_long </dev/null >"$logs/long.log" 2>&1; then
        summary+=("long tests: passed")
    else
        summary+=("long tests: FAILED, see $logs/long.log")
        failures=$((failures + 1))
    fi
    failed_rounds=()
    for ((round = 1; round <= rounds; round++)); do
        log="$logs/round-$round.log"
        if run_end_to_end </dev/null >"$log" 2>&1; then
            echo "soak: round $round of $rounds passed" >&2
        else
            echo "soak: round $round of $rounds FAILED, see $log" >&2
            failed_rounds+=("$round")
        fi
    done
    summary+=("end-to-end: $((rounds - ${#failed_rounds[@]})) of $rounds rounds passed${failed_rounds:+, failed: ${failed_rounds[*]}}")
    failures=$((failures + ${#failed_rounds[@]}))
fi

printf '%s\n' "${summary[@]}"
[ "$failures" -eq 0 ]
