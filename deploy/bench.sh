#!/usr/bin/env bash
# bench.sh: kernels, then serving figures of a server with two threads.
set -euo pipefail
cd "$(dirname "$0")/.."
export BIN=${BIN:-build/release/bin}
[ ! -x "$BIN/kernel_bench" ] || "$BIN/kernel_bench"
# shellcheck disable=SC2016
exec deploy/with_server.sh --set model.thread_count=2 --set cache.retrieval_mode=PREFIX -- \
  bash -c 'set -e; "$BIN/serve_bench" "$REPRISE_ADDRESS" ttft 15; "$BIN/serve_bench" "$REPRISE_ADDRESS" overhead 200'
