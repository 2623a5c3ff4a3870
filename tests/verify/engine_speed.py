"""Lines of verify-engine on the speed of the CPU engine: decoding beside read bandwidth, prefill beside the machine's
matrix rate, and what batching gains.

All figures of one model, weight format and number of threads come from one process of engine_bench, with the rates of
products measured just before and after it. `models` is the folder of the peers' models (tests/bench/peers/models.py)."""

import functools
import json
import os
import statistics
from collections import namedtuple

from measuring import judge, run_json
from report import QUICK, show
from server_process import BIN, PEERS_PYTHON, ROOT, SMOLLM2


DECODE_BOUND = 1.25
PREFILL_BOUND = 0.75
BATCH_BOUNDS = {8: 3.0, 32: 4.5}  # batch: tokens/s over those of batch 1

PREFILLS = (544, 1000)
ROWS = 544  # of the products whose rates are measured
PAIRS = 3 if QUICK else 15
PREFILL_REPEATS = 3
RATE_REPEATS = 9  # of each: own products are measured twice, oneDNN's once

# file: of the model's folder, or a path of its own. oneDNN has products of all formats but those of blocks.
Row = namedtuple("Row", "name model file dtype onednn")
CASES = [Row("SmolLM2", "smollm2", "hf", "bf16", "bf16")]
if not QUICK:
    CASES += [Row("DialoGPT-medium", "dialogpt", "hf", dtype, dtype) for dtype in ("fp32", "bf16", "int8")]
    CASES += [Row("SmolLM2", "smollm2", "q8_0.gguf", "q8_0", None), Row("SmolLM2", "smollm2", SMOLLM2, "q4_1", None)]
THREADS = (2,) if QUICK else (1, 2)

# The sizes of a prefill: linears are (features, depth) of one layer.
Sizes = namedtuple("Sizes", "layers heads head_dim linears")


def name_of(row, threads):
    return f"{row.name} {row.dtype}, {threads} thread{'s' if threads > 1 else ''}"


def sizes_of(models, row):
    with open(os.path.join(models, row.model, "hf", "config.json"), encoding="utf-8") as file:
        c = json.load(file)
    if c["model_type"] == "gpt2":
        hidden, heads = c["n_embd"], c["n_head"]
        inner = c["n_inner"] or 4 * hidden
        linears = [(3 * hidden, hidden), (hidden, hidden), (inner, hidden), (hidden, inner)]
        return Sizes(c["n_layer"], heads, hidden // heads, linears)
    hidden, inner, heads = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"]
    head_dim = c.get("head_dim") or hidden // heads
    qkv = (heads + 2 * c["num_key_value_heads"]) * head_dim
    linears = [(qkv, hidden), (hidden, heads * head_dim), (2 * inner, hidden), (hidden, inner)]
    return Sizes(c["num_hidden_layers"], heads, head_dim, linears)


def shape(features, depth):
    return f"{ROWS}x{features}x{depth}"


def own_rates(dtype, threads, shapes):
    return run_json([os.path.join(BIN, "matrix_rate"), dtype, threads, RATE_REPEATS, *shapes])


def onednn_rates(dtype, threads, shapes):
    tool = os.path.join(ROOT, "tests", "bench", "peers", "onednn_rate.py")
    return run_json([PEERS_PYTHON, tool, dtype, threads, RATE_REPEATS, *shapes])["rates"]


def best_rates(*measurements):
    """Of rates measured at different times, by shape."""
    return {key: max(rates[key]["best"] for rates in measurements) for key in measurements[0]}


@functools.cache
def measured(models, row, threads):
    """(engine_bench's line, products' rates of the own loop, of oneDNN, of attention's shapes, of registers)."""
    sizes = sizes_of(models, row)
    shapes = [shape(*linear) for linear in sizes.linears]
    onednn = onednn_rates(row.onednn, threads, shapes) if row.onednn else None
    before = own_rates(row.dtype, threads, shapes)
    command = [os.path.join(BIN, "engine_bench"), os.path.join(models, row.model, row.file), "--dtype", row.dtype,
               "--threads", threads, "--repeats", PREFILL_REPEATS, "--floor", PAIRS]
    if row.dtype == "bf16":
        command += ["--batch", ",".join(map(str, BATCH_BOUNDS))]
    engine = run_json(command)
    after = own_rates(row.dtype, threads, shapes)
    kv_dtype = engine["flags"].removeprefix("kv=")
    attention = own_rates(kv_dtype, threads, [shape(ROWS, sizes.head_dim), shape(sizes.head_dim, ROWS)])
    return (engine, best_rates(before["rates"], after["rates"]), onednn and best_rates(onednn),
            best_rates(attention["rates"]), after["registers"])


def prefill_floor(sizes, tokens, rates, attention):
    """Milliseconds of the operations of `tokens` at the rates of their products. Of causal attention's, half is left
    out by the mask."""
    linears = sum(2e-6 * tokens * features * depth / rates[shape(features, depth)] for features, depth in sizes.linears)
    half = 1e-6 * tokens * tokens * sizes.head_dim * sizes.heads
    return sizes.layers * (linears + sum(half / rate for rate in attention.values()))


def line_2_decode(models):
    """Decode at batch 1 and a context of 512 beside the time that reading its bytes takes."""
    for row in CASES:
        for threads in THREADS:
            engine = measured(models, row, threads)[0]
            samples = engine["samples"]
            times, floors = samples["decode_pair_ms"], samples["decode_pair_floor_ms"]
            ratios = [time / floor for time, floor in zip(times, floors)]
            ratio = statistics.median(ratios)
            judge(f"decode over floor, {name_of(row, threads)}",
                  f"{ratio:.2f} ({statistics.median(times):.2f} ms over {statistics.median(floors):.2f} ms for "
                  f"{engine['decode_bytes'] / 1e6:.0f} MB, best {min(ratios):.2f} of {len(ratios)} pairs)",
                  f"<= {DECODE_BOUND}", ratio <= DECODE_BOUND, engine["foreign_cores"])


def line_3_prefill(models):
    """Prefill beside the time that its operations take at the matrix rate."""
    print(f"      rates: bests in giga-operations/s of products of {ROWS} rows, warm, without norms and activations;\n"
          "      own: the engine's panel loop over prepared rows and packed weights, oneDNN: prepacked, through libtorch,\n"
          "      which has no product of the formats of blocks (q8_0, q4_1); registers: multiply-adds that read no memory.\n"
          "      floor: each linear at the better rate of its shape, causal attention (half of the square) at the own loop's\n"
          "      rate of the KV dtype at the shapes of a head; fraction: floor over the best time, as the rates are bests too:\n"
          "      what else runs on the machine spoils some of the long prefills and few of the short products.", flush=True)
    for row in CASES:
        sizes = sizes_of(models, row)
        for threads in THREADS:
            engine, own, onednn, attention, registers = measured(models, row, threads)
            texts = [f"{key.split('x', 1)[1]} {own[key]:.0f}" + (f"/{onednn[key]:.0f}" if onednn else "") for key in own]
            heads = "/".join(f"{rate:.0f}" for rate in attention.values())
            show(f"own{'/oneDNN' if onednn else ''} rates, {name_of(row, threads)}",
                 f"{', '.join(texts)}, head {heads}, registers {registers:.0f}")
            best = {key: max(own[key], onednn[key]) if onednn else own[key] for key in own}
            for tokens in PREFILLS:
                times = engine["samples"][f"prefill_{tokens}_ms"]
                best_time = min(times)
                floor = prefill_floor(sizes, tokens, best, attention)
                fraction = floor / best_time
                judge(f"prefill of {tokens} at matrix rate, {name_of(row, threads)}",
                      f"{fraction:.2f} (floor {floor:.0f} ms of {best_time:.0f} ms, "
                      f"median {statistics.median(times):.0f} ms)", f">= {PREFILL_BOUND}, at most 1",
                      PREFILL_BOUND <= fraction <= 1, engine["foreign_cores"])


def line_6_batches(models):
    """Tokens per second of batches over those of one sequence."""
    for row in CASES:
        if row.dtype != "bf16":
            continue
        for threads in THREADS:
            engine = measured(models, row, threads)[0]
            single = engine["decode_ms_at_512"]
            for batch, bound in BATCH_BOUNDS.items():
                step = engine[f"decode_ms_at_512_batch_{batch}"]
                gain = batch * single / step
                judge(f"tokens/s of batch {batch} over 1, {name_of(row, threads)}",
                      f"{gain:.2f}x ({1e3 * batch / step:.0f} over {1e3 / single:.0f} tokens/s)", f">= {bound}x",
                      gain >= bound, engine["foreign_cores"])
