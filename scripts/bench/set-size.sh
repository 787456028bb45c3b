#!/usr/bin/env bash
# What it costs to add to a set of 1,000 elements and to one of 1,000,000. The bound is a ratio of 1.5.
#
#   scripts/bench/set-size.sh [--rounds N] [--large N] [--subject meridian|redis]
#
# Both are one key, one connection, new random elements, and measured in turn. The small set is filled anew every round, so that it
# stays small. Two figures: the CPU time that an add costs the server, which decides (a busy machine does not change it), and the
# median latency of a round trip, which holds the network's share too. Without pipelining and 16 deep; medians over the rounds.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
# shellcheck source=scripts/lib/servers.sh
. scripts/lib/servers.sh
# shellcheck source=scripts/lib/bench.sh
. scripts/lib/bench.sh

rounds=15
small=1000
large=1000000
subject=meridian
while [ $# -gt 0 ]; do
    case "$1" in
        --rounds) rounds=${2?} ;;
        --large) large=${2?} ;;
        --subject) subject=${2?} ;;
        *)
            echo "usage: scripts/bench/set-size.sh [--rounds N] [--large N] [--subject meridian|redis]" >&2
            exit 2
            ;;
    esac
    shift 2
done
# Few enough that the small set stays one: it ends a round twice as large at most.
adds=1000
bound=1.5
depths=(1 16)

begin_bench redis-tools
start_subject "$subject" "$work/subject"
host=${SERVER_ADDRESS%:*}
port=${SERVER_ADDRESS##*:}

# fill KEY COUNT: so many elements, a hundred in a command.
fill() {
    # Inline commands would be shorter, but the pipe mode of redis-cli wants the protocol.
    awk -v key="$1" -v count="$2" 'BEGIN {
        per = 100
        for (i = 0; i < count; i += per) {
            n = count - i < per ? count - i : per
            printf "*%d\r\n$4\r\nSADD\r\n$%d\r\n%s\r\n", n + 2, length(key), key
            for (j = i; j < i + n; j++) { e = sprintf("element:%012d", j); printf "$%d\r\n%s\r\n", length(e), e }
        } }' | redis-cli -h "$host" -p "$port" --pipe >"$work/fill" 2>&1 || { cat "$work/fill" >&2; return 1; }
    local size
    size=$(redis-cli -h "$host" -p "$port" SCARD "$1" </dev/null)
    if [ "$size" -ne "$2" ]; then
        echo "bench: $1 has $size elements after the fill, not $2" >&2
        return 1
    fi
}

# cost DEPTH KEY: CPU microseconds of the server per add, and the median latency of a round trip in microseconds.
cost() {
    local before output
    before=$(cpu_ns "$SERVER_PID")
    output=$(redis-benchmark -h "$host" -p "$port" -c 1 -P "$1" -n "$adds" -r 1000000000 --csv \
        SADD "$2" new:__rand_int__ </dev/null 2>/dev/null)
    awk -F '","' -v before="$before" -v after="$(cpu_ns "$SERVER_PID")" -v n="$adds" \
        'NR == 2 { printf "%.2f\t%.0f\n", (after - before) / 1000 / n, $5 * 1000 }' <<<"$output"
}

echo "bench: filling a set of $large elements" >&2
fill set:large "$large"
for ((round = 1; round <= rounds; round++)); do
    for depth in "${depths[@]}"; do
        key="set:small:$depth:$round"
        fill "$key" "$small"
        # Written just before, the small set is hot: so is the large one after its first adds, which are not measured.
        cost "$depth" set:large >/dev/null
        printf '%s\t%s\t%s\n' "$depth" "$(cost "$depth" "$key")" "$(cost "$depth" set:large)" >>"$work/figures"
    done
done

echo
echo "### SADD to a set of $small and to one of $large elements ($subject)"
echo
echo "One connection, $adds adds a round, median of $rounds rounds; CPU in microseconds per add, latency in microseconds per round trip."
describe_machine
echo
echo "| -P | CPU at $small | CPU at $large | ratio | bound | latency at $small | latency at $large | ratio |"
echo "| ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |"
for depth in "${depths[@]}"; do
    rows=$(awk -F '\t' -v d="$depth" '$1 == d' "$work/figures")
    awk -v d="$depth" -v bound="$bound" \
        -v small_cpu="$(cut -f2 <<<"$rows" | median)" -v small_latency="$(cut -f3 <<<"$rows" | median)" \
        -v large_cpu="$(cut -f4 <<<"$rows" | median)" -v large_latency="$(cut -f5 <<<"$rows" | median)" 'BEGIN {
            ratio = large_cpu / small_cpu
            printf "| %d | %.1f | %.1f | %.2f | %.1f %s | %.0f | %.0f | %.2f |\n", d, small_cpu, large_cpu, ratio,
                bound, (ratio <= bound ? "kept" : "BROKEN"), small_latency, large_latency, large_latency / small_latency }'
done
