#!/usr/bin/env bash
# Everything that can be said about the code without running it.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
find_cargo

cargo fmt --all --check
cargo clippy --workspace --all-targets -- -D warnings </dev/null
scripts/purity.sh
scripts/shape.sh

if cargo deny --version >/dev/null 2>&1; then
    # Errors only: duplicates, which are warnings, are for whoever looks after the dependencies.
    cargo deny --log-level error check bans licenses sources
    # The advisories are a repository of their own. Without a network the rest of the lint still says something.
    if cargo deny fetch db >/dev/null 2>&1; then
        cargo deny check --disable-fetch advisories
    else
        echo "lint: the advisory database cannot be fetched; advisories not checked" >&2
    fi
else
    echo "lint: cargo-deny is not installed; licences and advisories not checked (cargo install cargo-deny)" >&2
fi

if has_commands shellcheck; then
    find scripts .ci -type f \( -name '*.sh' -o -path '.ci/run' \) -print0 | xargs -0 shellcheck -x
else
    echo "lint: shellcheck is not installed; scripts not checked (apt-get install shellcheck)" >&2
fi
echo "lint: clean"
