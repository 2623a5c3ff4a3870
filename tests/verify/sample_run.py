"""Writes the files of a made-up load test as docs/bench.md has them, for checks of its report that need no server. Names and
messages are hostile; times follow a simple model of a server, so that the charts have their usual shapes."""

import json
import math
import os
import random

# What must never run, as text of every field that a caller, a trace or a server can fill.
HOSTILE = ("</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\"'><svg/onload=window.hacked=1>"
           "{{data}}\u2028\u202e&amp;<!--")
STATISTICS = (("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999))
LATENCIES = {
    "client_ttft": "first_token - sent", "client_ttft_scheduled": "first_token - scheduled",
    "client_tpot": "(last_token - first_token) / (received tokens - 1)", "client_e2e": "finished - sent",
    "server_ttft": "timings.time_to_first_token", "server_load": "timings.load", "server_prefill": "timings.prefill",
    "server_total": "timings.total",
}


def quantile(ascending, q):
    at = q * (len(ascending) - 1)
    below = int(at)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (at - below) * (ascending[above] - ascending[below])


def describe(values):
    if not values:
        return None
    values = sorted(values)
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
    return {"count": len(values), "mean": mean, "stddev": deviation, "min": values[0], "max": values[-1],
            **{name: quantile(values, q) for name, q in STATISTICS}}


def make_request(rng, index, seconds, speed):
    """One request sent evenly over the run: two thirds are warm, a few fail or are cancelled."""
    sent = index * seconds
    prompt = int(min(1900, 60 + rng.lognormvariate(5.2, 0.9)))
    cached = 0 if rng.random() < 0.33 else int(prompt * rng.uniform(0.3, 0.98))
    disk = cached if rng.random() < 0.2 else 0
    load = 0.4 + disk * 0.004 if disk else 0
    prefill = (6 + 0.11 * (prompt - cached)) * rng.lognormvariate(0, 0.08) / speed
    queue = rng.expovariate(1 / 2) + (25 * rng.random() if 20 < sent < 26 else 0)
    ttft = queue + load + prefill
    output = int(rng.uniform(8, 60))
    gaps = [rng.lognormvariate(2.3 / speed, 0.18) + (prefill * 0.3 if rng.random() < 0.03 else 0) for _ in range(output - 1)]
    client_ttft = ttft + rng.uniform(0.2, 0.7)
    total = client_ttft + sum(gaps)
    line = {
        "index": index, "request_id": f"sample-{index}", "session": index // 3, "turn": index % 3,
        "label": HOSTILE if index % 50 == 0 else f"system-{index % 7}", "channel": index % 4, "measured": sent > 2 or index == 0,
        "scheduled_seconds": sent, "sent_seconds": sent + 0.0002, "first_token_seconds": sent + client_ttft / 1000,
        "last_token_seconds": sent + total / 1000, "finished_seconds": sent + (total + 0.2) / 1000, "code": "OK", "error": "",
        "finish_reason": "MAX_TOKENS", "prompt_token_count": prompt, "cached_token_count": cached,
        "computed_token_count": prompt - cached, "output_token_count": output, "received_token_count": output,
        "device_token_count": 0, "host_token_count": cached - disk, "disk_token_count": disk,
        "decision": "REUSED" if cached else "MISS", "client_ttft_ms": client_ttft, "client_ttft_scheduled_ms": client_ttft + 0.2,
        "client_tpot_ms": sum(gaps) / max(1, output - 1), "client_e2e_ms": total + 0.2, "send_delay_ms": 0.2,
        "inter_chunk_ms": gaps, "server_load_ms": load, "server_prefill_ms": prefill, "server_ttft_ms": ttft,
        "server_total_ms": total - 0.4, "predicted_cold_prefill_ms": (6 + 0.11 * prompt) / speed,
        "predicted_total_ms": load + (6 + 0.11 * (prompt - cached)) / speed,
    }
    if index % 43 == 7:
        gone = ("cached_token_count", "prompt_token_count", "computed_token_count", "host_token_count", "disk_token_count")
        line.update(code="RESOURCE_EXHAUSTED", error=HOSTILE, client_ttft_ms=None, first_token_seconds=None, inter_chunk_ms=[],
                    finished_seconds=sent + 0.001, finish_reason="", decision="", **dict.fromkeys(gone))
    return line


def is_complete(line):
    return line["code"] == "OK"


def summarise_latency(lines):
    measured = [line for line in lines if line["measured"] and is_complete(line)]
    subsets = {"all": measured, "warm": [line for line in measured if line["cached_token_count"]],
               "cold": [line for line in measured if not line["cached_token_count"]]}
    latency = {name: {"formula": formula, "unit": "ms", **{subset: describe([line[f"{name}_ms"] for line in some])
                                                          for subset, some in subsets.items()}}
               for name, formula in LATENCIES.items()}
    latency["client_itl"] = {"formula": "gaps between chunks with tokens", "unit": "ms", **{
        subset: describe([gap for line in some for gap in line["inter_chunk_ms"]]) for subset, some in subsets.items()}}
    latency["network_ttft"] = {"formula": "client_ttft - server_ttft", "unit": "ms", **{
        subset: describe([line["client_ttft_ms"] - line["server_ttft_ms"] for line in some]) for subset, some in subsets.items()}}
    return latency


def summarise_second(lines, second):
    ended = [line for line in lines if int(line["finished_seconds"]) == second]
    complete = [line for line in ended if is_complete(line)]
    ttft = describe([line["client_ttft_ms"] for line in complete]) or {"p50": None, "p99": None}
    return {"second": second, "scheduled_count": sum(int(line["sent_seconds"]) == second for line in lines),
            "sent_count": sum(int(line["sent_seconds"]) == second for line in lines), "completed_count": len(complete),
            "failed_count": len(ended) - len(complete), "cancelled_count": 0,
            "in_flight": sum(line["sent_seconds"] < second + 1 <= line["finished_seconds"] for line in lines),
            "output_token_count": sum(line["output_token_count"] for line in complete),
            "client_ttft_p50_ms": ttft["p50"], "client_ttft_p99_ms": ttft["p99"]}


def count(values):
    values = [value for value in values if value]
    return {value: values.count(value) for value in set(values)}


def summarise(lines, wall):
    complete = [line for line in lines if is_complete(line)]
    totals = {key: sum(line[key] for line in complete) for key in lines[0] if key.endswith("_token_count")}
    totals.update(sent_count=len(lines), completed_count=len(complete), failed_count=len(lines) - len(complete),
                  cancelled_count=0, aborted_count=0)
    rates = {"offered_per_second": len(lines) / wall, "completed_per_second": len(complete) / wall,
             "output_tokens_per_second": totals["output_token_count"] / wall,
             "hit_ratio": totals["cached_token_count"] / totals["prompt_token_count"], "ideal_hit_ratio": 0.97,
             "error_ratio": totals["failed_count"] / len(lines), "goodput_per_second": None, "peak_in_flight": 14}
    latency = summarise_latency(lines)
    measured = (latency["client_ttft"]["all"] or {"p99": 0})["p99"]
    return {
        "totals": totals, "rates": rates, "latency": latency, "codes": count(line["code"] for line in lines),
        "finish_reasons": count(line["finish_reason"] for line in lines), "decisions": count(line["decision"] for line in lines),
        "reasons": {"FASTER_TO_LOAD": 12}, "miss_reasons": {}, "errors": count(line["error"] for line in lines),
        "timeline": [summarise_second(lines, second) for second in range(int(wall) + 1)],
        "slo": [{"expression": "ttft_p99=150ms", "name": "ttft", "statistic": "p99", "relation": "<=", "limit": 150, "unit": "ms",
                 "measured": measured, "met": measured <= 150},
                {"expression": "error_rate=1%", "name": "error_ratio", "statistic": "", "relation": "<=", "limit": 0.01, "unit": "ratio",
                 "measured": rates["error_ratio"], "met": False}],
        "warnings": [{"code": "warm_start", "message": "The cache was not empty at the start. " + HOSTILE}],
    }


def write_files(folder, run, lines):
    with open(os.path.join(folder, "run.json"), "w", encoding="utf-8") as file:
        json.dump(run, file)
    with open(os.path.join(folder, "requests.jsonl"), "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def write(folder, requests=600, seed=1, speed=1.0):
    """Makes `folder` with run.json and requests.jsonl; returns it. Runs of one seed have the same prompts."""
    os.makedirs(folder, exist_ok=True)
    rng = random.Random(seed)
    lines = [make_request(rng, index, 0.1, speed) for index in range(requests)]
    wall = max(line["finished_seconds"] for line in lines)
    run = {
        "format_version": 1, "tool_version": "1.0", "started_at": "2026-01-01T00:00:00Z", "wall_seconds": wall, "ended": "complete",
        "command_line": "reprise bench --profile chat " + HOSTILE,
        "options": {"arrival": "poisson", "rate_per_second": 10, "channels": 4, "workload_seed": seed, "duration_seconds": wall},
        "server": {"address": "127.0.0.1:8470", "name": "SmolLM2-135M " + HOSTILE, "device": "CPU", "context_length": 2048},
        "workload": {"kind": "profile", "name": "chat", "file": "", "malformed_line_count": 0, "notes": [HOSTILE]},
        "summary": summarise(lines, wall),
    }
    write_files(folder, run, lines)
    return folder


def write_extreme(folder, seed=1):
    """A run whose numbers are as large, small, negative or missing as JSON lets them be; returns `folder`."""
    write(folder, requests=60)
    rng = random.Random(seed)
    with open(os.path.join(folder, "run.json"), encoding="utf-8") as file:
        run = json.load(file)
    with open(os.path.join(folder, "requests.jsonl"), encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    for second in run["summary"]["timeline"]:
        second.update({key: rng.choice([1e300, -1, None, 0, 1e12]) for key in second})
    for line in lines:
        times = [key for key in line if key.endswith("_ms") and isinstance(line[key], float)]
        line.update({key: rng.choice([1e300, -1e300, 0, 1e-300, 5e11, 2e12, 3, None]) for key in times})
        line["inter_chunk_ms"] = [rng.choice([0, 1e300, -5, 1e-9, 7]) for _ in range(4)]
        line["finished_seconds"] = rng.choice([1e300, -4, 999999, 0, 2.5])
        if line["cached_token_count"] is not None:
            line["cached_token_count"] = rng.choice([0, 1, 2 ** 53, 9 * 10 ** 18])
    write_files(folder, run, lines)
    return folder
