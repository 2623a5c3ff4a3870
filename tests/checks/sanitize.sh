#!/usr/bin/env bash
# sanitize.sh PRESET: builds the preset asan or tsan (both without libtorch) and runs
# its tests, less those labelled slow and, under tsan, those labelled packaged-locks.
set -euo pipefail
cd "$(dirname "$0")/../.."
preset=$1
docker/setup/configure.sh "$preset"
echo "== Building build/$preset"
cmake --build "build/$preset" -j "${JOBS:-$(nproc)}"
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=halt_on_error=1:suppressions=$PWD/tests/checks/tsan.supp
skip=slow
# ThreadSanitizer does not see the locks inside the packaged abseil, gRPC and spdlog, and would
# report races that are none.
if [ "$preset" = tsan ]; then skip="slow|packaged-locks"; fi
ctest --test-dir "build/$preset" --output-on-failure -j "${JOBS:-$(nproc)}" -LE "$skip"
