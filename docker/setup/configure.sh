#!/usr/bin/env bash
# configure.sh PRESET: configures build/PRESET unless it is configured already for
# the libtorch that the environment names.
#
# CMAKE_PREFIX_PATH is not handed to CMake: a libtorch on it would put the protobuf
# and fmt headers it bundles in front of the system's.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/common.sh"
cd "$here/../.."
preset=$1
torch=$("$here/find-torch.sh")
cache=build/$preset/CMakeCache.txt
if [ -f "build/$preset/build.ninja" ] && { [ -z "$torch" ] || grep -qxF "Torch_DIR:PATH=$torch" "$cache"; }; then
  exit 0
fi
say "Configuring build/$preset"
unset CMAKE_PREFIX_PATH
quietly cmake --preset "$preset" ${torch:+"-DTorch_DIR:PATH=$torch"}
