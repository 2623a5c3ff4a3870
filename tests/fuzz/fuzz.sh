#!/usr/bin/env bash
# fuzz.sh TARGET SECONDS: fuzzes one target (gguf_fuzz, json_fuzz, …) with libFuzzer under
# ASan and UBSan. The corpus grows in build/libfuzzer/corpus/TARGET; an input that
# fails is left there as crash-*, timeout-* or oom-*.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ $# -ne 2 ]; then
  echo "usage: tests/fuzz/fuzz.sh TARGET SECONDS; targets:" >&2
  ls tests/fuzz/*_fuzz.cc | xargs -n 1 basename -s .cc >&2
  exit 2
fi
target=$1 seconds=$2
build=build/libfuzzer
docker/setup/install-packages.sh build fuzz

# The seeds come from the same target under our own driver.
docker/setup/configure.sh asan
cmake --build build/asan --target "$target"
corpus=$build/corpus/$target
build/asan/bin/"$target" --corpus "$corpus"

cmake -S . -B "$build" -G Ninja -DCMAKE_C_COMPILER=clang-14 -DCMAKE_CXX_COMPILER=clang++-14 \
  -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1 -fsanitize=fuzzer-no-link" \
  -DREPRISE_SANITIZE=address,undefined -DREPRISE_WITH_TORCH=OFF -DREPRISE_BUILD_BENCH=OFF -DREPRISE_LIBFUZZER=ON
cmake --build "$build" --target "$target"
"$build"/bin/"$target" -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=2048 \
  -artifact_prefix="$corpus/" "$corpus"
