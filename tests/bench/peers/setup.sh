#!/usr/bin/env bash
# setup.sh: makes what the peers run on: .venv-peers, and llama.cpp in build/peers
# from the sdist of llama-cpp-python. Stamps make a second run instant.
#
# JOBS is the number of compilers at a time (2).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
. "$root/docker/setup/common.sh"
. "$root/docker/setup/torch-version.sh"

llama_release=0.3.36  # of llama-cpp-python on PyPI
llama_flags=(-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=ON -DLLAMA_CURL=OFF
  -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF)
llama_programs=(llama-bench llama-batched-bench llama-quantize llama-server)
jobs=${JOBS:-2}

# is_done STAMP WANT: whether the stamp says that WANT has been made.
is_done() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

make_venv() {
  local venv=$root/.venv-peers requirements=$here/requirements.txt
  local want
  want="torch=$TORCH_VERSION $(cksum <"$requirements")"
  ! is_done "$venv/.reprise-stamp" "$want" || return 0
  say "Making the peers' environment .venv-peers (some minutes)"
  [ -x "$venv/bin/pip" ] || quietly python3 -m venv "$venv"
  quietly "$venv/bin/pip" install --disable-pip-version-check "torch==$TORCH_VERSION"
  quietly "$venv/bin/pip" install --disable-pip-version-check -r "$requirements"
  printf '%s\n' "$want" >"$venv/.reprise-stamp"
}

build_llama() {
  local folder=$root/build/peers/llama.cpp want="$llama_release ${llama_flags[*]}"
  ! is_done "$folder/.reprise-stamp" "$want" || return 0
  say "Fetching llama.cpp of llama-cpp-python $llama_release"
  local sdist=$root/build/peers/sdist
  mkdir -p "$sdist" "$folder"
  [ -f "$sdist/llama_cpp_python-$llama_release.tar.gz" ] ||
    quietly "$root/.venv-peers/bin/pip" download --disable-pip-version-check --no-deps --no-binary llama-cpp-python \
      --dest "$sdist" "llama-cpp-python==$llama_release"
  tar -xzf "$sdist/llama_cpp_python-$llama_release.tar.gz" -C "$folder" --strip-components=3 \
    "llama_cpp_python-$llama_release/vendor/llama.cpp"
  say "Building ${llama_programs[*]} (some ten minutes at low priority)"
  quietly cmake -S "$folder" -B "$folder/build" -G Ninja "${llama_flags[@]}"
  quietly nice -n 19 cmake --build "$folder/build" -j "$jobs" --target "${llama_programs[@]}"
  printf '%s\n' "$want" >"$folder/.reprise-stamp"
}

make_venv
build_llama
