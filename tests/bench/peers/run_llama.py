#!/usr/bin/env python3
"""Measures llama.cpp by its own llama-bench.

--setting  any of llama-bench's options, without their dashes: fa=0|1, ub=512, lm=none …
Its prefills and its decoding at depth 512 run in turn, --repeats times, after its own warm-up.
"""

import json
import os
import subprocess

import common
import models

GGUF_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "q8_0", "q4_1": "q4_1"}


def version():
    """The release that setup.sh built, with its flags."""
    with open(os.path.join(common.PEERS, "llama.cpp", ".reprise-stamp"), encoding="utf-8") as file:
        return "llama-cpp-python " + file.read().strip()


def bench(options, *arguments):
    """The results of one run of llama-bench."""
    command = [os.path.join(common.LLAMA_BIN, "llama-bench"), "-m", models.path(options.model, GGUF_TYPES[options.dtype]),
               "-t", str(options.threads), "-r", "1", "-o", "jsonl", *arguments]
    for key, value in common.words(options.setting).items():
        command += [f"-{key}" if len(key) < 5 else f"--{key}", value]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-1000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def main():
    options = common.parse(__doc__, GGUF_TYPES)
    samples = {name: [] for name in common.FIGURES}
    for _ in range(options.repeats):
        for result in bench(options, "-p", ",".join(map(str, common.PREFILLS)), "-n", "0"):
            samples[f"prefill_{result['n_prompt']}_ms"].append(result["samples_ns"][0] / 1e6)
        decoded = bench(options, "-p", "0", "-n", str(common.DECODE_STEPS), "-d", str(common.CONTEXT))[0]
        samples["decode_ms_at_512"].append(decoded["samples_ns"][0] / 1e6 / common.DECODE_STEPS)
    flags = {key: decoded[key] for key in ("type_k", "type_v", "n_batch", "n_ubatch", "flash_attn", "backends")}
    common.report("llama.cpp", version(), options, samples, json.dumps(flags))


if __name__ == "__main__":
    main()
