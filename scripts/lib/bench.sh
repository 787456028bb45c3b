# shellcheck shell=bash
# What the benches share. Sourced after machine.sh and servers.sh.

work=
pids=()
load_before=

# begin_bench PACKAGE…: installs what is missing, makes the work folder, and cleans up whatever happens.
begin_bench() {
    find_cargo
    local package missing=()
    for package in "$@"; do
        case "$package" in
            redis-tools) has_commands redis-benchmark redis-cli || missing+=("$package") ;;
            redis-server) has_commands redis-server || missing+=("$package") ;;
        esac
    done
    install_packages "${missing[@]}"
    work=$(mktemp -d)
    trap end_bench EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    load_before=$(cut -d' ' -f1-3 /proc/loadavg)
    if awk -v cores="$(nproc)" '{ exit !($1 > cores / 2) }' /proc/loadavg; then
        echo "bench: the machine is busy (load $load_before on $(nproc) cores): take the ratios, not the figures" >&2
    fi
}

end_bench() {
    local pid
    for pid in "${pids[@]}"; do
        stop_server "$pid" || true
    done
    rm -rf "$work"
}

# start_subject meridian|redis DIR
start_subject() {
    case "$1" in
        meridian)
            local binary
            binary=$(meridian_binary)
            start_meridian "$binary" "$2"
            ;;
        redis) start_redis "$2" --save '' --appendonly yes --appendfsync everysec ;;
        *)
            echo "bench: the subject is meridian or redis, not $1" >&2
            exit 2
            ;;
    esac
    pids+=("$SERVER_PID")
}

# The CPU time that all threads of a process have used, in nanoseconds. Unlike wall time, other work on the machine does not change it.
cpu_ns() { # pid
    # A thread may end while they are read.
    { cat "/proc/$1/task/"*/schedstat 2>/dev/null || true; } | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

# The median of the numbers on stdin, one a line.
median() {
    sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

describe_machine() {
    printf 'Machine: %s cores (%s), Linux %s; load before %s, after %s (the benches themselves included); %s.\n' \
        "$(nproc)" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(uname -r)" \
        "$load_before" "$(cut -d' ' -f1-3 /proc/loadavg)" "$(date -u +%Y-%m-%d)"
}
