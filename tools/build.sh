#!/usr/bin/env bash
# tools/build.sh PRESET [-DOPTION=VALUE...] [TARGET...]: configures quietly, then builds.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
shift
options=()
while [[ "${1:-}" == -D* ]]; do options+=("$1"); shift; done
mkdir -p "build/$preset"
log="build/$preset/configure.log"
cmake --preset "$preset" "${options[@]}" >"$log" 2>&1 || { cat "$log"; exit 1; }
exec ninja -C "build/$preset" -j "${JOBS:-$(nproc)}" "$@"
