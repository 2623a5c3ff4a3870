# Sourced by the scripts beside it: progress lines and privileges.

# say TEXT…: one progress line.
say() { printf '== %s\n' "$*"; }

# as_root COMMAND…: runs it as root, through sudo when that is needed.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "This needs root: $*" >&2
    return 1
  fi
}

# quietly COMMAND…: shows its output only when it fails.
quietly() {
  local log code=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 || code=$?
  [ "$code" -eq 0 ] || tail -n 40 "$log" >&2
  rm -f "$log"
  return "$code"
}
