"""Lines of verify-engine that a running server answers: reuse beside llama-server, decoding streams beside a long
prefill, and cancelled streams."""

import json
import os
import tempfile
import time

from report import QUICK, check, run, show
from server_process import BIN, PEERS_PYTHON, ROOT, SMOLLM2, Server

FIRST_TOKEN_ROWS = ["dialogpt/bf16/2"] if QUICK else ["dialogpt/bf16/1", "dialogpt/bf16/2"]
STALL_BOUND = 2.5
SETTLE_SECONDS = 60


def line_5_reuse():
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "rows.json")
        code, output, _ = run([PEERS_PYTHON, os.path.join(ROOT, "tests/bench/peers/peers.py"), "--rows", "--first-token-rows",
                               *FIRST_TOKEN_ROWS, "--rounds", "1" if QUICK else "3", "--out", out])
        print(output)
        if code != 0:
            raise RuntimeError(f"peers.py: exit code {code}")
        with open(out, encoding="utf-8") as file:
            rows = json.load(file)["first_token"]
    for row in rows:
        ours = row["ours"]
        for one in row["checks"]:
            figure = f"{one['ratio']:.2f}" if one["ratio"] else "-"
            figure += f", ours cold {ours['cold_ttft_ms']:.1f}, warm {ours['warm_ttft_ms']:.1f} ms" if ours else ""
            figure += f", void: {one['void']}" if one["void"] else ""
            check(f"{row['row']} TTFT of 544 tokens, 512 cached: {one['name']}", figure, one["bound"], one["ok"])


def stream_bench(server, *arguments):
    code, output, _ = run([os.path.join(BIN, "stream_bench"), server.address, *arguments])
    if code != 0:
        raise RuntimeError(f"stream_bench {' '.join(arguments)}: {output.strip()[-300:]}")
    return json.loads(output.splitlines()[-1])


def stall_ratio(threads, streams):
    """Tokens' gaps of streams alone, then beside prompts of 1000 tokens, one after another."""
    with tempfile.TemporaryDirectory() as work, \
            Server(os.path.join(work, "cache"), f"model.path={SMOLLM2}", "model.weight_dtype=BF16",
                   f"model.thread_count={threads}") as server:
        got = stream_bench(server, "stall", str(streams), "2" if QUICK else "5")
    ratio = got["beside_p99_ms"] / got["alone_p50_ms"]
    return ratio, (f"{ratio:.2f}, alone p50 {got['alone_p50_ms']:.1f} p99 {got['alone_p99_ms']:.1f}, beside p50 "
                   f"{got['beside_p50_ms']:.1f} p99 {got['beside_p99_ms']:.1f} ms ({got['beside_gaps']} gaps), a prefill "
                   f"{got['prefill_seconds'] / got['prefills']:.2f} s")


def line_6_streams():
    """The client and gRPC take the core that one thread leaves; with a thread on every core they take turns with it,
    and the tail is theirs: shown, not checked."""
    for streams in (1,) if QUICK else (1, 4):
        ratio, figure = stall_ratio(1, streams)
        check(f"SmolLM2 bf16, 1 thread, {streams} streams: p99 beside a prefill / p50 alone", figure,
              f"<= {STALL_BOUND}", ratio <= STALL_BOUND)
        if not QUICK:
            show(f"the same with threads on both cores, {streams} streams", stall_ratio(2, streams)[1])


def pool(server):
    return {name: server.metric(f"reprise_{name}") for name in
            ("host_blocks", "host_used_blocks", "host_cached_blocks", "running_sequences", "queued_requests")}


def settle(server):
    """The pool once nothing runs and only the cache holds blocks, or as it is after a while."""
    limit = time.monotonic() + SETTLE_SECONDS
    while True:
        state = pool(server)
        idle = state["running_sequences"] == state["queued_requests"] == 0
        if (idle and state["host_used_blocks"] == state["host_cached_blocks"]) or time.monotonic() > limit:
            return state
        time.sleep(0.2)


def line_9_cancel():
    code, output, _ = run([os.path.join(BIN, "engine_cancel_test")])
    printed = next((line for line in output.splitlines() if "leaked_blocks=" in line), "nothing printed")
    check("1,000 random cancellations in the engine's own test", printed.strip(), "cancelled=1000 leaked_blocks=0",
          code == 0 and "cancelled=1000 leaked_blocks=0" in printed)
    requests = 100 if QUICK else 1000
    with tempfile.TemporaryDirectory() as work, \
            Server(os.path.join(work, "cache"), f"model.path={SMOLLM2}") as server:
        got = stream_bench(server, "cancel", str(requests))
        state = settle(server)
    check(f"{requests} streams over gRPC cancelled at random moments",
          f"cancelled {got['cancelled']} ({got['decoding']} decoding), finished first {got['finished']}, "
          f"other {got['other']}", "0 other, most cancelled, 5 % decoding",
          got["other"] == 0 and got["cancelled"] > requests / 2 and got["decoding"] >= requests / 20)
    check("the pool afterwards: blocks held by other than the cache",
          ", ".join(f"{name} {value:.0f}" for name, value in state.items()), "0; nothing running or queued",
          state["host_used_blocks"] == state["host_cached_blocks"]
          and state["running_sequences"] == state["queued_requests"] == 0)
