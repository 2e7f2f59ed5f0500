#!/usr/bin/env bash
# Installs build/release into a scratch prefix and builds and runs an outside project against it.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=build/check_install
rm -rf "$scratch"
cmake --install build/release --prefix "$scratch/prefix" >/dev/null
cmake -S examples/find_package -B "$scratch/build" -G Ninja \
  -DCMAKE_PREFIX_PATH="$PWD/$scratch/prefix"
ninja -C "$scratch/build"
"$scratch/build/find_package_example"
"$scratch/prefix/bin/quire" --help >/dev/null
