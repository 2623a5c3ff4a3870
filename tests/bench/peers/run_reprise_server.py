#!/usr/bin/env python3
"""Measures the time to first token of our server, cold and with 512 of 544 tokens cached in memory: serve_bench against
a reprise-server of its own. Prints the line of JSON of common.py with cold_ttft_ms and warm_ttft_ms; --setting: none."""

import json
import os
import subprocess
import sys
import tempfile

import common
import models
import settings

sys.path.insert(0, os.path.join(common.ROOT, "tests", "verify"))
from server_process import Server  # pylint: disable=wrong-import-position

WEIGHT_DTYPES = {"fp32": "FP32", "bf16": "BF16", "int8": "INT8", "q8_0": "AS_STORED", "q4_1": "AS_STORED"}


def main():
    options = common.parse(__doc__, WEIGHT_DTYPES)
    path = models.path(options.model, settings.OURS[options.dtype])
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as work, Server(
            os.path.join(work, "data"), f"model.path={path}", f"model.weight_dtype={WEIGHT_DTYPES[options.dtype]}",
            f"model.thread_count={options.threads}", "cache.retrieval_mode=PREFIX") as server:
        done = subprocess.run([os.path.join(common.BIN, "serve_bench"), server.address, "ttft", str(options.repeats)],
                              capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    samples = {name: [figures[name]] for name in ("cold_ttft_ms", "warm_ttft_ms")}
    common.report("reprise", "reprise-server", options, samples, "cache.retrieval_mode=PREFIX")


if __name__ == "__main__":
    main()
