#!/usr/bin/env python3
"""Checks the CPU engine: exactness, speed against the machine's floors and against its peers, memory, cancellation.
Prints each figure beside its bound.

QUICK=1 uses smaller counts and fewer models. The last line is "N passed, N failed". Speed is a ratio against something
measured in the same run, so other programs on the machine make figures void rather than better.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

import engine_memory
import engine_serving
import engine_speed
from report import QUICK, check, run, run_lines, show
from server_process import BIN, PEERS_PYTHON, ROOT, SMOLLM2

PEERS = os.path.join(ROOT, "build", "peers")
MODELS = os.path.join(PEERS, "models")
ORACLES = ["greedy_oracle_test", "logits_oracle_test", "quantized_test", "dequantize_test", "exactness_test",
           "local_attention_test", "sentence_encoder_oracle_test", "tokenizer_oracle_test"]


def peers_script(name, *arguments):
    return run([PEERS_PYTHON, os.path.join(ROOT, "tests/bench/peers", name), *arguments])


def run_trials(small, large, seed):
    return subprocess.Popen([os.path.join(BIN, "exactness_trials"), str(small), str(large), SMOLLM2, str(seed)], cwd=ROOT,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def line_1_exactness():
    """One process for each core, each with trials of its own."""
    small, large = (200, 8) if QUICK else (9800, 200)
    share = os.cpu_count() or 1
    processes = [run_trials(-(-small // share), -(-large // share // 4) * 4, seed) for seed in range(1, share + 1)]
    outputs = [process.communicate()[0] for process in processes]
    pattern = r"^exactness trials=(\d+) differing=(\d+) failed_rows=(\d+) planted_caught=(\d+)"
    ends = [re.search(pattern, output, re.M) for output in outputs]
    for line in outputs[0].splitlines():
        if " trials " in line:
            print(f"      {line}")
    trials, differing, failed, caught = (sum(int(end[i]) for end in ends if end) for i in range(1, 5))
    done = all(end and process.returncode == 0 for end, process in zip(ends, processes))
    check("exactness trials, KV and logits compared bit for bit",
          f"{trials} trials, {differing} differing, {failed} rows without reuse, seeds 1 to {share}",
          f">= {small + large} trials, 0, 0", done and trials >= small + large and differing == failed == 0)
    check("kernels planted wrong that fail them (split K, batch-dependent)", f"{caught} of {2 * share}",
          f"{2 * share} of {2 * share}", caught == 2 * share)
    if not done:
        print("\n".join(output[-2000:] for output in outputs))


def line_4_peers():
    """Equal precision, each peer at the best setting found, ours and theirs in turn."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "peers.json")
        code, output, seconds = peers_script("peers.py", "--rounds", "1", "--first-token-rows", "--out", out)
        print(output)
        show("peers: seconds", f"{seconds:.0f}, exit {code}")
        with open(out, encoding="utf-8") as file:
            rows = json.load(file)["rows"]
    for row in rows:
        for one in row["checks"]:
            if one["bound"] == "no bound":
                continue
            figure = f"{one['ratio']:.2f}x" if one["ratio"] else "-"
            if one["best_ms"] and one["ours_ms"]:
                figure += f", ours {one['ours_ms']:.1f} ms, {one['best_peer']} {one['best_ms']:.1f} ms"
            if one["void"]:
                figure += f", void: {one['void']}"
            check(f"{row['row']} {one['name']}, batch 1", figure, one["bound"], one["ok"])
    check("peers measured without an error", f"{sum(len(row['errors']) for row in rows)} errors", "0 errors", code == 0)


def line_8_oracles():
    for name in ORACLES:
        code, output, _ = run([os.path.join(BIN, name)])
        passed = re.search(r"\[  PASSED  \] (\d+) tests?", output)
        for line in re.findall(r"^oracle .*$", output, re.M):
            print(f"      {line}")
        check(name, f"{passed[1] if passed else 0} passed, exit {code}", "all pass", code == 0 and bool(passed) and int(passed[1]) > 0)


def make_peers():
    """The peers' programs and models, which lines 2 to 7 measure with too."""
    for command in (["bash", os.path.join(ROOT, "tests/bench/peers/setup.sh")],
                    [PEERS_PYTHON, os.path.join(ROOT, "tests/bench/peers/models.py")]):
        code, output, _ = run(command)
        if code != 0:
            print(output[-3000:])
            raise SystemExit(f"{' '.join(command)} failed")


def main():
    print("== Making the peers and their models (minutes the first time)", flush=True)
    make_peers()
    return run_lines([line_1_exactness,
                      lambda: engine_speed.line_2_decode(MODELS),
                      lambda: engine_speed.line_3_prefill(MODELS),
                      line_4_peers,
                      engine_serving.line_5_reuse,
                      lambda: (engine_speed.line_6_batches(MODELS), engine_serving.line_6_streams()),
                      lambda: engine_memory.line_7_memory(MODELS),
                      line_8_oracles,
                      engine_serving.line_9_cancel])


if __name__ == "__main__":
    sys.exit(main())
