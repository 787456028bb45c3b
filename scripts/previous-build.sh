#!/usr/bin/env bash
# Builds the node as it was, for the test of a rolling upgrade, and prints the program's path: the newest release before this commit, or
# without one the last commit before rows got slots, from which on every build understands the one before it.
#
#   scripts/previous-build.sh [COMMIT]
#
# Builds in the target folder's previous/, once a commit: 5 minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
find_cargo

commit=${1:-$(git describe --tags --abbrev=0 --match 'v*' HEAD^ 2>/dev/null || echo e3ac363)}
if ! commit=$(git rev-parse --verify --quiet "$commit^{commit}"); then
    echo "The commit to upgrade from is not in this clone: fetch the whole history (git fetch --unshallow)." >&2
    exit 1
fi
place="$(target_dir)/previous"
program="$place/$commit/meridian"
if [ ! -x "$program" ]; then
    rm -rf "$place/source"
    git worktree prune
    git worktree add --quiet --detach "$place/source" "$commit" >&2
    (cd "$place/source" && CARGO_TARGET_DIR="$place/target" cargo build --locked -p node --bin meridian) >&2
    mkdir -p "$place/$commit"
    cp "$place/target/debug/meridian" "$program"
    git worktree remove --force "$place/source" >&2
fi
echo "$program"
