#!/usr/bin/env bash
# protos.sh: buf lint, and buf breaking against the commit before this one.
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
if git cat-file -e 'HEAD~1:proto/buf.yaml' 2>/dev/null; then
  "$buf" breaking proto --against '.git#ref=HEAD~1,subdir=proto'
  echo "protos: nothing broken since the last commit"
else
  echo "protos: the last commit has none to compare with"
fi
