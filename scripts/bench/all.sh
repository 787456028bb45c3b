#!/usr/bin/env bash
# Every bench in turn. The output is Markdown, ready for docs/. Arguments go to each of the shell benches (--rounds N, …).
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
find_cargo
scripts/bench/redis.sh "$@"
scripts/bench/set-size.sh "$@"
scripts/bench/quorum.sh "$@"
# The benches written in Rust bring their own regions and links: replication lag over 80 ms is one.
if compgen -G 'tests/benches/*.rs' >/dev/null; then
    echo
    cargo bench -p tests --benches </dev/null
fi
