#!/usr/bin/env bash
# Runs every GPU benchmark with the build in BUILD_DIR, then writes the page and the plots.
#   BUILD_DIR=build/gpu benchmarks/run_gpu.sh [PYTHON] [FAMILY...]
# attention:TEXT runs only the attention cases whose title contains TEXT; the others keep their rows.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "${BUILD_DIR:-build/release}")
python=${1:-python3}
shift || true
families=("$@")
[ ${#families[@]} -gt 0 ] || families=(attention elementwise sampling topk)
export PYTHONPATH="$PWD/python:$build/site" QUIRE_LIBRARY_DIR="$build/python"
export LD_LIBRARY_PATH="$build/lib:${LD_LIBRARY_PATH:-}"
status=0
for family in "${families[@]}"; do
  text=
  [[ $family != *:* ]] || text=${family#*:}
  "$python" "benchmarks/bench_${family%%:*}.py" ${text:+"$text"} || status=1
done
"$python" benchmarks/plot.py
exit $status
