"""The GPU kernels: bits, speed beside a plain torch model, and what the compiler says of them."""

import json
import os
import re
import sys

from report import QUICK, check, run, show
from server_process import BIN, ROOT

CUDA_BIN = os.environ.get("CUDA_BIN", BIN)
TESTS = ["pass_plan_test", "product_test", "cuda_runner_test", "cuda_exactness_test", "cuda_draft_test",
         "cuda_reuse_exactness_test"]
BOUNDS = {"decode_1_ms": 0.8, "decode_32_ms": 1.0, "prefill_512_ms": 1.2, "prefill_1023_ms": 1.2}
BYTES_PER_SECOND = {"H100": 3.0e12, "H200": 4.2e12, "T4": 250e9}  # that a copy moves, measured; of the T4 estimated
WEIGHT_BYTES = 707.5e6


def line_1_exactness():
    for name in TESTS:
        code, output, seconds = run([os.path.join(CUDA_BIN, name), "--gtest_brief=1"])
        passed = re.search(r"PASSED\s+\] (\d+) test", output)
        check(name, f"{passed.group(1) if passed else 0} passed in {seconds:.0f} s", "all pass", code == 0 and passed)
        if code != 0:
            print(output[-2000:])
    trials, large = (420, 20) if QUICK else (2100, 100)
    code, output, seconds = run([os.path.join(CUDA_BIN, "cuda_exactness_trials"), str(trials), str(large)])
    print(output.rstrip())
    found = re.search(r"trials=(\d+) differing=(\d+) failed_rows=(\d+) planted_caught=(\d+)", output)
    count, differing, failed, caught = map(int, found.groups()) if found else (0, -1, -1, 0)
    check("random trials", f"{count} in {seconds:.0f} s, {differing} differ, {failed} rows without reuse, {caught} planted caught",
          f">= {trials + large}, 0, 0, 2", code == 0 and count >= trials + large and differing == failed == 0 and caught == 2)


def line_2_speed():
    """Two rounds of each, in turns; the better of each."""
    ours, plain = {}, {}
    for _ in range(1 if QUICK else 2):
        for figures, command in ((ours, [os.path.join(CUDA_BIN, "cuda_bench")]),
                                 (plain, [sys.executable, os.path.join(ROOT, "tests", "cuda", "torch_plain.py")])):
            code, output, _ = run(command)
            if code != 0:
                check(os.path.basename(command[-1]), output[-300:], "exit code 0", False)
                return
            for name, value in json.loads(output.strip().splitlines()[-1]).items():
                figures[name] = min(value, figures.get(name, value)) if name.endswith("_ms") else value
    show("here", ours["numerics"])
    show("beside", plain["numerics"])
    for name in (n for n in ours if n.endswith("_ms")):
        figure = f"{ours[name]:.3f} ms"
        if name not in plain:
            show(name, figure)
            continue
        ratio = ours[name] / plain[name]
        figure += f", torch {plain[name]:.3f} ms, ratio {ratio:.2f}"
        if name in BOUNDS:
            check(name, figure, f"<= {BOUNDS[name]}", ratio <= BOUNDS[name])
        else:
            show(name, figure)
    for card, rate in BYTES_PER_SECOND.items():
        if card in plain["numerics"]:
            floor = 1e3 * WEIGHT_BYTES / rate
            show("decode 1 over reading the weights once", f"{ours['decode_1_ms'] / floor:.1f} of {floor:.3f} ms")


def line_5_targets():
    code, output, seconds = run([sys.executable, os.path.join(ROOT, "tests", "checks", "cuda_resources.py")])
    print(output.rstrip())
    check("compiles for every target", f"exit code {code} in {seconds:.0f} s", "0", code == 0)
