#!/usr/bin/env bash
# tidy.sh: clang-tidy over core, server, client and the tests' fakes, two files at a
# time: as the build without libtorch compiles them, the few that need it as release does.
#
# A file is skipped while neither it, a header of ours, the configuration nor a
# flag has changed since it passed: build/tidy keeps a stamp for each.
set -euo pipefail
cd "$(dirname "$0")/../.."
for preset in asan release; do
  docker/setup/configure.sh "$preset"
  cmake --build "build/$preset" --target reprise_proto | tail -n 1
done

mkdir -p build/tidy
# The sanitizers' flags go: they make abseil ask for headers that only clang's runtime brings.
files=$(python3 - <<'PY'
import json, os, re
root = os.getcwd() + "/"
chosen = {}
for preset in ("asan", "release"):
    for entry in json.load(open(f"build/{preset}/compile_commands.json")):
        entry["command"] = re.sub(r" -fsanitize=\S+", "", entry["command"])
        path = os.path.normpath(os.path.join(entry["directory"], entry["file"]))
        chosen.setdefault(path[len(root):] if path.startswith(root) else path, entry)
for path in chosen:
    if path.startswith(("core/", "server/", "client/", "tests/fakes/")):
        print(path)
json.dump(list(chosen.values()), open("build/tidy/compile_commands.json", "w"))
PY
)
files=$(sort -u <<<"$files")

common=$( (git ls-files -z --cached --others --exclude-standard -- 'core/*.h' 'server/*.h' 'client/*.h' 'tests/*.h' 'proto/*.proto' .clang-tidy |
  xargs -0 cat; cat build/tidy/compile_commands.json) | sha256sum | cut -d ' ' -f 1)

# check_one FILE DIGEST_OF_THE_REST
check_one() {
  local file=$1 stamp want
  stamp=build/tidy/$(tr / _ <<<"$file")
  want="$2 $(sha256sum <"$file")"
  [ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || return 0
  if clang-tidy-14 -p build/tidy --quiet "$file" 2>"$stamp.err"; then
    printf '%s\n' "$want" >"$stamp"
    echo "tidy: $file"
  else
    grep -E 'error:' "$stamp.err" >&2 || true
    echo "tidy: $file FAILED" >&2
    return 1
  fi
}
export -f check_one

xargs -P 2 -I '{}' bash -c 'check_one "$1" "$2"' check '{}' "$common" <<<"$files"
echo "tidy: $(wc -l <<<"$files") files, clean"
