"""Line 7 of verify-engine: what a ready server holds in memory, term by term, and how long a model takes to load."""

import os
import re
import tempfile

from measuring import judge, run_json
from report import QUICK, check, show
from server_process import BIN, SMOLLM2, Server

OTHER_BYTES = 300e6  # beyond the terms
LOAD_SECONDS = 4
USES = ("weights", "encoder", "store_buffers")


def resident_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(re.search(r"^VmRSS:\s+(\d+) kB$", file.read(), re.M)[1]) * 1024


def check_server(name, *settings):
    with tempfile.TemporaryDirectory() as work, Server(os.path.join(work, "cache"), *settings) as server:
        text = server.http("/metrics")[1]
        terms = {use: float(re.search(rf'^reprise_memory_bytes{{use="{use}"}} (\S+)$', text, re.M)[1]) for use in USES}
        terms["KV pool"] = server.metric("reprise_host_blocks") * server.metric("reprise_host_block_bytes")
        rss = resident_bytes(server.process.pid)
    listed = ", ".join(f"{use} {size / 1e6:.0f}" for use, size in terms.items())
    beyond = rss - sum(terms.values())
    check(f"RSS of a ready server, {name}, MB", f"{rss / 1e6:.0f} = {listed}, other {beyond / 1e6:.0f}",
          f"other <= {OTHER_BYTES / 1e6:.0f}", beyond <= OTHER_BYTES)


def line_7_memory(models):
    check_server("SmolLM2 as stored (Q4_1)", f"model.path={SMOLLM2}")
    if QUICK:
        return
    dialogpt = os.path.join(models, "dialogpt", "hf")
    for dtype in ("FP32", "BF16"):
        check_server(f"DialoGPT-medium shape, {dtype}", f"model.path={dialogpt}", f"model.weight_dtype={dtype}")
    load = run_json([os.path.join(BIN, "load_bench"), dialogpt, "fp32", os.cpu_count(), 3])
    size = sum(os.path.getsize(os.path.join(dialogpt, file)) for file in os.listdir(dialogpt)) / 1e9
    judge(f"load of {size:.2f} GB from page cache, fp32, {load['threads']} threads, s",
          f"{load['load_s']:.2f} (read {load['read_s']:.2f}, pack {load['pack_s']:.2f}; of 3: "
          f"{', '.join(f'{s:.2f}' for s in load['samples_s'])})", f"<= {LOAD_SECONDS}", load["load_s"] <= LOAD_SECONDS,
          load["foreign_cores"])
    show("RSS while loading at most, and after, MB", f"{load['peak_rss_bytes'] / 1e6:.0f}, {load['rss_bytes'] / 1e6:.0f}")
