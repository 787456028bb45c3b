#!/usr/bin/env bash
# Redis's own Tcl test suite, in its external mode, unit by unit, each against a fresh node.
#
#   scripts/redis-suite.sh [UNIT…]                    against target/release/meridian (or MERIDIAN_BIN)
#   scripts/redis-suite.sh --redis [UNIT…]            against this machine's redis-server: does the harness itself work?
#   scripts/redis-suite.sh --server HOST:PORT [UNIT…] against any server (it is flushed, and not restarted between units)
#
#   --expected FILE    the list of expected failures (default: the committed one; with --redis and --server: none)
#   --source DIR       an unpacked Redis 7.0 instead of Debian's source package
#   --unit-limit SECS  a unit's time limit (default 600);  --test-limit SECS  a test's without progress (default 120)
#
# A test that raises an error (an unknown command, a lost connection) ends a run of the suite, and what follows would go untested.
# So the runner is told to go on after one (--durable), and the unit is run again, on another fresh node, without that test
# (--skiptest), until nothing is raised any more: the tests left out count as failures, what the last run says of the others counts.
#
# Exit 0: every failure is in the list. Exit 1: another test failed, or a node died or did not exit 0. What is in the list and
# passes is named, so that the list shrinks as commands come.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
# shellcheck source=scripts/lib/servers.sh
. scripts/lib/servers.sh

units=(
    unit/protocol unit/type/incr unit/type/string unit/type/set unit/expire unit/scan unit/keyspace unit/quit
    unit/info-command
)
subject=meridian
server=
expected=
source_dir=
unit_limit=600
test_limit=120
# More reruns than tests in any unit: a bound for the loop, not a budget.
reruns_max=100

usage() {
    sed -n '2,/^set/ { /^#/!d; s/^# \{0,1\}//; p }' scripts/redis-suite.sh >&2
    exit 2
}

chosen=()
while [ $# -gt 0 ]; do
    case "$1" in
        --redis) subject=redis ;;
        --server | --expected | --source | --unit-limit | --test-limit)
            [ $# -ge 2 ] || usage
            case "$1" in
                --server) subject=server server=$2 ;;
                --expected) expected=$2 ;;
                --source) source_dir=$2 ;;
                --unit-limit) unit_limit=$2 ;;
                --test-limit) test_limit=$2 ;;
            esac
            shift
            ;;
        unit/*) chosen+=("$1") ;;
        *) usage ;;
    esac
    shift
done
[ ${#chosen[@]} -eq 0 ] || units=("${chosen[@]}")
if [ -z "$expected" ]; then
    expected=/dev/null
    [ "$subject" != meridian ] || expected=scripts/redis-suite/expected-failures.txt
fi
[ -r "$expected" ] || { echo "$expected cannot be read" >&2; exit 2; }

needed=()
has_commands tclsh || needed+=(tcl)
[ "$subject" != redis ] || has_commands redis-server || needed+=(redis-server)
install_packages "${needed[@]}"
[ -n "$source_dir" ] || source_dir=$(scripts/redis-suite/source.sh)
if [ "$subject" = meridian ]; then
    find_cargo
    binary=$(meridian_binary)
fi

work=$(mktemp -d)
node_pid=
runner_pid=
clean_up() {
    [ -z "$runner_pid" ] || kill -- -"$runner_pid" 2>/dev/null || true
    [ -z "$node_pid" ] || stop_server "$node_pid" || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A copy: the runner writes below its own folder.
mkdir "$work/redis"
cp -r "$source_dir/tests" "$source_dir/runtest" "$work/redis/"
logs="$work/logs"
if [ "$subject" = meridian ]; then
    logs="$(target_dir)/redis-suite"
    rm -rf "$logs"
fi
mkdir -p "$logs"

# The committed list: `unit | test | reason`. A test's name may contain anything but ' | '.
split_expected() {
    awk -F ' [|] ' -v OFS='\t' '
        /^[[:space:]]*(#|$)/ { next }
        NF < 3 || $3 == "" { printf "%s:%d: not `unit | test | reason`\n", FILENAME, FNR > "/dev/stderr"; wrong = 1; next }
        { print $1, $2 }
        END { exit wrong }' "$expected" >"$work/expected.tsv"
}

expected_of() { # unit
    awk -F '\t' -v unit="$1" '$1 == unit { print $2 }' "$work/expected.tsv"
}

start_subject() { # attempt's folder
    node_pid=
    case "$subject" in
        meridian) start_meridian "$binary" "$1" ;;
        redis) start_redis "$1" --save '' --appendonly no ;;
        server)
            SERVER_ADDRESS=$server
            SERVER_PID=
            ;;
    esac
    node_pid=$SERVER_PID
}

# Adds to the outcomes what became of the server itself.
stop_subject() { # outcomes
    [ -n "$node_pid" ] || return 0
    if ! kill -0 "$node_pid" 2>/dev/null; then
        printf 'outside\t(the node died)\tsee the log\n' >>"$1"
    fi
    local status=0
    stop_server "$node_pid" || status=$?
    node_pid=
    if [ "$status" -ne 0 ]; then
        printf 'outside\t(the node did not exit 0)\texit code %s\n' "$status" >>"$1"
    fi
}

# One run of a unit, without the tests in the array `left_out`: run_once UNIT FOLDER, outcomes in FOLDER/outcomes.
run_once() {
    local unit=$1 dir=$2 options=() name status=0
    mkdir -p "$dir"
    for name in "${left_out[@]}"; do
        options+=(--skiptest "$name")
    done
    start_subject "$dir/node"
    # A group of its own, since the runner leaves its client process behind when it is killed alone.
    (
        cd "$work/redis"
        exec setsid timeout --kill-after=10 "$unit_limit" ./runtest \
            --host "${SERVER_ADDRESS%:*}" --port "${SERVER_ADDRESS##*:}" --singledb --ignore-encoding --ignore-digest \
            --tags "-needs:debug -needs:repl" --single "$unit" --durable --timeout "$test_limit" \
            --baseport $((20000 + RANDOM % 10000)) "${options[@]}"
    ) </dev/null >"$dir/runner.log" 2>&1 &
    runner_pid=$!
    wait "$runner_pid" || status=$?
    kill -- -"$runner_pid" 2>/dev/null || true
    runner_pid=
    awk -f scripts/redis-suite/outcomes.awk "$dir/runner.log" >"$dir/outcomes"
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        printf 'outside\t(unit out of time)\tnot done after %s s\n' "$unit_limit" >>"$dir/outcomes"
    elif ! grep -q '^\(ok\|failed\|raised\|hung\|outside\|skipped\)' "$dir/outcomes"; then
        printf 'outside\t(no test ran)\tsee the log\n' >>"$dir/outcomes"
    fi
    stop_subject "$dir/outcomes"
}

is_left_out() {
    local name
    for name in "${left_out[@]}"; do
        [ "$name" != "$1" ] || return 0
    done
    return 1
}

# Leaves out what ended this run: the first test that raised or hung, which may be the cause of all later ones, and those
# of the others that are in the list and so expected to fail anyway. Returns 1 when there was nothing to leave out.
leave_out() { # unit, outcomes
    local name more=1 first=1
    while IFS=$'\t' read -r _ name _; do
        if is_left_out "$name"; then
            continue
        fi
        if [ "$first" -eq 1 ] || expected_of "$1" | grep -qFx -- "$name"; then
            left_out+=("$name")
            grep -P "^(raised|hung)\t\Q$name\E\t" "$2" | head -n 1 >>"$work/left-out"
            more=0
        fi
        first=0
    done < <(grep -P '^(raised|hung)\t' "$2")
    return "$more"
}

# Runs a unit until nothing is raised. Its outcomes end up in $work/outcomes, the tests left out as failures among them.
run_unit() { # unit
    local unit=$1 flat=${1//\//-} attempt dir
    left_out=()
    : >"$work/left-out"
    for ((attempt = 1; attempt <= reruns_max; attempt++)); do
        dir="$logs/$flat/$attempt"
        run_once "$unit" "$dir"
        # A node that died counts whichever run it died in.
        grep -F $'\t(' "$dir/outcomes" | grep -P '^outside\t' >>"$work/left-out" || true
        leave_out "$unit" "$dir/outcomes" || break
    done
    { grep -v -P '^(skipped|outside)\t' "$dir/outcomes" || true; } | cat - "$work/left-out" >"$work/outcomes"
    runs=$attempt
}

judge_unit() { # unit
    local unit=$1 passed failures ignored
    passed=$(grep -c -P '^ok\t' "$work/outcomes" || true)
    ignored=$(grep -c -P '^ignored\t' "$work/outcomes" || true)
    grep -P '^(failed|raised|hung|outside)\t' "$work/outcomes" | sort -u -t $'\t' -k 2,2 >"$work/failures" || true
    failures=$(wc -l <"$work/failures")
    expected_of "$unit" | sort -u >"$work/expected"
    # Not in the list.
    awk -F '\t' 'FILENAME == ARGV[1] { listed[$0]; next } !($2 in listed) { print }' "$work/expected" "$work/failures" >"$work/unexpected"
    local unexpected
    unexpected=$(wc -l <"$work/unexpected")
    printf '%-18s %3d passed, %3d failed as listed, %3d failed unexpectedly, %3d not for external servers (%d runs)\n' \
        "$unit" "$passed" "$((failures - unexpected))" "$unexpected" "$ignored" "$runs"
    awk -F '\t' -v unit="$unit" '{ printf "  %s | %s | %s: %s\n", unit, $2, $1, substr($3, 1, 300) }' "$work/unexpected"
    # In the list, but neither failing nor ignored: it passes, or is no test of this unit.
    awk -F '\t' 'FILENAME == ARGV[1] { seen[$2] = $1; next } !($0 in seen) { print "  listed, but no such test: " $0; next }
        seen[$0] == "ok" { print "  listed, but passes: " $0 }' "$work/outcomes" "$work/expected"
    total_passed=$((total_passed + passed))
    total_listed=$((total_listed + failures - unexpected))
    total_unexpected=$((total_unexpected + unexpected))
}

split_expected
total_passed=0
total_listed=0
total_unexpected=0
for unit in "${units[@]}"; do
    run_unit "$unit"
    judge_unit "$unit"
done
echo "redis-suite: $total_passed passed, $total_listed failed as listed, $total_unexpected failed unexpectedly"
if [ "$total_unexpected" -ne 0 ]; then
    [ "$subject" != meridian ] || echo "Logs of runner and node: $logs" >&2
    exit 1
fi
