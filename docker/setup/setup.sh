#!/usr/bin/env bash
# setup.sh: everything that a build and a test run need. Run it as often as you like.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/install-packages.sh" build test
"$here/install-python.sh"
"$here/link-models.sh"
