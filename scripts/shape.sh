#!/usr/bin/env bash
# How long functions and files are, how much is asserted and documented, and circles of files: prints the figures, fails on those past
# their bounds (scripts/shape.py).
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v python3 >/dev/null 2>&1; then
    echo "shape: python3 is not installed; not checked (apt-get install python3)" >&2
    exit 0
fi
exec python3 scripts/shape.py
