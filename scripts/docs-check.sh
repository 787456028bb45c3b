#!/usr/bin/env bash
# Runs what the documentation tells a newcomer to paste, and compares what it says comes out: every `sh` block of the pages below, each page
# against a fresh demo cluster on ports 7000 to 7208, which have to be free.
#
#   scripts/docs-check.sh [PAGE...]        README.md and docs/concepts.md unless given
#
# A comment behind a command is the output that is expected, up to a colon; several lines of output are joined by ", ". A command that begins
# a cluster (make demo) or asks for a pipe's output is run and not compared. Exit 1: an output differs, or a command failed.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
find_cargo

sim="$(target_dir)/release/region-sim"
meridian="$(target_dir)/release/meridian"
pages=("$@")
[ $# -gt 0 ] || pages=(README.md docs/concepts.md)
work=$(mktemp -d)
failures=0

if ! has_commands redis-cli; then
    redis-cli() { "$meridian" cli "$@"; }
fi

end_cluster() {
    "$sim" --dir "$work/cluster" down >/dev/null 2>&1 || true
    rm -rf "$work/cluster"
}
trap 'end_cluster; rm -rf "$work"' EXIT

begin_cluster() {
    "$sim" --dir "$work/cluster" up --detach --regions us,eu,ap --nodes 3 --rtt us-eu=80ms,us-ap=150ms,eu-ap=200ms \
        >"$work/up.log" 2>&1 </dev/null || {
        echo "docs-check: the demo cluster does not start:" >&2
        cat "$work/up.log" >&2
        exit 1
    }
}

# The lines of a page's `sh` blocks.
commands_of() {
    awk '/^```sh$/ { inside = 1; next } /^```$/ { inside = 0 } inside && NF' "$1"
}

# Whether an output is what a comment says, or begins with it, as an error does with its first word.
is_expected() {
    local output=$1 expected=$2
    case "$output" in
        "$expected" | "$expected "*) return 0 ;;
        *) return 1 ;;
    esac
}

check() {
    local page=$1 line command comment expected output status
    while IFS= read -r line; do
        command=${line%%  #*}
        comment=
        [ "$command" = "$line" ] || comment=${line#*  # }
        case "$command" in
            'make demo'* | 'sim='*) continue ;;
            "\$sim "*) command="\"$sim\" --dir \"$work/cluster\" ${command#"\$sim "}" ;;
        esac
        expected=${comment%%:*}
        expected=${expected%% …}
        case "$line" in
            redis-cli*'|'*) expected= ;;
            redis-cli*) ;;
            *) expected= ;;
        esac
        status=0
        output=$(eval "$command" 2>&1 </dev/null | awk 'NR > 1 { printf ", " } { printf "%s", $0 }') || status=$?
        if [ -n "$expected" ] && ! is_expected "$output" "$expected"; then
            echo "$page: $command: '$expected' is expected, and it says '$output'" >&2
            failures=$((failures + 1))
        elif [ -z "$expected" ] && [ "$status" -ne 0 ]; then
            echo "$page: failed: $command: $output" >&2
            failures=$((failures + 1))
        fi
    done < <(commands_of "$page")
}

for page in "${pages[@]}"; do
    begin_cluster
    check "$page"
    end_cluster
done
[ "$failures" -eq 0 ] || exit 1
echo "docs-check: ${pages[*]}: every command does what its page says"
