#!/usr/bin/env bash
# run.sh [quick|full|bench]: runs what bundle.sh packed beside it. Exit code 1 when a test
# fails. quick takes about a minute, full the acceptance's number of trials.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
failed=0

run() {
  echo "== $*"
  timeout 400 "$here/bin/$@" || { echo "FAILED: $1"; failed=1; }
}

run_tests() {
  for test in pass_plan_test product_test cuda_runner_test cuda_exactness_test cuda_draft_test \
              cuda_reuse_exactness_test; do
    run "$test" --gtest_brief=1
  done
}

bench() {
  run cuda_bench
  # For comparison, where there is a torch.
  python3 -c 'import torch' 2>/dev/null && python3 "$here/torch_plain.py"
}

case ${1:-quick} in
  quick) run_tests && run cuda_exactness_trials 210 20 ;;
  full) run_tests && run cuda_exactness_trials 2100 100 ;;
  bench) bench ;;
esac
exit $failed
