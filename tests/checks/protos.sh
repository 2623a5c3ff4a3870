#!/usr/bin/env bash
# protos.sh: buf lint, and buf breaking against where this branch left origin/main, or else
# the commit before this one.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
version=1.75.0
tools=build/tools
buf=$tools/node_modules/.bin/buf
if ! "$buf" --version 2>/dev/null | grep -qx "$version"; then
  command -v npm >/dev/null || docker/setup/install-packages.sh buf
  echo "== Installing buf $version"
  mkdir -p "$tools"
  npm install --silent --no-fund --no-audit --no-package-lock --prefix "$tools" "@bufbuild/buf@$version"
fi

"$buf" lint proto
echo "protos: lint clean"
base=$(git merge-base HEAD origin/main 2>/dev/null || true)
if [ -z "$base" ] || [ "$base" = "$(git rev-parse HEAD)" ]; then base=$(git rev-parse -q --verify HEAD~1 || true); fi
if [ -n "$base" ] && git cat-file -e "$base:proto/buf.yaml" 2>/dev/null; then
  "$buf" breaking proto --against ".git#ref=$base,subdir=proto"
  echo "protos: nothing broken since ${base:0:12}"
else
  echo "protos: no earlier version to compare with"
fi
