#!/usr/bin/env bash
# demo.sh: the paper's flow against a server in SEMANTIC mode, started for it.
# REPRISE_DEMO_PORT_BASE (8470) is the first of its three ports.
set -euo pipefail
cd "$(dirname "$0")/.."
export BIN=${BIN:-build/release/bin} REPRISE_PORT_BASE=${REPRISE_DEMO_PORT_BASE:-8470}
# shellcheck disable=SC2016
exec deploy/with_server.sh --set cache.retrieval_mode=SEMANTIC -- \
  bash -c '"$BIN/reprise" --address "$REPRISE_ADDRESS" --admin-address "$REPRISE_ADMIN_ADDRESS" demo'
