# shellcheck shell=bash
# Servers of this machine for a suite or a measurement: each in a folder of its own, on a port that was free, stopped by its pid.
# Sourced. start_* set SERVER_PID and SERVER_ADDRESS; call them in the shell itself, not in $(…), which would own the process.

SERVER_PID=
SERVER_ADDRESS=
SERVER_START_SECONDS=60
SERVER_STOP_SECONDS=30

# A node alone in its region: start_meridian BINARY DIR. Its log is DIR/log.
start_meridian() {
    local binary=$1 dir=$2
    mkdir -p "$dir"
    "$binary" tls init "$dir/tls" --cluster solo >"$dir/log" 2>&1
    "$binary" tls issue "$dir/tls" us-1 >>"$dir/log" 2>&1
    cat >"$dir/us-1.toml" <<TOML
[node]
name = "us-1"
region = "us"
cluster = "solo"
data_dir = "$dir/data"

[listen]
resp = "127.0.0.1:0"
quic = "127.0.0.1:0"
http = "127.0.0.1:0"

[tls]
ca = "$dir/tls/ca.pem"
cert = "$dir/tls/us-1.pem"
key = "$dir/tls/us-1.key"

[regions]
us = 1

[storage]
fsync = "interval"
TOML
    : >"$dir/ready"
    "$binary" node --config "$dir/us-1.toml" </dev/null >"$dir/ready" 2>>"$dir/log" &
    SERVER_PID=$!
    local tenths
    for ((tenths = 0; tenths < SERVER_START_SECONDS * 10; tenths++)); do
        SERVER_ADDRESS=$(sed -n 's/^ready .*resp=\([^ ]*\).*$/\1/p' "$dir/ready")
        if [ -n "$SERVER_ADDRESS" ]; then
            return 0
        fi
        kill -0 "$SERVER_PID" 2>/dev/null || break
        sleep 0.1
    done
    echo "The node did not become ready. Its log:" >&2
    tail -n 20 "$dir/log" >&2
    return 1
}

# start_redis DIR [SETTING…]: redis-server with these settings of its command line.
start_redis() {
    local dir=$1
    shift
    mkdir -p "$dir"
    local try tenths port
    for ((try = 0; try < 20; try++)); do
        # redis-server cannot ask the system for a port. A busy one makes it exit, and the next is tried.
        port=$((20000 + RANDOM % 12000))
        redis-server --bind 127.0.0.1 --port "$port" --dir "$dir" --daemonize no "$@" </dev/null >"$dir/log" 2>&1 &
        SERVER_PID=$!
        SERVER_ADDRESS=127.0.0.1:$port
        for ((tenths = 0; tenths < SERVER_START_SECONDS * 10; tenths++)); do
            kill -0 "$SERVER_PID" 2>/dev/null || break
            if grep -qs 'Ready to accept connections' "$dir/log"; then
                return 0
            fi
            sleep 0.1
        done
    done
    echo "redis-server did not start. Its log:" >&2
    tail -n 20 "$dir/log" >&2
    return 1
}

# stop_server PID: SIGTERM, and SIGKILL when that is not enough. Returns the exit code of the server.
stop_server() {
    local pid=$1 tenths status=0
    kill -TERM "$pid" 2>/dev/null || true
    for ((tenths = 0; tenths < SERVER_STOP_SECONDS * 10; tenths++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || status=$?
    return "$status"
}

# The meridian that `make release` built, or MERIDIAN_BIN.
meridian_binary() {
    local binary
    binary=${MERIDIAN_BIN:-$(target_dir)/release/meridian}
    if [ ! -x "$binary" ]; then
        echo "$binary is not there: run 'make release' first." >&2
        return 1
    fi
    echo "$binary"
}
