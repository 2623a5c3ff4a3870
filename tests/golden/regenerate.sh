#!/usr/bin/env bash
# regenerate.sh: writes every golden file anew with the libraries of .venv-oracle
# (docker/setup/install-oracle.sh makes it).
set -euo pipefail
cd "$(dirname "$0")"
python=../../.venv-oracle/bin/python
for script in write_models write_quantization write_tokenizers write_greedy write_embeddings; do
  echo "== $script"
  "$python" "$script.py"
done
