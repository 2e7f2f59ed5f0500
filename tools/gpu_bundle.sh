#!/usr/bin/env bash
# Puts what `make test-gpu` and `make bench-gpu` need beside the sources into one folder, for a
# machine that has a GPU but neither compiler nor packages:
#
#   tools/gpu_bundle.sh [FOLDER]           here, after `make test`; default build/gpu
#   make test-gpu BUILD_DIR=build/gpu      there
#
# PYTHON_VERSION (default 3.12): Python of that machine, for the wheel of apache-tvm-ffi.
# BUNDLE_OPENBLAS=1: also OpenBLAS, for GEMM tests on its CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/release
out=${1:-build/gpu}
rm -rf "$out"
mkdir -p "$out"/{src/cli,tests,lib,python,site,examples/tinyllama}

cp -a "$build"/src/libquire.so* "$out/src/"
cp -L "$build"/emulator/libquire_emulator.so "$out/lib/"  # test programs link it
cp "$build/src/cli/quire" "$out/src/cli/"
cp "$build"/tests/test_* "$out/tests/"
cp "$build/examples/tinyllama/tinyllama" "$out/examples/tinyllama/"
cp "$build/python/libquire_ffi.so" "$out/python/"
strip --strip-debug "$out"/tests/test_* "$(realpath "$out/src/libquire.so")"

# Libraries of this distribution that the other may lack; never libc, libstdc++ and their like.
wanted='libhwy|libgomp|libxxhash|libfmt|libgtest'
[ -z "${BUNDLE_OPENBLAS:-}" ] || wanted="$wanted|libopenblas|libgfortran|libquadmath"
{
  ldd "$out/src/libquire.so" "$out"/tests/test_* "$out/src/cli/quire"
  [ -z "${BUNDLE_OPENBLAS:-}" ] || ldd "$(ldconfig -p | awk '/libopenblas\.so\.0/ {print $NF; exit}')"
} | awk '/=> \// {print $3}' | sort -u | grep -E "/($wanted)[^/]*\.so" | while read -r library; do
  cp -L "$library" "$out/lib/"
done
if [ -n "${BUNDLE_OPENBLAS:-}" ]; then
  cp -L "$(ldconfig -p | awk '/libopenblas\.so\.0/ {print $NF; exit}')" "$out/lib/"
fi

version=${PYTHON_VERSION:-3.12}
wheels=$out/wheels
.venv/bin/python -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
  --python-version "$version" --implementation cp --platform manylinux_2_28_x86_64 \
  --platform manylinux_2_24_x86_64 --platform manylinux2014_x86_64 -d "$wheels" \
  "$(grep '^apache-tvm-ffi' tools/requirements.txt)"
for wheel in "$wheels"/*.whl; do python3 -m zipfile -e "$wheel" "$out/site"; done
rm -r "$wheels"
git rev-parse --short=12 HEAD >"$out/commit"
du -sh "$out"
