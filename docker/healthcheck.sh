#!/usr/bin/env bash
# healthcheck.sh [PORT]: succeeds when the server on this host answers /readyz with 200.
set -euo pipefail
exec 3<>"/dev/tcp/127.0.0.1/${1:-8472}"
printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
read -r -t 3 status <&3
[[ $status == *" 200 "* ]]
