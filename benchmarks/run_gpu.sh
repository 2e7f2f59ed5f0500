#!/usr/bin/env bash
# Runs every GPU benchmark with the build in BUILD_DIR, then writes the page and the plots.
#   BUILD_DIR=build/gpu benchmarks/run_gpu.sh [PYTHON] [FAMILY...]
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "${BUILD_DIR:-build/release}")
python=${1:-python3}
shift || true
families=("$@")
[ ${#families[@]} -gt 0 ] || families=(attention elementwise sampling)
export PYTHONPATH="$PWD/python:$build/site" QUIRE_LIBRARY_DIR="$build/python"
export LD_LIBRARY_PATH="$build/lib:${LD_LIBRARY_PATH:-}"
status=0
for family in "${families[@]}"; do
  "$python" "benchmarks/bench_$family.py" || status=1
done
"$python" benchmarks/plot.py
exit $status
