#!/usr/bin/env bash
# Programs that were written for Redis, unmodified, against a node of their own: redis-cli, redis-benchmark, redis-py in RESP2 and
# RESP3; then random commands to the node and to this machine's redis-server, whose raw replies must be equal.
#
#   scripts/clients.sh               against target/release/meridian (or MERIDIAN_BIN)
#   scripts/clients.sh --redis       against this machine's redis-server: do the checks themselves hold?
#   scripts/clients.sh --seed S      the random commands of this seed, instead of others each time
#
# REDIS_PY (default below): the version of redis-py, from PyPI, into a temporary environment. PYTHON (default python3).
#
# Every part runs, whatever became of the ones before it. Exit 0: all of them passed. Exit 1: one did not, or the node died or did
# not exit 0.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
# shellcheck source=scripts/lib/servers.sh
. scripts/lib/servers.sh

subject=meridian
seed=
redis_py=${REDIS_PY:-8.1.0}
python=${PYTHON:-python3}
# No part takes a minute on a machine with nothing else to do.
part_limit=300
differential_commands=30000

usage() {
    sed -n '2,/^set/ { /^#/!d; s/^# \{0,1\}//; p }' scripts/clients.sh >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case "$1" in
        --redis) subject=redis ;;
        --seed)
            [ $# -ge 2 ] || usage
            seed=$2
            shift
            ;;
        *) usage ;;
    esac
    shift
done

needed=()
has_commands redis-cli redis-benchmark || needed+=(redis-tools)
has_commands redis-server || needed+=(redis-server)
has_commands "$python" || needed+=(python3)
"$python" -c 'import ensurepip' 2>/dev/null || needed+=(python3-venv)
install_packages "${needed[@]}"
if [ "$subject" = meridian ]; then
    find_cargo
    binary=$(meridian_binary)
fi

work=$(mktemp -d)
subject_pid=
redis_pid=
clean_up() {
    [ -z "$subject_pid" ] || stop_server "$subject_pid" || true
    [ -z "$redis_pid" ] || stop_server "$redis_pid" || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

passed=0
failed=0
# part NAME COMMAND…: runs it, with its output only when it fails.
part() {
    local name=$1 status=0
    shift
    "$@" </dev/null >"$work/output" 2>&1 || status=$?
    if [ "$status" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "FAILED  $name (exit code $status)"
        tail -n 60 "$work/output" | cut -c1-500 | sed 's/^/        /'
    fi
}

cli() { timeout "$part_limit" redis-cli -h "$host" -p "$port" "$@"; }
bench() { timeout "$part_limit" redis-benchmark -h "$host" -p "$port" -q "$@"; }

# expect WANTED COMMAND…: its output.
expect() {
    local wanted=$1 got
    shift
    got=$("$@") || return
    [ "$got" = "$wanted" ] || { printf '%s\n  gave   %q\n  wanted %q\n' "$*" "$got" "$wanted"; return 1; }
}

# expect_line PATTERN COMMAND…: a line that matches is in its output.
expect_line() {
    local pattern=$1 got
    shift
    got=$("$@") || return
    grep -Eq -- "$pattern" <<<"$got" || { printf '%s\n  gave %q,\n  no line like %s\n' "$*" "$got" "$pattern"; return 1; }
}

# The checks of redis-cli, each ended by its first failure.
cli_commands() {
    expect PONG cli PING && expect OK cli SET k v && expect v cli GET k && expect '"v"' cli --no-raw GET k &&
        expect '"v",NULL' cli --csv MGET k none && expect $'1\n2\n3' cli -r 3 INCR n &&
        expect '(error) ERR value is not an integer or out of range' cli --no-raw INCR k
}

cli_resp3() {
    expect 3 cli SADD s a b c && expect_line '^1~ "[abc]"$' cli -3 --no-raw SMEMBERS s && expect_line '^1# "server" => ' cli -3 --no-raw HELLO 3 &&
        expect_line '^proto' cli -3 HELLO
}

cli_stdin() {
    expect OK cli -x SET from_stdin <<<'a line' && expect 'a line' cli GET from_stdin &&
        expect $'OK\n2\n-2' cli < <(printf 'SET q "1"\nINCR q\nTTL none\n')
}

cli_mass_insertion() {
    local n
    for ((n = 0; n < 5000; n++)); do
        # shellcheck disable=SC2016 # The protocol's own dollars.
        printf '*3\r\n$3\r\nSET\r\n$%d\r\npipe:%d\r\n$1\r\nx\r\n' $((5 + ${#n})) "$n"
    done >"$work/commands"
    expect_line '^errors: 0, replies: 5000$' cli --pipe <"$work/commands"
}

cli_walks() {
    expect 5000 eval 'cli --scan --pattern "pipe:*" | sort -u | wc -l' &&
        expect 10 eval 'cli --scan --pattern "pipe:4?" | wc -l' &&
        expect_line '^Biggest +set found .* has 3 members$' cli --bigkeys && expect_line '^Biggest string found .* bytes$' cli --memkeys
}

cli_watches() {
    expect_line '^redis_version:7' cli INFO server && expect_line '^db0:keys=' cli INFO keyspace &&
        expect_line '^[0-9.]+ [0-9.]+ [0-9.]+ [0-9]+$' cli --raw --latency -i 1 && expect_line ' cmd=client' cli CLIENT LIST
}

# A test of redis-benchmark by its name and the command that it needs.
benchmark_tests() {
    cat <<'TESTS'
ping_inline PING
ping_mbulk PING
set SET
get GET
incr INCR
lpush LPUSH
rpush RPUSH
lpop LPOP
rpop RPOP
sadd SADD
hset HSET
spop SPOP
zadd ZADD
zpopmin ZPOPMIN
lrange_100 LRANGE
mset MSET
TESTS
}

# redis-benchmark ends at the first error that it is answered.
bench_parts() {
    local name command
    while read -r name command; do
        if [ -z "$(cli COMMAND INFO "$command")" ]; then
            echo "skipped redis-benchmark $name: no $command"
            continue
        fi
        part "redis-benchmark $name" bench -t "$name" -n 5000
        part "redis-benchmark $name, pipelines of 16, random keys, RESP3" bench -t "$name" -n 10000 -P 16 -r 1000 -3 --threads 2
    done < <(benchmark_tests)
    part "redis-benchmark, values of 100 kB" bench -t set,get -n 500 -d 100000
    part "redis-benchmark, a connection for each command" bench -t set,get -n 500 -k 0
    part "redis-benchmark, a command of its own" bench -n 2000 -r 100 SETEX key:__rand_int__ 100 value
}

redis_py_environment() {
    "$python" -m venv "$work/python" && "$work/python/bin/pip" install --quiet --disable-pip-version-check "redis==$redis_py"
}

differential() {
    timeout "$part_limit" "$python" scripts/clients/differential.py "$redis_address" "$subject_address" \
        --commands "$differential_commands" ${seed:+--seed "$seed"}
}

case "$subject" in
    meridian) start_meridian "$binary" "$work/subject" ;;
    redis) start_redis "$work/subject" --save '' --appendonly no ;;
esac
subject_pid=$SERVER_PID
subject_address=$SERVER_ADDRESS
host=${subject_address%:*}
port=${subject_address##*:}
start_redis "$work/redis" --save '' --appendonly no
redis_pid=$SERVER_PID
redis_address=$SERVER_ADDRESS

part "redis-cli, commands" cli_commands
part "redis-cli, RESP3" cli_resp3
part "redis-cli, from stdin" cli_stdin
part "redis-cli --pipe" cli_mass_insertion
part "redis-cli --scan, --bigkeys, --memkeys" cli_walks
part "redis-cli, INFO, --latency, CLIENT LIST" cli_watches
bench_parts
part "redis-py $redis_py, installed" redis_py_environment
part "redis-py $redis_py, RESP2 and RESP3" timeout "$part_limit" "$work/python/bin/python" scripts/clients/redis_py.py "$subject_address"
part "the replies of redis-server, $differential_commands random commands" differential

part "the server still runs" kill -0 "$subject_pid"
stopped=$subject_pid
subject_pid=
part "the server stops with exit code 0" stop_server "$stopped"
echo "clients: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
