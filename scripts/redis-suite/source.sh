#!/usr/bin/env bash
# Prints the folder of Redis 7.0's sources, fetched once as Debian's source package and kept in the cache folder.
#
# The machine's own apt sources, turned into deb-src, are read from temporary folders: its configuration and its package lists stay
# as they are, and apt verifies the signatures against the keys that those sources name.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh

cache="${XDG_CACHE_HOME:-$HOME/.cache}/meridian/redis-suite"
kept="$cache/redis-7.0"
if [ -f "$kept/tests/test_helper.tcl" ]; then
    echo "$kept"
    exit 0
fi
if ! has_commands apt-get; then
    echo "Without apt-get there is no source package. Unpack Redis 7.0 somewhere and give its folder: --source DIR" >&2
    exit 1
fi
has_commands dpkg-source || install_packages dpkg-dev

mkdir -p "$cache"
work=$(mktemp -d "$cache/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{parts,lists/partial,archives/partial,source}

# One-line lists: every deb line as deb-src, its options (keys, mirrors) kept. The new style: the same, by the Types field.
one_line=0
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -f "$list" ] || continue
    one_line=$((one_line + 1))
    sed -nE '/cdrom:/d; s/^[[:space:]]*deb(-src)?([[:space:]].*)$/deb-src\2/p' "$list" | sort -u >"$work/parts/$one_line.list"
done
for stanza in /etc/apt/sources.list.d/*.sources; do
    [ -f "$stanza" ] || continue
    sed -E 's/^Types:.*$/Types: deb-src/' "$stanza" >"$work/parts/$(basename "$stanza")"
done

apt_options=(
    -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$work/parts"
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work" -o "Dir::Cache::Archives=$work/archives"
    # apt's own user may not read our folder; the signatures are checked all the same.
    -o "APT::Sandbox::User=$(id -un)"
)
echo "Fetching the source package of Redis 7.0 from this machine's apt sources" >&2
# A third party's list may carry no sources at all: what counts is whether Redis is found.
apt-get -qq "${apt_options[@]}" update >&2 || true
version=$(apt-cache "${apt_options[@]}" showsrc redis 2>/dev/null |
    sed -nE 's/^Version: (([0-9]+:)?7\.0\..*)$/\1/p' | sort -V | tail -n 1)
if [ -z "$version" ]; then
    echo "This machine's apt sources carry no Redis 7.0. Unpack it somewhere and give its folder: --source DIR" >&2
    exit 1
fi
(cd "$work/source" && apt-get -qq "${apt_options[@]}" source "redis=$version" </dev/null >&2)
rm -rf "$kept"
mv "$work"/source/redis-7.0*/ "$kept"
echo "$kept"
