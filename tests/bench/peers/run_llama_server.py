#!/usr/bin/env python3
"""Measures the time to first token of llama-server, cold and with 512 of 544 tokens cached in the same slot.

--setting  llama-server's own options
The figures are cold_ttft_ms and warm_ttft_ms, as the server times the prompt, and cold_wall_ms and warm_wall_ms, as
an HTTP client sees the whole request.
"""

import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import common
import models
from run_llama import GGUF_TYPES, version

READY_SECONDS = 120


class LlamaServer:
    """One llama-server with one slot on a free port; a context manager that ends it."""

    def __init__(self, model, threads, flags):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [os.path.join(common.LLAMA_BIN, "llama-server"), "-m", model, "-t", str(threads), "-tb", str(threads), "-np", "1",
             "-c", "1024", "--host", "127.0.0.1", "--port", str(self.port), *flags.split()],
            stdout=self.log, stderr=subprocess.STDOUT)

    def __enter__(self):
        limit = time.monotonic() + READY_SECONDS
        while time.monotonic() < limit:
            try:
                self._ask("/health")
                return self
            except (OSError, urllib.error.URLError):
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        self.log.seek(0)
        end = self.log.read().decode(errors="replace")[-2000:]
        self.__exit__()
        raise RuntimeError(f"llama-server is not ready: {end}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def _ask(self, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    def first_token(self, ids):
        """(milliseconds of the prompt, of the whole request, prompt tokens processed)."""
        body = json.dumps({"prompt": ids, "n_predict": 1, "cache_prompt": True, "temperature": 0, "id_slot": 0,
                           "ignore_eos": True}).encode()
        started = time.perf_counter()
        timings = self._ask("/completion", body)["timings"]
        return timings["prompt_ms"], 1000 * (time.perf_counter() - started), timings["prompt_n"]


def measure(server, vocabulary, repeats):
    samples = {name: [] for name in ("cold_ttft_ms", "cold_wall_ms", "warm_ttft_ms", "warm_wall_ms")}
    length = common.CONTEXT + 32
    server.first_token(common.prompt_ids(vocabulary, 64, seed=1))
    for i in range(repeats):
        cold = common.prompt_ids(vocabulary, length, seed=2 + i)
        warm = cold[:common.CONTEXT] + common.prompt_ids(vocabulary, 32, seed=1000 + i)
        for name, prompt, expected in (("cold", cold, length), ("warm", warm, 32)):
            prompt_ms, wall_ms, processed = server.first_token(prompt)
            if processed != expected:
                raise RuntimeError(f"the {name} prompt took {processed} tokens, expected {expected}")
            samples[f"{name}_ttft_ms"].append(prompt_ms)
            samples[f"{name}_wall_ms"].append(wall_ms)
    return samples


def main():
    options = common.parse(__doc__, GGUF_TYPES)
    vocabulary = models.shape(options.model)["vocabulary"]
    with LlamaServer(models.path(options.model, GGUF_TYPES[options.dtype]), options.threads, options.setting) as server:
        samples = measure(server, vocabulary, options.repeats)
    common.report("llama-server", version(), options, samples, "-np 1 -c 1024 cache_prompt")


if __name__ == "__main__":
    main()
