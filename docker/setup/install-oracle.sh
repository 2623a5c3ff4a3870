#!/usr/bin/env bash
# install-oracle.sh: makes .venv-oracle, the Python environment of the tests'
# oracles. Only golden-file generation, `make bench` and `make verify-demo` use it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/common.sh"
. "$here/torch-version.sh"

venv=$root/.venv-oracle
requirements=$here/oracle-requirements.txt
stamp=$venv/.reprise-stamp
want="torch=$TORCH_VERSION $(cksum <"$requirements")"
[ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$want" ] || exit 0

say "Making the oracle environment .venv-oracle (some minutes)"
[ -x "$venv/bin/pip" ] || quietly python3 -m venv "$venv"
quietly "$venv/bin/pip" install --disable-pip-version-check "torch==$TORCH_VERSION"
quietly "$venv/bin/pip" install --disable-pip-version-check -r "$requirements"
printf '%s\n' "$want" >"$stamp"
