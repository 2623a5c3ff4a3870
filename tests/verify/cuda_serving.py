"""reprise-server on a GPU with random weights of DialoGPT-medium's shape: cold against warm, and many streams at once."""

import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time

import random_models
from generation_client import Client, seconds
from report import QUICK, check, show
from server_process import Server

PROCESSES, STREAMS = 8, 64
STREAM_SECONDS = 10 if QUICK else 30
STREAM_TOKENS = 128


def device_megabytes():
    out = subprocess.run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"], capture_output=True,
                         text=True, check=True).stdout
    return int(out.split()[0])


def prompt(length, seed):
    numbers = random.Random(seed)
    return [numbers.randrange(256) for _ in range(length)]


class Served:
    """A server over a model in a folder of its own; a context manager."""

    def __init__(self, config, *settings):
        self.folder = tempfile.mkdtemp(prefix="reprise-cuda-")
        self.model = random_models.write(os.path.join(self.folder, "model"), config)
        self.settings = [f"model.path={self.model}", "model.device=CUDA", "model.kv_dtype=FP16",
                         "cache.device_bytes=8589934592", "cache.similarity.enabled=false",
                         "engine.max_running_sequences=64", "engine.max_batch_tokens=1024", *settings]

    def __enter__(self):
        self.server = Server(os.path.join(self.folder, "data"), *self.settings)
        return self.server

    def __exit__(self, *_):
        self.server.stop()
        shutil.rmtree(self.folder)


def line_3_reuse():
    """What a server on the GPU says cold, warm and after a restart is the same."""
    # All is written: a fast GPU computes faster than a disk loads, and would write nothing.
    served = Served(random_models.MEDIUM, "cache.store.write_selectively=false")
    with served as server:
        client = Client(server.address)
        show("ready after", f"{server.ready_seconds:.1f} s")
        lengths = [13, 100, 544, 900]
        cold = {n: client.generate(prompt(n, n), 100, "BYPASS") for n in lengths}
        differing = hits = 0
        for policy in ("USE", "FORCE", "FORCE"):
            for n in lengths:
                warm = client.generate(prompt(n, n), 100, policy)
                differing += warm.token_ids != cold[n].token_ids
                hits += warm.usage.cached_token_count > 0
        check("replies cold and with device hits", f"{differing} of 12 differ, {hits} with reuse",
              "0 differ, >= 7 with reuse", differing == 0 and hits >= 7)
        check("tokens of a reply are not all one", f"{len(set(cold[900].token_ids))} kinds", ">= 2",
              len(set(cold[900].token_ids)) >= 2)
        show("numerics", cold[13].reuse.numerics_id)
        for n in lengths:
            tokens = cold[n].timings
            show(f"cold, {n} tokens, then 100", f"first after {1e3 * seconds(tokens.time_to_first_token):.2f} ms, "
                 f"{1e3 * seconds(tokens.decode) / 99:.3f} ms a token")
        settle(server)
        durable = server.metric("reprise_store_durable_segments_total")
        server.stop()
        second = Server(os.path.join(served.folder, "data"), *served.settings)
        client = Client(second.address)
        disk = [client.generate(prompt(n, n), 100, "FORCE") for n in lengths]
        found = sum(reply.usage.cached_token_count > 0 for reply in disk)
        differing = sum(reply.token_ids != cold[n].token_ids for n, reply in zip(lengths, disk))
        show("segments written", f"{durable:.0f}")
        check("replies after a restart, from the disk", f"{differing} of 4 differ, {found} with reuse",
              "0 differ, 4 with reuse", differing == 0 and found == 4)
        served.server = second


def settle(server):
    """Until segments were written and none has been for a second."""
    durable, limit = -1, time.monotonic() + 60
    while time.monotonic() < limit:
        now = server.metric("reprise_store_durable_segments_total")
        if now > 0 and now == durable:
            return
        durable = now
        time.sleep(1.5)


def run_streams(address, first, until, results):
    """One process's share: threads would share one interpreter."""
    import threading  # pylint: disable=import-outside-toplevel
    client, lock = Client(address), threading.Lock()
    total = {"tokens": 0, "requests": 0, "errors": [], "ttft": [], "gaps": []}

    def loop(index):
        numbers = random.Random(index)
        while time.monotonic() < until:
            ids = prompt(64, numbers.randrange(20)) + prompt(numbers.randrange(1, 200), numbers.random())
            started = last = time.monotonic()
            ttft, gaps, tokens = None, [], 0
            try:
                for event in client.stream(ids, STREAM_TOKENS):
                    now = time.monotonic()
                    count = len(event.chunk.token_ids)
                    if count and ttft is None:
                        ttft = now - started
                    elif count:
                        gaps.append(now - last)
                    tokens, last = tokens + count, now
                error = None if tokens == STREAM_TOKENS else f"{tokens} tokens"
            except Exception as failure:  # pylint: disable=broad-except  counted, the others go on
                error = repr(failure)[:200]
            with lock:
                total["tokens"] += tokens
                total["requests"] += 1
                total["gaps"] += gaps
                if ttft is not None:
                    total["ttft"].append(ttft)
                if error:
                    total["errors"].append(error)

    threads = [threading.Thread(target=loop, args=(first + i,)) for i in range(STREAMS // PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(total)


def percentile(values, share):
    return 1e3 * sorted(values)[min(len(values) - 1, int(share * len(values)))]


def line_4_streams():
    with Served(random_models.MEDIUM) as server:
        Client(server.address).generate(prompt(500, 1), 20)
        context = multiprocessing.get_context("spawn")  # gRPC does not outlive a fork
        results = context.Queue()
        until = time.monotonic() + STREAM_SECONDS
        workers = [context.Process(target=run_streams, args=(server.address, 1000 * i, until, results))
                   for i in range(PROCESSES)]
        for worker in workers:
            worker.start()
        memory = []
        while time.monotonic() < until:
            time.sleep(1)
            memory.append(device_megabytes())
        totals = [results.get(timeout=120) for _ in workers]
        errors = [e for t in totals for e in t["errors"]]
        ttft, gaps = ([v for t in totals for v in t[name]] for name in ("ttft", "gaps"))
        requests, tokens = (sum(t[name] for t in totals) for name in ("requests", "tokens"))
        check(f"{STREAMS} streams for {STREAM_SECONDS} s", f"{requests} requests, {len(errors)} errors {errors[:2]}",
              "> 64 requests, 0 errors", requests > STREAMS and not errors)
        show("tokens a second", f"{tokens / STREAM_SECONDS:.0f}")
        show("time to first token", f"p50 {percentile(ttft, .5):.1f} ms, p99 {percentile(ttft, .99):.1f} ms")
        show("between tokens", f"p50 {percentile(gaps, .5):.2f} ms, p99 {percentile(gaps, .99):.2f} ms")
        third = max(1, len(memory) // 3)  # graphs are captured at first
        early, late = statistics.median(memory[third:2 * third]), max(memory[2 * third:])
        check("device memory, last third over second", f"{early} to {late} MB", "+ <= 64 MB", late <= early + 64)
