"""Figures of the load comparison, and who is ahead. Pure functions over records, and nothing but the standard library.

A record is one request as load_driver.py keeps it. Latencies count from when a request was due, so that a queue in the
client would show too.
"""

import collections
import statistics

# Name, unit, whether less is better.
FIGURES = (("TTFT p50", "ms", True), ("TTFT p99", "ms", True), ("inter-token p50", "ms", True), ("inter-token p99", "ms", True),
           ("output", "tokens/s", False), ("reuse", "% of prompt tokens", False), ("completed", "% of requests", False))

# One figure of ours beside one peer's. ratio is ours / peer, None where that says nothing; ahead is "ours", "peer" or "equal".
Comparison = collections.namedtuple("Comparison", "figure unit ours peer ratio ahead")


def percentile(values, percent):
    """Interpolates linearly between the two nearest values, as NumPy does; None without values."""
    if len(values) < 2:
        return values[0] if values else None
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def is_complete(record):
    return "error" not in record and record["tokens"] == record["asked_tokens"] and bool(record["arrivals"])


def figures(records):
    """Name -> value, None where nothing was measured. Latencies, tokens and reuse are of requests that completed."""
    done = [record for record in records if is_complete(record)]
    first = [1000 * (record["arrivals"][0] - record["due"]) for record in done]
    gaps = [1000 * (b - a) for record in done for a, b in zip(record["arrivals"], record["arrivals"][1:])]
    values = {"TTFT p50": percentile(first, 50), "TTFT p99": percentile(first, 99),
              "inter-token p50": percentile(gaps, 50), "inter-token p99": percentile(gaps, 99),
              "output": None, "reuse": None, "completed": 100 * len(done) / len(records)}
    if done:
        seconds = max(record["finished"] for record in done) - min(record["due"] for record in records)
        values["output"] = sum(record["tokens"] for record in done) / seconds
        values["reuse"] = 100 * sum(record["reused"] for record in done) / sum(record["prompt_tokens"] for record in done)
    return values


def capacity(records):
    """Requests/s of requests that were all due at once."""
    done = [record["finished"] for record in records if is_complete(record)]
    if not done:
        raise RuntimeError(f"no request completed: {records[0].get('error', 'wrong number of tokens')}")
    return len(done) / max(done)


def who_is_ahead(ours, peer, less_is_better):
    if ours == peer:
        return "equal"
    if ours is None or peer is None:
        return "peer" if ours is None else "ours"
    return "ours" if (ours < peer) == less_is_better else "peer"


def compare(ours, peer):
    """The Comparisons of two results of figures()."""
    rows = []
    for name, unit, less_is_better in FIGURES:
        mine, theirs = ours[name], peer[name]
        ratio = mine / theirs if mine is not None and theirs else None
        rows.append(Comparison(name, unit, mine, theirs, ratio, who_is_ahead(mine, theirs, less_is_better)))
    return rows
