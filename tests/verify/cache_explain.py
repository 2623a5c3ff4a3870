"""Lines of verify-cache on what the cache says of itself: counters beside the log of requests, and similarity search at
scale."""

import collections
import json
import math
import os
import re
import tempfile
import time

import tiny_model
from measuring import judge, run_json
from report import QUICK, check, run, show
from server_process import BIN, ROOT, Server

ORACLE_PYTHON = os.path.join(ROOT, ".venv-oracle", "bin", "python")
REQUESTS = 1500 if QUICK else 10000
THREADS = 24
SETTINGS = ["cache.host_bytes=1310720", "cache.store.max_bytes=4194304", "engine.max_queued_requests=10",
            "engine.max_running_sequences=8", "model.thread_count=2", "model.weight_dtype=FP32",
            "cache.store.flush_after_idle=0.05s"]

# Counters without labels, and the field of a request's line that each adds up.
SUMS = {
    "reprise_prompt_tokens_total": "prompt_tokens",
    "reprise_computed_prompt_tokens_total": "computed_tokens",
    "reprise_ideal_prompt_tokens_total": "ideal_tokens",
    "reprise_output_tokens_total": "output_tokens",
    "reprise_speculation_draft_tokens_total": "draft_tokens",
    "reprise_speculation_accepted_tokens_total": "accepted_tokens",
    "reprise_request_disk_read_bytes_total": "disk_bytes_read",
    "reprise_store_read_bytes_total": "disk_bytes_read",
    "reprise_regret_seconds_total": "regret_seconds",
    "reprise_in_flight_prompt_tokens_total": "in_flight_tokens",
    "reprise_split_prompt_tokens_total": "split_tokens",
}


def generated(line):
    return bool(line["retrieval_mode"])


def decided(line):
    return bool(line["decision"])


def finished(line):
    return generated(line) and line["code"] == "OK"


# Histograms: the field, and which lines have it.
TIMES = {
    "reprise_request_seconds": ("total_seconds", lambda line: True),
    "reprise_queue_seconds": ("queue_seconds", generated),
    "reprise_tokenize_seconds": ("tokenize_seconds", generated),
    "reprise_lookup_seconds": ("lookup_seconds",
                               lambda line: generated(line) and (decided(line) or line["lookup_seconds"] > 0)),
    "reprise_shared_wait_seconds": ("shared_wait_seconds", lambda line: line["shared_wait_seconds"] > 0),
    "reprise_load_seconds": ("load_seconds", decided),
    "reprise_predicted_load_seconds": ("predicted_load_seconds", decided),
    "reprise_predicted_prefill_seconds": ("predicted_prefill_seconds", decided),
    "reprise_predicted_cold_prefill_seconds": ("predicted_cold_prefill_seconds", decided),
    "reprise_predicted_total_seconds": ("predicted_total_seconds", decided),
    "reprise_actual_load_seconds": ("actual_load_seconds", decided),
    "reprise_entry_age_seconds": ("entry_age_seconds", lambda line: decided(line) and line["cached_tokens"] > 0),
    "reprise_prefill_seconds": ("prefill_seconds", finished),
    "reprise_time_to_first_token_seconds": ("time_to_first_token_seconds", finished),
    "reprise_decode_seconds": ("decode_seconds", finished),
}

# Counters by labels: how often lines have these fields, in the order of the labels' names.
COUNTS = {
    "reprise_requests_started_total": (("method",), lambda line: True),
    "reprise_requests_total": (("code", "method"), lambda line: True),
    "reprise_finish_reasons_total": (("finish_reason",), finished),
    "reprise_reuse_decisions_total": (("decision", "retrieval_mode"), decided),
    "reprise_reuse_reasons_total": (("reason",), decided),
    "reprise_cache_misses_total": (("miss_reason",), lambda line: decided(line) and line["miss_reason"] != "NONE"),
}


def read_metrics(text):
    """Sample values by name and the values of the labels in the order of their names."""
    samples = {}
    for name, labels, value in re.findall(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", text, re.M):
        values = [pair[1] for pair in sorted(re.findall(r'(\w+)="([^"]*)"', labels or ""))]
        samples[name, *values] = float(value)
    return samples


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [line for line in map(json.loads, file) if line["event"] == "request"]


def expected_samples(lines, samples):
    """What the lines add up to, for each sample that has a part in every request's line."""
    expected = {}
    for name, field in SUMS.items():
        if (name,) in samples:
            expected[name,] = math.fsum(line[field] for line in lines)
    for tier in ("device", "host", "disk"):
        expected["reprise_cached_prompt_tokens_total", tier] = sum(line[f"{tier}_tokens"] for line in lines)
    for name, (field, has) in TIMES.items():
        if (f"{name}_count",) not in samples:
            continue
        values = [line[field] for line in lines if has(line)]
        expected[f"{name}_count",], expected[f"{name}_sum",] = len(values), math.fsum(values)
    for name, (fields, has) in COUNTS.items():
        for values, count in collections.Counter(tuple(line[f] for f in fields) for line in lines if has(line)).items():
            expected[name, *values] = count
    # The first token has no gap before it; one that ends a text has, and is not in the reply.
    expected["reprise_inter_token_seconds_count",] = sum(
        line["output_tokens"] - (line["finish_reason"] != "STOP") for line in lines if line["output_tokens"] > 0)
    return expected


def differences(lines, samples):
    """(samples compared, those that differ). What a family has beyond the lines differs too."""
    expected = expected_samples(lines, samples)
    for key in samples:
        if key[0] in COUNTS:
            expected.setdefault(key, 0)
    wrong = [f"{'/'.join(key)}: lines {value:.9g}, metric {samples.get(key, 0):.9g}" for key, value in sorted(expected.items())
             if not math.isclose(value, samples.get(key, 0), rel_tol=1e-6, abs_tol=1e-6)]
    return len(expected), wrong


def reply_differences(lines, replies):
    """Of replies that ended well: usage and reuse as the reply and as its line say it."""
    by_id = {line["request_id"]: line for line in lines}
    wrong = []
    for request_id, reply in replies.items():
        line = by_id.get(request_id)
        usage, reuse = reply.get("usage", {}), reply.get("reuse", {})
        pairs = {"prompt_tokens": usage.get("prompt_token_count", 0), "cached_tokens": usage.get("cached_token_count", 0),
                 "computed_tokens": usage.get("computed_token_count", 0), "output_tokens": usage.get("output_token_count", 0),
                 "draft_tokens": usage.get("draft_token_count", 0), "host_tokens": reuse.get("host_token_count", 0),
                 "disk_tokens": reuse.get("disk_token_count", 0), "ideal_tokens": reuse.get("ideal_token_count", 0),
                 "disk_bytes_read": int(reuse.get("disk_read_bytes", 0))}
        if line is None or any(line[field] != value for field, value in pairs.items()):
            wrong.append(request_id)
        elif line["cached_tokens"] + line["computed_tokens"] != line["prompt_tokens"]:
            wrong.append(f"{request_id}: cached + computed is not the prompt")
    return wrong


def settle(server):
    """/metrics once no call is in flight, nothing is loading and the log has all lines."""
    limit = time.monotonic() + 60
    while True:
        text = server.http("/metrics")[1]
        samples = read_metrics(text)
        started = sum(v for k, v in samples.items() if k[0] == "reprise_requests_started_total")
        ended = sum(v for k, v in samples.items() if k[0] == "reprise_requests_total")
        running = samples["reprise_running_sequences",] + samples["reprise_queued_requests",]
        if (started == ended and running == 0) or time.monotonic() > limit:
            return samples
        time.sleep(0.2)


def line_9_counters():
    with tempfile.TemporaryDirectory() as work:
        model = tiny_model.write(os.path.join(work, "model"))
        log = os.path.join(work, "requests.log")
        with Server(os.path.join(work, "cache"), f"model.path={model}", f"log.file={log}", *SETTINGS) as server:
            script = os.path.join(ROOT, "tests", "verify", "mixed_requests.py")
            started = time.monotonic()
            code, output, _ = run([ORACLE_PYTHON, script, server.address, f"127.0.0.1:{server.admin_port}",
                                   str(REQUESTS), str(THREADS)])
            if code != 0:
                raise RuntimeError(output[-2000:])
            seconds = time.monotonic() - started
            driven = json.loads(output.splitlines()[-1])
            samples = settle(server)
        lines = read_lines(log)
    judge_counters(lines, samples, driven, seconds)
    line_9_identity()


def judge_counters(lines, samples, driven, seconds):
    outcomes = driven["outcomes"]
    show("mixed requests", f"{sum(outcomes.values())} calls in {seconds:.0f} s, {len(lines)} lines: "
                           + ", ".join(f"{code} {count}" for code, count in sorted(outcomes.items())))
    reused = {tier: sum(line[f"{tier}_tokens"] for line in lines) for tier in ("host", "disk")}
    evicted = {where: samples.get((f"reprise_{where}_total",), 0)
               for where in ("host_evicted_blocks", "store_evicted_segments")}
    preempted = sum(v for k, v in samples.items() if k[0] == "reprise_preemptions_total")
    drafts = sum(line["draft_tokens"] for line in lines)
    check("mixed requests: what they come to",
          f"cancelled {outcomes.get('CANCELLED', 0)}, retries {driven['retries']}, evicted blocks "
          f"{evicted['host_evicted_blocks']:.0f} and segments {evicted['store_evicted_segments']:.0f}, tokens reused from memory "
          f"{reused['host']} and store {reused['disk']}, drafted {drafts}, preempted {preempted:.0f}",
          f">= {REQUESTS} calls; all but preemptions > 0",
          sum(outcomes.values()) >= REQUESTS and outcomes.get("CANCELLED", 0) > 0 and driven["retries"] > 0
          and all(evicted.values()) and all(reused.values()) and drafts > 0)
    compared, wrong = differences(lines, samples)
    for difference in wrong[:20]:
        print(f"      {difference}")
    check("counters that equal the sum over the request lines", f"{compared - len(wrong)} of {compared}",
          "all", not wrong and compared > 50)
    told = reply_differences(lines, driven["replies"])
    for difference in told[:5]:
        print(f"      {difference}")
    check("replies whose usage and reuse equal their line", f"{len(driven['replies']) - len(told)} of {len(driven['replies'])}",
          "all", not told and len(driven["replies"]) > REQUESTS / 3)
    dropped = samples.get(("reprise_log_lines_dropped_total",), 0)
    check("log lines dropped", f"{dropped:.0f}", "0", dropped == 0)
    # A call that its caller gives up before it reaches the server has no line.
    check("lines beside calls", f"{len(lines)} lines, {sum(outcomes.values())} calls",
          "at most the calls, at least those not given up",
          sum(outcomes.values()) - outcomes.get("CANCELLED", 0) - outcomes.get("DEADLINE_EXCEEDED", 0)
          <= len(lines) <= sum(outcomes.values()))


# What names a cached KV value, and a model or settings in which only that differs.
IDENTITY = {
    "weights": ({"seed": 2}, []),
    "tokenizer": ({"end_of_text": "<|end|>"}, []),
    "RoPE base": ({"rope_theta": 10001.0}, []),
    "norm epsilon": ({"rms_norm_eps": 2e-5}, []),
    "context length": ({"max_position_embeddings": 512}, []),
    "KV dtype": ({}, ["model.kv_dtype=FP16"]),
    "numerics (weight dtype)": ({}, ["model.weight_dtype=BF16"]),
    "tenant": ({}, ["cache.default_tenant=another"]),
}

def reused_after_restart(work, name, changes, settings):
    """Tokens of one prompt that a server finds in the folder that others filled."""
    model = tiny_model.write(os.path.join(work, f"model-{name}"), **changes)
    with Server(os.path.join(work, "cache"), f"model.path={model}", "model.weight_dtype=FP32", "cache.host_bytes=16777216",
                "cache.similarity.enabled=false", "model.thread_count=1", *settings) as server:
        reply = server.generate("The same prompt, again and again, for every identity there is.", "-n", "0", "--cache", "force")
    return int(reply["usage"]["cached_token_count"])


def line_9_identity():
    """Each change of one field of the identity finds nothing; nothing changed finds all."""
    with tempfile.TemporaryDirectory() as work:
        first = reused_after_restart(work, "first", {}, [])
        found = {name: reused_after_restart(work, str(number), *change)
                 for number, (name, change) in enumerate(IDENTITY.items())}
        again = reused_after_restart(work, "again", {}, [])
    check("tokens reused after one field of the identity changed", ", ".join(f"{k} {v}" for k, v in found.items()), "0 each",
          not any(found.values()))
    check("tokens reused by the first and by the same again", f"{first}, {again}", "0, > 50", first == 0 and again > 50)


def line_10_faiss():
    vectors, queries = (20000, 300) if QUICK else (100000, 1000)
    got = run_json([os.path.join(BIN, "similarity_bench"), vectors, queries])
    name = f"{vectors} vectors of {got['dimensions']}, {got['clusters']} clusters"
    for state, text in (("fresh", "fresh"), ("tombstones", f"{got['dead']} tombstones"), ("rebuilt", "rebuilt")):
        check(f"recall@10, {name}, {text}", f"{got[f'{state}_recall']:.4f}", ">= 0.99", got[f"{state}_recall"] >= 0.99)
        show("  search p50, p99 ms", f"{got[f'{state}_p50_ms']:.2f}, {got[f'{state}_p99_ms']:.2f}")
    check("vectors that a graph covers", str(got["in_graph"]), f">= {vectors}", got["in_graph"] >= vectors)
    show("graph built and rebuilt beside searches, s", f"{got['build_seconds']:.0f}, {got['rebuild_seconds']:.0f}")
    show("searches meanwhile, p99 ms", f"{got['while_building_p99_ms']:.1f}, {got['while_rebuilding_p99_ms']:.1f}")
    show("index saved and loaded, s", f"{got['save_seconds']:.2f}, {got['load_seconds']:.2f}")
    judge(f"explain p99 without the embedding, {vectors} cached prompts, ms",
          f"{got['explain_p99_ms']:.2f} (p50 {got['explain_p50_ms']:.2f}, {queries} prompts)", "<= 5",
          got["explain_p99_ms"] <= 5, got["foreign_cores"])
