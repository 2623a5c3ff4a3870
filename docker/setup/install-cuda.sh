#!/usr/bin/env bash
# install-cuda.sh: nvcc and the CUDA runtime for builds with REPRISE_CUDA, from Python
# packages into .venv-cuda, unless nvcc is on the PATH.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/common.sh"
cd "$here/../.."
version=13.0
if command -v nvcc >/dev/null; then
  say "nvcc is there: $(command -v nvcc)"
  exit 0
fi
if ! compgen -G '.venv-cuda/lib/python3*/site-packages/nvidia/cu*/bin/nvcc' >/dev/null; then
  say "Installing nvcc $version into .venv-cuda"
  python3 -m venv .venv-cuda
  quietly .venv-cuda/bin/pip install --no-deps "nvidia-cuda-nvcc==$version.*" "nvidia-cuda-crt==$version.*" \
    "nvidia-nvvm==$version.*" "nvidia-cuda-runtime==$version.*" "nvidia-cuda-cccl==$version.*"
fi
# nvcc links from lib64, the packages have lib.
for lib in .venv-cuda/lib/python3*/site-packages/nvidia/cu*/lib; do ln -sfn lib "${lib}64"; done
