#!/usr/bin/env bash
# offline.sh pack FOLDER    here: downloads the Debian packages that the server needs into FOLDER
# offline.sh build FOLDER   there: unpacks them in FOLDER and builds reprise-server, reprise and the GPU
#                           tests in build/release with REPRISE_CUDA
# For a machine with an NVIDIA GPU, nvcc, CMake, a C++ compiler and a python3 with torch, but
# without package access. Its glibc and libstdc++ are no older than this machine's. ARCH names
# its GPUs' architectures, as CMAKE_CUDA_ARCHITECTURES does.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mode=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)

pack() {
  mkdir -p "$folder/debs" "$folder/venv/lib/python3"
  (cd "$folder/debs" && xargs apt-get -qq download <"$here/offline-packages.txt")
  # The protos that the build reads from the Python environment.
  local packages=("$root"/.venv/lib/python3*/site-packages)
  mkdir -p "$folder/venv/lib/python3/site-packages"
  cp -r "${packages[0]}/google" "$folder/venv/lib/python3/site-packages/"
  du -sh "$folder"
}

build() {
  local prefix=$folder/prefix torch
  local libraries=$prefix/usr/lib/x86_64-linux-gnu
  for package in "$folder"/debs/*.deb; do dpkg -x "$package" "$prefix"; done
  torch=$(python3 -c 'import torch; print(torch.utils.cmake_prefix_path)')
  export LD_LIBRARY_PATH=$libraries:$prefix/lib/x86_64-linux-gnu:$libraries/blas:$libraries/lapack
  cmake -S "$root" -B "$root/build/release" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    "-DCMAKE_CXX_FLAGS_RELEASE=-O3 -DNDEBUG" -DREPRISE_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=${ARCH:-90a}" \
    "-DCMAKE_PREFIX_PATH=$prefix/usr" "-DTorch_DIR=$torch/Torch" "-DREPRISE_VENV=$folder/venv" \
    "-DLAPACK_LIBRARY=$libraries/lapack/liblapack.so.3" "-DBLAS_LIBRARY=$libraries/blas/libblas.so.3" \
    -DREPRISE_BUILD_BENCH=OFF
  cmake --build "$root/build/release" --target reprise-server reprise gpu-tests
}

"$mode"
