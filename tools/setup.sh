#!/usr/bin/env bash
# Installs what building and testing need, and nothing that is there already.
#
#   tools/setup.sh build   Debian packages to build the library and the quire program
#   tools/setup.sh test    the same, and a Python environment in .venv for tests and lint; with
#                          QUIRE_TEST_TORCH=VERSION also PyTorch, for the tests that pass its tensors
#
# Idempotent: when everything is in place it returns at once. Stamps in .cache/setup carry the hash
# of what they stand for, so that a changed list is noticed.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  g++ cmake ninja-build ccache python3 python3-venv
  libhwy-dev libfmt-dev libcli11-dev nlohmann-json3-dev libxxhash-dev libopenblas0
  libgtest-dev librapidcheck-dev
)
nvrtc_wheel=nvidia-cuda-nvrtc==13.0.88
jax=jax==0.10.2
stamps=.cache/setup

say() { echo "setup: $*"; }

installed() { [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]; }

install_packages() {
  command -v dpkg-query >/dev/null || {
    say "no dpkg here; assuming that these are installed: ${packages[*]}"
    return
  }
  local missing=()
  for package in "${packages[@]}"; do installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} -eq 0 ] && return
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
      say "missing ${missing[*]}: install them as root, or install sudo" >&2
      exit 1
    }
    as_root=(sudo)
  fi
  say "installing with apt: ${missing[*]}"
  local quiet=(-qq -o=Dpkg::Use-Pty=0)
  "${as_root[@]}" apt-get "${quiet[@]}" update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get "${quiet[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# NVRTC compiles the kernels. A toolkit's is used when there is one.
has_system_nvrtc() {
  ldconfig -p 2>/dev/null | grep -q 'libnvrtc\.so' || compgen -G '/usr/local/cuda*/lib64/libnvrtc.so*' \
    >/dev/null
}

install_python() {
  if [ ! -x .venv/bin/python ]; then
    say "creating the Python environment .venv"
    python3 -m venv .venv
  fi
  say "installing into .venv: tools/requirements.txt"
  .venv/bin/python -m pip install -q --disable-pip-version-check -r tools/requirements.txt
  # Only for the tests that pass JAX arrays; they are skipped without it.
  .venv/bin/python -m pip install -q --disable-pip-version-check "$jax" ||
    say "$jax does not install here; tests with JAX arrays will be skipped"
  if ! has_system_nvrtc; then
    say "no NVRTC found, installing into .venv: $nvrtc_wheel"
    .venv/bin/python -m pip install -q --disable-pip-version-check "$nvrtc_wheel"
  fi
}

# Only where asked for: outside of machines that have a CPU build, PyTorch brings gigabytes of CUDA.
install_torch() {
  say "installing into .venv: torch==$QUIRE_TEST_TORCH"
  .venv/bin/python -m pip install -q --disable-pip-version-check "torch==$QUIRE_TEST_TORCH" ||
    say "torch==$QUIRE_TEST_TORCH does not install here; its tests will be skipped"
}

# once NAME HASHED_FILE... -- COMMAND: runs COMMAND unless its stamp matches the files' hash.
once() {
  local stamp="$stamps/$1" files=()
  shift
  while [ "$1" != -- ]; do files+=("$1"); shift; done
  shift
  local hash
  hash=$(cat "${files[@]}" | sha256sum | cut -d' ' -f1)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$hash" ] && return
  "$@"
  mkdir -p "$stamps"
  echo "$hash" >"$stamp"
}

case "${1:-}" in
  build) once packages tools/setup.sh -- install_packages ;;
  test)
    once packages tools/setup.sh -- install_packages
    [ -x .venv/bin/python ] || rm -f "$stamps/python" "$stamps/torch"
    once python tools/setup.sh tools/requirements.txt -- install_python
    [ -z "${QUIRE_TEST_TORCH:-}" ] || once torch tools/setup.sh -- install_torch
    ;;
  *)
    echo "usage: tools/setup.sh build|test" >&2
    exit 2
    ;;
esac
