#!/usr/bin/env bash
# The pure crates stay pure. Four checks, each against its own way of breaking it:
#   1. node builds without the server feature;
#   2. no runtime, transport, store or entropy source is in the dependency graph of that build, nor of crdt's;
#   3. the core's sources name no clock, thread, socket, file or iterated hash map (clippy.toml can ban names for a whole
#      crate only, which is how crdt does it; node's drivers may use what its core may not);
#   4. no program has the deliberate bugs that tests switch on (node::core::mutant).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
find_cargo

impure_crates=(
    async-io async-std axum crossbeam-channel crossterm fs4 getrandom hyper libc librocksdb-sys metrics mio nix polling
    quinn quinn-proto quinn-udp rand rand_core rcgen redis ring rocksdb rustix rustls smol socket2 tempfile tokio tracing
    tracing-subscriber ureq
)
impure_names='Instant::now|SystemTime|thread_local|std::(net|fs|thread|process|env|sync::(Mutex|RwLock|Condvar))|tokio|quinn|rocksdb|RandomState|collections::.*(HashMap|HashSet)'
# An unordered map that is only looked up does no harm: this comment on its import says that somebody has made sure.
excused='// .*never iterated'
pure_sources=(crdt/src gossip/src node/src/core)

check_graph() { # package
    local package=$1 graph impure
    graph=$(cargo tree -p "$package" --no-default-features -e normal --prefix none --format '{p}' | cut -d' ' -f1 | sort -u)
    impure=$(printf '%s\n' "${impure_crates[@]}" | grep -Fxf - <(printf '%s\n' "$graph") || true)
    if [ -n "$impure" ]; then
        echo "purity: $package without features depends on: ${impure//$'\n'/ }" >&2
        return 1
    fi
    echo "purity: $package depends on $(($(wc -l <<<"$graph") - 1)) crates, all pure"
}

# Comments may name what code may not: they are cut off before the search.
check_sources() {
    local found
    found=$(grep -rnE --include='*.rs' "$impure_names" "${pure_sources[@]}" | grep -vE "$excused" |
        sed -E 's|^([^:]*:[0-9]+:)(.*[^:])?//.*$|\1\2|' | grep -E "^[^:]*:[0-9]+:.*($impure_names)" || true)
    if [ -n "$found" ]; then
        echo "purity: not in pure code (pass it in as a value; use a BTree map, or end the import of a hash map that is" >&2
        printf 'only looked up with "// HashMap: looked up, never iterated"):\n%s\n' "$found" >&2
        return 1
    fi
    echo "purity: ${pure_sources[*]} name no clock, thread, socket, file or iterated hash map"
}

check_programs() {
    local features
    features=$(cargo tree --workspace -e normal,build --prefix none --format '{f}')
    if grep -qw mutants <<<"$features"; then
        echo "purity: the feature mutants is for tests: a dependency of a program, not of its tests, asks for it" >&2
        return 1
    fi
    echo "purity: no program has the deliberate bugs that tests switch on"
}

cargo check -p node --no-default-features
check_graph node
check_graph crdt
check_sources
check_programs
