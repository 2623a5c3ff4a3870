#!/usr/bin/env bash
# fresh_root.sh DIR COMMAND...: runs COMMAND in a clone of this repository inside a
# Debian 12 root at DIR that holds only a minimal system, git and make.
#
# DIR is made by debootstrap when it does not exist and reused otherwise. Package
# clients are set up as on this host. Needs root and about 6 GB.
set -euo pipefail
root=$1
shift
repo=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap >/dev/null; }
if [ ! -e "$root/etc/debian_version" ]; then
  mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/*.sources)
  echo "Making a Debian 12 root at $root"
  debootstrap --variant=minbase --include=git,make,ca-certificates bookworm "$root" "$mirror" >"$root.log" 2>&1 ||
    { tail -5 "$root.log"; exit 1; }
fi

copy_in() {
  [ ! -e "$1" ] || { mkdir -p "$root$(dirname "$1")" && rm -rf "${root:?}$1" && cp -aL "$1" "$root$1"; }
}
rm -f "$root/etc/apt/sources.list"
for path in /etc/apt/sources.list.d /etc/apt/apt.conf.d /etc/pip.conf ~/.config/pip ~/.npmrc \
  /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates /etc/resolv.conf /etc/hosts; do
  copy_in "$path"
done

mounted=()
unmount_all() { for path in "${mounted[@]}"; do umount -l "$path" || true; done; }
trap unmount_all EXIT
bind_in() {
  [ ! -d "$1" ] || mountpoint -q "$root$1" || { mkdir -p "$root$1" && mount --rbind "$1" "$root$1" && mounted+=("$root$1"); }
}
# An index lists files beside itself: /x/simple points to /x/files.
wheels=$( (pip config list 2>/dev/null || true) | grep -oE "(file://)?/[^ ':]+" | sed 's#^file://##; s#/simple/*$##' |
  grep -v '^//' | sort -u || true)
for path in /proc /sys /dev $wheels; do bind_in "$path"; done

# A second run reuses the clone, so that it can skip what the first has done.
if [ ! -d "$root/root/reprise/.git" ]; then git clone -q "$repo" "$root/root/reprise"; fi
keep=$(env | grep -E '^(PIP_|NPM_|npm_|http_proxy|https_proxy|no_proxy|SSL_)' | grep -v '^PIP_TARGET' || true)
# shellcheck disable=SC2086
chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin $keep \
  bash -c 'cd /root/reprise && "$@"' fresh "$@"
