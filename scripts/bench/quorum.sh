#!/usr/bin/env bash
# Three nodes on this machine, each write on a majority before it is acknowledged: Meridian beside etcd and Redis with WAIT 1.
#
#   scripts/bench/quorum.sh [--rounds N] [--seconds S] [--launcher direct|region-sim]
#
# The systems are up together and measured in turn, one at a time, the order reversed every round, so that drift of the machine falls on
# all. One client, quorum-load.rs, loads them all: 64-byte values, 100,000 keys, all there before; 50 connections for the rate and one
# for the latency, without pipelining, to one node: Redis's primary, etcd's leader. What differs:
#
#   meridian          fsync = "interval"; writes and reads at LOCAL_QUORUM, so that a read asks a second node
#   meridian, synced  fsync = "always": acknowledged once it survives power loss on a majority
#   etcd              synced likewise, which cannot be turned off; gRPC, not the JSON gateway; reads serializable, from one node alone.
#                     Its linearizable reads, which are the ones that Meridian's compare with, have rows of their own
#   redis + WAIT 1    appendfsync everysec; SET and WAIT 1 0 in one packet, done when both are answered; reads from the primary alone
#
# `--launcher region-sim` puts the relays of region-sim up between Meridian's nodes, which cost what no other system here pays.
# etcd that is not installed is unpacked from Debian's packages into the target folder; without it its rows are left out.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
# shellcheck source=scripts/lib/servers.sh
. scripts/lib/servers.sh
# shellcheck source=scripts/lib/clusters.sh
. scripts/lib/clusters.sh
# shellcheck source=scripts/lib/bench.sh
. scripts/lib/bench.sh

rounds=5
seconds=2
launcher=direct
while [ $# -gt 0 ]; do
    case "$1" in
        --rounds) rounds=${2?} ;;
        --seconds) seconds=${2?} ;;
        --launcher) launcher=${2?} ;;
        *)
            echo "usage: scripts/bench/quorum.sh [--rounds N] [--seconds S] [--launcher direct|region-sim]" >&2
            exit 2
            ;;
    esac
    shift 2
done
keys=100000
value_bytes=64
connections=(50 1)
# Enough that a fill is bound by the machine and not by the disk's answers.
fill_connections=200
# Between two measurements, so that what one system does afterwards (flushes, the slower replica) is not on the next one's bill.
pause_seconds=0.5
# After the fills.
settle_seconds=5

# By system: where its clients go, and all of its processes.
declare -A address processes
systems=()

# add SYSTEM: what start_* have just started.
add() {
    systems+=("$1")
    address[$1]=$SERVER_ADDRESS
    processes[$1]=${CLUSTER_PIDS[*]}
}

begin_bench redis-tools redis-server
load=$work/quorum-load
rustc --edition 2024 -O -o "$load" scripts/bench/quorum-load.rs
binary=$(meridian_binary)
case "$launcher" in
    direct)
        start_meridian_region "$binary" "$work/interval" interval
        add meridian
        start_meridian_region "$binary" "$work/always" always
        add 'meridian, synced'
        ;;
    region-sim)
        start_region_sim "$binary" "$work/interval" interval
        add meridian
        start_region_sim "$binary" "$work/always" always
        add 'meridian, synced'
        ;;
    *)
        echo "bench: the launcher is direct or region-sim, not $launcher" >&2
        exit 2
        ;;
esac
if find_etcd "$(target_dir)/etcd"; then
    start_etcd_cluster "$work/etcd"
    add etcd
else
    echo "bench: etcd is not installed and Debian's packages cannot be had: its rows are left out" >&2
fi
start_redis_with_replicas "$work/redis"
add 'redis + WAIT 1'

# operation_of SYSTEM write|read|linearizable: what quorum-load calls it; nothing if there is no such thing.
operation_of() {
    case "$1/$2" in
        meridian*/write) echo set ;;
        meridian*/read | redis*/read) echo get ;;
        etcd/write) echo etcd-put ;;
        etcd/read) echo etcd-serializable ;;
        etcd/linearizable) echo etcd-linearizable ;;
        redis*/write) echo set-wait ;;
    esac
}

cluster_cpu_ns() { # system
    local pid
    for pid in ${processes[$1]}; do
        cpu_ns "$pid"
    done | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

# measure SYSTEM KIND CONNECTIONS: operations per second, p50 and p99 in microseconds, and CPU microseconds of all nodes per operation.
measure() {
    local operation before figures
    operation=$(operation_of "$1" "$2")
    if [ "$1" = etcd ]; then
        address[etcd]=$(etcd_leader)
    fi
    before=$(cluster_cpu_ns "$1")
    figures=$("$load" "$operation" "${address[$1]}" "$3" "$seconds" "$keys" "$value_bytes")
    awk -v before="$before" -v after="$(cluster_cpu_ns "$1")" -v s="$seconds" \
        '{ printf "%s\t%.1f\n", $0, (after - before) / 1000 / ($1 * s) }' <<<"$figures"
}

for system in "${systems[@]}"; do
    echo "bench: writing $keys keys to $system" >&2
    fill=fill
    if [ "$system" = etcd ]; then
        fill=etcd-fill
    fi
    "$load" "$fill" "${address[$system]}" "$fill_connections" 0 "$keys" "$value_bytes" >/dev/null
done

# What a system costs while it has nothing to do, which the others pay during their turns, in percent of a core.
sleep "$settle_seconds"
declare -A idle
for system in "${systems[@]}"; do
    idle[$system]=$(cluster_cpu_ns "$system")
done
sleep "$settle_seconds"
for system in "${systems[@]}"; do
    idle[$system]=$(awk -v before="${idle[$system]}" -v after="$(cluster_cpu_ns "$system")" -v s="$settle_seconds" \
        'BEGIN { printf "%.0f", (after - before) / s / 1e7 }')
done

for ((round = 1; round <= rounds; round++)); do
    echo "bench: round $round of $rounds" >&2
    order=("${systems[@]}")
    if [ $((round % 2)) -eq 0 ]; then
        order=()
        for system in "${systems[@]}"; do
            order=("$system" "${order[@]}")
        done
    fi
    for count in "${connections[@]}"; do
        for kind in write read linearizable; do
            for system in "${order[@]}"; do
                if [ -z "$(operation_of "$system" "$kind")" ]; then
                    continue
                fi
                sleep "$pause_seconds"
                printf '%s\t%s\t%s\t%s\t%s\n' "$round" "$system" "$kind" "$count" "$(measure "$system" "$kind" "$count")" >>"$work/figures"
            done
        done
    done
done
kill -0 "${pids[@]}" || { echo "bench: a server did not survive the run" >&2; exit 1; }

# column SYSTEM KIND CONNECTIONS FIELD: the median over the rounds; 5 operations per second, 6 p50, 7 p99, 8 CPU.
column() {
    awk -F '\t' -v s="$1" -v k="$2" -v c="$3" -v f="$4" '$2 == s && $3 == k && $4 == c { print $f }' "$work/figures" | median
}

echo
echo "### A majority of three nodes: meridian ($launcher) beside etcd and Redis with WAIT 1"
echo
echo "$value_bytes-byte values, $keys keys, median of $rounds rounds of $seconds s each; latencies in microseconds; CPU of all nodes of a system."
if [ -n "${address[etcd]:-}" ]; then
    printf '%s; ' "$("$ETCD" --version | sed -n 's/^etcd Version: /etcd /p')"
fi
printf 'redis-server %s; data on %s.\n' "$(redis-server --version | sed -nE 's/.* v=([^ ]+).*/\1/p')" "$(df --output=fstype "$work" | tail -n 1)"
describe_machine
printf 'While idle, in percent of a core:'
separator=' '
for system in "${systems[@]}"; do
    printf '%s%s %s' "$separator" "$system" "${idle[$system]}"
    separator='; '
done
echo .
echo
echo "| system | operation | connections | per second | p50 | p99 | CPU µs |"
echo "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
for kind in write read linearizable; do
    for count in "${connections[@]}"; do
        for system in "${systems[@]}"; do
            if [ -z "$(operation_of "$system" "$kind")" ]; then
                continue
            fi
            name=$kind
            if [ "$kind" = linearizable ]; then
                name='linearizable read'
            fi
            printf '| %s | %s | %s | %.0f | %.0f | %.0f | %.0f |\n' "$system" "$name" "$count" "$(column "$system" "$kind" "$count" 5)" \
                "$(column "$system" "$kind" "$count" 6)" "$(column "$system" "$kind" "$count" 7)" "$(column "$system" "$kind" "$count" 8)"
        done
    done
done

# ratio OURS THEIRS CONNECTIONS AIM: of writes, from the pairs of each round.
ratio() {
    awk -F '\t' -v ours="$1" -v theirs="$2" -v c="$3" '
        $3 == "write" && $4 == c && $2 == ours { a[$1] = $5 }
        $3 == "write" && $4 == c && $2 == theirs { b[$1] = $5 }
        END { for (round in a) if (b[round] > 0) printf "%.3f\n", a[round] / b[round] }' "$work/figures" | sort -g >"$work/ratios"
    if [ -s "$work/ratios" ]; then
        printf '| %s / %s | %s | %.2f | %.2f to %.2f | %s |\n' "$1" "$2" "$3" "$(median <"$work/ratios")" \
            "$(head -n 1 "$work/ratios")" "$(tail -n 1 "$work/ratios")" "$4"
    fi
}

echo
echo "| writes | connections | ratio | lowest to highest | aim |"
echo "| --- | ---: | ---: | --- | --- |"
ratio meridian etcd 50 'at least 5'
ratio 'meridian, synced' etcd 50 ''
ratio meridian 'redis + WAIT 1' 50 'at least 1'
ratio meridian etcd 1 ''
ratio 'meridian, synced' etcd 1 ''
ratio meridian 'redis + WAIT 1' 1 ''
