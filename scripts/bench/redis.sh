#!/usr/bin/env bash
# Meridian beside Redis: redis-benchmark for SET, GET, INCR and SADD over random keys, 50 connections, without pipelining and 16 deep.
#
#   scripts/bench/redis.sh [--rounds N] [--seconds S] [--subject meridian|redis]
#
# Ours runs with fsync = "interval", redis-server with appendonly yes and appendfsync everysec: both acknowledge before the disk has
# it. The two are measured in turn, one command at a time, the order reversed every round, so that drift of the machine falls on both.
# Beside the rate stands the CPU time that a command costs the server: it says where the rate comes from and holds on a busy machine.
# `--subject redis` measures redis-server against itself: what the harness adds to the ratio.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
# shellcheck source=scripts/lib/servers.sh
. scripts/lib/servers.sh
# shellcheck source=scripts/lib/bench.sh
. scripts/lib/bench.sh

rounds=5
seconds=2
subject=meridian
while [ $# -gt 0 ]; do
    case "$1" in
        --rounds) rounds=${2?} ;;
        --seconds) seconds=${2?} ;;
        --subject) subject=${2?} ;;
        *)
            echo "usage: scripts/bench/redis.sh [--rounds N] [--seconds S] [--subject meridian|redis]" >&2
            exit 2
            ;;
    esac
    shift 2
done
commands=(SET GET INCR SADD)
depths=(1 16)
keys=100000
clients=50
# Requests of a probe that finds out how many fill the time.
probe_requests=20000

begin_bench redis-tools redis-server
start_subject "$subject" "$work/subject"
subject_pid=$SERVER_PID
subject_address=$SERVER_ADDRESS
start_redis "$work/redis" --save '' --appendonly yes --appendfsync everysec
redis_pid=$SERVER_PID
redis_address=$SERVER_ADDRESS
pids+=("$redis_pid")

# Requests per second, and CPU microseconds of the server per request: measure PID ADDRESS COMMAND DEPTH REQUESTS.
measure() {
    local pid=$1 output before
    shift
    before=$(cpu_ns "$pid")
    output=$(redis-benchmark -h "${1%:*}" -p "${1##*:}" -t "$2" -c "$clients" -P "$3" -n "$4" -r "$keys" --csv </dev/null 2>"$work/errors") ||
        { cat "$work/errors" >&2; return 1; }
    if [ -s "$work/errors" ]; then
        head -n 3 "$work/errors" >&2
    fi
    awk -F '","' -v before="$before" -v after="$(cpu_ns "$pid")" -v n="$4" \
        'NR == 2 { printf "%s\t%.2f\n", $2, (after - before) / 1000 / n }' <<<"$output"
}

declare -A requests
for command in "${commands[@]}"; do
    for depth in "${depths[@]}"; do
        # By the slower of the two, and the probe warms both up: GET finds the keys that SET wrote.
        ours=$(measure "$subject_pid" "$subject_address" "$command" "$depth" "$probe_requests")
        theirs=$(measure "$redis_pid" "$redis_address" "$command" "$depth" "$probe_requests")
        requests[$command-$depth]=$(awk -v a="${ours%%$'\t'*}" -v b="${theirs%%$'\t'*}" -v s="$seconds" -v least="$probe_requests" \
            'BEGIN { n = int((a < b ? a : b) * s); print (n < least ? least : n) }')
    done
done

for ((round = 1; round <= rounds; round++)); do
    echo "bench: round $round of $rounds" >&2
    for depth in "${depths[@]}"; do
        for command in "${commands[@]}"; do
            count=${requests[$command-$depth]}
            if [ $((round % 2)) -eq 1 ]; then
                ours=$(measure "$subject_pid" "$subject_address" "$command" "$depth" "$count")
                theirs=$(measure "$redis_pid" "$redis_address" "$command" "$depth" "$count")
            else
                theirs=$(measure "$redis_pid" "$redis_address" "$command" "$depth" "$count")
                ours=$(measure "$subject_pid" "$subject_address" "$command" "$depth" "$count")
            fi
            printf '%s\t%s\t%s\t%s\n' "$command" "$depth" "$ours" "$theirs" >>"$work/figures"
        done
    done
done
kill -0 "$subject_pid" "$redis_pid" || { echo "bench: a server did not survive the run" >&2; exit 1; }

echo
echo "### $subject beside redis-server ($(redis-server --version | sed -nE 's/.* v=([^ ]+).*/\1/p')), requests per second"
echo
echo "redis-benchmark -c $clients -r $keys, median of $rounds rounds of about $seconds s each; redis-server: appendonly yes, appendfsync everysec."
describe_machine
echo
echo "| command | -P | $subject | redis-server | ratio | lowest to highest | CPU µs, $subject | CPU µs, redis-server |"
echo "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |"
for depth in "${depths[@]}"; do
    for command in "${commands[@]}"; do
        rows=$(awk -F '\t' -v c="$command" -v d="$depth" '$1 == c && $2 == d' "$work/figures")
        ratios=$(awk -F '\t' '{ printf "%.2f\n", $3 / $5 }' <<<"$rows" | sort -g)
        awk -v c="$command" -v d="$depth" -v ours="$(cut -f3 <<<"$rows" | median)" -v theirs="$(cut -f5 <<<"$rows" | median)" \
            -v low="${ratios%%$'\n'*}" -v high="${ratios##*$'\n'}" \
            -v our_cpu="$(cut -f4 <<<"$rows" | median)" -v their_cpu="$(cut -f6 <<<"$rows" | median)" 'BEGIN {
                printf "| %s | %d | %d | %d | %.2f | %.2f to %.2f | %.2f | %.2f |\n", c, d, ours, theirs, ours / theirs, low, high, our_cpu, their_cpu }'
    done
done
