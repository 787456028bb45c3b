# shellcheck shell=bash
# Three servers that replicate to each other, for a measurement. Sourced after servers.sh and bench.sh.
# start_* set SERVER_ADDRESS, where clients go, and CLUSTER_PIDS, and add those to the pids that end_bench stops.

CLUSTER_PIDS=()
CLUSTER_START_SECONDS=60
ETCD=etcd
ETCDCTL=etcdctl
ETCD_ENDPOINTS=

# PORTS: so many ports that nothing listens on, below those that the system gives away.
PORTS=()
take_ports() { # count
    PORTS=()
    local port hex
    while [ "${#PORTS[@]}" -lt "$1" ]; do
        port=$((20000 + RANDOM % 12000))
        printf -v hex ':%04X' "$port"
        if [[ " ${PORTS[*]} " != *" $port "* ]] &&
            ! cat /proc/net/{tcp,tcp6,udp,udp6} 2>/dev/null | awk '{ print $2 }' | grep -q "$hex\$"; then
            PORTS+=("$port")
        fi
    done
}

# within_start LOG COMMAND…: until the command succeeds.
within_start() {
    local log=$1 tenths
    shift
    for ((tenths = 0; tenths < CLUSTER_START_SECONDS * 10; tenths++)); do
        if "$@" >/dev/null 2>&1; then
            return 0
        fi
        sleep 0.1
    done
    echo "bench: the servers are not ready after $CLUSTER_START_SECONDS s. A log of theirs:" >&2
    tail -n 20 "$log" >&2
    return 1
}

# A region of three nodes with three replicas: start_meridian_region BINARY DIR FSYNC
start_meridian_region() {
    local binary=$1 dir=$2 fsync=$3 i
    mkdir -p "$dir"
    take_ports 6
    CLUSTER_PIDS=()
    "$binary" tls init "$dir/tls" --cluster trio >"$dir/log" 2>&1
    for i in 0 1 2; do
        "$binary" tls issue "$dir/tls" "us-$i" >>"$dir/log" 2>&1
        cat >"$dir/us-$i.toml" <<TOML
[node]
name = "us-$i"
region = "us"
cluster = "trio"
data_dir = "$dir/data-$i"

[listen]
resp = "127.0.0.1:${PORTS[i]}"
quic = "127.0.0.1:${PORTS[i + 3]}"
http = "127.0.0.1:0"

[tls]
ca = "$dir/tls/ca.pem"
cert = "$dir/tls/us-$i.pem"
key = "$dir/tls/us-$i.key"

[peers]
seeds = ["127.0.0.1:${PORTS[(i + 1) % 3 + 3]}", "127.0.0.1:${PORTS[(i + 2) % 3 + 3]}"]

[regions]
us = 3

[members]
us = ["us-0", "us-1", "us-2"]

[storage]
fsync = "$fsync"
TOML
        "$binary" node --config "$dir/us-$i.toml" </dev/null >>"$dir/log" 2>&1 &
        CLUSTER_PIDS+=("$!")
        pids+=("$!")
    done
    SERVER_ADDRESS=127.0.0.1:${PORTS[0]}
    for i in 0 1 2; do
        within_start "$dir/log" meridian_takes_writes_at_all "${PORTS[i]}"
    done
}

# The same with relays between the nodes: start_region_sim BINARY DIR FSYNC
start_region_sim() {
    local binary=$1 dir=$2 fsync=$3
    take_ports 1
    # Its node i has three ports, in ranges of a hundred: the base is as good as free where its first port is.
    "$(dirname "$binary")/region-sim" up --regions us --nodes 3 --base-port "${PORTS[0]}" --dir "$dir" --set "storage.fsync=$fsync" \
        --meridian "$binary" --detach >/dev/null
    mapfile -t CLUSTER_PIDS < <(grep -oE '"pid":[0-9]+' "$dir/cluster.json" | cut -d: -f2)
    CLUSTER_PIDS+=("$(cat "$dir/launcher.lock")")
    # The launcher stops its nodes.
    pids+=("${CLUSTER_PIDS[-1]}")
    SERVER_ADDRESS=127.0.0.1:${PORTS[0]}
    within_start "$dir/launcher.log" meridian_takes_writes_at_all "${PORTS[0]}"
}

meridian_takes_writes_at_all() { # port
    [ "$(redis-cli -h 127.0.0.1 -p "$1" AT all SET bench:ready 1 </dev/null)" = OK ]
}

# find_etcd DIR: ETCD and ETCDCTL. Unpacked there, not installed: the package would start a service of its own.
find_etcd() {
    if has_commands etcd etcdctl; then
        return 0
    fi
    ETCD=$1/usr/bin/etcd
    ETCDCTL=$1/usr/bin/etcdctl
    if [ -x "$ETCD" ] && [ -x "$ETCDCTL" ]; then
        return 0
    fi
    has_commands apt-get dpkg || return 1
    mkdir -p "$1"
    echo "bench: unpacking Debian's etcd-server and etcd-client into $1" >&2
    local package
    (cd "$1" && apt-get -qq download etcd-server etcd-client >&2) || return 1
    for package in "$1"/etcd-*.deb; do
        dpkg -x "$package" "$1" || return 1
        rm -f "$package"
    done
    [ -x "$ETCD" ] && [ -x "$ETCDCTL" ]
}

# Three members that elect a leader: start_etcd_cluster DIR
start_etcd_cluster() {
    local dir=$1 i cluster=
    mkdir -p "$dir"
    take_ports 6
    CLUSTER_PIDS=()
    ETCD_ENDPOINTS=
    for i in 0 1 2; do
        cluster+="${cluster:+,}n$i=http://127.0.0.1:${PORTS[i + 3]}"
        ETCD_ENDPOINTS+="${ETCD_ENDPOINTS:+,}127.0.0.1:${PORTS[i]}"
    done
    for i in 0 1 2; do
        "$ETCD" --name "n$i" --data-dir "$dir/data-$i" --log-level error \
            --listen-client-urls "http://127.0.0.1:${PORTS[i]}" --advertise-client-urls "http://127.0.0.1:${PORTS[i]}" \
            --listen-peer-urls "http://127.0.0.1:${PORTS[i + 3]}" --initial-advertise-peer-urls "http://127.0.0.1:${PORTS[i + 3]}" \
            --initial-cluster "$cluster" --initial-cluster-token bench </dev/null >"$dir/log-$i" 2>&1 &
        CLUSTER_PIDS+=("$!")
        pids+=("$!")
    done
    within_start "$dir/log-0" etcd_leader
    SERVER_ADDRESS=$(etcd_leader)
}

etcd_leader() {
    ETCDCTL_API=3 "$ETCDCTL" --endpoints="$ETCD_ENDPOINTS" endpoint status -w simple </dev/null |
        awk -F ', ' '$5 == "true" { print $1; found = 1; exit } END { exit !found }'
}

# A primary and two replicas: start_redis_with_replicas DIR
start_redis_with_replicas() {
    local dir=$1 i primary found=()
    for i in 0 1 2; do
        local replica=()
        if [ "$i" -gt 0 ]; then
            replica=(--replicaof "${primary/:/ }" --repl-diskless-sync-delay 0)
        fi
        start_redis "$dir/$i" --save '' --appendonly yes --appendfsync everysec "${replica[@]}"
        pids+=("$SERVER_PID")
        found+=("$SERVER_PID")
        primary=${primary:-$SERVER_ADDRESS}
    done
    CLUSTER_PIDS=("${found[@]}")
    SERVER_ADDRESS=$primary
    within_start "$dir/0/log" redis_has_both_replicas "${primary##*:}"
}

redis_has_both_replicas() { # port
    [ "$(redis-cli -h 127.0.0.1 -p "$1" INFO replication </dev/null | grep -c 'state=online')" -eq 2 ]
}
