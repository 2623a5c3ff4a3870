"""Lines of verify-cache on the planner: never slower than without a cache, prefixes shared in flight, eviction.

Speed comes from tests/bench/cache_bench.cc, in process and with the model of the demo; evictions are replayed by
tests/bench/trace_replay.cc over the engine's own block cache, without a model."""

import os
import random
import shutil
import statistics
import tempfile

from measuring import judge, run_json
from report import QUICK, check, show
from server_process import BIN, ROOT, SMOLLM2

BENCH = os.path.join(BIN, "cache_bench")
ENCODER = os.path.join(ROOT, "models", "all-minilm-l6-v2")

PAIRS = 40 if QUICK else 304
GRID_REPEATS = 1 if QUICK else 5
REPLAY_REQUESTS = 4000 if QUICK else 10000

MEDIAN_BOUND = 1.03  # of the ratio's 95 % upper bound
TAIL_BOUND = 1.10
LOOKUP_BOUND = 0.005
CPU_BOUND = 1.05
PLANNER_BOUND = 1.05
SHARING_BOUND = 1.05
GAIN_BOUND = 1.10


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def upper_bound(ratios, draws=2000):
    """Of the median, one-sided at 95 %, by bootstrap."""
    source = random.Random(1)
    return quantile([statistics.median(source.choices(ratios, k=len(ratios))) for _ in range(draws)], 0.95)


def never_slower(disk):
    """Cold unique traffic with the cache on and off, in turn, on the disk as it is or at `disk` MB/s."""
    where = f"disk at {disk} MB/s" if disk else "disk as it is"
    folder = tempfile.mkdtemp(prefix="reprise-cold-")
    try:
        got = run_json([BENCH, "cold", SMOLLM2, os.path.join(folder, "store"), "--pairs", PAIRS,
                        "--disk-mb-per-second", disk, "--encoder", ENCODER])
    finally:
        shutil.rmtree(folder)
    foreign = got["foreign_cores"]
    on, off = got["on_first_token"], got["off_first_token"]
    ratios = [a / b for a, b in zip(on, off)]
    show(f"{where}: pairs, median TTFT off and on",
         f"{len(ratios)}, {statistics.median(off) * 1e3:.1f} ms, {statistics.median(on) * 1e3:.1f} ms")
    bound = upper_bound(ratios)
    judge(f"{where}: median TTFT on ÷ off, 95 % upper bound", f"{bound:.3f}", f"<= {MEDIAN_BOUND}",
          bound <= MEDIAN_BOUND, foreign)
    tail = quantile(on, 0.99) / quantile(off, 0.99)
    judge(f"{where}: p99 TTFT on ÷ off", f"{tail:.3f}", f"<= {TAIL_BOUND}", tail <= TAIL_BOUND, foreign)
    lookup = statistics.median(a / b for a, b in zip(got["on_lookup"], on))
    judge(f"{where}: lookup and plan ÷ TTFT, median", f"{lookup:.5f}", f"<= {LOOKUP_BOUND}", lookup <= LOOKUP_BOUND, foreign)
    cpu = statistics.median(a / b for a, b in zip(got["on_cpu"], got["off_cpu"]))
    judge(f"{where}: CPU seconds a request, on ÷ off", f"{cpu:.3f}", f"<= {CPU_BOUND}", cpu <= CPU_BOUND, foreign)


def planner_grid():
    """The planner against the best of load, recompute and split, over prompts, depths and disks."""
    got = run_json([BENCH, "grid", SMOLLM2, "--repeats", GRID_REPEATS])
    ratios = []
    for cell in got["cells"]:
        times = {way: statistics.median(cell[way]) for way in ("load", "compute", "split", "best")}
        best = min(times["load"], times["compute"], times["split"])
        ratios.append(times["best"] / best)
        show(f"n {cell['n']}, k {cell['k']}, disk {cell['disk_mb_per_second']:g} MB/s: load, compute, split, planner",
             ", ".join(f"{times[way] * 1e3:.0f}" for way in ("load", "compute", "split", "best")) + " ms")
    ratio = statistics.geometric_mean(ratios)
    judge(f"planner ÷ best way, over {len(ratios)} cells", f"{ratio:.3f}", f"<= {PLANNER_BOUND}", ratio <= PLANNER_BOUND,
          got["foreign_cores"])


def line_4_never_slower():
    never_slower(0)
    never_slower(50)
    planner_grid()


def line_6_in_flight():
    got = run_json([BENCH, "share", SMOLLM2])
    ratio = got["computed_tokens"] / got["unique_tokens"]
    show("requests with one prefix, unique tokens, shared in flight",
         f"{got['requests']}, {got['unique_tokens']}, {got['in_flight_tokens']}")
    check("computed ÷ unique tokens", f"{ratio:.3f}", f"<= {SHARING_BOUND}", ratio <= SHARING_BOUND)
    # Each sequence ends in a block of its own that is partly filled.
    most = got["cached_tokens"] // 16 + got["requests"] + 1
    check("blocks, each counted once", got["cached_blocks"], f"<= {most}", got["cached_blocks"] <= most)


def line_7_replay():
    gains = []
    for trace in ("chat", "api"):
        got = run_json([os.path.join(BIN, "trace_replay"), trace, "--requests", REPLAY_REQUESTS])
        show(f"{trace}: requests, tokens that a cache without end would hit",
             f"{got['requests']}, {got['ideal_hit_tokens']}")
        for size in got["sizes"]:
            gain = size["saved"] / size["lru_saved"]
            gains.append(gain)
            name = f"{trace}, {size['blocks']} blocks: hit tokens ÷ ideal {size['hit_ratio']:.3f}, LRU {size['lru_hit_ratio']:.3f}"
            check(name, f"seconds saved ÷ LRU {gain:.3f}", ">= 1.000", round(gain, 3) >= 1)
    best = max(gains)
    check("seconds saved ÷ LRU, the best of all", f"{best:.3f}", f">= {GAIN_BOUND}", best >= GAIN_BOUND)
