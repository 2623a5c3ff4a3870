#!/usr/bin/env bash
# install-packages.sh GROUP…: installs the Debian packages of these groups of
# packages.txt; does nothing when all are there.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

groups=" $* "
wanted=()
group=
while read -r line; do
  case $line in
    '' | '#'*) ;;
    '['*']') group=${line:1:-1} ;;
    *) [[ $groups != *" $group "* ]] || wanted+=("$line") ;;
  esac
done <packages.txt
[ "${#wanted[@]}" -gt 0 ] || { echo "packages.txt has none of the groups:$groups" >&2; exit 2; }

# shellcheck disable=SC2016
present=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null || true)
missing=()
for package in "${wanted[@]}"; do
  grep -qxF "installed $package" <<<"$present" || missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

say "Reading the package lists"
quietly as_root apt-get update -qq
say "Installing ${#missing[@]} Debian packages and what they need (some minutes on a new machine): ${missing[*]}"
quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
