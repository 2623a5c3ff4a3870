#!/usr/bin/env bash
# bundle.sh FOLDER [BUILD]: packs the GPU tests, trials and benchmark of build/cuda with the
# libraries they need into FOLDER, for a machine with an NVIDIA GPU and driver but without
# packages: no CUDA toolkit, compiler or registry. Copy FOLDER there and run
#   FOLDER/run.sh [quick|full|bench]
# The machine needs a glibc and libstdc++ no older than this one's.
set -euo pipefail
folder=$1
build=${2:-build/cuda}
programs=(pass_plan_test cuda_runner_test cuda_exactness_test cuda_draft_test product_test product_bench
          cuda_reuse_exactness_test cuda_exactness_trials cuda_bench)
rm -rf "$folder/bin" "$folder/lib"
mkdir -p "$folder/bin" "$folder/lib"
for program in "${programs[@]}"; do
  strip -o "$folder/bin/$program" "$build/bin/$program"
  # The C and C++ runtimes stay those of the machine.
  ldd "$build/bin/$program" | awk '$3 ~ /^\// {print $3}' |
    { grep -vE '/(libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+|libcuda)\.so' || true; } |
    while read -r library; do cp -uL "$library" "$folder/lib/"; done
done
cp "$(dirname "$0")/run.sh" "$(dirname "$0")/torch_plain.py" "$folder/"
du -sh "$folder"
