#!/usr/bin/env bash
# The long tier: many seeds of the simulator, what the documentation tells people to paste, chaos on real clusters, the search for a seed
# that catches each mutant, the tests that take minutes, then the end-to-end tests again and again.
#
#   scripts/soak.sh [--seeds A..B] [--chaos N] [--rounds N]
#
# Defaults: 0..10000, 10 seeds of a minute of every fault (and each scenario once), 20. A part given as nothing ('--seeds ""', '--chaos 0',
# '--rounds 0') is left out.
#
# Every part runs to its end; the exit code is 1 when any of it failed.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
find_cargo

seeds=0..10000
chaos=10
rounds=20
while [ $# -gt 0 ]; do
    case "$1" in
        --seeds) seeds=${2?--seeds needs A..B} ;;
        --chaos) chaos=${2?--chaos needs a number} ;;
        --rounds) rounds=${2?--rounds needs a number} ;;
        *)
            echo "usage: scripts/soak.sh [--seeds A..B] [--chaos N] [--rounds N]" >&2
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

# One run of chaos. Its report is kept if it fails.
run_chaos() {
    local name=$1 report="$logs/chaos-$1"
    shift
    if "$target/release/region-sim" chaos --report "$report" "$@" </dev/null >"$report.log" 2>&1; then
        echo "soak: chaos $name passed: $(grep '^seed .*answered' "$report.log")" >&2
        rm -rf "$report"
    else
        echo "soak: chaos $name FAILED, see $report.log and $report/index.html" >&2
        failed_chaos+=("$name")
    fi
}

if scripts/docs-check.sh </dev/null >"$logs/docs.log" 2>&1; then
    summary+=("documentation: $(tail -n 1 "$logs/docs.log")")
else
    summary+=("documentation: FAILED, see $logs/docs.log")
    failures=$((failures + 1))
fi

if [ "$chaos" -gt 0 ]; then
    failed_chaos=()
    runs=0
    for ((seed = 1; seed <= chaos; seed++)); do
        run_chaos "seed-$seed" --seed "$seed" --duration 60s
        runs=$((runs + 1))
    done
    for scenario in configs/chaos/*.toml; do
        run_chaos "$(basename "$scenario" .toml)" --scenario "$scenario"
        runs=$((runs + 1))
    done
    summary+=("chaos: $((runs - ${#failed_chaos[@]})) of $runs runs passed${failed_chaos:+, failed: ${failed_chaos[*]}}")
    failures=$((failures + ${#failed_chaos[@]}))
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

# From the build before to this one, node by node.
run_upgrade() {
    local before
    before=$(scripts/previous-build.sh) || return 1
    MERIDIAN_BEFORE=$before cargo test -p tests --test rolling_upgrade
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
    if run_upgrade </dev/null >"$logs/upgrade.log" 2>&1; then
        summary+=("rolling upgrade: passed")
    else
        summary+=("rolling upgrade: FAILED, see $logs/upgrade.log")
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
