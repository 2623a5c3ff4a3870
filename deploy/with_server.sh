#!/usr/bin/env bash
# with_server.sh [--set path=value]… -- COMMAND…: runs COMMAND beside a server that
# has data and ports of its own, and stops the server however COMMAND ended.
#
# COMMAND finds REPRISE_ADDRESS and REPRISE_ADMIN_ADDRESS in its environment.
# REPRISE_PORT_BASE (8470) is the first of three ports: inference, admin, HTTP.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-build/release/bin}
base=${REPRISE_PORT_BASE:-8470}
ready_limit_s=180

settings=()
while [ "${1:-}" = --set ]; do
  settings+=(--set "$2")
  shift 2
done
[ "${1:-}" = -- ] || { echo "usage: with_server.sh [--set path=value]... -- COMMAND..." >&2; exit 2; }
shift

work=$(mktemp -d "${TMPDIR:-/tmp}/reprise.XXXXXX")
server=
stop() {
  if [ -n "$server" ] && kill -TERM "$server" 2>/dev/null; then
    echo "== Stopping the server"
    wait "$server" || true
  fi
  rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

show_log_and_fail() {
  echo "$1; the end of its log:" >&2
  tail -n 20 "$work/server.log" >&2
  exit 1
}

# HTTP over bash's own sockets, so that a bare machine needs no client for it.
answers_ready() {
  local status
  { exec 3<>"/dev/tcp/127.0.0.1/$((base + 2))"; } 2>/dev/null || return 1
  printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3 || return 1
  read -r -t 2 status <&3 || status=
  exec 3>&-
  [[ $status == *" 200 "* ]]
}

echo "== Starting reprise-server on ports $base to $((base + 2))"
"$bin/reprise-server" \
  --set "listen.inference=127.0.0.1:$base" \
  --set "listen.admin=127.0.0.1:$((base + 1))" \
  --set "listen.http=127.0.0.1:$((base + 2))" \
  --set "cache.store.path=$work/data" \
  "${settings[@]}" >"$work/server.log" 2>&1 &
server=$!

started=$SECONDS
# The process is asked first: another server may answer on a port that ours could not get.
until answers_ready && kill -0 "$server" 2>/dev/null; do
  kill -0 "$server" 2>/dev/null || { wait "$server" || true; server=; show_log_and_fail "reprise-server ended"; }
  [ $((SECONDS - started)) -lt "$ready_limit_s" ] || show_log_and_fail "reprise-server is not ready after $ready_limit_s s"
  sleep 0.1
done

export REPRISE_ADDRESS=127.0.0.1:$base REPRISE_ADMIN_ADDRESS=127.0.0.1:$((base + 1))
"$@"
