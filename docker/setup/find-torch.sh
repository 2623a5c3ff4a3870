#!/usr/bin/env bash
# find-torch.sh: prints the folder of the TorchConfig.cmake that Torch_DIR or
# CMAKE_PREFIX_PATH names, or nothing. That is how a CUDA libtorch comes in.
set -euo pipefail
if [ -n "${Torch_DIR:-}" ]; then
  [ -f "$Torch_DIR/TorchConfig.cmake" ] || { echo "Torch_DIR=$Torch_DIR holds no TorchConfig.cmake" >&2; exit 1; }
  echo "$Torch_DIR"
  exit 0
fi
IFS=':;' read -ra prefixes <<<"${CMAKE_PREFIX_PATH:-}"
for prefix in "${prefixes[@]}"; do
  if [ -f "$prefix/share/cmake/Torch/TorchConfig.cmake" ]; then
    echo "$prefix/share/cmake/Torch"
    exit 0
  fi
done
