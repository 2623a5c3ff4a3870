#!/usr/bin/env bash
# format.sh [--fix]: checks that our C++ sources are formatted, or formats them.
set -euo pipefail
cd "$(dirname "$0")/../.."
mode=(--dry-run -Werror)
[ "${1:-}" != --fix ] || mode=(-i)
git ls-files -z --cached --others --exclude-standard -- '*.cc' '*.h' '*.cu' '*.cuh' | xargs -0 -r -n 20 -P "$(nproc)" clang-format-14 "${mode[@]}"
echo "format: $(git ls-files --cached --others --exclude-standard -- '*.cc' '*.h' '*.cu' '*.cuh' | wc -l) files, clean"
