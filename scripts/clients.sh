#!/usr/bin/env bash
# redis-py and redis-cli, unmodified, against three regions. redis-py comes from PyPI into a folder of its own in the target folder.
#
#   scripts/clients.sh [PROFILE]    against target/PROFILE/meridian (default: release)
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
find_cargo

binaries=$(target_dir)/${1:-release}
venv=$(target_dir)/clients/venv
# Pinned, so that a failure is ours.
redis_py=5.2.1

if ! "$venv/bin/python" -c "import redis; assert redis.__version__ == '$redis_py'" 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "redis==$redis_py"
fi

dir=$(mktemp -d)
down() {
    "$binaries/region-sim" down --dir "$dir/cluster" >/dev/null || true
    rm -rf "$dir"
}
trap down EXIT
"$binaries/region-sim" up --base-port 0 --dir "$dir/cluster" --detach </dev/null

"$venv/bin/python" scripts/clients/redis_py.py "$dir/cluster/cluster.json"

if has_commands redis-cli; then
    port=$("$venv/bin/python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["nodes"][0]["resp"].rpartition(":")[2])' \
        "$dir/cluster/cluster.json")
    [ "$(redis-cli -p "$port" SET cli works)" = OK ]
    [ "$(redis-cli -3 -p "$port" GET cli)" = works ]
    [ "$(printf 'INCR cli:n\nINCR cli:n\n' | redis-cli -p "$port" | tail -n 1)" = 2 ]
    echo "redis-cli: ok"
fi
